"""benchmarks/digits.py: the records are what was drawn. With scans and a photograph that tell which is which."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import masks_to_boxes

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
pytest.importorskip("skimage")

from digits import SIDE, Digits

GREY = 100


@pytest.fixture(scope="module")
def records():
    """Upright bars are of the value 3, lying ones of the value 7; on nothing but grey."""
    upright = np.zeros((8, 8))
    upright[1:7, 3:5] = 16
    scans = np.stack([upright, upright.T] * 10)
    photo = Image.new("RGB", (300, 200), (GREY,) * 3)
    digits = Digits(30, 0, [photo], scans, np.array([3, 7] * 10))
    return [digits[index] for index in range(len(digits))]


def test_boxes_and_areas_are_the_masks(records):
    for image, target in records:
        assert image.shape == (3, SIDE, SIDE)
        boxes = masks_to_boxes(target["masks"])
        boxes[:, 2:] += 1  # torchvision's end on the last pixel, ours behind it
        assert torch.equal(target["boxes"], boxes)
        assert torch.equal(target["area"], target["masks"].sum((1, 2)))
        assert target["masks"].sum(0).max() == 1, "no digit hides another"


def test_labels_are_of_the_scans(records):
    seen = set()
    for _, target in records:
        width, height = (target["boxes"][:, 2:] - target["boxes"][:, :2]).T
        assert torch.equal(target["labels"], torch.where(width < height, 4, 8))  # the background is 0
        seen |= set(target["labels"].tolist())
    assert seen == {4, 8}


def test_masks_are_where_the_ink_is(records):
    """Within a digit everything is inked more than anything around it."""
    alone = [record for record in records if len(record[1]["labels"]) == 1]
    assert len(alone) > 2
    for image, target in alone:
        ink, mask = (image.float() - GREY).abs().sum(0), target["masks"][0].bool()
        assert ink[mask].min() > ink[~mask].max()
        assert ink[~mask].median() == 0
