"""Masks, boxes, run lengths and polygons: what the learner writes."""

import math

import torch
from pycocotools import mask as rle
from torch import Tensor

from mrcnn.data import Playground
from mrcnn.lab.check import exercise


def shape(rows: str) -> Tensor:
    """A small mask, uint8 (H, W), from its rows: "#" is 1."""
    return torch.tensor([[letter == "#" for letter in row] for row in rows.split()], dtype=torch.uint8)


STAIRS = torch.stack([shape(rows) for rows in ("##... ##... .....", ".##.. .##.. .##..", "..### ..... ....#")])
HOLE = shape("......# .####.. .#..#.. .####.. .......")


def pixel_by_pixel(masks: Tensor, labels: Tensor) -> Tensor:
    """At each pixel, the label of the last mask that covers it."""
    _, height, width = masks.shape
    stacks = [[[0, *labels[masks[:, y, x] > 0].tolist()] for x in range(width)] for y in range(height)]
    return torch.tensor([[stack[-1] for stack in row] for row in stacks])


@exercise(
    cases=lambda: [(STAIRS, torch.tensor([4, 2, 4])), (STAIRS, torch.tensor([1, 6, 3])), (STAIRS[:0], torch.arange(0))],
    truth=pixel_by_pixel,
    mistakes={
        "zip(masks, labels, strict=True) ⇒ zip(masks, range(1, 9))": "it numbers the instances; a semantic map holds "
        "classes: write each mask's label",
        "= label ⇒ = 1": "every thing became 1: write the label of its class",
        "semantic[mask.bool()] = label ⇒ semantic = mask * label": "each mask wipes out all that was laid before it",
        "] = label ⇒ ] += label": "where two masks overlap, their labels are added: the later row is to lie on top",
        "zip(masks, labels, strict=True) ⇒ list(zip(masks, labels))[::-1]": "where two masks overlap, the earlier row "
        "lies on top: it should be the later one",
        "semantic[mask.bool()] = label ⇒ semantic = torch.maximum(semantic, mask * label)": "where two masks overlap, "
        "the larger label wins: the later row is to lie on top, whatever its label",
    },
    hints=[
        "What does the map hold before any mask is laid on it? What does one mask change?",
        "Begin with zeros of shape (H, W), and lay the masks on it one after another, as if they were paper.",
        "`for mask, label in zip(masks, labels): semantic[mask.bool()] = label`",
    ],
)  # fmt: skip
def semantic_map(masks, labels):
    """The class at each pixel, int64 (H, W), from masks (K, H, W) of 0 and 1 and labels (K,). Background is 0.

    Where masks overlap, the later row lies on top.
    """
    semantic = torch.zeros(masks.shape[1:], dtype=torch.int64)
    for mask, label in zip(masks, labels, strict=True):
        semantic[mask.bool()] = label
    return semantic


def box_by_loop(mask: Tensor) -> Tensor:
    """The square of every pixel (x, y) goes from (x, y) to (x + 1, y + 1); the box holds them all."""
    squares = [(x, y, x + 1, y + 1) for y, row in enumerate(mask.tolist()) for x, value in enumerate(row) if value]
    x1, y1, x2, y2 = zip(*squares, strict=True) if squares else [[0]] * 4
    return torch.tensor([min(x1), min(y1), max(x2), max(y2)], dtype=torch.float32)


@exercise(
    cases=lambda: [(each,) for each in (*STAIRS, HOLE, HOLE * 0, HOLE * 0 + 1, shape("... .#. ..."))],
    truth=box_by_loop,
    mistakes={
        ("xs.max() + 1 ⇒ xs.max()", "ys.max() + 1 ⇒ ys.max()"): "x2 and y2 are the last pixel's numbers, as in "
        "torchvision's masks_to_boxes. Ours go to the pixel's far edge: one more",
        "ys, xs = ⇒ xs, ys =": "x and y are swapped: a mask's first dimension is its rows, which are y",
        ("xs.max() + 1 ⇒ xs.max() + 1 - xs.min()", "ys.max() + 1 ⇒ ys.max() + 1 - ys.min()"): "that is x, y, width, "
        "height, as COCO's files have it. Ours is two corners: x1, y1, x2, y2",
        ("xs.min() ⇒ xs[0]", "xs.max() ⇒ xs[-1]"): "pixels come row by row: the leftmost may be in any row",
        "not len(xs) ⇒ not len(xs) or xs.min() == xs.max()": "a mask that is one pixel wide is not empty",
        "    if not len(xs):\n        return torch.zeros(4)\n ⇒ ": "right for masks with pixels. An empty one has no "
        "first pixel: its box is four zeros",
    },
    hints=[
        "Which pixels of the mask are the first and the last in x? And in y? Where does the last pixel end?",
        "`ys, xs = mask.nonzero(as_tuple=True)` gives row and column of every pixel that is 1.",
        "`torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).float()`, unless there are none",
    ],
)
def mask_to_box(mask):
    """The smallest box (4,) [x1, y1, x2, y2] around a mask (H, W) of 0 and 1. For an empty mask: four zeros.

    Pixel (x, y) covers the square from (x, y) to (x + 1, y + 1).
    """
    ys, xs = mask.nonzero(as_tuple=True)
    if not len(xs):
        return torch.zeros(4)
    return torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).float()


def by_changes(mask: Tensor) -> list[int]:
    """The places where the value changes, walking down the columns, and how far each is from the one before."""
    height, width = mask.shape
    walk = [0] + [int(mask[y, x]) for x in range(width) for y in range(height)]
    changes = [i for i in range(len(walk) - 1) if walk[i] != walk[i + 1]] + [height * width]
    return [b - a for a, b in zip([0, *changes], changes, strict=False)]


MASKS = (HOLE, 1 - HOLE, torch.zeros_like(HOLE), torch.ones_like(HOLE), shape("#..##"), shape(".# .# ##"))


@exercise(
    cases=lambda: [(each,) for each in MASKS],
    truth=by_changes,
    mistakes={
        "mask.T.flatten() ⇒ mask.flatten()": "it walks row by row; COCO walks column by column",
        "value = [0], 0 ⇒ value = [0], pixels[0]": "right where the first pixel is 0. The first number always counts "
        "zeros: where the mask begins with a 1, it is 0",
        "value = [0], 0 ⇒ value = [0], 1": "it begins by counting ones: the first number counts zeros",
        "        counts[-1] += 1 ⇒         else:\n            counts[-1] += 1": "each run but the first is one too "
        "short: the pixel at which it begins is part of it",
        "return counts ⇒ return counts[:-1]": "the last run is missing",
        "return counts ⇒ return counts[: len(counts) - 1 + value]": "the zeros after the last 1 are a run, too",
        "return counts ⇒ return sum(map(encode_runs, mask.split(1, 1)), []) if len(mask[0]) > 1 else counts": "it "
        "begins anew in each column: a run goes on from the foot of a column at the head of the next",
    },
    hints=[
        "Walking down the columns, what must you remember from one pixel to the next?",
        "`mask.T.flatten().tolist()` is the walk. Keep `counts = [0]` and the present `value`, at first 0.",
        "`if pixel != value: counts.append(0); value = pixel`, and then, for every pixel, `counts[-1] += 1`",
    ],
)  # fmt: skip
def encode_runs(mask):
    """The run lengths of a mask (H, W) of 0 and 1, a list of numbers: zeros, ones, zeros, ... down the columns."""
    pixels = mask.T.flatten().tolist()
    counts, value = [0], 0
    for pixel in pixels:
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


@exercise(
    cases=lambda: [(by_changes(each), *each.shape) for each in MASKS] + [([3, 0, 2, 4, 0, 1, 2], 3, 4)],
    truth=lambda counts, *size: torch.from_numpy(rle.decode(rle.frPyObjects({"size": size, "counts": counts}, *size))),
    mistakes={
        ".view(width, height).T ⇒ .view(height, width)": "it fills row by row; the runs go down the columns",
        ".view(width, height).T ⇒ .view(width, height)": "it lies on its side: its rows are the mask's columns",
        ".view(width, height).T ⇒ .view(height, width).T": "right for square masks only. Before it is turned, a row "
        "holds a column: view(width, height)",
        "% 2 ⇒ % 2 == 0": "zeros and ones are swapped: the first number counts zeros",
    },
    hints=[
        "[3, 2, 1] becomes 0 0 0 1 1 0: which value does run number i repeat?",
        "`values.repeat_interleave(torch.tensor(counts))` repeats each of some values as often as its count says.",
        "the values are `torch.arange(len(counts)) % 2`; then `.view(width, height).T`, as each column is a row there",
    ],
)
def decode_runs(counts, height, width):
    """The mask (height, width) of 0 and 1 that these run lengths, a list of numbers, were made from."""
    values = torch.arange(len(counts)) % 2
    pixels = values.repeat_interleave(torch.tensor(counts))
    return pixels.view(width, height).T.to(torch.uint8)


def by_turning(polygon: list[float], height: int, width: int) -> Tensor:
    """Stand in a pixel's middle and look along the outline, once around: did you turn around with it?"""
    corners = list(zip(polygon[::2], polygon[1::2], strict=True))
    inside = torch.zeros(height, width, dtype=torch.bool)
    for y in range(height):
        for x in range(width):
            angles = [math.atan2(b - y - 0.5, a - x - 0.5) for a, b in corners]
            steps = (b - a for a, b in zip(angles, angles[1:] + angles[:1], strict=True))
            inside[y, x] = abs(sum((step + math.pi) % (2 * math.pi) - math.pi for step in steps)) > math.pi
    return inside


# A corner at the height of a row's middle; a bay, and level sides; corners beyond the picture, the other way round.
KITE, BAY = [1.2, 4.5, 6.1, 1.3, 10.7, 4.5, 6.3, 9.2], [1.0, 1, 11, 1, 11, 8, 8, 8, 8, 4, 4, 4, 4, 8, 1, 8]
BEYOND = [13.3, 3.2, -2.2, -1.7, 5.7, 11.9]


@exercise(
    cases=lambda: [(KITE, 10, 12), (BAY, 9, 12), (BEYOND, 10, 12)],
    truth=by_turning,
    mistakes={
        (")[:, None] + 0.5 ⇒ )[:, None]", "(width) + 0.5 ⇒ (width)"): "it asks about the pixels' corners: "
        "their middles are at + 0.5",
        "crossed & (x < at) ⇒ crossed": "sides to the left of the middle count, too: you walk to the right only",
        "^= ⇒ |=": "a second crossing leads out again: each crossing turns inside into outside and back",
        ", points[1:] + points[:1], strict=True) ⇒ , points[1:])": "the last side is missing, from the last "
        "corner back to the first",
        "(y1 <= y) != (y2 <= y) ⇒ (min(y1, y2) <= y) & (y <= max(y1, y2))": "where a corner lies at the height of a "
        "row's middle, both of its sides count: let a side hold its upper end but not its lower one",
        "for (x1, y1), (x2, y2) ⇒ for (y1, x1), (y2, x2)": "x and y are swapped: a polygon is x, y, x, y, ...",
        "(y1 <= y) != (y2 <= y) ⇒ (y1 <= y) & (y < y2)": "sides that go up are left out: a side may go either way",
    },
    hints=[
        "Walk from the pixel's middle to the right, out of the picture. How many sides do you cross if it is inside?",
        "A side is met if one end is at or above y and the other is not, at x1 + (y - y1) * (x2 - x1) / (y2 - y1).",
        "`crossed = (y1 <= y) != (y2 <= y)`, and then `inside ^= crossed & (x < at)`",
    ],
)  # fmt: skip
def polygon_to_mask(polygon, height, width):
    """Bool (height, width): which pixels have their middles inside the polygon, a list [x1, y1, x2, y2, ...]."""
    points = list(zip(polygon[::2], polygon[1::2], strict=True))
    y, x = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
    inside = torch.zeros(height, width, dtype=torch.bool)
    for (x1, y1), (x2, y2) in zip(points, points[1:] + points[:1], strict=True):
        if y1 != y2:
            crossed = (y1 <= y) != (y2 <= y)
            at = x1 + (y - y1) * (x2 - x1) / (y2 - y1)
            inside ^= crossed & (x < at)
    return inside


def as_pycocotools_writes(counts: list[int]) -> list[int]:
    size = {"size": [sum(counts), 1], "counts": counts}
    return [character - 48 for character in rle.frPyObjects(size, sum(counts), 1)["counts"]]


LONG = [40, 3, 56, 20, 30, 21, 14, 1, 500, 17, 484, 2, 0, 9000]


@exercise(
    cases=lambda: [(LONG,), (by_changes(Playground(1, seed=1)[0][1]["masks"][0]),), ([7],), ([5, 16, 15],)],
    truth=as_pycocotools_writes,
    extra=True,
    mistakes={
        "if i > 2 ⇒ if i > 1": "the third number is the change, too: changes are written from the FOURTH on",
        "count - counts[i - 2] if i > 2 else count ⇒ count": "these are the numbers as they are, not their changes",
        "counts[i - 2] ⇒ counts[i - 1]": "that is the change from the number before, a run of the other value: "
        "take the one two before",
        "bits | 32 * more ⇒ bits": "nothing says where a number goes on: add 32 if more of it follows",
        "more = value != (-1 if bits & 16 else 0) ⇒ more = value not in (0, -1)": "it ends too soon: bit 16 of the "
        "last part is the sign, so 16 needs a second part, and so does -17",
    },
    hints=[
        "In Python, what are -3 & 31 and -3 >> 5? When does a number have nothing more to say but its sign?",
        "Take `bits, value = value & 31, value >> 5` until `value` is 0 and bit 16 of `bits` is 0, or both say minus.",
        "`more = value != (-1 if bits & 16 else 0)`, and then `parts.append(bits | 32 * more)`",
    ],
)
def compress(counts):
    """The parts, numbers from 0 to 63, in which COCO's string writes run lengths: a list."""
    parts = []
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            parts.append(bits | 32 * more)
    return parts
