"""Non-maximum suppression: of many boxes on one object, keep the best (Faster R-CNN, section 3.2; Ren et al. 2015)."""

import torch
from torch import Tensor

from . import backend, reference
from .checks import check_finite, check_number, check_same_device, check_same_length, check_tensor


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Go down the boxes by score; keep each that does not overlap an already kept one by more than the threshold.

    Args:
        boxes: (N, 4) [x1, y1, x2, y2], any floating dtype, in pixels (or any unit: only ratios count).
        scores: (N,) any floating dtype.
        iou_threshold: a box is dropped when its IoU with a kept one is greater than this; equal is kept.

    Returns:
        int64 (M,): rows of `boxes` by falling score. Of equal scores the lower row comes first, on every device
        (torchvision's order of ties differs between CPU and CUDA). Boxes without area overlap nothing.

    Raises:
        ValueError, TypeError: wrong shape, dtype or device; on the CPU also NaN or infinite boxes or scores. On CUDA,
        where looking would mean waiting, a NaN box overlaps nothing and a NaN score counts as the highest.
    """
    return _nms(boxes, scores, iou_threshold, None)


def batched_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """`nms` within each group (class, or pyramid level) on its own, in one call.

    Args:
        boxes, scores, iou_threshold: as for `nms`.
        groups: integer (N,), any values. Boxes of different groups are never compared.

    Returns, raises: as for `nms`; the rows of all groups together, by falling score.

    torchvision's batched_nms moves each class to coordinates of its own by adding an offset (below 4,000 numbers on the
    CPU), which rounds the coordinates and with them the IoUs. Here the coordinates stay as they are: results may differ
    where that rounding decided.
    """
    check_tensor("groups", groups, "(N,)", 1, dtypes=(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8))
    return _nms(boxes, scores, iou_threshold, groups.to(torch.int64))


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float, groups: Tensor | None) -> Tensor:
    check_tensor("boxes", boxes, "(N, 4)", 2, last=4)
    check_tensor("scores", scores, "(N,)", 1)
    for name, value in (("scores", scores), ("groups", groups)):
        if value is not None:
            check_same_length(name, value, "boxes", boxes)
            check_same_device(name, value, "boxes", boxes)
    iou_threshold = check_number("iou_threshold", iou_threshold)
    check_finite("boxes", boxes)
    check_finite("scores", scores)
    boxes = boxes.detach().to(reference.accumulate_dtype(boxes.dtype))
    scores = scores.detach().to(reference.accumulate_dtype(scores.dtype))
    if backend.current() == "reference":
        return reference.nms(boxes, scores, iou_threshold, groups)
    return backend.compiled_ops().nms(boxes, scores, iou_threshold, groups)


def _register(namespace: str) -> None:
    @torch.library.register_fake(f"{namespace}::nms")
    def _(boxes, scores, iou_threshold, groups=None):
        kept = torch.library.get_ctx().new_dynamic_size()  # how many are kept depends on the values
        return torch.empty((kept,), dtype=torch.int64, device=boxes.device)


for _namespace in backend.namespaces():
    _register(_namespace)
