"""Drawings in ink: nothing but lines tells where a thing is. What holds for every style is in test_playground.py."""

import numpy as np
import pytest
import torch

from mrcnn.data import CocoDataset, Playground, write_coco
from mrcnn.data.playground import ink

SCENES = 60


@pytest.fixture(scope="module")
def records():
    dataset = Playground(SCENES, seed=5, style="ink")
    return [dataset[index] for index in range(SCENES)]


def test_a_scene_follows_from_seed_and_index_alone(records):
    again = Playground(SCENES, seed=5, style="ink")[17]
    assert torch.equal(again[0], records[17][0])
    assert torch.equal(again[1]["masks"], records[17][1]["masks"])
    other = Playground(SCENES, seed=6, style="ink")[17]
    assert not torch.equal(other[0], records[17][0])


def test_the_inside_of_a_thing_is_paper(monkeypatch):
    """On plain paper, through no camera, a picture has two values: ink where the layers have it, and paper elsewhere,
    within things as around them."""
    monkeypatch.setattr(ink, "camera", lambda rng, picture, grey: picture)
    monkeypatch.setattr(ink, "paper", lambda rng, size: np.zeros((size, size), np.float32))
    monkeypatch.setattr(ink, "stray_strokes", lambda rng, size, pen: np.zeros((size, size), bool))
    monkeypatch.setattr(ink, "noise", lambda rng, name, height, width: np.zeros((height, width), np.float32))
    for index in range(SCENES):
        picture, things, owner = ink.make_scene(5, index)
        inked = np.zeros((128, 128), bool)
        for k, thing in enumerate(things):
            inked[thing.layer.window] |= (thing.layer.part == ink.INK) & (owner[thing.layer.window] == k)
        (paper,), (dark,) = (np.unique(picture[where], axis=0) for where in (~inked, inked))
        assert (np.abs(paper - dark) > 0.1).any()
        assert ((owner >= 0) & ~inked).sum() > 20  # there is an inside


@pytest.mark.parametrize("label", ink.DRAW)
def test_a_thing_is_drawn_along_its_outline(label):
    """Each pixel of the mask that touches one without has ink; deep inside there is paper."""
    for seed in range(10):
        layer = ink.draw_thing(np.random.default_rng(seed), 128, label, 30, 64, 64, pen=1 + seed % 2)
        mask = layer.part >= 0
        assert not mask[[0, -1]].any()  # the window holds all of it
        assert not mask[:, [0, -1]].any()
        for i, j in np.argwhere(mask):
            if not mask[i - 1 : i + 2, j - 1 : j + 2].all():
                assert layer.part[i, j] == ink.INK
        assert (layer.part == ink.PAPER).sum() > 30


def test_drawings_as_a_coco_file(tmp_path, records):
    write_coco(Playground(6, 5, style="ink"), tmp_path)
    read = CocoDataset(tmp_path / "images", tmp_path / "instances.json")
    assert not (tmp_path / "person_keypoints.json").exists()
    assert read.categories[1:] == ["house", "fish", "bottle", "leaf", "moon", "arrow"]
    for index in range(6):
        image, target = read[index]
        assert torch.equal(image, records[index][0])
        for key in ("boxes", "labels", "masks", "area"):
            assert torch.equal(target[key], records[index][1][key])


def test_unknown_style_is_told():
    with pytest.raises(ValueError, match=r"style must be one of photo, ink; got 'oil'"):
        Playground(1, style="oil")
