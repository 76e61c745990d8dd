"""The exercises of the lesson on matching anchors to objects."""

import torch
from torch import Tensor

from mrcnn import boxes as box_maths
from mrcnn import ops
from mrcnn.lab.check import Exercise, NotWritten, Wrong, close, first_difference, same_shape
from mrcnn.lab.cuda import Trace, device
from mrcnn.lab.exercises import matching_library as right
from mrcnn.lab.exercises.matching_library import THREADS, TILE, UNTOUCHED, overlap
from mrcnn.lab.views.threads import count_accesses

__all__ = [
    "best_cpp", "best_kernel", "best_loop", "best_shared", "best_tiles", "best_torch", "claim", "decide", "object_best",
    "overlap", "random_boxes",
]  # fmt: skip

TIE = "of two objects with the same IoU the first must win, as everywhere in the library: `>`, not `>=`"


def random_boxes(n: int, seed: int, side: float = 100.0) -> Tensor:
    """n boxes (n, 4) of all sizes and shapes in a square picture."""
    random = torch.Generator().manual_seed(seed)
    centres = side * torch.rand(n, 2, generator=random)
    halves = side * (0.03 + 0.15 * torch.rand(n, 2, generator=random))
    return torch.cat([centres - halves, centres + halves], dim=1).to(device())


def _problem(anchors: int, objects: int) -> tuple[Tensor, Tensor]:
    """Anchors (A, 4) and objects (G, 4), the last object the same as the first."""
    things = random_boxes(objects, seed=1)
    things[-1] = things[0]
    return random_boxes(anchors, seed=2), things


# ---- each anchor's best object ---------------------------------------------------------------------------------------


def _judge_best(got, anchors: Tensor, objects: Tensor) -> None:
    """best (A,) and ious (A,), whoever found them."""
    want_best, want = right.best_torch(anchors, objects)
    if not isinstance(got, tuple) or len(got) != 2:
        raise Wrong(f"expected two results, the best objects and the IoUs with them; got {type(got).__name__}")
    best, ious = (torch.as_tensor(each, device=anchors.device) for each in got)
    if best.shape == (len(objects),) != want.shape:
        raise Wrong(f"got {len(best)} entries, one per object; every one of the {len(want)} anchors needs one")
    same_shape(best, want)
    same_shape(ious, want)
    if close(best, want) and not close(want, want_best):
        raise Wrong("the two results are swapped: the best objects come first, then the IoUs")
    untouched = (best == UNTOUCHED) | (ious == UNTOUCHED)
    if untouched.any():
        first = int(untouched.nonzero()[0, 0])
        raise Wrong(f"{int(untouched.sum())} of {len(best)} anchors have no answer, the first is number {first}")
    if close(ious, want):
        if torch.equal(best.long(), want_best):
            return
        last_wins = len(objects) - 1 - box_maths.iou(objects.flip(0), anchors).max(dim=0).indices
        if torch.equal(best.long(), last_wins):
            raise Wrong(TIE)
        raise Wrong(f"the IoUs are right, the objects are not: {first_difference(best, want_best)}")
    if close(ious, want.cummax(0).values):
        raise Wrong("the best IoU only ever grows from anchor to anchor: it must begin at 0 again for each anchor")
    raise Wrong(f"of the IoUs, {first_difference(ious, want)}")


def _judge_best_loop(answer) -> None:
    anchors, objects = (boxes.cpu() for boxes in _problem(30, 5))
    _judge_best(answer(anchors.tolist(), objects.tolist()), anchors, objects)


def _judge_best_torch(answer) -> None:
    _judge_best(answer(*_problem(50, 6)), *_problem(50, 6))


def _judge_best_cpp(answer) -> None:
    _judge_best(answer(*_problem(50, 6)), *_problem(50, 6))


# ---- positive, negative, ignored -------------------------------------------------------------------------------------


def _judge_decide(answer) -> None:
    best = torch.tensor([0, 1, 2, 1, 0, 2, 0])
    ious = torch.tensor([0.9, 0.5, 0.1, 0.7, 0.3, 0.0, 0.69])
    got, want = answer(best, ious, 0.7, 0.3), torch.tensor([0, -2, -1, 1, -2, -1, -2])
    same_shape(got, want)
    if close(got, want):
        _decide_equals_op(answer)
        return
    low, high = ious < 0.3, ious < 0.7
    middle = high & ~low
    likely = {
        "background is -1 and ignored is -2: these two are swapped": (-1, -2),
        "nothing is background: below `low` it must be -1. Was it set first, and then overwritten by -2?": (-2, -2),
        "nothing is ignored: from `low` up to `high` it must be -2. Was it overwritten by -1?": (-1, -1),
    }
    for message, (between, under) in likely.items():
        if close(got, torch.where(middle, between, torch.where(low, under, best))):
            raise Wrong(message)
    if got[3] != want[3] or got[4] != want[4]:
        raise Wrong("an IoU of exactly `high` is a match, and one of exactly `low` is not background: `<`, not `<=`")
    raise Wrong(first_difference(got, want))


def _decide_equals_op(answer) -> None:
    anchors, objects = (boxes.cpu() for boxes in _problem(200, 6))
    got = answer(*right.best_torch(anchors, objects), 0.4, 0.2)
    if not close(got, ops.match_anchors(anchors, objects, 0.4, 0.2)[0]):
        raise Wrong("right for 0.7 and 0.3, wrong for 0.4 and 0.2: use the arguments `high` and `low`")


def _judge_claim(answer) -> None:
    # Object 0 has a good anchor. Object 1 has two that tie, both nearer to another object. Object 2 overlaps nothing.
    table = torch.tensor([[0.9, 0.2, 0.5, 0.0, 0.6], [0.0, 0.4, 0.4, 0.0, 0.1], [0.0, 0.0, 0.0, 0.0, 0.0]])
    ious, best = table.max(dim=0)
    matches = right.decide(best, ious, 0.7, 0.3)  # [0, -2, -2, -1, -2]
    got, want = answer(table, best, matches), torch.tensor([0, 1, 0, -1, -2])
    same_shape(got, want)
    if close(got, want):
        return
    if got[3] >= 0:
        raise Wrong(
            "object 2 overlaps no anchor, its best IoU is 0, and it has claimed the anchors that overlap nothing "
            "(torchvision does so too): an object whose best is 0 claims none"
        )
    if got[1] == want[1] and got[2] == matches[2]:
        raise Wrong("two anchors tie for object 1 and only one was kept: all that reach the object's best IoU are")
    if got[2] == 1:
        raise Wrong("anchor 2 is object 1's best, but itself it overlaps object 0 more: it keeps its own best object")
    if got[4] != matches[4] or got[0] != matches[0]:
        raise Wrong("an anchor that is nobody's best has changed: the others keep what they had in `matches`")
    raise Wrong(first_difference(got, want))


# ---- kernels ---------------------------------------------------------------------------------------------------------


def _judge_best_kernel(answer) -> None:
    for anchors, objects in ((100, 5), (2 * THREADS, 1)):
        problem = _problem(anchors, objects)
        got, trace = answer.traced(*problem)
        _judge_findings(got, trace)
        _judge_best(right.written(got), *problem)
    _judge_best(answer(*_problem(300, 9)), *_problem(300, 9))


def _judge_findings(outputs: tuple[Tensor, ...], trace: Trace) -> None:
    """What the trace says of a kernel, and the likely reason."""
    if not trace.findings:
        return
    told = trace.findings[0]
    if "out of bounds" in told:
        raise Wrong(f"{told}. The last block has threads without an anchor: these must not read or write any")
    if "without reaching the barrier" in told or "waits at" in told:
        raise Wrong(f"{told}. Threads without an anchor must come to the barrier too: send them home after it")
    if "race" in told and all((out[THREADS:] == UNTOUCHED).all() for out in outputs):
        raise Wrong("every block worked on the same anchors, the first ones: the anchor's number needs blockIdx.x too")
    raise Wrong(f"{told}. Is a __syncthreads() missing?" if "shared" in told or "tile" in told else told)


def _judge_staged(answer, objects: int) -> None:
    """Objects through shared memory: right, without races, and each read once by each block."""
    problem = _problem(100, objects)
    got, trace = answer.traced(*problem)
    counts = count_accesses(trace, in_bytes=True)
    if "tile" not in counts and close(got[1], right.best_torch(*problem)[1]):
        raise Wrong("right, but `tile` is of no use: in the loop read tile[g] where you read objects[g]")
    if not counts.get("tile", {}).get("write"):
        raise NotWritten
    _judge_findings(got, trace)
    _judge_best(right.written(got), *problem)
    if counts["objects"]["read"] > 2 * objects * 16:
        raise Wrong(
            f"right, but the 2 blocks read {counts['objects']['read']} bytes of `objects`; {2 * objects * 16} "
            f"would do: let each thread copy only some of the objects, and read the tile from then on"
        )


def _judge_best_shared(answer) -> None:
    _judge_staged(answer, TILE)
    _judge_staged(answer, 5)
    if not torch.equal(answer(*_problem(300, 9))[0].long(), right.best_torch(*_problem(300, 9))[0]):
        raise Wrong("right with 100 anchors, wrong with 300")


def _judge_best_tiles(answer) -> None:
    for objects in (5, TILE, 2 * TILE + 22):
        try:
            _judge_staged(answer, objects)
        except Wrong as problem:
            if objects > TILE and "race" in str(problem):
                raise Wrong(
                    f"right for one tile, not for three. {problem} One thread may still read the old tile"
                ) from None
            raise


def _judge_object_best(answer) -> None:
    anchors, objects = _problem(100, 5)
    objects[3] += 1000  # no anchor overlaps it
    (top,), trace = answer.traced(anchors, objects)
    want = right.object_best(anchors, objects)
    counts = count_accesses(trace)["top"] if "top" in trace.buffer else None
    if counts is None:
        raise NotWritten
    if counts["write"]:
        raise Wrong(
            f"{next((told for told in trace.findings if 'race' in told), 'threads write top[g] at once')}. Between "
            f"one thread's look at top[g] and its write another may have written: this needs atomicMax"
        )
    _judge_findings((top,), trace)
    if close(top, want):
        _judge_bits(answer, anchors, objects, want)
        return
    if close(top, want.floor()):
        raise Wrong("the IoUs became 0: `(int)value` cuts off the fraction; __float_as_int(value) takes the bits")
    raise Wrong(first_difference(top, want))


def _judge_bits(answer, anchors: Tensor, objects: Tensor, want: Tensor) -> None:
    if not close(answer(anchors, objects), want):
        raise Wrong("right when traced, wrong when run: does it depend on the order of the threads?")


def _kernel(name: str, judge, launches=right.launches_best) -> Exercise:
    return Exercise(
        judge=judge,
        library=launches(lambda: right.kernel(name)),
        wrap=lambda kernel: launches(lambda: kernel),
    )


decide = Exercise(judge=_judge_decide, library=right.decide)
best_loop = Exercise(judge=_judge_best_loop, library=right.best_loop)
best_torch = Exercise(judge=_judge_best_torch, library=right.best_torch)
claim = Exercise(judge=_judge_claim, library=right.claim)
best_cpp = _kernel("best_cpp", _judge_best_cpp, right.runs_cpp)
best_kernel = _kernel("best_kernel", _judge_best_kernel)
best_shared = _kernel("best_shared", _judge_best_shared)
best_tiles = _kernel("best_tiles", _judge_best_tiles)
object_best = _kernel("object_best", _judge_object_best, right.launches_top)
