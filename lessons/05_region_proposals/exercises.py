"""From feature cells to proposals: what the learner writes."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrcnn import boxes as box_maths
from mrcnn import ops
from mrcnn.lab.cases import crowd, overlap, random_boxes
from mrcnn.lab.check import exercise
from mrcnn.rpn import DELTA_WEIGHTS


def randoms(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def a_level(height: int, width: int) -> tuple:
    """Two pictures' features, and the convolutions of a head for 4 channels and 3 anchors per cell."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        level = torch.randn(2, 4, height, width).requires_grad_()  # a training goes back through the head
        return level, nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 3, 1), nn.Conv2d(4, 12, 1)


def cell_by_cell(level: Tensor, conv: nn.Conv2d, cls_logits: nn.Conv2d, bbox_pred: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Row by row, cell by cell, each with the 3 by 3 cells around it."""
    padded, (_, _, height, width) = F.pad(level, (1, 1, 1, 1)), level.shape
    around = [each[:, y : y + 3, x : x + 3] for each in padded for y in range(height) for x in range(width)]
    hidden = [((conv.weight * each).sum((1, 2, 3)) + conv.bias).clamp(min=0) for each in around]
    logits = [cls_logits.weight[:, :, 0, 0] @ each + cls_logits.bias for each in hidden]
    deltas = [bbox_pred.weight[:, :, 0, 0] @ each + bbox_pred.bias for each in hidden]
    return torch.cat(logits).view(len(level), -1), torch.cat(deltas).view(len(level), -1, 4)


@exercise(
    cases=lambda: [a_level(2, 3), a_level(3, 1)],
    truth=cell_by_cell,
    mistakes={
        ".permute(0, 2, 3, 1) ⇒ ": "right shapes, wrong order: bring a cell's channels together before you flatten",
        "permute(0, 2, 3, 1) ⇒ permute(0, 3, 2, 1)": "it goes down the columns; anchors go along the rows: y before x",
        "torch.relu(conv(level)) ⇒ conv(level)": "there is a ReLU after the first convolution",
        "cls_logits(hidden).permute(0, 2, 3, 1) ⇒ cls_logits(hidden)": "the deltas are in order, the logits not yet",
        "bbox_pred(hidden) ⇒ bbox_pred(hidden).unflatten(1, (4, 3)).transpose(1, 2).flatten(1, 2)": "the 12 channels"
        " are four of the first anchor, four of the second, four of the third: (3, 4), not (4, 3)",
        "return logits, ⇒ return logits.sigmoid(),": "these are probabilities; the logits are asked, as they are",
        "bbox_pred(hidden) ⇒ bbox_pred(level)": "the deltas too are read from what the first convolution gives",
        "-1, 4) ⇒ 4, -1).transpose(1, 2)": "an anchor's deltas are neighbours already: reshape to (N, -1, 4) at once",
    },
    hints=[
        "cls_logits gives (N, 3, H, W). In a flat list, which number comes after the first? Which should?",
        "The three of a cell must be neighbours in memory: move the channels to the end, `(N, H, W, 3)`, then flatten.",
        "`logits = cls_logits(hidden).permute(0, 2, 3, 1).flatten(1)`; for the deltas end with `.reshape(…, -1, 4)`",
    ],
)
def head(level, conv, cls_logits, bbox_pred):
    """From one level (N, C, H, W): logits (N, H·W·3) and deltas (N, H·W·3, 4), in the anchors' order.

    The order: row by row, cell by cell, a cell's three anchors together. The last three arguments are called like
    functions; they give (N, C, H, W), (N, 3, H, W) and (N, 12, H, W), the last with the four deltas of the first
    anchor first. After `conv` comes a ReLU.
    """
    hidden = torch.relu(conv(level))
    logits = cls_logits(hidden).permute(0, 2, 3, 1).flatten(1)
    deltas = bbox_pred(hidden).permute(0, 2, 3, 1).reshape(len(level), -1, 4)
    return logits, deltas


def fates(positive: int, negative: int, ignored: int, count: int) -> tuple[Tensor, int, Tensor]:
    """Matches of so many anchors of each kind, mixed, with three objects; how many to draw; in which order."""
    kinds = torch.cat([torch.arange(positive) % 3, torch.full((negative,), -1), torch.full((ignored,), -2)])
    return kinds[randoms(len(kinds)).argsort()], count, randoms(len(kinds), seed=1).argsort()


def drawn_one_by_one(matches: Tensor, count: int, order: Tensor) -> tuple[Tensor, Tensor]:
    positive, negative = ([row for row in order.tolist() if min(int(matches[row]), 0) == kind] for kind in (0, -1))
    del positive[count // 2 :]
    del negative[count - len(positive) :]
    return torch.tensor(positive, dtype=torch.int64), torch.tensor(negative, dtype=torch.int64)


@exercise(
    cases=lambda: [fates(5, 3900, 95, 256), fates(60, 300, 9, 64), fates(60, 9, 30, 64), fates(0, 50, 3, 16)],
    truth=drawn_one_by_one,
    mistakes={
        "shuffled == -1 ⇒ shuffled < 0": "ignored anchors (-2) were drawn as background; that is -1 alone",
        "count - len(positive) ⇒ count // 2": "where positives are few, background fills their places up to `count`",
        "][: count // 2] ⇒ ][:count]": "at most half of `count` may be positive",
        "= matches[order] ⇒ = matches": "the matches are by row; bring them into the order of `order` first",
        ("matches[order] ⇒ matches", "order[shuffled >= 0] ⇒ (shuffled >= 0).nonzero()[:, 0]",
         "order[shuffled == -1] ⇒ (shuffled == -1).nonzero()[:, 0]"): "the first rows were taken: go through `order`",
        ("order[shuffled >= 0] ⇒ (shuffled >= 0).nonzero()[:, 0]",
         "order[shuffled == -1] ⇒ (shuffled == -1).nonzero()[:, 0]"): "these are places in `order`: look there",
        ("order[shuffled >= 0] ⇒ shuffled[shuffled >= 0]", "order[shuffled == -1] ⇒ shuffled[shuffled == -1]"):
        "these are the matches of those drawn; their rows are asked: the numbers in `order`",
        "shuffled >= 0 ⇒ shuffled > 0": "object 0 is an object too: positive is 0 or more",
    },
    hints=[
        "If you go through the anchors in the order of `order`, what is the match of each?",
        "`shuffled = matches[order]`; then `order[shuffled >= 0]` are the positive rows, already at random.",
        "Cut that list at `count // 2`; of `order[shuffled == -1]` take the first `count - len(positive)`.",
    ],
)  # fmt: skip
def draw(matches, count, order):
    """The rows (P,) of the positive anchors drawn, and those (Q,) of the negative ones, each in the order of `order`.

    matches (A,): 0 or more is positive, -1 background, -2 ignored. order (A,): all rows, at random. Go through it and
    take the first positive ones, at most half of `count`, and then background until there are `count` in all.
    """
    shuffled = matches[order]
    positive = order[shuffled >= 0][: count // 2]
    negative = order[shuffled == -1][: count - len(positive)]
    return positive, negative


def by_the_formulas(logits: Tensor, deltas: Tensor, wanted: Tensor, positive: Tensor, negative: Tensor) -> tuple:
    surprise = [(-logits[row]).exp().log1p() for row in positive] + [logits[row].exp().log1p() for row in negative]
    errors = (deltas[positive] - wanted).abs().flatten()
    moves = [error**2 / (2 / 9) if error < 1 / 9 else error - 1 / 18 for error in errors]
    return tuple(sum(each, torch.tensor(0.0)) / len(surprise) for each in (surprise, moves))


@exercise(
    cases=lambda: [(*SAID, 0.1 * randoms(p, 4), torch.arange(7, 7 + p), torch.arange(11, 20)) for p in (4, 0)],
    truth=by_the_formulas,
    mistakes={
        "beta=1 / 9 ⇒ beta=1.0": "smooth L1 with a beta of 1, which is PyTorch's: here it is 1 / 9",
        "/ len(sampled) ⇒ / len(positive)": "divide the boxes' loss by all anchors drawn; positive there may be none",
        "/ len(sampled) ⇒ / max(len(positive), 1)": "the boxes' loss is divided by the positive ones, not by all drawn",
        'reduction="sum") / len(sampled) ⇒ reduction="mean")': "this is a mean over the positive anchors: sum them",
        "(logits[sampled], ⇒ (logits[sampled].sigmoid(),": "give it the logits: the sigmoid is in the function",
        "labels = ⇒ labels = 1 -": "the labels are the wrong way round: 1 where there is an object",
        "deltas[positive] ⇒ deltas[: len(positive)]": "`positive` says which rows: `deltas[positive]`",
    },
    hints=[
        "Which anchors tell something about objectness? Which about boxes? Where would a background anchor move to?",
        "Join the rows with torch.cat; the labels likewise, of torch.ones(len(positive)) and torch.zeros(…).",
        '`F.smooth_l1_loss(deltas[positive], wanted, beta=1 / 9, reduction="sum") / len(sampled)`',
    ],
)
def losses(logits, deltas, wanted, positive, negative):
    """The two losses of one picture, tensors of one number: of the objectness, and of the boxes.

    logits (A,), deltas (A, 4): what the head says. positive (P,), negative (Q,): the rows drawn. wanted (P, 4): what
    the deltas of the positive ones should be. Objectness: F.binary_cross_entropy_with_logits, mean over the P + Q.
    Boxes: F.smooth_l1_loss with its beta at 1 / 9, summed over the positive ones, divided by P + Q.
    """
    sampled = torch.cat([positive, negative])
    labels = torch.cat([torch.ones(len(positive)), torch.zeros(len(negative))])
    objectness = F.binary_cross_entropy_with_logits(logits[sampled], labels)
    boxes = F.smooth_l1_loss(deltas[positive], wanted, beta=1 / 9, reduction="sum") / len(sampled)
    return objectness, boxes


SAID = (2 * randoms(20)).requires_grad_(), (0.2 * randoms(20, 4)).requires_grad_()  # a training goes back through it
LEVELS = [random_boxes(size, seed=size) for size in (40, 10, 3)]


def sorted_one_by_one(anchors: list, logits: list, deltas: list, k: int) -> tuple[Tensor, Tensor, Tensor]:
    found = []
    for level, scores in enumerate(logits):
        for row in sorted(range(len(scores)), key=lambda row: -scores[row])[:k]:
            (x1, y1, x2, y2), (dx, dy, dw, dh) = anchors[level][row].tolist(), deltas[level][row].tolist()
            x, y = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (y2 - y1)
            w, h = (x2 - x1) * math.exp(dw) / 2, (y2 - y1) * math.exp(dh) / 2
            found.append(([x - w, y - h, x + w, y + h], 1 / (1 + math.exp(-scores[row])), level))
    return tuple(torch.tensor(each) for each in zip(*found, strict=True))


@exercise(
    cases=lambda: [
        (LEVELS, [2 * randoms(len(each)) for each in LEVELS], [0.3 * randoms(len(each), 4) for each in LEVELS], k)
        for k in (5, 20)
    ],
    truth=sorted_one_by_one,
    mistakes={
        "min(k, len(logits[level])) ⇒ k": "the last level has fewer than k anchors, and topk refuses: min(k, …)",
        "best.sigmoid() ⇒ best": "these are logits; the scores are probabilities, by the sigmoid",
        "deltas[level][rows] ⇒ deltas[level][: len(rows)]": "these are the deltas of a level's first anchors: `[rows]`",
        "anchors[level][rows] ⇒ anchors[level][: len(rows)]": "these are a level's first anchors, not `[rows]`",
        "append(box_maths ⇒ append(anchors[level][rows] if True else box_maths": "the anchors were not moved",
        "like(rows, level) ⇒ like(rows, 0)": "each candidate's own level was asked for, 0 for P2",
        "logits[level]))) ⇒ logits[level])), largest=False)": "the least sure were taken",
    },
    hints=[
        "Which function of PyTorch gives the k largest numbers and where they stand?",
        "`best, rows = logits[level].topk(…)`. The same rows of this level's deltas and anchors belong to them.",
        "`box_maths.decode(deltas[level][rows], anchors[level][rows], DELTA_WEIGHTS)` moves them.",
    ],
)
def candidates(anchors, logits, deltas, k):
    """boxes (B, 4), scores (B,) and levels (B,): the k surest anchors of each level, or all where there are fewer.

    anchors (A_l, 4), logits (A_l,), deltas (A_l, 4): lists, an entry per level. Of a level the surest comes first. The
    boxes are moved, `box_maths.decode(deltas, anchors, DELTA_WEIGHTS)`; scores are probabilities; levels int64, from 0.
    """
    boxes, scores, levels = [], [], []
    for level in range(len(anchors)):
        best, rows = logits[level].topk(min(k, len(logits[level])))
        boxes.append(box_maths.decode(deltas[level][rows], anchors[level][rows], DELTA_WEIGHTS))
        scores.append(best.sigmoid())
        levels.append(torch.full_like(rows, level))
    return torch.cat(boxes), torch.cat(scores), torch.cat(levels)


CLIP = "    boxes = box_maths.clip(boxes, size)\n"


def tidied_by_loops(boxes: Tensor, scores: Tensor, levels: Tensor, size: tuple[int, int], n: int) -> Tensor:
    rows, kept = [[min(max(v, 0), size[1 - i % 2]) for i, v in enumerate(box)] for box in boxes.tolist()], []
    for i in sorted(range(len(rows)), key=lambda i: -scores[i]):
        x1, y1, x2, y2 = rows[i]
        strikes = any(levels[i] == levels[j] and overlap(rows[i], rows[j]) > 0.7 for j in kept)
        if x2 - x1 >= 1e-3 and y2 - y1 >= 1e-3 and not strikes:
            kept.append(i)
    return torch.tensor([rows[i] for i in kept[:n]])


@exercise(
    cases=lambda: [(crowd(90, n), randoms(90), torch.arange(90) % 3, (150, 177), n) for n in (60, 12)],
    truth=tidied_by_loops,
    mistakes={
        f"{CLIP} ⇒ ": "the boxes still reach beyond the picture: clip them first",
        "boxes, size) ⇒ boxes, size[::-1])": "`size` is (height, width), as `clip` wants it",
        (f"{CLIP} ⇒ ", f"    kept = ⇒ {CLIP}    kept ="): "a box beside the picture is large until it is clipped",
        "batched_nms(boxes, scores, levels, ⇒ nms(boxes, scores, ": "boxes of one level struck out those of another",
        "0.7 ⇒ 0.5": "the threshold of the RPN's NMS is 0.7",
        "kept[:n] ⇒ kept": "at most n proposals: they come by falling score, so take the first n",
        (f"{CLIP} ⇒ {CLIP}    all_of = boxes\n", "return boxes ⇒ return all_of"): "`kept` are rows of the large ones",
        "kept = ⇒ boxes, scores, levels = boxes[:n], scores[:n], levels[:n]; kept =": "cut to n before NMS: cut last",
        (f"{CLIP} ⇒ ", "return boxes[kept[:n]] ⇒ return box_maths.clip(boxes[kept[:n]], size)"): "clipped after NMS:"
        " clip first, as boxes beside the picture are to go, and others overlap more once they are cut",
    },
    hints=[
        "What is left of a box beside the picture after clipping? Which list do the rows that NMS gives belong to?",
        "Clip; then `large = box_maths.large_enough(boxes, 1e-3)` cuts down boxes, scores and levels alike: `[large]`.",
        "`kept = ops.batched_nms(boxes, scores, levels, 0.7)` are rows of the boxes that are left, the best first.",
    ],
)  # fmt: skip
def tidy(boxes, scores, levels, size, n):
    """The proposals (K, 4) that are left of boxes (B, 4), scores (B,), levels (B,), the best first, at most n.

    In this order: box_maths.clip(boxes, size) to the picture, (height, width); drop boxes with a side below 1e-3
    pixels, box_maths.large_enough(boxes, 1e-3); ops.batched_nms(boxes, scores, levels, 0.7) within each level.
    """
    boxes = box_maths.clip(boxes, size)
    large = box_maths.large_enough(boxes, 1e-3)
    boxes, scores, levels = boxes[large], scores[large], levels[large]
    kept = ops.batched_nms(boxes, scores, levels, 0.7)
    return boxes[kept[:n]]


def found_one_by_one(proposals: list[Tensor], objects: list[Tensor], n: int, iou: float) -> float:
    hits = [
        any(overlap(thing, box) >= iou for box in boxes.tolist()[:n])
        for boxes, things in zip(proposals, objects, strict=True)
        for thing in things.tolist()
    ]
    return sum(hits) / len(hits)


def three_pictures() -> tuple[list[Tensor], list[Tensor]]:
    """Of 12, 0 and 3 objects. In the last an IoU is exactly 0.5, and the first object is found twice."""
    last = torch.tensor([[0.0, 0, 20, 10], [40, 40, 60, 60], [70, 0, 80, 20]])
    near = torch.tensor([[0.0, 0, 20, 9], [0, 0, 19, 10], [40, 40, 60, 50], [90, 90, 99, 99]])
    return [crowd(40, 3)[5:], crowd(9), near], [crowd(40, 3)[:12] + 3, torch.zeros(0, 4), last]


@exercise(
    cases=lambda: [(*three_pictures(), n, iou) for n, iou in ((3, 0.5), (100, 0.5), (100, 0.8))],
    truth=found_one_by_one,
    mistakes={
        "any(dim=1) ⇒ any(dim=0)": "these are the proposals that hit an object; how many OBJECTS are hit was asked",
        ".any(dim=1).sum() ⇒ .sum()": "an object with two good proposals counts once: any, then sum",
        "boxes[:n] ⇒ boxes": "only the first n proposals of each picture may be used",
        ">= iou ⇒ > iou": "an IoU of exactly `iou` is enough: `>=`",
        ">= iou ⇒ >= 0.5": "use the argument `iou`; it is not always 0.5",
        ("+= len(things) ⇒ += bool(len(things))", "int( ⇒ float(", ".sum()) ⇒ .sum() / max(len(things), 1))"): "a "
        "mean of recalls: a picture with few objects then weighs as much as one with many",
    },
    hints=[
        "The table of IoUs has a row per object and a column per proposal. When is an object found?",
        "`(box_maths.iou(things, boxes[:n]) >= iou).any(dim=1)` says it for each object of a picture.",
        "Add up those found and `len(things)` over all pictures; divide at the end.",
    ],
)  # fmt: skip
def recall(proposals, objects, n, iou):
    """Of all objects, the share that some one of the first n proposals of its picture overlaps by `iou` or more.

    proposals, objects: lists of boxes (P_i, 4), the best first, and (G_i, 4), an entry per picture; G_i may be 0.
    """
    found = total = 0
    for boxes, things in zip(proposals, objects, strict=True):
        found += int((box_maths.iou(things, boxes[:n]) >= iou).any(dim=1).sum())
        total += len(things)
    return found / total
