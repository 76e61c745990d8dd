"""Reading a picture from a file: whatever its form, out comes 8-bit RGB, or an error that names the file."""

import struct
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps

# What Pillow's readers raise on broken files; a decompression bomb is not an OSError.
READ_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")


class PictureError(ValueError):
    """A picture that is missing, broken, or of another size than its annotations say."""


def read_picture(file: str | Path, size: tuple[int, int] | None = None) -> torch.Tensor:
    """The picture as uint8 (3, H, W) RGB, upright.

    Grey is repeated, alpha left out, CMYK converted, 16 bits scaled to 8. A camera's EXIF rotation is applied, unless
    `size` (width, height), what the annotations say, fits only the picture as it was stored. PictureError when the
    file cannot be read whole, or is of another size.
    """
    try:
        with Image.open(file) as opened:
            picture = opened
            if opened.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                turned = ImageOps.exif_transpose(opened)
                if size is None or turned.size == size or opened.size != size:
                    picture = turned
            pixels = to_rgb(picture)
    except FileNotFoundError as error:
        raise PictureError(f"{file} is missing") from error
    except READ_ERRORS as error:
        raise PictureError(f"{file} cannot be read: {error}") from error
    height, width, _ = pixels.shape
    if size is not None and (width, height) != size:
        raise PictureError(f"{file} is {width} x {height} pixels, but its annotations say {size[0]} x {size[1]}")
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def to_rgb(picture: Image.Image) -> np.ndarray:
    """A Pillow picture of any mode as uint8 (H, W, 3)."""
    if picture.mode in SIXTEEN_BITS:  # Pillow would clip these at 255
        grey = (np.clip(np.asarray(picture), 0, 65535) / 257).round().astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.array(picture.convert("RGB"))
