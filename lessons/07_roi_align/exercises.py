"""RoIPool and RoIAlign: what the learner writes."""

import math

import torch
from torch import Tensor

from mrcnn import ops
from mrcnn.lab.check import exercise

BINS, SAMPLES = 3, 2
MAP = torch.tensor([[0.0, 3, 1, 8, 2], [7, 4, 9, 5, 6], [2, 6, 3, 1, 9], [8, 1, 7, 4, 5]])
POINTS = [(0.25, 1.75), (1.5, 2.0), (2.875, 0.375), (1.625, 3.25), (1.25, 2.75)]  # y, x: inside the map
EDGE = [(3.0, 4.0), (-0.5, 2.25), (3.75, 1.5), (1.5, -0.75), (0.25, 4.5), (-1.0, 2.5), (2.5, 5.0)]
OUTSIDE = [(-1.25, 2.0), (1.0, -3.0), (4.5, 1.0), (2.0, 5.25)]
DEALT_OUT = "samples that follow one another belong to one bin: sample i is in bin i // samples"
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


@exercise(
    cases=lambda: [(MAP, *point) for point in POINTS + EDGE + OUTSIDE],
    truth=lambda values, y, x: roi_align(values, torch.tensor([x, y, x, y]) + 0.5, 1, 1)[0, 0],  # of no size
    mistakes={
        "bilinear(feature_map, y, x) ⇒ bilinear(feature_map, x, y)": "x and y are exchanged: y says which row",
        "feature_map[ ⇒ feature_map.T[": "the row comes first: feature_map[top, left], not [left, top]",
        "return (1 ⇒ return feature_map[top, left]; (1": "this is one cell, the top left. A sample lies between four",
        "return (1 ⇒ return feature_map[round(y), round(x)]; (1": "this is the nearest cell; a sample is between four",
        "    upper ⇒     y, x = 2 * top + 1 - y, 2 * left + 1 - x\n    upper": "the weights are turned around: the "
        "nearer a cell, the MORE it counts. A sample 0.25 below row 0 reads 0.75 of row 0",
        "    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)\n ⇒ ": "right inside the map, wrong at its "
        "edge: a sample within one cell outside reads the border cell. Move y and x into the map (step 2)",
        "min(top + 1, height - 1), min(left + 1, width - 1) ⇒ top + 1, left + 1": "it reads a row or column that the "
        "map does not have: in the last row the cell below is that row itself (step 3)",
        "-1 <= y <= height and -1 <= x <= width ⇒ True": "right on the map, wrong far from it: a sample more than one "
        "cell outside counts as 0, and is not moved to the border (step 1)",
        "-1 <= y <= height and -1 <= x <= width ⇒ 0 <= y <= height - 1 and 0 <= x <= width - 1": "a sample less than "
        "one cell outside is not 0: it reads the border cell (step 1)",
        "-1 <= y <= height and -1 <= x <= width ⇒ -1 < y < height and -1 < x < width": "a sample that is exactly one "
        "cell outside still reads the border cell: only what is MORE than one cell outside is 0 (step 1)",
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
        "(box - 0.5) ⇒ box": "did you leave out the half pixel? The tensor's coordinate is the drawing's - 0.5",
        "(box - 0.5) ⇒ (box - 1)": "the half pixel is taken off twice: once is enough",
        ("(box - 0.5) ⇒ box", "(i + 0.5) ⇒ i", "(j + 0.5) ⇒ j"): "the two halves do not cancel: one is half a cell, "
        "the half pixel, and the other half a step",
        "out / samples**2 ⇒ out": "each bin is the sum of its samples: divide by how many there are",
        "(i + 0.5) * step_y, x1 + (j + 0.5) * step_x ⇒ i * step_y, x1 + j * step_x": CORNERS,
        "x1, y1, x2, y2 = ⇒ y1, x1, y2, x2 =": "x and y are exchanged: a box is x1, y1, x2, y2, and rows go with y",
        "out[p, q] ⇒ out[q, p]": "rows and columns of the result are exchanged",
        "out[p, q] ⇒ out[i % bins, j % bins]": DEALT_OUT,
        " / (bins * samples) ⇒  / bins": "a sample's part is 1 / (bins * samples) of the box's side, not 1 / bins",
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
    """Of each bin, every cell of the map is asked whether it lies there."""

    def inside(cell: int, cells: int, p: int) -> bool:
        return 0 <= cell < cells and p * cells < (cell + 1) * bins and cell * bins < (p + 1) * cells

    x1, y1, x2, y2 = (math.floor(v + 0.5) for v in box.tolist())
    n, m = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
    cells = [(y - y1, x - x1, values[y, x].item()) for y, x in torch.ones_like(values).nonzero().tolist()]
    found = [
        [[v for y, x, v in cells if inside(y, n, p) and inside(x, m, q)] for q in range(bins)] for p in range(bins)
    ]
    return torch.tensor([[max(those, default=0.0) for those in row] for row in found])


# Inside the map; over its top left and its bottom right border; outside it; with x2 < x1.
BOXES = torch.tensor([[1.75, 0.6, 5, 4.7], [-3, -3, 3, 3], [2, 2, 9, 9], [-9, -9, -5, -5], [4.5, 1, 1, 4]])


@exercise(
    cases=lambda: [(-feature_map()[:6, :6].abs(), box, BINS) for box in BOXES],  # below 0: a 0 from outside shows
    truth=roi_pool,
    mistakes={
        "cells.max() ⇒ cells.mean()": "each bin is the mean of its cells; RoIPool takes the largest",
        "out[p, q] ⇒ out[q, p]": "rows and columns of the result are exchanged",
        ("y2 - y1 + 1 ⇒ y2 - y1", "x2 - x1 + 1 ⇒ x2 - x1"): "the last row and column are left out: cells are counted "
        "from round(x1) to round(x2), both included",
        "math.floor(v + 0.5) ⇒ math.floor(v)": "the box is cut off to whole cells (int or floor), not rounded to the "
        "nearest (or did you take the half pixel off? RoIPool does not)",
        "math.floor(v + 0.5) ⇒ round(v)": "Python's round takes a half to the even number: round(4.5) is 4, not 5",
        "cells.max() ⇒ cells.max() * (len(cells) == bottom - top and cells.shape[1] == right - left)": "cells outside "
        "the map are taken as 0; they do not count at all: only the cells on the map are compared",
        ("max(top, 0) ⇒ top", "max(left, 0) ⇒ left"): "right inside the map, wrong over its top left border: a slice "
        "from -1 begins at the LAST row. Clip each bin's first row and column, `max(top, 0)`",
        ("max(bottom, 0) ⇒ bottom", "max(right, 0) ⇒ right"): "wrong for a box that lies outside the map, above it and "
        "to its left: a slice up to -1 ends before the LAST row. Clip each bin's end too, `max(bottom, 0)`",
        "if cells.numel() ⇒ if True": "a bin without cells is 0, and has no largest cell: ask first whether there are "
        "any (`cells.numel()`)",
        ("max(y2 - y1 + 1, 1) ⇒ y2 - y1 + 1", "max(x2 - x1 + 1, 1) ⇒ x2 - x1 + 1"): "wrong for a box with x2 < x1: it "
        "still has one row and one column, `max(x2 - x1 + 1, 1)` of them",
        "in box.tolist() ⇒ in box.clamp(0, feature_map.shape[0] - 1).tolist()": "the box is clipped to the map too "
        "early: cut all of it into bins first, then clip each bin",
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
    box = torch.tensor([start + 0.5, 0.5, start + length + 0.5, 0.5])
    return torch.stack([roi_align(one[None], box, bins, samples)[0] for one in torch.eye(cells)], dim=1)


@exercise(
    cases=lambda: [(1.25, 5.5, BINS, SAMPLES, 8), (-2.5, 6.0, BINS, SAMPLES, 8), (5.0, 4.5, BINS, SAMPLES, 8)],
    truth=weights_by_probing,
    mistakes={
        ".mean(1) ⇒ .sum(1)": "each bin is the mean of its samples' weights: divide by how many there are",
        "at.clamp(0, cells - 1)[:, None] ⇒ at[:, None]": "it has no edge: move a sample to the map first, with "
        "at.clamp(0, cells - 1)",
        " * inside[:, None] ⇒ ": "samples more than a cell outside the map count as 0, not as the border cell",
        "+ 0.5) * length ⇒ + 0.0) * length": CORNERS,
        "at = start ⇒ at = start - 0.5": "the half pixel is taken off already: `start` is in the tensor's coordinates",
        "view(bins, samples, cells).mean(1) ⇒ view(samples, bins, cells).mean(0)": DEALT_OUT,
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
    cases=lambda: [(torch.arange(9.0).view(3, 3), axis_weights(0.5, 4.0, 3, 2, 7), axis_weights(1.25, 5.5, 3, 2, 9))],
    truth=by_autograd,
    mistakes={
        "rows.T @ grad @ columns ⇒ columns.T @ grad @ rows": "rows and columns are exchanged: the rows' weights go on "
        "the left",
        "rows.T @ grad @ columns ⇒ (rows.T @ grad @ columns) * len(rows) ** 2": "too large: no factor is needed, the "
        "weights have the mean in them already",
        "rows.T @ grad @ columns ⇒ rows @ grad @ columns.T": "the sizes do not fit: to make (H, W) of (bins, bins), "
        "the bins must stand inside, next to `grad`",
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
