"""detectron2's files: which are read, what is in them, and which are refused."""

import os
import pickle

import numpy
import pytest
import torch
from detectron2_weights import checkpoint

import mrcnn
from mrcnn import detectron2
from mrcnn.weights import read_weights


def as_arrays(state: dict[str, torch.Tensor]) -> dict[str, numpy.ndarray]:
    return {name: tensor.numpy() for name, tensor in state.items()}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle(protocol, tmp_path):
    given = {"one.weight": torch.rand(3, 4), "two.bias": torch.rand(5).double()}
    contents = {"model": as_arrays(given), "__author__": "Detectron2 Model Zoo", "matching_heuristics": True}
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(contents, protocol))
    found = read_weights(tmp_path / "model.pkl")
    assert found.keys() == given.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in given.items())


def test_a_model_of_the_zoo(tmp_path):
    """The weights of the .pth, and what older files hold beside them."""
    anchors = {f"{detectron2.ANCHORS}{level}": anchors_of(size) for level, size in enumerate((16, 32, 64, 128, 256))}
    more = {"pixel_mean": torch.tensor([100.0, 110, 120]).view(3, 1, 1), "pixel_std": torch.full((3, 1, 1), 51.0)}
    contents = {"model": as_arrays(checkpoint() | anchors | more), "__author__": "Detectron2 Model Zoo"}
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(contents))
    torch.save({"model": checkpoint()}, tmp_path / "model.pth")
    found, right = (mrcnn.maskrcnn_resnet50_fpn(weights=tmp_path / f"model.{kind}") for kind in ("pkl", "pth"))
    assert all(torch.equal(value, right.state_dict()[name]) for name, value in found.state_dict().items())
    assert found.settings.images.mean == (120 / 255, 110 / 255, 100 / 255)
    assert found.settings.images.std == (0.2, 0.2, 0.2)
    assert found.settings.rpn.anchors.sizes == ((16,), (32,), (64,), (128,), (256,))
    assert found.settings.rpn.anchors.ratios == (0.5, 1.0, 2.0)


def anchors_of(*sizes: float) -> torch.Tensor:
    sides = [(size / ratio**0.5, size * ratio**0.5) for size in sizes for ratio in (0.5, 1.0, 2.0)]
    return torch.tensor([[-w / 2, -h / 2, w / 2, h / 2] for w, h in sides])


class Intruder:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_that_would_run_code(protocol, tmp_path):
    """Refused before anything of it has run, wherever it stands; the sentence says what it asked for."""
    made = tmp_path / "made"
    for intruder, asked in (
        (Intruder(os.mkdir, str(made)), "posix.mkdir"),
        (Intruder(eval, f"__import__('os').mkdir({str(made)!r})"), "eval"),
        (Intruder(numpy.load, "file.npy"), "numpy.*load"),
    ):
        for contents in (intruder, {"model": {"a": intruder}}, {"model": {"a": numpy.array([intruder], dtype=object)}}):
            (tmp_path / "model.pkl").write_bytes(pickle.dumps(contents, protocol))
            with pytest.raises(ValueError, match=rf"model\.pkl is not a file of detectron2's model zoo.*{asked}"):
                mrcnn.maskrcnn_resnet50_fpn(weights=tmp_path / "model.pkl")
    assert not made.exists()


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "is not a file of detectron2's model zoo"),
        (b"no pickle", "is not a file of detectron2's model zoo"),
        (pickle.dumps({"model": as_arrays({"a": torch.rand(9)})})[:-40], "or was cut short"),
        (pickle.dumps([1, 2]), "must hold a state dict"),
        (pickle.dumps({"blobs": {"conv1_w": numpy.zeros(3)}}), "must hold names and tensors"),  # Detectron 1
        (
            pickle.dumps({"model": {"a": numpy.array([1, None], dtype=object)}}),
            "is not a file of detectron2's model zoo",
        ),
        (pickle.dumps({"model": {"a": "text"}}), "must hold names and tensors, got str 'text' as 'a'"),
        (pickle.dumps({"model": {"a": numpy.array([numpy.nan])}}), "a has NaN or infinity in it"),
    ],
)
def test_what_is_no_file_of_the_zoo(contents, message, tmp_path):
    (tmp_path / "model.pkl").write_bytes(contents)
    with pytest.raises(ValueError, match=message):
        mrcnn.maskrcnn_resnet50_fpn(weights=tmp_path / "model.pkl")


# Files of other models


@pytest.mark.parametrize(
    ("builder", "change", "message"),
    [
        ("fasterrcnn_resnet50_fpn", {}, "weights are of another model. unknown: roi_heads.mask_head"),
        ("maskrcnn_resnet101_fpn", {}, "weights are of another model. missing: backbone.body.layer3"),
        ("maskrcnn_resnet50_fpn", {"stranger": torch.zeros(1)}, "weights are of another model. unknown: stranger"),
        ("playground_rcnn", {}, "for the bodies resnet50 and resnet101, not playground"),
        (
            "maskrcnn_resnet50_fpn",
            {"roi_heads.mask_head.predictor.bias": torch.zeros(1)},
            r"must have 80 rows, 1 for each category, got the shape \(1,\)",
        ),
        (
            "maskrcnn_resnet50_fpn",
            {"roi_heads.box_predictor.bbox_pred.weight": torch.zeros(())},
            r"320 rows.* shape \(\)",
        ),
        ("maskrcnn_resnet50_fpn", {"pixel_mean": torch.zeros(())}, "mean of ImageSettings must be a tuple of 3"),
        ("maskrcnn_resnet50_fpn", {f"{detectron2.ANCHORS}0": torch.zeros(4)}, r"must be anchors \(A, 4\)"),
        ("maskrcnn_resnet50_fpn", {f"{detectron2.ANCHORS}0": anchors_of(32, 48)}, "anchors of one size"),
        ("maskrcnn_resnet50_fpn", {f"{detectron2.ANCHORS}0": anchors_of(32)}, "sizes.*5 levels"),
    ],
)
def test_another_architecture_is_refused(builder, change, message, tmp_path):
    torch.save({"model": checkpoint() | change}, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=message):
        getattr(mrcnn, builder)(weights=tmp_path / "model.pth")
