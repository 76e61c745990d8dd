"""The backbone: a residual network that sees the picture at four scales, and the pyramid that gives each scale meaning.

ResNet (He et al., 2015) makes feature maps at strides 4, 8, 16 and 32: ever coarser, ever more about "what". The
feature pyramid network (Lin et al., 2017) passes the "what" back down, so that small objects, which only the fine maps
can resolve, are seen with it too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from mrcnn.layers import ConvNorm, FrozenBatchNorm2d, convolve
from mrcnn.settings import Settings, Share, Width, require


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


class CaffeBottleneck(Bottleneck):
    """A `Bottleneck` with the stride on the first 1×1, as in the networks that He et al. published for Caffe."""

    def __init__(self, channels_in: int, channels: int, stride: int, norm: type):
        super().__init__(channels_in, channels, stride, norm)
        self.conv1.stride, self.conv2.stride = self.conv2.stride, self.conv1.stride


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

    @property
    def stages(self) -> list[nn.Module]:
        """From the picture on; what `freeze_stages` counts."""
        return [nn.ModuleList([self.conv1, self.bn1]), self.layer1, self.layer2, self.layer3, self.layer4]


class CaffeResNet(ResNet):
    """A `ResNet` for weights that were trained on Caffe's pixels, blue first. It is given red first, as any other."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return super().forward(x.flip(1))


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
    """A body and its pyramid: pictures (N, 3, H, W) -> maps P2 … P6 (N, channels, H / s, W / s), s = 4 … 64."""

    def __init__(self, body: nn.Module, channels: int, norm: type | None = None):
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramid(body.channels, channels, norm)
        self.channels = channels

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return self.fpn(self.body(pixels))


LEVELS = 5  # of the pyramid, P2 … P6
STRIDE = 4  # of P2: pixels from one of its cells to the next


def resnet(depths: tuple[int, int, int, int]) -> Callable[[Callable], ResNet]:
    return lambda norm: ResNet(Bottleneck, depths, (64, 128, 256, 512), stem=64, norm=norm)


def caffe_resnet(depths: tuple[int, int, int, int]) -> Callable[[Callable], ResNet]:
    return lambda norm: CaffeResNet(CaffeBottleneck, depths, (64, 128, 256, 512), stem=64, norm=norm)


def playground_body(norm: Callable) -> ResNet:
    return ResNet(BasicBlock, depths=(1, 1, 1, 1), channels=(32, 64, 128, 128), stem=32, norm=norm)


# Bodies by name, each made from its norm layer (channels -> module), which it need not use. One of your own is put in
# here, before a model with it is built or loaded. It gives four maps (N, C_i, H / s, W / s), s = 4, 8, 16, 32, as
# timm's `features_only` models do, and says their widths: `channels` [C_1 … C_4]. With `stages`, a list of its parts
# from the picture on, the first of them can be frozen.
BODIES: dict[str, Callable[[Callable], nn.Module]] = {
    "resnet50": resnet((3, 4, 6, 3)),
    "resnet101": resnet((3, 4, 23, 3)),
    "resnet50_caffe": caffe_resnet((3, 4, 6, 3)),
    "resnet101_caffe": caffe_resnet((3, 4, 23, 3)),
    "playground": playground_body,
}


@dataclass(frozen=True)
class BackboneSettings(Settings):
    """body: a name in `BODIES`. channels: of the pyramid. frozen_norm: batch norm with constant statistics, for a body
    that was pretrained; one that starts from scratch needs trainable ones. head_norm: batch norm after the convolutions
    of the pyramid and the heads as well. eps: of the body's batch norm."""

    body: str = "resnet50"
    channels: Width = 256
    frozen_norm: bool = True
    head_norm: bool = False
    eps: Share = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "body", self.body in BODIES, f"one of mrcnn.backbone.BODIES ({', '.join(BODIES)})")


def make_backbone(settings: BackboneSettings) -> Backbone:
    """The body and its pyramid, with the norm layers that the settings ask for."""

    def norm(channels: int) -> nn.Module:
        kind = FrozenBatchNorm2d if settings.frozen_norm else nn.BatchNorm2d
        return kind(channels, settings.eps)

    body = BODIES[settings.body](norm)
    widths = getattr(body, "channels", None)
    if not isinstance(widths, list | tuple) or len(widths) != LEVELS - 1:
        raise ValueError(
            f"the body {settings.body!r} must say the widths of its {LEVELS - 1} maps (strides 4, 8, 16, 32) in "
            f"`channels`, got {widths!r}"
        )
    return Backbone(body, settings.channels, nn.BatchNorm2d if settings.head_norm else None)


def freeze_stages(body: nn.Module, trainable: int) -> list[nn.Module]:
    """Leaves the last `trainable` of a body's stages to be trained, and freezes the others, which it returns.

    The first stages see edges and colours, which serve other pictures as they are (Yosinski et al. 2014, section 4,
    https://arxiv.org/abs/1411.1792); torchvision, too, trains the last three of five.
    """
    stages = getattr(body, "stages", [])
    if not stages:
        raise ValueError(f"{type(body).__name__} has no `stages`, so none of them can be frozen")
    if not 0 <= trainable <= len(stages):
        raise ValueError(f"trainable_stages must be 0 to {len(stages)} (the stages of the body), got {trainable}")
    frozen = list(stages[: len(stages) - trainable])
    for stage in frozen:
        stage.requires_grad_(False)
    return frozen
