"""Boxes and anchors: what the learner writes."""

import math

import torch
from torch import Tensor

from mrcnn.lab.cases import overlap, random_boxes
from mrcnn.lab.check import exercise

# Two squares that share a side, a box far off both ways, an empty one, and the first once more. What lies apart is
# large, here and in the second case: then a "union" with a wrong shared part in it is still above 0.
PLAIN = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10], [30, 40, 60, 80], [5, 5, 5, 5], [0, 0, 10, 10]])
SEVEN, TWELVE = (random_boxes(n, seed) + torch.tensor([-12.0, -12, 12, 12]) for n, seed in ((7, 1), (12, 2)))


def pair_by_pair(a: Tensor, b: Tensor) -> Tensor:
    return torch.tensor([[overlap(one, other) for other in b.tolist()] for one in a.tolist()])


@exercise(
    cases=lambda: [(PLAIN, PLAIN[1:]), (SEVEN, TWELVE), (PLAIN / 80, PLAIN[1:] / 80)],
    truth=pair_by_pair,
    mistakes={
        ".clamp(min=0) ⇒ ": "right where boxes overlap. Of two that lie apart both ways, both lengths are below 0, and "
        "their product above it: cut the lengths off at 0 first",
        ".clamp(min=0).prod(-1) ⇒ .prod(-1).clamp(min=0)": "cut off too late: of two boxes that lie apart both ways "
        "the product is above 0. Cut width and height off at 0 before you multiply them",
        "torch.where(union > 0, shared / union, 0.0) ⇒ shared / union.clamp(min=1)": "right in pixels. But boxes can be"
        " in parts of a picture, 0 to 1, with areas far below 1: only a union of 0 needs a way out",
        " - shared\n ⇒ \n": "the shared area is counted twice in the union: take it off once",
        "torch.where(union > 0, shared / union, 0.0) ⇒ shared / union": "right but for two empty boxes: 0 / 0 is NaN, "
        "and NaN spoils every sum it comes into. There the IoU is 0",
        (".clamp(min=0) ⇒ ", "torch.where(union > 0, shared / union, 0.0) ⇒ shared / union"): "of boxes apart both "
        "ways both lengths are below 0: cut them off at 0 before you multiply. And of two empty boxes it is 0 / 0, NaN",
        ("maximum ⇒ least", "minimum ⇒ maximum", "least ⇒ minimum"): "that is the box around both. The shared part "
        "begins at the larger of the two left edges, and ends at the smaller of the two right ones",
        "shared / union, ⇒ shared / area_a[:, None],": "divided by the first box's area alone: a box inside a huge one "
        "would then fit it perfectly. Divide by the union",
        "2:])\n ⇒ 2:]) + 1\n": "there is no + 1: x2 is the edge, not the last pixel, so a box is x2 - x1 wide",
        "shared / union, 0.0) ⇒ shared / union, 0.0).T": "the table lies on its side: a row for each box of `a`",
    },
    hints=[
        "Where does the part that two boxes share begin, and where does it end? What if it ends before it begins?",
        "`a[:, None, :2]` is (A, 1, 2) and `b[None, :, :2]` is (1, B, 2): `torch.maximum` of the two is (A, B, 2).",
        "`shared = (bottom_right - top_left).clamp(min=0).prod(-1)`; union = area + area - shared; mind union 0.",
    ],
)
def iou_table(a, b):
    """Boxes a (A, 4) and b (B, 4) -> their IoUs (A, B), without a loop. Of two empty boxes the IoU is 0.

    A box is x1, y1, x2, y2, so it is x2 - x1 wide.
    """
    top_left = torch.maximum(a[:, None, :2], b[None, :, :2])  # (A, B, 2)
    bottom_right = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (bottom_right - top_left).clamp(min=0).prod(-1)  # (A, B)
    area_a, area_b = ((each[:, 2:] - each[:, :2]).prod(-1) for each in (a, b))
    union = area_a[:, None] + area_b[None, :] - shared
    return torch.where(union > 0, shared / union, 0.0)


def placed(box: list[float]) -> tuple[float, float, float, float]:
    """A box's centre, width and height."""
    x1, y1, x2, y2 = box
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def encoded_one_by_one(objects: Tensor, anchors: Tensor) -> Tensor:
    found = []
    for thing, anchor in zip(objects.tolist(), anchors.tolist(), strict=True):
        (gx, gy, gw, gh), (ax, ay, aw, ah) = placed(thing), placed(anchor)
        found.append([(gx - ax) / aw, (gy - ay) / ah, math.log(gw) - math.log(aw), math.log(gh) - math.log(ah)])
    return torch.tensor(found)


@exercise(
    cases=lambda: [(random_boxes(9, seed=3), random_boxes(9, seed=4))],
    truth=encoded_one_by_one,
    mistakes={
        (" + size / 2 ⇒ ", " + target / 2 ⇒ "): "dx and dy go from corner to corner; they should go between centres",
        (
            "anchors[:, :2] + size ⇒ size",
            "objects[:, :2] + target ⇒ target",
        ): "half the size is not yet the centre: it lies half the size from the top left corner",
        "(aim - centre) / size ⇒ (aim - centre) / size[:, :1]": "dy is in anchor heights: divide it by the height",
        "(aim - centre) / size ⇒ (aim - centre)": "dx and dy are in pixels: divide by the anchor's width and height",
        "(aim - centre) / size ⇒ (aim - centre) / target": "divided by the object's size. In use, only the anchor's is "
        "known",
        "(aim - centre) / size ⇒ 2 * (aim - centre) / size": "dx and dy are doubled: a centre is half of x1 + x2",
        "aim - centre ⇒ centre - aim": "dx and dy point from the object to the anchor; the anchor is what moves",
        ").log() ⇒ )": "dw and dh are how many times as large; their logarithm is wanted",
        "(target / size).log() ⇒ (target - size) / size": "dw and dh are the growth in parts of the anchor; use the "
        "logarithm of object / anchor",
        "target / size ⇒ size / target": "dw and dh have the wrong sign: the object's size over the anchor's",
        ").log() ⇒ ).log2()": "that is the logarithm to the base 2; `torch.log` is the natural one, which exp undoes",
        ("cat( ⇒ stack(", "dim=1) ⇒ dim=2).flatten(1)"): "the four are in another order: dx, dy, dw, dh",
    },
    hints=[
        "Which point of a box are dx and dy about? What is a box's centre, from its corner and its size?",
        "`size = anchors[:, 2:] - anchors[:, :2]` has widths and heights, (K, 2), and all of it can be done on pairs.",
        "`torch.cat([(aim - centre) / size, (target / size).log()], dim=1)`, aim and target being the object's",
    ],
)
def encode(objects, anchors):
    """Of each pair of an object and an anchor, both (K, 4), the deltas (K, 4) that move the anchor: dx, dy, dw, dh."""
    size, target = anchors[:, 2:] - anchors[:, :2], objects[:, 2:] - objects[:, :2]  # (K, 2)
    centre, aim = anchors[:, :2] + size / 2, objects[:, :2] + target / 2
    return torch.cat([(aim - centre) / size, (target / size).log()], dim=1)


# Small moves; one that grows beyond any limit, one that shrinks as much; one that goes far.
MOVES = torch.tensor([[0.1, -0.2, 0.3, -0.4], [0.5, 0.25, 9, 0.2], [-1, 2, -7, -9], [8, 6, 0, 0.1], [0, 0, 1.5, 5]])


def decoded_one_by_one(deltas: Tensor, anchors: Tensor, limit: float) -> Tensor:
    found = []
    for (dx, dy, dw, dh), anchor in zip(deltas.tolist(), anchors.tolist(), strict=True):
        x, y, w, h = placed(anchor)
        x, y, w, h = x + dx * w, y + dy * h, math.exp(min(dw, limit)) * w, math.exp(min(dh, limit)) * h
        found.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    return torch.tensor(found)


@exercise(
    cases=lambda: [(MOVES, random_boxes(5, seed=5), math.log(1000 / 16)), (MOVES, random_boxes(5, seed=6), 1.0)],
    truth=decoded_one_by_one,
    mistakes={
        ".clamp(max=limit) ⇒ ": "right for moves of a sensible size. dw and dh above `limit` should count as `limit`",
        "clamp(max=limit) ⇒ clamp(-limit, limit)": "it also limits how far a box may shrink. exp of a number far below "
        "0 is only small: that side needs no limit",
        "clamp(max=limit) ⇒ clamp(max=math.log(1000 / 16))": "right for the usual limit alone: use the argument",
        ".clamp(max=limit).exp() ⇒ .exp().clamp(max=limit)": "the limit is for dw and dh, before exp",
        "deltas[:, :2] * size ⇒ deltas[:, :2].clamp(max=limit) * size": "dx and dy are limited too; only the growth is",
        ".exp() * size / 2 ⇒ .exp() * size": "the boxes are twice as wide and high: from the centre it is half a side",
        "deltas[:, :2] * size ⇒ deltas[:, :2]": "dx and dy are in anchor widths and heights, not in pixels",
        "deltas[:, :2] * size ⇒ deltas[:, :2] * size * deltas[:, 2:].clamp(max=limit).exp()": "dx and dy are in sizes"
        " of the anchor, not of the box that it becomes",
        ".exp() * size / 2 ⇒ .exp() / 2": "exp(dw) says how many times as wide: times the anchor's width",
        ".exp() ⇒ .add(1)": "that is a plain growth, 1 + dw. dw and dh are logarithms: exp undoes them",
        ".exp() ⇒ ": "dw and dh are logarithms: exp makes a growth of them",
        "anchors[:, :2] + size / 2 + ⇒ anchors[:, :2] +": "it moves the anchor's corner where its centre should move",
        "centre - half, centre + half ⇒ centre, centre + 2 * half": "the new centre stands where the top left corner "
        "belongs: go half a side back from it, and half a side on",
        ("[:, :2] + size / 2 ⇒ [:, :2]", "centre - half, centre + ⇒ centre, centre + 2 *"): "the corner is moved, "
        "and the box grows from there: move the centre, and let it grow around that",
        "centre - half, centre + half ⇒ centre, 2 * half": "these are centres and sizes: the two corners are wanted",
    },
    hints=[
        "Read `encode` backwards: the size is known, so where is the new centre? And how large is the new box?",
        "`.clamp(max=limit)` on the last two columns, then `.exp()` times the anchor's size.",
        "`half = deltas[:, 2:].clamp(max=limit).exp() * size / 2`; the corners are `centre - half` and `centre + half`",
    ],
)
def decode(deltas, anchors, limit):
    """Deltas (K, 4) and anchors (K, 4) -> where these move to, boxes (K, 4). dw and dh count as `limit` at most."""
    size = anchors[:, 2:] - anchors[:, :2]  # (K, 2)
    centre = anchors[:, :2] + size / 2 + deltas[:, :2] * size
    half = deltas[:, 2:].clamp(max=limit).exp() * size / 2
    return torch.cat([centre - half, centre + half], dim=1)


CELL = torch.tensor([[-23.0, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]])


def placed_one_by_one(cell: Tensor, stride: int, rows: int, columns: int) -> Tensor:
    found = []
    for y in range(rows):
        for x in range(columns):
            for x1, y1, x2, y2 in cell.tolist():
                found.append([x1 + stride * x, y1 + stride * y, x2 + stride * x, y2 + stride * y])
    return torch.tensor(found)


@exercise(
    cases=lambda: [(CELL, 4, 3, 5), (CELL[:2] / 2, 16, 4, 2)],
    truth=placed_one_by_one,
    extra=True,
    mistakes={
        "[xs, ys, xs, ys] ⇒ [ys, xs, ys, xs]": "x and y are swapped: x grows from column to column",
        'indexing="ij" ⇒ indexing="xy"': "all anchors are there, but column by column: go row by row",
        "[xs, ys, xs, ys] ⇒ [xs, ys, 0 * xs, 0 * ys]": "only the top left corners move: move the bottom right ones too",
        "corners + cell ⇒ corners + stride * cell": "the anchors themselves are `stride` times too large: only their "
        "places are in strides",
        "stride * ⇒ ": "the cells are 1 pixel apart: they should be `stride` apart",
        "(corners + cell).view ⇒ (corners + cell).transpose(0, 1).reshape": "all anchors are there, but first those of "
        "one shape, then those of the next: the anchors of a cell stand together",
        "corners + cell ⇒ corners + stride / 2 + cell": "centred in the middle of each cell, as some libraries do; the "
        "published models centre them on its top left corner",
    },
    hints=[
        "Where is the corner of the cell in row 2 and column 3? What must be added to each anchor of `cell` there?",
        '`torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")` gives a row number and a column '
        "number for every cell.",
        "`corners = stride * torch.stack([xs, ys, xs, ys], dim=-1).view(-1, 1, 4)`; add `cell`, then `.view(-1, 4)`",
    ],
)
def anchor_grid(cell, stride, rows, columns):
    """The anchors of a level (rows * columns * A, 4): row by row, those of a cell together.

    cell: the anchors of one cell (A, 4), around (0, 0). The cell in row y and column x has its corner, around which its
    anchors go, at (stride * x, stride * y).
    """
    ys, xs = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")  # (rows, columns)
    corners = stride * torch.stack([xs, ys, xs, ys], dim=-1).view(-1, 1, 4)  # (rows * columns, 1, 4)
    return (corners + cell).view(-1, 4)


def reached_one_by_one(objects: Tensor, anchors: Tensor, threshold: float) -> float:
    best = [max(overlap(thing, anchor) for anchor in anchors.tolist()) for thing in objects.tolist()]
    return sum(each >= threshold for each in best) / len(best)


# The IoU of the first object and the first anchor is exactly a half.
OBJECTS = torch.cat([torch.tensor([[200.0, 200, 220, 210]]), random_boxes(23, seed=7)])
ANCHORS = torch.cat([torch.tensor([[200.0, 200, 210, 210]]), random_boxes(40, seed=8)])


@exercise(
    cases=lambda: [(OBJECTS, ANCHORS, 0.5), (OBJECTS, ANCHORS, 0.3)],
    truth=reached_one_by_one,
    mistakes={
        "best >= threshold ⇒ best > threshold": "an IoU of exactly the threshold is enough: `>=`",
        "dim=1 ⇒ dim=0": "that is the share of the anchors that reach some object; turn it round",
        ".mean() ⇒ .sum()": "that is how many are reached; the share is asked, a number from 0 to 1",
        ".mean() ⇒ .mean() * 100": "that is in percent; the share is asked, a number from 0 to 1",
        ".amax(dim=1) ⇒ ": "that is a share of all pairs. One anchor is enough: take each object's best first",
        ("best >= ⇒ iou_table(objects, anchors) >=", ".float().mean() ⇒ .sum() / len(objects)"): "an object that two "
        "anchors reach counts twice: take each object's best first",
        "best >= threshold ⇒ best < threshold": "that is the share of the objects that are missed",
        "(best >= threshold).float().mean() ⇒ best.mean()": "that is the mean of the best IoUs; compare them first",
        "best >= threshold ⇒ best >= 0.5": "right for 0.5 alone: use the argument `threshold`",
    },
    hints=[
        "The table has a row for each object. When is an object reached: if all of its row is large, or one number?",
        "`.amax(dim=1)` is each row's largest number; the mean of yes (1) and no (0) is a share.",
        "`(iou_table(objects, anchors).amax(dim=1) >= threshold).float().mean()`",
    ],
)
def reached(objects, anchors, threshold):
    """The share of objects (G, 4) whose IoU with some anchor (A, 4) is `threshold` or more, by `iou_table`."""
    best = iou_table(objects, anchors).amax(dim=1)  # (G,)
    return (best >= threshold).float().mean()


def shaped_one_by_one(size: float, ratios: tuple[float, ...]) -> Tensor:
    halves = [(size / ratio**0.5 / 2, size * ratio**0.5 / 2) for ratio in ratios]
    return torch.tensor([[float(round(v)) for v in (-w, -h, w, h)] for w, h in halves])


@exercise(
    cases=lambda: [(32.0, (0.5, 1.0, 2.0)), (9.0, (1.0, 3.0))],
    truth=shaped_one_by_one,
    extra=True,
    mistakes={
        ".sqrt() ⇒ ": "the areas differ. For a ratio of 2 the height grows by the root of 2, the width shrinks by it",
        "size / root, size * root ⇒ size * root, size / root": "width and height are swapped: ratio is height / width",
        ".round() ⇒ .trunc()": "cut off, not rounded: `int` goes towards 0, `round` to the nearest",
        ".round() ⇒ ": "the corners are to be rounded to whole pixels",
        "dim=1) / 2 ⇒ dim=1)": "twice as large: the corners are half a side from (0, 0)",
        (
            "root], dim=1) / 2 ⇒ root], dim=1).round() / 2",
            "halves], dim=1).round() ⇒ halves], dim=1)",
        ): "the sides were rounded; it is the corners",
    },
    hints=[
        "Width times height is size * size, and height / width is the ratio: what is the height?",
        "The height is `size * root`, the width `size / root`, with `root = torch.tensor(ratios).sqrt()`.",
        "`halves = torch.stack([size / root, size * root], dim=1) / 2`; then join `-halves` and `halves`, and round",
    ],
)
def one_cell(size, ratios):
    """The anchors of one cell around (0, 0): (len(ratios), 4), each of area size * size, corners rounded.

    ratios: height / width.
    """
    root = torch.tensor(ratios).sqrt()
    halves = torch.stack([size / root, size * root], dim=1) / 2
    return torch.cat([-halves, halves], dim=1).round()
