"""Model files: they describe themselves, and are read with care."""

import os
from pathlib import Path

import pytest
import torch

import mrcnn
from mrcnn.data import Playground
from mrcnn.engine.build_model import model_to_train
from mrcnn.errors import CheckpointError
from mrcnn.model_file import read, save_model
from mrcnn.zoo import load_model


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
    assert loaded.config == model.config
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


def test_a_lost_block_is_told(saved, tmp_path):
    """A few bytes in the middle of a tensor, as a bad disk loses them: torch.load would take the rest for whole."""
    whole = saved[1].read_bytes()
    weight = read(saved[1])["state_dict"]["backbone.fpn.layer_blocks.0.0.weight"].numpy().tobytes()
    place = whole.index(weight) + len(weight) // 2
    (tmp_path / "lost.pt").write_bytes(whole[:place] + bytes(64) + whole[place + 64 :])
    torch.load(tmp_path / "lost.pt", weights_only=True)
    with pytest.raises(CheckpointError, match=r"lost\.pt: the file is damaged \(in .*/data/\d+\)"):
        load_model(tmp_path / "lost.pt")


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
    torch.save({"format": "mrcnn 1", "config": {}}, path)
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
    torch.save({"format": "mrcnn 1", "config": Payload(tmp_path / "evil"), "labels": None, "state_dict": {}}, path)
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


SETTINGS = ("config", "arguments", "settings")
LABELS = {
    "categories": ["background"],
    "category_ids": [0],
    "keypoint_names": [],
    "skeleton": [],
    "keypoint_labels": [],
}
NINE = LABELS | {"categories": ["c"] * 9, "category_ids": list(range(9))}


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["state_dict"], None, "must hold a state dict"),
        (["state_dict"], 5, "must hold a state dict"),
        (["state_dict", "rpn.head.bbox_pred.bias"], "text", "names and tensors, got str 'text'"),
        (["state_dict", "rpn.head.bbox_pred.bias"], torch.ones(12).to_sparse(), "must be a dense tensor"),
        (["state_dict", "rpn.head.bbox_pred.bias"], torch.ones(12, dtype=torch.int64), "must be of a float type"),
        (["state_dict", "rpn.head.bbox_pred.bias"], torch.full((12,), torch.nan), "NaN or infinity"),
        (["config"], 5, "cannot be built"),
        (["config", "builder"], [1], r"there is no model \[1\]"),
        (["config", "arguments"], None, "cannot be built"),
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
        (["labels"], NINE | {"skeleton": [[0, 1]]}, "skeleton"),
        (["labels"], NINE | {"keypoint_names": ["a", "b"], "skeleton": [[True, False]]}, "skeleton"),
        (["labels"], NINE | {"keypoint_names": ["a", "b"], "skeleton": [[0.0, 1.0]]}, "skeleton"),
        (["labels"], NINE | {"category_ids": [0, *[7] * 8]}, r'labels\["category_ids"\] must differ'),
        (["labels"], NINE | {"keypoint_labels": [99]}, r'labels\["keypoint_labels"\] must be 1 to \d, got \[99\]'),
        (["labels"], NINE | {"keypoint_labels": [True]}, r'labels\["keypoint_labels"\] must be a list of int'),
    ],
)
def test_what_is_of_a_wrong_kind_inside_is_told(saved, tmp_path, keys, value, message):
    """One sentence with the file's name; the same whether the model is to predict or to be trained on."""
    path = spoiled(saved, tmp_path, *keys, value=value)
    with pytest.raises(CheckpointError, match=rf"spoiled\.pt.*{message}") as told:
        load_model(path)
    assert "\n" not in str(told.value)
    with pytest.raises(CheckpointError, match=rf"spoiled\.pt.*{message}"):
        model_to_train(Playground(1), None, str(path))


def test_step_counters_of_batch_norms_may_be_left_over(saved, tmp_path):
    path = spoiled(saved, tmp_path, "state_dict", "bn.num_batches_tracked", value=torch.tensor(1.0))
    assert load_model(path).state_dict().keys() == load_model(saved[1]).state_dict().keys()


def test_a_model_unknown_to_this_version_is_told(saved, tmp_path):
    contents = read(saved[1])
    contents["config"] = {"builder": "yolo", "arguments": {}}
    torch.save(contents, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"cannot be built by this version of mrcnn.*'yolo'"):
        load_model(tmp_path / "model.pt")
