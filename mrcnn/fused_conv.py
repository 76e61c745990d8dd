"""A convolution, its norm, an addition and ReLU in one pass over the map: on the CPU, where no gradient is asked for.

A batch norm whose statistics are constants is a scale and a shift, which the convolution's weights can take up. oneDNN,
which computes convolutions on the CPU, adds a map and cuts off at zero while a result is still in registers, and wants
weights in an order of its own. Weights made ready for it are kept, by layer, in `_kept` and nowhere else: modules,
their copies and their state dicts know nothing of it. At every call the layer says by its `mark` whether they still
hold, and `forget` drops them: the model does so when it changes its mode, loads weights or is moved.
"""

import contextlib
import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mrcnn.ops.backend import transformed
from mrcnn.processor import autocast_dtype, multiplies_bfloat16

DTYPES = (torch.float32, torch.bfloat16, torch.float16)

_setting = os.environ.get("MRCNN_FUSED_CONV", "1")
if _setting not in ("0", "1"):
    raise ValueError(f"MRCNN_FUSED_CONV in the environment must be 0 or 1; got {_setting!r}")
_wanted = _setting == "1"


@contextlib.contextmanager
def use_fused_conv(wanted: bool) -> Iterator[None]:
    """Inside the `with`, whether convolutions are computed in one pass where that is possible.

    Outside any such block MRCNN_FUSED_CONV=0 or 1 in the environment says so; 1 otherwise. Without it inference takes
    longer, and needs no memory for a second form of the weights. The choice holds for all threads.
    """
    global _wanted
    before, _wanted = _wanted, wanted
    try:
        yield
    finally:
        _wanted = before


def one_pass(
    x: Tensor,
    layer: nn.Conv2d | nn.Linear,
    norm: nn.Module | None = None,
    relu: bool = False,
    plus: Tensor | None = None,
) -> Tensor | None:
    """norm(layer(x)) + plus, with ReLU if asked for: (N, C, H, W) -> (N, C', H', W'); None where that is not possible.

    `plus` may be overwritten. A linear layer is a convolution with a kernel as large as the map (Fully Convolutional
    Networks, section 3.1): as that it takes a channels_last map as it lies.
    """
    tensors = sources(layer, norm)
    if not possible(x, *tensors, *([] if plus is None else [plus])):
        return None
    answer = autocast_dtype("cpu") or x.dtype
    compute = torch.bfloat16 if answer == torch.bfloat16 and multiplies_bfloat16() else torch.float32
    x = x.to(compute)
    plus = None if plus is None else plus.to(compute)
    return one_dnn(x, *ready(layer, norm, tensors, x), geometry(layer), relu, plus).to(answer)


def possible(x: Tensor, *others: Tensor) -> bool:
    """Whether oneDNN can take this map and these weights: nothing traces or compiles, and nobody wants a gradient."""
    if not _wanted or traced() or transformed() or not one_dnn_available():
        return False
    if x.device.type != "cpu" or x.dtype not in DTYPES or x.numel() == 0:
        return False
    tensors = (x, *others)
    if any(type(tensor) not in (Tensor, nn.Parameter) for tensor in tensors):  # fake ones, quantised ones
        return False
    return not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))


def traced() -> bool:
    """Whether somebody writes down what is computed: torch.compile, torch.jit.trace, make_fx, a counter of flops."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._len_torch_dispatch_stack() > 0


# ---- The weights


@dataclass
class Kept:
    """What a layer's weights became. made_for: the dtype and the kernel's size that they have. mark: see `mark`."""

    made_for: tuple
    mark: Tensor
    weight: Tensor
    bias: Tensor | None


_kept: weakref.WeakKeyDictionary[nn.Module, Kept] = weakref.WeakKeyDictionary()


def forget(module: nn.Module) -> None:
    """Drops what is kept for the layers of a module."""
    for layer in module.modules():
        _kept.pop(layer, None)


def ready(
    layer: nn.Conv2d | nn.Linear, norm: nn.Module | None, tensors: list[Tensor], x: Tensor
) -> tuple[Tensor, Tensor | None]:
    """The weight and bias to compute with: those kept if they still hold, else new ones, which are kept.

    tensors: the `sources` of both. Raises ValueError where they are not finite: oneDNN's ReLU makes zeros of NaN, so
    nobody would see what is wrong.
    """
    kernel = x.shape[2:] if isinstance(layer, nn.Linear) else layer.kernel_size
    made_for = (x.dtype, kernel, None if norm is None else norm.eps)
    now = mark(*tensors)
    kept = _kept.get(layer)
    if kept is None or kept.made_for != made_for or not torch.equal(kept.mark, now):
        if not (torch.isfinite(now).all() or all(torch.isfinite(tensor).all() for tensor in tensors)):
            raise ValueError(f"the weights of {layer} or its norm are NaN or infinite")
        kept = _kept[layer] = Kept(made_for, now, *make_ready(layer, norm, x))
    return kept.weight, kept.bias


def make_ready(layer: nn.Conv2d | nn.Linear, norm: nn.Module | None, x: Tensor) -> tuple[Tensor, Tensor | None]:
    # What is made here may be used outside the caller's inference mode, and must not carry a graph.
    with torch.inference_mode(False), torch.no_grad():
        weight, bias = (layer.weight, layer.bias) if norm is None else fold_batch_norm(layer, norm)
        if isinstance(layer, nn.Linear):
            weight = weight.unflatten(1, x.shape[1:])
        weight = weight.to(x.dtype, memory_format=torch.channels_last)
        return one_dnn_order(weight, geometry(layer), x), None if bias is None else bias.to(x.dtype)


def mark(weight: Tensor, *vectors: Tensor) -> Tensor:
    """A vector that tells the tensors of a layer and its norm from what they were before.

    It is the weight's answer to one fixed input, followed by the other tensors themselves. What this does not show is a
    change that drowns in the rounding of a sum over one output's weights: of one weight alone, by less than about 1e-7
    of the largest beside it. Steps of training change all of them, and by more.
    Version counters would be cheaper, but fused optimisers and changes through `.data` do not raise them.
    """
    rows = weight.flatten(1).float()  # (C', C · h · w)
    return torch.cat((torch.mv(rows, probe(rows.shape[1])), *vectors))


_probes: dict[int, Tensor] = {}


def probe(length: int) -> Tensor:
    """Random numbers (length,), the same at every call."""
    if length not in _probes:
        _probes[length] = torch.randn(length, generator=torch.Generator().manual_seed(length))
    return _probes[length]


def sources(layer: nn.Module, norm: nn.Module | None) -> list[Tensor]:
    """The tensors that the kept weights are made of, the layer's weight first."""
    tensors = [layer.weight, layer.bias]
    if norm is not None:
        tensors += [norm.weight, norm.bias, norm.running_mean, norm.running_var]
    return [tensor for tensor in tensors if tensor is not None]


def scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """A batch norm with constant statistics as the two vectors (C,) of y = x · scale + shift."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


def fold_batch_norm(conv: nn.Conv2d, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """The weight and bias of the convolution that equals norm(conv(x)), for a norm with constant statistics."""
    scale, shift = scale_and_shift(norm)
    bias = shift if conv.bias is None else shift + conv.bias * scale
    return conv.weight * scale[:, None, None, None], bias


# ---- oneDNN, by torch's private names for it: nothing else in the package knows them


def one_dnn_available() -> bool:
    return torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled


def geometry(layer: nn.Conv2d | nn.Linear) -> tuple:
    """padding, stride, dilation and groups."""
    if isinstance(layer, nn.Linear):
        return (0, 0), (1, 1), (1, 1), 1
    return layer.padding, layer.stride, layer.dilation, layer.groups


def one_dnn_order(weight: Tensor, how: tuple, x: Tensor) -> Tensor:
    """A weight (C', C, h, w) in the order that oneDNN computes in for maps like x; it takes others with it as well."""
    return torch.ops.mkldnn._reorder_convolution_weight(weight, *how, list(x.shape))


def one_dnn(x: Tensor, weight: Tensor, bias: Tensor | None, how: tuple, relu: bool, plus: Tensor | None) -> Tensor:
    """The convolution in one call, and with `plus` in its place: a fresh map of 200 × 304 × 256 costs more time than
    its additions. All of x's dtype, float32, or bfloat16 where the processor has it."""
    if plus is None:
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *how, "relu" if relu else "none", [], None)
    then = ("add", 1.0, "relu" if relu else None, [], None)
    return torch.ops.mkldnn._convolution_pointwise_.binary(plus, x, weight, bias, *how, *then)
