"""Anchor matching against torchvision's box_iou and Matcher to the bit, against a loop, and against known answers."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mrcnn import ops

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def cases(draw):
    """Anchors in raster order with objects among them; on whole pixels half the time, so that there are many ties."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    a, g = draw(st.integers(0, 400)), draw(st.integers(0, 12))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    places = torch.arange(a, dtype=dtype)[:, None] * torch.tensor([0.5, 0.0, 0.5, 0.0], dtype=dtype)
    anchors = places + torch.tensor([0.0, 0, 12, 12], dtype=dtype) + torch.randn(a, 4, dtype=dtype)
    gt_boxes = torch.rand(g, 4, dtype=dtype) * torch.tensor([max(a, 1) / 2, 8, 16, 16])
    gt_boxes[:, 2:] += gt_boxes[:, :2]
    if draw(st.booleans()):
        anchors, gt_boxes = anchors.round(), gt_boxes.round()
    high = draw(st.sampled_from([0.7, 0.5, 0.3]))
    low = draw(st.sampled_from([0.3, 0.0, high]))
    return anchors, gt_boxes, high, low, draw(st.booleans())


def run(implementation, anchors, gt_boxes, *settings):
    device = implementation.device
    matches, iou = ops.match_anchors(anchors.to(device), gt_boxes.to(device), *settings)
    assert matches.dtype == torch.int64
    return matches.cpu(), iou.cpu()


@quick
@given(case=cases())
def test_equals_torchvision_to_the_bit(implementation, case):
    torchvision = pytest.importorskip("torchvision")
    from torchvision.models.detection._utils import Matcher

    anchors, gt_boxes, high, low, allow_low_quality = case
    # Left to the other tests: what torchvision has no answer to, and where ours is different on purpose.
    table = torchvision.ops.box_iou(gt_boxes, anchors)
    touched = table.nan_to_num(0).amax(dim=1) > 0 if len(anchors) else torch.zeros(len(gt_boxes), dtype=torch.bool)
    gt_boxes, table = gt_boxes[touched], table[touched]
    if not table.numel() or table.isnan().any():
        return
    matches, iou = run(implementation, anchors, gt_boxes, high, low, allow_low_quality)
    assert torch.equal(iou, table.amax(dim=0))
    assert torch.equal(matches, Matcher(high, low, allow_low_quality)(table))


def loop(anchors, gt_boxes, high, low, allow_low_quality):
    """The definition in plain Python numbers."""
    anchors, gt_boxes = anchors.tolist(), gt_boxes.tolist()
    table = [[overlap(anchor, gt) for gt in gt_boxes] for anchor in anchors]
    best_of_gt = [max(column) for column in zip(*table, strict=True)] if table else []
    matches, ious = [], []
    for row in table:
        iou = max(row, default=0.0)
        claimed = allow_low_quality and any(x == best > 0 for x, best in zip(row, best_of_gt, strict=True))
        label = -1 if iou < low or not row else -2 if iou < high else row.index(iou)
        matches.append(row.index(iou) if claimed else label)
        ious.append(iou)
    return matches, ious


def overlap(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return max(width * height / union, 0.0) if union else 0.0


@quick
@given(case=cases())
def test_equals_a_plain_loop(implementation, case):
    anchors, gt_boxes, *settings = case
    anchors, gt_boxes = anchors.double(), gt_boxes.double()  # as exact as Python's numbers
    matches, iou = run(implementation, anchors, gt_boxes, *settings)
    assert (matches.tolist(), iou.tolist()) == loop(anchors, gt_boxes, *settings)


# Boxes one pixel high and one object [0, 10), so that an IoU can be chosen: [0, 10 x) has IoU x with it.
def strips(*ious):
    return torch.tensor([[0.0, 0, 10 * iou, 1] for iou in ious])


def test_thresholds(implementation):
    matches, iou = run(implementation, strips(0.75, 0.7, 0.6875, 0.375, 0.3, 0.25), strips(1.0), 0.7, 0.3)
    assert matches.tolist() == [0, 0, -2, -2, -2, -1]  # reaching the high one matches, reaching the low one is not less
    torch.testing.assert_close(iou, torch.tensor([0.75, 0.7, 0.6875, 0.375, 0.3, 0.25]))


def test_known_table(implementation):
    """Three objects, four anchors, 0.7 / 0.3, with IoUs that can be counted: objects are rows of 8 cells, one per line.

    anchor      0    1    2    3
    object 0  7/8    0    0  4/8
    object 1    0  4/8    0    0     anchor 1 is its best, though not good
    object 2    0    0  2/8    0     anchor 2 is its best, though bad
    """
    gt_boxes = torch.tensor([[0.0, 0, 8, 1], [0, 2, 8, 3], [0, 4, 8, 5]])
    anchors = torch.tensor([[0.0, 0, 7, 1], [0, 2, 4, 3], [0, 4, 2, 5], [0, 0, 4, 1]])
    expected_iou = [7 / 8, 4 / 8, 2 / 8, 4 / 8]
    matches, iou = run(implementation, anchors, gt_boxes, 0.7, 0.3)
    assert (matches.tolist(), iou.tolist()) == ([0, -2, -1, -2], expected_iou)
    matches, iou = run(implementation, anchors, gt_boxes, 0.7, 0.3, True)
    assert (matches.tolist(), iou.tolist()) == ([0, 1, 2, -2], expected_iou)


def test_ties_go_to_the_first_object_and_to_every_anchor(implementation):
    anchors = strips(0.5, 0.5, 0.25)
    matches, _ = run(implementation, anchors, strips(1.0, 1.0), 0.4, 0.4)
    assert matches.tolist() == [0, 0, -1]
    matches, _ = run(implementation, anchors, strips(1.0), 0.9, 0.6, True)
    assert matches.tolist() == [0, 0, -1]  # both anchors that tie for the object's best are kept


def test_claimed_anchor_keeps_its_own_best_object(implementation):
    """The one anchor is the best of both objects; it overlaps the second more."""
    matches, _ = run(implementation, strips(1.0), strips(0.25, 0.5), 0.9, 0.6, True)
    assert matches.tolist() == [1]


def test_object_that_no_anchor_touches_claims_none(implementation):
    """torchvision would match every anchor of IoU 0 with it."""
    far = torch.tensor([[500.0, 500, 510, 510]])
    matches, iou = run(implementation, strips(0.5, 1.0), torch.cat([strips(1.0), far]), 0.7, 0.3, True)
    assert matches.tolist() == [-2, 0]
    matches, iou = run(implementation, strips(0.5, 1.0), far, 0.7, 0.3, True)
    assert (matches.tolist(), iou.tolist()) == ([-1, -1], [0, 0])


def test_boxes_without_area(implementation):
    dot = torch.tensor([[1.0, 0, 1, 0]])
    matches, iou = run(implementation, torch.cat([dot, strips(1.0)]), torch.cat([dot, strips(0.5)]), 0.5, 0.5, True)
    assert (matches.tolist(), iou.tolist()) == ([-1, 1], [0, 0.5])


@pytest.mark.parametrize("allow_low_quality", [False, True])
def test_nothing_to_match(implementation, allow_low_quality):
    none = torch.zeros(0, 4)
    matches, iou = run(implementation, strips(1.0, 0.5), none, 0.7, 0.3, allow_low_quality)
    assert (matches.tolist(), iou.tolist()) == ([-1, -1], [0, 0])
    matches, iou = run(implementation, none, strips(1.0), 0.7, 0.3, allow_low_quality)
    assert matches.shape == iou.shape == (0,)


def test_mixed_precision(implementation):
    """Half-precision boxes are compared in float32, and against float64 ones in float64."""
    matches, iou = run(implementation, strips(0.75).half(), strips(1.0).bfloat16(), 0.7, 0.3)
    assert (matches.tolist(), iou.tolist(), iou.dtype) == ([0], [0.75], torch.float32)
    assert run(implementation, strips(0.75), strips(1.0).double(), 0.7, 0.3)[1].dtype == torch.float64


def grid_of_anchors(rows, columns):
    """Squares of three sizes on a grid, in raster order, as an RPN has them."""
    y, x = torch.meshgrid(torch.arange(rows) * 8.0, torch.arange(columns) * 8.0, indexing="ij")
    half = torch.tensor([11.0, 16.0, 23.0])
    sides = torch.stack([-half, -half, half, half], dim=1)  # (3, 4)
    return (torch.stack([x, y, x, y], dim=-1)[:, :, None] + sides).reshape(-1, 4)


def test_a_picture_full_of_anchors(implementation):
    """Past the sizes at which kernels cut their work in pieces; against the whole table of IoUs."""
    torchvision = pytest.importorskip("torchvision")
    from torchvision.models.detection._utils import Matcher

    torch.manual_seed(0)
    anchors = grid_of_anchors(45, 67)
    gt_boxes = torch.rand(90, 4) * torch.tensor([500.0, 330, 60, 60])
    gt_boxes[:, 2:] += gt_boxes[:, :2] + 4
    table = torchvision.ops.box_iou(gt_boxes, anchors)
    for order in (torch.arange(len(anchors)), torch.randperm(len(anchors))):
        matches, iou = run(implementation, anchors[order], gt_boxes, 0.7, 0.3, True)
        assert torch.equal(matches, Matcher(0.7, 0.3, True)(table[:, order]))
        assert torch.equal(iou, table[:, order].amax(dim=0))


def test_meaningless_boxes_are_harmless_in_the_kernels(compiled):
    """Called past the checks (as on CUDA, where values are not looked at): no overlap with anything."""
    nan, inf = math.nan, math.inf
    anchors = torch.cat([strips(1.0), torch.tensor([[nan, 0, 1, 1], [0, 0, inf, inf], [-inf, -inf, inf, inf]])])
    gt_boxes = torch.cat([torch.tensor([[0, nan, 10, 1], [0, 0, inf, inf]]), strips(1.0)])
    matches, iou = compiled.ops.match_anchors(anchors.to(compiled.device), gt_boxes.to(compiled.device), 0.7, 0.3, True)
    assert (matches.tolist(), iou.tolist()) == ([2, -1, -1, -1], [1, 0, 0, 0])


def test_bits_do_not_depend_on_threads():
    torch.manual_seed(0)
    anchors = grid_of_anchors(45, 67)
    gt_boxes = torch.rand(30, 4) * 300
    gt_boxes[:, 2:] += gt_boxes[:, :2]
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(ops.match_anchors(anchors, gt_boxes, 0.7, 0.3, True))
    finally:
        torch.set_num_threads(threads)
    for matches, iou in results[1:]:
        assert torch.equal(matches, results[0][0])
        assert torch.equal(iou, results[0][1])


@pytest.mark.parametrize("corner", range(4))
@pytest.mark.parametrize("row", [0, 5, 127, 128])
def test_an_anchor_that_is_nan_takes_nothing_from_its_neighbours(compiled, corner, row):
    """The op itself, as a compiled graph calls it: nobody has looked at the values."""
    torch.manual_seed(0)
    anchors = grid_of_anchors(10, 10)[:300]
    gt_boxes = anchors[[0, 3, 100, 126, 129, 299]] + 1.0
    without = torch.arange(300) != row

    def match(boxes: torch.Tensor) -> list[torch.Tensor]:
        found = compiled.ops.match_anchors(boxes.to(compiled.device), gt_boxes.to(compiled.device), 0.5, 0.3, False)
        return [each.cpu() for each in found]

    expected = match(anchors[without])
    assert (expected[0] >= 0).sum() >= 5
    anchors[row, corner] = torch.nan
    matches, iou = match(anchors)
    assert torch.equal(matches[without], expected[0])
    assert torch.equal(iou[without], expected[1])
    assert iou[row] == 0
