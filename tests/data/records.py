"""Records of the playground for the tests of augmentation, and what holds for each."""

import torch

from mrcnn.data import Playground

SCENES = Playground(60, seed=8)
RECORDS = [SCENES[i] for i in range(16)]


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_same(record, other, atol: float = 0.0) -> None:
    assert torch.equal(record[0], other[0])
    assert record[1].keys() == other[1].keys()
    for key, value in record[1].items():
        if key == "image_id":
            assert value == other[1][key]
        else:
            torch.testing.assert_close(value, other[1][key], rtol=0, atol=atol)


def assert_true_record(image, target, slack: float = 0.0) -> None:
    """What holds for every record of the playground: boxes tight, keypoints inside, nothing empty.

    slack, in pixels, is for resized records: a resized mask has whole pixels and may lose the tip of a star.
    """
    height, width = image.shape[-2:]
    assert image.dtype == torch.uint8
    assert target["masks"].shape[1:] == (height, width)
    for box, mask, keypoints in zip(target["boxes"].tolist(), target["masks"], target["keypoints"], strict=True):
        pixels = mask.nonzero()
        assert len(pixels)
        (top, left), (bottom, right) = pixels.min(0).values.tolist(), (pixels.max(0).values + 1).tolist()
        for side, tight in zip(box, (left, top, right, bottom), strict=True):
            assert abs(side - tight) <= slack
        for x, y, v in keypoints.tolist():
            assert (0 <= x <= width and 0 <= y <= height) if v else (x, y) == (0, 0)
