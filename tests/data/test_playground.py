"""The playground's records say exactly what its pictures show."""

import hashlib
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mrcnn.coco_names import KEYPOINT_NAMES
from mrcnn.data import Playground, collate
from mrcnn.data import playground as module
from mrcnn.data.playground.canvas import Layer
from mrcnn.data.playground.people import (
    ANKLE,
    ELBOW,
    HIP,
    KEYPOINT_FLIP,
    KNEE,
    SHOULDER,
    WRIST,
    draw_person,
    random_pose,
)
from mrcnn.data.playground.scene import MIN_PIXELS, MIN_SHARE
from mrcnn.data.playground.shapes import draw_ball, draw_ring

LIGHT = (0.0, 0.0, 1.0)
SCENES = 120


@pytest.fixture(scope="module")
def records():
    dataset = Playground(SCENES, seed=5)
    return [dataset[i] for i in range(SCENES)]


def digest(record) -> str:
    image, target = record
    parts = [image] + [target[key] for key in sorted(target) if key != "image_id"]
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()


@pytest.mark.parametrize(("style", "most"), [("photo", 6), ("ink", 5)])
def test_record_form(style, most):
    dataset, labels = Playground(60, seed=5, style=style), set()
    for index in range(60):
        image, target = dataset[index]
        labels.update(target["labels"].tolist())
        k = len(target["labels"])
        assert 1 <= k <= most
        expected = {
            "boxes": ((k, 4), torch.float32),
            "labels": ((k,), torch.int64),
            "masks": ((k, 128, 128), torch.uint8),
            "area": ((k,), torch.float32),
            "iscrowd": ((k,), torch.int64),
        }
        if style == "photo":
            expected["keypoints"] = (k, 17, 3), torch.float32
        assert (tuple(image.shape), image.dtype) == ((3, 128, 128), torch.uint8)
        assert {key: (tuple(v.shape), v.dtype) for key, v in target.items() if key != "image_id"} == expected
        assert target["image_id"] == index
    assert labels == {1, 2, 3, 4, 5, 6}


def test_every_category_comes_in_colour_and_in_grey(records):
    colour, grey = set(), set()
    for image, target in records:
        plain = bool((image[0] == image[1]).all() and (image[1] == image[2]).all())
        (grey if plain else colour).update(target["labels"].tolist())
    assert colour == grey == {1, 2, 3, 4, 5, 6}


def test_what_is_painted_is_what_the_masks_say(monkeypatch):
    """On a black backdrop and through no camera, a pixel is lit exactly where some mask has it: nothing is drawn that
    the record does not have, and the other way round."""
    black = lambda rng, size, colours: np.zeros((size, size, 3), np.float32)  # noqa: E731
    monkeypatch.setattr(module, "backdrop", black)
    monkeypatch.setattr(module, "camera", lambda rng, picture, grey: picture)
    dataset = Playground(60, seed=3)
    for image, target in (dataset[i] for i in range(60)):
        assert torch.equal((image > 0).any(0), target["masks"].any(0).bool())


@pytest.mark.parametrize("style", module.STYLES)
def test_masks_are_the_painters_order(style):
    """The masks are found from front to back; painting from back to front must give the same."""
    dataset = Playground(40, seed=5, style=style)
    for index in range(40):
        _, things, _ = module.STYLES[style].make_scene(5, index, 128)
        canvas = np.full((128, 128), -1)
        for k, thing in enumerate(things):
            canvas[thing.layer.window][thing.layer.part >= 0] = k
        masks = dataset[index][1]["masks"].numpy()
        assert len(masks) == len(things)
        for k, mask in enumerate(masks):
            assert np.array_equal(mask, canvas == k)


def test_boxes_are_tight_and_areas_count_pixels(records):
    for _, target in records:
        for box, mask, area in zip(target["boxes"].tolist(), target["masks"], target["area"].tolist(), strict=True):
            pixels = [(j, i) for i, row in enumerate(mask.tolist()) for j, value in enumerate(row) if value]
            columns, rows = zip(*pixels, strict=True)
            assert box == [min(columns), min(rows), max(columns) + 1, max(rows) + 1]
            assert area == len(pixels)


def test_what_is_nearly_covered_is_left_out(records):
    for index, (_, target) in enumerate(records):
        _, things, _ = module.make_scene(5, index)
        for thing, area in zip(things, target["area"].tolist(), strict=True):
            assert area >= MIN_PIXELS
            assert area >= MIN_SHARE * (thing.layer.part >= 0).sum()


def test_limb_is_all_points_near_its_axis():
    layer = Layer((0, 0, 40, 30), 64)
    a, b, ra, rb = (8.3, 9.1), (31.2, 20.7), 5.0, 2.5
    layer.capsule(a, b, ra, rb, 3, LIGHT)
    for i in range(30):
        for j in range(40):
            x, y = j + 0.5 - a[0], i + 0.5 - a[1]
            dx, dy = b[0] - a[0], b[1] - a[1]
            t = min(1.0, max(0.0, (x * dx + y * dy) / (dx * dx + dy * dy)))
            gap = math.hypot(x - t * dx, y - t * dy) - (ra + t * (rb - ra))
            if abs(gap) > 1e-4:  # float32 decides nearer ones
                assert (layer.part[i, j] == 3) == (gap < 0)


def test_ball_is_a_disc_and_a_ring_has_a_hole():
    ball = draw_ball(np.random.default_rng(0), 64, 10.3, 30.2, 33.9, LIGHT)
    mask = np.zeros((64, 64), bool)
    mask[ball.window] = ball.part >= 0
    i, j = np.mgrid[:64, :64] + 0.5
    assert np.array_equal(mask, (j - 30.2) ** 2 + (i - 33.9) ** 2 <= 10.3**2)
    for seed in range(20):
        ring = draw_ring(np.random.default_rng(seed), 64, 15, 32, 32, LIGHT)
        assert ring.part_at(32, 32) == -1
        row = ring.part[32 - ring.top] >= 0
        assert row[: 32 - ring.left].any()
        assert row[32 - ring.left :].any()


def test_cut_off_thing_is_the_whole_one_cut():
    """A layer is clipped to the picture; what is left must not depend on it."""
    whole = draw_ball(np.random.default_rng(1), 128, 12, 64, 64, LIGHT)
    corner = draw_ball(np.random.default_rng(1), 128, 12, 0, 0, LIGHT)
    assert np.array_equal(corner.part, whole.part[13:, 13:][: corner.height, : corner.width])


def test_keypoints_lie_where_limbs_end(monkeypatch):
    ends = []
    original = Layer.capsule

    def spy(self, a, b, *rest, **named):
        ends.append((tuple(map(float, a)), tuple(map(float, b))))
        original(self, a, b, *rest, **named)

    monkeypatch.setattr(Layer, "capsule", spy)
    for seed in range(20):
        ends.clear()
        layer, keypoints, _ = draw_person(np.random.default_rng(seed), 256, 100, 128, 128, LIGHT)
        points = [tuple(point) for point in keypoints.tolist()]
        for upper, middle, lower in ((SHOULDER, ELBOW, WRIST), (HIP, KNEE, ANKLE)):
            for side in (0, 1):
                assert (points[upper + side], points[middle + side]) in ends
                assert (points[middle + side], points[lower + side]) in ends
        for name, (x, y) in zip(KEYPOINT_NAMES, points, strict=True):
            if "ear" not in name:  # a hidden ear is on the head's outline
                assert layer.part_at(x, y) >= 0, name


def test_left_and_right_are_the_persons_own():
    for seed in range(200):
        keypoints, turn = random_pose(np.random.default_rng(seed), 100, 64, 64)
        lying = abs(turn["across"][1]) > 0.5
        if not lying and abs(math.cos(turn["yaw"])) > 0.5:
            facing = math.cos(turn["yaw"]) > 0
            for keypoint in (SHOULDER, HIP):
                assert (keypoints[keypoint, 0] > keypoints[keypoint + 1, 0]) == facing
    for keypoint, partner in enumerate(KEYPOINT_FLIP):
        swapped = {"left": "right", "right": "left"}
        assert KEYPOINT_NAMES[partner] == "_".join(
            swapped.get(word, word) for word in KEYPOINT_NAMES[keypoint].split("_")
        )


def test_visibility_of_keypoints(records):
    seen = {0: 0, 1: 0, 2: 0}
    for _, target in records:
        for label, mask, keypoints in zip(target["labels"], target["masks"], target["keypoints"], strict=True):
            if label != 1:
                assert not keypoints.any()
                continue
            for x, y, v in keypoints.tolist():
                seen[int(v)] += 1
                if v == 0:
                    assert (x, y) == (0, 0)
                else:
                    assert 0 <= x < 128
                    assert 0 <= y < 128
                    assert v == 1 or mask[int(y), int(x)]
    assert seen[0] > 50
    assert seen[1] > 50
    assert seen[2] > 1000


def test_keypoints_covered_by_others_are_hidden(records):
    covered = 0
    for _, target in records:
        for k in (target["labels"] == 1).nonzero()[:, 0].tolist():
            others = target["masks"][k + 1 :].any(0)
            for x, y, v in target["keypoints"][k].tolist():
                if v and others[int(y), int(x)]:
                    covered += 1
                    assert v == 1
    assert covered > 20


def test_scenes_depend_on_seed_and_index_alone(records):
    again = Playground(1000, seed=5)
    for index in (77, 3, 77):
        assert digest(again[index]) == digest(records[index])
    assert len({digest(record) for record in records}) == SCENES
    assert digest(Playground(10, seed=6)[3]) != digest(records[3])


def test_another_process_draws_the_same(records):
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from test_playground import *; "
        "print(digest(Playground(100, seed=5)[9]))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split()[-1] == digest(records[9])


@pytest.mark.parametrize("size", [48, 200, 300])
def test_other_sizes(size):
    dataset = Playground(12, seed=1, size=size)
    assert dataset.sizes() == [(size, size)] * 12
    for index in range(12):
        image, target = dataset[index]
        assert image.shape == (3, size, size)
        assert target["masks"].shape[1:] == (size, size)
        assert target["boxes"].max() <= size
        assert target["area"].min() >= MIN_PIXELS * (size / 128) ** 2


def test_bad_arguments():
    with pytest.raises(ValueError, match="size must be a whole number from 32 to 16384; got 8"):
        Playground(3, size=8)
    with pytest.raises(ValueError, match="seed must be a whole number from 0"):
        Playground(3, seed=-1)
    with pytest.raises(IndexError):
        Playground(3)[3]


def test_collate_keeps_pictures_apart(records):
    images, targets = collate(records[:3])
    assert [len(images), len(targets)] == [3, 3]
    assert targets[2]["image_id"] == 2
