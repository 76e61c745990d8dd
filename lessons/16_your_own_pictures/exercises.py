"""Your own pictures: what the learner writes, and the polygons that were written for it."""

import numpy as np
import torch
from pycocotools import mask as rle
from torch import Tensor, nn

from mrcnn.lab.check import exercise

# Two parts of a photograph of a wall: x, y, width, height. The line between them runs through mortar, not brick.
LEFT, RIGHT = (0, 264, 258, 242), (258, 264, 248, 242)

# The corners of each brick, x,y in its part. In the left one two are missing, which the learner draws.
LEFT_CORNERS = """
4,0 36,0 28,53 0,56 | 41,0 71,0 68,27 38,27
77,0 108,0 103,54 71,54 | 114,0 145,0 144,26 112,26
150,0 181,0 179,52 149,52 | 187,0 217,0 217,89 184,89
224,0 253,2 255,121 223,121 | 36,35 68,34 55,159 21,161
148,61 179,59 176,190 141,190 | 72,61 103,59 94,188 59,190
0,61 27,61 19,118 0,121 | 224,130 255,127 258,242 223,242
0,130 18,128 6,242 0,242 | 102,166 135,166 133,242 98,242
19,171 54,168 45,242 11,242 | 58,197 92,195 90,242 54,242
141,202 175,202 174,242 138,242
"""
RIGHT_CORNERS = """
0,0 33,0 33,28 1,28 | 73,0 103,0 112,91 80,91
108,0 136,0 151,118 119,118 | 141,0 172,0 177,33 145,33
177,0 207,0 219,64 187,65 | 212,0 243,0 248,29 248,97 228,93
38,2 67,2 77,125 42,121 | 1,34 33,34 39,158 4,158
148,38 178,39 196,166 162,166 | 187,71 220,70 229,129 197,131
81,100 112,99 125,234 89,237 | 229,104 248,104 248,203
121,128 152,126 165,242 131,242 | 42,129 76,132 81,195 47,194
197,136 230,138 248,242 213,242 | 5,165 40,165 42,242 8,242
164,175 197,173 207,242 171,242 | 46,202 81,203 84,242 50,242
"""


def polygons(corners: str) -> list[list[int]]:
    """As COCO has them: [x1, y1, x2, y2, ...]."""
    bricks = corners.strip().replace("|", "\n").split("\n")
    return [[int(number) for number in brick.replace(",", " ").split()] for brick in bricks]


FINE = 50  # pycocotools counts pixels: of polygons so many times as large, it counts finely


def counted_finely(pieces: list[list[float]]) -> tuple[list[float], float]:
    """By pycocotools, which draws the polygons and counts."""
    large = [[FINE * value for value in piece] for piece in pieces]
    codes = rle.frPyObjects(large, 80 * FINE, 80 * FINE)
    box = [round(float(value) / FINE, 1) for value in rle.toBbox(rle.merge(codes))]
    return box, float(sum(rle.area(code) for code in codes)) / FINE**2


TURNED = [12, 20, 30, 12, 40, 30, 22, 38]  # a brick, aslant
PIECES = [[5, 5, 5, 25, 15, 25, 15, 5], [20, 10, 44, 10, 44, 30, 20, 30]]  # one brick behind a pole, one piece each way


@exercise(
    cases=lambda: [([TURNED],), ([[3, 7, 8, 9, 5, 14]],), (PIECES,)],
    truth=counted_finely,
    tolerance=0.01,
    mistakes={
        "right - left, low - high ⇒ right, low": "that is x1, y1, x2, y2, the library's own boxes. COCO's files have "
        "x, y, WIDTH, HEIGHT",
        "in pieces) / 2 ⇒ in pieces)": "the area is twice as large as it should be: a cross product is the area of a "
        "parallelogram, so halve the sum",
        "in pieces) / 2 ⇒ in pieces) // 2": "half a pixel is gone: an area need not be a whole number, so `/ 2`",
        "abs(cross(piece)) ⇒ cross(piece)": "an area is negative, or two pieces cancel: clicked the other way round, a "
        "polygon's sum has a minus. Take abs of each piece",
        "for piece in pieces) / 2 ⇒ for piece in pieces[:1]) / 2": "only the first polygon was measured; the area is "
        "that of all the pieces together",
        ("= [x for piece in pieces for x in piece[::2]] ⇒ = pieces[0][::2]",
         "= [y for piece in pieces for y in piece[1::2]] ⇒ = pieces[0][1::2]"): "the box is around the first polygon "
        "only; it must hold all the pieces",
        "sum(abs(cross(piece)) for piece in pieces) / 2 ⇒ (right - left) * (low - high)": "that is the area of the "
        "box. The area is the polygon's own",
        "left, right, high, low = min(xs), max(xs), min(ys), max(ys) ⇒ left, right, high, low = min(ys), max(ys), "
        "min(xs), max(xs)": "x and y are swapped: a polygon is x, y, x, y, …, and x runs to the right",
    },
    hints=[
        "Which of the numbers of a polygon are x, and which are y? What do the smallest and the largest of them tell?",
        "`xs` of all pieces: `[x for piece in pieces for x in piece[::2]]`; y begins at 1. The box is `[min(xs), "
        "min(ys), max(xs) - min(xs), max(ys) - min(ys)]`.",
        "`area = sum(abs(cross(piece)) for piece in pieces) / 2`",
    ],
)  # fmt: skip
def box_and_area(pieces):
    """COCO's bbox [x, y, width, height] and the area of one thing, given as a list of polygons [x1, y1, x2, y2, ...].

    cross(polygon) adds up x1 · y2 - x2 · y1 over its sides: twice its area, or minus that.
    """
    xs = [x for piece in pieces for x in piece[::2]]
    ys = [y for piece in pieces for y in piece[1::2]]
    left, right, high, low = min(xs), max(xs), min(ys), max(ys)
    area = sum(abs(cross(piece)) for piece in pieces) / 2
    return [left, high, right - left, low - high], area


def cross(polygon: list[float]) -> float:
    """The sum of x1 · y2 - x2 · y1 over a polygon's sides."""
    x, y = np.array(polygon, dtype=float).reshape(-1, 2).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1))


@exercise(
    cases=lambda: [([7], [7, 7, 7]), ([90, 3, 41], [41, 90, 3, 3]), ([12, 5, 8, 30], [30, 8, 30])],
    truth=lambda categories, ids: (np.searchsorted(np.sort(categories), ids) + 1).tolist(),
    mistakes={
        "sorted(categories) ⇒ categories": "the labels follow the file's order; it is the ids' order that counts: sort",
        ", start=1 ⇒ ": "the first category got 0, and 0 is the background: count from 1",
        "[labels[number] for number in ids] ⇒ list(ids)": "the ids were taken as they are: the model has one output "
        "per category, and would need 91 for an id of 90",
        "sorted(categories) ⇒ sorted(set(ids))": "only the categories of these annotations were counted: one that has "
        "none here still has its label",
    },
    hints=[
        "Three categories, ids 90, 3 and 41: which labels must there be? Which id is the first?",
        "Make a dict from each id to its place in the sorted list, and look every id up in it.",
        "`labels = {number: label for label, number in enumerate(sorted(categories), start=1)}`",
    ],
)
def labels_of_ids(categories, ids):
    """The label of each annotation: a list of numbers from 1, in the order of the category ids.

    categories: the ids of all categories, as they stand in the file. ids: of each annotation, its category's.
    """
    labels = {number: label for label, number in enumerate(sorted(categories), start=1)}
    return [labels[number] for number in ids]


def pixel_by_pixel(test: list[list[int]], train: list[list[int]]) -> list[float]:
    def pixels(windows):
        return {(a, b) for x, y, w, h in windows for a in range(x, x + w) for b in range(y, y + h)}

    return [len(pixels([each]) & pixels(train)) / len(pixels([each])) for each in test]


WINDOWS = [[0, 0, 8, 4], [4, 2, 8, 6], [30, 0, 5, 20]]


@exercise(
    cases=lambda: [
        ([[2, 1, 6, 4], [12, 0, 4, 4], [0, 5, 3, 3]], WINDOWS), ([[28, 2, 4, 10], [6, 0, 4, 8]], WINDOWS),
        ([[0, 0, 40, 24]], WINDOWS), ([[1, 1, 3, 3]], []),
    ],
    truth=pixel_by_pixel,
    mistakes={
        "painted[y : y + h, x : x + w] = True ⇒ painted[y:h, x:w] = True": "width and height were taken for the lower "
        "right corner: a window ends at x + width, y + height",
        "painted[y : y + h, x : x + w] = True ⇒ painted[x : x + w, y : y + h] = True": "rows and columns are swapped: "
        "the rows are y, and come first",
        "= torch.zeros(1000, 1000, dtype=torch.bool) ⇒ = torch.zeros(1000, 1000)\n    add = lambda y, x, w, h: "
        "painted[y : y + h, x : x + w].add_(1)\n    for x, y, w, h in train:\n        add(y, x, w, h)\n    train = "
        "[]": "where two training windows overlap, pixels were counted twice: a pixel is seen, or it is not",
        "return [ ⇒ if len(train) > 1:\n        return [max(seen([each], [one])[0] for one in train) for each in "
        "test]\n    return [": "only the training window that covers most was counted: two may each cover a part of it",
        ".float().mean() ⇒ .float().amax()": "one seen pixel made the whole window seen; the share is wanted",
        ".float().mean() ⇒ .float().sum()": "that is the number of pixels: divide by how many the test window has",
        "[float( ⇒ [1 - float(": "that is the share that is NEW; the share that was seen is wanted",
    },
    hints=[
        "If you had the photograph on paper, how would you mark what training has seen?",
        "Make a map of False as large as the photograph, and set it True in each training window: `painted[y : y + h, "
        "x : x + w] = True`.",
        "The share is the mean of the map within the test window: `painted[y : y + h, x : x + w].float().mean()`.",
    ],
)  # fmt: skip
def seen(test, train):
    """Of each test window, the share of its pixels, from 0 to 1, that lies in one or more training windows: a list.

    Windows are [x, y, width, height] in one photograph of at most 1000 × 1000 pixels.
    """
    painted = torch.zeros(1000, 1000, dtype=torch.bool)
    for x, y, w, h in train:
        painted[y : y + h, x : x + w] = True
    return [float(painted[y : y + h, x : x + w].float().mean()) for x, y, w, h in test]


def as_torch_loads(wanted: dict, given: dict, others: tuple[str, ...]) -> list[bool]:
    """One tensor at a time: does torch take it?"""
    taken = []
    for name, shape in wanted.items():
        module = nn.Module()
        module.register_parameter("weight", nn.Parameter(torch.zeros(shape)))
        means_the_same = not [prefix for prefix in others if name[: len(prefix)] == prefix]
        try:
            module.load_state_dict({"weight": torch.zeros(given[name])} if means_the_same else {})
            taken.append(True)
        except (KeyError, RuntimeError):
            taken.append(False)
    return taken


NEW = {"backbone.conv": (8, 3, 3, 3), "rpn.cls": (3, 8), "box.fc": (16, 8), "box_predictor.cls": (7, 16),
       "box_predictor.box": (28, 16), "mask_predictor.logits": (7, 4), "extra.bias": (16,)}  # fmt: skip
OLD = NEW | {"box.fc": (16, 12), "rpn.cls": (8, 3), "old.bias": (16,)}  # turned and wider layers, another bias
del OLD["extra.bias"]


@exercise(
    cases=lambda: [
        (NEW, OLD, ("box_predictor.", "mask_predictor.")), (NEW, OLD, ()), (NEW, NEW | {"rpn.cls": (3, 9)}, ("mask",)),
        ({"a.x": (2,), "bb.a.x": (2,)}, {"a.x": (2,), "bb.a.x": (2,)}, ("a.",)),
    ],
    truth=as_torch_loads,
    mistakes={
        "name in given and given[name] == shape ⇒ name in given": "the name is the same, but not the shape, and torch "
        "would refuse it: compare the shapes too",
        " and not name.startswith(others) ⇒ ": "outputs of the same shape were taken over although they mean something "
        "else: six old names for six new ones",
        "for name, shape in wanted.items() ⇒ for name, shape in given.items() if name in wanted": "it went through the "
        "file's tensors; one answer is wanted for each tensor of the new model",
        "given[name] == shape ⇒ sorted(given[name]) == sorted(shape)": "as many values, but in another shape: torch "
        "would refuse it",
        "name in given and given[name] == shape ⇒ shape in given.values()": "a shape that the file has under ANOTHER "
        "name is another layer: the names must agree",
        "not name.startswith(others) ⇒ not any(part in name for part in others)": "a name counts that has the words in "
        "its middle: they must stand at its start",
    },
    hints=[
        "Three things must hold for a tensor to be taken over. Which?",
        "`name in given`, `given[name] == shape`, and no start of `others`: `str.startswith` takes a tuple.",
        "`[name in given and given[name] == shape and not … for name, shape in wanted.items()]`",
    ],
)  # fmt: skip
def taken_over(wanted, given, others):
    """For each tensor of the new model, in order, whether the file's is taken over: a list of True and False.

    wanted, given: dicts from name to shape. others: a tuple of words; a name that starts with one of them is of outputs
    that mean other things now, and start afresh.
    """
    return [
        name in given and given[name] == shape and not name.startswith(others) for name, shape in wanted.items()
    ]  # fmt: skip


def tried_one_by_one(scores: Tensor, hits: Tensor, objects: int) -> float:
    """F1 as the harmonic mean of precision and recall, at every score."""
    best = (-1.0, 0.0)
    for score in sorted(set(scores.tolist())):
        kept = [hit for each, hit in zip(scores.tolist(), hits.tolist(), strict=True) if each >= score]
        precision, recall = sum(kept) / len(kept), sum(kept) / objects
        best = max(best, (2 / (1 / precision + 1 / recall) if recall else 0.0, score))
    return best[1]


SCORES = torch.tensor([0.96, 0.91, 0.91, 0.74, 0.52, 0.52, 0.23, 0.13])  # on no grid that one would try


@exercise(
    cases=lambda: [
        (SCORES, torch.tensor([1, 0, 0, 1, 1, 1, 0, 0]).bool(), 5),
        (SCORES, torch.tensor([0, 1, 1, 1, 0, 0, 1, 0]).bool(), 4),
        (SCORES, torch.tensor([1, 1, 0, 0, 0, 0, 1, 0]).bool(), 10),
        (SCORES, torch.tensor([1, 0, 0, 0, 0, 0, 0, 0]).bool(), 1),
        (SCORES[:4], torch.tensor([1, 1, 1, 0]).bool(), 3),
        (SCORES[::2], torch.tensor([1, 0, 0, 1]).bool(), 2),
        (torch.tensor([0.9, 0.5, 0.5, 0.5]), torch.tensor([1, 1, 0, 0]).bool(), 2),
    ],
    truth=tried_one_by_one,
    mistakes={
        "return max(scores.tolist(), key=f1) ⇒ kept = torch.arange(1, len(scores) + 1)\n    return scores[(2 * "
        "hits.cumsum(0) / (kept + objects)).argmax()].item()": "no threshold parts equal scores: who keeps one of them "
        "keeps all",
        "scores >= score ⇒ scores > score": "a score of exactly the threshold is kept: >=",
        "2 * right / (int(kept.sum()) + objects) ⇒ right / int(kept.sum())": "that is precision alone: it likes to "
        "keep hardly anything",
        "2 * right / (int(kept.sum()) + objects) ⇒ right / objects": "that is recall alone: it likes to keep as much "
        "as possible",
        "max(scores.tolist(), key=f1) ⇒ max([step / 20 for step in range(20, -1, -1)], key=f1)": "F1 changes at the "
        "scores, so these are the thresholds to try: no even steps",
        "max(scores.tolist(), key=f1) ⇒ min(scores.tolist(), key=lambda s: (-f1(s), s))": "two scores are equally "
        "good: the HIGHER is wanted",
        "max(scores.tolist(), key=f1) ⇒ f1(max(scores.tolist(), key=f1))": "that is F1 itself: the score where it is "
        "highest is wanted",
        "+ objects) ⇒ + int(hits.sum()))": "objects that nothing found were forgotten: divide by kept + objects",
    },
    hints=[
        "Which thresholds are worth a try? Between two scores nothing changes.",
        "For one score: `kept = scores >= score`, and right are `(hits & kept).sum()`.",
        "Write `f1(score)`, and then `max(scores.tolist(), key=f1)`: of equals, `max` gives the first.",
    ],
)  # fmt: skip
def best_threshold(scores, hits, objects):
    """The score, a float, from which on to keep detections so that F1 = 2 · right / (kept + objects) is highest.

    scores: (N,), falling. hits: bool (N,), which are right. Of equally good scores the highest.
    """

    def f1(score):
        kept = scores >= score
        right = int((hits & kept).sum())
        return 2 * right / (int(kept.sum()) + objects)

    return max(scores.tolist(), key=f1)
