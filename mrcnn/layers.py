"""Convolution, batch norm, ReLU: what backbone and heads are made of.

Where no gradient is asked for, `fused_conv` computes the same in one pass over the map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from mrcnn import fused_conv
from mrcnn.fused_conv import fold_batch_norm, scale_and_shift


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
    constant = is_plain(conv, nn.Conv2d) and (norm is None or is_constant(norm))
    if constant and (y := fused_conv.one_pass(x, conv, norm, relu, plus)) is not None:
        return y
    if norm is None:
        y = conv(x)
    elif constant:  # one pass over the map instead of three, and two maps fewer kept for the gradient
        y = F.conv2d(x, *fold_batch_norm(conv, norm), conv.stride, conv.padding, conv.dilation, conv.groups)
    else:
        y = norm(conv(x))
    hooked = has_hooks(conv) or (norm is not None and has_hooks(norm))
    if plus is not None:
        y = y + plus if hooked else y.add_(plus)  # a hook may have kept the map
    return F.relu(y, inplace=not hooked) if relu else y


def fully_connected(x: Tensor, layer: nn.Linear) -> Tensor:
    """relu(layer(x.flatten(1))): (N, C, H, W) -> (N, features)."""
    fits = layer.in_features == x.shape[1:].numel()
    if fits and is_plain(layer, nn.Linear) and (y := fused_conv.one_pass(x, layer, relu=True)) is not None:
        return y.flatten(1)
    return F.relu(layer(x.flatten(1)))


def is_plain(layer: nn.Module, kind: type) -> bool:
    """Whether a layer is just that: its weights are all that there is to it, and nobody watches it."""
    if type(layer) is not kind or has_hooks(layer):
        return False
    if kind is nn.Linear:
        return True
    pairs = (layer.padding, layer.stride, layer.dilation)  # not "same", nor one number that was set for both sides
    return layer.padding_mode == "zeros" and all(isinstance(each, tuple) for each in pairs)


def is_constant(norm: nn.Module) -> bool:
    """Whether a norm is a scale and a shift that the map itself has no part in."""
    if type(norm) is nn.BatchNorm2d:
        return not norm.training and norm.affine and norm.track_running_stats and not has_hooks(norm)
    return type(norm) is FrozenBatchNorm2d and not has_hooks(norm)


def has_hooks(module: nn.Module) -> bool:
    """Whether something is to run before or after the module, which therefore has to be called as one."""
    hooks = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return any(module.__dict__[name] for name in hooks) or _has_any_global_hook() or "forward" in module.__dict__


def initialised(module: nn.Module) -> nn.Module:
    """Normal weights that keep the signal's variance through ReLU (He et al., 2015), zero biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module
