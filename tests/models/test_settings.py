"""Settings: what is refused when they are made, and dicts that change some of their fields."""

from dataclasses import asdict, replace

import pytest
import torch

import mrcnn
from mrcnn.anchors import AnchorSettings, make_anchors
from mrcnn.backbone import BackboneSettings
from mrcnn.box_head import BoxSettings
from mrcnn.images import ImageSettings
from mrcnn.keypoint_head import KeypointSettings
from mrcnn.mask_head import MaskSettings
from mrcnn.model import ModelSettings
from mrcnn.rpn import RPNSettings

FIVE = ((8,), (16,), (32,), (64,), (128,))


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        (
            AnchorSettings,
            {"sizes": ((8,), (16, 24), (32,), (64,), (128,))},
            r"sizes.*as many for every level.*\(16, 24\)",
        ),
        (AnchorSettings, {"sizes": ((), (), (), (), ())}, "sizes"),
        (AnchorSettings, {"sizes": (8, 16, 32, 64, 128)}, "sizes.*tuple"),
        (AnchorSettings, {"sizes": (*FIVE[:4], (-1.0,))}, "sizes.*1e-06"),
        (AnchorSettings, {"ratios": (0.5, float("nan"))}, "ratios.*nan"),
        (AnchorSettings, {"ratios": ()}, "ratios"),
        (AnchorSettings, {"exact": 1}, "exact of AnchorSettings must be bool, got 1"),
        (RPNSettings, {"conv_depth": 10**9}, r"conv_depth of RPNSettings.*0 to 64, got 1000000000"),
        (RPNSettings, {"conv_depth": True}, "conv_depth.*whole number.*True"),
        (RPNSettings, {"negative_iou": 0.8}, "negative_iou.*at most positive_iou"),
        (RPNSettings, {"pre_nms_top_n_test": -1}, "pre_nms_top_n_test"),
        (RPNSettings, {"anchors": FIVE}, "anchors.*AnchorSettings"),
        (BoxSettings, {"nms_iou": 4}, "nms_iou.*0 to 1, got 4"),
        (BoxSettings, {"nms_iou": "0.4"}, "nms_iou.*'0.4'"),
        (BoxSettings, {"samples": 2.5}, "samples.*2.5"),
        (BoxSettings, {"fc_channels": (64,)}, "fc_channels.*two"),
        (BoxSettings, {"fc_channels": (10**9, 64)}, "fc_channels.*1000000000"),
        (BoxSettings, {"conv_channels": (8,) * 10**6}, r"conv_channels.{1,200}$"),
        (BoxSettings, {"resolution": 10**9}, "resolution"),
        (BoxSettings, {"delta_weights": (10.0, 10.0, 5.0, 0.0)}, "delta_weights"),
        (BoxSettings, {"sampling_ratio": -1}, "sampling_ratio.*0 to 4096, got -1"),
        (MaskSettings, {"channels": ()}, "channels of MaskSettings"),
        (MaskSettings, {"hidden": 0}, "hidden"),
        (KeypointSettings, {"num_keypoints": 0}, "num_keypoints"),
        (KeypointSettings, {"dilation": 10**9}, "dilation"),
        (ImageSettings, {"min_size": 800}, "min_size.*tuple.*800"),
        (ImageSettings, {"min_size": (10**9,)}, "min_size"),
        (ImageSettings, {"max_size": 10**9}, "max_size"),
        (ImageSettings, {"std": (1.0, 1.0, 0.0)}, "std"),
        (ImageSettings, {"divisor": 48}, "divisor.*multiple of 32"),
        (ImageSettings, {"divisor": 16384}, "divisor.*from 32 to 1024"),
        (BackboneSettings, {"body": "resnet18"}, "body.*BODIES .resnet50, .*'resnet18'"),
        (BackboneSettings, {"frozen_norm": 1}, "frozen_norm.*bool"),
        (ModelSettings, {"num_classes": -1}, "num_classes.*2 to 10000, got -1"),
        (ModelSettings, {"num_classes": 10**9}, "num_classes"),
        (ModelSettings, {"mask": True}, "mask.*MaskSettings or None, got True"),
        (ModelSettings, {"rpn": RPNSettings(anchors=AnchorSettings(FIVE[:4]))}, "sizes.*5 levels"),
    ],
)
def test_what_makes_no_sense_is_refused_when_settings_are_made(settings, changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes)
    with pytest.raises(ValueError, match=message):
        replace(settings(), **changes)


def test_sizes_of_one_length_give_anchors_of_their_sizes():
    """Two sizes per level: every level's anchors have the areas of that level's sizes, to rounding."""
    sizes = ((8, 12), (16, 24), (32, 48), (64, 96), (128, 192))
    levels = make_anchors(AnchorSettings(sizes), (64, 64), [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)])
    for boxes, (small, large) in zip(levels, sizes, strict=True):
        roots = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt().view(-1, 3, 2)
        assert ((roots - torch.tensor([small, large])).abs() < 2).all()


def test_numbers_of_numpy_are_numbers():
    numpy = pytest.importorskip("numpy")
    assert ModelSettings(numpy.int64(7)).num_classes == 7
    assert BoxSettings(nms_iou=numpy.float32(0.5)).nms_iou == 0.5


# Changes


def differences(ours: dict, others: dict) -> dict:
    """The fields in which two nested dicts differ, with our values."""
    found = {}
    for name, value in ours.items():
        if isinstance(value, dict):
            below = differences(value, others[name])
            found |= {f"{name}.{key}": changed for key, changed in below.items()}
        elif value != others[name]:
            found[name] = value
    return found


@pytest.mark.parametrize("builder", ["playground_rcnn", "fasterrcnn_resnet50_fpn_v2"])
def test_a_dict_changes_just_its_fields(builder):
    build = getattr(mrcnn, builder)
    own = build().settings.to_dict()
    changed = build(
        box={"nms_iou": 0.4, "fc_channels": [32, 48]}, rpn={"samples": 9, "anchors": {"ratios": [1.0]}}
    ).settings.to_dict()
    assert differences(changed, own) == {
        "box.nms_iou": 0.4,
        "box.fc_channels": (32, 48),
        "rpn.samples": 9,
        "rpn.anchors.ratios": (1.0,),
    }


def test_a_whole_dataclass_replaces_the_whole_stage():
    model = mrcnn.playground_rcnn(box=BoxSettings(nms_iou=0.4, fc_channels=(16, 16)), mask=None)
    assert model.settings.box == BoxSettings(nms_iou=0.4, fc_channels=(16, 16))
    assert model.settings.box.samples == 512  # the playground's own is 32
    assert model.settings.mask is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"box": {"nms_iuo": 0.4}}, "BoxSettings has no 'nms_iuo': did you mean 'nms_iou'"),
        ({"rpn": {"anchors": {"size": FIVE}}}, "AnchorSettings has no 'size': did you mean 'sizes'"),
        ({"boxes": {"nms_iou": 0.4}}, "playground_rcnn has no 'boxes': did you mean 'box'"),
        ({"trainable_stage": 3}, "did you mean 'trainable_stages'"),
        ({"box": {"zzzz": 1}}, "BoxSettings has no 'zzzz': it has positive_iou, samples"),
        ({"box": {"nms_iou": {"a": 1}}}, "nms_iou of BoxSettings must be"),
        ({"box": 0.4}, "box of ModelSettings must be BoxSettings"),
        ({"num_classes": -1}, "num_classes"),
    ],
)
def test_unknown_fields_are_named_with_the_nearest(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        mrcnn.playground_rcnn(**options)


def test_a_dict_for_a_stage_that_the_model_does_not_have():
    with pytest.raises(ValueError, match="mask of ModelSettings must be MaskSettings or None"):
        mrcnn.fasterrcnn_resnet50_fpn(mask={"hidden": 64})


@pytest.mark.parametrize("builder", ["playground_rcnn", "keypointrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2"])
def test_settings_survive_a_dict(builder):
    settings = getattr(mrcnn, builder)().settings
    assert ModelSettings.from_dict(asdict(settings)) == settings
    with pytest.raises(ValueError, match="backbone missing"):
        ModelSettings.from_dict({key: value for key, value in asdict(settings).items() if key != "backbone"})


# Frozen stages


def test_freezing_random_stages_is_told():
    with pytest.warns(UserWarning, match="trainable_stages=0 without weights"):
        model = mrcnn.playground_rcnn(trainable_stages=0)
    assert not any(parameter.requires_grad for parameter in model.backbone.body.parameters())


def test_freezing_pretrained_stages_is_not(recwarn, tmp_path):
    state = mrcnn.playground_rcnn().state_dict()
    torch.save(state, tmp_path / "model.pth")
    mrcnn.playground_rcnn(weights=tmp_path / "model.pth", trainable_stages=0)
    mrcnn.playground_rcnn(trainable_stages=5)
    assert [str(each.message) for each in recwarn] == []
