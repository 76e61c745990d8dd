"""Convolution, batch norm, ReLU: what backbone and heads are made of, and how they become one pass over the map.

A batch norm whose statistics are constants is a scale and a shift, which the convolution's weights can take up. And
oneDNN, which computes convolutions on the CPU, can add a map and cut off at zero while a result is still in registers.
Both are done only where no gradient is asked for; modules and state dicts know nothing of it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose statistics and scale are constants: y = x · scale + shift.

    Detection trains on one or two large pictures at a time, too few to estimate statistics from; the published models
    keep ImageNet's (Mask R-CNN, section 3.1, as Faster R-CNN). weight, bias, running_mean, running_var: buffers (C,).
    """

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        scale, shift = scale_and_shift(self)
        return x * scale[:, None, None] + shift[:, None, None]

    def _load_from_state_dict(self, state_dict, prefix, *args):
        # The step counter of a trainable batch norm means nothing here, but is kept where a checkpoint has one,
        # so that its state dict goes back unchanged.
        key = prefix + "num_batches_tracked"
        if key in state_dict and not hasattr(self, "num_batches_tracked"):
            self.register_buffer("num_batches_tracked", state_dict[key].clone())
        super()._load_from_state_dict(state_dict, prefix, *args)


def scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """A batch norm with constant statistics as the two vectors (C,) of y = x · scale + shift."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


class ConvNorm(nn.Sequential):
    """A convolution, perhaps a norm, perhaps ReLU; named "0" and "1" in state dicts, as torchvision names them."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        norm: type | None = None,
        relu: bool = True,
        dilation: int = 1,
    ):
        padding = kernel // 2 * dilation
        conv = nn.Conv2d(channels_in, channels_out, kernel, padding=padding, dilation=dilation, bias=norm is None)
        super().__init__(conv, *([norm(channels_out)] if norm else []))
        self.relu = relu

    def forward(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        return convolve(x, *self, relu=self.relu, plus=plus)


def convolve(
    x: Tensor, conv: nn.Conv2d, norm: nn.Module | None = None, relu: bool = False, plus: Tensor | None = None
) -> Tensor:
    """norm(conv(x)) + plus, with ReLU if asked for. (N, C, H, W) -> (N, C', H', W').

    plus, of the result's shape, may be overwritten: it must not be needed afterwards.
    """
    if norm is not None and norm.training and not isinstance(norm, FrozenBatchNorm2d):
        conv.__dict__.pop("_ready", None)
        y = norm(conv(x))
    elif not wants_gradient(x, plus, *sources(conv, norm)):
        return convolve_at_once(x, *ready(conv, norm, compute_dtype(x)), conv, relu, plus)
    elif norm is None:
        y = conv(x)
    else:
        weight, bias = folded(conv, norm)
        y = F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation)
    if plus is not None:
        y = y.add_(plus)
    return F.relu_(y) if relu else y


def fully_connected(x: Tensor, layer: nn.Linear) -> Tensor:
    """relu(layer(x.flatten(1))): (N, C, H, W) -> (N, features).

    It is a convolution with a kernel as large as the map (Fully Convolutional Networks, section 3.1). As that it takes
    a channels_last map as it lies, where flattening would first copy it.
    """
    if wants_gradient(x, *sources(layer)) or layer.in_features != x.shape[1:].numel():
        return F.relu_(layer(x.flatten(1)))
    weight, bias = ready(layer, None, compute_dtype(x), map_shape=x.shape[1:])
    return F.relu_(F.conv2d(x.to(weight.dtype), weight, bias)).flatten(1)


def wants_gradient(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def compute_dtype(x: Tensor) -> torch.dtype:
    """What autocast has convolutions computed in; without it, the type that the map has."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def sources(layer: nn.Module, norm: nn.Module | None = None) -> list[Tensor]:
    """The tensors that `ready` makes a weight and a bias of."""
    tensors = [layer.weight, layer.bias]
    if norm is not None:
        tensors += [norm.weight, norm.bias, norm.running_mean, norm.running_var]
    return [tensor for tensor in tensors if tensor is not None]


def folded(conv: nn.Conv2d, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """The weight and bias of the convolution that equals norm(conv(x)), for a norm with constant statistics."""
    conv.__dict__.pop("_ready", None)  # about to be trained; a fused optimiser does not count its changes
    scale, shift = scale_and_shift(norm)
    return conv.weight * scale[:, None, None, None], shift


def ready(
    layer: nn.Module, norm: nn.Module | None, dtype: torch.dtype, map_shape: torch.Size | None = None
) -> tuple[Tensor, Tensor | None]:
    """The weight (C', C, h, w), channels_last, and bias (C',) to compute with where no gradient is asked for.

    They are made once: kept until one of the tensors that they were made of changes, or is trained.
    """
    state = (dtype, *((tensor.data_ptr(), tensor._version) for tensor in sources(layer, norm)))
    kept = layer.__dict__.get("_ready")
    if kept is None or kept[0] != state:
        with torch.no_grad(), torch.inference_mode(False):  # what is kept may be used outside inference mode
            weight, bias = (layer.weight, layer.bias) if norm is None else folded(layer, norm)
            if map_shape is not None:
                weight = weight.unflatten(1, map_shape)
            weight = weight.to(dtype, memory_format=torch.channels_last)
            kept = layer.__dict__["_ready"] = (state, weight, None if bias is None else bias.to(dtype))
    return kept[1:]


def convolve_at_once(
    x: Tensor, weight: Tensor, bias: Tensor | None, conv: nn.Conv2d, relu: bool, plus: Tensor | None
) -> Tensor:
    """convolve without gradients; on the CPU in one call, and with `plus` in its place: a fresh map of 200 × 304 × 256
    costs more time than its additions."""
    x = x.to(weight.dtype)
    plus = None if plus is None else plus.to(weight.dtype)
    if not one_dnn(x):
        y = F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation)
        y = y if plus is None else y.add_(plus)
        return F.relu_(y) if relu else y
    how = (conv.padding, conv.stride, conv.dilation, conv.groups)
    if plus is None:
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *how, "relu" if relu else "none", [], None)
    then = ("add", 1.0, "relu" if relu else None, [], None)
    return torch.ops.mkldnn._convolution_pointwise_.binary(plus, x, weight, bias, *how, *then)


def one_dnn(x: Tensor) -> bool:
    """Whether oneDNN computes this map's convolutions."""
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.numel() > 0
        and torch.backends.mkldnn.is_available()
    )
