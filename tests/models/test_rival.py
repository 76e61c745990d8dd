"""The benchmark's rival, made of torchvision's classes, is the playground model: same weights, same results."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import twins
from agreement import assert_same_detections

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from demo_vs_torchvision import Rival

import mrcnn
from mrcnn.data import Playground, collate

PHOTO = "coffee"


@pytest.fixture(scope="module")
def pair():
    """Both with lively weights, and without what torchvision's keypoint head cannot have: a norm, and dilation."""
    plain = mrcnn.playground_rcnn().settings
    stages = {"backbone": replace(plain.backbone, head_norm=False), "keypoint": replace(plain.keypoint, dilation=1)}
    torch.manual_seed(0)
    ours = mrcnn.playground_rcnn(**stages)
    theirs = Rival(ours.settings).eval()
    twins.calibrate(theirs.model, twins.photograph(PHOTO))
    names = {"backbone.backbone.": "backbone.", "": ""}
    state = {}
    for name, tensor in theirs.model.state_dict().items():
        old = next(prefix for prefix in names if name.startswith(prefix))
        state[names[old] + name.removeprefix(old)] = tensor
    return theirs, mrcnn.load_torchvision(ours, state)


@torch.no_grad()
def test_the_same_detections(pair):
    theirs, ours = pair
    pictures = [twins.photograph(PHOTO), Playground(1, seed=3)[0][0]]
    expected, found = theirs.eval()(pictures), ours.eval()(pictures)
    assert len(expected[0]["boxes"]) >= 24
    for each, other in zip(expected, found, strict=True):
        assert_same_detections(each, other)


@torch.no_grad()
def test_the_same_losses(pair, monkeypatch):
    """On scenes of the playground, with as many samples as there are, so that both take the same."""
    theirs, ours = pair
    theirs.train(), ours.train()
    theirs.model.rpn.fg_bg_sampler.batch_size_per_image = theirs.model.roi_heads.fg_bg_sampler.batch_size_per_image = (
        10**6
    )
    monkeypatch.setattr(ours.rpn, "settings", replace(ours.rpn.settings, samples=10**6))
    monkeypatch.setattr(ours.roi_heads, "box", replace(ours.roi_heads.box, samples=10**6))
    scenes = Playground(4, seed=5)
    images, targets = collate([scenes[index] for index in range(4)])
    expected, found = theirs(images, targets), ours(images, targets)
    assert expected.keys() == found.keys()
    for name, loss in expected.items():
        # Batch norm takes its statistics from four small scenes, which multiplies float32's rounding.
        torch.testing.assert_close(found[name], loss, rtol=1e-3, atol=1e-7, msg=lambda m, name=name: f"{name}: {m}")
