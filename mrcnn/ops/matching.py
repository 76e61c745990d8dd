"""Matching anchors to objects: which ground truth does each anchor answer for? (Faster R-CNN, section 3.1.2)"""

import torch
from torch import Tensor

from . import backend, reference
from .checks import check_finite, check_flag, check_number, check_same_device, check_tensor

BACKGROUND = -1  # IoU with every object below the low threshold
IGNORED = -2  # between the thresholds: neither a good nor a bad example


def match_anchors(
    anchors: Tensor,
    gt_boxes: Tensor,
    high_threshold: float,
    low_threshold: float,
    allow_low_quality_matches: bool = False,
) -> tuple[Tensor, Tensor]:
    """Give each anchor (or proposal) the ground-truth box it overlaps most, if it overlaps it enough.

    Args:
        anchors: (A, 4) [x1, y1, x2, y2]; gt_boxes: (G, 4), both in pixels of the same picture, any floating dtype.
        high_threshold: IoU from which an anchor is matched.
        low_threshold: IoU below which it is background; at most `high_threshold`.
        allow_low_quality_matches: also match, however low their IoU, the anchors that overlap a ground truth most of
            all anchors (every one that ties for that), so that no object is left without. Such an anchor too gets the
            ground truth that it itself overlaps most, which may be another.

    Returns:
        matches int64 (A,): the row of gt_boxes (ties: the lower row), -1 for background, -2 for ignored; and the IoU
        (A,) with the best ground truth, matched or not. For example with thresholds 0.7 and 0.3 and the IoUs

            anchor       0    1    2    3
            object 0   0.9  0.6  0.2  0.1
            object 1   0.1  0.4  0.2  0.5      anchor 3 is the best that object 1 has
            -> match     0   -2   -1   -2      and with low-quality matches, 0  -2  -1  1

        IoU and arg-max are found in one pass: memory grows with A + G, not A x G. No gt_boxes: all background.

    Raises:
        ValueError, TypeError: wrong shape, dtype or device, low above high; on the CPU also NaN or infinite boxes. On
        CUDA, where looking would mean waiting, these have IoU 0 with everything.

    Equal to torchvision's box_iou and Matcher to the bit, but for two cases: a ground truth that overlaps no anchor
    claims none (there it claims every anchor of IoU 0), and two boxes without area have IoU 0 (there NaN).
    """
    check_tensor("anchors", anchors, "(A, 4)", 2, last=4)
    check_tensor("gt_boxes", gt_boxes, "(G, 4)", 2, last=4)
    check_same_device("gt_boxes", gt_boxes, "anchors", anchors)
    high_threshold = check_number("high_threshold", high_threshold)
    low_threshold = check_number("low_threshold", low_threshold)
    check_flag("allow_low_quality_matches", allow_low_quality_matches)
    if low_threshold > high_threshold:
        raise ValueError(f"low_threshold must be at most high_threshold, {high_threshold}; got {low_threshold}")
    check_finite("anchors", anchors)
    check_finite("gt_boxes", gt_boxes)
    dtype = reference.accumulate_dtype(torch.promote_types(anchors.dtype, gt_boxes.dtype))
    anchors, gt_boxes = (boxes.detach().to(dtype).contiguous() for boxes in (anchors, gt_boxes))
    match = reference.match_anchors if backend.current() == "reference" else backend.compiled_ops().match_anchors
    return match(anchors, gt_boxes, high_threshold, low_threshold, allow_low_quality_matches)


def _register(namespace: str) -> None:
    @torch.library.register_fake(f"{namespace}::match_anchors")
    def _(anchors, gt_boxes, high_threshold, low_threshold, allow_low_quality_matches):
        return anchors.new_empty(len(anchors), dtype=torch.int64), anchors.new_empty(len(anchors))


for _namespace in backend.namespaces():
    _register(_namespace)
