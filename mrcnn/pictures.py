"""A picture as a tensor: whatever its form, out comes RGB, or an error that names the file or the argument."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, ImageSequence
from torch import Tensor

from mrcnn.validation import describe

ANIMATED = ("GIF", "PNG", "WEBP")  # what may hold a film; other files of several pictures hold one in several sizes
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")


class PictureError(ValueError):
    """A picture that is missing, broken, or of another size than its annotations say."""


def check_is_file(file: str | Path) -> None:
    """Raises PictureError for one that is missing or out of reach, and for a pipe: it might be waited for for ever."""
    try:
        mode = os.stat(file).st_mode
    except PermissionError as error:
        raise PictureError(f"{file} cannot be read: {error.strerror}") from error
    except (OSError, ValueError) as error:
        raise PictureError(f"{file} is missing") from error
    if not stat.S_ISREG(mode):
        raise PictureError(f"{file} is no file")


def to_tensor(picture: Any) -> Tensor:
    """A picture uint8 (3, H, W), RGB, of a path, a Pillow picture, or an array uint8 (H, W, 3) or, grey, (H, W). A
    tensor stays as it is.

    Raises PictureError for a file that cannot be read, TypeError for anything else.
    """
    if isinstance(picture, Tensor):
        return picture
    if isinstance(picture, str | Path):
        return read_picture(picture)
    if isinstance(picture, Image.Image):
        return torch.from_numpy(to_rgb(ImageOps.exif_transpose(picture))).permute(2, 0, 1)
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8:
        if picture.ndim == 2:
            picture = np.stack([picture] * 3, axis=2)
        if picture.ndim == 3 and picture.shape[2] == 3:
            return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)
    given = f"an array {picture.shape} of {picture.dtype}" if isinstance(picture, np.ndarray) else describe(picture)
    raise TypeError(
        f"a picture must be a path, a Pillow picture, an array uint8 (H, W, 3) or (H, W), or a tensor; got {given}"
    )


def read_picture(file: str | Path, size: tuple[int, int] | None = None) -> torch.Tensor:
    """The picture as uint8 (3, H, W) RGB, upright.

    Grey is repeated, alpha left out, CMYK converted, 16 bits scaled to 8. A camera's EXIF rotation is applied, unless
    `size` (width, height), what the annotations say, fits only the picture as it was stored. PictureError when the
    file cannot be read whole, or is of another size.
    """
    check_is_file(file)
    try:
        with Image.open(file) as opened:
            picture = opened
            if opened.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                turned = ImageOps.exif_transpose(opened)
                if size is None or turned.size == size or opened.size != size:
                    picture = turned
            pixels = to_rgb(picture)
    except Exception as error:  # on broken files Pillow's readers raise errors of any kind, IndexErrors too
        raise PictureError(f"{file} cannot be read: {str(error) or type(error).__name__}") from error
    height, width, _ = pixels.shape
    if size is not None and (width, height) != size:
        raise PictureError(f"{file} is {width} x {height} pixels, but its annotations say {size[0]} x {size[1]}")
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def read_frames(file: str | Path) -> Iterator[tuple[int | None, Tensor]]:
    """The pictures of a file, uint8 (3, H, W), with their numbers from 1 on; a still picture has None.

    Raises PictureError where the file, or one of its frames, cannot be read.
    """
    check_is_file(file)
    try:
        with Image.open(file) as opened:
            moving = opened.format in ANIMATED and getattr(opened, "is_animated", False)
            if moving:
                for number, frame in enumerate(ImageSequence.Iterator(opened), start=1):
                    yield number, torch.from_numpy(to_rgb(frame)).permute(2, 0, 1)
    except Exception as error:  # on broken files Pillow's readers raise errors of any kind, IndexErrors too
        raise PictureError(f"{file} cannot be read: {str(error) or type(error).__name__}") from error
    if not moving:
        yield None, read_picture(file)


def to_rgb(picture: Image.Image) -> np.ndarray:
    """A Pillow picture as uint8 (H, W, 3). Raises PictureError for numbers of which nobody says what is white."""
    if picture.mode == "F":
        raise PictureError("its pixels are fractions; make it one of 8 or 16 bits")
    if picture.mode in SIXTEEN_BITS:  # Pillow would clip these at 255
        grey = np.asarray(picture)
        if grey.size and not 0 <= grey.min() <= grey.max() <= 65535:
            raise PictureError("its pixels have more than 16 bits; make it one of 8 or 16 bits")
        grey = (grey / 257).round().astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.array(picture.convert("RGB"))
