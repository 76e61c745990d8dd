"""Augmentation: from one record other ones that are as true.

Each step is a callable (image, target, generator) -> (image, target), as in `mrcnn.data`'s records: image uint8
(3, H, W), target a dict. All chance comes from the torch.Generator; what is given is left as it was.

Coordinates are continuous, pixel j covers [j, j + 1): a mirror takes x to W - x, for boxes and keypoints alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .masks import tight_boxes

Target = dict[str, Any]
Augment = Callable[[Tensor, Target, torch.Generator], tuple[Tensor, Target]]
Change = Callable[[Tensor], Tensor]

# What a target knows of each object (K of them), and of which kind that is. The kind says how it moves when the picture
# does, see `move`: a new key needs its line here and nothing else.
PER_OBJECT = {
    "boxes": "box",  # (K, 4) [x1, y1, x2, y2]
    "labels": "value",  # (K,), stays
    "masks": "mask",  # (K, H, W)
    "keypoints": "keypoint",  # (K, J, 3) [x, y, v], v 0 for one that is not there
    "area": "area",  # (K,), in pixels
    "iscrowd": "value",
    "exact": "value",  # False where the box is only about right
}
PADDING = 114  # grey, near to the mean of photographs


def draw(generator: torch.Generator, low: float, high: float) -> float:
    """A number from [low, high)."""
    return low + (high - low) * torch.rand((), generator=generator).item()


@dataclass
class Compose:
    """One step after another."""

    steps: Sequence[Augment]

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> tuple[Tensor, Target]:
        for step in self.steps:
            image, target = step(image, target, generator)
        return image, target


def make_augment(
    dataset: Any,
    *,
    flip: float = 0.5,
    turn: float = 0.0,
    scale: tuple[float, float] | None = (0.7, 1.4),
    colour: float = 0.3,
    copy_paste: float = 0.0,
) -> Compose:
    """The usual augmentation: probabilities of flip, turn (by quarters) and copy-paste, range of scale, strength of
    colour. Scale None, strength 0 and, but for flip, probability 0 leave these steps out."""
    steps: list[Augment] = [Flip(dataset.keypoint_flip, flip)]
    if turn:
        steps.append(Turn(turn))
    if scale:
        steps.append(ScaleJitter(*scale))
    if copy_paste:
        steps.append(CopyPaste(dataset, copy_paste, Compose(list(steps))))
    if colour:
        steps.append(ColourJitter(colour))
    return Compose(steps)


# --- how a target moves with its picture


def refuse_unknown_maps(target: Target) -> None:
    """Raises ValueError where a target has more than augmentation knows to move along: a map of depths, say, would stay
    as it was while the picture is mirrored or cut. A number or a name is of the whole picture, and may stay."""
    for name, value in target.items():
        plain = (
            value is None or isinstance(value, str | int | float) or (isinstance(value, Tensor) and value.dim() == 0)
        )
        if name not in PER_OBJECT and not plain:
            raise ValueError(
                f"augmentation does not know how to move {name!r} of a target along with its picture; it knows "
                f"{', '.join(PER_OBJECT)}. Leave it out, or train without augmentation"
            )


def change(target: Target, **changes: Change) -> Target:
    """The target with everything of a named kind changed, all else as it was."""
    refuse_unknown_maps(target)
    return {
        key: changes[PER_OBJECT[key]](value) if PER_OBJECT.get(key) in changes else value
        for key, value in target.items()
    }


def move(
    image: Tensor, target: Target, *, pixels: Change, points: Change, masks: Change | None = None, growth: float = 1.0
) -> tuple[Tensor, Target]:
    """Picture and target moved alike, all from what becomes of pixels (3, H, W), of points (..., 2) [x, y], of masks
    (K, H, W) if it is not the same as of pixels, and how many times as large an area grows."""
    moved = change(
        target,
        box=lambda boxes: move_boxes(boxes, points),
        mask=masks or pixels,
        keypoint=lambda keypoints: move_keypoints(keypoints, points),
        area=lambda areas: areas * growth,
    )
    return pixels(image), moved


def move_boxes(boxes: Tensor, points: Change) -> Tensor:
    """Boxes (K, 4) with moved corners; in a mirror, say, left and right change places."""
    first, second = points(boxes[:, :2]), points(boxes[:, 2:])
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], 1)


def move_keypoints(keypoints: Tensor, points: Change) -> Tensor:
    """Keypoints (K, J, 3) at their new places; one that is not there stays at 0, 0."""
    place, v = keypoints[..., :2], keypoints[..., 2:]
    return torch.cat([torch.where(v > 0, points(place), 0.0), v], 2)


def select(target: Target, chosen: Tensor) -> Target:
    """The target with only the chosen objects; chosen is (K,) bool or indices."""
    refuse_unknown_maps(target)
    return {key: value[chosen] if key in PER_OBJECT else value for key, value in target.items()}


# --- flip and turn


def mirror(image: Tensor, target: Target, keypoint_flip: Sequence[int]) -> tuple[Tensor, Target]:
    """The picture in a mirror. A left hand becomes a right hand: keypoint j takes the place of keypoint_flip[j]."""
    width = image.shape[-1]
    image, target = move(
        image,
        target,
        pixels=lambda pixels: pixels.flip(-1),
        points=lambda points: torch.stack([width - points[..., 0], points[..., 1]], -1),
    )
    return image, change(target, keypoint=lambda keypoints: keypoints[:, list(keypoint_flip)])


@dataclass
class Flip:
    """Mirrors left to right, with the given probability (Fast R-CNN, section 2.3: the only augmentation there)."""

    keypoint_flip: Sequence[int] = ()
    probability: float = 0.5

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> tuple[Tensor, Target]:
        if draw(generator, 0, 1) >= self.probability:
            return image, target
        return mirror(image, target, self.keypoint_flip)


def turn(image: Tensor, target: Target, quarters: int) -> tuple[Tensor, Target]:
    """The picture turned to the left by so many times 90 degrees, as by numpy.rot90. A left hand stays a left hand."""
    height, width = image.shape[-2:]

    def turn_points(points: Tensor) -> Tensor:
        x, y = points.unbind(-1)
        places = (x, y), (y, width - x), (width - x, height - y), (height - y, x)
        return torch.stack(places[quarters % 4], -1)

    return move(image, target, pixels=lambda pixels: pixels.rot90(quarters, (-2, -1)), points=turn_points)


@dataclass
class Turn:
    """Turns by one, two or three quarters, with the given probability; 0.75 makes all four directions as frequent.

    For pictures without an up and a down, as those taken from above or through a microscope.
    """

    probability: float = 0.75

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> tuple[Tensor, Target]:
        if draw(generator, 0, 1) >= self.probability:
            return image, target
        return turn(image, target, quarters=1 + int(draw(generator, 0, 3)))


# --- scale and crop


def resize(image: Tensor, target: Target, height: int, width: int) -> tuple[Tensor, Target]:
    """Picture and target at another size: the picture smoothly, masks by the nearest pixel.

    An object whose mask falls between the pixels is removed.
    """
    old_height, old_width = image.shape[-2:]
    sy, sx = height / old_height, width / old_width
    rows = ((torch.arange(height) + 0.5) / sy).long()
    columns = ((torch.arange(width) + 0.5) / sx).long()
    image, resized = move(
        image,
        target,
        pixels=lambda pixels: resize_smoothly(pixels, height, width),
        points=lambda points: points * torch.tensor([sx, sy]),
        masks=lambda masks: masks[:, rows][:, :, columns],  # the pixel that the new pixel's centre lies in
        growth=sx * sy,
    )
    vanished = has_pixels(target["masks"]) & ~has_pixels(resized["masks"])
    return image, select(resized, ~vanished)


def resize_smoothly(image: Tensor, height: int, width: int) -> Tensor:
    smooth = F.interpolate(image[None].float(), (height, width), mode="bilinear", antialias=True)[0]
    return smooth.round().clamp(0, 255).to(torch.uint8)


def crop_or_pad(image: Tensor, target: Target, left: int, top: int, width: int, height: int) -> tuple[Tensor, Target]:
    """The window of width × height pixels whose corner lies at (left, top); grey where there is no picture.

    Objects are cut at its border, keypoints outside become v = 0, and objects of which nothing is left are removed.
    """
    old_height, old_width = image.shape[-2:]
    pads = (-left, left + width - old_width, -top, top + height - old_height)  # negative: cut off
    image, moved = move(
        image,
        target,
        pixels=lambda pixels: F.pad(pixels, pads, value=PADDING),
        points=lambda points: points - torch.tensor([left, top]),
        masks=lambda masks: F.pad(masks, pads),
    )
    cut = change(
        moved,
        box=lambda boxes: boxes.clamp(min=0).minimum(torch.tensor([width, height, width, height])),
        keypoint=lambda keypoints: torch.where(inside(keypoints, height, width)[..., None], keypoints, 0.0),
    )
    return image, shrink(target, cut)


def inside(keypoints: Tensor, height: int, width: int) -> Tensor:
    """(K, J) bool: which of the keypoints (K, J, 3) lie in a picture of this size."""
    x, y = keypoints[..., 0], keypoints[..., 1]
    return (x >= 0) & (x < width) & (y >= 0) & (y < height)


@dataclass
class ScaleJitter:
    """Enlarges or shrinks by a factor between low and high, and cuts or pads to the size that the picture had.

    The large-scale jitter of Ghiasi et al. 2021 (https://arxiv.org/abs/2012.07177, section 3) uses 0.1 to 2.
    """

    low: float = 0.7
    high: float = 1.4

    def __post_init__(self):
        if not 0 < self.low <= self.high:
            raise ValueError(f"scales must be positive, the lower one first; got {self.low} and {self.high}")

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> tuple[Tensor, Target]:
        height, width = image.shape[-2:]
        factor = draw(generator, self.low, self.high)
        new_height, new_width = max(1, round(height * factor)), max(1, round(width * factor))
        image, target = resize(image, target, new_height, new_width)
        left = round(draw(generator, 0, 1) * (new_width - width))  # negative when there is to be padding
        top = round(draw(generator, 0, 1) * (new_height - height))
        return crop_or_pad(image, target, left, top, width, height)


# --- what is left of objects that were cut


def shrink(before: Target, after: Target) -> Target:
    """Make `after` true again where its masks have lost pixels: box and area follow; what lost all of them is removed.

    An object without a mask has its box to go by.
    """
    pixels, left = (target["masks"].flatten(1).sum(1, dtype=torch.float64) for target in (before, after))
    sides, left_sides = ((target["boxes"][:, 2:] - target["boxes"][:, :2]).double() for target in (before, after))
    has_mask, lost = pixels > 0, left < pixels
    boxes = after["boxes"].clone()
    boxes[lost] = torch.from_numpy(tight_boxes(after["masks"][lost].numpy()))
    share = torch.where(has_mask, left / pixels.clamp(min=1), left_sides.prod(1) / sides.prod(1).clamp(min=1e-9))
    after = after | {"boxes": boxes, "area": (before["area"] * share).float()}
    return select(after, (boxes[:, 2:] > boxes[:, :2]).all(1))  # the box of an empty mask is all zeros


def has_pixels(masks: Tensor) -> Tensor:
    """(K,) bool: which of the masks (K, H, W) are not empty."""
    return masks.bool().flatten(1).any(1)


# --- colour


@dataclass
class ColourJitter:
    """Brightness, contrast, saturation, each by a factor of 1 - strength to 1 + strength; at times no colour at all."""

    strength: float = 0.3
    grey_probability: float = 0.1

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> tuple[Tensor, Target]:
        brightness, contrast, saturation = (draw(generator, 1 - self.strength, 1 + self.strength) for _ in range(3))
        if draw(generator, 0, 1) < self.grey_probability:
            saturation = 0.0
        return recolour(image, brightness, contrast, saturation), target


def recolour(image: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """The picture with each factor applied in turn; 1 changes nothing, contrast 0 and saturation 0 leave grey."""
    pixels = image.float() * brightness
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]  # luminance, ITU-R BT.601
    mean = (pixels * weights).sum(0).mean()
    pixels = mean + contrast * (pixels - mean)
    grey = (pixels * weights).sum(0)
    pixels = grey + saturation * (pixels - grey)
    return pixels.round().clamp(0, 255).to(torch.uint8)


# --- copy-paste


def paste(image: Tensor, target: Target, source: Tensor, objects: Target) -> tuple[Tensor, Target]:
    """Lay the objects of another picture, of the same size, over this one.

    Masks of what they cover are cut, boxes tightened, keypoints under them hidden (v 2 -> 1), and what is covered
    altogether is removed. The new objects come last.
    """
    if image.shape != source.shape:
        raise ValueError(f"both pictures must have one size; got {tuple(image.shape)} and {tuple(source.shape)}")
    cover = objects["masks"].bool().any(0)  # (H, W)
    cut = change(target, mask=lambda masks: masks * ~cover, keypoint=lambda keypoints: hide_keypoints(keypoints, cover))
    left = shrink(target, cut)
    joined = {key: torch.cat([left[key], objects[key]]) if key in PER_OBJECT else value for key, value in left.items()}
    return torch.where(cover, source, image), joined


def hide_keypoints(keypoints: Tensor, cover: Tensor) -> Tensor:
    """Keypoints (K, J, 3), those in sight where cover (H, W) bool is set now hidden: v 2 -> 1."""
    keypoints = keypoints.clone()
    x, y, v = keypoints.unbind(2)
    seen = inside(keypoints, *cover.shape) & (v == 2)
    v[seen] -= cover[y[seen].long(), x[seen].long()].to(v)
    return keypoints


@dataclass
class CopyPaste:
    """With the given probability, pastes about half the objects of a random record (Ghiasi et al. 2021, section 3).

    dataset gives those records; `augment` is applied to them first, so that the same object comes in other forms.
    Only objects with masks are pasted, and no crowds.
    """

    dataset: Any
    probability: float = 0.5
    augment: Augment | None = None

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> tuple[Tensor, Target]:
        if draw(generator, 0, 1) >= self.probability:
            return image, target
        source, objects = self.dataset[int(draw(generator, 0, len(self.dataset)))]
        if self.augment:
            source, objects = self.augment(source, objects, generator)
        height, width = image.shape[-2:]
        left = round(draw(generator, 0, 1) * (source.shape[-1] - width))
        top = round(draw(generator, 0, 1) * (source.shape[-2] - height))
        source, objects = crop_or_pad(source, objects, left, top, width, height)
        usable = has_pixels(objects["masks"]) & (objects["iscrowd"] == 0)
        chosen = usable & (torch.rand(len(usable), generator=generator) < 0.5)
        if not chosen.any():
            return image, target
        return paste(image, target, source, select(objects, chosen))
