"""What is frozen stays as it was, its batch norm's statistics too."""

import torch
from fakes import HandMade

import mrcnn
from mrcnn.engine.build_model import model_to_train
from mrcnn.engine.runs import run_settings
from mrcnn.engine.settings import TrainSettings
from mrcnn.engine.train import train


def objects() -> HandMade:
    return HandMade([[(1, [4, 4, 40, 60], 0), (2, [50, 10, 90, 50], 0)], [(2, [10, 20, 30, 40], 0)], []], (64, 96))


def test_frozen_stages_do_not_move():
    model = mrcnn.playground_rcnn(num_classes=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, objects(), TrainSettings(steps=2, batch_size=3, frozen_stages=2, warmup=0.0, lr=0.01))
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    frozen = {
        name for name in before if name.startswith(("backbone.body.conv1", "backbone.body.bn1", "backbone.body.layer1"))
    }
    assert frozen
    assert not moved & frozen, "neither weights nor running statistics"
    assert {"backbone.body.layer2.0.conv1.weight", "backbone.body.layer2.0.bn1.running_mean"} <= moved
    assert model.labels["categories"] == ["background", "person", "ball"]
    assert model.labels["category_ids"] == [0, 7, 12]


def test_nothing_but_the_last_layers_moves():
    model = mrcnn.playground_rcnn(num_classes=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, objects(), TrainSettings(steps=2, batch_size=3, last_layers_only=True, warmup=0.0, lr=0.01))
    moved = {
        name.rpartition(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {
        "rpn.head.cls_logits",
        "rpn.head.bbox_pred",
        "roi_heads.box_predictor.cls_score",
        "roi_heads.box_predictor.bbox_pred",
        "roi_heads.mask_predictor.conv5_mask",
        "roi_heads.mask_predictor.mask_fcn_logits",
        "roi_heads.keypoint_predictor.kps_score_lowres",
    }


def test_what_a_run_from_a_classifier_freezes_is_in_its_settings(tmp_path):
    """Two stages, unless something else is said; all can be trained, too."""
    body = mrcnn.maskrcnn_resnet50_fpn().backbone.body.state_dict()
    torch.save(body, tmp_path / "classifier.pth")
    model, _ = model_to_train(objects(), "maskrcnn_resnet50_fpn", backbone_weights=str(tmp_path / "classifier.pth"))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(model.backbone.body.conv1.weight, body["conv1.weight"])
    kind = {"pretrained": True, "unlabelled": False}
    assert run_settings("maskrcnn_resnet50_fpn", objects(), {"steps": 1}, **kind).frozen_stages == 2
    assert run_settings("maskrcnn_resnet50_fpn", objects(), {"steps": 1, "frozen_stages": 0}, **kind).frozen_stages == 0
