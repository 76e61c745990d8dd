"""Models and runs in files: written whole or not at all, read with ``weights_only=True``, checked before use.

A *model file* says how to build its model again and what its labels mean::

    {"format": "mrcnn 1", "recipe": {"builder", "arguments"}, "labels": {"categories", …}, "state_dict": {…}}

A *checkpoint* of a run is a model file (its weights are the averaged ones, if the run averages), with what the run
needs to go on under one more key, ``"training"``. So a run that was stopped leaves something to predict with.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from mrcnn import zoo
from mrcnn.engine.labels import checked_labels
from mrcnn.model import ModelSettings
from mrcnn.weights import checked_state, refuse_differences

FORMAT = "mrcnn 1"
SHIPPED = {"playground": Path(__file__).parents[1] / "pretrained" / "playground_rcnn.pt"}  # models in the package


class CheckpointError(Exception):
    """A file that cannot be written, read or used; the message is a sentence for the user."""


def write_whole(path: str | Path, write: Callable[[IO[bytes]], None]) -> None:
    """Calls ``write(file)`` so that ``path`` afterwards holds all of it, or what it held before.

    The bytes go to a temporary file in the same folder, reach the disk, and only then take the name: whoever looks,
    even after a power cut, finds the old file or the new one. Raises CheckpointError when the disk is full or the
    folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch.save wraps a failed write into a RuntimeError
        raise CheckpointError(f"could not write {path}: {_reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()  # only after a failure is it still there


def _sync_folder(folder: Path) -> None:
    """The new name is part of the folder, which has to reach the disk as well."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(error: BaseException) -> str:
    """The operating system's own words, which may hide behind torch's."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error).splitlines()[0]


def save_model(model: nn.Module, path: str | Path) -> None:
    """Writes a model that describes itself (``model.recipe``, ``model.labels``) to ``path``."""
    contents = model_contents(model)
    write_whole(path, lambda file: torch.save(contents, file))


def model_contents(model: nn.Module) -> dict[str, Any]:
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    return {"format": FORMAT, "recipe": model.recipe, "labels": model.labels, "state_dict": state}


def load_model(path: str | Path) -> nn.Module:
    """The model of a model file or a checkpoint, or "playground", which comes with the package; on the CPU, in
    evaluation mode. Raises CheckpointError."""
    contents = read(path)
    model = zoo.make(*recipe_of(contents, path))
    load_weights(model, contents["state_dict"], str(path))
    try:
        model.labels = checked_labels(contents["labels"], model.settings.num_classes)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return model.eval()


def recipe_of(contents: dict[str, Any], source: str | Path) -> tuple[str, ModelSettings]:
    """The builder's name and the settings in the contents of a file. Raises CheckpointError where they are wrong."""
    try:
        recipe = contents["recipe"]
        builder = zoo.builders_name(recipe["builder"])
        return builder, ModelSettings.from_dict(recipe["arguments"]["settings"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: its model cannot be built by this version of mrcnn ({error})") from error


def read(path: str | Path) -> dict[str, Any]:
    """The contents of a file of ours, or a CheckpointError which tells what is wrong with it."""
    path = SHIPPED.get(str(path), Path(path))
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file")
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the bytes make the unpickler do, the file is not one of ours
        raise CheckpointError(f"{path}: {_what_is_wrong(path)}") from error
    if not isinstance(contents, Mapping) or contents.get("format") != FORMAT:
        found = "a state dict" if _is_state_dict(contents) else f"a {type(contents).__name__}"
        raise CheckpointError(
            f"{path}: expected a model file written by mrcnn, found {found} of another program "
            "(for weights published by torchvision, also name the model with --model)"
        )
    missing = {"recipe", "labels", "state_dict"} - contents.keys()
    if missing:
        raise CheckpointError(f"{path}: a model file of mrcnn without {', '.join(sorted(missing))}")
    try:
        checked_state(contents["state_dict"], str(path))
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    return dict(contents)


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
    model.load_state_dict(state)


# ---- checkpoints of a run --------------------------------------------------------------------------------------------


def checkpoint_path(folder: str | Path, step: int) -> Path:
    return Path(folder) / f"checkpoint-{step:08d}.pt"


def checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints in a folder, the oldest first."""
    return sorted(path for path in Path(folder).glob("checkpoint-*.pt") if re.fullmatch(r"checkpoint-\d+", path.stem))


def save_checkpoint(
    folder: str | Path, step: int, model: nn.Module, training: dict[str, Any], damaged: Collection[Path] = ()
) -> Path:
    """Writes the checkpoint of a step; only then removes the ``damaged`` ones, and all others but for the newest two.

    ``model`` has the weights to predict with. Two are kept, so that one is left when the disk damages the other.
    """
    contents = model_contents(model) | {"training": training | {"step": step}}
    path = checkpoint_path(folder, step)
    write_whole(path, lambda file: torch.save(contents, file))
    for useless in set(damaged) - {path}:
        useless.unlink(missing_ok=True)
    for old in checkpoints(folder)[:-2]:
        old.unlink(missing_ok=True)
    return path


def last_checkpoint(folder: str | Path) -> tuple[dict[str, Any] | None, dict[Path, str]]:
    """The contents of the newest checkpoint in a folder that is whole (None: there is no checkpoint at all), and a
    sentence about each newer one that is not. Raises CheckpointError when there are some and none is whole."""
    complaints: dict[Path, str] = {}
    for path in reversed(checkpoints(folder)):
        try:
            contents = read(path)
            if "training" not in contents:
                raise CheckpointError(f"{path}: a model file, not the checkpoint of a run")
            return contents, complaints
        except CheckpointError as error:
            complaints[path] = str(error)
    if complaints:
        raise CheckpointError(f"no checkpoint in {folder} can be used: {'; '.join(complaints.values())}")
    return None, complaints
