"""The folder of a run: held by one process at a time, and cleared of what a killed one left half written."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from mrcnn.engine import distributed
from mrcnn.files import CheckpointError, clear_parts


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
