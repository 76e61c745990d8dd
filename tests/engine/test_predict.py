"""Photographs in, COCO results out; the coins; and the models that commands work with."""

import os
from pathlib import Path

import pytest
import torch
from fakes import HandMade
from PIL import Image

import mrcnn
from mrcnn.data import PictureError, Playground, labels_of, read_picture
from mrcnn.engine.build_model import fitted, limit, model_to_train, trained_model
from mrcnn.engine.demo import coins_photo, count_found
from mrcnn.engine.distributed import chosen_device
from mrcnn.engine.predict import detect, find_photographs, found_table, predict
from mrcnn.errors import CheckpointError
from mrcnn.model_file import save_model

DATASET = HandMade([[(1, [4, 4, 40, 60], 0), (2, [50, 10, 90, 50], 0), (1, [0, 0, 20, 20], 0)]])


@pytest.fixture
def album(tmp_path):
    """a/1.png, a/b/c/2.jpg, a/notes.txt, and a film of three scenes in a/film.gif, with the scenes."""
    scenes = [Playground(3, seed=5)[index][0].permute(1, 2, 0).numpy() for index in range(3)]
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    Image.fromarray(scenes[0]).save(tmp_path / "a" / "1.png")
    Image.fromarray(scenes[1]).save(tmp_path / "a" / "b" / "c" / "2.jpg")
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    first, *others = map(Image.fromarray, scenes)
    first.save(tmp_path / "a" / "film.gif", save_all=True, append_images=others)
    return tmp_path


def test_folders_patterns_and_files_are_found(album, monkeypatch):
    monkeypatch.chdir(album)
    names = [str(path) for path in find_photographs(["a", "a/*.png", "a/**/*.jpg", "missing.png"])]
    assert names == ["a/1.png", "a/b/c/2.jpg", "a/film.gif", "a/1.png", "a/b/c/2.jpg", "missing.png"]
    (album / "a" / "[x].png").write_bytes((album / "a" / "1.png").read_bytes())  # a name, not a pattern
    assert find_photographs(["a/[x].png"]) == [Path("a/[x].png")]


@pytest.mark.parametrize(
    ("place", "words"),
    [("*.bmp", r"nothing matches \*.bmp"), (".", "has no pictures"), ("", "the name of a picture is empty")],
)
def test_nothing_found_is_told(place, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=words):
        find_photographs([place])


def test_a_folder_out_of_reach_is_not_called_empty(album, monkeypatch):
    """Who is root may look into all, so the answer is given here."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PictureError, match=r"a cannot be read: it is not permitted"):
        find_photographs([album / "a"])


def test_no_photograph_is_written_over(album):
    """Results go where the photographs are, twice: each file is still what it was, and the drawings lie beside them."""
    model, folder = mrcnn.playground_rcnn(pretrained=True), album / "a"
    for _ in range(2):
        before = {path: path.read_bytes() for path in find_photographs([folder])}
        predict(model, list(before), folder, 0.05, save=["pictures", "masks"])
        assert {path: path.read_bytes() for path in before} == before
    assert (folder / "1-2.png").exists()
    assert (folder / "2.png").exists(), "a drawing of 2.jpg, which lies in a folder of its own"


def test_no_photograph_is_written_over_by_a_crop(album):
    """The second photograph lies where a crop of the first would go."""
    first, second = album / "a" / "1.png", album / "out" / "crops" / "person" / "1-1.png"
    second.parent.mkdir(parents=True)
    second.write_bytes((album / "a" / "b" / "c" / "2.jpg").read_bytes())
    before = second.read_bytes()
    model = mrcnn.playground_rcnn(pretrained=True)
    predict(model, [first, second], album / "out", 0.05, save=["crops"])
    assert second.read_bytes() == before
    assert list((album / "out" / "crops").glob("*/1-2-1.png")), "the crops of 1.png have another name"


def test_what_is_not_kept_is_not_made(album):
    """A model that is to find only what has at least a score finds that, and the object that has just this."""
    model = mrcnn.playground_rcnn(pretrained=True)
    every = detect(model, read_picture(album / "a" / "1.png"))
    score = sorted(every["scores"].tolist())[len(every["scores"]) // 2]
    limit(model, at_least=score)
    sure = detect(model, read_picture(album / "a" / "1.png"))
    kept = every["scores"] >= score
    assert 0 < kept.sum() < len(kept)
    assert torch.equal(sure["boxes"], every["boxes"][kept])
    assert sure["masks"].shape == every["masks"][kept].shape
    limit(model, at_least=0.0)
    assert model.settings.box.min_score == pytest.approx(score), "never less than it asked for"


@pytest.mark.parametrize("name", ["pipe.png", "pipe.mp4"])
def test_a_pipe_is_not_waited_for(name, album):
    os.mkfifo(album / name)
    found = predict(mrcnn.playground_rcnn(pretrained=True), [album / name], album / "out", save=["json"])
    assert found.complaints == [f"{album / name} is no file"]


@pytest.mark.parametrize("score", [float("nan"), -0.1, 1.1])
def test_a_score_that_is_none_is_refused(album, score):
    with pytest.raises(ValueError, match="min_score must be 0 to 1"):
        predict(mrcnn.playground_rcnn(pretrained=True), [album / "a" / "1.png"], album / "out", score)


def test_a_model_file_is_taken_whole_whoever_names_its_builder(tmp_path):
    """Its settings and labels, too; under another builder's name it is refused."""
    model = mrcnn.playground_rcnn(pretrained=True)
    model.settings = model.settings.with_changes({"images": {"min_size": (256,), "max_size": 512}})
    save_model(model, tmp_path / "model.pt")
    for builder in (None, "playground", "playground_rcnn"):
        again = trained_model(str(tmp_path / "model.pt"), builder)
        assert again.settings.images.min_size == (256,)
        assert again.labels == model.labels
    with pytest.raises(ValueError, match="is a playground_rcnn, and no maskrcnn_resnet50_fpn"):
        trained_model(str(tmp_path / "model.pt"), "maskrcnn_resnet50_fpn")


def test_every_frame_of_a_film_is_a_picture(album):
    model = mrcnn.playground_rcnn(pretrained=True)
    film = album / "a" / "film.gif"
    results, complaints, pictures = predict(model, [album / "a" / "1.png", film], album / "out", 0.05)
    assert (complaints, pictures) == ([], 4)
    drawn = sorted(path.name for path in (album / "out").glob("*.png"))
    assert drawn == ["1.png", "film-0001.png", "film-0002.png", "film-0003.png"]
    assert {(entry["image_id"], entry.get("frame")) for entry in results} == {(1, None), (2, 1), (3, 2), (4, 3)}
    opened = Image.open(film)
    for number in (1, 2, 3):
        opened.seek(number - 1)
        expected = model.predict(opened.convert("RGB"), min_score=0.05)
        found = [entry for entry in results if entry.get("frame") == number]
        assert [entry["category_name"] for entry in found] == expected["names"]
        assert [entry["score"] for entry in found] == pytest.approx(expected["scores"].tolist(), abs=1e-5)


def test_no_frame_writes_over_a_photograph(album):
    film, photo = album / "a" / "film.gif", album / "film-0002.png"
    photo.write_bytes((album / "a" / "1.png").read_bytes())
    predict(mrcnn.playground_rcnn(pretrained=True), [photo, film], album / "out")
    drawn = {path.name for path in (album / "out").glob("*.png")}
    assert drawn == {"film-0001.png", "film-0002.png", "film-0002-2.png", "film-0003.png"}


def test_a_film_that_is_cut_short_is_told(album):
    film = album / "cut.gif"
    film.write_bytes((album / "a" / "film.gif").read_bytes()[:-9000])
    _, complaints, _ = predict(mrcnn.playground_rcnn(pretrained=True), [film], album / "out")
    assert len(complaints) == 1
    assert complaints[0].startswith(f"{film} cannot be read")


def test_the_table_of_what_was_found():
    scores = (("cat", 0.9), ("dog", 0.8), ("dog", 0.6))
    results = [{"category_name": name, "score": score} for name, score in scores]
    assert found_table(results).split() == [
        "dog",
        "2",
        "mean",
        "score",
        "0.70",
        "cat",
        "1",
        "mean",
        "score",
        "0.90",
    ]
    assert found_table([]) == ""


# ---- coins


def test_the_coins_photograph_has_24_coins():
    pytest.importorskip("skimage")
    image, boxes = coins_photo()
    assert image.shape == (3, 303, 384)
    assert image.dtype == torch.uint8
    assert boxes.shape == (24, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    assert sides.min() > 30
    assert sides.max() < 70
    box_iou = pytest.importorskip("torchvision").ops.box_iou
    assert (box_iou(boxes, boxes).triu(1) < 0.01).all(), "coins lie beside each other"
    # Four rows of six.
    assert torch.histc((boxes[:, 1] + boxes[:, 3]) / 2, 4, 0, 303).tolist() == [6, 6, 6, 6]


def test_found_is_counted_once_each():
    truth = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
    twice = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10]])
    assert count_found(twice, truth) == 1
    assert count_found(truth[[1, 2]] + 1, truth) == 2  # IoU 81/119
    assert count_found(truth + 4, truth) == 0  # IoU 36/164
    assert count_found(truth[:0], truth) == 0


@pytest.mark.parametrize("name", ["backbone.body.conv1.weight", "roi_heads.box_predictor.cls_score.bias"])
def test_weights_that_are_not_finite_predict_nothing(name, tmp_path):
    """Also those in the first layer, whose NaN a fused ReLU takes for zero: told by name, and no file is left."""
    model = mrcnn.playground_rcnn().eval()
    model.state_dict()[name].view(-1)[3] = torch.nan
    with pytest.raises(ValueError, match=f"{name} has NaN or infinity"):
        predict(model, ["photo.png"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_that_finds_nothing_leaves_results(tmp_path):
    """No proposal is as large as asked for: a drawing without boxes, and an empty list."""
    photo = torch.zeros(64, 80, 3, dtype=torch.uint8).numpy()
    Image.fromarray(photo).save(tmp_path / "photo.png")
    model = mrcnn.playground_rcnn(rpn={"min_size": 1000.0}).eval()
    assert predict(model, [tmp_path / "photo.png"], tmp_path / "out") == ([], [], 1)
    assert (tmp_path / "out" / "results.json").read_text() == "[]\n"
    assert (tmp_path / "out" / "photo.png").is_file()


def test_a_training_checkpoint_of_another_program(tmp_path):
    """As torchvision's recipes write them, with the weights under "model"."""
    source = mrcnn.playground_rcnn(num_classes=2)
    torch.save({"model": source.state_dict(), "epoch": 3}, tmp_path / "model.pth")
    model = trained_model(str(tmp_path / "model.pth"), "playground")
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_told():
    with pytest.raises(ValueError, match=r"device 'cuda' does not exist: torch .* finds 0 GPUs"):
        chosen_device("cuda")
    assert chosen_device(None) == torch.device("cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "meta", ""])
def test_what_is_no_device_is_told(device):
    with pytest.raises(ValueError, match=f"device must be .* got '{device}'"):
        chosen_device(device)


# ---- models


def test_a_model_is_fitted_to_the_data():
    settings = fitted(mrcnn.playground_rcnn().settings, DATASET)
    assert settings.num_classes == 3
    assert settings.keypoint.num_keypoints == 17

    class WithoutJoints(HandMade):
        keypoint_names = []  # noqa: RUF012

    assert fitted(settings, WithoutJoints([])).keypoint is None
    assert settings.mask is not None


def test_weights_are_taken_where_they_fit(tmp_path):
    torch.manual_seed(0)
    source = mrcnn.playground_rcnn(num_classes=3)
    save_model(source, tmp_path / "model.pt")
    model, fresh = model_to_train(DATASET, None, str(tmp_path / "model.pt"))
    assert fresh == []
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in model.state_dict().items())
    other = HandMade([])
    other.categories, other.category_ids = ["background", "a", "b", "c"], [0, 1, 2, 3]
    model, fresh = model_to_train(other, "playground", str(tmp_path / "model.pt"))
    assert fresh == [
        f"roi_heads.{name}.{part}"
        for name in ("box_predictor.bbox_pred", "box_predictor.cls_score", "mask_predictor.mask_fcn_logits")
        for part in ("bias", "weight")
    ]
    assert model.settings.num_classes == 4


def test_as_many_categories_of_other_names_start_afresh(tmp_path):
    torch.manual_seed(0)
    source = mrcnn.playground_rcnn(num_classes=3)
    source.labels = labels_of(DATASET)
    save_model(source, tmp_path / "model.pt")
    assert model_to_train(DATASET, None, str(tmp_path / "model.pt"))[1] == []
    other = HandMade([])
    other.categories = ["background", "ball", "person"]
    model, fresh = model_to_train(other, None, str(tmp_path / "model.pt"))
    layers = {name.rpartition(".")[0] for name in fresh}
    classes = {"box_predictor.bbox_pred", "box_predictor.cls_score", "mask_predictor.mask_fcn_logits"}
    assert layers == {f"roi_heads.{name}" for name in classes}
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, source.state_dict()[n])}
    assert {name.rpartition(".")[0] for name in changed} == layers
    other.keypoint_names = [f"another {i}" for i in range(17)]
    _, fresh = model_to_train(other, None, str(tmp_path / "model.pt"))
    assert "roi_heads.keypoint_predictor.kps_score_lowres.weight" in fresh


def test_weights_that_fit_nowhere_are_refused(tmp_path):
    source = mrcnn.playground_rcnn()
    state = {name.replace("backbone.", "spine."): value for name, value in source.state_dict().items()}
    torch.save(
        {"format": "mrcnn 1", "config": source.config, "labels": None, "state_dict": state}, tmp_path / "model.pt"
    )
    with pytest.raises(CheckpointError, match="nothing of these weights fits playground_rcnn"):
        model_to_train(DATASET, None, str(tmp_path / "model.pt"))


@pytest.mark.parametrize("keypoints", [17, 5])
def test_a_state_dict_with_a_models_name_is_enough(tmp_path, keypoints):
    """Two classes and COCO's keypoints are those of the published keypoint model; other keypoints are not."""
    torch.manual_seed(0)
    source = mrcnn.playground_rcnn(num_classes=2, num_keypoints=keypoints)
    torch.save(source.state_dict(), tmp_path / "model.pth")
    model = trained_model(str(tmp_path / "model.pth"), "playground")
    assert model.settings.keypoint.num_keypoints == keypoints
    if keypoints == 17:
        assert model.labels["categories"] == ["background", "person"]
    else:
        assert model.labels is None
    assert not model.training
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in model.state_dict().items())


def test_another_builder_takes_what_fits(tmp_path, monkeypatch):
    """The name given decides the model; the file only gives weights."""
    from dataclasses import replace

    from mrcnn import zoo

    small = mrcnn.playground_rcnn(num_classes=3, backbone={"eps": 1e-3})
    save_model(small, tmp_path / "model.pt")
    settings = mrcnn.playground_rcnn().settings
    bigger = replace(settings, box=replace(settings.box, fc_channels=(32, 32)))
    monkeypatch.setitem(zoo.BUILDERS, "wide", lambda **_: zoo.make("wide", bigger))
    model, fresh = model_to_train(DATASET, "wide", str(tmp_path / "model.pt"))
    assert model.builder == "wide"
    assert model.settings.backbone.eps == 1e-3, "with another eps its weights give other numbers"
    assert model.settings.box.fc_channels == (32, 32)
    assert "roi_heads.box_head.fc6.weight" in fresh


def test_a_large_model_from_random_weights_does_not_freeze_its_batch_norm():
    """With constant statistics of 0 and 1 its activations grow from block to block, and the losses end in NaN."""
    model, _ = model_to_train(DATASET, "maskrcnn_resnet50_fpn")
    assert not model.settings.backbone.frozen_norm
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in model.backbone.body.modules())
