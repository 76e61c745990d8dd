"""The checks of lesson 07: each is silent about the stub, content with the solution, and tells mistakes apart."""

import math

import pytest
import torch
from lesson_cells import answer, solution, stub, verdict

from mrcnn.lab.exercises import pooling, pooling_gradient, pooling_library, pooling_rounded

EXERCISES = {
    "bilinear": pooling.bilinear,
    "pool_one": pooling.pool_one,
    "roi_pool_one": pooling_rounded.roi_pool_one,
    "to_cells": pooling.to_cells,
    "sample_points": pooling.sample_points,
    "roi_align_first": pooling.roi_align_first,
    "roi_align_better": pooling.roi_align_better,
    "scatter": pooling_gradient.scatter,
    "gather": pooling_gradient.gather,
    "axis_weights": pooling.axis_weights,
}
NAMES = {"bilinear": pooling_library.bilinear, "math": math}  # what the answers use of the cells before them

# What becomes of a solution, old -> new, and a part of what is to be said of that.
AT_CORNERS = {"(i + 0.5f)": "i", "(j + 0.5f)": "j"}
MISTAKES = [
    ("bilinear", {"    height, width": "    y, x = x, y\n    height, width"}, "x and y are exchanged"),
    ("bilinear", {"top, left = int(y), int(x)": "top, left = y, x = round(y), round(x)"}, "one cell's value"),
    ("bilinear", {"return (1 - (y - top)) * upper + (y - top) * lower": "return feature_map[top, left]"}, "one cell's"),
    (
        "bilinear",
        {"(1 - (x - left))": "A", "(x - left)": "(1 - (x - left))", "A": "(x - left)"}
        | {"return (1 - (y - top)) * upper + (y - top) * lower": "return (y - top) * upper + (1 - (y - top)) * lower"},
        "weights are turned around",
    ),
    ("bilinear", {"    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)\n": ""}, "wrong at its edge"),
    ("bilinear", {"min(top + 1, height - 1)": "top + 1"}, "does not have"),
    ("bilinear", {"not (-1 <= y <= height and -1 <= x <= width)": "False"}, "counts as 0"),
    ("pool_one", {"(box - 0.5)": "box"}, "did you leave out the half pixel"),
    ("pool_one", {" / samples**2": ""}, "divide by how many"),
    ("pool_one", {"(i + 0.5)": "i", "(j + 0.5)": "j"}, "at the corners"),
    ("pool_one", {"out[p, q]": "out[q, p]"}, "rows and columns of the result are exchanged"),
    ("pool_one", {"x1, y1, x2, y2": "y1, x1, y2, x2"}, "x and y are exchanged"),
    (
        "pool_one",
        {"(i + 0.5) * step_y": "(i + 0.5) * step_y - 0.5", "(j + 0.5) * step_x": "(j + 0.5) * step_x - 0.5"},
        "taken off twice",
    ),
    (
        "pool_one",
        {"(x2 - x1) / (bins * samples), (y2 - y1) / (bins * samples)": "(x2 - x1) / bins, (y2 - y1) / bins"},
        "not 1 / bins",
    ),
    (
        "pool_one",
        {
            "range(p * samples, (p + 1) * samples)": "range(p, bins * samples, bins)",
            "range(q * samples, (q + 1) * samples)": "range(q, bins * samples, bins)",
        },
        "in bin i // samples",
    ),
    ("roi_pool_one", {"math.floor(v + 0.5)": "int(v)"}, "not rounded to the nearest"),
    ("roi_pool_one", {"y2 - y1 + 1": "y2 - y1", "x2 - x1 + 1": "x2 - x1"}, "both included"),
    ("roi_pool_one", {"cells.max()": "cells.mean()"}, "takes the largest"),
    ("roi_pool_one", {"out[p, q]": "out[q, p]"}, "rows and columns"),
    ("roi_pool_one", {"math.floor(v + 0.5)": "math.floor(v)"}, "did you take the half pixel off"),
    (
        "roi_pool_one",
        {"max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)": "top:bottom, left:right"},
        "begins at the LAST row",
    ),
    ("roi_pool_one", {"max(bottom, 0)": "bottom", "max(right, 0)": "right"}, "ends before the LAST row"),
    ("roi_pool_one", {"if cells.numel()": "if True"}, "a bin without cells is 0"),
    ("roi_pool_one", {"torch.zeros(bins, bins)": "torch.full((bins, bins), -math.inf)"}, "a bin without cells is 0"),
    ("roi_pool_one", {"max(y2 - y1 + 1, 1)": "y2 - y1 + 1", "max(x2 - x1 + 1, 1)": "x2 - x1 + 1"}, "with x2 < x1"),
    ("roi_pool_one", {"in box.tolist()": "in box.clamp(0, feature_map.shape[0] - 1).tolist()"}, "too early"),
    (
        "roi_pool_one",
        {
            "cells = feature_map[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]": "cells = torch.stack("
            "[feature_map[y, x] for y in range(max(top, 0), bottom) for x in range(max(left, 0), right)] or "
            "[torch.tensor(0.0)])"
        },
        "a cell that the map does not have",
    ),
    ("to_cells", {"  if (i >= n) return;\n": ""}, "threads too many write"),
    ("to_cells", {"i >= n": "i > n"}, "1 thread too many writes"),
    ("to_cells", {"i >= n": "i >= n - 1"}, "last cell is not written"),
    ("to_cells", {"blockIdx.x * blockDim.x + ": ""}, "only the first block"),
    ("to_cells", {" - 0.5f": ""}, "did you leave out the half pixel"),
    ("to_cells", {"pixels[i] * scale - 0.5f": "(pixels[i] - 0.5f) * scale"}, "multiply by scale first"),
    ("sample_points", {"y = points[2 * i], x": "x = points[2 * i], y"}, "x and y are exchanged"),
    ("sample_points", {"out[i] = (1 - down) * upper + down * lower": "out[i] = map[top * width + left]"}, "one cell's"),
    ("sample_points", {"  y = min(max(y, 0.0f), height - 1.0f), x = min(max(x, 0.0f), width - 1.0f);\n": ""}, "edge"),
    ("sample_points", {"min(top + 1, height - 1)": "top + 1"}, "wrong at its edge"),
    ("sample_points", {"if (y < -1 || y > height || x < -1 || x > width)": "if (false)"}, "counts as 0"),
    ("sample_points", {"{ out[i] = 0; return; }": "return;"}, "never set"),
    ("sample_points", {"out[i] = (1": "out[i] += (1"}, "never set"),
    ("to_cells", {"cells[i] = ": "cells[i] += "}, "never set"),
    ("roi_align_first", {"out[n] = ": "out[n] += "}, "never set"),
    ("roi_align_first", {"c = n / (bins * bins) % channels": "c = n / bins % channels"}, "of another channel"),
    ("roi_align_first", {" / (bins * samples)": " / bins"}, "not 1 / bins"),
    ("roi_align_first", {"- 0.5f": "- 1"}, "taken off twice"),
    ("roi_align_first", {" - 0.5f": ""}, "did you leave out the half pixel"),
    ("roi_align_first", {"out[n] = sum / (samples * samples)": "out[n] = sum"}, "divide by how many"),
    ("roi_align_first", {"(int)roi[0] * channels + c": "c"}, "its own image's number is roi[0]"),
    ("roi_align_first", {"(int)roi[0] * channels + c": "(int)roi[0] * channels"}, "every channel holds channel 0"),
    ("roi_align_first", {" * scale": ""}, "multiply the coordinates by scale"),
    (
        "roi_align_first",
        {"roi[1] * scale - 0.5f": "(roi[1] - 0.5f) * scale", "roi[2] * scale - 0.5f": "(roi[2] - 0.5f) * scale"},
        "after multiplying by scale",
    ),
    (
        "roi_align_first",
        {"int q = n % bins, p = n / bins % bins": "int p = n % bins, q = n / bins % bins"},
        "rows and columns of the bins",
    ),
    ("roi_align_first", {"  if (n >= count) return;\n": ""}, "threads too many write"),
    ("roi_align_first", AT_CORNERS, "at the corners"),
    (
        "roi_align_better",
        {"four.cell[t] * channels + c": "c * height * width + four.cell[t]"},
        "as if each channel had a map",
    ),
    (
        "roi_align_better",
        {"((k * bins + p) * bins + q) * channels + c": "((k * channels + c) * bins + p) * bins + q"},
        "wrong places",
    ),
    ("roi_align_better", {"four.cell[t] * channels + c": "four.cell[t] + c"}, "not cell + c"),
    (
        "roi_align_better",
        {"      float sum = 0;\n": "", "  for (int p = 0": "  float sum = 0;\n  for (int p = 0"},
        "begin each with sum = 0",
    ),
    ("roi_align_better", {"= sum / (samples * samples)": "= sum"}, "divide by how many"),
    ("roi_align_better", AT_CORNERS, "at the corners"),
    (
        "scatter",
        {"atomicAdd(map + four.cell[t], share * four.weight[t])": "map[four.cell[t]] += share * four.weight[t]"},
        "a race",
    ),
    ("scatter", {"share * four.weight": "grad[n] * four.weight"}, "1 / (samples * samples)"),
    ("scatter", {"share * four.weight[t]": "share"}, "multiply by the cell's weight"),
    ("gather", {"sum / (samples * samples)": "sum"}, "1 / (samples * samples)"),
    ("gather", {"    if (roi[0] != image) continue;\n": ""}, "leave out those with another roi[0]"),
    ("gather", {" - 0.5f": ""}, "did you leave out the half pixel"),
    ("gather", AT_CORNERS, "at the corners"),
    ("axis_weights", {".mean(1)": ".sum(1)"}, "divide by how many"),
    ("axis_weights", {"at.clamp(0, cells - 1)": "at"}, "it has no edge"),
    ("axis_weights", {" * inside[:, None]": ""}, "not as the border cell"),
    ("axis_weights", {" + 0.5": ""}, "at the corners"),
]


@pytest.mark.parametrize("name", EXERCISES)
def test_stub(name):
    status, message = verdict(EXERCISES[name], answer(stub("07", name), **NAMES))
    assert status == "not written", message


@pytest.mark.parametrize("name", EXERCISES)
def test_solution(name):
    assert verdict(EXERCISES[name], answer(solution("07", name), **NAMES)) == ("right", "")


@pytest.mark.parametrize(("name", "changes", "says"), MISTAKES, ids=[f"{name}: {says}" for name, _, says in MISTAKES])
def test_mistake(name, changes, says):
    text = solution("07", name)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    status, message = verdict(EXERCISES[name], answer(text, **NAMES))
    assert status == "wrong"
    assert says in message


def test_every_exercise_tells_mistakes_apart():
    for name in EXERCISES:
        assert len({says for planted, _, says in MISTAKES if planted == name}) >= 2


def test_the_plain_roi_pool_is_torchvisions():
    """What the lesson goes on with; the op itself is not part of the library."""
    torchvision = pytest.importorskip("torchvision")
    feature_map = torch.randn(9, 12)
    for box in torch.rand(50, 4) * 10 - 2:  # some turned around or without area
        rois = torch.cat([torch.zeros(1), box])[None]
        want = torchvision.ops.roi_pool(feature_map[None, None], rois, 3)[0, 0]
        torch.testing.assert_close(pooling_library.roi_pool(feature_map, box, 3), want)


def test_the_plain_roi_align_is_the_op():
    feature_map, box = torch.randn(9, 12), torch.tensor([-1.5, 2.25, 9.0, 10.5])
    rois = torch.cat([torch.zeros(1), box])[None]
    want = pooling_library.roi_align(feature_map[None, None], rois, 3, 2, 1.0)[0, 0]
    torch.testing.assert_close(pooling_library.pool_one(feature_map, box, 3, 2), want)
