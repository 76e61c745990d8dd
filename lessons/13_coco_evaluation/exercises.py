"""COCO evaluation: what the learner writes. Numbers are float64, and the truth is pycocotools' own."""

import numpy as np
import torch
from torch import Tensor

from mrcnn.lab import by_pycocotools
from mrcnn.lab.check import exercise

TINY = 2.0**-52  # what pycocotools adds below the line, against a division by zero
POINTS = torch.from_numpy(np.linspace(0, 1, 101))  # of recall, as pycocotools has them
SINGLE = "float32 has seven digits, and this must be right to the last of sixteen: make it float64, "


# Detection 0 is as near to object 0 as to 1, which 1 wants too; 2 reaches 0.5; 3 wants what 2 has; 4 the one left.
IOUS = torch.tensor(
    [[0.75, 0.75, 0.1, 0], [0.625, 0.875, 0.2, 0], [0, 0, 0.5, 0], [0, 0.1, 0.9, 0.25], [0.5, 0.6, 0.2, 0.8]]
)


@exercise(
    cases=lambda: [
        (IOUS, 0.5), (IOUS, 0.75), (IOUS.flip(1), 0.25), (torch.tensor([[0.5, 0.9, 0.7]]), 0.5),
        (torch.zeros(0, 3), 0.5), (torch.zeros(2, 0), 0.5),
    ],
    truth=by_pycocotools.matches,
    mistakes={
        "g not in objects and ⇒ ": "an object was found twice. The second detection of it must take another "
        "object, and is -1 if there is none",
        ("g not in objects and ⇒ ", "objects.append(max(free)[1] if free else -1) ⇒ best = max(free)[1] if free else -1"
        "; objects.append(-1 if best in objects else best)"): "the best object was taken already, and so nothing was "
        "found (Pascal VOC has it so). COCO takes the best of the objects that are still FREE",
        ("g not in objects and ⇒ ", "max(free)[1] ⇒ max(free, key=lambda each: each[0])[1]"): "an object was found "
        "twice: ask only those that are still free. (And of equal IoUs the later object)",
        "objects = [] ⇒ objects, t = [-1] * len(ious), ious.clone()\n    while t.numel() and t.max() >= threshold:\n"
        "        d, g = divmod(int(t.argmax()), t.shape[1])\n        objects[d], t[d], t[:, g] = g, -1, -1\n"
        "    return objects": "the pair with the largest IoU went first. The best SCORE does: row 0, then row 1, …",
        "value >= threshold ⇒ value > threshold": "an IoU of exactly the threshold reaches it: >=",
        "max(free)[1] ⇒ max(free, key=lambda each: each[0])[1]": "two objects have one IoU: the later is taken",
        "max(free)[1] ⇒ free[0][1]": "the first free object was taken; the one with the largest IoU should be",
        "value >= threshold ⇒ value >= 0.5": "the threshold is an argument; it is not always 0.5",
        " and value >= threshold ⇒ ": "an object was taken whose IoU is below the threshold",
        "in ious.tolist() ⇒ in ious.T.tolist()": "the detections choose, one row each; here the objects have chosen",
        "else -1 ⇒ else 0": "0 is the first object: a detection that finds none is -1",
    },
    hints=["Row by row: which objects may this detection still take? Which of them does it want?",
        "Keep the list of answers. An object may be taken if it is not in there and its IoU is >= the threshold.",
        "`free = [(value, g) for g, value in enumerate(row) if …]`; `max(free)` has the largest value, and of equal "
        "ones the larger g."],
)  # fmt: skip
def match(ious, threshold):
    """Which object each detection finds: a list of D numbers, -1 where there is none.

    ious: (D, G), the best score first; G may be 0. Of equal IoUs the later object, the larger number.
    """
    objects = []
    for row in ious.tolist():
        free = [(value, g) for g, value in enumerate(row) if g not in objects and value >= threshold]
        objects.append(max(free)[1] if free else -1)
    return objects


def counted_one_by_one(hits: Tensor, objects: int) -> tuple[Tensor, Tensor]:
    pairs = [(sum(hits.tolist()[:n]) / (n + TINY), sum(hits.tolist()[:n]) / objects) for n in range(1, len(hits) + 1)]
    return tuple(torch.tensor([pair[i] for pair in pairs], dtype=torch.float64) for i in (0, 1))


HITS = torch.tensor([1, 0, 0, 1, 1, 0, 1, 0], dtype=torch.bool)


@exercise(
    cases=lambda: [(HITS, 5), (~HITS, 7), (HITS[:0], 3)],
    truth=counted_one_by_one,
    tolerance=1e-16,  # TINY is twice that, and is felt after the first detection
    mistakes={
        ".double() ⇒ .float()": SINGLE + "with `.double()` before you count",
        "right / (right + wrong + TINY), right / objects ⇒ right / objects, right / (right + wrong + TINY)": "the two "
        "are swapped: precision is the first",
        ".cumsum(0) ⇒ ": "each detection on its own: what is right among ALL down to this one? cumsum",
        "right / objects ⇒ right / max(len(hits), 1)": "recall is the share of the OBJECTS that are found",
        "right / objects ⇒ right / hits.sum()": "recall divides by all objects, also those that nothing found",
        "(right + wrong + TINY) ⇒ max(len(hits), 1)": "the detections so far are what precision divides by: after the "
        "first it is 1, after the second 2",
        "right / (right ⇒ wrong / (right": "that is the share of the wrong ones",
        " + TINY ⇒ ": "TINY is missing, and the first precision is off in its last digit: right + wrong + TINY",
    },
    hints=["After each detection: how many were right so far, how many wrong?",
        "`hits.double().cumsum(0)` counts the right ones; of `~hits` the wrong ones.",
        "`right / (right + wrong + TINY)`, and `right / objects`"],
)  # fmt: skip
def precision_and_recall(hits, objects):
    """After each detection, of all down to this one: precision (N,) and recall (N,), float64.

    hits: bool (N,), the best score first. objects: how many there are. Use (right + wrong + TINY): pycocotools adds
    TINY, 2e-16, so as never to divide by zero, and we want its last digit.
    """
    right, wrong = hits.double().cumsum(0), (~hits).double().cumsum(0)
    return right / (right + wrong + TINY), right / objects


def looked_up(precision: Tensor, recall: Tensor, points: Tensor) -> Tensor:
    pairs = list(zip(precision.tolist(), recall.tolist(), strict=True))
    best = [max([0.0, *(p for p, r in pairs if r >= point)]) for point in points.tolist()]
    return torch.tensor(best, dtype=torch.float64)


@exercise(
    cases=lambda: [
        (*counted_one_by_one(HITS, 5), POINTS),
        (*counted_one_by_one(HITS[1:], 4), POINTS),
        (*counted_one_by_one(HITS[:0], 5), POINTS[:11]),
        (*counted_one_by_one(torch.ones(7).bool(), 20), POINTS),
    ],
    truth=looked_up,
    tolerance=1e-12,
    mistakes={
        ", dtype=torch.float64 ⇒ ": SINGLE + "by `dtype=torch.float64`",
        "recall >= point ⇒ recall > point": "a recall of exactly the point reaches it: >=",
        "recall >= point ⇒ recall >= point - 1e-9": "no slack at the points: pycocotools gives none",
        "recall >= point ⇒ recall <= point": "the wrong side: a cut must have AT LEAST this recall",
        "float(each.max()) ⇒ float(each[0])": "the precision where the point is first reached; a longer list may "
        "have a better one, and the best counts",
        "float(each.max()) ⇒ float(each[-1])": "that is the precision of the whole list, at every point",
        "float(each.max()) ⇒ float(each.mean())": "the best of these precisions is wanted, not their mean",
        "else 0.0 ⇒ else float(precision[-1:].sum())": "a recall that no cut reaches has precision 0, not the last one",
        " if len(each) else 0.0 ⇒ ": "some recalls are never reached, and nothing has no maximum: 0 there",
    },
    hints=["Of a point of recall, say 0.3: which cuts of the list find at least 0.3 of the objects?",
        "`precision[recall >= point]` are their precisions. The largest counts, or 0 if there are none.",
        "`[float(each.max()) if len(each) else 0.0 for each in …]`, made a tensor of `dtype=torch.float64`"],
)  # fmt: skip
def read_at(precision, recall, points):
    """Float64 (P,): at each of `points` (P,) of recall, the best precision with at least that recall; 0 if none.

    precision, recall: (N,), of a list cut after each of its N detections.
    """
    reached = [precision[recall >= point] for point in points]
    return torch.tensor([float(each.max()) if len(each) else 0.0 for each in reached], dtype=torch.float64)


def some_pictures() -> list[tuple[Tensor, Tensor]]:
    """Scores that tie, a picture where nothing was found, one where nothing is."""
    at = (torch.rand(5, generator=torch.Generator().manual_seed(3)).mul(4).round() / 4).sort(descending=True).values
    seconds = torch.tensor([0.9, 0.625, 0.125]).double()
    shapes = torch.tensor([[0.1, 0.7], [0.6, 0], [0, 0.3]], dtype=torch.float64)  # 0.7 is a threshold
    return [
        (at.double(), IOUS), (torch.zeros(0).double(), torch.zeros(0, 2)), (seconds, shapes),
        (torch.tensor([0.99, 0.5]).double(), torch.zeros(2, 0)),
    ]  # fmt: skip


@exercise(
    cases=lambda: [
        (some_pictures(), 0.5, POINTS), (some_pictures(), 0.7, POINTS), (some_pictures()[1:2], 0.5, POINTS),
        (some_pictures()[3:], 0.5, POINTS),
    ],
    truth=by_pycocotools.precisions,
    tolerance=1e-12,
    mistakes={
        "hits[order] ⇒ hits": "one picture came after the other: all detections go into ONE list, the best score first",
        "return read_at(*precision_and_recall(hits[order], objects), points) ⇒ return torch.stack([read_at("
        "*precision_and_recall(torch.tensor(match(i, threshold)) >= 0, i.shape[1]), points) for _, i in pictures "
        "if i.shape[1]]).mean(0)": "the mean of the pictures' curves: there is one curve, of ALL their detections",
        "objects) ⇒ int(hits.sum()) or 1)": "objects that nothing found count too: recall is of all of them",
        "for _, ious in pictures)\n ⇒ for _, ious in pictures if len(ious))\n": "in one picture nothing was found: its "
        "objects were missed, and count",
        "objects = ⇒ pictures = [each for each in pictures if each[1].shape[1]]; objects =": "pictures without an "
        "object were left out: what is found there is false, and counts",
        "(ious, threshold)) >= 0 ⇒ (ious, threshold)) > 0": "0 is the first object, and to find it is a hit: >= 0",
        "points, -1 ⇒ points, 0": "where there is no object nothing can be measured, which is -1, as 0 is a failure",
        "match(ious, threshold) ⇒ match(ious, 0.5)": "the threshold is an argument; it is not always 0.5",
        "descending=True ⇒ descending=False": "the best score comes first: falling",
        "descending=True, stable=True) ⇒ stable=True).flip(0)": "equal scores were turned round, too; they keep order",
        "scores.argsort(descending=True, stable=True) ⇒ sorted(range(len(hits)), key=lambda i: (-scores[i].item(), not "
        "hits[i]))": "of equal scores the hits went first, which flatters: keep them in the pictures' order",
    },
    hints=["How many objects are there in all? What do you know of each detection once it is matched in its picture?",
        "Join the scores, and of all detections whether they are hits, `torch.tensor(match(ious, threshold)) >= 0`. "
        "Sort the hits by score.",
        "`order = scores.argsort(descending=True, stable=True)`, then `read_at(*precision_and_recall(hits[order], "
        "objects), points)`"],
)  # fmt: skip
def class_precisions(pictures, threshold, points):
    """The precisions at `points` (P,) of recall, for one class, over all pictures; all -1 where there is no object.

    pictures: for each, scores (D,), falling, and IoUs (D, G) with its objects. Of equal scores the earlier picture's
    comes first.
    """
    objects = sum(ious.shape[1] for _, ious in pictures)
    if not objects:
        return torch.full_like(points, -1)
    scores = torch.cat([scores for scores, _ in pictures])
    hits = torch.cat([torch.tensor(match(ious, threshold)) >= 0 for _, ious in pictures])
    order = scores.argsort(descending=True, stable=True)
    return read_at(*precision_and_recall(hits[order], objects), points)


TABLE = torch.tensor([[[0.5, -1, 0], [1, -1, 0.25]], [[0, -1, 0], [0.75, -1, 0]]], dtype=torch.float64)


@exercise(
    cases=lambda: [(TABLE,), (TABLE[..., 1:2],), (TABLE[..., 2:],)],
    truth=lambda table: float(np.ma.masked_equal(table.numpy(), -1).mean().item()) if (table != -1).any() else -1.0,
    mistakes={
        "table[table > -1] ⇒ table.flatten()": "a -1 is no number to be averaged: leave the class out",
        "table[table > -1] ⇒ table.clamp(min=0).flatten()": "a -1 was counted as 0, a failure: leave the class out",
        "table > -1 ⇒ table > 0": "a 0 counts: there were objects, and they were not found at this recall",
        "else -1.0 ⇒ else 0.0": "where nothing could be measured the mean is -1, too",
        "np.mean(counted.numpy())) if len(counted) else -1.0 ⇒ counted.mean())": "where all is -1 nothing is left, and "
        "the mean of nothing is no number: -1 then",
    },
    hints=["What does a -1 in the table stand for? Should it have a part in the mean?",
        "`table[table > -1]` is a flat tensor of those that count. What if it is empty?",
        "`float(np.mean(counted.numpy())) if len(counted) else -1.0`: pycocotools takes numpy's mean, and torch's may "
        "round the last digit otherwise."],
)  # fmt: skip
def average(table):
    """The mean of what could be measured, a float; -1.0 if nothing could. table: precisions (T, P, K), -1 for none."""
    counted = table[table > -1]
    return float(np.mean(counted.numpy())) if len(counted) else -1.0


def some_masks(count: int, seed: int) -> Tensor:
    masks = torch.rand(count, 20, 30, generator=torch.Generator().manual_seed(seed)) < torch.linspace(
        0.3, 1, count
    ).view(-1, 1, 1)
    masks[0] = False
    return masks


@exercise(
    cases=lambda: [(some_masks(4, 0), some_masks(3, 1)), (some_masks(1, 2), some_masks(2, 3))],
    truth=by_pycocotools.mask_ious,
    tolerance=1e-12,
    mistakes={
        ".clamp(min=1) ⇒ ": "0 / 0 is no number: two empty masks have an IoU of 0",
        " - shared).clamp(min=1) ⇒ - shared + 1e-6)": "a small number below the line moves all IoUs; use .clamp(min=1)",
        " - shared) ⇒ )": "pixels in both were counted twice: the union is one area, plus the other, minus `shared`",
        "a.sum(1)[:, None] + b.sum(1) ⇒ a.sum(1)[:, None] + b.sum(1)[:1]": "each object has an area of its own",
        ".double() ⇒ .to(torch.uint8)": "these whole numbers end at 255, and areas are larger: use .double()",
        "shared / (a.sum(1)[:, None] + b.sum(1) - shared) ⇒ shared / b.sum(1)": "that is the share of the object that "
        "is covered; divide by the union",
        ".double() ⇒ .float()": SINGLE + "with `.double()`",
        "return shared / (a.sum(1)[:, None] + b.sum(1) - shared).clamp(min=1) ⇒ return (shared / (a.sum(1)[:, None] + "
        "b.sum(1) - shared).clamp(min=1)).T": "a row per detection, a column per object: this is the other way",
    },
    hints=["Two rows of zeros and ones: what is the sum of their products?",
        "Flatten the masks, and make them `.double()`. `a @ b.T` is (D, G): how many pixels each two share.",
        "`shared / (a.sum(1)[:, None] + b.sum(1) - shared).clamp(min=1)`"],
)  # fmt: skip
def mask_iou(a, b):
    """IoUs (D, G), float64, of masks a (D, H, W) and b (G, H, W), bool. Of two empty masks it is 0."""
    a, b = a.flatten(1).double(), b.flatten(1).double()
    shared = a @ b.T
    return shared / (a.sum(1)[:, None] + b.sum(1) - shared).clamp(min=1)


CROWDED = torch.tensor(
    [[0.6, 0.9, 0.9, 0], [0.5, 0.8, 0.8, 0], [0, 0.8, 0.8, 0], [0, 0.7, 0, 0.6], [0, 0, 0, 0.9], [0.9, 0, 0, 0]]
)


@exercise(
    cases=lambda: [
        (CROWDED, 0.5, [False, True, False, False], [False, True, False, True]),
        (CROWDED, 0.5, [False, False, False, False], [True, True, False, True]),
        (torch.tensor([[0.5]]), 0.5, [False], [False]),
    ],
    truth=by_pycocotools.fates,
    mistakes={
        ("real or other ⇒ real + other", "1 if real else -1 ⇒ -1 if ignored[chosen[1]] else 1"): "an object that "
        "counts goes before one that does not, even of a larger IoU",
        "value >= threshold ⇒ value > threshold": "an IoU of exactly the threshold reaches it: >=",
        "(crowd[g] or g not in taken) ⇒ crowd[g]": "an ignored object that is no crowd can be found, too",
        "0 if chosen is None else 1 if real else -1 ⇒ -1 if chosen is None else 1 if real else 0": "0 and -1 are "
        "swapped: what finds nothing is false, 0",
        "crowd[g] or g not in taken ⇒ g not in taken": "a crowd is many: it may be taken again and again",
        "crowd[g] or g not in taken ⇒ True": "an ignored object that is no crowd can be taken only once",
        "1 if real else -1 ⇒ 1": "a detection of an ignored object is no hit: it is -1, as if it were not there",
        "1 if real else -1 ⇒ 1 if real else 0": "a detection of an ignored object is not false: it is -1",
        "if not ignored[g] and g not in taken ⇒ if not ignored[g]": "an object that counts is found once",
    },
    hints=["Two lists of candidates for each detection: those that count and those that do not. Which is asked first?",
        "Only if no object that counts is free and near enough, look among the ignored: crowds, and those still free.",
        "`chosen = max(real or other, default=None)`; 0 for None, 1 if `real`, else -1."],
    extra=True,
)  # fmt: skip
def fates(ious, threshold, crowd, ignored):
    """Of each detection, a list: 1 a hit, 0 false, -1 not counted. ious: (D, G), the best score first.

    crowd, ignored: G times yes or no; every crowd is ignored too. Objects that count are taken first.
    """
    taken, found = set(), []
    for row in ious.tolist():
        near = [(value, g) for g, value in enumerate(row) if value >= threshold]
        real = [(value, g) for value, g in near if not ignored[g] and g not in taken]
        other = [(value, g) for value, g in near if ignored[g] and (crowd[g] or g not in taken)]
        chosen = max(real or other, default=None)
        found.append(0 if chosen is None else 1 if real else -1)
        taken.add(chosen[1] if chosen else None)
    return found
