"""Bad input gets a sentence that names the argument, what was expected, and what came; on every implementation."""

import math
import re

import pytest
import torch

from mrcnn import ops

nan, inf = math.nan, math.inf
FEATURES = torch.zeros(2, 3, 8, 8)
ROIS = torch.tensor([[0.0, 0, 0, 4, 4], [1, 0, 0, 4, 4]])
BOXES = torch.tensor([[0.0, 0, 1, 1], [1, 1, 2, 2]])
SCORES = torch.tensor([0.5, 0.6])
GROUPS = torch.tensor([0, 1])


def changed(tensor, row, column, value):
    tensor = tensor.clone()
    tensor[row, column] = value
    return tensor


CASES = {  # op, arguments, the kind of error, its sentence
    "features no tensor": ("roi_align", ([1], ROIS, 2), TypeError, "features must be a tensor (N, C, H, W); got list"),
    "features 3-D": (
        *("roi_align", (FEATURES[0], ROIS, 2), ValueError),
        "features must have shape (N, C, H, W); got (3, 8, 8)",
    ),
    "features of integers": (
        *("roi_align", (FEATURES.int(), ROIS, 2), TypeError),
        "features must be of dtype float16, bfloat16, float32, float64; got int32",
    ),
    "rois without image": ("roi_align", (FEATURES, BOXES, 2), ValueError, "rois must have shape (K, 5); got (2, 4)"),
    "rois of integers": ("roi_align", (FEATURES, ROIS.long(), 2), TypeError, "rois must be of dtype float16,"),
    "rois elsewhere": (
        *("roi_align", (FEATURES, ROIS.to("meta"), 2), ValueError),
        "rois must be on the device of features, ",
    ),
    "image too high": (
        *("roi_align", (FEATURES, changed(ROIS, 1, 0, 2), 2), ValueError),
        "rois[:, 0] must be the index of an image, 0 to 1; row 1 has 2.0",
    ),
    "image negative": ("roi_align", (FEATURES, changed(ROIS, 0, 0, -1), 2), ValueError, "0 to 1; row 0 has -1.0"),
    "image not whole": ("roi_align", (FEATURES, changed(ROIS, 0, 0, 0.5), 2), ValueError, "0 to 1; row 0 has 0.5"),
    "image NaN": (
        "roi_align",
        (FEATURES, changed(ROIS, 0, 0, nan), 2),
        ValueError,
        "rois must be finite; row 0 is [nan",
    ),
    "roi NaN": (
        *("roi_align", (FEATURES, changed(ROIS, 1, 3, nan), 2), ValueError),
        "rois must be finite; row 1 is [1.0, 0.0, 0.0, nan, 4.0]",
    ),
    "roi infinite": ("roi_align", (FEATURES, changed(ROIS, 1, 3, inf), 2), ValueError, "rois must be finite; row 1"),
    "list too short": (
        *("roi_align", (FEATURES, [BOXES], 2), ValueError),
        "rois must be (K, 5) or one (K, 4) tensor for each of 2 images; got 1",
    ),
    "list of rois": (
        "roi_align",
        (FEATURES, [BOXES, ROIS], 2),
        ValueError,
        "rois[1] must have shape (K, 4); got (2, 5)",
    ),
    "no bins": (
        "roi_align",
        (FEATURES, ROIS, 0),
        ValueError,
        "output_size must be one or two whole numbers of at least 1",
    ),
    "a fraction of a bin": (
        *("roi_align", (FEATURES, ROIS, (2.0, 2.0)), ValueError),
        "output_size must be one or two whole numbers of at least 1; got (2.0, 2.0)",
    ),
    "three sizes": (
        "roi_align",
        (FEATURES, ROIS, (2, 2, 2)),
        ValueError,
        "output_size must be one or two whole numbers",
    ),
    "too many bins": (
        *("roi_align", (FEATURES, ROIS, (1025, 1024)), ValueError),
        "output_size must be at most 1048576 bins; got 1025 x 1024",
    ),
    "too many samples": (
        *("roi_align", (FEATURES, ROIS, 2, 1.0, 4097), ValueError),
        "sampling_ratio must be a whole number of at most 4096; got 4097",
    ),
    "half a sample": (
        *("roi_align", (FEATURES, ROIS, 2, 1.0, 1.5), ValueError),
        "sampling_ratio must be a whole number of at most 4096; got 1.5",
    ),
    "roi beyond float32": (
        *("roi_align", (FEATURES, changed(ROIS.double(), 1, 3, 1e39), 2), ValueError),
        "rois in float32 must be finite; row 1 is [1.0, 0.0, 0.0, inf, 4.0]",
    ),
    "scale NaN": (
        "roi_align",
        (FEATURES, ROIS, 2, nan),
        ValueError,
        "spatial_scale must be a number; got nan",
    ),
    "scale infinite": (
        *("roi_align", (FEATURES, ROIS, 2, inf), ValueError),
        "spatial_scale must be finite and above 0; got inf",
    ),
    "scale of letters": ("roi_align", (FEATURES, ROIS, 2, "1"), TypeError, "spatial_scale must be a number; got '1'"),
    "aligned a number": (
        *("roi_align", (FEATURES, ROIS, 2, 1.0, 2, 1), TypeError),
        "aligned must be True or False; got 1",
    ),
    "scale 0": ("roi_align", (FEATURES, ROIS, 2, 0.0), ValueError, "spatial_scale must be finite and above 0; got 0.0"),
    "boxes of five": ("nms", (ROIS, SCORES, 0.5), ValueError, "boxes must have shape (N, 4); got (2, 5)"),
    "one score": ("nms", (BOXES, SCORES[:1], 0.5), ValueError, "scores must have one entry per row of boxes, 2; got 1"),
    "scores 2-D": ("nms", (BOXES, SCORES[:, None], 0.5), ValueError, "scores must have shape (N,); got (2, 1)"),
    "scores of integers": ("nms", (BOXES, GROUPS, 0.5), TypeError, "scores must be of dtype float16,"),
    "scores elsewhere": ("nms", (BOXES, SCORES.to("meta"), 0.5), ValueError, "scores must be on the device of boxes, "),
    "box NaN": (
        "nms",
        (changed(BOXES, 1, 0, nan), SCORES, 0.5),
        ValueError,
        "boxes must be finite; row 1 is [nan, 1.0,",
    ),
    "box infinite": ("nms", (changed(BOXES, 0, 3, -inf), SCORES, 0.5), ValueError, "boxes must be finite; row 0"),
    "score NaN": ("nms", (BOXES, SCORES * nan, 0.5), ValueError, "scores must be finite; row 0 is nan"),
    "threshold NaN": ("nms", (BOXES, SCORES, nan), ValueError, "iou_threshold must be a number; got nan"),
    "threshold too large": ("nms", (BOXES, SCORES, 10**400), ValueError, "iou_threshold must be a number; got 1000"),
    "threshold of letters": ("nms", (BOXES, SCORES, "0.5"), TypeError, "iou_threshold must be a number; got '0.5'"),
    "boxes sparse": (
        "nms",
        (BOXES.to_sparse(), SCORES, 0.5),
        TypeError,
        "boxes must be a dense tensor; got sparse_coo",
    ),
    "boxes nested": (
        *("nms", (torch.nested.nested_tensor([BOXES, BOXES[:1]]), SCORES, 0.5), TypeError),
        "boxes must be a dense tensor; got a nested one",
    ),
    "groups of floats": ("batched_nms", (BOXES, SCORES, SCORES, 0.5), TypeError, "groups must be of dtype int64,"),
    "one group": (
        *("batched_nms", (BOXES, SCORES, GROUPS[:1], 0.5), ValueError),
        "groups must have one entry per row of boxes, 2; got 1",
    ),
    "anchors 1-D": (
        "match_anchors",
        (BOXES[0], BOXES, 0.7, 0.3),
        ValueError,
        "anchors must have shape (A, 4); got (4,)",
    ),
    "gt_boxes of integers": ("match_anchors", (BOXES, BOXES.int(), 0.7, 0.3), TypeError, "gt_boxes must be of dtype"),
    "anchor NaN": (
        "match_anchors",
        (changed(BOXES, 1, 1, nan), BOXES, 0.7, 0.3),
        ValueError,
        "anchors must be finite; row 1",
    ),
    "gt infinite": (
        "match_anchors",
        (BOXES, changed(BOXES, 0, 1, inf), 0.7, 0.3),
        ValueError,
        "gt_boxes must be finite; row 0",
    ),
    "high threshold NaN": (
        *("match_anchors", (BOXES, BOXES, nan, 0.3), ValueError),
        "high_threshold must be a number; got nan",
    ),
    "low threshold no number": (
        *("match_anchors", (BOXES, BOXES, 0.7, None), TypeError),
        "low_threshold must be a number; got None",
    ),
    "low quality no flag": (
        *("match_anchors", (BOXES, BOXES, 0.7, 0.3, "yes"), TypeError),
        "allow_low_quality_matches must be True or False; got 'yes'",
    ),
    "thresholds crossed": (
        *("match_anchors", (BOXES, BOXES, 0.3, 0.7), ValueError),
        "low_threshold must be at most high_threshold, 0.3; got 0.7",
    ),
}
ONLY_ON_THE_CPU = ("must be finite; row", "row 0 has", "row 1 has")  # values are not looked at on a GPU


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_named(implementation, case):
    op, arguments, kind, sentence = CASES[case]
    if implementation.device != "cpu" and any(part in sentence for part in ONLY_ON_THE_CPU):
        pytest.skip("would mean waiting for the GPU")

    def there(value):
        if isinstance(value, list):
            return [there(entry) for entry in value]
        return value.to(implementation.device) if isinstance(value, torch.Tensor) and not value.is_meta else value

    with pytest.raises(kind, match=re.escape(sentence)):
        getattr(ops, op)(*map(there, arguments))


def test_a_sampling_ratio_below_every_integer_is_one_below_zero(implementation):
    features, rois = torch.rand(1, 2, 8, 8), torch.tensor([[0.0, 1, 1, 6, 7]])
    features, rois = features.to(implementation.device), rois.to(implementation.device)
    pooled = ops.roi_align(features, rois, 2, sampling_ratio=-(10**30))
    assert torch.equal(pooled, ops.roi_align(features, rois, 2, sampling_ratio=-1))


def test_huge_finite_numbers_are_finite(implementation):
    """Their sum is not: the quick look must not be the last word."""
    huge = torch.tensor([[0, 0, 1e308, 1e308]] * 3, dtype=torch.float64, device=implementation.device)
    assert len(ops.nms(huge, torch.ones(3, device=implementation.device), 0.5)) >= 1


DIRECT = {  # calls of torch.ops past the Python face
    "features 3-D": ("roi_align", (FEATURES[0], ROIS, 1.0, 2, 2, 2, False)),
    "rois of four": ("roi_align", (FEATURES, BOXES, 1.0, 2, 2, 2, False)),
    "rois of another dtype": ("roi_align", (FEATURES, ROIS.double(), 1.0, 2, 2, 2, False)),
    "rois strided": ("roi_align", (FEATURES, ROIS.t().contiguous().t(), 1.0, 2, 2, 2, False)),
    "no bins": ("roi_align", (FEATURES, ROIS, 1.0, 0, 2, 2, False)),
    "bins beyond 64 bits": ("roi_align", (FEATURES, ROIS, 1.0, 2**32, 2**32, 2, False)),
    "too many samples": ("roi_align", (FEATURES, ROIS, 1.0, 2, 2, 4097, False)),
    "samples beyond 32 bits": ("roi_align", (FEATURES, ROIS, 1.0, 2, 2, 2**32 + 2, False)),
    "integers": ("roi_align", (FEATURES.int(), ROIS, 1.0, 2, 2, 2, False)),
    "grad of another shape": (
        *("roi_align_backward", (torch.zeros(2, 3, 2, 1), ROIS, 1.0, 2, 2, 2, 3, 8, 8, 2, False, False, False)),
    ),
    "boxes of five": ("nms", (ROIS, SCORES, 0.5)),
    "one score": ("nms", (BOXES, SCORES[:1], 0.5)),
    "groups of floats": ("nms", (BOXES, SCORES, 0.5, SCORES)),
    "half boxes": ("nms", (BOXES.half(), SCORES, 0.5)),
    "anchors 1-D": ("match_anchors", (BOXES[0], BOXES, 0.7, 0.3, True)),
    "two dtypes": ("match_anchors", (BOXES, BOXES.double(), 0.7, 0.3, True)),
}


@pytest.mark.parametrize("case", DIRECT)
def test_kernels_refuse_what_they_cannot_read(compiled, case):
    op, arguments = DIRECT[case]
    there = [value.to(compiled.device) if isinstance(value, torch.Tensor) else value for value in arguments]
    with pytest.raises(RuntimeError, match=r"must (be|have)"):
        getattr(compiled.ops, op)(*there)
