"""What the answers of lesson 07 are held against: RoIPool and RoIAlign as plain loops, and the library's op."""

import math

import torch
from torch import Tensor

from mrcnn import ops
from mrcnn.ops import reference


def sample(feature_map: Tensor, points: Tensor) -> Tensor:
    """The samples of a map (H, W) at `points` (P, 2) of y, x, by the library: each is a RoI of no size."""
    y, x = (points + 0.5).T
    rois = torch.stack([torch.zeros_like(x), x, y, x, y], dim=1)  # (P, 5)
    return ops.roi_align(feature_map[None, None], rois, 1, sampling_ratio=1, aligned=True).flatten()


def bilinear(feature_map: Tensor, y: float, x: float) -> Tensor:
    """The value of a map (H, W) between its cells."""
    height, width = feature_map.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return feature_map.new_zeros(())
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    rows = (int(y), 1 - y % 1), (min(int(y) + 1, height - 1), y % 1)
    columns = (int(x), 1 - x % 1), (min(int(x) + 1, width - 1), x % 1)
    return sum(row_weight * weight * feature_map[row, column] for row, row_weight in rows for column, weight in columns)


def pool_one(feature_map: Tensor, box: Tensor, bins: int, samples: int) -> Tensor:
    """RoIAlign of one channel (H, W) under one box (4,), in cells -> (bins, bins): the slow way."""
    x1, y1, x2, y2 = (box - 0.5).tolist()
    out = torch.zeros(bins, bins)
    for i in range(bins * samples):
        for j in range(bins * samples):
            y, x = y1 + (i + 0.5) * (y2 - y1) / (bins * samples), x1 + (j + 0.5) * (x2 - x1) / (bins * samples)
            out[i // samples, j // samples] += bilinear(feature_map, y, x)
    return out / samples**2


def roi_align(features: Tensor, rois: Tensor, bins: int, samples: int, scale: float) -> Tensor:
    return ops.roi_align(features, rois, bins, scale, samples, aligned=True)


def gradient(grad: Tensor, rois: Tensor, shape, samples: int, scale: float, aligned: bool = True) -> Tensor:
    """The gradient of RoIAlign for the features of `shape` (N, C, H, W), from that of its output (K, C, bins, bins)."""
    features = torch.zeros(shape, device=grad.device, requires_grad=True)
    ops.roi_align(features, rois, grad.shape[-1], scale, samples, aligned).backward(grad)
    return features.grad


def roi_pool(feature_map: Tensor, box: Tensor, bins: int, *, round=lambda v: math.floor(v + 0.5), last=1) -> Tensor:
    """RoIPool (Girshick 2015): the box and each bin are rounded to whole cells; a bin is the largest of its cells.

    round, last: how a corner is rounded, and how many cells lie beyond the rounded end; for the likely mistakes.
    """
    x1, y1, x2, y2 = (round(v) for v in box.tolist())
    out = feature_map.new_zeros(bins, bins)
    for p in range(bins):
        top, bottom = whole_cells(p, y1, y2 + last, bins)
        for q in range(bins):
            left, right = whole_cells(q, x1, x2 + last, bins)
            cells = feature_map[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
            out[p, q] = cells.max() if cells.numel() else 0
    return out


def whole_cells(bin: int, start: int, end: int, bins: int) -> tuple[int, int]:
    """The first cell of a bin of RoIPool along one axis, and the one after its last."""
    length = max(end - start, 1)
    return start + bin * length // bins, start - (-(bin + 1) * length // bins)


def axis_weights(start: float, length: float, bins: int, samples: int, cells: int) -> Tensor:
    """How much of each cell is in each bin of a RoI along one axis, (bins, cells)."""
    where = torch.tensor(start), torch.tensor(length)
    inside, low, high, low_weight, high_weight = reference._samples(*where, bins, cells, torch.tensor(samples))
    weights = torch.zeros(bins, cells)
    weights.scatter_add_(1, low, low_weight * inside / samples)
    return weights.scatter_add_(1, high, high_weight * inside / samples)
