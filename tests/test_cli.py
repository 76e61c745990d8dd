"""The `mrcnn` command, as a user meets it: what it leaves, what it says, and how it ends."""

import json
import os
import shutil
import signal
import sys
import time
from unittest.mock import ANY

import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

import mrcnn
from mrcnn.cli import main
from mrcnn.data import Playground
from mrcnn.engine import runs
from mrcnn.engine.csv_log import read_table
from mrcnn.zoo import load_model


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a model only waits for a second one
    yield
    torch.set_num_threads(threads)


def run(*arguments) -> int:
    """The exit code of `mrcnn ARGUMENTS`."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code or 0


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Eight small scenes as files."""
    folder = tmp_path_factory.mktemp("scenes")
    assert run("playground", "--out", folder, "--images", 8, "--seed", 3, "--size", 64) == 0
    return folder


def data(folder, prefix=""):
    return [
        f"--{prefix}data", folder / "images",
        f"--{prefix}annotations", folder / "instances.json",
        f"--{prefix}keypoints", folder / "person_keypoints.json",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(scenes, tmp_path_factory):
    """A run of four steps, with an evaluation in the middle."""
    out = tmp_path_factory.mktemp("run")
    options = ["--model", "playground", "--steps", 4, "--batch-size", 2, "--evaluate-every", 2, "--seed", 5]
    assert run("train", *data(scenes), *data(scenes, "val-"), *options, "--augment", "full", "--out", out) == 0
    return out


# ---- what the commands leave


def test_playground_writes_what_pycocotools_loads(scenes, capfd):
    truth = COCO(str(scenes / "person_keypoints.json"))
    assert len(truth.imgs) == len(list((scenes / "images").glob("*.png"))) == 8


def test_playground_in_ink(tmp_path, capfd):
    assert run("playground", "--out", tmp_path, "--images", 2, "--style", "ink") == 0
    assert "2 scenes" in (told := capfd.readouterr().out)
    assert "instances.json beside" in told
    assert COCO(str(tmp_path / "instances.json")).loadCats(1)[0]["name"] == "house"


def test_train_leaves_a_model_and_what_to_look_at(trained, scenes):
    assert [row["step"] for row in read_table(trained / "losses.csv")] == [1, 2, 3, 4]
    assert [row["step"] for row in read_table(trained / "metrics.csv")] == [2, 4]
    metrics = json.loads((trained / "metrics.json").read_text())
    assert set(metrics) == {"bbox", "segm", "keypoints", "train_seconds", "train_steps"}
    for name in ("curves.png", "predictions.png", "predictions-00000002.png"):
        with Image.open(trained / name) as picture:
            picture.load()
            assert min(picture.size) > 400, name
    model = load_model(trained / "model.pt")
    assert model.labels["categories"] == ["background", *Playground(1).categories[1:]]
    assert len(model.labels["keypoint_names"]) == 17
    # The last evaluation of the run and the one after it are of the same weights.
    last = read_table(trained / "metrics.csv")[-1]
    assert last["bbox/AP"] == metrics["bbox"]["AP"]


def test_resuming_without_validation_pictures_says_what_is_measured(trained, scenes, tmp_path, capsys):
    """A finished run keeps what was measured of it; a longer one is another model, of which nothing is known."""
    out = shutil.copytree(trained, tmp_path / "run")
    before = json.loads((out / "metrics.json").read_text())
    options = ["--model", "playground", "--batch-size", 2, "--seed", 5, "--augment", "full", "--resume", "--out", out]
    assert run("train", *data(scenes), *options, "--steps", 4) == 0
    assert "not measured anew: no validation pictures were given (--val-data)" in capsys.readouterr().out
    assert json.loads((out / "metrics.json").read_text()) == before | {"train_seconds": ANY}
    assert run("train", *data(scenes), *options, "--steps", 5) == 0
    said = capsys.readouterr().out
    assert "not measured: no validation pictures were given (--val-data)" in said
    assert "no ground truth" not in said
    assert set(json.loads((out / "metrics.json").read_text())) == {"train_seconds", "train_steps"}


def test_train_with_pictures_without_labels(scenes, trained, tmp_path, capsys):
    options = ["--weights", trained / "model.pt", "--steps", 1, "--batch-size", 2, "--unlabelled", scenes / "images"]
    assert run("train", *data(scenes), *options, "--teacher", "start", "--out", tmp_path / "a") == 0
    assert "playground_rcnn on 8 pictures, 6 categories, and 8 pictures without labels" in capsys.readouterr().out
    assert run("train", *data(scenes), *options, "--average", 0, "--out", tmp_path / "b") == 1
    assert "give average, a decay" in capsys.readouterr().err
    assert (
        run("train", *data(scenes), "--model", "playground", *options[2:], "--teacher", "start", "--out", tmp_path) == 1
    )
    assert "it has layers of random weights" in capsys.readouterr().err
    options[-1] = tmp_path / "none"
    assert run("train", *data(scenes), *options, "--out", tmp_path / "c") == 1
    assert f"there is no folder {tmp_path / 'none'} of pictures" in capsys.readouterr().err


def test_a_request_to_stop_ends_the_last_evaluation(scenes, tmp_path, monkeypatch, capsys):
    def evaluate(*_arguments, **_options):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
        pytest.fail("it went on")

    monkeypatch.setattr(runs, "evaluate", evaluate)
    options = ["--model", "playground", "--batch-size", 2, "--steps", 1, "--out", tmp_path]
    assert run("train", *data(scenes), *data(scenes, "val-"), *options) == 128 + signal.SIGTERM
    assert (
        f"trained, not measured: {tmp_path / 'model.pt'} is there, and --resume measures it" in capsys.readouterr().err
    )
    assert load_model(tmp_path / "model.pt")


def test_eval_gives_the_same_numbers(trained, scenes, tmp_path, capsys):
    assert run("eval", "--weights", trained / "model.pt", *data(scenes), "--out", tmp_path / "new" / "m.json") == 0
    metrics = json.loads((tmp_path / "new" / "m.json").read_text())
    before = json.loads((trained / "metrics.json").read_text())
    assert metrics == {kind: before[kind] for kind in ("bbox", "segm", "keypoints")}
    assert "boxes" in capsys.readouterr().out


def test_a_checkpoint_serves_as_weights(trained, scenes, tmp_path):
    [checkpoint] = trained.glob("checkpoint-*.pt")
    state, expected = load_model(checkpoint).state_dict(), load_model(trained / "model.pt").state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in state.items())


def test_predict_draws_and_writes_results(trained, scenes, tmp_path, capsys):
    photos = sorted((scenes / "images").glob("*.png"))[:2]
    (tmp_path / "other").mkdir()
    grey = tmp_path / "other" / photos[0].name  # the same name in another folder, and another kind of picture
    Image.open(photos[0]).convert("L").resize((90, 40)).save(grey)
    out = tmp_path / "out"
    assert run("predict", *photos, grey, "--weights", trained / "model.pt", "--out", out, "--min-score", 0.1) == 0
    drawn = sorted(path.name for path in out.glob("*.png"))
    stem = photos[0].stem
    assert drawn == sorted([f"{stem}.png", f"{stem}-2.png", f"{photos[1].stem}.png"])
    results = json.loads((out / "results.json").read_text())
    assert results, "a model after four steps finds plenty"
    truth = COCO(str(scenes / "instances.json"))
    truth.dataset["images"] = [{"id": number} for number in (1, 2, 3)]
    truth.createIndex()
    assert len(truth.loadRes(results).anns) == len(results), "pycocotools takes them"
    assert {entry["file_name"] for entry in results} <= {str(path) for path in (*photos, grey)}
    person = [entry for entry in results if entry["category_id"] == 1]
    assert all(("keypoints" in entry) == (entry["category_id"] == 1) for entry in results)
    assert all(len(entry["keypoints"]) == 51 for entry in person)
    assert "3 pictures" in capsys.readouterr().out


def test_broken_photographs_are_named_and_the_others_done(trained, scenes, tmp_path, capsys):
    good = sorted((scenes / "images").glob("*.png"))[0]
    cut, text = tmp_path / "cut.png", tmp_path / "text.jpg"
    cut.write_bytes(good.read_bytes()[:500])
    text.write_text("not a picture")
    out = tmp_path / "out"
    assert run("predict", cut, good, text, tmp_path / "none.png", "--weights", trained / "model.pt", "--out", out) == 1
    said = capsys.readouterr()
    complaints = said.err.strip().splitlines()
    assert len(complaints) == 3
    for complaint, path in zip(complaints, (cut, text, tmp_path / "none.png"), strict=True):
        assert complaint.startswith(f"mrcnn: {path} ")
    assert [path.name for path in out.glob("*.png")] == [good.name]
    assert "Traceback" not in said.err


def test_weights_of_torchvisions_form_need_only_the_models_name(scenes, tmp_path):
    torch.manual_seed(0)
    weights = tmp_path / "published.pth"
    torch.save(mrcnn.playground_rcnn(num_classes=91).state_dict(), weights)
    photo = sorted((scenes / "images").glob("*.png"))[0]
    from mrcnn.engine.build_model import trained_model

    model = trained_model(str(weights), "playground")
    assert model.labels["categories"][18] == "dog"
    assert model.labels["category_ids"] == list(range(91))
    assert run("predict", photo, "--weights", weights, "--model", "playground", "--out", tmp_path / "out") == 0


def test_training_goes_on_from_trained_weights(trained, tmp_path, capsys):
    """Other categories, no keypoints: the last layers start afresh, there is no keypoint head, the backbone stays."""
    folder = tmp_path / "own"
    run("playground", "--out", folder, "--images", 2, "--size", 64)
    content = json.loads((folder / "instances.json").read_text())
    content["categories"] = [{"id": 5, "name": "thing"}]
    for annotation in content["annotations"]:
        annotation["category_id"] = 5
    (folder / "own.json").write_text(json.dumps(content))
    out = tmp_path / "out"
    options = ["--data", folder / "images", "--annotations", folder / "own.json", "--weights", trained / "model.pt"]
    assert run("train", *options, "--steps", 1, "--batch-size", 2, "--lr", 1e-30, "--out", out) == 0
    assert "cls_score" in capsys.readouterr().out
    model, source = load_model(out / "model.pt"), load_model(trained / "model.pt")
    assert model.settings.num_classes == 2
    assert model.settings.keypoint is None
    assert model.labels["category_ids"] == [0, 5]
    name = "backbone.body.layer1.0.conv1.weight"
    assert torch.equal(model.state_dict()[name], source.state_dict()[name])


def test_demo_leaves_its_four_files(tmp_path, capsys):
    pytest.importorskip("skimage")
    assert run("demo", "--out", tmp_path, "--seconds", 2, "--scenes", 3) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "metrics.json", "predictions.png", "curves.png", "model.pt", "coins.png", "losses.csv", "settings.json",
    }  # fmt: skip
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {"AP", "AP50"} <= metrics["bbox"].keys() & metrics["segm"].keys() & metrics["keypoints"].keys()
    assert 2 <= metrics["train_seconds"] < 30
    assert metrics["coins"]["coins"] == 24
    said = capsys.readouterr().out
    assert all(str(tmp_path / name) in said for name in ("predictions.png", "curves.png", "metrics.json", "model.pt"))
    # A second demo starts anew.
    assert run("demo", "--out", tmp_path, "--seconds", 1, "--scenes", 1) == 0


def test_demo_goes_on_without_scikit_image(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    assert run("demo", "--out", tmp_path, "--seconds", 1, "--scenes", 1) == 0
    assert "scikit-image, which is not installed" in capsys.readouterr().out
    assert not (tmp_path / "coins.png").exists()
    assert "coins" not in json.loads((tmp_path / "metrics.json").read_text())


def test_doctor_tells_what_there_is(capsys):
    assert run("doctor") == 0
    said = capsys.readouterr().out
    assert torch.__version__ in said
    assert "an NVIDIA GPU: not there; would give" in said or "GPU: " in said
    width = {"AVX2": 256, "AVX512": 512}.get(torch.backends.cpu.get_cpu_capability(), 128)
    assert f"yes  vectors of {width} bits in use by the C++ kernels" in said


def test_doctor_tells_what_is_missing(capsys, monkeypatch):
    built = {
        "native": False,
        "cuda": False,
        "emulated": True,
        "problems": {"native": "no compiler"},
        "reason": "no nvcc",
    }
    monkeypatch.setattr(mrcnn.ops, "built", lambda: built)
    assert run("doctor") == 0
    said = capsys.readouterr().out
    assert (
        " no  the ops' C++ kernels: not there; would give the ops at full speed; run `make install` [no compiler]"
        in said
    )
    assert "(built without: no nvcc)" in said
    assert " yes  the CUDA kernels, running on the CPU" in said


def test_doctor_reports_on_a_data_set(scenes, tmp_path, capsys):
    page = tmp_path / "page.png"
    assert run("doctor", *data(scenes), "--out", page) == 0
    assert "8 pictures" in capsys.readouterr().out
    with Image.open(page) as picture:
        assert picture.width > 1000
    content = json.loads((scenes / "instances.json").read_text())
    content["annotations"][1]["bbox"] = [1, 2, "wide", 4]
    (tmp_path / "faulty.json").write_text(json.dumps(content))
    assert run("doctor", "--data", scenes / "images", "--annotations", tmp_path / "faulty.json", "--out", page) == 1
    said = capsys.readouterr().out
    assert f"annotation {content['annotations'][1]['id']}: bbox must be four finite numbers" in said


def test_a_broken_picture_is_measured_nowhere(trained, scenes, tmp_path, capsys):
    """With --on-error skip the metrics are those of the pictures that can be read, each once."""
    import shutil

    shutil.copytree(scenes, tmp_path / "broken")
    first = sorted((tmp_path / "broken" / "images").glob("*.png"))[0]
    first.write_bytes(first.read_bytes()[:300])
    weights = ["eval", "--weights", trained / "model.pt"]
    assert run(*weights, *data(tmp_path / "broken")) == 1
    assert str(first) in capsys.readouterr().err
    assert run(*weights, *data(tmp_path / "broken"), "--on-error", "skip", "--out", tmp_path / "skip.json") == 0

    content = json.loads((scenes / "instances.json").read_text())
    gone = content["images"][0]["id"]
    content["images"] = content["images"][1:]
    content["annotations"] = [each for each in content["annotations"] if each["image_id"] != gone]
    (tmp_path / "rest.json").write_text(json.dumps(content))
    rest = [
        "--data",
        scenes / "images",
        "--annotations",
        tmp_path / "rest.json",
        "--out",
        tmp_path / "rest_metrics.json",
    ]
    assert run(*weights, *rest) == 0
    skipped, expected = (json.loads((tmp_path / name).read_text()) for name in ("skip.json", "rest_metrics.json"))
    assert skipped["bbox"] == expected["bbox"]
    assert skipped["segm"] == expected["segm"]


# ---- what goes wrong


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["eval", "--weights", "{tmp}/none.pt", "--data", "playground"], "none.pt: there is no such file"),
        (["eval", "--weights", "{tmp}/cut.pt", "--data", "playground"], "cut.pt: the file is damaged or was cut short"),
        (["eval", "--weights", "{tmp}/other.pth", "--data", "playground"], "a state dict of another program"),
        (
            ["eval", "--weights", "{tmp}/other.pth", "--model", "playground", "--data", "playground"],
            "no detection model",
        ),
        (["eval", "--weights", "{run}/model.pt", "--data", "{tmp}"], "name the annotations of"),
        (["eval", "--weights", "{run}/model.pt", "--data", "{tmp}/x", "--annotations", "y"], "there is no folder"),
        (["eval", "--weights", "{run}/model.pt", "--data", "{tmp}", "--annotations", "{tmp}/y.json"], "y.json"),
        (["predict", "x.png", "--weights", "{tmp}/none.pt", "--out", "{tmp}/o"], "there is no such file"),
        (["predict", "x.png", "--weights", "{tmp}/nan.pt", "--out", "{tmp}/o"], "rpn.head.bbox_pred.bias has NaN or"),
        (
            ["predict", "x.png", "--weights", "{run}/model.pt", "--device", "cuda:99", "--out", "{tmp}/o"],
            "device 'cuda:99' does not exist: torch",
        ),
        (
            ["eval", "--weights", "{run}/model.pt", "--data", "playground", "--device", "gpu"],
            """device must be "cpu", "cuda" or "cuda:" and a number, got 'gpu'""",
        ),
        (["train", "--data", "playground", "--steps", "1", "--out", "{tmp}/o"], "name a model (--model)"),
        (["train", "--data", "playground", "--model", "yolo", "--steps", "1", "--out", "{tmp}/o"], "no model 'yolo'"),
        (["train", "--data", "playground", "--model", "playground", "--out", "{tmp}/o"], "give steps, seconds or both"),
        (
            ["train", "--data", "playground", "--model", "playground", "--steps", "1", "--out", "{run}"],
            "holds the checkpoints of an earlier run: resume it (--resume)",
        ),
        (
            ["train", "--data", "playground", "--model", "playground", "--steps", "1", "--out", "{run}", "--resume"],
            "the run to resume differs in ",
        ),
    ],
)
def test_a_users_error_is_told_in_a_sentence(arguments, message, trained, tmp_path, capsys):
    (tmp_path / "cut.pt").write_bytes((trained / "model.pt").read_bytes()[:10_000])
    (tmp_path / "file").write_text("")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    contents = torch.load(trained / "model.pt", weights_only=True)
    contents["state_dict"]["rpn.head.bbox_pred.bias"].fill_(torch.nan)
    torch.save(contents, tmp_path / "nan.pt")
    assert run(*(argument.format(tmp=tmp_path, run=trained) for argument in arguments)) == 1
    said = capsys.readouterr().err
    assert said.startswith("mrcnn: ")
    assert message in said
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 1


def test_a_bug_is_not_taken_for_a_users_error(monkeypatch):
    def bug(*_arguments):
        raise AssertionError("a bug")

    monkeypatch.setattr("mrcnn.engine.doctor.machine_report", bug)
    with pytest.raises(AssertionError):
        main(["doctor"])


def test_options_that_do_not_exist_are_told(capsys):
    assert run("train", "--stpes", 3) == 2
    assert "--stpes" in capsys.readouterr().err


def test_help_names_the_commands(capsys):
    assert run("--help") == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("demo", "train", "eval", "predict", "playground", "export", "doctor"))
