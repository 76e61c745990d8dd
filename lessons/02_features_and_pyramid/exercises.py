"""Features and the pyramid: what the learner writes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mrcnn import boxes as box_maths
from mrcnn.backbone import BasicBlock
from mrcnn.lab.check import exercise

try:
    from torchvision.models.resnet import BasicBlock as TheirBlock
except ImportError:  # then the library is the judge
    TheirBlock = None

FROM_TO = ((4, 6), (8, 12)), ((4, 7), (7, 13))  # a map's sizes that double on the way down, and such as do not


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def norm_of(channels: int, eps: float = 1e-5) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, eps).requires_grad_(False)
    for seed, each in enumerate((norm.weight, norm.bias, norm.running_mean, norm.running_var)):
        each.copy_(random(channels, seed=seed).abs() + 0.3)
    return norm.eval()


def constant(module: nn.Module) -> nn.Module:
    for seed, weights in enumerate(module.requires_grad_(False).parameters()):
        weights.copy_(0.3 * random(*weights.shape, seed=seed))
    return module.eval()


def by_torchvision(x: Tensor, block: BasicBlock) -> Tensor:
    if TheirBlock is None:
        return block(x)
    theirs = TheirBlock(x.shape[1], block.conv1.out_channels, block.conv1.stride[0], block.downsample).eval()
    theirs.load_state_dict(block.state_dict())
    return theirs(x)


@exercise(
    cases=lambda: [(random(2, n, 9, 8), constant(BasicBlock(n, 8, s, norm_of))) for n, s in ((8, 1), (4, 2))],
    truth=by_torchvision,
    mistakes={
        "return F.relu(y + skip) ⇒ return y + skip": "the last ReLU is missing: it comes after the addition",
        "return F.relu(y + skip) ⇒ return F.relu(y) + skip": "the last ReLU belongs around the sum",
        "block.bn2(block.conv2(y)) ⇒ F.relu(block.bn2(block.conv2(y)))": "a ReLU too many, before the addition",
        "y + skip ⇒ y": "nothing is added: without the skip it is a plain block",
        "F.relu(block.bn1(block.conv1(x))) ⇒ block.bn1(block.conv1(x))": "the ReLU between the convolutions is missing",
        "F.relu(block.bn1(block.conv1(x))) ⇒ block.bn1(F.relu(block.conv1(x)))": "ReLU comes after the norm",
        "block.bn1(block.conv1(x)) ⇒ block.conv1(x)": "the first norm, bn1, is missing",
        " if block.downsample is None else block.downsample(x) ⇒ ": "where the shape changes, "
        "the short way goes through downsample; the long way begins at x as it came",
    },
    hints=[
        "What becomes of x on the long way, and what on the short way? Where do the two meet?",
        "Long way: conv1, bn1, ReLU, conv2, bn2. Short way: x, or block.downsample(x) where there is one.",
        "`return F.relu(y + skip)`, with `skip = x if block.downsample is None else block.downsample(x)`",
    ],
)
def residual_block(x, block):
    """(N, C, H, W) -> (N, C', H', W'). block has conv1, bn1, conv2, bn2, and downsample, which may be None."""
    y = F.relu(block.bn1(block.conv1(x)))
    y = block.bn2(block.conv2(y))
    skip = x if block.downsample is None else block.downsample(x)
    return F.relu(y + skip)


def traced_back(layers: list[tuple[int, int]]) -> tuple[int, int]:
    """From two neighbouring cells of the last map back to the pixels, layer by layer."""
    (low, high), (next_low, next_high) = (0, 0), (1, 1)
    for kernel, stride in reversed(layers):
        low, high = low * stride, high * stride + kernel - 1
        next_low, next_high = next_low * stride, next_high * stride + kernel - 1
    return high - low + 1, next_high - high


@exercise(
    cases=lambda: [([(7, 2), (3, 2), (3, 1)],), ([(3, 1)] * 4,), ([(3, 2), (1, 3), (4, 2), (3, 1)],), ([],)],
    truth=traced_back,
    mistakes={
        "(kernel - 1) * step ⇒ (kernel - 1) * step * stride": "a layer's own stride counts for later layers only",
        "(kernel - 1) * step ⇒ kernel * step": "one tap of the kernel is the cell itself: only kernel - 1 are new",
        "(kernel - 1) * step ⇒ kernel - 1": "each new tap adds `step` pixels, not one",
        "(kernel - 1) * step ⇒ (kernel - 1) * stride": "a tap adds the product of ALL strides before",
        "step *= stride ⇒ step = stride": "neighbours are apart by the product of ALL strides so far",
        "size += (kernel - 1) * step ⇒ size = (size - 1) * stride + kernel": "this rule begins with the last layer",
        "step *= stride ⇒ step += stride": "strides multiply: 2 and then 2 makes 4, and another 2 makes 8",
        "size, step = 1, 1 ⇒ size, step = 0, 1": "before any layer a cell is one pixel: begin with a size of 1",
        "return size, step ⇒ return step, size": "the two results are swapped: size first",
    },
    hints=[
        "Two neighbouring cells are `step` pixels apart. How much wider does a kernel of 3 see than a kernel of 1?",
        "Begin with 1 and 1. In each layer the size grows by kernel - 1 steps; then the step by the factor stride.",
        "`size += (kernel - 1) * step` and then `step *= stride`",
    ],
)
def reach(layers):
    """Layers [(kernel, stride), ...], from the picture on -> (size, step), two whole numbers of pixels.

    size: how wide a cell of the last map sees. step: how far apart two neighbouring cells of it look.
    """
    size, step = 1, 1
    for kernel, stride in layers:
        size += (kernel - 1) * step
        step *= stride
    return size, step


def smooth_network() -> nn.Module:
    layers = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Tanh(), nn.Conv2d(4, 5, 3, padding=1), nn.Tanh()
    return constant(nn.Sequential(*layers)).double()


def by_nudging(network: nn.Module, image: Tensor, row: int, column: int) -> Tensor:
    """Every number of the picture is moved a little, and the cell watched."""
    nudges = 1e-4 * torch.eye(image.numel(), dtype=image.dtype).view(-1, *image.shape)
    up, down = (network(image + way * nudges)[:, :, row, column].sum(1) for way in (1, -1))
    return ((up - down) / 2e-4).view(image.shape).abs().sum(0)


@exercise(
    cases=lambda: [(smooth_network(), random(3, 9, 14, seed=n).double(), *at) for n, at in enumerate([(1, 3), (4, 0)])],
    truth=by_nudging,
    mistakes={
        "[0, :, row, column] ⇒ [0, :, column, row]": "row and column are swapped: rows come before columns",
        "[0, :, row, column] ⇒ [0, 0, row, column]": "this is the cell's first channel; take the sum of all of them",
        "[0, :, row, column] ⇒ [0]": "this is what the whole map sees: take one cell of it",
        ".abs().sum(0) ⇒ .sum(0)": "a colour that pushes the cell down counts too: take absolute values",
        ".abs().sum(0) ⇒ .sum(0).abs()": "colours cancel each other: first absolute values, then the sum",
        ".abs().sum(0) ⇒ .abs()": "one number per pixel is asked for: sum over the three colours",
        "column].sum() ⇒ column].abs().sum()": "sum the channels as they are: absolute values are for the gradient",
        ".abs().sum(0) ⇒ .square().sum(0)": "these are squares; absolute values were asked for",
    },
    hints=[
        "Which number do you call backward on, and which tensor's gradient do you then read?",
        "A copy of the picture with requires_grad_(); the sum of the cell's channels; its backward(); image.grad.",
        "`network(image[None])[0, :, row, column].sum().backward()`, and then `image.grad.abs().sum(0)`",
    ],
)
def receptive_field(network, image, row, column):
    """How much the cell at (row, column) of network(pictures) depends on each pixel of image (3, H, W) -> (H, W).

    The gradient of the sum of the cell's channels: its absolute values, summed over the three colours.
    """
    image = image.clone().requires_grad_()
    network(image[None])[0, :, row, column].sum().backward()
    return image.grad.abs().sum(0)


def cell_by_cell(coarse: Tensor, fine: Tensor, lateral: nn.Module) -> Tensor:
    out = lateral(fine).clone()
    (h, w), (height, width) = coarse.shape[2:], out.shape[2:]
    for y in range(height):
        for x in range(width):
            out[:, :, y, x] += coarse[:, :, y * h // height, x * w // width]
    return out


@exercise(
    cases=lambda: [(random(2, 6, *a), random(2, 4, *b, seed=1), constant(nn.Conv2d(4, 6, 1))) for a, b in FROM_TO],
    truth=cell_by_cell,
    mistakes={
        "size=fine.shape[-2:] ⇒ scale_factor=2": "right where sizes double exactly; but 4 columns may have to become 7",
        "fine.shape[-2:]) ⇒ fine.shape[-2:], mode='bilinear')": "bilinear is smooth; the nearest cell was asked for",
        "fine.shape[-2:]) ⇒ fine.shape[-2:], mode='nearest-exact')": "where sizes do not double exactly, "
        "mode='nearest-exact' takes other cells than mode='nearest', which was asked for",
        "lateral(fine) + ⇒ ": "this is the coarse map alone, enlarged: the fine one must be added",
        "return lateral(fine) + up ⇒ return lateral(fine)": "this is the lateral connection alone: nothing comes down",
        "lateral(fine) + ⇒ fine +": "`fine` has another number of channels: it alone goes through `lateral`, first",
    },
    hints=[
        "Two maps are added. In which two ways must their shapes be made to agree?",
        "`lateral` makes the channels agree, `F.interpolate(coarse, size=(rows, columns))` the rows and columns.",
        "`F.interpolate(coarse, size=fine.shape[-2:])`; its mode is 'nearest' unless you say otherwise",
    ],
)
def top_down(coarse, fine, lateral):
    """coarse (N, C, h, w), fine (N, C', H, W), lateral: a 1 by 1 convolution from C' to C channels -> (N, C, H, W)."""
    up = F.interpolate(coarse, size=fine.shape[-2:])
    return lateral(fine) + up


def fused(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    whole = fuse_conv_bn_eval(conv, norm)
    return whole.weight.data, whole.bias.data


@exercise(
    cases=lambda: [(constant(nn.Conv2d(n, m, 3, bias=False)), norm_of(m, 0.1)) for n, m in ((4, 4), (3, 5))],
    truth=fused,
    mistakes={
        "norm.running_var + norm.eps ⇒ norm.running_var": "norm.eps is missing under the root",
        ".sqrt() ⇒ ": "divide by the standard deviation, the ROOT of the variance",
        "norm.weight / ⇒ 1 /": "norm.weight is missing: it multiplies what has been divided",
        "scale[:, None, None, None] ⇒ scale[None, :, None, None]": "output channels are the FIRST axis",
        "norm.bias - norm.running_mean * scale ⇒ norm.bias - norm.running_mean": "the mean is scaled too",
        "norm.bias - norm.running_mean * scale ⇒ -norm.running_mean * scale": "norm.bias is missing: it is added last",
        "norm.bias - norm.running_mean * scale ⇒ (norm.bias - norm.running_mean) * scale": "norm.bias is not scaled",
        "norm.bias - norm ⇒ norm.bias + norm": "the mean is taken away, not added",
        "norm.bias - norm.running_mean * scale ⇒ norm.bias": "what becomes of the mean that the norm takes away?",
    },
    hints=[
        "Write the norm as scale * y + shift. What are the two? Then put the convolution, weight * x, in for y.",
        "scale = norm.weight / sqrt(running_var + eps). Each output channel's weights are multiplied by its scale.",
        "`conv.weight * scale[:, None, None, None]` and `norm.bias - norm.running_mean * scale`",
    ],
)
def fold(conv, norm):
    """The weight (C', C, k, k) and bias (C',) of the one convolution that equals norm(conv(x)). conv has no bias."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


SIZES = [(side, side) for side in (50, 111, 112, 125, 250, 440, 448, 900)] + [(100, 420), (2, 8)]
BOXES = torch.tensor([(500.0, 800, 500 + width, 800 + height) for width, height in SIZES])


def by_borders(boxes: Tensor, size: float) -> Tensor:
    side = box_maths.area(boxes).sqrt()
    return torch.bincount(torch.bucketize(side, size * torch.tensor([0.5, 1, 2]), right=True), minlength=4)


@exercise(
    cases=lambda: [(BOXES, 224.0), (BOXES / 4, 56.0), (BOXES[:3], 224.0), (BOXES[:0], 224.0)],
    truth=by_borders,
    extra=True,
    mistakes={
        "torch.floor( ⇒ torch.round(": "the level is rounded to the nearest; the rule rounds down",
        "torch.floor( ⇒ torch.ceil(": "the level is rounded up; the rule rounds down",
        ".clamp(2, 5) ⇒ ": "boxes below P2 or above P5 are lost: they go to P2 and P5, `.clamp(2, 5)`",
        ".sqrt() ⇒ ": "take the square root of the area first: the rule is about a side",
        "- boxes[:, 0], boxes[:, 3] - boxes[:, 1] ⇒ , boxes[:, 3]": "x2 and y2 are a corner, not width and height",
        "log2 ⇒ log": "that is the natural logarithm; levels go by powers of two",
        "/ canonical_size ⇒ / 224": "right for a canonical size of 224, but not for one of 56: use the argument",
        "(width * height).sqrt() ⇒ torch.maximum(width, height)": "it goes by the longest side, not by the area's root",
    },
    hints=[
        "You have each box's level from lesson 00. How do you count how often each of 2, 3, 4, 5 occurs?",
        "`(level == 3).sum()` counts one of them; `torch.stack` makes one tensor of four.",
        "`torch.stack([(level == k).sum() for k in (2, 3, 4, 5)])`",
    ],
)
def level_counts(boxes, canonical_size):
    """How many of the boxes (K, 4) belong to P2, P3, P4 and P5: (4,)."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    side = (width * height).sqrt()
    level = torch.floor(4 + torch.log2(side / canonical_size)).clamp(2, 5)
    return torch.stack([(level == k).sum() for k in (2, 3, 4, 5)])
