"""The exercises of the lesson on non-maximum suppression. What is right is in suppression_library.py."""

import torch
from torch import Tensor

from mrcnn import boxes as box_maths
from mrcnn import ops
from mrcnn.lab.check import Exercise, NotWritten, Wrong, close, first_difference, same_shape
from mrcnn.lab.cuda import KernelFault, device, schedule
from mrcnn.lab.exercises import suppression_library as right

WORD = right.WORD
UNTOUCHED = 0xA5  # what outputs are filled with, byte by byte, before a kernel runs


# ---- likely mistakes, computed -----------------------------------------------------------------------------------


def _any_better(overlaps: Tensor) -> Tensor:
    """Rows that no better box overlaps, dropped or not: what one gets without the chain."""
    return (~overlaps.any(0)).nonzero()[:, 0]


CHAIN = (
    "a box was dropped because of one that was dropped itself: only kept boxes strike others out (A drops B, so B "
    "can no longer drop C)"
)
TIE = "boxes 0 and 1 have an IoU of exactly the threshold: that is no reason to drop one. Compare with >, not >="


def _judge_kept(got: Tensor, boxes: Tensor, threshold: float) -> None:
    """Rows kept of sorted boxes."""
    overlaps = right.overlap_matrix(boxes, threshold)
    want = right.sorted_nms(boxes, threshold)
    if not isinstance(got, Tensor):
        raise Wrong(f"expected a tensor with the numbers of the kept rows, got a {type(got).__name__}")
    if got.dtype == torch.bool:
        raise Wrong(f"these are {len(got)} yes and no; expected the numbers of the kept rows: `.nonzero()`, or a list")
    got, want = got.tolist(), want.tolist()
    if got == want:
        return
    if got == _any_better(overlaps).tolist():
        raise Wrong(CHAIN)
    if got == right.scan_rows((box_maths.iou(boxes, boxes) >= threshold).triu(1)).tolist():
        raise Wrong(TIE)
    if got == list(range(len(boxes))):
        raise Wrong("every box was kept: nothing is ever struck out")
    if not got:
        raise Wrong("no box was kept. A box has IoU 1 with itself: does it strike itself out?")
    if sorted(set(range(len(boxes))) - set(got)) == want:
        raise Wrong("these are the dropped boxes; the kept ones were asked for")
    row = min(set(got) ^ set(want), default=None)
    if row is None:
        raise Wrong(f"the right boxes in another order: the best first, as they come; expected {want[:5]} …")
    if row in got:
        by = next(i for i in want if overlaps[i, row])
        raise Wrong(
            f"box {row} was kept, though the kept box {by} overlaps it. Does every kept box strike out all it overlaps?"
        )
    raise Wrong(f"box {row} was dropped, though no kept box before it overlaps it by more than the threshold")


def _judge_greedy(answer) -> None:
    boxes = right.crowd(60).cpu()
    scores = torch.rand(60, generator=torch.Generator().manual_seed(1)).mul(20).round() / 20  # with ties
    for values in (boxes, boxes[:1]):
        got = answer(values.tolist(), scores[: len(values)].tolist(), 0.5)
        if not isinstance(got, (list, tuple)) or not all(isinstance(row, int) for row in got):
            raise Wrong(f"expected a list of row numbers, got {str(got)[:60]}")
        got, want = list(got), ops.nms(values, scores[: len(values)], 0.5).tolist()
        order = scores[: len(values)].sort(descending=True, stable=True).indices
        if got == want:
            continue
        if got == ops.nms(values, -scores[: len(values)], 0.5).tolist():
            raise Wrong("the worst box comes first: visit the boxes by FALLING score")
        if got == ops.nms(values, right.falling(values), 0.5).tolist():
            raise Wrong("the boxes were visited in the order of their rows: sort by score first")
        if sorted(order[got].tolist()) == sorted(want):
            raise Wrong("these are places in the sorted list; the rows of `boxes` were asked for")
        if got == ops.nms(values.flip(0), scores[: len(values)].flip(0), 0.5).neg().add(len(values) - 1).tolist():
            raise Wrong("of boxes with equal scores the later row was visited first: the lower row should be")
        place = {int(row): place for place, row in enumerate(order)}  # of each row in the sorted list
        _judge_kept(torch.tensor([place[row] for row in got]), values[order], 0.5)
    _against_torchvision(answer, boxes, scores)


def _against_torchvision(answer, boxes: Tensor, scores: Tensor) -> None:
    try:
        import torchvision
    except ImportError:
        return
    scores = scores + torch.arange(len(scores)) * 1e-4  # no ties: torchvision's order of them is not told
    if answer(boxes.tolist(), scores.tolist(), 0.4) != torchvision.ops.nms(boxes, scores, 0.4).tolist():
        raise Wrong("at a threshold of 0.4 torchvision.ops.nms keeps other boxes. Is the threshold used?")


def _judge_table(got: Tensor, boxes: Tensor, threshold: float) -> None:
    """A table (n, n) of which box overlaps which later one."""
    table = box_maths.iou(boxes, boxes)
    want = (table > threshold).triu(1)
    same_shape(got, want)
    if not got.is_floating_point() and torch.equal(got.bool(), want):
        return
    if got.is_floating_point():
        raise Wrong("these are IoUs; the table says yes or no: compare with the threshold")
    got = got.bool()
    if torch.equal(got, table > threshold):
        raise Wrong("every pair is in it twice, and each box overlaps itself: only pairs with i < j count")
    if torch.equal(got, (table > threshold).triu()):
        raise Wrong("each box overlaps itself, on the diagonal: a box must not strike itself out; i < j, not i <= j")
    if torch.equal(got, (table > threshold).tril(-1)):
        raise Wrong("this is the lower triangle: row i, the better box, strikes out column j, a later one: i < j")
    if torch.equal(got, (table >= threshold).triu(1)):
        raise Wrong(TIE)
    if torch.equal(got, (table < threshold).triu(1)):
        raise Wrong("these are the pairs that do NOT overlap: the comparison is the wrong way round")
    raise Wrong(first_difference(got, want))


def _judge_overlap_matrix(answer) -> None:
    boxes = right.crowd(40)
    _judge_table(answer(boxes, 0.5), boxes, 0.5)


def _judge_scan_rows(answer) -> None:
    for n in (40, 1):
        boxes = right.crowd(n)
        _judge_kept(answer(right.overlap_matrix(boxes, 0.5)), boxes, 0.5)


def _judge_pack(answer) -> None:
    for bits in ([True], [True, False, True, True], [b % 3 == 0 for b in range(WORD)]):
        got, want = answer(bits), right.pack(bits)
        if got == want:
            continue
        if isinstance(got, bool) or not isinstance(got, int):
            raise Wrong(f"expected a whole number, got {got!r}")
        if got == right.pack(bits[::-1]):
            raise Wrong("the bits are the wrong way round: bits[0] is worth 1, bits[1] is worth 2, and so on")
        if got == 2 * want:
            raise Wrong("everything is twice too large: bits[0] is worth 1 << 0, which is 1")
        if got == sum(bits):
            raise Wrong("this counts the true bits; each has its own worth, 1 << b")
        raise Wrong(f"{[int(bit) for bit in bits[:8]]} should give {want}, not {got}")


# ---- kernels -----------------------------------------------------------------------------------------------------


def _untouched(size: int, dtype: torch.dtype) -> Tensor:
    """A flat output for a kernel."""
    bytes_ = torch.full((size * dtype.itemsize,), UNTOUCHED, dtype=torch.uint8, device=device())
    return bytes_.view(dtype)


def _written(out: Tensor, size: int, what: str) -> Tensor:
    """The first `size` entries, which the kernel must have written, and nothing after them."""
    left = (out.view(torch.uint8).view(len(out), -1) == UNTOUCHED).all(1)
    if left.all():
        raise NotWritten
    if not left[size:].all():
        raise Wrong(f"a thread whose box does not exist (i >= n) wrote {what}: it must not write")
    if left[:size].any():
        first = int(left[:size].nonzero()[0, 0])
        raise Wrong(f"{int(left[:size].sum())} of {size} {what} were never written, the first is number {first}")
    return out[:size]


def _padded(boxes: Tensor) -> Tensor:
    """More boxes behind the last, overlapping the others: reading past the end is harmless, and seen in the result."""
    return boxes[torch.arange(len(boxes) + WORD, device=boxes.device) % len(boxes)]


def _wrap_pair_matrix(kernel):
    def pair_matrix(boxes: Tensor, threshold: float) -> Tensor:
        n, blocks = len(boxes), -(-len(boxes) // 16)
        out = _untouched((16 * blocks) ** 2, torch.uint8)
        kernel[(blocks, blocks), (16, 16)](_padded(boxes), out, n, threshold)
        cells = out[: n * n].view(n, n)
        if 16 * blocks > n > 1 and (out[n * n :] != UNTOUCHED).any():
            raise Wrong("a thread whose pair does not exist (i >= n or j >= n) wrote a cell: it must not write")
        return _written(out[: n * n], n * n, "cells").view_as(cells)

    pair_matrix.kernel = kernel
    return pair_matrix


def _judge_pair_matrix(answer) -> None:
    for n in (48, 40):  # a whole number of blocks of 16, and not
        boxes = right.crowd(n)
        got = answer(boxes, 0.5)
        if (got > 1).any():
            raise Wrong("a cell is 0 or 1")
        _judge_table(got, boxes, 0.5)


def _wrap_words(kernel):
    def words(boxes: Tensor, threshold: float) -> Tensor:
        n, columns = len(boxes), -(-len(boxes) // WORD)
        out = _untouched(columns * WORD * columns, torch.int64)
        kernel[(columns, columns), WORD](_padded(boxes), out.view(torch.uint64), n, threshold)
        return _written(out, n * columns, "words").view(n, columns)

    words.kernel = kernel
    return words


def _judge_words(answer) -> None:
    for n in (30, WORD, 150):
        boxes = right.crowd(n)
        got, want = answer(boxes, 0.5), right.mask_words(boxes, 0.5)
        same_shape(got, want)
        if torch.equal(got, want):
            continue
        bits = right.bits_of(got)
        if n == WORD:
            raise Wrong("right for 30 boxes, wrong for 64: `1 << b` is an int, of 32 bits. Write 1ull << b")
        if torch.equal(bits.view(n, -1, WORD).flip(2), right.bits_of(want).view(n, -1, WORD)):
            raise Wrong("the bits of each word are the wrong way round: bit b, 1ull << b, is for box j = 64 * w + b")
        if torch.equal(got[:, 0], want[:, 0]) and not torch.equal(bits[:, :n], right.bits_of(want)[:, :n]):
            raise Wrong("the first word of each row is right, others are not: bit b of word w is box j = 64 * w + b")
        if bits[:, n:].any():
            raise Wrong(f"a bit from {n} on is set, but there are only {n} boxes: the last word has room for more")
        _judge_table(bits[:, :n], boxes, 0.5)


def _judge_mask_tiles(answer) -> None:
    boxes = right.crowd(100)
    _explained(lambda: _judge_words(answer), answer.kernel, (2, 2), _padded(boxes), _words_out(200), 100, 0.5)
    race = _race(answer.kernel, (2, 2), _padded(boxes), _words_out(200), 100, 0.5)
    if race:
        raise Wrong(f"the words came out right, by luck: {race}")


def _words_out(size: int) -> Tensor:
    return torch.zeros(size, dtype=torch.uint64, device=device())


def _race(kernel, grid, *arguments) -> str | None:
    """What the trace says of two threads that meet without a barrier, or of memory that nobody wrote."""
    found = kernel.trace[grid, WORD](*arguments).findings
    return next(
        (f"{each}. Is a __syncthreads() missing?" for each in found if "race" in each or "shared" in each), None
    )


def _explained(judge, kernel, grid, *arguments) -> None:
    """Judge; and where the answer is wrong, see first whether a barrier is."""
    try:
        judge()
    except KernelFault as fault:
        raise Wrong(f"not all threads come to the barrier. {fault}") from None
    except Wrong:
        race = _race(kernel, grid, *arguments)
        if race:
            raise Wrong(race) from None
        raise


def _wrap_scan_words(kernel):
    def scan_words(words: Tensor) -> Tensor:
        n, columns = words.shape
        kept = _untouched(n, torch.uint8)
        kernel[1, WORD](words.view(torch.uint64), kept, n, columns)
        return _written(kept, n, "entries of kept").nonzero()[:, 0]

    scan_words.kernel = kernel
    return scan_words


def _judge_scan_words(answer) -> None:
    def judge() -> None:
        for n in (50, 300):
            for order in ("ascending", "descending", "shuffled"):
                with schedule(order):
                    _judge_kept(answer(right.mask_words(right.crowd(n), 0.5)), right.crowd(n), 0.5)

    words = right.mask_words(right.crowd(130), 0.5)
    kept = torch.zeros(130, dtype=torch.uint8, device=device())
    _explained(judge, answer.kernel, 1, words.view(torch.uint64), kept, 130, 3)


def _wrap_sorted_nms(function):
    def sorted_nms(boxes: Tensor, threshold: float) -> Tensor:
        n = len(boxes)
        kept = torch.full((n,), UNTOUCHED, dtype=torch.uint8)
        function(boxes.cpu(), kept, n, threshold)
        return _written(kept, n, "entries of kept").nonzero()[:, 0].to(boxes.device)

    sorted_nms.kernel = function
    return sorted_nms


def _judge_sorted_nms(answer) -> None:
    for n in (60, 1):
        boxes = right.crowd(n)
        _judge_kept(answer(boxes, 0.5), boxes, 0.5)


# ---- the exercises at the end ----------------------------------------------------------------------------------------


def _judge_resolve(answer) -> None:
    overlaps = right.overlap_matrix(right.crowd(80), 0.5)
    got = answer(overlaps)
    if not isinstance(got, tuple) or len(got) != 2:
        raise Wrong("expected two things: kept (n,), and the number of rounds that changed it")
    (kept, rounds), (want, want_rounds) = got, right.resolve(overlaps)
    same_shape(kept, want)
    if torch.equal(kept, ~overlaps.any(0)):
        raise Wrong(
            "this is the first round's answer. Go on until a round changes nothing, and ask ALL boxes in each round: "
            "one that was struck out may come back"
        )
    if not torch.equal(kept, want):
        raise Wrong(
            "not the greedy answer. Each round begins with ALL boxes again, and asks of each (a column) whether a box "
            f"in the set (a row) overlaps it: {first_difference(kept, want)}"
        )
    if rounds != want_rounds:
        raise Wrong(
            f"the set is right; {want_rounds} rounds changed it, not {rounds}: the last, which changes nothing, is none"
        )


def _judge_soft_nms(answer) -> None:
    boxes, sigma = right.crowd(40).cpu(), 0.5
    scores = torch.rand(40, generator=torch.Generator().manual_seed(2))
    got, want = answer(boxes, scores, sigma), right.soft_nms(boxes, scores, sigma)
    same_shape(got, want)
    if close(got, want):
        return
    table, order = box_maths.iou(boxes, boxes), scores.sort(descending=True).indices
    rank = order.argsort()
    better = rank[:, None] < rank[None, :]
    if close(got, want * torch.exp(torch.tensor(-1 / sigma))):
        raise Wrong(
            "each box also lowered its own score (its IoU with itself is 1): only those still in play are lowered"
        )
    factors = torch.exp(-(table**2) / sigma)
    if close(got, scores * factors.prod(0)):
        raise Wrong("boxes that are out of play were lowered too: only those still in play are")
    if close(got, scores * factors.where(better, 1).prod(0)):
        raise Wrong(
            "the boxes were visited by their first scores: after each step the best of the LOWERED scores is next"
        )
    if (got > scores + 1e-6).any():
        raise Wrong("a score rose; the factor exp(-iou² / sigma) is never above 1")
    if close(got, scores):
        raise Wrong("no score was lowered")
    raise Wrong(f"{first_difference(got, want)}. Is the factor exp(-iou² / sigma), with the square?")


def _judge_mask_iou(answer) -> None:
    masks = torch.zeros(3, 40, 40, dtype=torch.uint8)
    masks[0, :20], masks[1, 10:30], masks[2, :, :15] = 1, 1, 1
    got, want = answer(masks), right.mask_iou(masks)
    same_shape(got, want)
    flat = masks.flatten(1).float()
    inter, area = flat @ flat.T, flat.sum(1)
    if close(got, want):
        return
    if close(got, inter):
        raise Wrong("these are the intersections, in pixels: divide by the union")
    if close(got, inter / (area[:, None] + area[None, :])):
        raise Wrong("the intersection was counted twice in the union: take it off once")
    if not close(got.diagonal(), torch.ones(3)):
        raise Wrong(
            "a mask should have IoU 1 with itself. The masks are uint8, whose sums wrap round at 256: are they floats "
            "before the product?"
        )
    raise Wrong(first_difference(got, want))


greedy = Exercise(_judge_greedy, right.greedy)
overlap_matrix = Exercise(_judge_overlap_matrix, right.overlap_matrix)
scan_rows = Exercise(_judge_scan_rows, right.scan_rows)
sorted_nms = Exercise(_judge_sorted_nms, right.sorted_nms, _wrap_sorted_nms)
pair_matrix = Exercise(_judge_pair_matrix, right.overlap_matrix, _wrap_pair_matrix)
pack = Exercise(_judge_pack, right.pack)
mask_words = Exercise(_judge_words, right.mask_words, _wrap_words)
mask_tiles = Exercise(_judge_mask_tiles, right.mask_words, _wrap_words)
scan_words = Exercise(_judge_scan_words, right.scan_words, _wrap_scan_words)
resolve = Exercise(_judge_resolve, right.resolve)
soft_nms = Exercise(_judge_soft_nms, right.soft_nms)
mask_iou = Exercise(_judge_mask_iou, right.mask_iou)
