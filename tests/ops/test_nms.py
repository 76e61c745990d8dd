"""Non-maximum suppression against torchvision, against a loop written apart from it, and against known answers."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mrcnn import ops

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def cases(draw, most=80):
    """Boxes that overlap a good deal, many with equal scores, some on whole pixels so that IoUs hit the threshold."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    n = draw(st.integers(0, most))
    boxes = torch.rand(n, 4, dtype=draw(st.sampled_from([torch.float32, torch.float64]))) * 20
    boxes[:, 2:] += boxes[:, :2]
    if draw(st.booleans()):
        boxes = (boxes / 4).floor()
    scores = torch.randint(-3, 4, (n,)) / 4 if draw(st.booleans()) else torch.randn(n)
    return boxes, scores, draw(st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.7, 1.0]))


def loop(boxes, scores, threshold, groups=None):
    """The definition in plain Python numbers: visit by falling score, keep what no kept box of its group overlaps."""
    boxes, scores = boxes.tolist(), scores.tolist()
    groups = [0] * len(boxes) if groups is None else groups.tolist()
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if not any(groups[i] == groups[j] and overlap(boxes[i], boxes[j]) > threshold for j in kept):
            kept.append(i)
    return kept


def overlap(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union else 0


@quick
@given(case=cases())
def test_equals_torchvision(implementation, case):
    torchvision = pytest.importorskip("torchvision")
    boxes, scores, threshold = case
    expected = torchvision.ops.nms(boxes, scores.to(boxes.dtype), threshold)
    kept = ops.nms(boxes.to(implementation.device), scores.to(implementation.device), threshold).cpu()
    assert kept.tolist() == expected.tolist()


@quick
@given(case=cases())
def test_equals_a_plain_loop(implementation, case):
    boxes, scores, threshold = case
    boxes = boxes.double()  # as exact as Python's numbers
    kept = ops.nms(boxes.to(implementation.device), scores.to(implementation.device), threshold)
    assert kept.tolist() == loop(boxes, scores, threshold)


@quick
@given(case=cases(), seed=st.integers(0, 2**31), names=st.sampled_from([[0], [1, 2, 3], [-(2**40), 0, 7], range(50)]))
def test_batched_equals_a_plain_loop(implementation, case, seed, names):
    boxes, scores, threshold = case
    boxes = boxes.double()
    torch.manual_seed(seed)
    groups = torch.tensor(list(names))[torch.randint(0, len(names), (len(boxes),))]
    there = (tensor.to(implementation.device) for tensor in (boxes, scores, groups))
    assert ops.batched_nms(*there, threshold).tolist() == loop(boxes, scores, threshold, groups)


def test_many_boxes_of_many_groups(implementation):
    """Past the sizes at which kernels cut their work in pieces; against NMS called group by group."""
    torch.manual_seed(0)
    n = 1500 if implementation.name == "reference" else 5000
    boxes = torch.rand(n, 4) * 100
    boxes[:, 2:] += boxes[:, :2]
    scores, groups = torch.rand(n), torch.randint(0, 3, (n,))
    boxes, scores, groups = (tensor.to(implementation.device) for tensor in (boxes, scores, groups))
    rows = [torch.where(groups == g)[0] for g in range(3)]
    kept = torch.cat([row[ops.nms(boxes[row], scores[row], 0.5)] for row in rows])
    expected = kept[scores[kept].argsort(descending=True)]
    assert torch.equal(ops.batched_nms(boxes, scores, groups, 0.5), expected)


@pytest.mark.parametrize("n", [4095, 4096, 4097])
def test_many_boxes_equal_torchvision(implementation, n):
    torchvision = pytest.importorskip("torchvision")
    if implementation.name == "reference":
        pytest.skip("a Python loop: covered by the smaller cases")
    torch.manual_seed(n)
    boxes = torch.rand(n, 4) * 100
    boxes[:, 2:] += boxes[:, :2]
    scores = torch.randint(0, 1000, (n,)) / 1000
    kept = ops.nms(boxes.to(implementation.device), scores.to(implementation.device), 0.6)
    assert torch.equal(kept.cpu(), torchvision.ops.nms(boxes, scores, 0.6))


def test_known_answer(implementation):
    """IoU 1/3 when each shares half; of equal scores the lower row; reaching the threshold is not passing it."""
    boxes = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2], [0, 0, 2, 2], [5, 5, 6, 6]], device=implementation.device)
    scores = torch.tensor([0.5, 0.5, 0.9, 0.1], device=implementation.device)
    assert ops.nms(boxes, scores, 0.3).tolist() == [2, 3]
    assert ops.nms(boxes, scores, 0.34).tolist() == [2, 1, 3]
    assert ops.nms(boxes[[1, 1]], scores[[0, 1]], 1.0).tolist() == [0, 1]  # IoU 1 is not above 1
    halves = torch.tensor([[0.0, 0, 2, 1], [0, 0, 1, 1]], device=implementation.device)
    assert ops.nms(halves, scores[:2], 0.5).tolist() == [0, 1]  # IoU exactly 0.5
    assert ops.nms(halves, scores[:2], 0.5 - 1e-9).tolist() == [0]  # though in float32 both thresholds are 0.5


def test_threshold_is_compared_in_double_precision(implementation):
    """IoU 3/10 in float32 is 0.30000001: above 0.3, as torchvision has it on the CPU; float32(0.3) would be equal."""
    boxes = torch.tensor([[0.0, 0, 10, 1], [0, 0, 3, 1]], device=implementation.device)
    assert ops.nms(boxes, torch.ones(2, device=implementation.device), 0.3).tolist() == [0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_boxes_are_compared_in_float32(implementation, dtype):
    torch.manual_seed(0)
    boxes = (torch.rand(60, 4) * 30).to(dtype)
    boxes[:, 2:] += boxes[:, :2]
    scores = torch.rand(60).to(dtype)
    kept = ops.nms(boxes.to(implementation.device), scores.to(implementation.device), 0.4)
    assert kept.tolist() == loop(boxes, scores, 0.4)


def test_boxes_without_area_overlap_nothing(implementation):
    boxes = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 2, 2], [1, 1, 1, 2]], device=implementation.device)
    scores = torch.ones(4, device=implementation.device)
    assert ops.nms(boxes, scores, 0.0).tolist() == [0, 1, 2, 3]


def test_no_boxes(implementation):
    empty = torch.zeros(0, 4, device=implementation.device)
    assert ops.nms(empty, empty[:, 0], 0.5).shape == (0,)
    assert ops.batched_nms(empty, empty[:, 0], empty[:, 0].long(), 0.5).shape == (0,)


def test_strided_boxes(implementation):
    """Boxes that are columns of a larger table, scores every other entry of one."""
    torch.manual_seed(0)
    table = torch.rand(40, 9, device=implementation.device)
    table[:, 5:7] += table[:, 1:3]
    columns = [1, 2, 5, 6]
    apart = table.t()[::1].t()[:, 1:7:1][:, [0, 1, 4, 5]]
    assert ops.nms(apart, table[:, 8], 0.2).tolist() == loop(table[:, columns].double(), table[:, 8], 0.2)
    boxes = table[::2, 1:5].cumsum(1)
    assert (
        ops.nms(boxes.t().contiguous().t(), table[::2, 8], 0.2).tolist() == ops.nms(boxes, table[::2, 8], 0.2).tolist()
    )


def test_far_from_the_origin_groups_are_exact(implementation):
    """Offsets for each class, as in torchvision, would round these coordinates to whole steps of 8."""
    boxes = torch.tensor(
        [[0.0, 0, 1, 1], [0.6, 0, 1.6, 1], [1e8, 1e8, 1e8 + 64, 1e8 + 64]], device=implementation.device
    )
    scores = torch.tensor([0.9, 0.8, 0.7], device=implementation.device)
    groups = torch.tensor([1, 1, 2], device=implementation.device)
    assert ops.batched_nms(boxes, scores, groups, 0.3).tolist() == [0, 1, 2]  # IoU 0.25
    assert ops.batched_nms(boxes, scores, groups, 0.2).tolist() == [0, 2]


def test_meaningless_boxes_are_harmless_in_the_kernels(compiled):
    """Called past the checks (as on CUDA, where values are not looked at): kept, and nothing is dropped for them."""
    nan, inf = math.nan, math.inf
    boxes = torch.tensor([[0.0, 0, 1, 1], [nan, 0, 1, 1], [0, 0, inf, 1], [0, -inf, inf, inf], [0, 0, 1, 1]])
    scores = torch.tensor([0.5, 0.9, 0.8, 0.7, nan])
    kept = compiled.ops.nms(boxes.to(compiled.device), scores.to(compiled.device), 0.5)
    assert kept.tolist() == [4, 1, 2, 3]  # the NaN score counts as the highest, and row 0 equals row 4


def test_bits_do_not_depend_on_threads():
    torch.manual_seed(0)
    boxes = torch.rand(20_000, 4) * 300
    boxes[:, 2:] = boxes[:, :2] + torch.rand(20_000, 2) * 40
    scores, groups = torch.rand(20_000), torch.randint(0, 2, (20_000,))
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append((ops.nms(boxes, scores, 0.5), ops.batched_nms(boxes, scores, groups, 0.5)))
    finally:
        torch.set_num_threads(threads)
    for alone, batched in results[1:]:
        assert torch.equal(alone, results[0][0])
        assert torch.equal(batched, results[0][1])
