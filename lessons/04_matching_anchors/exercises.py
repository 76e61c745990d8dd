"""Matching anchors to objects: what the learner writes."""

import torch
from torch import Tensor

from mrcnn import boxes as box_maths
from mrcnn import ops
from mrcnn.lab.cases import overlap, random_boxes
from mrcnn.lab.check import exercise


def by_the_op(anchors: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
    """Each anchor's best object and the IoU with it. With thresholds of 0 the op calls every anchor a match."""
    return ops.match_anchors(anchors, objects, 0.0, 0.0)


def twins(anchors: int, objects: int) -> tuple[Tensor, Tensor]:
    """Anchors (A, 4) and objects (G, 4), of which the last is the same as the first."""
    things = random_boxes(objects, seed=1)
    things[-1] = things[0]
    return random_boxes(anchors, seed=2), things


TIE = "of two objects with the same IoU the first must win, as everywhere in the library: `>`, not `>=`"
SWAPPED = "the two results are swapped: the best objects come first, then the IoUs"
BEST = torch.tensor([0, 1, 2, 1, 0, 2, 0, 1, 2])
IOUS = torch.tensor([0.9, 0.5, 0.1, 0.7, 0.3, 0.0, 0.69, 0.29, 0.2], dtype=torch.float64)


def one_by_one(best: Tensor, ious: Tensor, high: float, low: float) -> Tensor:
    """The table of the three fates, read for each anchor."""
    return torch.tensor(
        [b if iou >= high else -1 if iou < low else -2 for b, iou in zip(best.tolist(), ious.tolist(), strict=True)]
    )


@exercise(
    cases=lambda: [(BEST, IOUS, 0.7, 0.3), (BEST, IOUS, 0.4, 0.2)],
    truth=one_by_one,
    mistakes={
        ("= -2 ⇒ = -9", "= -1 ⇒ = -2", "= -9 ⇒ = -1"): "background is -1 and ignored is -2: these two are swapped",
        "    matches[ious < low] = -1\n ⇒ ": "nothing is background: below `low` it is -1. Was it overwritten by -2?",
        "ious < low ⇒ ious < high": "nothing is ignored: from `low` up to `high` it is -2. Was it overwritten by -1?",
        "ious < high ⇒ ious <= high": "an IoU of exactly `high` is a match: `<`, not `<=`",
        "ious < low ⇒ ious <= low": "an IoU of exactly `low` is not background: `<`, not `<=`",
        ("< high ⇒ < 0.7", "< low ⇒ < 0.3"): "right for 0.7 and 0.3 alone: use the arguments `high` and `low`",
    },
    hints=[
        "Which anchors are background? Which are ignored? An anchor below `low` is below `high` too.",
        "Begin with `best.clone()`, then write over the entries below `high`, and then over those below `low`.",
        "`matches[ious < high] = -2` writes over all entries where the condition holds.",
    ],
)
def decide(best, ious, high, low):
    """matches (A,) from each anchor's best object (A,) and the IoU with it (A,); -1 background, -2 ignored.

    Leave `best` as it is: begin with a copy.
    """
    matches = best.clone()
    matches[ious < high] = -2
    matches[ious < low] = -1
    return matches


@exercise(
    cases=lambda: [tuple(boxes.tolist() for boxes in twins(30, 5))],
    truth=lambda anchors, objects: tuple(each.tolist() for each in by_the_op(*map(torch.tensor, (anchors, objects)))),
    mistakes={
        "value > top ⇒ value >= top": TIE,
        "mine, top = 0, 0.0 ⇒ mine, top = 0, max(ious, default=0.0)": "the best IoU only ever grows from anchor to "
        "anchor: it must begin at 0 again for each anchor",
        "return best, ious ⇒ return ious, best": SWAPPED,
        "mine, top = 0, 0.0 ⇒ mine, top = (best[-1], ious[-1]) if best else (0, 0.0)": "the best so far is kept from "
        "one anchor to the next: it must begin at 0, 0.0 again inside the loop over the anchors",
        "mine, top = g, value ⇒ mine = g": "the best IoU never changes, so the last object that overlaps at all wins: "
        "remember the value too, with the object's number",
        "mine, top = 0, 0.0 ⇒ mine, top = -1, 0.0": "an anchor that overlaps nothing has object 0 and IoU 0 here; "
        "`decide` makes background of it",
        ("in anchors ⇒ in objects", "enumerate(objects) ⇒ enumerate(anchors)"): "one entry per object; every one of "
        "the anchors needs one: the outer loop is over the anchors",
    },
    hints=[
        "For one anchor: what must be remembered while the objects go by?",
        "`mine, top = 0, 0.0` at each anchor; then every object whose IoU is larger than `top` takes its place.",
        "`value = overlap(anchor, thing)`, and `if value > top: mine, top = g, value`",
    ],
)
def best_loop(anchors, objects):
    """Two lists, as long as `anchors`: each anchor's best object, and the IoU with it.

    anchors, objects: lists of [x1, y1, x2, y2]. Of equal IoUs the first object wins. No overlap: object 0, IoU 0.
    """
    best, ious = [], []
    for anchor in anchors:
        mine, top = 0, 0.0
        for g, thing in enumerate(objects):
            value = overlap(anchor, thing)
            if value > top:
                mine, top = g, value
        best.append(mine)
        ious.append(top)
    return best, ious


@exercise(
    cases=lambda: [twins(50, 6)],
    truth=by_the_op,
    mistakes={
        "return best, ious ⇒ return ious, best": SWAPPED,
        "dim=0 ⇒ dim=1": "one entry per object; every one of the anchors needs one: go along dim=0",
        "return best, ious ⇒ return best.where(ious > 0, -1), ious": "an anchor that overlaps nothing keeps object 0, "
        "with IoU 0; `decide` makes background of it",
        ".max( ⇒ .min(": "that is each anchor's worst object",
    },
    hints=[
        "The table has a row per object and a column per anchor. Along which dimension is the best of a column?",
        "`table.max(dim=0)` gives two tensors: the values, and the rows in which they are.",
        "`ious, best = box_maths.iou(objects, anchors).max(dim=0)`",
    ],
)
def best_torch(anchors, objects):
    """best (A,) and ious (A,) from tensors of boxes (A, 4) and (G, 4), by `box_maths.iou`."""
    ious, best = box_maths.iou(objects, anchors).max(dim=0)
    return best, ious


# Object 0 has a good anchor. Object 1 has two that tie, one of them nearer to object 0. Object 2 overlaps nothing.
# Object 3 has two poor ones, one a little better than the other.
TABLE = torch.tensor(
    [
        [0.9, 0.2, 0.5, 0.0, 0.6, 0.0, 0.0],
        [0.0, 0.4, 0.4, 0.0, 0.1, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.2, 0.19],
    ]
)


def claimed_one_by_one(table: Tensor, best: Tensor, matches: Tensor) -> Tensor:
    found = matches.tolist()
    for row in table.tolist():
        for a, value in enumerate(row):
            if value == max(row) and value > 0:
                found[a] = int(best[a])
    return torch.tensor(found)


@exercise(
    cases=lambda: [(TABLE, TABLE.max(dim=0).indices, torch.tensor([0, -2, -2, -1, -2, -1, -1]))],
    truth=claimed_one_by_one,
    mistakes={
        " & (top > 0) ⇒ ": "object 2 overlaps no anchor, its best IoU is 0, and it has claimed the anchors that "
        "overlap nothing (torchvision does so too): an object whose best is 0 claims none",
        "(table == top) ⇒ torch.nn.functional.one_hot(table.argmax(1), table.shape[1]).bool()": "two anchors tie for "
        "object 1 and only one was kept: all that reach the object's best IoU are claimed",
        "claimed, best, ⇒ claimed, ((table == top) & (top > 0)).int().argmax(dim=0),": "anchor 2 is object 1's best, "
        "but itself it overlaps object 0 more: it keeps its own best object",
        "claimed, best, matches ⇒ claimed, best, -1": "an anchor that is nobody's best has changed: the others keep "
        "what they had in `matches`",
        "claimed, best, matches ⇒ claimed & (matches == -2), best, matches": "anchor 5 is object 3's best and stayed "
        "background: the best are claimed however low their IoU",
        "table == top ⇒ table > top - 0.05": "anchor 6 overlaps object 3 nearly as much as anchor 5 does, but less: "
        "only those that reach the object's best are claimed",
        "table.max(dim=1, keepdim=True).values ⇒ table.max()": "only the largest number of the whole table has "
        "claimed: each object, each row, has a best of its own",
        "max(dim=1 ⇒ max(dim=0": "it is each object's best anchor that is claimed: the largest of a row, along dim=1",
    },
    hints=[
        "What is the largest number of each object's row? Which cells of the table are equal to it?",
        "`top = table.max(dim=1, keepdim=True).values`. An anchor is claimed if any cell of its column is a best.",
        "`claimed = ((table == top) & (top > 0)).any(dim=0)`, then `torch.where(claimed, …, …)`",
    ],
)
def claim(table, best, matches):
    """`matches` (A,), changed where an anchor is the best of some object: there it is `best` (A,).

    table: the IoUs (G, A). Leave `matches` as it is: give back a new tensor.
    """
    top = table.max(dim=1, keepdim=True).values  # (G, 1): each object's best
    claimed = ((table == top) & (top > 0)).any(dim=0)  # (A,)
    return torch.where(claimed, best, matches)
