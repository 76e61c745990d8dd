"""The box head: what the learner writes. Class 0 is background; deltas are multiplied by the weights 10, 10, 5, 5."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mrcnn import boxes as box_maths
from mrcnn import ops
from mrcnn.lab.cases import overlap, random_boxes
from mrcnn.lab.check import exercise

WEIGHTS = (10.0, 10.0, 5.0, 5.0)
# Boxes 0 and 1 lie on object 0 with an IoU of exactly 0.5, box 1 on object 3 with more; box 3 lies on nothing.
PROPOSALS = torch.tensor([[0.0, 0, 10, 5], [0, 0, 20, 10], [11, 0, 22, 10], [50, 50, 60, 60], [31, 40, 40, 49]])
OBJECTS = torch.tensor([[0.0, 0, 10, 10], [12, 0, 22, 10], [30, 40, 40, 50], [0, 0, 20, 14]])


def some(n: int, *shape: int, seed: int = 0) -> Tensor:
    """Random numbers (n, *shape), always the same."""
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def labelled_by_loop(proposals: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rows = proposals.tolist() + boxes.tolist()
    ious = [[overlap(row, box) for box in boxes.tolist()] for row in rows]
    objects = [each.index(max(each)) if max(each) >= 0.5 else -1 for each in ious]
    return torch.tensor(rows), torch.tensor([int(labels[k]) if k >= 0 else 0 for k in objects]), torch.tensor(objects)


@exercise(
    cases=lambda: [
        (PROPOSALS, OBJECTS, torch.tensor([3, 5, 1, 2])),
        (*map(random_boxes, (30, 8), (1, 2)), torch.arange(8) % 3 + 1),
    ],
    truth=labelled_by_loop,
    mistakes={
        "torch.cat([proposals, boxes]) ⇒ proposals": "the true boxes are candidates too: put them behind the others",
        "box_maths.iou(candidates ⇒ box_maths.iou(proposals": "the true boxes need a class and a row too",
        "best >= 0.5 ⇒ best > 0.5": "an IoU of exactly 0.5 is enough: compare with >=",
        "labels[objects], 0) ⇒ objects, 0)": "these are rows of the objects: the CLASS of a row is `labels[row]`",
        "torch.where(holds, objects, -1) ⇒ objects": "a background box has no object: write -1 in its place",
        "torch.where(holds, labels[objects], 0) ⇒ labels[objects]": "a best IoU below 0.5 is background: class 0",
        "torch.where(holds, labels[objects], 0) ⇒ labels[torch.where(holds, objects, -1)]":
        "`labels[-1]` is the last object's class: a row of -1 has class 0",
        "holds = best >= 0.5 ⇒ holds = (best >= 0.5).index_fill(0, box_maths.iou(proposals, boxes).argmax(0), True)":
        "this rule has no low-quality matches: a best IoU below 0.5 is background, whoever is nearest",
    },
    hints=["What is the best IoU of each candidate, and with which object?",
        "`box_maths.iou(candidates, boxes)` is a table (P + G, G): its largest along dimension 1, value and place.",
        "`torch.where(best >= 0.5, labels[objects], 0)`, and in the same way `objects` or -1."],
)  # fmt: skip
def label_proposals(proposals, boxes, labels):
    """Candidates (P + G, 4), the true boxes last; the class of each, 0 for background; its object's row, or -1.

    proposals (P, 4); boxes (G, 4) and labels (G,) of the objects, G at least 1. Classes and rows: int64.
    """
    candidates = torch.cat([proposals, boxes])
    best, objects = box_maths.iou(candidates, boxes).max(1)
    holds = best >= 0.5
    return candidates, torch.where(holds, labels[objects], 0), torch.where(holds, objects, -1)


def drawn_one_by_one(classes: Tensor, order: Tensor, count: int) -> Tensor:
    positive = [row for row in order.tolist() if classes[row]][: math.floor(0.25 * count)]
    return torch.tensor((positive + [row for row in order.tolist() if not classes[row]])[:count])


def shuffled(n: int, positive: int, count: int) -> tuple[Tensor, Tensor, int]:
    """n rows, every third of them of class 2, but `positive` at most."""
    rows, order = torch.arange(n), torch.randperm(n, generator=torch.Generator().manual_seed(n))
    return 2 * ((rows % 3 == 1) & (rows < 3 * positive)), order, count


@exercise(
    cases=lambda: [shuffled(60, 20, 18), shuffled(40, 2, 12), shuffled(9, 0, 8), shuffled(9, 3, 14), shuffled(9, 3, 3)],
    truth=drawn_one_by_one,
    mistakes={
        "[: count // 4] ⇒ ": "all the positive ones were taken: a quarter of `count` at most",
        "count - len(positive) ⇒ count - count // 4": "where there are few positive ones, background must fill up",
        "order[drawn ⇒ torch.arange(len(order))[drawn": "these are places in `order`, not the rows that stand there",
        "drawn = classes[order] ⇒ drawn, order = classes, torch.arange(len(classes))": "`order` was not followed",
        "drawn = classes[order] ⇒ drawn = classes": "entry k of `order` has the class `classes[order][k]`",
        "count - len(positive) ⇒ 3 * len(positive)": "background fills up to `count`, however few are positive",
    },
    hints=["`classes[order]` are the classes in the drawn order. Which entries of `order` are positive?",
        "`order[classes[order] > 0]`, cut to `count // 4`; then background, cut to what is left of `count`.",
        "`negative = order[classes[order] == 0][: count - len(positive)]`"],
)  # fmt: skip
def draw_samples(classes, order, count):
    """Rows (S,), int64, for the losses: positive ones first, `count // 4` at most; then background, up to `count` rows.

    classes (P,), 0 for background; order (P,), all rows in random order: of each kind, those that come first in it.
    """
    drawn = classes[order]
    positive = order[drawn > 0][: count // 4]
    negative = order[drawn == 0][: count - len(positive)]
    return torch.cat([positive, negative])


def loss_by_loop(deltas: Tensor, classes: Tensor, wanted: Tensor) -> float:
    total = 0.0
    for row, label in enumerate(classes.tolist()):
        for k in range(4) if label else ():
            error = abs(float(deltas[row, label, k]) - float(wanted[row, k]))
            total += error - 1 / 18 if error > 1 / 9 else 4.5 * error**2
    return total / len(classes)


@exercise(
    cases=lambda: [(0.2 * some(8, 4, 4), torch.tensor([3, 1, 0, 2, 0, 0, 1, 0]), 0.2 * some(8, 4, seed=1)),
                   (some(3, 2, 4), torch.zeros(3, dtype=torch.int64), some(3, 4))],  # the second: background alone
    truth=loss_by_loop,
    mistakes={
        "/ len(classes) ⇒ / max(len(rows), 1)": "divide by the number of ALL samples, not of the positive ones",
        "/ len(classes) ⇒ / len(rows)": "divide by the number of ALL samples; that of the positive ones may be 0",
        "(classes > 0) ⇒ (classes >= 0)": "background has no box: only rows with a class above 0 count",
        "classes[rows]] ⇒ classes[rows] - 1]": "these are the deltas of the class before: class c has set c",
        "deltas[rows, classes[rows]] ⇒ deltas[rows, 1]": "each row has a set of deltas per class: take its own class's",
        ("F.smooth_l1 ⇒ F.huber", "beta=1 ⇒ delta=1"): "Huber's loss is smooth L1 times beta: take F.smooth_l1_loss",
        "own, wanted[rows] ⇒ *(torch.tensor(WEIGHTS) * x for x in (own, wanted[rows]))": "WEIGHTS are in both already",
        "beta=1 / 9 ⇒ beta=1.0": "the bend of smooth L1 is at `beta=1 / 9` here",
        'reduction="sum") / len(classes) ⇒ reduction="mean")': "a mean over positives: sum, then divide by S",
    },
    hints=["Which rows count, and which set of deltas does each use?",
        "`deltas[rows, classes[rows]]` takes from each of `rows` the set of its own class: (K, 4).",
        '`F.smooth_l1_loss(own, wanted[rows], beta=1 / 9, reduction="sum") / len(classes)`'],
)  # fmt: skip
def box_loss(deltas, classes, wanted):
    """The box loss of S samples: smooth L1 with beta 1 / 9 of their own classes' deltas, summed, divided by S.

    deltas (S, C, 4), a set per class; classes (S,), 0: background, no box; wanted (S, 4). Both are times WEIGHTS.
    """
    rows = (classes > 0).nonzero()[:, 0]
    own = deltas[rows, classes[rows]]
    return F.smooth_l1_loss(own, wanted[rows], beta=1 / 9, reduction="sum") / len(classes)


def moved_by_hand(box: list[float], delta: list[float], size: tuple[int, int]) -> list[float]:
    sides = [box[2] - box[0], box[3] - box[1]]
    middle = [box[k] + sides[k] / 2 + delta[k] / 10 * sides[k] for k in (0, 1)]
    half = [sides[k] * math.exp(delta[2 + k] / 5) / 2 for k in (0, 1)]
    corners = [middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1]]
    return [min(max(value, 0.0), float(size[1 - k % 2])) for k, value in enumerate(corners)]


def found_by_loop(scores, deltas, proposals, size, min_score, min_size, nms_iou, most):
    found, kept = [], []
    for row, label in scores[:, 1:].gt(min_score).nonzero().tolist():
        x1, y1, x2, y2 = moved = moved_by_hand(proposals[row].tolist(), deltas[row, label + 1].tolist(), size)
        found += [(moved, label + 1, float(scores[row, label + 1]))] * (min(x2 - x1, y2 - y1) >= min_size)
    for each in sorted(found, key=lambda each: -each[2]):
        if not any(each[1] == other[1] and overlap(each[0], other[0]) > nms_iou for other in kept):
            kept.append(each)
    return tuple(torch.tensor(part) for part in zip(*kept[:most], strict=True))


def predicted(n: int, size: tuple[int, int], *limits: float, most: int) -> tuple:
    """n proposals in heaps, some beyond the picture's edge; no two scores alike, one of them exactly the threshold."""
    proposals = random_boxes(n // 3, n).repeat(3, 1) + some(n, 4)
    scores, deltas = (1.5 * some(n, 4, seed=n)).softmax(1), some(n, 4, 4, seed=n + 1)
    proposals[:3], deltas[:3] = torch.tensor([[1.0, 30, 79, 36], [-20, 40, 10, 50], [-2, 40, 10, 50]]), 0.0
    scores[0, 1], scores[1, 2], scores[2, 2] = limits[0], 0.9, 0.8  # 1 and 2 are alike when clipped, not before
    return scores, deltas, proposals, size, *limits, most


@exercise(
    cases=lambda: [predicted(24, (70, 90), 0.25, 4.0, 0.5, most=9), predicted(18, (95, 80), 0.125, 0.01, 0.3, most=99)],
    truth=found_by_loop,
    mistakes={
        "    labels = labels + 1\n ⇒ ": "classes are one too low: without background, column 0 is class 1",
        ("(scores[:, 1:] > ⇒ (scores >", "    labels = labels + 1\n ⇒ "): "class 0, background, is among the results",
        "(scores[:, 1:] > min_score) ⇒ ((scores[:, 1:] > min_score) & (scores[:, 1:] == scores[:, 1:].amax(1, True)))":
        "only the best class of each proposal was kept: every class above the threshold is a result of its own",
        ("    labels = labels + 1\n ⇒ ", "scores[rows, labels] ⇒ scores[rows, labels + 1]"):
        "column 0 of `scores[:, 1:]` is class 1: deltas and labels must know it too",
        "labels[keep] ⇒ labels[keep] - 1": "boxes and scores are right, the labels one too low: background is class 0",
        "> min_score ⇒ >= min_score": "a score of exactly `min_score` is not above it: compare with >",
        "deltas[rows, labels] ⇒ deltas[rows, labels - 1]": "these deltas are of the class before: class c has set c",
        "deltas[rows, labels] ⇒ deltas[rows, 1]": "each result is moved by the deltas of its own class",
        "proposals[rows], WEIGHTS ⇒ proposals[rows], (1.0, 1.0, 1.0, 1.0)": "the deltas come multiplied by WEIGHTS",
        "box_maths.clip(boxes, size) ⇒ boxes": "boxes reach beyond the picture: clip them",
        ("box_maths.clip(boxes, size) ⇒ boxes", "return boxes[keep] ⇒ return box_maths.clip(boxes[keep], size)"):
        "clipped too late: the least side and NMS are about the clipped boxes",
        "nms(boxes, ⇒ nms(proposals[rows][large],": "NMS compares the MOVED boxes, not the proposals",
        "clip(boxes, size) ⇒ clip(boxes, size[::-1])": "`size` is (height, width) already, as clip wants it",
        "box_maths.large_enough(boxes, min_size) ⇒ scores > 0": "boxes with a side below `min_size` are still there",
        "batched_nms(boxes, scores, labels, nms_iou) ⇒ nms(boxes, scores, nms_iou)": "a box struck out another class's",
        "[:most] ⇒ ": "there may be `most` results at most, the best of them",
        "keep = ops ⇒ best = scores.argsort(descending=True)[:most]\n    boxes, labels, scores = boxes[best], "
        "labels[best], scores[best]\n    keep = ops": "the best `most` were taken BEFORE NMS, doubles among them",
    },
    hints=["Which pairs of proposal and class have a score above the threshold? Where is background?",
        "`rows, labels = (scores[:, 1:] > min_score).nonzero(as_tuple=True)`; labels + 1; decode, clip, size, NMS.",
        "`keep = ops.batched_nms(boxes, scores, labels, nms_iou)[:most]`; it comes by falling score."],
)  # fmt: skip
def detections(scores, deltas, proposals, size, min_score=0.05, min_size=0.01, nms_iou=0.5, most=100):
    """Boxes (K, 4), labels (K,), int64, and scores (K,) of a picture of `size` (height, width), by falling score.

    scores (P, C), deltas (P, C, 4), proposals (P, 4). box_maths has decode(deltas, boxes, WEIGHTS), clip(boxes, size)
    and large_enough(boxes, min_size); ops.batched_nms(boxes, scores, labels, nms_iou) gives the rows left, best first.
    """
    rows, labels = (scores[:, 1:] > min_score).nonzero(as_tuple=True)
    labels = labels + 1
    boxes = box_maths.decode(deltas[rows, labels], proposals[rows], WEIGHTS)
    boxes, scores = box_maths.clip(boxes, size), scores[rows, labels]
    large = box_maths.large_enough(boxes, min_size)
    boxes, labels, scores = boxes[large], labels[large], scores[large]
    keep = ops.batched_nms(boxes, scores, labels, nms_iou)[:most]
    return boxes[keep], labels[keep], scores[keep]


def pairs_by_loop(proposals: Tensor, moved: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    pairs = []
    for old, new in zip(proposals.tolist(), moved.tolist(), strict=True):
        best = max(boxes.tolist(), key=lambda box: overlap(old, box))
        pairs += [[overlap(old, best), overlap(new, best)]] * (overlap(old, best) >= 0.5)
    return tuple(torch.tensor(pairs).unbind(1))


@exercise(
    cases=lambda: [(PROPOSALS, torch.cat([OBJECTS[:1].repeat(4, 1), OBJECTS[2:3] + 6.0]), OBJECTS)],
    truth=pairs_by_loop,
    mistakes={
        "[rows, objects[rows]] ⇒ .amax(1)[rows]": "a box that went to a neighbour is no better for it: keep its object",
        "best >= 0.5 ⇒ best >= 0": "only proposals with an IoU of 0.5 or more before the move count",
        "best >= 0.5 ⇒ best > 0.5": "an IoU of exactly 0.5 is enough: compare with >=",
        "best, objects ⇒ a, b = (box_maths.iou(each, boxes) for each in (proposals, moved))\n    return a[a >= 0.5], "
        "b[a >= 0.5]\n    best, objects": "a proposal on two objects was counted twice: it has one object, its best",
        "(best >= 0.5) ⇒ (box_maths.iou(moved, boxes).amax(1) >= 0.5)": "the IoU BEFORE the move decides who counts",
    },
    hints=["Which object does each proposal have before it moves? That stays its object.",
        "Two tables of IoUs, before and after; from the second take row r, column objects[r].",
        "`after = box_maths.iou(moved, boxes)[rows, objects[rows]]`"],
)  # fmt: skip
def before_and_after(proposals, moved, boxes):
    """Of proposals (P, 4) that have an IoU of 0.5 or more with their best object: that IoU, and it after the move.

    moved (P, 4): the same proposals, moved; boxes (G, 4): the objects.
    """
    best, objects = box_maths.iou(proposals, boxes).max(1)
    rows = (best >= 0.5).nonzero()[:, 0]
    after = box_maths.iou(moved, boxes)[rows, objects[rows]]
    return best[rows], after


def binned_by_loop(scores: Tensor, right: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    heaps = [[] for _ in range(bins)]
    for score, hit in zip(scores.tolist(), right.tolist(), strict=True):
        heaps[next(b for b in reversed(range(bins)) if score >= b / bins)].append((score, hit))
    mean = [[sum(pair[k] for pair in heap) / len(heap) if heap else math.nan for heap in heaps] for k in (0, 1)]
    return torch.tensor([len(heap) for heap in heaps]), torch.tensor(mean[0]), torch.tensor(mean[1])


@exercise(
    cases=lambda: [
        (torch.tensor([0.0, 0.125, 0.25, 0.375, 0.875, 0.9375, 1.0]), torch.tensor([0, 1, 0, 1, 1, 0, 1]).bool(), 4),
        (torch.tensor([0.1, 0.3, 0.2, 0.15]), torch.tensor([True, False, True, False]), 2),
    ],
    truth=binned_by_loop,
    mistakes={
        ".clamp(max=bins - 1) ⇒ ": "a score of exactly 1 has no bin: it belongs to the last one",
        "(scores * bins).long() ⇒ ((scores * bins).ceil().long() - 1).clamp(min=0)": "a border is its UPPER bin's",
        "right.float(), bins) / counts ⇒ right.float(), bins) / len(right)": "divide by the number in THAT bin",
        "torch.bincount(place, scores, bins) / counts ⇒ (torch.arange(bins) + 0.5) / bins": "take the MEAN score",
        "/ counts ⇒ / counts.clamp(min=1)": "an empty bin has no mean and no share: NaN, which 0 / 0 gives by itself",
        "right.float(), bins) / counts ⇒ right.float(), bins)": "the SHARE that is right: divide by the bin's number",
        "(scores * bins).long() ⇒ (scores * bins).round().long()": "round down to the bin, not to the nearest",
    },
    hints=["Which bin does a score of 0.3 belong to if there are 10? Of exactly 1?",
        "place = (scores * bins).long(), at most bins - 1. How many have each place, and what do their scores sum to?",
        "`torch.bincount(place, weights, bins)` sums the weights of each place: None, `scores` or `right.float()`."],
)  # fmt: skip
def reliability(scores, right, bins):
    """Three tensors (bins,): how many scores a bin has, their mean, and the share that is right; NaN in an empty bin.

    scores (K,), 0 to 1; right (K,), bool. Bin b has scores from b / bins to below (b + 1) / bins; the last has 1 too.
    """
    place = (scores * bins).long().clamp(max=bins - 1)
    counts = torch.bincount(place, minlength=bins)
    return counts, torch.bincount(place, scores, bins) / counts, torch.bincount(place, right.float(), bins) / counts
