"""The checkpoints of a run, in its folder.

A checkpoint is a model file (its weights are the averaged ones, if the run averages), with what the run needs to go on
under one more key, ``"training"``. So a run that was stopped leaves something to predict with.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mrcnn import model_file
from mrcnn.files import CheckpointError, write_whole


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
    contents = model_file.contents_of(model) | {"training": training | {"step": step}}
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
            contents = model_file.read(path)
            if "training" not in contents:
                raise CheckpointError(f"{path}: a model file, not the checkpoint of a run")
            return contents, complaints
        except CheckpointError as error:
            complaints[path] = str(error)
    if complaints:
        raise CheckpointError(f"no checkpoint in {folder} can be used: {'; '.join(complaints.values())}")
    return None, complaints
