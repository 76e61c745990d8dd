"""What the numbers in a model's results mean: names of categories and joints, kept with the model in its file."""

from __future__ import annotations

from typing import Any

from mrcnn.data.coco_names import COCO_CATEGORIES
from mrcnn.data.people import KEYPOINT_NAMES, SKELETON


def labels_of(dataset: Any) -> dict[str, list]:
    """A data set's labels, as JSON can hold them."""
    return {
        "categories": list(dataset.categories),
        "category_ids": list(dataset.category_ids),
        "keypoint_names": list(dataset.keypoint_names),
        "skeleton": [list(bone) for bone in dataset.skeleton],
        "keypoint_labels": sorted(dataset.keypoint_labels),
    }


def published_labels(num_classes: int) -> dict[str, list] | None:
    """The labels of torchvision's published weights: COCO's 91 categories, or background and person."""
    if num_classes not in (2, len(COCO_CATEGORIES)):
        return None
    return {
        "categories": list(COCO_CATEGORIES[:num_classes]),
        "category_ids": list(range(num_classes)),  # they count as COCO does, gaps and all
        "keypoint_names": list(KEYPOINT_NAMES),
        "skeleton": [list(bone) for bone in SKELETON],
        "keypoint_labels": [1],
    }


def shared_labels(labels: dict[str, list] | None, dataset: Any) -> dict[str, list]:
    """A model's labels with the category ids of a data set, matched by name; None for what the data set does not have.

    Raises ValueError when they have no category in common.
    """
    if labels is None:
        return labels_of(dataset)
    ids = dict(zip(dataset.categories[1:], dataset.category_ids[1:], strict=True))
    shared = [None, *(ids.get(name) for name in labels["categories"][1:])]
    if ids and not any(number is not None for number in shared):
        known, there = ", ".join(labels["categories"][1:6]), ", ".join(list(ids)[:5])
        raise ValueError(f"the model knows {known}, …; the data set has {there}, …: they have no category in common")
    return labels | {"category_ids": shared}
