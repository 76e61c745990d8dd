"""What is left of each picture: results, drawings, masks, crops."""

import json

import numpy as np
import pytest
import torch
from fakes import HandMade, truth_as_results
from PIL import Image

import mrcnn
from mrcnn.data import Playground, labels_of
from mrcnn.engine.predict import predict
from mrcnn.engine.result_folder import folder_name, number_image, numbered_labels, one_list

DATASET = HandMade([[(1, [4, 4, 40, 60], 0), (2, [50, 10, 90, 50], 0), (1, [0, 0, 20, 20], 0)]])


def test_an_objects_parts_are_in_one_entry():
    result = truth_as_results(DATASET[0][1])
    entries = one_list(result, 3, labels_of(DATASET))
    assert [entry["category_id"] for entry in entries] == [7, 12, 7]
    assert ["keypoints" in entry for entry in entries] == [True, False, True]
    assert entries[2]["keypoints"] == result["keypoints"][2].flatten().tolist()
    assert entries[1]["bbox"] == [50, 10, 40, 40]
    assert all(entry["image_id"] == 3 and entry["segmentation"]["size"] == [64, 96] for entry in entries)


def test_a_model_without_labels_gives_numbers():
    result = truth_as_results(DATASET[0][1])
    entries = one_list(result, 1, numbered_labels(result))
    assert [entry["category_id"] for entry in entries] == [1, 2, 1]
    assert all("keypoints" in entry for entry in entries)
    nothing = {name: value[:0] for name, value in result.items()}
    assert one_list(nothing, 1, numbered_labels(nothing)) == []


@pytest.fixture(scope="module")
def model():
    return mrcnn.playground_rcnn(pretrained=True)


@pytest.fixture
def photos(tmp_path):
    """Three scenes: a/x.png, b/x.png, x-2.png."""
    paths = [tmp_path / "a" / "x.png", tmp_path / "b" / "x.png", tmp_path / "x-2.png"]
    for (image, _), path in zip(Playground(3, seed=5), paths, strict=True):
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return paths


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_no_drawing_writes_over_another(model, photos, tmp_path):
    predict(model, photos, tmp_path / "out", save=["pictures"])
    assert files(tmp_path / "out") == ["x-2-2.png", "x-2.png", "x.png"]


def test_everything_kept_has_the_score(model, photos, tmp_path):
    """Of all results those from the score on, in the file, in masks and in crops, as `model.predict` has them."""
    expected = model.predict([str(photo) for photo in photos], min_score=0.9)
    assert 3 < sum(len(each["names"]) for each in expected) < sum(map(len, (r["names"] for r in model.predict(photos))))
    predict(model, photos, tmp_path / "out", 0.9, save=["json", "masks", "crops"])
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [each["category_name"] for each in results] == [name for each in expected for name in each["names"]]
    crops = [name for name in files(tmp_path / "out") if name.startswith("crops/")]
    assert len(crops) == len(results)
    masks = np.asarray(Image.open(tmp_path / "out" / "masks" / "x.png"))
    assert set(np.unique(masks)) - {0} == set(range(1, len(expected[0]["names"]) + 1))
    assert not list((tmp_path / "out").glob("*.png")), "no drawings were asked for"


def test_a_crop_is_the_picture_inside_the_box(model, photos, tmp_path):
    expected = model.predict(photos[0], min_score=0.5)
    predict(model, photos[:1], tmp_path / "out", save=["crops"])
    picture = Image.open(photos[0])
    for number, (box, name) in enumerate(zip(expected["boxes"].numpy(), expected["names"], strict=True), start=1):
        corners = (*np.floor(box[:2]).astype(int), *np.ceil(box[2:]).astype(int))
        crop = Image.open(tmp_path / "out" / "crops" / name / f"x-{number}.png")
        assert np.array_equal(np.asarray(crop), np.asarray(picture.crop(corners)))


@pytest.mark.parametrize("count", [3, 300])
def test_numbers_of_masks(count):
    """The first object lies on top: against a loop over pixels. More than 255 need 16 bits."""
    masks = torch.rand(count, 1, 6, 5, generator=torch.Generator().manual_seed(0)) ** (count / 3)
    picture = number_image(masks)
    assert picture.mode == ("P" if count < 256 else "I;16")
    for row in range(6):
        for column in range(5):
            there = [k + 1 for k in range(count) if masks[k, 0, row, column] > 0.5]
            assert picture.getpixel((column, row)) == (there[0] if there else 0)


def test_pictures_in_batches_give_the_same(model, photos, tmp_path):
    """Scenes of one size: a batch pads nothing."""
    alone = predict(model, photos, tmp_path / "a", save=["json"]).results
    together = predict(model, photos, tmp_path / "b", save=["json"], batch_size=2).results
    assert [each["category_name"] for each in together] == [each["category_name"] for each in alone]
    assert [each["image_id"] for each in together] == [each["image_id"] for each in alone]
    for a, b in zip(alone, together, strict=True):
        assert b["bbox"] == pytest.approx(a["bbox"], abs=1e-2)


@pytest.mark.parametrize(
    ("save", "words"),
    [
        (["pictures", "films"], "save must be some of pictures, json, masks, crops; got films"),
        ([""], "save must be some of pictures, json, masks, crops; got "),
        (["masks"], "there are no masks to save, playground_rcnn does not find any"),
    ],
)
def test_what_cannot_be_saved_is_told(save, words, photos, tmp_path):
    with pytest.raises(ValueError, match=words):
        predict(mrcnn.playground_rcnn(mask=None).eval(), photos, tmp_path / "out", save=save)
    assert not (tmp_path / "out").exists()


def test_categories_are_folders():
    names = ["coin", "traffic light", "../../etc", "a/b", "..", ""]
    assert [folder_name(name) for name in names] == ["coin", "traffic light", "_.._etc", "a_b", "_", "_"]
