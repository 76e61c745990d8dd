"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from mrcnn.errors import CheckpointError


def write_whole(path: str | Path, write: Callable[[IO[bytes]], None]) -> None:
    """Calls ``write(file)`` so that ``path`` afterwards holds all of it, or what it held before.

    The bytes go to a temporary file in the same folder, reach the disk, and only then take the name: whoever looks,
    even after a power cut, finds the old file or the new one. Raises CheckpointError when the disk is full, the folder
    cannot be written, or what has the name is no file.
    """
    path = Path(path)
    short = hashlib.blake2b(os.fsencode(path.name), digest_size=8).hexdigest()  # for the longest name, too
    temporary = path.with_name(f".{short}.{os.getpid()}.part")
    if path.exists() and not path.is_file():
        raise CheckpointError(f"could not write {path}: it is a folder, a device or a pipe, and stays what it is")
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


def clear_parts(folder: Path) -> None:
    """Removes the temporary files of `write_whole` that were never renamed: their writer was killed."""
    for path in folder.glob(".*.part"):
        if re.fullmatch(r"\..+\.\d+\.part", path.name):
            path.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Writes JSON whole or not at all."""
    text = json.dumps(value, indent=None if isinstance(value, list) else 2) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))
