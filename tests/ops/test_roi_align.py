"""RoIAlign against torchvision, against a loop written apart from it, and against answers known by hand."""

import math
import re
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import LAYOUTS, lay_out

from mrcnn import ops

# Sums of at most a few dozen products near 1, in another order: rounding alone.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}
# One result rounded to 11 or 8 bits: half a unit in the last place of numbers up to 8.
HALF_TOLERANCE = {torch.float16: 2**-8, torch.bfloat16: 2**-5}

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def cases(draw, dtypes=(torch.float64, torch.float32)):
    """Features, RoIs and settings: RoIs of all sizes, also empty ones, inside, across and beyond the border."""
    whole = st.integers
    torch.manual_seed(draw(whole(0, 2**31)))
    n, c, h, w = draw(whole(1, 3)), draw(whole(0, 20)), draw(whole(1, 14)), draw(whole(1, 14))
    k, scale = draw(whole(0, 12)), draw(st.sampled_from([1.0, 0.5, 0.25]))
    dtype = draw(st.sampled_from(dtypes))
    corner = (torch.rand(k, 2) * 2 - 0.5) * torch.tensor([w, h]) / scale
    size = torch.rand(k, 2) * torch.tensor([w, h]) / scale * 10 ** draw(st.floats(-2, 0.3))
    size *= torch.rand(k, 2) > 0.1  # one side in ten is nothing
    rois = torch.cat([torch.randint(0, n, (k, 1)), corner, corner + size], dim=1).to(dtype)
    return {
        "features": lay_out(torch.randn(n, c, h, w, dtype=dtype), draw(st.sampled_from(LAYOUTS))),
        "rois": rois,
        "output_size": (draw(whole(1, 5)), draw(whole(1, 5))),
        "spatial_scale": scale,
        "sampling_ratio": draw(st.sampled_from([-1, 0, 1, 2, 3])),
        "aligned": draw(st.booleans()),
    }


def on(device, case):
    return {name: v.to(device) if isinstance(v, torch.Tensor) else v for name, v in case.items()}


def loop(features, rois, output_size, spatial_scale, sampling_ratio, aligned):
    """RoIAlign for one channel in plain Python numbers: every sample looks at every cell of the map."""
    (ph, pw), height, width = output_size, *features.shape[2:]
    result = torch.zeros(len(rois), 1, ph, pw, dtype=torch.float64)
    for k, (image, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (corner * spatial_scale - 0.5 * aligned for corner in corners)
        roi_w, roi_h = (x2 - x1, y2 - y1) if aligned else (max(x2 - x1, 1), max(y2 - y1, 1))
        ny = sampling_ratio if sampling_ratio > 0 else math.ceil(roi_h / ph)
        nx = sampling_ratio if sampling_ratio > 0 else math.ceil(roi_w / pw)
        for p, q in ((p, q) for p in range(ph) for q in range(pw)):
            samples = []
            for j, i in ((j, i) for j in range(ny) for i in range(nx)):
                y = y1 + roi_h * (p + (j + 0.5) / ny) / ph
                x = x1 + roi_w * (q + (i + 0.5) / nx) / pw
                value = 0.0
                if -1 <= y <= height and -1 <= x <= width:
                    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
                    for cell_y in range(height):
                        for cell_x in range(width):
                            weight = max(0, 1 - abs(y - cell_y)) * max(0, 1 - abs(x - cell_x))
                            value += weight * features[int(image), 0, cell_y, cell_x].item()
                samples.append(value)
            result[k, 0, p, q] = sum(samples) / len(samples) if samples else 0
    return result


@quick
@given(case=cases())
def test_equals_torchvision(implementation, case):
    torchvision = pytest.importorskip("torchvision")
    tolerance = TOLERANCE[case["features"].dtype]
    expected = torchvision.ops.roi_align(*case.values())
    pooled = ops.roi_align(**on(implementation.device, case)).cpu()
    torch.testing.assert_close(pooled, expected, atol=tolerance, rtol=tolerance)


@quick
@given(case=cases(), layout=st.sampled_from(LAYOUTS), seed=st.integers(0, 2**31))
def test_gradient_equals_torchvision(implementation, case, layout, seed):
    torchvision = pytest.importorskip("torchvision")
    tolerance = 10 * TOLERANCE[case["features"].dtype]  # a cell may collect from every bin of every RoI
    torch.manual_seed(seed)
    grads = []
    for op, device in ((torchvision.ops.roi_align, "cpu"), (ops.roi_align, implementation.device)):
        there = on(device, case)
        there["features"].requires_grad_()
        pooled = op(*there.values())
        if not grads:
            grad_of_pooled = lay_out(torch.randn_like(pooled), layout)
        grads.append(torch.autograd.grad(pooled, there["features"], grad_of_pooled.to(device))[0].cpu())
    torch.testing.assert_close(grads[1], grads[0], atol=tolerance, rtol=tolerance)


@quick
@given(case=cases(dtypes=(torch.float32,)), dtype=st.sampled_from(list(HALF_TOLERANCE)))
def test_half_precision_rounds_once(implementation, case, dtype):
    """float16 and bfloat16 features with float32 RoIs, as under autocast: as in float64, rounded at the end."""
    features = case["features"].to(dtype)
    exact = ops.roi_align(**on(implementation.device, case | {"features": features.double()}))
    case["features"] = lay_out(features, "channels_last" if case["aligned"] else "contiguous").to(implementation.device)
    pooled = ops.roi_align(**on(implementation.device, case))
    assert pooled.dtype == dtype
    torch.testing.assert_close(pooled.double(), exact, atol=HALF_TOLERANCE[dtype] / 8, rtol=HALF_TOLERANCE[dtype] / 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_half_precision_gradient_is_summed_in_float32(implementation, dtype, layout):
    """2,560 RoIs give 1/1024 each to one cell. Summed in half precision the sum would stick once 1/1024 rounds away."""
    features = lay_out(torch.zeros(1, 3, 1, 1, dtype=dtype, device=implementation.device), layout).requires_grad_()
    rois = torch.tensor([[0.0, 0, 0, 1, 1]], device=implementation.device).expand(2560, 5)
    pooled = ops.roi_align(features, rois, 1, sampling_ratio=1)
    pooled.backward(torch.full_like(pooled, 1 / 1024))
    assert features.grad.flatten().tolist() == [2.5] * 3


@settings(quick, max_examples=25)
@given(case=cases(dtypes=(torch.float64,)))
def test_equals_a_plain_loop(implementation, case):
    case["features"] = case["features"][:, :1]
    if case["features"].shape[1]:
        pooled = ops.roi_align(**on(implementation.device, case)).cpu()
        torch.testing.assert_close(pooled, loop(**case), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(("aligned", "first"), [(True, 4.5), (False, 7.5)])
def test_known_answer(implementation, aligned, first):
    """A 5x5 arange grows by 1 per column and 5 per row. Bins of half a pixel: steps of .5 and 2.5 from the first.

    The first bin's middle is at 1.25 of a picture whose pixel i covers [i, i+1): at .75 of pixel centres, so
    .75 * 6 = 4.5. Without the half pixel it is 1.25 * 6 = 7.5.
    """
    features = torch.arange(25.0, device=implementation.device).reshape(1, 1, 5, 5)
    rois = torch.tensor([[0, 1.0, 1.0, 3.0, 3.0]], device=implementation.device)
    steps = torch.arange(4)
    expected = first + 2.5 * steps[:, None] + 0.5 * steps[None, :]
    assert torch.equal(ops.roi_align(features, rois, 4, aligned=aligned)[0, 0].cpu(), expected)


def test_empty_box_pools_to_zeros_with_zero_gradient(implementation):
    features = torch.full((1, 2, 5, 5), math.nan, device=implementation.device, requires_grad=True)
    rois = torch.tensor([[0, 2.0, 2.0, 2.0, 2.0]], device=implementation.device)
    pooled = ops.roi_align(features, rois, 3, aligned=True)
    pooled.sum().backward()
    assert pooled.abs().max() == 0
    assert features.grad.abs().max() == 0


def test_box_of_negative_size_pools_to_zeros(implementation):
    """torchvision runs out of memory here."""
    features = torch.ones(1, 2, 5, 5, device=implementation.device)
    rois = torch.tensor([[0, 4.0, 4.0, 1.0, 1.0]], device=implementation.device)
    assert ops.roi_align(features, rois, 3, aligned=True).abs().max() == 0


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4), (2, 3, 4, 0)])
def test_nothing_to_pool(implementation, shape):
    features = torch.ones(shape, device=implementation.device, requires_grad=True)
    rois = torch.tensor([[0.0, 0, 0, 2, 2]] * min(shape[0], 1), device=implementation.device).reshape(-1, 5)
    pooled = ops.roi_align(features, rois, 2)
    assert pooled.shape == (len(rois), shape[1], 2, 2)
    assert not pooled.any()
    pooled.sum().backward()
    assert features.grad.shape == shape


def test_no_rois(implementation):
    features = torch.ones(2, 3, 4, 4, device=implementation.device, requires_grad=True)
    pooled = ops.roi_align(features, torch.zeros(0, 5, device=implementation.device), 2)
    assert pooled.shape == (0, 3, 2, 2)
    pooled.sum().backward()
    assert not features.grad.any()


def test_memory_format_follows_the_features(compiled):
    rois = torch.tensor([[0, 1.0, 1.0, 3.0, 3.0]], device=compiled.device).expand(4, 5)
    for layout, format in (("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)):
        values = torch.randn(2, 3, 5, 6, device=compiled.device)
        for grad_layout in ("contiguous", "channels_last"):
            features = lay_out(values, layout).requires_grad_()
            pooled = ops.roi_align(features, rois, 2)
            pooled.backward(lay_out(torch.randn_like(pooled), grad_layout))
            assert pooled.is_contiguous(memory_format=format)
            assert features.grad.is_contiguous(memory_format=format)


def test_list_of_boxes(implementation):
    """A list of boxes per image is the same as rows with the image's index; an image without boxes too."""
    features = torch.randn(3, 2, 8, 8, device=implementation.device)
    boxes = [torch.rand(k, 4, device=implementation.device).cumsum(1) for k in (2, 0, 3)]
    images = torch.tensor([0.0, 0, 2, 2, 2], device=implementation.device)
    rows = torch.cat([images[:, None], torch.cat(boxes)], dim=1)
    assert torch.equal(ops.roi_align(features, boxes, 2), ops.roi_align(features, rows, 2))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_nan_and_infinity_stay_where_they_are(compiled, layout):
    """Bins that read such a cell show it; all others are untouched by it. Samples lie at .25, 1.25, ..., 5.25."""
    values = torch.ones(1, 3, 6, 6)
    values[0, 1, 0, 0], values[0, 2, 3, 3] = math.nan, math.inf
    features = lay_out(values, layout).to(compiled.device)
    rois = torch.tensor([[0, 0.25, 0.25, 6.25, 6.25]], device=compiled.device)
    pooled = ops.roi_align(features, rois, 3, aligned=True)[0].cpu()
    expected = torch.ones(3, 3, 3)
    expected[1, 0, 0], expected[2, 1, 1] = math.nan, math.inf
    torch.testing.assert_close(pooled, expected, equal_nan=True, atol=1e-6, rtol=0)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_meaningless_rois_are_loud_and_harmless_in_the_kernels(compiled, layout):
    """Called past the checks (as on CUDA, where values are not looked at): all NaN, and no gradient."""
    nan, inf = math.nan, math.inf
    rows = [[0.0, 0, 0, 2, 2], [2, 0, 0, 2, 2], [-1, 0, 0, 2, 2], [0.5, 0, 0, 2, 2], [nan, 0, 0, 2, 2]]
    rows += [[0, nan, 0, 2, 2], [0, 0, -inf, 2, 2], [0, 0, 0, inf, 2], [1e30, 0, 0, 2, 2]]
    rois = torch.tensor(rows, device=compiled.device)
    features = lay_out(torch.ones(2, 3, 4, 4), layout).to(compiled.device).requires_grad_()
    pooled = compiled.ops.roi_align(features, rois, 1.0, 2, 2, 2, False)
    assert (pooled[0] == 1).all()
    assert pooled[1:].isnan().all()
    pooled.backward(torch.ones_like(pooled))
    assert features.grad.sum() == 4 * 3  # of the one good RoI: four bins in three channels


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [-1, 2])
def test_boxes_of_any_size_anywhere_end(implementation, layout, aligned, sampling_ratio):
    """Off the map, or with samples so far apart that none lies on it: zeros, also where cells overflow float32."""
    far, huge = 1e20, torch.finfo(torch.float32).max
    rows = [[-far, 0, -far, 4], [0, far, 4, far], [-huge, -huge, -huge / 2, 0], [5, 5, 9, 9]]
    rows += [[0, 0, 8, 1e12], [-1e12, 0, 4, 4], [-1e9, -1e9, 1e9, 1e9], [-huge, -huge, huge, huge], [1, 1, huge, huge]]
    rois = torch.cat([torch.zeros(len(rows), 1), torch.tensor(rows)], dim=1).to(implementation.device)
    features = lay_out(torch.ones(1, 3, 2, 2), layout).to(implementation.device).requires_grad_()
    for scale in (1.0, 1e6):
        pooled = ops.roi_align(features, rois, 2, scale, sampling_ratio, aligned)
        (gradient,) = torch.autograd.grad(pooled.sum(), features)
        assert not pooled.any()
        assert not gradient.any()


def test_a_bin_has_at_most_4096_samples(implementation):
    """In 8,192 rows they lie two apart: of the map's eight rows they read 1, 3, 5 and 7."""
    features = torch.arange(1.0, 9.0, device=implementation.device).reshape(1, 1, 8, 1).requires_grad_()
    rois = torch.tensor([[0.0, 0, 0, 1, 8192]], device=implementation.device)
    pooled = ops.roi_align(features, rois, 1)
    (gradient,) = torch.autograd.grad(pooled, features)
    assert pooled.item() == (2 + 4 + 6 + 8) / 4096
    assert (gradient.flatten() * 4096).tolist() == [0, 1, 0, 1, 0, 1, 0, 1]


def test_the_most_samples_that_can_be_asked_for(implementation):
    """The mean over a map that rises evenly is what lies in the middle."""
    features = torch.arange(64.0, dtype=torch.float64, device=implementation.device).reshape(1, 1, 8, 8)
    rois = torch.tensor([[0, 0.5, 0.5, 5.5, 6.5]], device=implementation.device)
    assert ops.roi_align(features, rois, 1, sampling_ratio=4096).item() == pytest.approx(3.5 * 8 + 3, abs=1e-9)


def test_the_last_of_more_rows_than_float32_can_count(implementation):
    """The last row is number 2^24 + 3, in float32 2^24 + 4: a row that is not there."""
    rows = 2**24 + 4
    features = torch.zeros(1, 1, rows, 1, dtype=torch.bfloat16, device=implementation.device)
    features[0, 0, -1] = 5
    rois = torch.tensor([[0.0, 0, rows - 2, 1, rows + 2]], device=implementation.device)
    assert ops.roi_align(features, rois, 1, sampling_ratio=1).item() == 5


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bits_do_not_depend_on_threads(layout, dtype):
    """CPU kernels, forward and backward; RoIs crowd in one corner so that the work is shared unevenly."""
    torch.manual_seed(0)
    features = lay_out(torch.randn(2, 33, 40, 50), layout).to(dtype).requires_grad_()
    corner = torch.rand(300, 2) ** 3 * 30
    rois = torch.cat([torch.randint(0, 2, (300, 1)), corner, corner + torch.rand(300, 2) * 20], dim=1)
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            pooled = ops.roi_align(features, rois, (7, 5), sampling_ratio=2)
            grad = torch.linspace(-1, 1, pooled.numel(), dtype=dtype).reshape(pooled.shape)
            results.append((pooled.detach(), torch.autograd.grad(pooled, features, grad)[0]))
    finally:
        torch.set_num_threads(threads)
    for pooled, gradient in results[1:]:
        assert torch.equal(pooled, results[0][0])
        assert torch.equal(gradient, results[0][1])


def advised_large_pages(address: int) -> bool:
    """Whether the mapping that holds an address is marked for large pages ("hg") in the kernel's list."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if bounds := re.match("([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(bounds[1], 16) <= address < int(bounds[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return "hg" in line.split()
    raise ValueError(f"no mapping holds {address:#x}")


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="the system has no large pages")
def test_large_results_ask_for_large_pages():
    """Otherwise a third of the time goes into page faults: 50 MB are 12,250 of them."""
    features = torch.randn(1, 256, 20, 20).contiguous(memory_format=torch.channels_last).requires_grad_()
    pooled = ops.roi_align(features, torch.tensor([[0, 1.0, 2, 15, 16]]).repeat(1000, 1), 7)
    assert advised_large_pages(pooled.data_ptr() + pooled.nbytes // 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_boxes_of_half_precision_find_their_image(implementation, dtype):
    """bfloat16 has no 257, float16 no 2049: the image of a box in a list is counted, not rounded."""
    number = {torch.bfloat16: 257, torch.float16: 2049}[dtype]
    features = torch.zeros(number + 1, 1, 2, 2, device=implementation.device)
    features[number] = 1
    boxes = [torch.empty(0, 4, dtype=dtype, device=implementation.device)] * number
    boxes.append(torch.tensor([[0, 0, 2, 2]], dtype=dtype, device=implementation.device))
    assert ops.roi_align(features, boxes, 1).flatten().tolist() == [1.0]
