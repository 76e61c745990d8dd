"""settings.json: what a run was, and what another run takes from it."""

import json
from dataclasses import replace

import pytest
from test_cli import _one_thread, data, run, scenes  # noqa: F401  # two are fixtures

import mrcnn
from mrcnn.engine.csv_log import read_table
from mrcnn.engine.runs import over
from mrcnn.engine.settings import TrainSettings
from mrcnn.engine.settings_file import read_settings, write_settings
from mrcnn.zoo import load_model

SETTINGS = ["--model", "playground", "--steps", 3, "--batch-size", 2, "--lr", 0.001, "--min-size", 64]


@pytest.fixture(scope="module")
def first(scenes, tmp_path_factory):  # noqa: F811
    """A run with settings of its own, also one that is no option of the command."""
    out = tmp_path_factory.mktemp("first")
    wanted = out / "wanted.json"
    wanted.write_text(json.dumps({"model": {"rpn": {"nms_iou": 0.6}}, "train": {"momentum": 0.8, "augment": "full"}}))
    assert run("train", *data(scenes), *SETTINGS, "--settings", wanted, "--out", out / "run") == 0
    return out / "run"


def test_a_run_says_what_it_was(first):
    stored = json.loads((first / "settings.json").read_text())
    assert stored["builder"] == "playground_rcnn"
    assert stored["model"]["rpn"]["nms_iou"] == 0.6
    assert stored["model"]["images"]["min_size"] == [64]
    expected = {"steps": 3, "seconds": None, "batch_size": 2, "lr": 0.001, "momentum": 0.8, "augment": "full"}
    assert stored["train"] | expected == stored["train"]
    assert stored["train"]["optimizer"] == "adamw", "the playground's own"
    assert load_model(first / "model.pt").settings.rpn.nms_iou == 0.6


def test_a_run_again_is_the_same(first, scenes, tmp_path):  # noqa: F811
    """To the bit, without one option that says how."""
    assert run("train", *data(scenes), "--settings", first / "settings.json", "--out", tmp_path) == 0
    assert json.loads((tmp_path / "settings.json").read_text()) == json.loads((first / "settings.json").read_text())
    a, b = read_table(first / "losses.csv"), read_table(tmp_path / "losses.csv")
    assert [row["loss"] for row in a] == [row["loss"] for row in b]


def test_options_go_over_the_file(first, scenes, tmp_path):  # noqa: F811
    options = ["--settings", first / "settings.json", "--epochs", 1, "--batch-size", 4, "--min-size", 48]
    assert run("train", *data(scenes), *options, "--out", tmp_path) == 0
    stored = json.loads((tmp_path / "settings.json").read_text())
    assert stored["train"]["steps"] == 2  # 8 pictures
    assert stored["train"]["batch_size"] == 4
    assert stored["train"]["lr"] == 0.001
    assert stored["model"]["images"]["min_size"] == [48]
    assert stored["model"]["rpn"]["nms_iou"] == 0.6


def test_a_length_replaces_the_whole_length():
    stored = {"steps": 100, "seconds": 60.0, "lr": 0.1}
    assert over(stored, {"seconds": 5.0}) == {"seconds": 5.0, "lr": 0.1}
    assert over(stored, {"epochs": 2, "lr": 0.2}) == {"epochs": 2, "lr": 0.2}
    assert over(stored, {}) == stored


@pytest.mark.parametrize(
    "settings",
    [
        TrainSettings(steps=3),
        TrainSettings(seconds=3, clip=None, milestones=(0.5, 0.75), bfloat16=True, optimizer="muon"),
    ],
)
def test_all_settings_come_back(settings, tmp_path):
    write_settings(tmp_path, mrcnn.playground_rcnn(), settings)
    assert TrainSettings(**read_settings(tmp_path / "settings.json").train) == settings


def test_a_head_that_the_builder_leaves_out():
    settings = mrcnn.playground_rcnn(mask=None).settings
    changed = settings.with_changes({"mask": {"hidden": 32}})
    assert changed.mask.hidden == 32
    assert changed.keypoint == settings.keypoint
    assert settings.with_changes({"keypoint": None}) == replace(settings, keypoint=None)


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ("{", "is no settings file of a run: "),
        ("[1]", "it must hold an object with builder, model, train"),
        ('{"trian": {}}', "the file has no 'trian': did you mean 'train'?"),
        ('{"train": {"learning_rate": 1}}', "train has no 'learning_rate'"),
        ('{"model": 3}', "model must be an object, got 3"),
        ('{"builder": []}', r"builder must be the name of a model, got \[\]"),
        ("[" * 100_000, "is no settings file of a run: "),
    ],
)
def test_what_is_no_settings_file_is_told(contents, words, tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(contents)
    with pytest.raises(ValueError, match=words):
        read_settings(path)


@pytest.mark.parametrize(
    ("contents", "options", "words"),
    [
        ({"builder": "nothing"}, [], "there is no model 'nothing'"),
        ({"builder": "playground"}, ["--model", "maskrcnn_resnet50_fpn"], "the settings are those of playground"),
        ({"builder": "playground", "model": {"rpn": {"nms": 0.5}}}, [], "has no 'nms': did you mean 'nms_iou'?"),
        ({"builder": "playground", "model": {"rpn": {"nms_iou": 7}}}, [], "nms_iou of RPNSettings must be a number"),
        ({"builder": "playground", "train": {"lr": -1}}, [], "lr must be more than 0 and at most 1e6, got -1"),
        ({"builder": "playground", "train": {"lr": "fast"}}, [], "lr must be of type float, got 'fast'"),
        (
            {"builder": "playground", "train": {"milestones": [0.5, "x"]}},
            [],
            "milestones must be of type tuple[float, ...]",
        ),
    ],
)
def test_what_does_not_go_is_told_before_training(contents, options, words, scenes, tmp_path, capsys):  # noqa: F811
    (tmp_path / "wanted.json").write_text(json.dumps(contents))
    options = ["--settings", tmp_path / "wanted.json", "--steps", 1, *options, "--out", tmp_path / "out"]
    assert run("train", *data(scenes), *options) == 1
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "", "--annotations", "x.json"], "the name of the folder of pictures is empty"),
        (["--data", "playground", "--annotations", "x.json"], "annotations of their own"),
        (["--data", "playground", "--val-annotations", "x.json"], "those of --val-data"),
    ],
)
def test_data_that_is_only_half_named_is_told(tmp_path, capsys, options, words):
    options += ["--model", "playground", "--steps", 1, "--out", tmp_path / "out"]
    assert run("train", *options) != 0
    assert words in capsys.readouterr().err
