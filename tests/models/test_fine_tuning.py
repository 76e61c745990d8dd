"""Weights with other numbers of classes or keypoints: the last layers start afresh, all else is the file's."""

import re
import warnings

import pytest
import torch
import twins
from test_weights import old_names

import mrcnn
from mrcnn.model_file import save_model

CLASS_LAYERS = ["roi_heads.box_predictor.bbox_pred", "roi_heads.box_predictor.cls_score"]
MASK_LAYERS = [*CLASS_LAYERS, "roi_heads.mask_predictor.mask_fcn_logits"]
KEYPOINT_LAYERS = ["roi_heads.keypoint_predictor.kps_score_lowres"]


def warned_layers(caught: list[warnings.WarningMessage]) -> list[str]:
    """The layers that the one warning names."""
    (warning,) = caught
    assert warning.filename == __file__, "it points at who called the builder"
    return str(warning.message).partition(": ")[2].split(", ")


@pytest.mark.parametrize("key", [None, "model", "state_dict"])
@pytest.mark.parametrize(
    ("builder", "old", "numbers", "layers"),
    [
        ("maskrcnn_resnet50_fpn", True, {"num_classes": 3}, MASK_LAYERS),
        ("maskrcnn_resnet50_fpn_v2", False, {"num_classes": 3}, MASK_LAYERS),
        ("keypointrcnn_resnet50_fpn", True, {"num_keypoints": 4}, KEYPOINT_LAYERS),
    ],
)
def test_a_file_of_torchvisions(builder, old, numbers, layers, key, tmp_path):
    """torchvision's model with the same file has the same features; old files with batch norm's eps at 0."""
    given = twins.lively(builder, "coffee", short_side=256)
    state = old_names(given) if old else given
    torch.save(state if key is None else {key: state, "epoch": 3}, tmp_path / "file.pth")
    with pytest.warns(UserWarning, match="start afresh") as caught:
        model = getattr(mrcnn, builder)(weights=tmp_path / "file.pth", **numbers)
    assert warned_layers(caught) == layers
    fresh = {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    own = model.state_dict()
    assert {name for name in own if own[name].shape != given[name].shape} == fresh
    for name in own.keys() - fresh:
        assert name.endswith("num_batches_tracked") or torch.equal(own[name], given[name]), name

    theirs = twins.torchvision_model(builder, frozen=old, eps=0.0 if old else 1e-5).eval()
    theirs.load_state_dict(state)
    picture = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        found, right = model.eval().backbone(picture), theirs.backbone(picture)
    for ours, expected in zip(found, right.values(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)


def test_fresh_layers_fit_and_train(tmp_path):
    """Their shapes are torchvision's for as many classes; a step moves them, and leaves the first stages."""
    theirs = twins.torchvision_model("maskrcnn_resnet50_fpn", frozen=True, num_classes=3).state_dict()
    torch.save(old_names(twins.lively("maskrcnn_resnet50_fpn", "coffee", short_side=256)), tmp_path / "file.pth")
    with pytest.warns(UserWarning, match="start afresh"):
        model = mrcnn.maskrcnn_resnet50_fpn(3, weights=tmp_path / "file.pth", images={"min_size": (64,)})
    assert {name: value.shape for name, value in model.state_dict().items()} == {
        name: value.shape for name, value in theirs.items()
    }
    before = mrcnn.to_torchvision(model)
    masks = torch.zeros(1, 64, 64)
    masks[:, 10:50, 10:50] = 1
    target = {"boxes": torch.tensor([[10.0, 10, 50, 50]]), "labels": torch.tensor([2]), "masks": masks}
    sum(model([torch.rand(3, 64, 64)], [target]).values()).backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4).step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {f"{layer}.weight" for layer in MASK_LAYERS} <= moved
    assert "backbone.body.layer2.0.conv1.weight" in moved
    assert not any(name.startswith(("backbone.body.conv1", "backbone.body.layer1")) for name in moved)


def test_a_model_file_of_ours(tmp_path):
    """Its settings come along, but for what the caller says; as many classes and keypoints keep everything."""
    source = mrcnn.playground_rcnn(num_classes=4, num_keypoints=5, images={"min_size": (96,)}, box={"detections": 7})
    source.labels = {"categories": ["background", "a", "b", "c"], "category_ids": [0, 1, 2, 3]}
    source.labels |= {"keypoint_names": list("vwxyz"), "skeleton": [], "keypoint_labels": [1]}
    save_model(source, tmp_path / "model.pt")
    given = source.state_dict()
    with pytest.warns(UserWarning, match="start afresh") as caught:
        model = mrcnn.playground_rcnn(3, 5, weights=tmp_path / "model.pt", box={"nms_iou": 0.4})
    assert warned_layers(caught) == MASK_LAYERS
    assert model.labels is None
    assert (model.settings.num_classes, model.settings.keypoint.num_keypoints) == (3, 5)
    assert (model.settings.images.min_size, model.settings.box.detections, model.settings.box.nms_iou) == (
        (96,),
        7,
        0.4,
    )
    for name, value in model.state_dict().items():
        assert name.startswith(tuple(MASK_LAYERS)) or torch.equal(value, given[name]), name
    with warnings.catch_warnings(action="error"):
        whole = mrcnn.playground_rcnn(4, 5, weights=str(tmp_path / "model.pt"))
    assert whole.labels == source.labels
    assert whole.config == source.config
    assert all(torch.equal(value, given[name]) for name, value in whole.state_dict().items())


def test_the_model_in_the_package():
    with pytest.warns(UserWarning, match="start afresh") as caught:
        model = mrcnn.playground_rcnn(num_classes=2, num_keypoints=3, weights="playground")
    assert warned_layers(caught) == [MASK_LAYERS[0], MASK_LAYERS[1], *KEYPOINT_LAYERS, MASK_LAYERS[2]]
    trained = mrcnn.playground_rcnn(pretrained=True).state_dict()
    assert torch.equal(model.state_dict()["backbone.body.conv1.weight"], trained["backbone.body.conv1.weight"])


def test_eps_and_classes_come_with_the_weights_of_another_builder(tmp_path):
    """A joint model without its keypoint head has Mask R-CNN's layers, here with the eps of the published v1 files."""
    source = mrcnn.jointrcnn_resnet50_fpn(4, keypoint=None, backbone={"eps": 0.0})
    save_model(source, tmp_path / "model.pt")
    model = mrcnn.maskrcnn_resnet50_fpn(weights=tmp_path / "model.pt")
    assert model.backbone.body.bn1.eps == model.settings.backbone.eps == 0
    assert model.settings.num_classes == 4, "nobody asked for another number"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("roi_heads.box_head.fc6.weight", lambda state, name: state.pop(name)),
        ("stranger", lambda state, name: state.update({name: torch.zeros(1)})),
        ("rpn.head.bbox_pred.bias", lambda state, name: state.update({name: torch.zeros(5)})),
        ("roi_heads.box_predictor.cls_score.weight", lambda state, name: state.pop(name)),
        ("roi_heads.mask_predictor.conv5_mask.bias", lambda state, name: state.update({name: torch.zeros(5)})),
    ],
)
def test_another_architecture_is_refused(name, change, tmp_path):
    state = mrcnn.to_torchvision(mrcnn.playground_rcnn())
    change(state, name)
    torch.save(state, tmp_path / "file.pth")
    with pytest.raises(ValueError, match=re.escape(name)):
        mrcnn.playground_rcnn(num_classes=3, weights=tmp_path / "file.pth")


def test_load_torchvision_stays_strict():
    with pytest.raises(
        ValueError, match=r"of another shape: roi_heads.box_predictor.bbox_pred.bias \(28,\), not \(12,\)"
    ):
        mrcnn.load_torchvision(mrcnn.playground_rcnn(num_classes=3), mrcnn.playground_rcnn().state_dict())
