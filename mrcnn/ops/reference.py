"""The ops in plain PyTorch: written to be read, and to hold the kernels against. Autograd gives the gradients.

Inputs are those of the functions of the same name in this package, already checked. Nothing here is fast: `roi_align`
takes one RoI after the other, and `match_anchors` holds the whole table of IoUs.
"""

import torch
from torch import Tensor

MOST_SAMPLES, MOST_BINS = 4096, 2**20  # as in csrc/roi_align/limits.h


def accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    """Sums of float16 and bfloat16 are kept in float32; float32 and float64 in themselves."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _samples(start: Tensor, length: Tensor, bins: int, size: int, grid: Tensor) -> tuple[Tensor, ...]:
    """Where one RoI's samples lie along one axis, and how each reads the map: between two neighbouring cells.

    start, length: the RoI on the feature map, in cells. Each of `bins` bins has `grid` samples, evenly spaced.
    Returns inside, low, high, low_weight, high_weight, each (bins, grid). A sample more than one cell outside the map
    is not `inside` and counts as zero; one nearer than that reads the border cell.
    """
    bin_size = length / bins
    bin_index = torch.arange(bins).to(start)[:, None]  # (bins, 1)
    offset = torch.arange(int(grid)).to(start)[None, :] + 0.5  # (1, grid): middles of the sub-bins
    at = start + bin_index * bin_size + offset * bin_size / grid  # (bins, grid)
    inside = (at >= -1) & (at <= size)  # not, where a huge RoI's `at` is infinite or NaN
    at = at.where(inside, 0).clamp(0, size - 1)
    low = at.floor().long().clamp(max=size - 1)  # float32 has no number for cell 2^24 + 1
    high = (low + 1).clamp(max=size - 1)
    high_weight = at - low
    return inside, low, high, 1 - high_weight, high_weight


def _samples_per_bin(length: Tensor, bins: int, sampling_ratio: int) -> Tensor:
    """Along one axis: as many as asked for, or about one per cell. A length that overflowed to NaN has none."""
    if sampling_ratio > 0:
        return torch.tensor(sampling_ratio)
    return (length / bins).ceil().nan_to_num(nan=0).clamp(0, MOST_SAMPLES)


def _pool(feature_map: Tensor, box: Tensor, pooled: tuple[int, int], sampling_ratio: int, aligned: bool) -> Tensor:
    """One RoI, `box` (4,) in cells of `feature_map` (C, H, W) -> (C, ph, pw)."""
    ph, pw = pooled
    height, width = feature_map.shape[-2:]
    x1, y1, x2, y2 = box.unbind()
    roi_width, roi_height = x2 - x1, y2 - y1
    if not aligned:  # the older convention: no RoI is smaller than one cell
        roi_width, roi_height = roi_width.clamp(min=1), roi_height.clamp(min=1)
    grid_h, grid_w = _samples_per_bin(roi_height, ph, sampling_ratio), _samples_per_bin(roi_width, pw, sampling_ratio)
    if height * width == 0 or grid_h < 1 or grid_w < 1:  # no cell to read, or no sample: an empty RoI
        return feature_map.new_zeros(len(feature_map), ph, pw) + feature_map[:0].sum()  # with a gradient
    y_inside, y_low, y_high, y_low_weight, y_high_weight = _samples(y1, roi_height, ph, height, grid_h)  # (ph, gh)
    x_inside, x_low, x_high, x_low_weight, x_high_weight = _samples(x1, roi_width, pw, width, grid_w)  # (pw, gw)

    # A bin is the mean of gh * gw samples: first over the sample rows, for every column, then over the sample columns.
    rows = feature_map[:, y_low] * y_low_weight[..., None] + feature_map[:, y_high] * y_high_weight[..., None]
    rows = rows.where(y_inside[..., None], 0).mean(dim=2)  # (C, ph, gh, W) -> (C, ph, W)
    bins = rows[..., x_low] * x_low_weight + rows[..., x_high] * x_high_weight
    return bins.where(x_inside, 0).mean(dim=3)  # (C, ph, pw, gw) -> (C, ph, pw)


def roi_align(
    features: Tensor,  # (N, C, H, W)
    rois: Tensor,  # (K, 5) [image, x1, y1, x2, y2]
    output_size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """RoIAlign: each bin is the mean of bilinear samples, and nothing is ever rounded (Mask R-CNN, section 3)."""
    ph, pw = output_size
    dtype = accumulate_dtype(features.dtype)
    maps = features.to(dtype)
    rois = rois.detach().to(dtype)
    # Pixel i of the picture covers [i, i+1); its value sits in the middle. `aligned` takes that half pixel off.
    boxes = rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)
    pooled = [
        _pool(maps[int(image)], box, (ph, pw), sampling_ratio, aligned)
        for image, box in zip(rois[:, 0], boxes, strict=True)
    ]
    result = torch.stack(pooled) if pooled else maps[:0].sum() + maps.new_zeros(0, maps.shape[1], ph, pw)
    return result.to(features.dtype)


def box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Intersection over union of every pair: (N, 4), (M, 4) -> (N, M). Two boxes without area have IoU 0 / 0 = NaN."""
    area1 = (boxes1[:, 2] - boxes1[:, 0]) * (boxes1[:, 3] - boxes1[:, 1])  # (N,)
    area2 = (boxes2[:, 2] - boxes2[:, 0]) * (boxes2[:, 3] - boxes2[:, 1])  # (M,)
    top_left = torch.maximum(boxes1[:, None, :2], boxes2[None, :, :2])  # (N, M, 2)
    bottom_right = torch.minimum(boxes1[:, None, 2:], boxes2[None, :, 2:])
    sides = (bottom_right - top_left).clamp(min=0)
    intersection = sides[..., 0] * sides[..., 1]  # (N, M)
    return intersection / (area1[:, None] + area2[None, :] - intersection)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, groups: Tensor | None = None) -> Tensor:
    """Keep the best box, drop all of its group that overlap it by more than the threshold, and so on down."""
    order = scores.sort(descending=True, stable=True).indices  # stable: the lower index first among equal scores
    boxes = boxes[order].to(accumulate_dtype(boxes.dtype))
    groups = torch.zeros_like(order) if groups is None else groups[order]
    dropped = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    kept = []
    for i in range(len(boxes)):
        if dropped[i]:
            continue
        kept.append(i)
        overlaps = box_iou(boxes[i : i + 1], boxes[i + 1 :])[0].double() > iou_threshold
        dropped[i + 1 :] |= overlaps & (groups[i + 1 :] == groups[i])
    return order[torch.tensor(kept, dtype=torch.int64, device=order.device)]


def match_anchors(
    anchors: Tensor,  # (A, 4)
    gt_boxes: Tensor,  # (G, 4)
    high_threshold: float,
    low_threshold: float,
    allow_low_quality_matches: bool,
) -> tuple[Tensor, Tensor]:
    """Each anchor's ground truth, -1 (background) or -2 (between the thresholds), and its IoU (Faster R-CNN, 3.1.2)."""
    if len(gt_boxes) == 0:
        return torch.full((len(anchors),), -1, device=anchors.device), anchors.new_zeros(len(anchors))
    table = box_iou(gt_boxes, anchors).nan_to_num(nan=0.0)  # (G, A)
    iou, best = table.max(dim=0)  # (A,): the first ground truth wins a tie
    matches = best.clone()
    matches[iou < high_threshold] = -2
    matches[iou < low_threshold] = -1
    if allow_low_quality_matches and len(anchors):
        best_of_gt = table.max(dim=1, keepdim=True).values  # (G, 1)
        # An anchor that is some object's best is kept however low its IoU, and keeps its own arg-max. An object that
        # no anchor touches (best 0) claims none.
        claimed = ((table == best_of_gt) & (best_of_gt > 0)).any(dim=0)
        matches = torch.where(claimed, best, matches)
    return matches, iou
