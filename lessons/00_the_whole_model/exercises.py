"""Small pieces of the whole model: what the learner writes."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mrcnn import keypoint_head, mask_head
from mrcnn.anchors import AnchorSettings, make_anchors
from mrcnn.lab.check import exercise
from mrcnn.lab.walk import count_multiply_adds
from mrcnn.roi_heads import choose_levels as choose

try:
    from torchvision.models.detection import roi_heads as theirs
    from torchvision.ops.poolers import LevelMapper
except ImportError:  # then the library is the judge
    theirs = LevelMapper = None


def made_anchors(height: int, width: int) -> int:
    """Counted after they were made."""
    padded = tuple(math.ceil(side / 32) * 32 for side in (height, width))
    levels = [tuple(math.ceil(side / stride) for side in padded) for stride in (4, 8, 16, 32, 64)]
    return sum(map(len, make_anchors(AnchorSettings(), padded, levels)))


PADDED = "    height, width = math.ceil(height / 32) * 32, math.ceil(width / 32) * 32\n ⇒ "
FLOOR = "math.ceil(height / stride) * math.ceil(width / stride) ⇒ (height // stride) * (width // stride)"


@exercise(
    cases=lambda: [(128, 128), (96, 160), (100, 120), (800, 1333)],
    truth=made_anchors,
    mistakes={
        "3 * cells ⇒ cells": "these are the cells; at each of them stand three anchors",
        "32, 64) ⇒ 32)": "the anchors of P6 are missing: there are five levels, the last with cells of 64 pixels",
        "(4, 8, 16, 32, 64) ⇒ (4,)": "these are the anchors of P2 alone: the other levels have theirs too",
        "math.ceil(height / stride) * math.ceil(width / stride) ⇒ height / stride * width / stride": "there are only "
        "whole cells. Where a cell's size does not divide the picture, round up",
        PADDED: "right for pictures that need no padding; a batch is padded to a multiple of 32 first",
        FLOOR: "right where the cells divide the picture. P6 has every second cell of P5, two of three: round up",
        (PADDED, FLOOR): "two things are missing: pad to a multiple of 32 first, and round up",
    },
    hints=[
        "How many cells does P2 have in a picture of 128 by 128? And P6, when the picture is 96 by 160?",
        "`math.ceil(a / b)` rounds up. Pad both sides first, then add up rows times columns of the five levels.",
        "`for stride in (4, 8, 16, 32, 64): cells += math.ceil(height / stride) * math.ceil(width / stride)`",
    ],
)
def count_anchors(height, width):
    """How many anchors a picture of height by width pixels has, P2 to P6."""
    height, width = math.ceil(height / 32) * 32, math.ceil(width / 32) * 32
    cells = 0
    for stride in (4, 8, 16, 32, 64):
        cells += math.ceil(height / stride) * math.ceil(width / stride)
    return 3 * cells


# Well inside a level, just at its border, tiny, huge, long.
SIZES = [(side, side) for side in (150, 224, 223, 112, 111, 448, 9, 1200)] + [(100, 420)]
ROIS = torch.tensor([(300.0, 400, 300 + width, 400 + height) for width, height in SIZES])


@exercise(
    cases=lambda: [(ROIS, 224.0), (ROIS / 4, 56.0)],
    truth=lambda boxes, size: 2 + (LevelMapper(2, 5, size)([boxes]) if LevelMapper else choose(boxes, 4, 4, size)),
    mistakes={
        ".clamp(2, 5) ⇒ ": "right for all but the smallest and the largest: there is no level below 2 and none above 5",
        "torch.floor( ⇒ (": "the levels are not whole numbers yet: round down",
        "torch.floor( ⇒ torch.ceil(": "it rounds up; equation 1 rounds down",
        "torch.floor( ⇒ torch.round(": "it rounds to the nearest level; equation 1 rounds down",
        "clamp(2, 5) ⇒ clamp(2, 5) - 2": "levels counted from 0: the finest is P2, so say 2",
        ".sqrt() ⇒ ": "take the square root of the area first: the rule is about a side",
        "log2 ⇒ log": "that is the natural logarithm; levels go by powers of two",
        "(width * height).sqrt() ⇒ torch.maximum(width, height)": "it goes by the longest side, not by the area's root",
        (" - boxes[:, 0] ⇒ ", " - boxes[:, 1] ⇒ "): "it goes by the corner x2, y2 instead of by width and height",
        "/ canonical_size ⇒ / 224": "right for a canonical size of 224, but not for one of 56: use the argument",
    },
    hints=[
        "What are the width and the height of a box that is given by two corners?",
        "`torch.log2`, `torch.floor`, and `.clamp(2, 5)` work on whole tensors, so no loop is needed.",
        "`torch.floor(4 + torch.log2(side / canonical_size))`, with `side = (width * height).sqrt()`",
    ],
)
def choose_level(boxes, canonical_size):
    """Boxes (K, 4) [x1, y1, x2, y2] -> the level of each, a number from 2 to 5: (K,)."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    side = (width * height).sqrt()
    level = torch.floor(4 + torch.log2(side / canonical_size))
    return level.clamp(2, 5)


def peak(row: float, column: float) -> Tensor:
    """A heatmap (56, 56) with one smooth peak, a little longer than wide."""
    y, x = torch.meshgrid(torch.arange(56.0), torch.arange(56.0), indexing="ij")
    return 9 * torch.exp(-((y - row) ** 2) / 18 - (x - column) ** 2 / 8) - 4


BOX = torch.tensor([31.25, 14.5, 70.0, 99.75])


def peak_of(heatmap: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
    read = (theirs or keypoint_head).heatmaps_to_keypoints
    return tuple(read(heatmap[None, None], box[None])[0][0, 0, :2])


@exercise(
    cases=lambda: [(peak(40.3, 11.6), BOX), (peak(5.2, 47.7), BOX), (peak(29.8, 30.1), BOX)],
    truth=peak_of,
    mistakes={
        "return x, y ⇒ return y, x": "x and y are swapped: x is the column",
        " + 0.5 ⇒ ": "half a pixel is missing: a pixel's middle is at its number + 0.5",
        (" + box[0] ⇒ ", " + box[1] ⇒ "): "that is the place inside the box; the picture's corner is not the box's",
        "), width) ⇒ ), height)": "one row of the enlarged map is as long as it is wide: divide by the width",
        "size.ceil().int().tolist() ⇒ heatmap.shape": "that is the peak among 56 by 56 cells; enlarge the map first",
        "(height, width), mode ⇒ (width, height), mode": "the enlarged map lies on its side: its height goes first",
        (" * size[0] / width ⇒ ", " * size[1] / height ⇒ "): "nearly: the map has whole pixels, the box is a little "
        "smaller. Scale by the box's size / the map's size",
    },
    hints=[
        "`large.argmax()` counts cells row by row. In which row and which column is cell 100 of a map 40 wide?",
        "`divmod(int(large.argmax()), width)` gives row and column. x comes from the column, y from the row.",
        "`x = (column + 0.5) * size[0] / width + box[0]`, and y in the same way",
    ],
)
def read_keypoint(heatmap, box):
    """A heatmap (M, M) and its box (4,) [x1, y1, x2, y2] -> x and y in the picture, two numbers."""
    size = box[2:] - box[:2]
    width, height = size.ceil().int().tolist()
    large = F.interpolate(heatmap[None, None], size=(height, width), mode="bicubic", align_corners=False)[0, 0]
    row, column = divmod(int(large.argmax()), width)
    x = (column + 0.5) * size[0] / width + box[0]
    y = (row + 0.5) * size[1] / height + box[1]
    return x, y


def counted(channels_in: int, channels_out: int, kernel: int, height: int, width: int) -> int:
    """Counted while it runs, on tensors that have shapes but no numbers."""
    x = torch.empty(1, channels_in, height, width, device="meta")
    weight = torch.empty(channels_out, channels_in, kernel, kernel, device="meta")
    return count_multiply_adds(lambda: F.conv2d(x, weight, padding=kernel // 2))


@exercise(
    cases=lambda: [(64, 64, 3, 32, 32), (3, 32, 7, 64, 48), (128, 64, 1, 5, 9)],
    truth=counted,
    mistakes={
        "return channels_in ⇒ return 2 * channels_in": "twice as many: a multiplication and its addition count as one",
        "kernel * kernel ⇒ kernel": "the kernel is a square: it covers kernel by kernel places",
        "* channels_out * ⇒ *": "that is for one output channel; each of them has a kernel of its own",
        "channels_in * ⇒ ": "that is for one input channel; each output number is a sum over all of them",
        " * height * width ⇒ ": "that is what one place of the map costs; there are height times width of them",
    },
    hints=[
        "How many input numbers go into one output number? How many output numbers are there?",
        "One output number is a sum over `channels_in * kernel * kernel` products.",
        "There are `channels_out * height * width` output numbers: multiply the two.",
    ],
)
def multiply_adds(channels_in, channels_out, kernel, height, width):
    """How many multiply-adds a convolution with a square kernel makes for an output of height by width."""
    return channels_in * kernel * kernel * channels_out * height * width


MASK = torch.rand(28, 28, generator=torch.Generator().manual_seed(0))
INSIDE, ACROSS = torch.tensor([20.3, 12.6, 61.4, 74.8]), torch.tensor([-9.4, 55.2, 40.7, 118.9])
UNCUT = ("max(x1, 0) ⇒ x1", "max(y1, 0) ⇒ y1", "min(x2 + 1, size[1]) ⇒ x2 + 1", "min(y2 + 1, size[0]) ⇒ y2 + 1")
BEYOND = "right for a box inside the picture. Where a box reaches beyond its border"


def pasted(mask: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    paste = mask_head.paste_masks if theirs is None else theirs.paste_masks_in_image
    return paste(mask[None, None], box[None], size)[0, 0]


@exercise(
    cases=lambda: [(MASK, INSIDE, (96, 80)), (MASK, ACROSS, (96, 80))],
    truth=pasted,
    extra=True,
    mistakes={
        "(1, 1, 1, 1) ⇒ (0, 0, 0, 0)": "the rim is missing: the mask gets a row or column of zeros on each side first",
        "len(rimmed) / len(mask) ⇒ 1.0": "the rim is there, but the box did not grow with it",
        ("y2 - y1 + 1, x2 - x1 + 1 ⇒ y2 - y1, x2 - x1", "x2 + 1, size ⇒ x2, size", "y2 + 1, size ⇒ y2, size"): "the "
        "last pixel is missing: from x1 to x2, both included, there are x2 - x1 + 1 of them",
        "=False ⇒ =True": "it stretches the centres of the corner cells to the corners: align_corners=False",
        "return picture ⇒ return (picture > 0.5).float()": "keep the probabilities: the threshold comes later",
        UNCUT: f"{BEYOND}, it fails: lay in only what the picture has room for",
        "[top - y1 : bottom - y1, left - x1 : right - x1] ⇒ [: bottom - top, : right - left]": f"{BEYOND}, the wrong "
        "part of the mask is laid in: cut off what lies before row 0 and column 0",
    },
    hints=[
        "A box from x1 = -10 to x2 = 40: which columns of the picture get something, and from which of the mask's?",
        "Cut twice: `left, right = max(x1, 0), min(x2 + 1, size[1])` in the picture; the same less x1 in the mask.",
        "`picture[top:bottom, left:right] = large[top - y1 : bottom - y1, left - x1 : right - x1]`",
    ],
)
def paste_mask(mask, box, size):
    """A mask (M, M) and its box (4,) -> the mask in a picture of size (height, width)."""
    rimmed = F.pad(mask, (1, 1, 1, 1))
    x1, y1, x2, y2 = mask_head.grow_boxes(box[None], len(rimmed) / len(mask))[0].to(torch.int64).tolist()
    shape = (y2 - y1 + 1, x2 - x1 + 1)
    large = F.interpolate(rimmed[None, None], size=shape, mode="bilinear", align_corners=False)[0, 0]
    left, right = max(x1, 0), min(x2 + 1, size[1])
    top, bottom = max(y1, 0), min(y2 + 1, size[0])
    picture = torch.zeros(size)
    picture[top:bottom, left:right] = large[top - y1 : bottom - y1, left - x1 : right - x1]
    return picture
