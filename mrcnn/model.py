"""Mask R-CNN, whole: normalise → backbone → proposals → box → mask → keypoint.

Read `forward` first. Every step is one file of this package, in this order: images, backbone, anchors and boxes, rpn,
box_head, roi_heads, mask_head, keypoint_head. Boxes, masks and keypoints come from one model in one forward pass (Mask
R-CNN, He et al., 2017); the mask head, the keypoint head or both can be left out.
"""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from mrcnn import fused_conv
from mrcnn import images as image_maths
from mrcnn.backbone import LEVELS, STRIDE, BackboneSettings, make_backbone
from mrcnn.box_head import BoxSettings
from mrcnn.images import ImageSettings
from mrcnn.keypoint_head import KeypointSettings
from mrcnn.mask_head import MaskSettings
from mrcnn.pictures import to_tensor
from mrcnn.processor import without_slow_autocast
from mrcnn.roi_heads import Head, HeadSettings, RoIHeads
from mrcnn.rpn import RegionProposalNetwork, RPNSettings
from mrcnn.settings import Settings, changed, optional, require, whole
from mrcnn.validation import check_finite, check_images, check_targets


@dataclass(frozen=True)
class ModelSettings(Settings):
    """Everything that is needed to build a model again, stage by stage. A head whose settings are None is left out."""

    num_classes: Annotated[int, whole(2, 10_000)] = 91  # with the background
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    images: ImageSettings = field(default_factory=ImageSettings)
    rpn: RPNSettings = field(default_factory=RPNSettings)
    box: BoxSettings = field(default_factory=BoxSettings)
    mask: MaskSettings | None = None
    keypoint: KeypointSettings | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = self.rpn.anchors.sizes
        require(self.rpn.anchors, "sizes", len(sizes) == LEVELS, f"sizes for the {LEVELS} levels of the pyramid")

    def heads(self) -> list[Head]:
        """The heads beside the box head."""
        values = [getattr(self, each.name) for each in fields(self)]
        return [value.head() for value in values if isinstance(value, HeadSettings)]

    def with_changes(self, changes: dict[str, Any]) -> "ModelSettings":
        """These settings with others in place of some (`mrcnn.settings.changed`), also of a head that is left out here:
        the rest of its settings are then the default ones."""
        heads = optional(type(self))
        absent = [name for name in heads if getattr(self, name) is None and changes.get(name) is not None]
        added = {name: heads[name]() for name in absent}
        return changed(replace(self, **added), changes)

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "ModelSettings":
        """The inverse of `to_dict`, also after a trip through JSON, which makes lists of tuples."""
        missing = [each.name for each in fields(cls) if each.name not in values]
        if missing:
            raise ValueError(f"a model's settings must name every stage; {', '.join(missing)} missing")
        return cls().with_changes(values)


class MaskRCNN(nn.Module):
    """Finds objects: their boxes and, with the heads for it, their masks and keypoints.

    builder: the name of the builder in `mrcnn.zoo`. settings: one small dataclass per stage. labels: what the numbers
    mean (category names, keypoint names, skeleton), set by training; None until then.

    A body of your own (torchvision's, timm's) is put into `mrcnn.backbone.BODIES` and named in the settings; a head of
    your own is a subclass of `mrcnn.roi_heads.Head`. Such a model is trained, saved and built again as any other.
    """

    def __init__(self, builder: str, settings: ModelSettings):
        super().__init__()
        self.builder = builder
        self.settings = settings
        self.labels: dict | None = None
        self.backbone = make_backbone(settings.backbone)
        channels = self.backbone.channels
        head_norm = nn.BatchNorm2d if settings.backbone.head_norm else None
        self.rpn = RegionProposalNetwork(channels, settings.rpn)
        self.roi_heads = RoIHeads(channels, settings.num_classes, settings.box, settings.heads(), head_norm)

    @property
    def config(self) -> dict:
        """How `mrcnn.zoo.build` makes this model again: build(config["builder"], **config["arguments"])."""
        return {"builder": self.builder, "arguments": {"settings": self.settings.to_dict()}}

    @without_slow_autocast
    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """In training, the losses; in evaluation, what is in each picture.

        images: list of N tensors (3, H_i, W_i), float in [0, 1] or uint8, RGB, of any sizes.
        targets (training only): per picture a dict of boxes float (K, 4) [x1, y1, x2, y2] in pixels of that picture,
            labels int64 (K,), 1 … num_classes - 1; masks (K, H_i, W_i), 0 or 1, for a model with a mask head (all zero
            where an object has none); keypoints float (K, J, 3) [x, y, v] for one with a keypoint head (v 0 where a
            keypoint is not labelled). K may be 0. Also exact, bool (K,), if there is one: an object that is False has a
            box that is only about right, from which the losses of boxes do not learn.
        Returns, in training, a dict of scalars: loss_objectness, loss_rpn_box_reg, loss_classifier, loss_box_reg,
            loss_mask, loss_keypoint. In evaluation, per picture a dict of boxes (K, 4) in pixels of that picture,
            labels (K,), scores (K,) falling, masks float (K, 1, H_i, W_i) in [0, 1], keypoints (K, J, 3) [x, y, 1]
            and keypoints_scores (K, J).
        Raises ValueError or TypeError with a sentence that names the argument, what was expected, and what came.
        """
        check_images(images)
        if self.training:
            check_targets(targets, images, self.settings.num_classes, self.roi_heads.heads.values())

        batch, targets = image_maths.prepare(images, targets, self.settings.images, self.training)
        dtype = next(self.parameters()).dtype
        if batch.pixels.dtype != dtype:  # as NumPy's numbers, float64, are
            batch.pixels = batch.pixels.to(dtype)
        features = self.backbone(batch.pixels)  # P2 … P6
        if not self.training:
            check_finite("features", *features)
        proposals, losses = self.rpn(batch, features, targets)

        features = features[:-1]  # P6 has too few cells to pool from; it only proposes
        if self.training:
            return losses | self.roi_heads.train_step(features, STRIDE, proposals, targets)
        results = self.roi_heads.detect(features, STRIDE, proposals, batch.sizes)
        per_picture = zip(results, batch.sizes, batch.original_sizes, strict=True)
        return [self.roi_heads.restore(*each) for each in per_picture]

    @torch.no_grad()
    def predict(self, pictures: Any, min_score: float = 0.0) -> dict[str, Any] | list[dict[str, Any]]:
        """What is in pictures of any form, in evaluation and without gradients, whatever mode the model is in.

        pictures: a path, a Pillow picture, an array uint8 (H, W, 3) or (H, W), a tensor as for `forward`, or a list of
            these.
        Returns for one picture a dict, for a list a list of dicts, of the objects with at least `min_score`: what
        `forward` gives in evaluation, and `names`, the category of each label (its number, where the model has no
        names). One picture is looked at after the other, so that no answer depends on its neighbours.
        Raises PictureError for a file that cannot be read, ValueError or TypeError for what is no picture.
        """
        if not 0 <= min_score <= 1:
            raise ValueError(f"min_score must be 0 to 1, got {min_score}")
        if isinstance(pictures, list | tuple):
            return [self.predict(picture, min_score) for picture in pictures]
        device = next(self.parameters()).device
        with evaluating(self):
            (result,) = self([to_tensor(pictures).to(device)])
        keep = result["scores"] >= min_score
        result = {name: value[keep] for name, value in result.items()}
        names = self.labels["categories"] if self.labels else list(map(str, range(self.settings.num_classes)))
        return result | {"names": [names[label] for label in result["labels"].tolist()]}

    # The weights are about to change or to lie idle: what fused_conv keeps of them is dropped.

    def train(self, mode: bool = True) -> "MaskRCNN":
        if mode != self.training:
            fused_conv.forget(self)
        return super().train(mode)

    def load_state_dict(self, *args, **options):
        fused_conv.forget(self)
        return super().load_state_dict(*args, **options)

    def _apply(self, *args, **options) -> "MaskRCNN":  # what to(), float(), cuda() and the like come down to
        fused_conv.forget(self)
        return super()._apply(*args, **options)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside the `with` a model is in evaluation mode; afterwards each of its parts is in the mode that it was in. Of
    threads that share a model, the last one to leave puts the modes back."""
    with _lock:
        users, modes = _evaluated.get(model) or (0, {module: module.training for module in model.modules()})
        if users == 0 and any(modes.values()):
            model.eval()
        _evaluated[model] = users + 1, modes
    try:
        yield
    finally:
        with _lock:
            users, modes = _evaluated.pop(model)
            if users > 1:
                _evaluated[model] = users - 1, modes
            else:
                for module, mode in modes.items():
                    module.training = mode


_lock = threading.Lock()
_evaluated: dict[nn.Module, tuple[int, dict[nn.Module, bool]]] = {}  # how many are inside, and the modes before
