"""From pictures of any size to one padded batch; the targets follow their pictures."""

import functools
import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from mrcnn import boxes as box_maths
from mrcnn.sampling import seeded
from mrcnn.settings import POSITIVE, Settings, Width, Widths, number, require, several, whole


@dataclass(frozen=True)
class ImageSettings(Settings):
    """How pictures are brought to the network's scale.

    min_size: lengths of the short side, in pixels; training draws one at random, evaluation takes the last.
    max_size: no long side is made longer than this (Feature Pyramid Networks, section 5: 800 and 1333).
    mean, std: of ImageNet's RGB channels in [0, 1].
    divisor: the padded height and width are multiples of it: the coarsest stride, so that every level fits.
    """

    min_size: Widths = (800,)
    max_size: Width = 1333
    mean: Annotated[tuple[float, float, float], several(number(-1e6, 1e6), 3, 3)] = (0.485, 0.456, 0.406)
    std: Annotated[tuple[float, float, float], several(POSITIVE, 3, 3)] = (0.229, 0.224, 0.225)
    divisor: Annotated[int, whole(32, 1024)] = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "divisor", self.divisor % 32 == 0, "a multiple of 32")


@dataclass
class ImageBatch:
    """pixels: (N, 3, H, W), channels_last, zero-padded right and below. sizes: (height, width) of each picture in it.
    original_sizes: the same before resizing."""

    pixels: Tensor
    sizes: list[tuple[int, int]]
    original_sizes: list[tuple[int, int]]


def resized_size(size: tuple[int, int], short_side: int, max_size: int) -> tuple[int, int]:
    """(height, width) after scaling the short side to `short_side`, or less: no side is made longer than `max_size`."""
    factor = min(short_side / min(size), max_size / max(size))
    return max(1, math.floor(size[0] * factor)), max(1, math.floor(size[1] * factor))


def is_free(size: tuple[int, int]) -> bool:
    """Whether a size stands for many: `torch.export` then follows the model with symbols in place of numbers."""
    return any(isinstance(side, torch.SymInt) for side in size)


def free_resized_size(size: tuple[int, int], short_side: int, max_size: int) -> tuple[int, int]:
    """`resized_size` of a free size: computed by tensors, for Python would ask the symbols which of them is larger."""
    # Python's floats. (A number divided by a tensor is the number times its inverse, which is rounded once more.)
    *sides, short_side, longest = (torch.scalar_tensor(n, dtype=torch.float64) for n in (*size, short_side, max_size))
    sides = torch.stack(sides)
    factor = torch.minimum(short_side / sides.min(), longest / sides.max())
    height, width = (sides * factor).floor().clamp(min=1).to(torch.int64).tolist()
    for side in (height, width):
        torch._check(side >= 1)
        torch._check(side <= max_size)
    return height, width


def padded_side(sides: list[int], divisor: int) -> int:
    """The smallest multiple of `divisor` in which all the sides fit."""
    return (functools.reduce(torch.sym_max, sides) + divisor - 1) // divisor * divisor


def prepare_image(image: Tensor, size: tuple[int, int], settings: ImageSettings) -> Tensor:
    """A picture (3, h, w), uint8 or float in [0, 1], normalised and resized bilinearly to `size`: (3, *size)."""
    if image.dtype == torch.uint8:
        image = image.to(torch.get_default_dtype()) / 255
    mean = image.new_tensor(settings.mean)[:, None, None]
    std = image.new_tensor(settings.std)[:, None, None]
    image = (image - mean) / std
    if not is_free(size) and tuple(image.shape[1:]) == size:  # resizing to its own size is the identity
        return image
    if torch.compiler.is_exporting():
        return resized_along(resized_along(image, 1, size[0]), 2, size[1])
    return F.interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0]


def resized_along(image: Tensor, axis: int, length: int) -> Tensor:
    """What `F.interpolate` makes of a picture (3, h, w) along one axis, for graphs that other programs compute.

    Their own resizing rounds its coordinates in another way: with a ratio that is no round number, results differ by
    3e-5 of the brightness, which the network makes more of.
    """
    side = image.shape[axis]
    step, last = (torch.scalar_tensor(n, device=image.device) for n in (side, side - 1))
    # Pixels of the picture to one of the result are rounded to float32, and a place is rounded once: a fused
    # multiply-add, as processors do it.
    place = (torch.arange(length, device=image.device).double() + 0.5) * (step / length).double() - 0.5
    place = torch.minimum(place.float().clamp(min=0), last)
    first = place.floor()
    share = (place - first).to(image.dtype).unflatten(0, (-1, 1) if axis == 1 else (1, -1))  # (length, 1), (1, length)
    before, after = (image.index_select(axis, cell.to(torch.int64)) for cell in (first, torch.minimum(first + 1, last)))
    return before * (1 - share) + after * share


def prepare_target(target: dict[str, Tensor], old: tuple[int, int], new: tuple[int, int]) -> dict[str, Tensor]:
    """A copy of the target, its boxes, masks (nearest pixel) and keypoints in the pixels of the resized picture."""
    target = dict(target)
    if old == new:
        return target
    target["boxes"] = box_maths.scale(target["boxes"], old, new)
    if "masks" in target:
        masks = target["masks"].to(torch.uint8)[:, None]  # (K, 1, H, W)
        target["masks"] = F.interpolate(masks, size=new)[:, 0]
    if "keypoints" in target:
        target["keypoints"] = scale_keypoints(target["keypoints"], old, new)
    return target


def prepare(
    images: list[Tensor], targets: list[dict[str, Tensor]] | None, settings: ImageSettings, training: bool
) -> tuple[ImageBatch, list[dict[str, Tensor]] | None]:
    """Normalises, resizes and pads a list of pictures (3, h, w) into one batch; targets follow their pictures."""
    original_sizes = [(image.shape[1], image.shape[2]) for image in images]
    sizes = []
    for index, size in enumerate(original_sizes):
        random = seeded(targets[index] if targets else {}, torch.device("cpu"))
        choice = int(torch.randint(len(settings.min_size), (), generator=random)) if training else -1
        resized = free_resized_size if is_free(size) else resized_size
        sizes.append(resized(size, settings.min_size[choice], settings.max_size))
    height, width = (padded_side([size[axis] for size in sizes], settings.divisor) for axis in (0, 1))
    prepared = [prepare_image(image, size, settings) for image, size in zip(images, sizes, strict=True)]
    padded = [F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1])) for image in prepared]
    pixels = torch.stack(padded).contiguous(memory_format=torch.channels_last)
    if targets is not None:
        targets = [prepare_target(*each) for each in zip(targets, original_sizes, sizes, strict=True)]
    return ImageBatch(pixels, sizes, original_sizes), targets


def scale_keypoints(keypoints: Tensor, from_size: tuple[int, int], to_size: tuple[int, int]) -> Tensor:
    """Keypoints (K, J, 3) [x, y, v] moved from a picture of `from_size` (height, width) to one of `to_size`."""
    corners = keypoints[..., :2].reshape(-1, 2).repeat(1, 2)  # a point is a box without size
    moved = box_maths.scale(corners, from_size, to_size)[:, :2].view_as(keypoints[..., :2])
    return torch.cat((moved, keypoints[..., 2:]), dim=-1)
