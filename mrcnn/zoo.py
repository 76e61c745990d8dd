"""The models by name, and from their files. Each builder is a few settings for `mrcnn.model.MaskRCNN`; nothing else
differs.

num_classes: with the background. None: as a model.pt or a file of detectron2's has, else as the published models;
`playground_rcnn` has 7 if nothing else is said. num_keypoints: 17 if nothing else is said.
weights: None, "COCO_V1" (torchvision's published weights, downloaded once and cached), a path to such a file or to a
training checkpoint that holds one, to one of detectron2's (`mrcnn.detectron2`), a model.pt of ours, or "playground".
With other numbers of classes or keypoints than theirs, the last layers of the heads start afresh and all others are
taken over, with a warning that names them. From a model.pt of the same builder the settings are taken over too:
pictures are seen at the size they were trained at. With a file of detectron2's come the settings that it needs.
backbone_weights: None, "IMAGENET1K_V1" or a path: a ResNet classification checkpoint, for the backbone alone.
trainable_stages: how many of the body's five stages are trained, from the last; by default 3 of a pretrained body and
all of one that starts from scratch. stages: `backbone`, `images`, `rpn`, `box`, `mask` or `keypoint` settings instead
of the builder's own; a dict, as in `box={"nms_iou": 0.4}` or `rpn={"anchors": {"ratios": (1.0,)}}`, changes just its
fields.
"""

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from mrcnn import detectron2, model_file
from mrcnn.anchors import AnchorSettings
from mrcnn.backbone import BackboneSettings, freeze_stages
from mrcnn.box_head import BoxSettings
from mrcnn.errors import CheckpointError
from mrcnn.images import ImageSettings
from mrcnn.keypoint_head import KeypointSettings
from mrcnn.mask_head import MaskSettings
from mrcnn.model import MaskRCNN, ModelSettings
from mrcnn.rpn import RPNSettings
from mrcnn.settings import changed, refuse_unknown
from mrcnn.weights import (
    load_classifier,
    published_backbone,
    published_labels,
    published_weights,
    read_weights,
    start_from,
)

# Of a pretrained body, how many stages are trained if nothing else is said.
PRETRAINED_STAGES = 3
# The published keypoint model knows people and background, and was trained on these sizes of the short side.
PEOPLE = 2
KEYPOINT_SIZES = ImageSettings(min_size=(640, 672, 704, 736, 768, 800))
V2_BACKBONE = BackboneSettings(frozen_norm=False, head_norm=True)
V2_RPN = RPNSettings(conv_depth=2)
V2_BOX = BoxSettings(conv_channels=(256, 256, 256, 256), fc_channels=(1024,))


def fasterrcnn_resnet50_fpn(num_classes: int | None = None, **options) -> MaskRCNN:
    """Boxes (Ren et al., 2015; Lin et al., 2017)."""
    return make("fasterrcnn_resnet50_fpn", ModelSettings(), num_classes, **options)


def maskrcnn_resnet50_fpn(num_classes: int | None = None, **options) -> MaskRCNN:
    """Boxes and masks (He et al., 2017)."""
    return make("maskrcnn_resnet50_fpn", ModelSettings(mask=MaskSettings()), num_classes, **options)


def maskrcnn_resnet101_fpn(num_classes: int | None = None, **options) -> MaskRCNN:
    """Boxes and masks with the deeper ResNet-101."""
    settings = ModelSettings(backbone=BackboneSettings("resnet101"), mask=MaskSettings())
    return make("maskrcnn_resnet101_fpn", settings, num_classes, **options)


def keypointrcnn_resnet50_fpn(num_classes: int | None = None, num_keypoints: int = 17, **options) -> MaskRCNN:
    """Boxes and keypoints of people (He et al., 2017, section 5)."""
    settings = ModelSettings(PEOPLE, images=KEYPOINT_SIZES, keypoint=KeypointSettings(num_keypoints))
    return make("keypointrcnn_resnet50_fpn", settings, num_classes, **options)


def jointrcnn_resnet50_fpn(num_classes: int | None = None, num_keypoints: int = 17, **options) -> MaskRCNN:
    """Boxes, masks and keypoints in one model: the heads share backbone and proposals, the losses add up."""
    settings = ModelSettings(mask=MaskSettings(), keypoint=KeypointSettings(num_keypoints))
    return make("jointrcnn_resnet50_fpn", settings, num_classes, **options)


def fasterrcnn_resnet50_fpn_v2(num_classes: int | None = None, **options) -> MaskRCNN:
    """Boxes, with batch norm throughout and a convolutional box head (Li et al., 2021)."""
    settings = ModelSettings(backbone=V2_BACKBONE, rpn=V2_RPN, box=V2_BOX)
    return make("fasterrcnn_resnet50_fpn_v2", settings, num_classes, **options)


def maskrcnn_resnet50_fpn_v2(num_classes: int | None = None, **options) -> MaskRCNN:
    """Boxes and masks, with batch norm throughout and a convolutional box head (Li et al., 2021)."""
    settings = ModelSettings(backbone=V2_BACKBONE, rpn=V2_RPN, box=V2_BOX, mask=MaskSettings())
    return make("maskrcnn_resnet50_fpn_v2", settings, num_classes, **options)


def playground_rcnn(num_classes: int = 7, num_keypoints: int = 17, pretrained: bool = False, **options) -> MaskRCNN:
    """Boxes, masks and keypoints, small enough to be trained on two CPU cores in minutes; pictures of about 128 pixels.

    pretrained: the trained model that comes with the package (mrcnn/pretrained), in evaluation mode. It has its own
    classes and keypoints; to start from it with others, train with `weights="playground"`.
    """
    if pretrained:
        if (num_classes, num_keypoints) != (7, 17) or options:
            got = {"num_classes": num_classes, "num_keypoints": num_keypoints, **options}
            raise ValueError(
                "pretrained=True gives the playground's own model, of 7 classes and 17 keypoints, and no other "
                f"settings; got {', '.join(f'{name}={value}' for name, value in got.items())}"
            )
        return load_model("playground")
    settings = ModelSettings(
        num_classes,
        BackboneSettings("playground", channels=64, frozen_norm=False, head_norm=True),
        # Playground scenes are seen as they are; a photograph is brought to their scale.
        images=ImageSettings(min_size=(128,), max_size=256),
        rpn=RPNSettings(
            anchors=AnchorSettings(sizes=((12,), (24,), (40,), (64,), (96,))),
            samples=128,
            pre_nms_top_n_train=256,
            pre_nms_top_n_test=256,
            post_nms_top_n_train=128,
            post_nms_top_n_test=128,
        ),
        box=BoxSettings(samples=32, fc_channels=(256, 256)),
        mask=MaskSettings(channels=(64, 64), hidden=64),
        keypoint=KeypointSettings(num_keypoints, channels=(64,) * 6, dilation=3),
    )
    return make("playground_rcnn", settings, num_classes, **options)


BUILDERS: dict[str, Callable[..., MaskRCNN]] = {
    builder.__name__: builder
    for builder in (
        fasterrcnn_resnet50_fpn,
        maskrcnn_resnet50_fpn,
        maskrcnn_resnet101_fpn,
        keypointrcnn_resnet50_fpn,
        jointrcnn_resnet50_fpn,
        fasterrcnn_resnet50_fpn_v2,
        maskrcnn_resnet50_fpn_v2,
        playground_rcnn,
    )
}


def make(
    builder: str,
    settings: ModelSettings,
    num_classes: int | None = None,
    weights: str | Path | None = None,
    backbone_weights: str | Path | None = None,
    trainable_stages: int | None = None,
    **stages,
) -> MaskRCNN:
    """What all builders share: the model of these settings, its weights loaded and its first stages frozen."""
    names = [*(field.name for field in fields(settings)), "weights", "backbone_weights", "trainable_stages"]
    refuse_unknown(stages, names, builder)
    source = None if weights is None else read_source(builder, settings, weights)
    if source is not None and source.settings is not None:
        settings = as_trained(settings, source.settings, source.builder == builder)
    if num_classes is not None:
        stages["num_classes"] = num_classes
    settings = changed(settings, stages)
    model = MaskRCNN(builder, settings)
    if source is not None:
        take_over(model, source)
    elif backbone_weights is not None:
        load_classifier(model, published_backbone(settings.backbone.body, backbone_weights))
    from_scratch = weights is None and backbone_weights is None
    if trainable_stages is None and not from_scratch:
        trainable_stages = PRETRAINED_STAGES
    if trainable_stages is None:
        return model
    frozen = freeze_stages(model.backbone.body, trainable_stages)
    if from_scratch and frozen:
        warnings.warn(
            f"trainable_stages={trainable_stages} without weights freezes stages of random weights: "
            f"give weights or backbone_weights, or train all {trainable_stages + len(frozen)}",
            stacklevel=3,
        )
    return model


@dataclass(frozen=True)
class Source:
    """Weights to start from, and what their outputs mean; of a model file, ours or detectron2's, also its builder and
    its settings."""

    state: dict[str, Tensor]
    builder: str | None = None
    settings: ModelSettings | None = None
    labels: dict[str, list] | None = None


def read_source(builder: str, settings: ModelSettings, weights: str | Path) -> Source:
    """What the file, or the name, of weights for a builder with these settings holds."""
    if isinstance(weights, str | Path) and model_file.is_ours(weights):
        return source_of(weights)
    state = read_weights(published_weights(builder, weights))
    if not detectron2.recognises(state):
        return Source(state, labels=published_labels(state))
    trained = detectron2.settings_of(state, settings)
    return Source(detectron2.translated(state), builder, trained, detectron2.labels_of(trained.num_classes))


def source_of(path: str | Path) -> Source:
    """What a model file holds. Raises CheckpointError."""
    contents = model_file.read(path)
    builder, settings = config_of(contents, path)
    return Source(contents["state_dict"], builder, settings, labels_of(contents, settings.num_classes, path))


def as_trained(settings: ModelSettings, trained: ModelSettings, same_builder: bool) -> ModelSettings:
    """The settings of a trained model with the heads and the keypoints of a builder's; from another builder's model
    only the classes, and eps, without which its weights give other numbers."""
    if not same_builder:
        backbone = replace(settings.backbone, eps=trained.backbone.eps)
        return replace(settings, num_classes=trained.num_classes, backbone=backbone)
    mask, keypoint = settings.mask, settings.keypoint
    if mask and trained.mask:
        mask = trained.mask
    if keypoint and trained.keypoint:
        keypoint = replace(trained.keypoint, num_keypoints=keypoint.num_keypoints)
    return replace(trained, mask=mask, keypoint=keypoint)


def take_over(model: MaskRCNN, source: Source) -> None:
    """Loads the weights into a new model, and warns of the last layers that start afresh."""
    fresh = start_from(model, source.state)
    if not fresh:
        model.labels = source.labels
        return
    layers = dict.fromkeys(name.rpartition(".")[0] for name in fresh)
    warnings.warn(
        f"start afresh, for the weights are of other numbers of classes or keypoints: {', '.join(layers)}",
        stacklevel=4,  # where the builder is called
    )


def build(name: str, settings: dict | None = None, **arguments) -> MaskRCNN:
    """The model of a builder's name ("playground" for short), from its arguments or, as in a checkpoint, from the
    settings of `model.config`. Arguments that are None, or that the builder does not take, are left out, so that the
    builder's own values hold: for a model without masks call the builder, `playground_rcnn(mask=None)`.
    """
    name = builders_name(name)
    if settings is not None:
        return make(name, ModelSettings.from_dict(settings))
    builder = BUILDERS[name]
    takes_keypoints = "num_keypoints" in inspect.signature(builder).parameters
    if not takes_keypoints:
        arguments.pop("num_keypoints", None)
    return builder(**{key: value for key, value in arguments.items() if value is not None})


def builders_name(name: str) -> str:
    """The builder of a model's name. Raises ValueError where there is none."""
    name = "playground_rcnn" if name == "playground" else name
    if not isinstance(name, str) or name not in BUILDERS:
        raise ValueError(f"there is no model {name!r}; the models are {', '.join(['playground', *BUILDERS])}")
    return name


def load_model(path: str | Path) -> MaskRCNN:
    """The model of a model file or a checkpoint, or "playground", which comes with the package; on the CPU, in
    evaluation mode. Raises CheckpointError."""
    source = source_of(path)
    model = make(source.builder, source.settings)
    model_file.load_weights(model, source.state, str(path))
    model.labels = source.labels
    return model.eval()


def labels_of(contents: dict[str, Any], num_classes: int, source: str | Path) -> dict[str, list] | None:
    """What the outputs mean, if the contents of a file say it. Raises CheckpointError where they are wrong."""
    try:
        return model_file.checked_labels(contents["labels"], num_classes)
    except ValueError as error:
        raise CheckpointError(f"{source}: {error}") from error


def config_of(contents: dict[str, Any], source: str | Path) -> tuple[str, ModelSettings]:
    """The builder's name and the settings in the contents of a file. Raises CheckpointError where they are wrong."""
    try:
        config = contents["config"]
        builder = builders_name(config["builder"])
        return builder, ModelSettings.from_dict(config["arguments"]["settings"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: its model cannot be built by this version of mrcnn ({error})") from error
