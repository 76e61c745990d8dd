"""The backbone: a residual network that sees the picture at four scales, and the pyramid that gives each scale meaning.

ResNet (He et al., 2015) makes feature maps at strides 4, 8, 16 and 32: ever coarser, ever more about "what". The
feature pyramid network (Lin et al., 2017) passes the "what" back down, so that small objects, which only the fine maps
can resolve, are seen with it too.
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
    """A convolution, perhaps a norm, perhaps ReLU; named "0" and "1" in state dicts, as torchvision names them.

    A norm that uses constants is folded into the convolution: one pass over the map instead of two.
    """

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

    def forward(self, x: Tensor) -> Tensor:
        x = self[0](x) if len(self) == 1 else conv_norm(x, self[0], self[1])
        return F.relu_(x) if self.relu else x


def conv_norm(x: Tensor, conv: nn.Conv2d, norm: nn.Module) -> Tensor:
    """norm(conv(x)); in one convolution where the norm's statistics are constants."""
    if norm.training and not isinstance(norm, FrozenBatchNorm2d):
        conv.__dict__.pop("_folded", None)
        return norm(conv(x))
    weight, shift = folded(conv, norm)
    return F.conv2d(x, weight, shift, conv.stride, conv.padding, conv.dilation)


def folded(conv: nn.Conv2d, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """The weight and bias of the convolution that equals norm(conv(x)).

    Without gradients they are kept until one of the tensors they were made of changes, or has been trained: a fused
    optimiser does not count its changes in a tensor's version.
    """
    sources = (conv.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
    if torch.is_grad_enabled() and any(source.requires_grad for source in sources):
        conv.__dict__.pop("_folded", None)
        scale, shift = scale_and_shift(norm)
        return conv.weight * scale[:, None, None, None], shift
    state = (norm.eps, *((source.data_ptr(), source._version) for source in sources))
    kept = conv.__dict__.get("_folded")
    if kept is None or kept[0] != state:
        with torch.no_grad(), torch.inference_mode(False):  # what is kept may be used outside inference mode
            scale, shift = scale_and_shift(norm)
            kept = conv.__dict__["_folded"] = (state, conv.weight * scale[:, None, None, None], shift)
    return kept[1:]


class Bottleneck(nn.Module):
    """1×1 reduce, 3×3, 1×1 expand, added to the input (ResNet, figure 5 right). The stride is on the 3×3."""

    expansion = 4

    def __init__(self, channels_in: int, channels: int, stride: int, norm: type):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn1 = norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = norm(channels)
        self.conv3 = nn.Conv2d(channels, channels * self.expansion, 1, bias=False)
        self.bn3 = norm(channels * self.expansion)
        self.downsample = shortcut(channels_in, channels * self.expansion, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu_(conv_norm(x, self.conv1, self.bn1))
        y = F.relu_(conv_norm(y, self.conv2, self.bn2))
        y = conv_norm(y, self.conv3, self.bn3)
        return F.relu_(y.add_(conv_norm(x, *self.downsample) if self.downsample else x))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions, added to the input (ResNet, figure 5 left)."""

    expansion = 1

    def __init__(self, channels_in: int, channels: int, stride: int, norm: type):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = norm(channels)
        self.downsample = shortcut(channels_in, channels, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu_(conv_norm(x, self.conv1, self.bn1))
        y = conv_norm(y, self.conv2, self.bn2)
        return F.relu_(y.add_(conv_norm(x, *self.downsample) if self.downsample else x))


def shortcut(channels_in: int, channels_out: int, stride: int, norm: type) -> nn.Sequential | None:
    """The projection on a block's skip connection, or None where input and output have the same shape."""
    if stride == 1 and channels_in == channels_out:
        return None
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), norm(channels_out))


class ResNet(nn.Module):
    """The residual network without its classifier.

    forward: pictures (N, 3, H, W) -> feature maps (N, C_i, H / s, W / s) at strides s = 4, 8, 16, 32.
    """

    def __init__(self, block: type, depths: tuple[int, ...], channels: tuple[int, ...], stem: int, norm: type):
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = norm(stem)
        self.channels = [width * block.expansion for width in channels]
        before = stem
        for level, (depth, width) in enumerate(zip(depths, channels, strict=True), start=1):
            blocks = []
            for index in range(depth):
                stride = 2 if index == 0 and level > 1 else 1
                blocks.append(block(before, width, stride, norm))
                before = width * block.expansion
            self.add_module(f"layer{level}", nn.Sequential(*blocks))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu_(conv_norm(x, self.conv1, self.bn1))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        maps = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps


class FeaturePyramid(nn.Module):
    """Top-down pathway with lateral connections (Feature Pyramid Networks, figure 3).

    forward: maps (N, C_i, H_i, W_i), fine to coarse -> as many maps (N, channels, H_i, W_i) and one coarser still,
    every second pixel of the last, from which the largest anchors are predicted.
    """

    def __init__(self, channels_in: list[int], channels: int, norm: type | None = None):
        super().__init__()
        self.inner_blocks = nn.ModuleList(ConvNorm(width, channels, 1, norm, relu=False) for width in channels_in)
        self.layer_blocks = nn.ModuleList(ConvNorm(channels, channels, 3, norm, relu=False) for _ in channels_in)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        merged = self.inner_blocks[-1](maps[-1])
        pyramid = [self.layer_blocks[-1](merged)]
        for level in range(len(maps) - 2, -1, -1):
            lateral = self.inner_blocks[level](maps[level])
            merged = lateral + F.interpolate(merged, size=lateral.shape[-2:])  # nearest
            pyramid.insert(0, self.layer_blocks[level](merged))
        return [*pyramid, F.max_pool2d(pyramid[-1], kernel_size=1, stride=2)]


class Backbone(nn.Module):
    """ResNet and feature pyramid: pictures (N, 3, H, W) -> maps P2 … P6 (N, channels, H / s, W / s), s = 4 … 64."""

    def __init__(self, body: ResNet, channels: int, norm: type | None = None):
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramid(body.channels, channels, norm)
        self.channels = channels

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return self.fpn(self.body(pixels))


RESNET_DEPTHS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}


def resnet_fpn(name: str, norm: type, pyramid_norm: type | None = None) -> Backbone:
    """ResNet-50 or -101 with a pyramid of 256 channels."""
    body = ResNet(Bottleneck, RESNET_DEPTHS[name], (64, 128, 256, 512), stem=64, norm=norm)
    return Backbone(body, 256, pyramid_norm)


def freeze_stages(body: ResNet, trainable: int) -> None:
    """Leaves the last `trainable` of the five stages (stem, layer1 … layer4) to be trained, and freezes the others.

    The first stages see edges and colours, which fine-tuning seldom improves and often spoils.
    """
    if not 0 <= trainable <= 5:
        raise ValueError(f"trainable_stages must be 0 to 5 (the stem and four layers), got {trainable}")
    stages = ["conv1", "layer1", "layer2", "layer3", "layer4"]
    frozen = [*stages[: 5 - trainable], *(["bn1"] if trainable < 5 else [])]
    for name, parameter in body.named_parameters():
        if name.split(".")[0] in frozen:
            parameter.requires_grad_(False)
