"""Inputs on which two builds of the compiled ops must agree to the bit: lengths that fill vectors and that leave some
over, special numbers, ties."""

import pytest
import torch
from layouts import lay_out

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def bits_of(tensors) -> list[torch.Tensor]:
    """The numbers as integers, so that 0 is not -0, and NaN equals itself (its sign is the processor's)."""
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    numbers = [
        torch.where(tensor.isnan(), torch.nan, tensor) if tensor.is_floating_point() else tensor for tensor in tensors
    ]
    return [tensor.contiguous().view(integers[tensor.element_size()]) for tensor in numbers]


def roi_align_results(kernels, dtype) -> list[torch.Tensor]:
    """Forward and backward in every layout, with channel counts that fill vectors and that leave some over."""
    torch.manual_seed(0)
    rois = torch.rand(12, 5) * torch.tensor([0, 60.0, 50, 90, 70]) - 10
    rois[:, 0] = torch.arange(12) % 3 - (torch.arange(12) == 7) * 5  # one of no image
    rois = rois.to(torch.float64 if dtype == torch.float64 else torch.float32)
    results = []
    for channels in (1, 69):
        features = torch.randn(3, channels, 11, 19, dtype=torch.float64) * 100
        features[0, 0, 2] = torch.tensor(
            [torch.inf, -torch.inf, torch.nan, -0.0, 1e-7] + [3e38, 65519, 65520, 1e-5] + [0] * 10
        )
        for layout in ("contiguous", "channels_last", "channels_last window"):
            pooled = kernels.roi_align(lay_out(features.to(dtype), layout), rois, 0.3, 7, 5, -1, True)
            grad = torch.randn(pooled.shape, dtype=torch.float64).to(dtype)
            shape = (3, channels, 11, 19)
            gradient = kernels.roi_align_backward(grad, rois, 0.3, 7, 5, *shape, 2, False, layout != "contiguous", True)
            results += [pooled, gradient]
    return results


def boxes_and_scores(count: int, dtype) -> tuple[torch.Tensor, torch.Tensor]:
    boxes = (torch.rand(count, 4, dtype=dtype) * 40).round(decimals=1)
    boxes[:, 2:] = boxes[:, 2:] / 2 + boxes[:, :2]
    boxes[3::50, 2:] = boxes[3::50, :2]  # without area
    boxes[5::70] = torch.tensor([0, 0, torch.inf, torch.nan], dtype=dtype)
    return boxes, (torch.rand(count) * 50).round()  # many ties


def nms_results(kernels, dtype) -> list[torch.Tensor]:
    """Counts that leave lanes over, thresholds that IoUs meet exactly."""
    torch.manual_seed(1)
    problems = [
        (*boxes_and_scores(count, dtype), threshold) for count in (1, 65, 700) for threshold in (-1.0, 0.25, 0.5)
    ]
    return [kernels.nms(*problem) for problem in problems]


def match_anchors_results(kernels, dtype) -> list[torch.Tensor]:
    torch.manual_seed(2)
    results = []
    for count, objects in ((1, 3), (129, 0), (5000, 40)):
        anchors, gt_boxes = boxes_and_scores(count, dtype)[0], boxes_and_scores(objects, dtype)[0]
        results += kernels.match_anchors(anchors, gt_boxes, 0.5, 0.25, True)
    return results


CASES = [
    *((roi_align_results, dtype) for dtype in DTYPES),
    *((nms_results, dtype) for dtype in DTYPES[:2]),
    *((match_anchors_results, dtype) for dtype in DTYPES[:2]),
]
each_case = pytest.mark.parametrize(
    ("results_of", "dtype"), CASES, ids=[f"{case.__name__[:-8]}-{str(dtype)[6:]}" for case, dtype in CASES]
)
