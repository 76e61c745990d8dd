"""`mrcnn train`, `eval` and `predict` on data of one's own: sizes, epochs, the best model."""

import json

import pytest
import torch
from test_cli import _one_thread, data, run, scenes  # noqa: F401  # two are fixtures

import mrcnn
from mrcnn.engine.build_model import limit
from mrcnn.engine.csv_log import read_table
from mrcnn.images import ImageSettings
from mrcnn.model_file import read
from mrcnn.zoo import load_model

LIMITS = ["--min-size", 64, "--max-size", 96, "--detections", 3]


@pytest.fixture(scope="module")
def tuned(scenes, tmp_path_factory):  # noqa: F811
    """Two epochs of eight pictures, three in a step, from the model in the package, at a size of its own."""
    out = tmp_path_factory.mktemp("tuned")
    options = ["--weights", "playground", "--epochs", 2, "--batch-size", 3, "--evaluate-every", 3, *LIMITS]
    assert run("train", *data(scenes), *data(scenes, "val-"), *options, "--out", out) == 0
    return out


def test_epochs_are_counted_in_pictures(tuned):
    assert [row["step"] for row in read_table(tuned / "losses.csv")] == [1, 2, 3, 4, 5, 6]  # 16 pictures


def test_the_size_is_in_the_files_that_training_leaves(tuned, scenes, tmp_path):  # noqa: F811
    for name in ("model.pt", "best.pt"):
        settings = load_model(tuned / name).settings
        assert settings.images == ImageSettings(min_size=(64,), max_size=96)
        assert settings.box.detections == 3
    photo = next((scenes / "images").glob("*.png"))
    assert run("predict", photo, "--weights", tuned / "best.pt", "--out", tmp_path, "--min-score", 0) == 0
    assert len(json.loads((tmp_path / "results.json").read_text())) <= 3


def test_best_is_one_of_the_evaluations(tuned):
    """The better of the two, by a mean over the three kinds that is taken here again."""
    rows = read_table(tuned / "metrics.csv")
    assert [row["step"] for row in rows] == [3, 6]
    means = [sum(row[f"{kind}/AP"] for kind in ("bbox", "segm", "keypoints")) for row in rows]
    same = [
        torch.equal(value, read(tuned / "model.pt")["state_dict"][name])
        for name, value in read(tuned / "best.pt")["state_dict"].items()
    ]
    assert all(same) == (means[1] > means[0])


def test_eval_and_predict_with_limits(scenes, tmp_path):  # noqa: F811
    """As the model built with these settings; more detections than it is told are not found."""
    photo = sorted((scenes / "images").glob("*.png"))[0]
    counts = {}
    for detections in (1, 100):
        out = tmp_path / str(detections)
        options = ["--weights", "playground", "--out", out, "--min-score", 0, "--detections", detections]
        assert run("predict", photo, *options) == 0
        counts[detections] = len(json.loads((out / "results.json").read_text()))
    assert counts[1] == 1 < counts[100]
    found = {}
    for name, options in (("own", []), ("one", ["--detections", 1]), ("tiny", ["--min-size", 32])):
        assert run("eval", "--weights", "playground", *data(scenes), "--out", tmp_path / name, *options) == 0
        found[name] = json.loads((tmp_path / name).read_text())["bbox"]
    assert found["one"]["AR"] < found["own"]["AR"]
    assert found["tiny"]["AR"] != found["own"]["AR"]


def test_a_limited_model_is_one_built_so():
    """In place, and from the settings: the same results to the bit, and the same description."""
    torch.manual_seed(0)
    pictures = [torch.rand(3, 100, 80), torch.rand(3, 60, 120)]
    options = {"images": {"min_size": (96, 64), "max_size": 90}, "box": {"detections": 5, "min_score": 0.0}}
    built = mrcnn.playground_rcnn(**options).eval()
    model = mrcnn.playground_rcnn(box={"min_score": 0.0}).eval()
    model.load_state_dict(built.state_dict())
    assert limit(model, (96, 64), 90, 5) is model
    assert model.config == built.config
    with torch.no_grad():
        pairs = zip(model(pictures), built(pictures), strict=True)
        assert all(torch.equal(ours[name], theirs[name]) for ours, theirs in pairs for name in theirs)
    before = model.config
    assert limit(model).config == before


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (["--epochs", 1, "--steps", 3], "give it without --steps and --seconds", 2),
        (["--epochs", 1, "--seconds", 3], "give it without --steps and --seconds", 2),
        (["--steps", 2, "--patience", 2], "patience must be 0 without evaluate_every", 1),
        (["--steps", 2, "--patience", 2, "--evaluate-every", 1], r"give validation pictures (--val-data)", 1),
        (["--steps", 2, "--min-size", 99999], "min_size of ImageSettings must be", 1),
    ],
)
def test_what_does_not_go_together_is_told(options, message, code, scenes, tmp_path, capsys):  # noqa: F811
    out = tmp_path / "run"
    assert run("train", *data(scenes), "--model", "playground", *options, "--out", out) == code
    assert message in capsys.readouterr().err
    assert not (out / "model.pt").exists()


def test_the_playground_has_no_epochs(tmp_path, capsys):
    assert run("train", "--data", "playground", "--model", "playground", "--epochs", 1, "--out", tmp_path / "run") == 1
    assert "the playground has no epochs" in capsys.readouterr().err


@pytest.mark.parametrize(("options", "frozen"), [([], 2), (["--frozen-stages", 0], 0)])
def test_what_a_run_from_a_classifier_freezes_is_what_its_settings_say(scenes, tmp_path, options, frozen):  # noqa: F811
    torch.manual_seed(0)
    body = mrcnn.fasterrcnn_resnet50_fpn().backbone.body.state_dict()
    torch.save(body, tmp_path / "classifier.pth")
    start = ["--model", "fasterrcnn_resnet50_fpn", "--backbone-weights", tmp_path / "classifier.pth", "--min-size", 64]
    assert (
        run("train", *data(scenes), *start, *options, "--steps", 1, "--batch-size", 1, "--out", tmp_path / "run") == 0
    )
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["train"]["frozen_stages"] == frozen
    moved = load_model(tmp_path / "run" / "model.pt").backbone.body.state_dict()
    assert torch.equal(moved["conv1.weight"], body["conv1.weight"]) == (frozen > 0)
    assert not torch.equal(moved["layer4.0.conv1.weight"], body["layer4.0.conv1.weight"])
