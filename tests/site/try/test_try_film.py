"""The numbers on the way that the page's file has beside the answer, against a walk through the model."""

import built  # noqa: F401 (which finds film.py)
import pytest
import torch
from film import Film

import mrcnn
from mrcnn import export
from mrcnn.data import Playground
from mrcnn.lab.walk import walk

PICTURES = [Playground(3, 1)[2][0], Playground(1, 0, 300)[0][0][:, :170]]  # the second is reduced and padded


def shown_by(walked):
    """What the film should have, from the tensors of a walk."""
    shown = dict(walked.result)
    for level, features, logits, cells in zip(range(2, 7), walked.features, walked.logits, walked.cells, strict=True):
        best = torch.stack([logits[0, anchor::3] for anchor in range(3)]).max(0).values  # of a cell's three anchors
        shown[f"strength_{level}"] = (features[0] ** 2).mean(0) ** 0.5
        shown[f"objectness_{level}"] = best.sigmoid().view(cells)
    return shown | {
        "candidates": walked.candidates,
        "proposals": walked.proposals,
        "seen": torch.tensor(walked.batch.sizes[0]),
        "small_masks": walked.found["masks"][:, 0],
        "heatmaps": walked.heatmaps,
    }


@pytest.fixture(scope="module")
def model():
    return mrcnn.playground_rcnn(pretrained=True)


@pytest.fixture(scope="module")
def file(folder):
    import onnxruntime

    return onnxruntime.InferenceSession(folder / "try" / "model.onnx", providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("picture", PICTURES)
def test_the_film_shows_what_the_model_computes(model, picture):
    with torch.no_grad():
        shown = Film(model)(picture)
    expected = shown_by(walk(model, picture))
    assert list(shown) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(shown[name], value, rtol=0, atol=1e-6)
    assert len(shown["labels"]) > 2
    assert len(shown["candidates"]) > len(shown["proposals"]) > 50


@pytest.mark.parametrize("picture", PICTURES)
def test_the_file_has_the_films_numbers(model, file, picture):
    given = {"image": export.as_float(picture).contiguous().numpy()}
    found = {output.name: each for output, each in zip(file.get_outputs(), file.run(None, given), strict=True)}
    expected = shown_by(walk(model, export.as_float(picture)))
    assert set(found) == set(expected)
    for name, value in expected.items():
        if name == "candidates":  # of two with nearly the same score either may be the first
            assert len(found[name]) == len(value)
        else:
            torch.testing.assert_close(torch.from_numpy(found[name]), value, rtol=1e-3, atol=1e-3)


def test_the_model_is_left_as_it_was(model):
    settings = model.rpn.settings
    Film(model)(export.as_float(PICTURES[0]))
    assert model.rpn.settings == settings
    assert not any(part._forward_hooks for part in model.modules())
