"""Data sets: the playground (made on the spot) and COCO-format files, with the same records."""

from typing import Any

import torch

from mrcnn.pictures import PictureError, read_picture

from .coco import CocoDataset
from .dataset_report import Report, report
from .folder import PictureFolder
from .memory import InMemory
from .playground import Playground
from .write import write_coco

__all__ = [
    "CocoDataset",
    "InMemory",
    "PictureError",
    "PictureFolder",
    "Playground",
    "Report",
    "collate",
    "labels_of",
    "read_picture",
    "report",
    "write_coco",
]


def collate(batch: list[tuple[torch.Tensor, dict]]) -> tuple[list[torch.Tensor], list[dict]]:
    """Records [(image, target), ...] to (images, targets): pictures of differing sizes are not stacked."""
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)


def labels_of(dataset: Any) -> dict[str, list]:
    """What the numbers in a data set's records mean, as JSON can hold it; a model keeps it with its weights."""
    return {
        "categories": list(dataset.categories),
        "category_ids": list(dataset.category_ids),
        "keypoint_names": list(dataset.keypoint_names),
        "skeleton": [list(bone) for bone in dataset.skeleton],
        "keypoint_labels": sorted(dataset.keypoint_labels),
    }
