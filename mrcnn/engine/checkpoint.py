"""The folder of a run: held by one process at a time, with the checkpoints from which the run can go on.

A checkpoint is a model file (its weights are the averaged ones, if the run averages), with what the run needs to go on
under one more key, ``"training"``. So a run that was stopped leaves something to predict with.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mrcnn import model_file
from mrcnn.engine import distributed
from mrcnn.errors import CheckpointError
from mrcnn.files import clear_parts, write_whole


@contextlib.contextmanager
def hold(folder: Path | None) -> Iterator[None]:
    """Holds a run's folder for this process (with torchrun: for the main one); None is no folder.

    Raises CheckpointError, in all processes, when another run has it. The operating system frees the lock when its
    process ends, however that comes about.
    """
    with contextlib.ExitStack() as stack:
        free = True
        if folder is not None and distributed.is_main():
            folder.mkdir(parents=True, exist_ok=True)
            free = stack.enter_context(_lock(folder / ".lock"))
        if not distributed.from_main(free):
            raise CheckpointError(f"another run is at work in {folder}: wait for its end, or choose another folder")
        if folder is not None and distributed.is_main():
            clear_parts(folder)
        yield


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Whether the lock could be had; its file is removed at the end.

    lockf, not flock: the workers that fetch pictures inherit a lock of flock, and outlive a killed run by some seconds.
    """
    with path.open("ab") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            yield False
            return
        except OSError:  # a file system without locks
            pass
        # Another run may have ended, and removed this file, between its opening and its locking.
        if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
            yield False
            return
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)  # while it is still held


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


def is_whole(training: Any) -> bool:
    """Whether it has all that `Run.save_checkpoint` writes, of its types."""
    kinds = {"step": int, "seconds": float, "settings": dict, "optimizer": dict}
    kinds |= {"weights": Mapping | None, "averaged": int | None}
    return (
        isinstance(training, dict)
        and all(name in training and isinstance(training[name], kind) for name, kind in kinds.items())
        and training["step"] > 0
        and 0 <= training["seconds"] < math.inf
    )


def last_checkpoint(folder: str | Path) -> tuple[dict[str, Any] | None, dict[Path, str]]:
    """The contents of the newest checkpoint in a folder that is whole (None: there is no checkpoint at all), and a
    sentence about each newer one that is not. Raises CheckpointError when there are some and none is whole."""
    complaints: dict[Path, str] = {}
    for path in reversed(checkpoints(folder)):
        try:
            contents = model_file.read(path)
            if "training" not in contents:
                raise CheckpointError(f"{path}: a model file, not the checkpoint of a run")
            if not is_whole(contents["training"]):
                raise CheckpointError(f"{path}: the state of its run is not as a run writes it")
            return contents, complaints
        except CheckpointError as error:
            complaints[path] = str(error)
    if complaints:
        raise CheckpointError(f"no checkpoint in {folder} can be used: {'; '.join(complaints.values())}")
    return None, complaints
