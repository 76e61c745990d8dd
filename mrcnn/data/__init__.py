"""Data sets: the playground (made on the spot) and COCO-format files, with the same records."""

import torch

from .coco import CocoDataset
from .findings import Report, report
from .memory import InMemory
from .pictures import PictureError, read_picture
from .playground import Playground
from .write import write_coco

__all__ = [
    "CocoDataset",
    "InMemory",
    "PictureError",
    "Playground",
    "Report",
    "collate",
    "read_picture",
    "report",
    "write_coco",
]


def collate(batch: list[tuple[torch.Tensor, dict]]) -> tuple[list[torch.Tensor], list[dict]]:
    """Records [(image, target), ...] to (images, targets): pictures of differing sizes are not stacked."""
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)
