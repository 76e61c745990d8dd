"""settings.json of a run's folder: how it trains, and what its model is. Another run can start from it.

    {"builder": "playground_rcnn", "model": {the stages' settings}, "train": {the fields of TrainSettings}}

A file written by hand may leave out any of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from mrcnn.engine.settings import TrainSettings
from mrcnn.files import write_json
from mrcnn.settings import refuse_unknown

NAME = "settings.json"


@dataclass(frozen=True)
class Wanted:
    """What a settings file asks for; empty where it says nothing. model: as `mrcnn.settings.changed` takes changes."""

    builder: str | None = None
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)


def write_settings(folder: Path, model: Any, settings: TrainSettings) -> None:
    config = model.config
    contents = {"builder": config["builder"], "model": config["arguments"]["settings"], "train": settings.plain()}
    write_json(folder / NAME, contents)


def read_settings(path: str | Path) -> Wanted:
    """What the file asks for, its `train` checked by type. Raises ValueError for what is not one of ours."""
    try:
        contents = json.loads(Path(path).read_text())
        parts = [part.name for part in fields(Wanted)]
        if not isinstance(contents, dict):
            raise ValueError(f"it must hold an object with {', '.join(parts)}")
        refuse_unknown(contents, parts, "the file")
        for part in ("model", "train"):
            if not isinstance(contents.get(part, {}), dict):
                raise ValueError(f"{part} must be an object, got {contents[part]!r}")
        return Wanted(**contents | {"train": checked(contents.get("train", {}))})
    except (TypeError, ValueError) as error:  # also what json and text decoding raise
        raise ValueError(f"{path} is no settings file of a run: {error}") from error


def checked(train: dict[str, Any]) -> dict[str, Any]:
    """Values for fields of TrainSettings; raises where there is no such field, or the value is of another type."""
    refuse_unknown(train, [each.name for each in fields(TrainSettings)], "train")
    hints = get_type_hints(TrainSettings)
    for name, value in train.items():
        if not fits(value, hints[name]):
            expected = getattr(hints[name], "__name__", None) if get_origin(hints[name]) is None else hints[name]
            raise ValueError(f"{name} must be of type {expected}, got {value!r}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in train.items()}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from JSON is of an annotated type: whole numbers are floats too, lists are tuples."""
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(fits(each, get_args(hint)[0]) for each in value)
    if get_args(hint):
        return any(fits(value, each) for each in get_args(hint))
    kinds = {float: (int, float), NoneType: NoneType}.get(hint, hint)
    return isinstance(value, kinds) and (hint is bool or not isinstance(value, bool))
