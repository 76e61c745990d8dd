"""Files written whole or not at all, read with care."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fakes import HandMade, TinyModel
from torch import nn

import mrcnn
from mrcnn.engine import checkpoint
from mrcnn.engine.building import model_to_train
from mrcnn.engine.checkpoint import CheckpointError, load_model, read, save_model, write_whole


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small model of ours, and its file."""
    torch.manual_seed(0)
    model = mrcnn.playground_rcnn(num_classes=3, num_keypoints=5)
    model.labels = {
        "categories": ["background", "cat", "dog"],
        "category_ids": [0, 4, 9],
        "keypoint_names": list("abcde"),
        "skeleton": [[0, 1]],
        "keypoint_labels": [1],
    }
    path = tmp_path_factory.mktemp("model") / "model.pt"
    save_model(model, path)
    return model, path


def test_a_model_file_describes_itself(saved):
    model, path = saved
    loaded = load_model(path)
    assert loaded.recipe == model.recipe
    assert loaded.labels == model.labels
    assert not loaded.training
    state = model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    assert os.stat(path).st_mode & 0o777 == 0o666 & ~_umask(), "readable as any other file"
    assert os.listdir(path.parent) == ["model.pt"]


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.3, 0.9, 0.9999])
def test_a_file_cut_short_is_told(saved, tmp_path, share):
    whole = saved[1].read_bytes()
    path = tmp_path / "cut.pt"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match=r"cut\.pt: the file is (empty|damaged or was cut short)"):
        load_model(path)


def test_files_of_other_programs_are_told(saved, tmp_path):
    path = tmp_path / "other.pt"
    path.write_text("weights? no, a poem")
    with pytest.raises(CheckpointError, match="not a file of weights"):
        load_model(path)
    torch.save({"conv.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"a state dict of another program.*--model"):
        load_model(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="a list of another program"):
        load_model(path)
    torch.save({"format": "mrcnn 1", "recipe": {}}, path)
    with pytest.raises(CheckpointError, match="without labels, state_dict"):
        load_model(path)
    with pytest.raises(CheckpointError, match="there is no such file"):
        load_model(tmp_path / "nothing.pt")


class Payload:
    """Makes a folder when it is unpickled by a reader that trusts the file."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return (os.mkdir, (str(self.folder),))


def test_a_file_cannot_run_code(tmp_path):
    path = tmp_path / "evil.pt"
    torch.save({"format": "mrcnn 1", "recipe": Payload(tmp_path / "evil"), "labels": None, "state_dict": {}}, path)
    with pytest.raises(CheckpointError):
        load_model(path)
    assert not (tmp_path / "evil").exists()


def test_weights_of_another_model_are_told_by_key(saved, tmp_path):
    contents = read(saved[1])
    state = contents["state_dict"]
    removed = state.pop("rpn.head.cls_logits.bias")
    state["rpn.head.extra"] = removed
    state["roi_heads.box_predictor.cls_score.bias"] = torch.zeros(17)
    path = tmp_path / "model.pt"
    torch.save(contents, path)
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    for part in ("rpn.head.cls_logits.bias", "rpn.head.extra", "cls_score.bias (17,)", "(3,)", str(path)):
        assert part in str(caught.value)


def spoiled(saved, tmp_path, *keys, value):
    """The file of a model with one thing in it replaced."""
    contents = torch.load(saved[1], weights_only=True)
    inside = contents
    for key in keys[:-1]:
        inside = inside[key]
    inside[keys[-1]] = value
    torch.save(contents, tmp_path / "spoiled.pt")
    return tmp_path / "spoiled.pt"


SETTINGS = ("recipe", "arguments", "settings")
LABELS = {
    "categories": ["background"],
    "category_ids": [0],
    "keypoint_names": [],
    "skeleton": [],
    "keypoint_labels": [],
}


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["state_dict"], None, "must hold a state dict"),
        (["state_dict"], 5, "must hold a state dict"),
        (["state_dict", "rpn.head.bbox_pred.bias"], "text", "names and tensors, got str 'text'"),
        (["state_dict", "rpn.head.bbox_pred.bias"], torch.ones(12).to_sparse(), "must be a dense tensor"),
        (["state_dict", "rpn.head.bbox_pred.bias"], torch.ones(12, dtype=torch.int64), "must be of a float type"),
        (["state_dict", "rpn.head.bbox_pred.bias"], torch.full((12,), torch.nan), "NaN or infinity"),
        (["recipe"], 5, "cannot be built"),
        (["recipe", "builder"], [1], r"there is no model \[1\]"),
        (["recipe", "arguments"], None, "cannot be built"),
        (SETTINGS, [1], "cannot be built"),
        ([*SETTINGS, "num_classes"], -1, "num_classes of ModelSettings must be .* got -1"),
        ([*SETTINGS, "num_classes"], "7", "num_classes of ModelSettings must be .* got '7'"),
        ([*SETTINGS, "rpn", "conv_depth"], 10**9, "conv_depth of RPNSettings must be .* got 1000000000"),
        ([*SETTINGS, "rpn", "depth"], 1, "RPNSettings has no 'depth'"),
        (["labels"], 5, "labels must be None or a dict"),
        (["labels"], {}, "labels must be None or a dict"),
        (["labels"], LABELS | {"categories": "background"}, r'labels\["categories"\] must be a list of str'),
        (["labels"], LABELS | {"category_ids": [None]}, r'labels\["category_ids"\] must be a list of int'),
        (["labels"], LABELS, r'labels\["categories"\] must be of \d classes, got 1'),
        (["labels"], LABELS | {"categories": ["c"] * 9, "category_ids": [1] * 9, "skeleton": [[0, 1]]}, "skeleton"),
    ],
)
def test_what_is_of_a_wrong_kind_inside_is_told(saved, tmp_path, keys, value, message):
    """One sentence with the file's name; the same whether the model is to predict or to be trained on."""
    path = spoiled(saved, tmp_path, *keys, value=value)
    with pytest.raises(CheckpointError, match=rf"spoiled\.pt.*{message}") as told:
        load_model(path)
    assert "\n" not in str(told.value)
    if keys[0] != "labels":  # training takes those of its data set
        with pytest.raises(CheckpointError, match=rf"spoiled\.pt.*{message}"):
            model_to_train(HandMade([]), None, str(path))


def test_a_model_unknown_to_this_version_is_told(saved, tmp_path):
    contents = read(saved[1])
    contents["recipe"] = {"builder": "yolo", "arguments": {}}
    torch.save(contents, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"cannot be built by this version of mrcnn.*'yolo'"):
        load_model(tmp_path / "model.pt")


# ---- writing


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")

    def fails(file):
        file.write(b"half of ")
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match=r"could not write .*file: No space left on device"):
        write_whole(path, fails)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["file"]


def test_an_interruption_while_writing_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")

    def interrupted(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, interrupted)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["file"]


def test_the_bytes_reach_the_disk_before_the_name(tmp_path, monkeypatch):
    """In the order: data synced, renamed, folder synced. A rename before the sync could survive a power cut alone."""
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (events.append("sync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (events.append("rename"), replace(*paths)))
    write_whole(tmp_path / "new" / "file", lambda file: file.write(b"all"))
    assert events == ["sync", "rename", "sync"]
    assert (tmp_path / "new" / "file").read_bytes() == b"all"


FULL_DISK = """
import resource, sys, torch
sys.path.insert(0, sys.argv[2])
from fakes import TinyModel
from mrcnn.engine.checkpoint import CheckpointError, save_checkpoint
model = TinyModel()
save_checkpoint(sys.argv[1], 5, model, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))  # from here on the disk is "full"
try:
    save_checkpoint(sys.argv[1], 6, model, {})
except CheckpointError as error:
    print(error)
"""


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path):
    """The operating system refuses to let files grow past 2,000 bytes: what torch.save meets on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert soft == hard == resource.RLIM_INFINITY
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith(f"could not write {tmp_path}/checkpoint-00000006.pt: File too large"), done
    assert os.listdir(tmp_path) == ["checkpoint-00000005.pt"]
    contents, complaints = checkpoint.last_checkpoint(tmp_path)
    assert contents["training"]["step"] == 5
    assert complaints == {}


def test_a_folder_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    (tmp_path / "a file").write_text("")
    with pytest.raises(CheckpointError, match=r"could not write .*a file/model\.pt: (Not a directory|File exists)"):
        write_whole(tmp_path / "a file" / "model.pt", lambda file: None)

    def refuse(self, *_args, **_kwargs):  # the tests may run as root, whom no folder refuses
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CheckpointError, match=r"could not write .*model\.pt: Permission denied"):
        write_whole(tmp_path / "model.pt", lambda file: None)


# ---- the checkpoints of a run


def test_two_checkpoints_are_kept_and_the_newest_whole_one_is_used(tmp_path):
    model = TinyModel()
    for step in (3, 10, 7, 20):
        nn.init.constant_(model.head.bias, step)
        checkpoint.save_checkpoint(tmp_path, step, model, {"note": step})
    names = [path.name for path in checkpoint.checkpoints(tmp_path)]
    assert names == ["checkpoint-00000010.pt", "checkpoint-00000020.pt"]
    newest = tmp_path / names[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    contents, complaints = checkpoint.last_checkpoint(tmp_path)
    assert contents["training"] == {"note": 10, "step": 10}
    assert contents["state_dict"]["head.bias"].tolist() == [10, 10]
    assert list(complaints) == [newest]
    assert "checkpoint-00000020.pt: the file is damaged or was cut short" in complaints[newest]
    (tmp_path / names[0]).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be used: .*cut short.*empty"):
        checkpoint.last_checkpoint(tmp_path)


def test_no_checkpoint_at_all_is_no_error(tmp_path):
    assert checkpoint.last_checkpoint(tmp_path / "nowhere") == (None, {})
    (tmp_path / "checkpoint-notes.pt").write_text("mine")
    assert checkpoint.last_checkpoint(tmp_path) == (None, {})
