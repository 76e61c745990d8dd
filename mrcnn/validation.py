"""What the model says to bad input: which argument, what was expected, what came."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

LARGEST_MEAN = 3.0  # of a picture: in [0, 1] or not far from it, but not in [0, 255]


def check_images(images: list[Tensor]) -> None:
    """Raises unless `images` is a list of at least one picture (3, H, W), uint8 or finite float."""
    if not isinstance(images, list | tuple) or not images:
        raise TypeError(f"images must be a list of at least one tensor (3, H, W), got {describe(images)}")
    for index, image in enumerate(images):
        name = f"images[{index}]"
        if not isinstance(image, Tensor):
            raise TypeError(f"{name} must be a tensor (3, H, W), got {describe(image)}")
        if image.dim() != 3 or image.shape[0] != 3 or image.numel() == 0:
            raise ValueError(f"{name} must have shape (3, H, W) with H and W at least 1, got {tuple(image.shape)}")
        if image.dtype != torch.uint8 and not image.is_floating_point():
            raise TypeError(f"{name} must be uint8, or float in [0, 1], got {image.dtype}")
        if image.is_floating_point() and not torch.compiler.is_compiling():
            check_range(image, name)


def check_range(image: Tensor, name: str) -> None:
    """The mean tells of NaN and infinity, which survive addition, and of a picture in [0, 255]."""
    mean = image.mean(dtype=torch.promote_types(image.dtype, torch.float32)).item()
    if not (math.isfinite(mean) or torch.isfinite(image).all()):
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    if not abs(mean) <= LARGEST_MEAN:
        raise ValueError(f"{name} must be float in [0, 1], or uint8; got float with a mean of {mean:.4g}")


def is_finite(tensor: Tensor) -> bool:
    """Whether no number is NaN or infinite. These survive addition, so one sum tells, but for sums that overflow."""
    return bool(torch.isfinite(tensor.sum()) or torch.isfinite(tensor).all())


def check_finite(what: str, *computed: Tensor) -> None:
    """Raises ValueError where there is NaN or infinity: the answer would be nothing, or nonsense."""
    if not torch.compiler.is_compiling() and not all(map(is_finite, computed)):
        raise ValueError(
            f"the {what} that the model computes are NaN or infinite: so are some of its weights, or they are too large"
        )


def check_targets(
    targets: list[dict[str, Tensor]] | None,
    images: list[Tensor],
    num_classes: int,
    heads: Sequence[Any],
) -> None:
    """Raises unless there is one target per picture, with the tensors that the model's heads learn from.

    heads: those beside the box head (`mrcnn.roi_heads.Head`); each checks its own part.
    """
    if targets is None:
        raise ValueError("targets must be given in training: a list of one dict per picture, got None")
    if not isinstance(targets, list | tuple) or len(targets) != len(images):
        raise ValueError(f"targets must be a list of {len(images)} dicts, one per picture, got {describe(targets)}")
    for index, (target, image) in enumerate(zip(targets, images, strict=True)):
        name = f"targets[{index}]"
        if not isinstance(target, dict):
            raise TypeError(f"{name} must be a dict, got {describe(target)}")
        for key in ("boxes", "labels", *(head.target for head in heads)):
            if not isinstance(target.get(key), Tensor):
                raise ValueError(
                    f'{name} must have a tensor "{key}", which this model learns from; it has {sorted(target)}'
                )
        check_boxes(target["boxes"], f'{name}["boxes"]')
        check_labels(target["labels"], f'{name}["labels"]', len(target["boxes"]), num_classes)
        if "exact" in target:
            check_exact(target["exact"], f'{name}["exact"]', len(target["boxes"]))
        for head in heads:
            head.check(target, name, tuple(image.shape[1:]))


def check_boxes(boxes: Tensor, name: str) -> None:
    if boxes.dim() != 2 or boxes.shape[1] != 4 or not boxes.is_floating_point():
        raise ValueError(f"{name} must be float (K, 4) [x1, y1, x2, y2], got {describe(boxes)}")
    bad = ~(torch.isfinite(boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1))
    if bad.any():
        row = int(bad.nonzero()[0])
        raise ValueError(f"{name} must be finite with x2 > x1 and y2 > y1, got {boxes[row].tolist()} in row {row}")


def check_labels(labels: Tensor, name: str, count: int, num_classes: int) -> None:
    check_shape(labels, name, (count,))
    if labels.dtype != torch.int64:
        raise TypeError(f"{name} must be int64, got {labels.dtype}")
    if count and not (labels.min() >= 1 and labels.max() < num_classes):
        raise ValueError(
            f"{name} must be 1 to {num_classes - 1} (0 is background), got {int(labels.min())} to {int(labels.max())}"
        )


def check_exact(exact: Tensor, name: str, count: int) -> None:
    if not isinstance(exact, Tensor) or exact.dtype != torch.bool:
        raise TypeError(f"{name} must be a bool tensor, got {describe(exact)}")
    check_shape(exact, name, (count,))


def check_mask_values(masks: Tensor, name: str) -> None:
    if masks.numel() and masks.dtype != torch.bool and not (masks.min() >= 0 and masks.max() <= 1):
        raise ValueError(f"{name} must be 0 or 1, got {masks.min().item()} to {masks.max().item()}")


def check_shape(tensor: Tensor, name: str, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name} must have shape {tuple(shape)}, got {tuple(tensor.shape)}")


def describe(value: object) -> str:
    """A value in a few words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and {value.dtype}"
    if isinstance(value, list | tuple | dict):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{type(value).__name__} {value!r:.40}"
