"""settings.json of a run's folder: how it trains, and what its model is. Another run can start from it.

    {"builder": "playground_rcnn", "model": {the stages' settings}, "train": {the fields of TrainSettings}}

A file written by hand may leave out any of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mrcnn.engine.settings import TrainSettings
from mrcnn.files import write_json
from mrcnn.settings import as_tuples, refuse_unknown

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
    """What the file asks for. Raises ValueError for what is not one of ours, or has names that there are not; values
    are checked where settings are made of them."""
    try:
        contents = json.loads(Path(path).read_text())
        parts = [part.name for part in fields(Wanted)]
        if not isinstance(contents, dict):
            raise ValueError(f"it must hold an object with {', '.join(parts)}")
        refuse_unknown(contents, parts, "the file")
        if not isinstance(contents.get("builder"), str | None):
            raise ValueError(f"builder must be the name of a model, got {contents['builder']!r}")
        for part in ("model", "train"):
            if not isinstance(contents.get(part, {}), dict):
                raise ValueError(f"{part} must be an object, got {contents[part]!r}")
        train = contents.get("train", {})
        refuse_unknown(train, [each.name for each in fields(TrainSettings)], "train")
        return Wanted(**contents | {"train": {name: as_tuples(value) for name, value in train.items()}})
    except (TypeError, ValueError, RecursionError) as error:  # also what json and text decoding raise
        raise ValueError(f"{path} is no settings file of a run: {error}") from error
