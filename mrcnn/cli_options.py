"""Options that several commands share, in front of their functions: `@data_options()`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


class Output(click.Path):
    """A file or a folder to write, refused before the work where it could not be written after it: one of the folders
    on its way is a file, or must not be written in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value:
            self.fail("it is empty", param, ctx)
        path = super().convert(value, param, ctx)
        if self.file_okay and path.exists() and not path.is_file():
            self.fail(f"{path} is a device or a pipe: name a file", param, ctx)
        folders = path.absolute().parents if self.file_okay else (path, *path.absolute().parents)
        there = next(folder for folder in folders if os.path.lexists(folder))
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            self.fail(f"{path} cannot be written: {there} is no folder to write in", param, ctx)
        return path


FOLDER = Output(file_okay=False, writable=True, path_type=Path)
FILE = Output(dir_okay=False, writable=True, path_type=Path)


def data_options(prefix: str = "", required: bool = True, playground: bool = True) -> Any:
    what = "validation pictures" if prefix else "pictures"
    scenes = ', or "playground"' if playground else ""
    options = [
        click.option(f"--{prefix}data", required=required, help=f"Folder of the {what}{scenes}."),
        click.option(f"--{prefix}annotations", help="Their annotations: a JSON file in COCO's format."),
        click.option(f"--{prefix}keypoints", help="A second such file, with the keypoints of the same objects."),
    ]
    return together(options)


def together(options: list) -> Any:
    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


device_option = click.option("--device", help='"cpu", "cuda", …  [default: a GPU if there is one]')
limit_options = together(
    [
        click.option(
            "--min-size",
            type=click.IntRange(1),
            multiple=True,
            help="Pixels to which a picture's short side is scaled. Given repeatedly: training draws one of them, "
            "all else takes the last.  [default: the model's]",
        ),
        click.option("--max-size", type=click.IntRange(1), help="Pixels that its long side then has at most."),
        click.option("--detections", type=click.IntRange(1), help="Objects that are found in a picture at most."),
    ]
)
workers_option = click.option("--workers", type=click.IntRange(0), help="Processes that read pictures.")
on_error_option = click.option(
    "--on-error",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    help="What a missing or broken picture does: end the run, or be left out with a warning.",
)


trained_options = together(
    [
        click.option(
            "--weights",
            required=True,
            help='A model.pt, or "playground" (in the package); with --model also "COCO_V1" (torchvision\'s published '
            "weights) and files of torchvision's or detectron2's.",
        ),
        click.option("--model", "builder", help="The model of torchvision or detectron2 weights, by builder's name."),
    ]
)
