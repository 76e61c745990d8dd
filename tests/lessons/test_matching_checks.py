"""The checks of lesson 04: the stub is not written yet, the solution is right, each likely mistake has its message."""

import pytest
import torch
from lesson_cells import answer, solution, stub, verdict

from mrcnn import boxes as box_maths
from mrcnn import ops
from mrcnn.lab.exercises import matching
from mrcnn.lab.exercises import matching_library as right

EXERCISES = [
    *("decide", "best_loop", "best_torch", "claim"),
    *("best_cpp", "best_kernel", "best_shared", "object_best", "best_tiles"),
]
NAMES = {"box_maths": box_maths, "overlap": matching.overlap}
TWO = "ious < high] = -2\n    matches[ious < low] = -1"
LIST = "best, ious = [], []\n    for anchor in anchors:\n        mine, top = 0, 0.0"


def judged(name, source):
    return verdict(getattr(matching, name), answer(source, **NAMES))


def mistaken(name, old, new):
    """What is said of the solution with `old` replaced."""
    source = solution("04", name)
    assert old in source
    status, message = judged(name, source.replace(old, new))
    assert status == "wrong", message
    return message


@pytest.mark.parametrize("name", EXERCISES)
def test_stub_is_not_written_yet(name):
    assert judged(name, stub("04", name))[0] == "not written"


@pytest.mark.parametrize("name", EXERCISES)
def test_solution_is_right(name):
    assert judged(name, solution("04", name)) == ("right", "")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (TWO, "ious < high] = -1\n    matches[ious < low] = -2", "these two are swapped"),
        (TWO, "ious < low] = -1\n    matches[ious < high] = -2", "nothing is background"),
        (TWO, "ious < high] = -1", "nothing is ignored"),
        ("ious < high", "ious <= high", "exactly `high`"),
        ("ious < low", "ious <= low", "exactly `low`"),
        ("best.clone()", "best", "in place"),
        ("ious < high", "ious < 0.7", "use the arguments"),
    ],
)
def test_decide(old, new, says):
    assert says in mistaken("decide", old, new)


def test_a_missing_return():
    status, message = judged("decide", solution("04", "decide").replace("    return matches", "    matches"))
    assert (status, "Is a `return` missing?" in message) == ("not written", True)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("value > top", "value >= top", "the first must win"),
        (LIST, "best, ious, mine, top = [], [], 0, 0.0\n    for anchor in anchors:", "begin at 0 again"),
        ("return best, ious", "return ious, best", "swapped"),
        ("return best, ious", "return best", "expected two results"),
        ("for anchor in anchors:", "anchors, objects = objects, anchors\n    for anchor in anchors:", "one per object"),
        ("overlap(anchor, thing)", "anchor.iou(thing)", "AttributeError at your line 6"),
        ("return best, ious", "return best, [iou / 2 for iou in ious]", "of the IoUs"),
        ("return best, ious", "return [b ^ 1 for b in best], ious", "the objects are not"),
    ],
)
def test_best_loop(old, new, says):
    assert says in mistaken("best_loop", old, new)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("dim=0", "dim=1", "one per object"),
        ("ious, best =", "best, ious =", "swapped"),
        ("objects, anchors", "anchors, objects", "one per object"),
        (".max(dim=0)", ".flip(0).max(dim=0)", "the objects are not"),
    ],
)
def test_best_torch(old, new, says):
    assert says in mistaken("best_torch", old, new)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (" & (top > 0)", "", "an object whose best is 0 claims none"),
        ("((table == top) & (top > 0)).any(dim=0)",
         "torch.zeros_like(best).bool().scatter(0, table.argmax(1)[top[:, 0] > 0], True)", "only one was kept"),
        ("claimed, best, matches", "claimed, (table == top).int().argmax(0), matches", "keeps its own best"),
        ("claimed, best, matches", "claimed, best, -1", "nobody's best has changed"),
    ],
)  # fmt: skip
def test_claim(old, new, says):
    assert says in mistaken("claim", old, new)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("value > ious[a]", "value >= ious[a]", "the first must win"),
        ("a < A", "a < A - 1", "1 of 50 anchors have no answer, the first is number 49"),
        ("objects[g]", "objects[0]", "of the IoUs"),
    ],
)
def test_best_cpp(old, new, says):
    assert says in mistaken("best_cpp", old, new)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("if (a >= A) return;", "", "threads without an anchor"),
        ("if (a >= A) return;", "if (a > A) return;", "block 1, thread 36"),
        ("blockIdx.x * blockDim.x + threadIdx.x", "threadIdx.x", "needs blockIdx.x too"),
        ("value > top", "value >= top", "the first must win"),
        ("best[a] = mine, ious[a] = top", "best[0] = mine, ious[a] = top", "a race"),
        ("best[a] = mine, ious[a]", "ious[a]", "100 of 100 anchors have no answer"),
    ],
)
def test_best_kernel(old, new, says):
    assert says in mistaken("best_kernel", old, new)


STAGE = "if (threadIdx.x < G) tile[threadIdx.x] = objects[threadIdx.x];"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("  __syncthreads();\n", "", "Is a __syncthreads() missing?"),
        (STAGE, "if (blockIdx.x * blockDim.x + threadIdx.x >= A) return;\n" + STAGE, "send them home after it"),
        (STAGE, "for (int g = 0; g < G; ++g) tile[g] = objects[g];", "a race"),
        ("threadIdx.x < G", "threadIdx.x < G - 1", "no thread of the block has written"),
        ("iou(tile[g]", "iou(objects[g]", "`tile` is of no use"),
    ],
)
def test_best_shared(old, new, says):
    assert says in mistaken("best_shared", old, new)


SECOND = "    __syncthreads();  // nobody still reads the tile when the next is copied over it\n"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (SECOND, "", "right for one tile, not for three"),
        ("    __syncthreads();  // the tile is there\n", "", "Is a __syncthreads() missing?"),
        ("if (first + threadIdx.x < G) tile", "tile", "out of bounds"),
        ("mine = g;", "mine = g - first;", "the objects are not"),
        ("tile[threadIdx.x] = objects[first + threadIdx.x]", "tile[threadIdx.x] = objects[threadIdx.x]", "of the IoUs"),
    ],
)
def test_best_tiles(old, new, says):
    assert says in mistaken("best_tiles", old, new)


ATOMIC = "if (value > 0) atomicMax((int*)&top[g], __float_as_int(value));"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (ATOMIC, "if (value > top[g]) top[g] = value;", "this needs atomicMax"),
        ("__float_as_int(value)", "(int)value", "cuts off the fraction"),
        ("if (a >= A) return;", "", "threads without an anchor"),
        (ATOMIC, "atomicMax((int*)&top[0], __float_as_int(value));", "expected"),
    ],
)
def test_object_best(old, new, says):
    assert says in mistaken("object_best", old, new)


def test_library_versions_agree_with_the_op():
    anchors, objects = matching.random_boxes(300, 3), matching.random_boxes(9, 4)
    matches, ious = ops.match_anchors(anchors, objects, 0.5, 0.5)
    for name in ("best_loop", "best_torch", "best_cpp", "best_kernel", "best_shared", "best_tiles"):
        given = [boxes.tolist() for boxes in (anchors, objects)] if name == "best_loop" else [anchors, objects]
        best, found = (torch.as_tensor(each, device=anchors.device) for each in getattr(matching, name).library(*given))
        assert torch.allclose(found, ious)
        assert torch.equal(right.decide(best.long(), found, 0.5, 0.5), matches)
    assert torch.equal(matching.object_best.library(anchors, objects), box_maths.iou(objects, anchors).amax(1))
