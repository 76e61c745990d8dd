"""`model.predict`: one answer for every form of a picture, that of `forward` in evaluation."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

import mrcnn
from mrcnn.data import PictureError, Playground


@pytest.fixture(scope="module")
def model():
    return mrcnn.playground_rcnn(pretrained=True)


@pytest.fixture(scope="module")
def scene():
    return Playground(1, seed=5, size=120)[0][0]


@pytest.fixture(scope="module")
def forms(scene, tmp_path_factory):
    """The scene in every form."""
    path = tmp_path_factory.mktemp("predict") / "scene.png"
    array = scene.permute(1, 2, 0).numpy()
    Image.fromarray(array).save(path)
    turned = Image.fromarray(np.rot90(array))  # stored on its side, as cameras do, and saying so
    turned.getexif()[274] = 6
    floats = scene.float() / 255
    return {"path": path, "text": str(path), "pillow": Image.open(path), "turned": turned, "array": array,
            "flipped twice": array[::-1][::-1], "bytes": scene, "floats": floats}  # fmt: skip


FORMS = ("path", "text", "pillow", "turned", "array", "flipped twice", "bytes", "floats")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_answer_of_forward(model, scene, forms, form):
    with torch.no_grad():
        (expected,) = model([scene])
    found = model.predict(forms[form])
    assert found.keys() == expected.keys() | {"names"}
    assert len(found["names"]) == len(expected["labels"]) >= 4
    assert found["names"] == [model.labels["categories"][label] for label in expected["labels"]]
    for name, value in expected.items():
        # Bytes divided by 255 may be off in the last bit of float32.
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-3 if form == "floats" else 0)


def test_a_list_gives_a_list_in_which_no_answer_depends_on_another(model, scene, forms):
    alone = model.predict(scene)
    several = model.predict([torch.zeros(3, 40, 200), forms["path"], forms["array"]])
    assert [len(each["names"]) for each in several] == [0, len(alone["names"]), len(alone["names"])]
    assert torch.equal(several[1]["boxes"], alone["boxes"])
    assert model.predict([]) == []


def test_only_what_has_the_score(model, scene):
    whole = model.predict(scene)
    limit = whole["scores"][2].item()
    found = model.predict(scene, min_score=limit)
    assert {name: len(value) for name, value in found.items()} == dict.fromkeys(whole, 3)
    assert torch.equal(found["masks"], whole["masks"][:3])


def test_modes_are_left_as_they_are_and_no_gradient_is_kept(scene):
    model = mrcnn.playground_rcnn(pretrained=True)
    expected = model.predict(scene)
    model.train()
    model.backbone.body.layer1.eval()  # as somebody may who trains the rest
    before = {name: module.training for name, module in model.named_modules()}
    statistics = model.backbone.body.bn1.running_mean.clone()
    found = model.predict(scene)
    assert {name: module.training for name, module in model.named_modules()} == before
    assert torch.equal(model.backbone.body.bn1.running_mean, statistics)
    assert torch.equal(found["boxes"], expected["boxes"])
    assert not found["masks"].requires_grad


def test_a_model_without_names_gives_numbers(scene):
    model = mrcnn.playground_rcnn(pretrained=True)
    model.labels = None
    found = model.predict(scene)
    assert found["names"] == [str(label) for label in found["labels"].tolist()]


@pytest.mark.parametrize(
    ("picture", "error", "words"),
    [
        ("nowhere.png", PictureError, "nowhere.png is missing"),
        (__file__, PictureError, "cannot be read"),
        (
            np.zeros((3, 40, 40), np.uint8),
            TypeError,
            r"array uint8 .H, W, 3. or .H, W., or a tensor; got an array .3, 40, 40. of",
        ),
        (np.zeros((40, 40, 3)), TypeError, "of float64"),
        (None, TypeError, "got NoneType None"),
        (torch.zeros(40, 40), ValueError, r"must have shape .3, H, W."),
    ],
)
def test_what_is_no_picture(model, picture, error, words):
    with pytest.raises(error, match=words):
        model.predict(picture)


def test_scores_are_shares(model, scene):
    with pytest.raises(ValueError, match="min_score must be 0 to 1, got 50"):
        model.predict(scene, min_score=50)


def test_threads_that_share_a_model_in_training_mode(model, scene):
    """Each gets the answer of one alone, no statistics move, and the mode is what it was."""
    shared = mrcnn.playground_rcnn(pretrained=True).train()
    before = {name: value.clone() for name, value in shared.state_dict().items()}
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(shared.predict, [scene] * 12))
    expected = model.predict(scene)
    for each in found:
        assert torch.equal(each["boxes"], expected["boxes"])
    assert all(torch.equal(value, before[name]) for name, value in shared.state_dict().items())
    assert all(module.training for module in shared.modules())


@pytest.mark.parametrize(("weights", "picture"), [("float", "double"), ("float", "half"), ("double", "float")])
def test_pictures_of_another_floating_type_than_the_weights(model, scene, weights, picture):
    wanted = model.predict(scene)
    other = getattr(copy.deepcopy(model), weights)()
    found = other.predict(getattr(scene.float() / 255, picture)())
    assert found["names"] == wanted["names"]
    # A brightness in float16 is off by 5e-4, and a box by more than that times the picture's side.
    torch.testing.assert_close(found["boxes"].float(), wanted["boxes"], rtol=0, atol=0.5 if picture == "half" else 1e-2)


def test_a_grey_array_is_a_picture(model):
    grey = Playground(1, seed=5, size=120)[0][0].float().mean(0).byte().numpy()
    assert torch.equal(model.predict(grey)["boxes"], model.predict(Image.fromarray(grey))["boxes"])
