"""RoIPool and RoIAlign: what the learner writes."""

import math

import torch
from torch import Tensor

from mrcnn import ops
from mrcnn.lab.check import exercise

BINS, SAMPLES = 3, 2
MAP = torch.tensor([[0.0, 3, 1, 8, 2], [7, 4, 9, 5, 6], [2, 6, 3, 1, 9], [8, 1, 7, 4, 5]])
POINTS = [(0.25, 1.75), (1.5, 2.0), (2.875, 0.375), (1.625, 3.25)]  # y, x: inside the map
EDGE = [(3.0, 4.0), (-0.5, 2.25), (3.75, 1.5), (1.5, -0.75), (0.25, 4.5)]
OUTSIDE = [(-1.25, 2.0), (1.0, -3.0), (4.5, 1.0), (2.0, 5.25)]
CORNERS = "the samples lie at the corners of their parts of the bin; they belong in the middle, at i + 0.5"


def feature_map() -> Tensor:
    return torch.randn(9, 12, generator=torch.Generator().manual_seed(7))


def roi_align(values: Tensor, box: Tensor, bins: int, samples: int) -> Tensor:
    """torchvision's, or the library's where there is none: one channel (H, W), one box (4,) in cells."""
    try:
        from torchvision.ops import roi_align as op
    except ImportError:
        op = ops.roi_align
    roi = torch.cat([torch.zeros(1), box])[None]
    return op(values[None, None], roi, (bins, bins), 1.0, samples, True)[0, 0]


def one_sample(values: Tensor, y: float, x: float) -> Tensor:
    """A RoI of no size has one sample, at its corner."""
    return roi_align(values, torch.tensor([x, y, x, y]) + 0.5, 1, 1)[0, 0]


@exercise(
    cases=lambda: [(MAP, *point) for point in POINTS + EDGE + OUTSIDE],
    truth=one_sample,
    mistakes={
        (
            "feature_map[top, left] ⇒ feature_map[left, top]",
            "feature_map[bottom, left] ⇒ feature_map[left, bottom]",
        ): "x and y are exchanged: the row comes first, feature_map[y, x]",
        "return (1 - (y - top)) * upper + (y - top) * lower ⇒ return feature_map[top, left]": "this is one cell's "
        "value. "
        "A sample lies between four cells",
        "(1 - (y - top)) * upper + (y - top) * lower ⇒ (y - top) * upper + (1 - (y - top)) * lower": "the weights of "
        "the "
        "rows are turned around: the nearer a row, the MORE it counts",
        "    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)\n ⇒ ": "wrong at the edge: a sample within "
        "one "
        "cell outside reads the border cell. Move y and x into the map first (step 2)",
        "min(top + 1, height - 1), min(left + 1, width - 1) ⇒ top + 1, left + 1": "it reads a row or column that the "
        "map "
        "does not have: in the last row the cell below is that row itself",
        "    if not (-1 <= y <= height and -1 <= x <= width):\n        return torch.tensor(0.0)\n ⇒ ": "wrong far "
        "from the "
        "map: a sample more than one cell outside counts as 0, and is not moved to the border",
    },
    hints=[
        "Which four cells lie around the point, and how near is each?",
        "x - left is how far it is from the left column: the right one counts that much, the left one 1 - (x - left).",
        "upper = (1 - (x - left)) * feature_map[top, left] + (x - left) * feature_map[top, right]; lower likewise",
    ],
)
def bilinear(feature_map, y, x):
    """The value of a map (H, W) at row y, column x, which are fractions."""
    height, width = feature_map.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return torch.tensor(0.0)
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = (1 - (x - left)) * feature_map[top, left] + (x - left) * feature_map[top, right]
    lower = (1 - (x - left)) * feature_map[bottom, left] + (x - left) * feature_map[bottom, right]
    return (1 - (y - top)) * upper + (y - top) * lower


@exercise(
    cases=lambda: [(feature_map(), torch.tensor([1.5, 0.75, 8.25, 6.0]), BINS, SAMPLES)],
    truth=roi_align,
    mistakes={
        "(box - 0.5) ⇒ box": "right shape, wrong values: did you leave out the half pixel? The tensor's coordinate "
        "is the "
        "drawing's - 0.5",
        "(box - 0.5) ⇒ (box - 1)": "the half pixel is taken off twice: once is enough",
        "out / samples**2 ⇒ out": "each bin is the sum of its samples: divide by how many there are",
        "(i + 0.5) * step_y, x1 + (j + 0.5) * step_x ⇒ i * step_y, x1 + j * step_x": CORNERS,
        "x1, y1, x2, y2 = ⇒ y1, x1, y2, x2 =": "x and y are exchanged: a box is x1, y1, x2, y2, and rows go with y",
        "out[p, q] ⇒ out[q, p]": "rows and columns of the result are exchanged",
        ("(x2 - x1) / (bins * samples) ⇒ (x2 - x1) / bins", "(y2 - y1) / (bins * samples) ⇒ (y2 - y1) / bins"): "a "
        "sample's part is 1 / (bins * samples) of the box's side, not 1 / bins",
    },
    hints=[
        "How long is one sample's part of the box, along x? Along y?",
        "Bin p has the samples i from p * samples on, samples of them; sample i lies at y1 + (i + 0.5) * step_y.",
        "Four loops: p, q, i, j. out[p, q] += bilinear(feature_map, y1 + (i + 0.5) * step_y, …); at last / samples**2",
    ],
)
def pool_one(feature_map, box, bins, samples):
    """RoIAlign of one channel (H, W) under one box (4,), in cells -> (bins, bins)."""
    x1, y1, x2, y2 = (box - 0.5).tolist()
    step_x, step_y = (x2 - x1) / (bins * samples), (y2 - y1) / (bins * samples)
    out = torch.zeros(bins, bins)
    for p in range(bins):
        for q in range(bins):
            for i in range(p * samples, (p + 1) * samples):
                for j in range(q * samples, (q + 1) * samples):
                    out[p, q] += bilinear(feature_map, y1 + (i + 0.5) * step_y, x1 + (j + 0.5) * step_x)
    return out / samples**2


def roi_pool(values: Tensor, box: Tensor, bins: int) -> Tensor:
    """torchvision's on the part of the map that the box covers, with a rim that no cell is smaller than."""
    try:
        from torchvision.ops import roi_pool as op
    except ImportError:
        return torch.tensor([[largest(values, box, bins, p, q) for q in range(bins)] for p in range(bins)])
    return op(values[None, None], torch.cat([torch.zeros(1), box])[None], (bins, bins), 1.0)[0, 0]


def largest(values: Tensor, box: Tensor, bins: int, p: int, q: int) -> float:
    """One bin of RoIPool, cell by cell."""
    x1, y1, x2, y2 = (math.floor(v + 0.5) for v in box.tolist())
    found = []
    for number, start, end in ((p, y1, y2), (q, x1, x2)):
        length = max(end - start + 1, 1)
        found.append(
            [start + c for c in range(length) if number * length // bins <= c < -(-(number + 1) * length // bins)]
        )
    inside = [
        values[y, x].item() for y in found[0] for x in found[1] if 0 <= y < len(values) and 0 <= x < values.shape[1]
    ]
    return max(inside, default=0.0)


@exercise(
    cases=lambda: [
        (feature_map(), torch.tensor([1.75, 0.6, 8.25, 6.7]), BINS),
        (feature_map()[:6, :6], torch.tensor([-3.0, -3, 3, 3]), BINS),
        (feature_map()[:6, :6], torch.tensor([2.0, 2, 9, 9]), BINS),
        (feature_map()[:6, :6], torch.tensor([-9.0, -9, -5, -5]), BINS),
        (feature_map()[:6, :6], torch.tensor([4.0, 1, 1, 4]), BINS),
    ],
    truth=roi_pool,
    mistakes={
        "cells.max() ⇒ cells.mean()": "each bin is the mean of its cells; RoIPool takes the largest",
        "out[p, q] ⇒ out[q, p]": "rows and columns of the result are exchanged",
        (
            "y2 - y1 + 1 ⇒ y2 - y1",
            "x2 - x1 + 1 ⇒ x2 - x1",
        ): "the last row and column are left out: cells are counted from round(x1) to round(x2), both included",
        "math.floor(v + 0.5) ⇒ math.floor(v)": "the box is cut off to whole cells, not rounded to the nearest",
        (
            "max(top, 0) : ⇒ top :",
            "max(left, 0) : ⇒ left :",
        ): "a slice from -1 begins at the LAST row: clip each bin's first row and column, `max(top, 0)`",
        (
            ": max(bottom, 0) ⇒ : bottom",
            ": max(right, 0) ⇒ : right",
        ): "a slice up to -1 ends before the LAST row: clip each bin's end too, `max(bottom, 0)`",
        (
            "rows, columns = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1) ⇒ rows, columns = y2 - y1 + 1, x2 - x1 + 1"
        ): "wrong for a box with x2 < x1: it still has one row and one column, `max(x2 - x1 + 1, 1)` of them",
        "            if cells.numel():\n                out ⇒             if True:\n                out": "a bin "
        "without cells "
        "is 0, and has no largest cell: ask first whether there are any (`cells.numel()`)",
    },
    hints=[
        "Where are the four corners after rounding? How many rows does the box then have?",
        "Bin p has the rows from y1 + p * rows // bins to before y1 + ceil((p + 1) * rows / bins).",
        "cells = feature_map[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)], and its max() if it has any",
    ],
    extra=True,
)
def roi_pool_one(feature_map, box, bins):
    """RoIPool of one channel (H, W) under one box (4,), in cells -> (bins, bins)."""
    x1, y1, x2, y2 = (math.floor(v + 0.5) for v in box.tolist())
    rows, columns = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
    out = torch.zeros(bins, bins)
    for p in range(bins):
        top, bottom = y1 + p * rows // bins, y1 + math.ceil((p + 1) * rows / bins)
        for q in range(bins):
            left, right = x1 + q * columns // bins, x1 + math.ceil((q + 1) * columns / bins)
            cells = feature_map[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
            if cells.numel():
                out[p, q] = cells.max()
    return out


def weights_by_probing(start: float, length: float, bins: int, samples: int, cells: int) -> Tensor:
    """Each cell in turn is 1 and all others 0: what the op then says is the cell's weight."""
    columns = []
    for cell in range(cells):
        values = torch.zeros(1, cells)
        values[0, cell] = 1
        box = torch.tensor([start + 0.5, 0.5, start + length + 0.5, 0.5])
        columns.append(roi_align(values, box, bins, samples)[0])
    return torch.stack(columns, dim=1)


@exercise(
    cases=lambda: [(1.25, 5.5, BINS, SAMPLES, 8), (-2.5, 6.0, BINS, SAMPLES, 8), (5.0, 4.5, BINS, SAMPLES, 8)],
    truth=weights_by_probing,
    mistakes={
        ".mean(1) ⇒ .sum(1)": "each bin is the mean of its samples' weights: divide by how many there are",
        "at.clamp(0, cells - 1)[:, None] ⇒ at[:, None]": "it has no edge: move a sample to the map first, with "
        "at.clamp(0, cells - 1)",
        " * inside[:, None] ⇒ ": "samples more than a cell outside the map count as 0, not as the border cell",
        "+ 0.5) * length ⇒ + 0.0) * length": CORNERS,
    },
    hints=[
        "Where do the bins * samples samples lie? How far is each from each cell?",
        "A table (samples, cells) of distances; 1 - distance where that is above 0; 0 for samples too far outside.",
        "weights.view(bins, samples, cells).mean(1)",
    ],
)
def axis_weights(start, length, bins, samples, cells):
    """How much of each cell is in each bin of a RoI along one axis -> (bins, cells)."""
    at = start + (torch.arange(bins * samples) + 0.5) * length / (bins * samples)  # (bins * samples,)
    inside = (at >= -1) & (at <= cells)
    distance = (at.clamp(0, cells - 1)[:, None] - torch.arange(cells)).abs()  # (bins * samples, cells)
    weights = (1 - distance).clamp(min=0) * inside[:, None]
    return weights.view(bins, samples, cells).mean(1)


def by_autograd(grad: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    values = torch.zeros(rows.shape[1], columns.shape[1], requires_grad=True)
    (rows @ values @ columns.T).backward(grad)
    return values.grad


@exercise(
    cases=lambda: [
        (torch.arange(9.0).view(3, 3), axis_weights(0.5, 4.0, 3, 2, 7), axis_weights(1.25, 5.5, 3, 2, 9)),
    ],
    truth=by_autograd,
    mistakes={
        "rows.T @ grad @ columns ⇒ columns.T @ grad @ rows": "rows and columns are exchanged: the rows' weights go on "
        "the left",
        "rows.T @ grad @ columns ⇒ (rows.T @ grad @ columns) * len(rows) ** 2": "too large: no factor is needed, the "
        "weights have the mean in them already",
        "rows.T @ grad ⇒ rows.T @ grad.T": "the gradient of the output is taken as it is, not transposed",
    },
    hints=[
        "The output is rows @ values @ columns.T. How much of the cell [y, x] is in the output [p, q]?",
        "rows[p, y] * columns[q, x]. So the cell's gradient is the sum over p and q of that times grad[p, q].",
        "A sum over p of rows[p, y] * grad[p, q] is rows.T @ grad.",
    ],
)
def gradient_one(grad, rows, columns):
    """The gradient (H, W) for the map, from that of the output (bins, bins) and the weights (bins, H), (bins, W)."""
    return rows.T @ grad @ columns
