"""Pictures without annotations: a folder of them, and records that say nothing of what is in them."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mrcnn.pictures import PictureError, read_picture


class PictureFolder(Sequence):
    """The pictures of a folder and of those within it, by name, each uint8 (3, H, W) as `read_picture` gives it.

    on_error: a picture that cannot be read is a PictureError ("raise"), or has the next one in its place, with a
    warning ("skip").
    """

    def __init__(self, folder: str | Path, on_error: str = "raise"):
        folder, self.on_error = Path(folder), on_error
        if not folder.is_dir():
            raise ValueError(f"there is no folder {folder} of pictures")
        self.files = sorted(picture_files(folder))
        if not self.files:
            raise ValueError(f"{folder} has no pictures")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < len(self):
            raise IndexError(f"picture {index} of {len(self)}")
        for place in range(index, index + len(self)):  # once around
            try:
                return read_picture(self.files[place % len(self)])
            except PictureError as error:
                if self.on_error == "raise":
                    raise
                warnings.warn(f"skipped: {error}", stacklevel=2)
        raise PictureError(f"none of the {len(self.files)} pictures can be read")


def picture_files(folder: Path) -> list[Path]:
    """The files in a folder, and in those within it, whose names are those of pictures."""
    if not os.access(folder, os.R_OK | os.X_OK):
        raise PictureError(f"{folder} cannot be read: it is not permitted")
    kinds = Image.registered_extensions()
    return [file for file in folder.rglob("*") if file.suffix.lower() in kinds and file.is_file()]


class WithoutObjects(torch.utils.data.Dataset):
    """Pictures uint8 (3, H, W) as records (image, target) with no objects: what training's loader asks for."""

    def __init__(self, pictures: Sequence[Tensor]):
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        image = self.pictures[index]
        return image, {
            "boxes": torch.zeros(0, 4),
            "labels": torch.zeros(0, dtype=torch.int64),
            "masks": torch.zeros((0, *image.shape[-2:]), dtype=torch.uint8),
            "area": torch.zeros(0),
            "iscrowd": torch.zeros(0, dtype=torch.int64),
            "image_id": f"unlabelled {index}",
        }
