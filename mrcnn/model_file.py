"""Model files: what is in them, read with ``weights_only=True`` and checked before use.

A model file says how to build its model again and what its labels mean::

    {"format": "mrcnn 1", "config": {"builder", "arguments"}, "labels": {"categories", …}, "state_dict": {…}}

`mrcnn.load_model` makes the model of it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mrcnn import detectron2
from mrcnn.errors import CheckpointError
from mrcnn.files import write_whole
from mrcnn.validation import describe
from mrcnn.weights import checked_state, refuse_differences

FORMAT = "mrcnn 1"
NAME_IT = "also name the model with --model"
SHIPPED = {"playground": Path(__file__).parent / "pretrained" / "playground_rcnn.pt"}  # models in the package


def save_model(model: nn.Module, path: str | Path) -> None:
    """Writes a model that describes itself (``model.config``, ``model.labels``) to ``path``."""
    contents = contents_of(model)
    write_whole(path, lambda file: torch.save(contents, file))


def contents_of(model: nn.Module) -> dict[str, Any]:
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    return {"format": FORMAT, "config": model.config, "labels": model.labels, "state_dict": state}


def read(path: str | Path) -> dict[str, Any]:
    """The contents of a file of ours, or a CheckpointError which tells what is wrong with it."""
    path = SHIPPED.get(str(path), Path(path))
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file")
    if detectron2.is_pickle(path):
        raise CheckpointError(f"{path}: expected a model file written by mrcnn (for detectron2's, {NAME_IT})")
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
        lost = damaged_record(path)
    except Exception as error:  # whatever the bytes make the unpickler do, the file is not one of ours
        raise CheckpointError(f"{path}: {_what_is_wrong(path)}") from error
    if lost:
        raise CheckpointError(f"{path}: the file is damaged (in {lost})")
    if not isinstance(contents, Mapping) or contents.get("format") != FORMAT:
        found = "a state dict" if _is_state_dict(contents) else f"a {type(contents).__name__}"
        raise CheckpointError(
            f"{path}: expected a model file written by mrcnn, found {found} of another program "
            f"(for weights of torchvision's or detectron2's, {NAME_IT})"
        )
    missing = {"config", "labels", "state_dict"} - contents.keys()
    if missing:
        raise CheckpointError(f"{path}: a model file of mrcnn without {', '.join(sorted(missing))}")
    try:
        checked_state(contents["state_dict"], str(path))
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    return dict(contents)


def damaged_record(path: Path) -> str | None:
    """The first record of torch.save's archive that is not as it was written, if any; torch.load does not look."""
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def is_ours(path: str | Path) -> bool:
    """Whether `read` can read it, and not only `mrcnn.weights.read_weights`."""
    try:
        read(path)
    except CheckpointError:
        return False
    return True


def _what_is_wrong(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        return "the file is empty"
    if start == b"PK\x03\x04":  # torch.save writes a zip archive, whose table of contents is at the end
        return "the file is damaged or was cut short (torch.save's archive is incomplete)"
    return "not a file of weights: expected what torch.save writes"


def _is_state_dict(contents: Any) -> bool:
    return isinstance(contents, Mapping) and all(isinstance(value, torch.Tensor) for value in contents.values())


def load_weights(model: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Loads a state dict; a CheckpointError names the keys and shapes in which it differs from the model's."""
    try:
        refuse_differences(model.state_dict(), dict(state))
    except ValueError as error:
        raise CheckpointError(f"{source}: {error}") from error
    model.load_state_dict(state, strict=False)  # step counters of batch norms may be missing, or be left over


def checked_labels(labels: Any, num_classes: int) -> dict[str, list] | None:
    """The labels of a model, which may have none; a ValueError where they are of another kind, or for fewer classes."""
    if labels is None:
        return None
    kinds = {"categories": str, "category_ids": int, "keypoint_names": str, "skeleton": list, "keypoint_labels": int}
    if not isinstance(labels, dict) or not kinds.keys() <= labels.keys():
        raise ValueError(f"labels must be None or a dict of {', '.join(kinds)}; got {describe(labels)}")
    for name, kind in kinds.items():
        if not isinstance(labels[name], list) or not all(type(each) is kind for each in labels[name]):
            raise ValueError(f'labels["{name}"] must be a list of {kind.__name__}, got {describe(labels[name])}')
    for name in ("categories", "category_ids"):
        if len(labels[name]) < num_classes:
            raise ValueError(f'labels["{name}"] must be of {num_classes} classes, got {len(labels[name])}')
    ids = labels["category_ids"][1:]
    if len(set(ids)) < len(ids):
        raise ValueError(f'labels["category_ids"] must differ from each other, got {ids!r:.80}')
    if not all(0 < label < num_classes for label in labels["keypoint_labels"]):
        raise ValueError(f'labels["keypoint_labels"] must be 1 to {num_classes - 1}, got {labels["keypoint_labels"]}')
    keypoints = len(labels["keypoint_names"])
    if not all(
        len(bone) == 2 and all(type(j) is int and 0 <= j < keypoints for j in bone) for bone in labels["skeleton"]
    ):
        raise ValueError(
            f'labels["skeleton"] must be pairs of keypoints below {keypoints}, got {labels["skeleton"]!r:.80}'
        )
    return labels
