"""Boxes: areas, clipping, and the deltas that move an anchor or a proposal onto an object.

A box is (x1, y1, x2, y2) in pixels. x2 and y2 are exclusive edges, so width = x2 - x1, with no "+ 1".
"""

import math

import torch
from torch import Tensor

# exp(4.135) = 62.5: no box grows by more than 1000 / 16 in one step, and exp never overflows.
MAX_LOG_SCALE = math.log(1000.0 / 16)
# Errors of deltas below this are penalised by their square, larger ones linearly (smooth L1; Fast R-CNN, eq. 3).
SMOOTH_L1_BETA = 1 / 9


def wide(boxes: Tensor) -> Tensor:
    """The boxes in a type that holds their areas: int64 for whole numbers, at least float32 for others.

    A square of 300 pixels has more than float16 can count, one of 12 more than int8.
    """
    if not boxes.is_floating_point():
        return boxes.to(torch.int64)
    return boxes.float() if boxes.dtype.itemsize < 4 else boxes


def area(boxes: Tensor) -> Tensor:
    """Areas (K,) in square pixels of boxes (K, 4)."""
    boxes = wide(boxes)
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def iou(a: Tensor, b: Tensor) -> Tensor:
    """The table of intersection over union (A, B) of boxes a (A, 4) and b (B, 4). Two empty boxes have IoU 0."""
    a, b = wide(a), wide(b)
    top_left = torch.maximum(a[:, None, :2], b[None, :, :2])  # (A, B, 2)
    bottom_right = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    width, height = (bottom_right - top_left).clamp(min=0).unbind(-1)
    intersection = width * height
    union = area(a)[:, None] + area(b)[None, :] - intersection
    return torch.where(union > 0, intersection / union, 0.0)


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (..., 4) cut to a picture of `size` (height, width)."""
    height, width = size
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)), dim=-1)


def large_enough(boxes: Tensor, min_size: float) -> Tensor:
    """Which of boxes (K, 4) have both sides of at least `min_size` pixels: bool (K,)."""
    boxes = wide(boxes)
    return (boxes[:, 2] - boxes[:, 0] >= min_size) & (boxes[:, 3] - boxes[:, 1] >= min_size)


def scale(boxes: Tensor, from_size: tuple[int, int], to_size: tuple[int, int]) -> Tensor:
    """Boxes (K, 4) of a picture of `from_size` (height, width), in the pixels of the same picture at `to_size`."""
    # The ratios are rounded to float32 before they multiply, as torchvision does: the last bit then agrees.
    ratio_y, ratio_x = (
        torch.tensor(to, dtype=torch.float32) / torch.tensor(frm, dtype=torch.float32)
        for to, frm in zip(to_size, from_size, strict=True)
    )
    return boxes * torch.stack((ratio_x, ratio_y, ratio_x, ratio_y)).to(boxes.device)


def encode(targets: Tensor, sources: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """The deltas (K, 4) that move `sources` (K, 4) onto `targets` (K, 4).

    (dx, dy) is the shift of the centre in units of the source's size, (dw, dh) the log of the growth, so a delta
    means the same for a small box and a large one (R-CNN, appendix C; Faster R-CNN, eq. 2). The weights bring
    the four to about unit variance.
    """
    source_size = sources[:, 2:] - sources[:, :2]  # (K, 2)
    target_size = targets[:, 2:] - targets[:, :2]
    source_centre = sources[:, :2] + 0.5 * source_size
    target_centre = targets[:, :2] + 0.5 * target_size
    deltas = torch.cat(((target_centre - source_centre) / source_size, torch.log(target_size / source_size)), dim=1)
    return deltas * deltas.new_tensor(weights)


def decode(deltas: Tensor, sources: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """The boxes (K, 4) that `deltas` (K, 4) make of `sources` (K, 4): the inverse of `encode`."""
    size = sources[:, 2:] - sources[:, :2]  # (K, 2)
    centre = sources[:, :2] + 0.5 * size
    deltas = deltas / deltas.new_tensor(weights)
    centre = deltas[:, :2] * size + centre
    half = 0.5 * torch.exp(deltas[:, 2:].clamp(max=MAX_LOG_SCALE)) * size
    return torch.cat((centre - half, centre + half), dim=1)
