"""The ops as PyTorch sees them: schemas, fake kernels, gradients, compilation, and the choice of implementation."""

import contextlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from layouts import lay_out

from mrcnn import ops
from mrcnn.ops import backend


def some_rois(device, dtype):
    rows = [[0, 0.3, 0.4, 3.1, 4.2], [1, -2, -1, 2.5, 9.5], [1, 1, 1, 1, 1], [0, 2.2, 1.7, 5, 4]]
    return torch.tensor(rows, device=device, dtype=dtype)


def some_boxes(count, device, dtype=torch.float32):
    torch.manual_seed(count)
    boxes = torch.rand(count, 4, device=device, dtype=dtype) * 10
    boxes[:, 2:] += boxes[:, :2]
    return boxes


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "channels_last window"])
def test_opcheck_roi_align(compiled, layout):
    features = lay_out(torch.randn(2, 3, 5, 6), layout).to(compiled.device).requires_grad_()
    rois = some_rois(compiled.device, torch.float32)
    torch.library.opcheck(compiled.ops.roi_align.default, (features, rois, 0.5, 2, 3, 2, True))


@pytest.mark.parametrize("channels_last", [False, True])
def test_opcheck_roi_align_backward(compiled, channels_last):
    grad = torch.randn(4, 3, 2, 3, device=compiled.device, dtype=torch.float16)
    settings = (0.5, 2, 3, 2, 3, 5, 6, 2, True, channels_last, False)
    rois = some_rois(compiled.device, torch.float32)
    torch.library.opcheck(compiled.ops.roi_align_backward.default, (grad, rois, *settings))


def test_opcheck_nms(compiled):
    boxes, scores = some_boxes(9, compiled.device), torch.rand(9, device=compiled.device)
    torch.library.opcheck(compiled.ops.nms.default, (boxes, scores, 0.3))
    torch.library.opcheck(compiled.ops.nms.default, (boxes, scores, 0.3, torch.arange(9, device=compiled.device) % 2))


def test_opcheck_match_anchors(compiled):
    inputs = (some_boxes(9, compiled.device), some_boxes(4, compiled.device), 0.7, 0.3, True)
    torch.library.opcheck(compiled.ops.match_anchors.default, inputs)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("sampling_ratio", [-1, 2])
def test_gradcheck_roi_align(implementation, layout, aligned, sampling_ratio):
    """The gradient against finite differences, in float64."""
    torch.manual_seed(0)
    values = torch.randn(2, 2, 5, 6, dtype=torch.float64, device=implementation.device)
    features = lay_out(values, layout).requires_grad_()
    rois = some_rois(implementation.device, torch.float64)
    # On a GPU the gradient is a sum of atomics, whose order varies; rounding then differs from call to call.
    wiggle = {"nondet_tol": 1e-12} if implementation.device == "cuda" else {}
    assert torch.autograd.gradcheck(
        lambda x: ops.roi_align(x, rois, (2, 3), 0.75, sampling_ratio, aligned), features, **wiggle
    )


@pytest.mark.parametrize("sampling_ratio", [-1, 2])
def test_gradient_of_the_gradient_of_roi_align(implementation, sampling_ratio):
    """As a penalty on gradients needs it: of the gradient, too, against finite differences."""
    torch.manual_seed(0)
    features = torch.randn(2, 2, 5, 6, dtype=torch.float64, device=implementation.device, requires_grad=True)
    rois = some_rois(implementation.device, torch.float64)
    wiggle = {"nondet_tol": 1e-12} if implementation.device == "cuda" else {}

    def squared(x):  # the op alone is linear
        return ops.roi_align(x, rois, (2, 3), 0.75, sampling_ratio, True) ** 2

    assert torch.autograd.gradgradcheck(squared, features, **wiggle)


def test_forward_mode_differentiation_of_roi_align(implementation):
    """Pooling is linear: the tangent of the result is the pooled tangent."""
    torch.manual_seed(0)
    features, along = torch.randn(2, 2, 3, 5, 6, dtype=torch.float64, device=implementation.device)
    rois = some_rois(implementation.device, torch.float64)

    def pool(x):
        return ops.roi_align(x, rois, (2, 3), 0.75, 2, True)

    found, tangent = torch.func.jvp(pool, (features,), (along,))
    torch.testing.assert_close(found, pool(features))
    torch.testing.assert_close(tangent, pool(along))
    assert tangent.abs().max() > 0.1


def test_whole_numbers_of_numpys(implementation):
    features = torch.randn(2, 3, 5, 6, device=implementation.device)
    rois = some_rois(implementation.device, torch.float32)
    found = ops.roi_align(features, rois, np.int64(3), 1.0, np.int32(2))
    assert torch.equal(found, ops.roi_align(features, rois, (3, 3), 1.0, 2))
    assert torch.equal(found, ops.roi_align(features, rois, np.array([3, 3]), 1.0, 2))


def test_torch_func_sees_through_roi_align(implementation):
    """Pooling is linear, so its Jacobian at any features is what it makes of each unit vector."""
    rois = some_rois(implementation.device, torch.float64)

    def pool(x):
        return ops.roi_align(x, rois, (2, 3), 0.75, 2, True)

    features = torch.rand(2, 1, 3, 4, dtype=torch.float64, device=implementation.device)
    units = torch.eye(24, dtype=torch.float64, device=implementation.device).reshape(24, 2, 1, 3, 4)
    expected = torch.stack([pool(unit) for unit in units], -1).reshape(*pool(features).shape, 2, 1, 3, 4)
    torch.testing.assert_close(torch.func.jacrev(pool)(features), expected)
    assert expected.abs().max() > 0.1


def test_rois_are_constants(implementation):
    features = torch.randn(2, 3, 5, 6, device=implementation.device, requires_grad=True)
    rois = some_rois(implementation.device, torch.float32).requires_grad_()
    assert not ops.roi_align(features.detach(), rois, 2).requires_grad
    ops.roi_align(features, rois, 2).sum().backward()
    assert features.grad is not None
    assert rois.grad is None


@pytest.mark.parametrize("op", ["roi_align", "nms", "match_anchors"])
def test_compiles_whole(compiled, op):
    """torch.compile traces through each op in one graph, and the results are those of the plain call."""
    features = torch.randn(2, 3, 5, 6, device=compiled.device)
    rois, boxes = some_rois(compiled.device, torch.float32), some_boxes(9, compiled.device)
    scores = torch.rand(9, device=compiled.device)
    calls = {
        "roi_align": lambda: (ops.roi_align(features * 1, rois, 2, 0.5, 2, True),),
        "nms": lambda: (ops.nms(boxes * 1, scores, 0.3),),
        "match_anchors": lambda: ops.match_anchors(boxes * 1, boxes[:3], 0.7, 0.3, True),
    }
    dynamic_outputs = torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True)
    with dynamic_outputs:
        compiled_call = torch.compile(calls[op], backend="aot_eager", fullgraph=True)
        for result, expected in zip(compiled_call(), calls[op](), strict=True):
            assert torch.equal(result, expected)


def test_autocast(implementation):
    """Features from a bfloat16 convolution meet float32 RoIs."""
    features = torch.randn(2, 3, 5, 6, device=implementation.device)
    conv = torch.nn.Conv2d(3, 4, 1).to(implementation.device)
    with torch.autocast(implementation.device, torch.bfloat16):
        pooled = ops.roi_align(conv(features), some_rois(implementation.device, torch.float32), 2)
    assert pooled.dtype == torch.bfloat16
    pooled.sum().backward()
    assert conv.weight.grad.isfinite().all()


def test_backends_are_chosen_by_name_and_left_again():
    before = backend.current()
    with ops.use_backend("reference"):
        assert backend.current() == "reference"
        with contextlib.suppress(RuntimeError), ops.use_backend("native"):
            assert backend.current() == "native"
            raise RuntimeError
        assert backend.current() == "reference"
    assert backend.current() == before
    with pytest.raises(ValueError, match=r"backend must be one of native, reference, emulated; got 'fast'"):
        with ops.use_backend("fast"):
            pass


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=False
    )


def test_environment_chooses_the_backend():
    show = "from mrcnn.ops import backend; print(backend.current())"
    assert python(show, MRCNN_BACKEND="reference").stdout == "reference\n"
    wrong = python(show, MRCNN_BACKEND="quick").stderr
    assert "MRCNN_BACKEND in the environment must be one of native, reference, emulated; got 'quick'" in wrong


def test_without_the_library_the_message_says_what_to_do(tmp_path):
    """A copy of the package without its compiled libraries: imports, runs the reference, names `make install`."""
    package = tmp_path / "mrcnn"
    package.mkdir()
    (package / "ops").symlink_to(os.path.dirname(ops.__file__))
    (package / "__init__.py").write_text("")
    code = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
import pathlib; pathlib.Path.resolve = pathlib.Path.absolute  # stay in the copy
import torch
from mrcnn import ops
boxes, scores = torch.tensor([[0.0, 0, 1, 1]]), torch.ones(1)
with ops.use_backend("reference"):
    print(ops.nms(boxes, scores, 0.5).tolist(), ops.built()["native"])
try:
    ops.nms(boxes, scores, 0.5)
except ImportError as error:
    print(error)
"""
    said = python(code, MRCNN_BACKEND="native").stdout
    assert said.startswith("[0] False\nthe native ops are not built (")
    assert said.endswith("run `make install` to build them\n")


def test_built_tells_what_there_is():
    built = ops.built()
    assert built["native"]
    assert set(built) >= {"native", "emulated", "cuda", "problems", "torch", "cuda_toolkit", "cuda_archs", "reason"}
