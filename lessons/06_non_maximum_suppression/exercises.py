"""Non-maximum suppression: what the learner writes. Boxes come sorted, the best first, unless there are scores."""

import torch
from torch import Tensor

from mrcnn import boxes as box_maths
from mrcnn import ops
from mrcnn.lab.cases import crowd, falling, overlap
from mrcnn.lab.check import exercise

CHAIN = (
    "a box was dropped because of one that was dropped itself: only kept boxes strike others out (A drops B, so B "
    "can no longer drop C)"
)
TIE = "boxes 0 and 1 have an IoU of exactly the threshold: that is no reason to drop one. Compare with >, not >="


def by_torchvision(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """The rows kept; by the library where there is no torchvision. Its order of equal scores is not told."""
    try:
        from torchvision.ops import nms
    except ImportError:
        nms = ops.nms
    return nms(boxes.double(), scores.double(), threshold)


def tied() -> tuple[list, list, float]:
    """Boxes and scores as lists, many scores equal."""
    scores = torch.rand(60, generator=torch.Generator().manual_seed(1)).mul(20).round() / 20
    return crowd(60).tolist(), scores.tolist(), 0.5


def without_ties(boxes: list, scores: list, threshold: float) -> list[int]:
    """Of equal scores the lower row comes first: so it has a little more."""
    lowered = torch.tensor(scores, dtype=torch.float64) - 1e-6 * torch.arange(len(scores))
    return by_torchvision(torch.tensor(boxes).view(-1, 4), lowered, threshold).tolist()


@exercise(
    cases=lambda: [tied(), (crowd(40, 3).tolist(), list(range(40)), 0.3), ([[0.0, 0, 1, 1]], [0.5], 1), ([], [], 0.5)],
    truth=without_ties,
    mistakes={
        "for k in kept) ⇒ for k in range(len(boxes)) if (-scores[k], k) < (-scores[i], i))": CHAIN,
        "> threshold ⇒ >= threshold": TIE,
        "-scores[i] ⇒ scores[i]": "the worst box comes first: visit the boxes by FALLING score",
        "sorted(range(len(boxes)), key=lambda i: -scores[i]) ⇒ range(len(boxes))": "the boxes were visited in the "
        "order of their rows: sort by score first",
        "range(len(boxes)) ⇒ reversed(range(len(boxes)))": "of boxes with equal scores the later row was visited "
        "first: the lower row should be",
        "if not any( ⇒ if any(": "these are the boxes that overlap a kept one: keep a box if there is NONE such",
        "> threshold ⇒ > 0.5": "the threshold is an argument; it is not always 0.5",
        "for k in kept) ⇒ for k in kept[-1:])": "each box asks the last kept one alone: it must ask all of `kept`",
        "kept = [] ⇒ kept, _ = [], boxes[0]": "where there are no boxes, none is kept: the answer is []",
        "return kept ⇒ return sorted(kept)": "the right boxes, in the order of their rows: the best score comes first",
    },
    hints=[
        "In which order are the boxes visited? Which boxes can still strike out the one at hand?",
        "Keep a list `kept`. A row joins it unless its overlap with one of `kept` is greater than the threshold.",
        "`for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):` and then `if not any(… for k in kept):`",
    ],
)  # fmt: skip
def greedy(boxes, scores, threshold):
    """Which rows of `boxes`, a list of [x1, y1, x2, y2], are kept: a list, the best score first."""
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if not any(overlap(boxes[k], boxes[i]) > threshold for k in kept):
            kept.append(i)
    return kept


def pair_by_pair(boxes: Tensor, threshold: float) -> Tensor:
    rows = boxes.tolist()
    return torch.tensor([[i < j and overlap(a, b) > threshold for j, b in enumerate(rows)] for i, a in enumerate(rows)])


@exercise(
    cases=lambda: [(crowd(40), 0.5), (crowd(30, 1), 0.2)],
    truth=pair_by_pair,
    mistakes={
        ".triu(1) ⇒ ": "every pair is in it twice, and each box overlaps itself: only pairs with i < j count",
        ".triu(1) ⇒ .triu()": "each box overlaps itself, on the diagonal: a box must not strike itself out; i < j",
        ".triu(1) ⇒ .tril(-1)": "this is the lower triangle: row i, the better box, strikes out column j, a later one",
        "> threshold ⇒ >= threshold": TIE,
        "> threshold ⇒ < threshold": "these are the pairs that do NOT overlap: the comparison is the wrong way round",
        "(box_maths.iou(boxes, boxes) > threshold) ⇒ box_maths.iou(boxes, boxes)": "these are IoUs; the table says yes "
        "or no: compare with the threshold",
    },
    hints=[
        "What do you get from all IoUs by comparing them with the threshold?",
        "Of the table of all pairs only what lies above the diagonal counts: there i < j.",
        "`(box_maths.iou(boxes, boxes) > threshold).triu(1)`",
    ],
)
def overlap_matrix(boxes, threshold):
    """Bool (N, N): [i, j] is true when i < j and the IoU of boxes i and j is greater than the threshold.

    box_maths.iou(a, b) gives all IoUs; tensor.triu(1) keeps what is above the diagonal.
    """
    return (box_maths.iou(boxes, boxes) > threshold).triu(1)


def scanned_by_hand(overlaps: Tensor) -> Tensor:
    table, kept = overlaps.tolist(), []
    for j in range(len(table)):
        if not any(table[i][j] for i in kept):
            kept.append(j)
    return torch.tensor(kept)


@exercise(
    cases=lambda: [(overlap_matrix(crowd(60), 0.5),), (torch.eye(5).roll(1, 1).triu(1).bool(),)],
    truth=scanned_by_hand,
    mistakes={
        ("            dropped |= overlaps[i] ⇒         dropped |= overlaps[i]",): CHAIN,
        "if not dropped[i] ⇒ if dropped[i]": "these are the dropped boxes; the kept ones were asked for",
        "            dropped |= overlaps[i]\n ⇒ ": "nothing is ever struck out: box i strikes by its row",
        "dropped |= overlaps[i] ⇒ dropped = overlaps[i]": "what was dropped before is forgotten: add to it, with |=",
        "return torch.tensor(kept, device=overlaps.device) ⇒ return ~dropped": "this says yes or no for each row: the "
        "numbers of the kept rows are asked for",
    },
    hints=[
        "What must be remembered while you go down the rows?",
        "`dropped` is a row of yes and no. A row that is not dropped is kept, and its own row is added to `dropped`.",
        "`if not dropped[i]: kept.append(i); dropped |= overlaps[i]`",
    ],
)
def scan_rows(overlaps):
    """Which rows are kept, as an int64 tensor, rising; `overlaps` is the table, bool (N, N).

    Begin with `dropped`, N times false. Visit the rows in order: keep a row that is not dropped, and drop what it
    overlaps.
    """
    dropped = torch.zeros(len(overlaps), dtype=torch.bool, device=overlaps.device)
    kept = []
    for i in range(len(overlaps)):
        if not dropped[i]:
            kept.append(i)
            dropped |= overlaps[i]
    return torch.tensor(kept, device=overlaps.device)


def per_class_by_torchvision(boxes: Tensor, classes: Tensor, threshold: float) -> Tensor:
    kept = [
        rows[by_torchvision(boxes[rows], falling(boxes[rows]), threshold)]
        for rows in ((classes == each).nonzero()[:, 0] for each in classes.unique())
    ]
    return torch.cat(kept).sort().values


@exercise(
    cases=lambda: [
        (crowd(60), torch.arange(60) % 3, 0.5),
        (torch.tensor([[0.0, 0, 10, 10], [-11, -11, -1, -1], [0, 0, 10, 9]]), torch.tensor([0, 1, 0]), 0.5),
        (torch.tensor([[19000.0, 0, 19012, 12], [19003.95, 0, 19015.95, 12]]), torch.tensor([60, 60]), 0.5),
    ],
    truth=per_class_by_torchvision,
    mistakes={
        " & (classes[:, None] == classes[None, :]) ⇒ ": "boxes of one class struck out boxes of another: compare the "
        "classes of the two too",
        "== classes[None, :] ⇒ != classes[None, :]": "boxes strike out others of ANOTHER class only: it is ==",
        "overlap_matrix(boxes, threshold) & (classes[:, None] == classes[None, :]) ⇒ "
        "overlap_matrix(boxes + (classes * (boxes.max() + 1))[:, None], threshold)": "it moves the classes apart: with "
        "coordinates below 0 they meet again. Compare the classes instead",
        "overlap_matrix(boxes, threshold) & (classes[:, None] == classes[None, :]) ⇒ overlap_matrix(boxes + (classes * "
        "(boxes.max() - boxes.min() + 1))[:, None], threshold)": "it moves the classes so far away that float32 rounds "
        "the boxes. Compare the classes instead",
    },
    hints=[
        "Which pairs of the table of overlaps may still count?",
        "classes[:, None] == classes[None, :] is a table too: are the two of one class?",
        "`scan_rows(overlap_matrix(boxes, threshold) & (classes[:, None] == classes[None, :]))`",
    ],
)
def nms_per_class(boxes, classes, threshold):
    """Which rows are kept when a box strikes out only boxes of its own class (N,): int64, rising. Boxes are sorted."""
    return scan_rows(overlap_matrix(boxes, threshold) & (classes[:, None] == classes[None, :]))


def softly_by_loops(boxes: Tensor, scores: Tensor, sigma: float) -> Tensor:
    rows, left, lowered = boxes.tolist(), set(range(len(boxes))), scores.double().tolist()
    while left:
        best = max(left, key=lambda i: lowered[i])
        left.remove(best)
        for i in left:
            lowered[i] *= torch.exp(torch.tensor(-(overlap(rows[best], rows[i]) ** 2) / sigma)).item()
    return torch.tensor(lowered)


@exercise(
    cases=lambda: [(crowd(40), torch.rand(40, generator=torch.Generator().manual_seed(2)), 0.5)],
    truth=softly_by_loops,
    mistakes={
        (
            "        in_play[best] = False\n ⇒ ",
            "/ sigma)) ⇒ / sigma))\n        in_play[best] = False",
        ): "each box also lowered its own score (its IoU with itself is 1): only those still in play are lowered",
        "scores.where(~in_play, scores ⇒ scores.where(scores < 0, scores": "boxes that are out of play were lowered "
        "too: only those still in play are",
        (
            "best = scores.where ⇒ best = first.where",
            "scores = scores.clone() ⇒ first = scores = scores.clone()",
        ): "the boxes were visited by their first scores: after each step the best of the LOWERED scores is next",
        "(iou**2) ⇒ iou": "the factor is exp(-iou² / sigma), with the square",
        "* torch.exp(-(iou**2) / sigma) ⇒ * 1": "no score was lowered",
    },
    hints=[
        "Scores fall as you go: which box is next?",
        "Keep `in_play`, a bool per box; the next is the best of those in play, and it leaves play first.",
        "`scores.where(~in_play, scores * torch.exp(-(iou**2) / sigma))`",
    ],
    extra=True,
)
def soft_nms(boxes, scores, sigma):
    """The lowered scores (N,), in the order of `boxes` (N, 4)."""
    scores = scores.clone()
    in_play = torch.ones_like(scores, dtype=torch.bool)
    for _ in range(len(scores)):
        best = scores.where(in_play, -1.0).argmax()
        in_play[best] = False
        iou = box_maths.iou(boxes[best][None], boxes)[0]
        scores = scores.where(~in_play, scores * torch.exp(-(iou**2) / sigma))
    return scores
