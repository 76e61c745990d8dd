"""The backbone: a residual network that sees the picture at four scales, and the pyramid that gives each scale meaning.

ResNet (He et al., 2015) makes feature maps at strides 4, 8, 16 and 32: ever coarser, ever more about "what". The
feature pyramid network (Lin et al., 2017) passes the "what" back down, so that small objects, which only the fine maps
can resolve, are seen with it too.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from mrcnn.layers import ConvNorm, convolve


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
        y = convolve(x, self.conv1, self.bn1, relu=True)
        y = convolve(y, self.conv2, self.bn2, relu=True)
        x = convolve(x, *self.downsample) if self.downsample else x
        return convolve(y, self.conv3, self.bn3, relu=True, plus=x)


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
        y = convolve(x, self.conv1, self.bn1, relu=True)
        x = convolve(x, *self.downsample) if self.downsample else x
        return convolve(y, self.conv2, self.bn2, relu=True, plus=x)


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
        x = convolve(x, self.conv1, self.bn1, relu=True)
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
            coarse = F.interpolate(merged, size=maps[level].shape[-2:])  # nearest
            merged = self.inner_blocks[level](maps[level], plus=coarse)
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


LEVELS = 5  # of the pyramid, P2 … P6
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
