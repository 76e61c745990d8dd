"""Pictures of every kind come out as 8-bit RGB, upright."""

import os

import numpy as np
import pytest
from PIL import Image
from small_coco import H, W

from mrcnn.data import PictureError, read_picture


def test_kinds_of_pictures(tmp_path):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (H, W), dtype=np.uint8)
    colour = rng.integers(0, 256, (H, W, 3), dtype=np.uint8)
    three = np.repeat(grey[:, :, None], 3, 2)
    pictures = {
        "grey.png": (Image.fromarray(grey), three),
        "rgba.png": (Image.fromarray(np.dstack([colour, grey])), colour),
        "16bit.png": (Image.fromarray(grey.astype(np.uint16) * 257), three),
        "16bit.tif": (Image.fromarray(grey.astype(np.uint16) * 257), three),
        "palette.png": (Image.fromarray(grey).convert("P"), three),
        "bits.png": (Image.fromarray(grey > 127), np.where(three > 127, 255, 0)),
        "cmyk.tif": (Image.fromarray(colour).convert("CMYK"), colour),
    }
    for name, (picture, expected) in pictures.items():
        picture.save(tmp_path / name)
        assert np.array_equal(read_picture(tmp_path / name).permute(1, 2, 0).numpy(), expected), name


def test_cmyk_jpeg(tmp_path):
    colour = np.full((H, W, 3), (200, 60, 30), dtype=np.uint8)
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    off = read_picture(tmp_path / "a.jpg").permute(1, 2, 0).numpy().astype(int) - colour
    assert np.abs(off).max() <= 4  # JPEG's own loss on a plain picture


@pytest.mark.parametrize("orientation", range(1, 9))
def test_camera_rotation(tmp_path, orientation):
    """Whatever way the camera was held, the picture comes upright; unless the annotations were made on it as stored."""
    upright = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)
    turned = orientation > 4
    # the stored pixels that a viewer turns into the upright ones, by the EXIF standard's table of orientations
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1), 7: upright[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    for size in (None, (W, H)):
        assert np.array_equal(read_picture(tmp_path / "a.png", size).permute(1, 2, 0).numpy(), upright)
    if turned:
        assert np.array_equal(read_picture(tmp_path / "a.png", (H, W)).permute(1, 2, 0).numpy(), stored)
    with pytest.raises(PictureError, match="its annotations say 5 x 6"):
        read_picture(tmp_path / "a.png", (5, 6))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.float32([[0.5, 1.0]]), "fractions"),
        (np.int32([[0, 70_000]]), "more than 16 bits"),
        (np.int32([[-1]]), "16 bits"),
    ],
)
def test_numbers_of_which_nobody_says_what_is_white_are_refused(tmp_path, values, words):
    Image.fromarray(values).save(tmp_path / "picture.tif")
    with pytest.raises(PictureError, match=rf"picture\.tif cannot be read: .*{words}"):
        read_picture(tmp_path / "picture.tif")


def test_a_picture_out_of_reach_is_not_called_missing(tmp_path, monkeypatch):
    """In a folder that must not be searched. Who is root may search all, so the answer is given here."""

    def refuse(*_arguments, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(PictureError, match=r"a\.png cannot be read: Permission denied"):
        read_picture(tmp_path / "a.png")
