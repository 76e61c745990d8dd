"""The trained model in the package: small, as good as its metrics say, and only for the playground's own classes."""

import json

import pytest
import torch

import mrcnn
from mrcnn.data import Playground
from mrcnn.engine import demo
from mrcnn.engine.evaluate import evaluate
from mrcnn.engine.predict import detect
from mrcnn.model_file import SHIPPED

FILE = SHIPPED["playground"]
SCENES = 60


@pytest.fixture(scope="module")
def model():
    return mrcnn.playground_rcnn(pretrained=True)


def test_it_is_small_and_ready_to_use(model):
    assert FILE.stat().st_size <= 12e6
    assert not model.training
    assert model.labels["categories"] == Playground(0).categories


def test_it_is_as_good_as_its_metrics_say(model):
    """On a part of the scenes that they were measured on: with 60 of 500, AP moves by some hundredths."""
    stated = json.loads((FILE.parent / "metrics.json").read_text())
    measured = evaluate(model, Playground(SCENES, seed=demo.TEST_SEED))
    for kind, least in (("bbox", 0.78), ("segm", 0.65), ("keypoints", 0.72)):
        assert stated[kind]["AP"] >= least
        assert measured[kind]["AP"] == pytest.approx(stated[kind]["AP"], abs=0.05)


def test_it_finds_coins_that_it_was_never_shown(model):
    photo = demo.coins_photo()
    if photo is None:
        pytest.skip("scikit-image, which has the photograph, is not installed")
    image, truth = photo
    result = detect(model, image)
    sure = result["scores"] >= 0.5
    assert demo.count_found(result["boxes"][sure], truth) >= 20
    assert sure.sum() <= 30


@pytest.mark.parametrize("other", [{"num_classes": 3}, {"num_keypoints": 5}, {"mask": None}])
def test_other_classes_are_refused(other):
    with pytest.raises(ValueError, match=r"7 classes and 17 keypoints.*got .*" + next(iter(other))):
        mrcnn.playground_rcnn(pretrained=True, **other)


def test_a_loaded_model_is_the_same_each_time(model):
    again = mrcnn.playground_rcnn(pretrained=True)
    image, _ = Playground(1, seed=demo.TEST_SEED)[0]
    first, second = detect(model, image), detect(again, image)
    assert all(torch.equal(first[name], second[name]) for name in first)
