"""Our kernels under many schedules, at the limits of grids, and through the emulated ops."""

import pytest
import torch
from harness import Program, random_boxes, random_rois, roi_align_program

from mrcnn import ops
from mrcnn.lab.cuda import schedule
from mrcnn.ops import backend, reference

pytestmark = pytest.mark.skipif(not backend.available("emulated"), reason="the emulated ops are not built")

SCHEDULES = [("ascending", 0), ("descending", 0), *(("shuffled", seed) for seed in range(20))]


@pytest.fixture(autouse=True)
def emulated():
    with ops.use_backend("emulated"):
        yield


def distinct(compute) -> list:
    """The different results of `compute` under all schedules."""
    results = []
    for each in SCHEDULES:
        with schedule(*each):
            result = compute()
        if not any(torch.equal(result, other) for other in results):
            results.append(result)
    return results


def roi_gradient(dtype=torch.float32, format=torch.contiguous_format) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    features = torch.randn(2, 5, 20, 18, generator=random).to(dtype).contiguous(memory_format=format)
    features.requires_grad_()
    pooled = ops.roi_align(features, random_rois(12, 2, 80).to(dtype), (3, 2), 0.25, 2)
    pooled.backward(torch.randn(pooled.shape, generator=random).to(dtype))
    return features.grad


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_deterministic_gradient_has_the_same_bits_in_every_order(deterministic, dtype, format):
    assert len(distinct(lambda: roi_gradient(dtype, format))) == 1


def test_scattered_gradient_has_not():
    """Which is why the other exists; and the differences are roundings."""
    results = distinct(roi_gradient)
    assert len(results) > 1
    for result in results[1:]:
        # Sums of some dozens of float32 products around 1 each.
        torch.testing.assert_close(result, results[0], rtol=1e-5, atol=1e-5)


def test_forward_has_the_same_bits_in_every_order():
    features, rois = torch.randn(2, 70, 9, 11), random_rois(4, 2, 30)
    for x in (features, features.contiguous(memory_format=torch.channels_last)):
        assert len(distinct(lambda x=x: ops.roi_align(x, rois, (3, 2), 0.5))) == 1


def test_nms_has_the_same_bits_in_every_order():
    boxes, scores, groups = random_boxes(500), torch.rand(500), torch.randint(2, (500,))
    assert len(distinct(lambda: ops.batched_nms(boxes, scores, groups, 0.5))) == 1


@pytest.mark.parametrize("which", [0, 1])
def test_matching_has_the_same_bits_in_every_order(which):
    anchors = random_boxes(200).repeat(2, 1)  # every IoU is reached twice
    gt_boxes = random_boxes(9, seed=1)
    assert len(distinct(lambda: ops.match_anchors(anchors, gt_boxes, 0.5, 0.3, True)[which])) == 1


def test_nms_over_many_strips():
    """More than 64 words and more than 64 blocks of 64; groups, so that the reference need not compare all pairs."""
    boxes, scores = random_boxes(9000), torch.rand(9000)
    groups = torch.arange(9000) // 30
    kept = ops.batched_nms(boxes, scores, groups, 0.3)
    expected = [g[reference.nms(boxes[g], scores[g], 0.3)] for g in torch.arange(9000).split(30)]
    expected = torch.cat(expected)
    assert torch.equal(kept, expected[scores[expected].argsort(descending=True, stable=True)])


def test_a_chain_is_settled_to_its_end():
    """Each box overlaps the next: every second is kept, and no answer is right before its better neighbour's is."""
    left = torch.arange(300.0)[:, None] * 5
    boxes = torch.cat([left, torch.zeros_like(left), left + 10, torch.full_like(left, 10)], dim=1)
    kept = ops.nms(boxes, -torch.arange(300.0), 0.3)  # IoU of neighbours 1/3, of others 0
    assert torch.equal(kept, torch.arange(0, 300, 2))


def test_nothing_is_launched_for_nothing():
    """A grid without blocks is an error, in CUDA and in the emulator."""
    no_rois, no_boxes = torch.zeros(0, 5), torch.zeros(0, 4)
    assert ops.roi_align(torch.zeros(1, 3, 4, 4), no_rois, 2).shape == (0, 3, 2, 2)
    assert ops.roi_align(torch.zeros(1, 0, 4, 4), torch.zeros(2, 5), 2).shape == (2, 0, 2, 2)
    assert ops.nms(no_boxes, torch.zeros(0), 0.5).shape == (0,)
    assert ops.match_anchors(no_boxes, random_boxes(3), 0.7, 0.3, True)[0].shape == (0,)
    assert ops.match_anchors(random_boxes(3), no_boxes, 0.7, 0.3, True)[0].tolist() == [-1, -1, -1]
    features = torch.zeros(1, 3, 4, 4, requires_grad=True)
    for wish in (False, True):
        torch.use_deterministic_algorithms(wish)
        (gradient,) = torch.autograd.grad(ops.roi_align(features, no_rois, 2).sum(), features)
        torch.use_deterministic_algorithms(False)
        assert torch.equal(gradient, torch.zeros(1, 3, 4, 4))


def test_grids_of_millions_of_rois():
    """Millions of RoIs with 1,000 channels fit a grid; that blocks then take turns is what `few_blocks` checks."""
    program = roi_align_program()
    program = Program(
        program.text + "namespace mrcnn { void ask(int64_t items, unsigned* out) { *out = blocks_for(items); } }",
        [],
        ["mrcnn::ask"],
    )
    out = torch.zeros(1, dtype=torch.int32)
    for items, blocks in ((1, 1), (1000, 1000), (5_000_000 * 16, 1 << 20), (1 << 40, 1 << 20)):
        program.call("mrcnn::ask", items, out)
        assert out.item() == blocks


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_rois_of_a_batch_without_pictures_pool_to_nan(format):
    """Past the checks, as on CUDA: there is no memory to read from."""
    features = torch.empty(0, 4, 8, 8).contiguous(memory_format=format)
    rois = torch.tensor([[0, 1.0, 1, 6, 6], [-1, 0, 0, 1e6, 1e6]])
    assert torch.ops.mrcnn_emulated.roi_align(features, rois, 1.0, 2, 2, 2, True).isnan().all()
