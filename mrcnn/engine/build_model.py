"""The model that a command works with: from a model file, from published weights, or made to fit a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mrcnn import detectron2, model_file, zoo
from mrcnn.errors import CheckpointError
from mrcnn.model import MaskRCNN, ModelSettings
from mrcnn.settings import changed
from mrcnn.weights import (
    CLASSES,
    KEYPOINTS,
    OF_CLASSES,
    OF_KEYPOINTS,
    load_torchvision,
    published_labels,
    published_weights,
    read_weights,
    transfer,
)


def trained_model(weights: str, builder: str | None = None) -> MaskRCNN:
    """A model to evaluate or predict with. With ``builder``, ``weights`` is a .pth file of torchvision's model of that
    name, or "COCO_V1", or a file of detectron2's; without, a model file of ours, or "playground" for the one that comes
    with the package. Raises ValueError where a model file is of another builder."""
    if builder is None or model_file.is_ours(weights):
        model = zoo.load_model(weights)
        if builder is not None and zoo.builders_name(builder) != model.builder:
            raise ValueError(f"{weights} is a {model.builder}, and no {builder} (--model)")
        return model
    state = read_weights(published_weights(zoo.build(builder).builder, weights))
    if detectron2.recognises(state):
        return zoo.build(builder, weights=weights).eval()
    if CLASSES not in state or state[CLASSES].dim() != 2:
        raise ValueError(f"{weights} has no {CLASSES}: it is no detection model of torchvision")
    keypoints = state[KEYPOINTS].shape[1] if KEYPOINTS in state and state[KEYPOINTS].dim() == 4 else None
    model = zoo.build(builder, num_classes=len(state[CLASSES]), num_keypoints=keypoints)
    load_torchvision(model, state)
    model.labels = published_labels(state)
    return model.eval()


def limit(
    model: MaskRCNN,
    min_size: Sequence[int] | None = None,
    max_size: int | None = None,
    detections: int | None = None,
    at_least: float = 0.0,
) -> MaskRCNN:
    """Changes the size at which a model sees pictures (`ImageSettings`), how many objects it finds in one at most, and
    the score that they have `at_least`, if it is more than the model asks for; also for its model file. None leaves
    things as they are. Returns the model."""
    sizes = {"min_size": min_size or None, "max_size": max_size}
    images = {name: value for name, value in sizes.items() if value is not None}
    below = float(np.nextafter(np.float32(at_least), np.float32(0)))  # the model asks for scores above its own
    box = {"min_score": max(model.settings.box.min_score, below)}
    box |= {} if detections is None else {"detections": detections}
    model.settings = changed(model.settings, {"images": images, "box": box})
    model.roi_heads.box = model.settings.box
    return model


def model_to_train(
    dataset: Any,
    builder: str | None,
    weights: str | None = None,
    backbone_weights: str | None = None,
    changes: dict[str, Any] | None = None,
) -> tuple[MaskRCNN, list[str]]:
    """A model for the categories and keypoints of a data set, and the names of the weights that start afresh.

    ``weights`` (a model file of ours, or a .pth file together with ``builder``) are taken where they fit: the last
    layers of the heads start afresh if the categories are others, by number or by name. ``builder`` None: the one of
    the model file. ``changes`` are to the settings of its stages, as a settings file has them.
    """
    source = None if weights is None else _source(weights, builder)
    if source is None and builder is None:
        raise ValueError("name a model (--model), or a model file to start from (--weights)")
    wanted = zoo.build(builder or source.builder)
    same = source is not None and source.builder == wanted.builder  # then also the same settings of every stage
    settings = source.settings if same else wanted.settings
    if source is not None and not same:
        settings = zoo.as_trained(settings, source.settings, same_builder=False)
    if source is None and backbone_weights is None:
        # Constant statistics suit the weights they were measured with. Random weights need statistics of their own.
        settings = replace(settings, backbone=replace(settings.backbone, frozen_norm=False))
    try:
        settings = fitted(settings.with_changes(changes or {}), dataset)
    except TypeError as error:  # a name that no stage has
        raise ValueError(f"the settings of the model: {error}") from error
    model = zoo.make(wanted.builder, settings, backbone_weights=backbone_weights)
    model.requires_grad_(True)  # which stages are not trained, the run's settings say
    if source is None:
        return model, []
    fresh = transfer(model, same_outputs(source.state, source.labels, dataset))
    if all(f"backbone.{name}" in fresh for name, _ in model.backbone.named_parameters()):
        raise CheckpointError(f"{weights}: nothing of these weights fits {model.builder}")
    return model, fresh


def _source(weights: str, builder: str | None) -> zoo.Source:
    """What a model file of ours holds or, with a builder's name, a file of torchvision's."""
    if builder is None or model_file.is_ours(weights):
        return zoo.source_of(weights)
    model = trained_model(weights, builder)
    return zoo.Source(model.state_dict(), model.builder, model.settings, model.labels)


def fitted(settings: ModelSettings, dataset: Any) -> ModelSettings:
    """A model's settings with the classes and keypoints of a data set; no keypoint head where there are none."""
    keypoints = len(dataset.keypoint_names)
    keypoint = replace(settings.keypoint, num_keypoints=keypoints) if settings.keypoint and keypoints else None
    return replace(settings, num_classes=len(dataset.categories), keypoint=keypoint)


def same_outputs(state: dict[str, torch.Tensor], labels: dict[str, list] | None, dataset: Any) -> dict:
    """The weights without those of outputs that mean something else in the data set: as many categories, say, of other
    names. A model that does not say what its outputs mean keeps them."""
    others: tuple[str, ...] = ()
    if labels and labels["categories"] != list(dataset.categories):
        others += OF_CLASSES
    if labels and labels["keypoint_names"] != list(dataset.keypoint_names):
        others += OF_KEYPOINTS
    return {name: value for name, value in state.items() if not name.startswith(others)}
