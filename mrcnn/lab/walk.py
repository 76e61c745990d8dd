"""One picture's way through the model with every tensor on the way kept; and changes to make before walking again.

`walk` calls what `MaskRCNN.forward` calls, in the same order, so that its result is the model's, to the last bit.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mrcnn import box_head, images, keypoint_head, roi_heads
from mrcnn.anchors import make_anchors
from mrcnn.fused_conv import use_fused_conv
from mrcnn.images import ImageBatch, ImageSettings
from mrcnn.model import MaskRCNN


@dataclasses.dataclass
class Walk:
    """Everything between a picture and the answer. Boxes are in pixels of the batch; N is 1, P proposals, K found."""

    image: Tensor  # (3, h, w), as it was given
    seen: Tensor  # uint8 (3, H, W): the pixels of the batch as a picture again
    batch: ImageBatch
    features: list[Tensor]  # P2 … P6: (1, C, H_l, W_l)
    anchors: list[Tensor]  # per level (A_l, 4)
    logits: list[Tensor]  # per level (1, A_l): is there an object?
    deltas: list[Tensor]  # per level (1, A_l, 4): where to move the anchor
    candidates: Tensor  # (B, 4): the moved anchors that go into NMS, by falling score
    proposals: Tensor  # (P, 4): those that come out
    pooled: Tensor  # (P, C, 7, 7)
    class_logits: Tensor  # (P, classes)
    class_deltas: Tensor  # (P, classes, 4)
    found: dict[str, Tensor]  # boxes (K, 4), labels (K,), scores (K,), masks (K, 1, M, M), keypoints (K, J, 3) …
    mask_logits: Tensor  # (K, classes, M, M)
    heatmaps: Tensor  # (K, J, H, H)
    result: dict[str, Tensor]  # the same in pixels of the picture as it was given, masks pasted

    @property
    def cells(self) -> list[tuple[int, int]]:
        """(height, width) of each level."""
        return [tuple(level.shape[2:]) for level in self.features]


@torch.no_grad()
def walk(model: MaskRCNN, image: Tensor) -> Walk:
    """The picture (3, h, w) through a joint model (boxes, masks, keypoints) in evaluation mode."""
    heads, settings = model.roi_heads, model.settings
    batch, _ = images.prepare([image], None, settings.images, training=False)
    features = model.backbone(batch.pixels)

    logits, deltas = model.rpn.head(features)
    sizes = [tuple(level.shape[2:]) for level in features]
    anchors = make_anchors(settings.rpn.anchors, tuple(batch.pixels.shape[2:]), sizes)
    anchors = [level.to(image.device) for level in anchors]
    with changed(model.rpn, "settings", nms_iou=1.0, post_nms_top_n_test=sum(map(len, anchors))):  # NMS lets all pass
        (candidates,) = model.rpn.propose(anchors, logits, deltas, batch.sizes)
    (proposals,) = model.rpn.propose(anchors, logits, deltas, batch.sizes)

    maps = features[:-1]
    stride = batch.pixels.shape[2] // maps[0].shape[2]
    pooled = roi_heads.multiscale_roi_align(maps, stride, [proposals], heads.box.resolution, heads.box.canonical_size)
    class_logits, class_deltas = heads.box_predictor(heads.box_head(pooled))
    scores = class_logits.softmax(-1)
    found = box_head.postprocess_detections(scores, class_deltas, proposals, batch.sizes[0], heads.box)

    mask_logits = heads.predict("mask", maps, stride, [found["boxes"]])
    rows = torch.arange(len(mask_logits), device=image.device)
    found["masks"] = mask_logits[rows, found["labels"]].sigmoid()[:, None]
    heatmaps = heads.predict("keypoint", maps, stride, [found["boxes"]])
    found["keypoints"], found["keypoints_scores"] = keypoint_head.heatmaps_to_keypoints(heatmaps, found["boxes"])

    result = model.roi_heads.restore(found, batch.sizes[0], batch.original_sizes[0])
    return Walk(
        image, seen(batch, settings.images), batch, features, anchors, logits, deltas, candidates, proposals, pooled,
        class_logits, class_deltas, found, mask_logits, heatmaps, result,
    )  # fmt: skip


def seen(batch: ImageBatch, settings: ImageSettings) -> Tensor:
    """The first picture of a batch with its normalisation undone: uint8 (3, H, W), to draw over."""
    pixels = batch.pixels[0]
    mean, std = (pixels.new_tensor(values)[:, None, None] for values in (settings.mean, settings.std))
    return ((pixels * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


@contextlib.contextmanager
def changed(module: nn.Module, settings: str, **values) -> Iterator[None]:
    """Inside the `with`, some of a module's settings have other values: changed(model.rpn, "settings", nms_iou=1.0)."""
    before = getattr(module, settings)
    setattr(module, settings, dataclasses.replace(before, **values))
    try:
        yield
    finally:
        setattr(module, settings, before)


def count_multiply_adds(run: Callable[[], object]) -> int:
    """How many multiplications, each with an addition, the convolutions and matrix products of `run()` make."""
    # torch's counter does not know fused convolutions.
    with torch.no_grad(), use_fused_conv(False), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() // 2  # it counts the multiplication and the addition as two


def erase(image: Tensor, mask: Tensor) -> Tensor:
    """The picture uint8 (3, H, W) without what `mask` (H, W) covers: the hole is filled from its rim inwards."""
    around = F.max_pool2d(mask[None].float(), 5, stride=1, padding=2)  # two pixels wider: the soft edge goes too
    known = 1 - around  # (1, H, W)
    pixels = image.float() * known
    while 0 < known.sum() < known.numel():
        count = F.avg_pool2d(known, 3, stride=1, padding=1, count_include_pad=True)
        mean = F.avg_pool2d(pixels, 3, stride=1, padding=1, count_include_pad=True) / count.clamp(min=1e-6)
        pixels = torch.where(known > 0, pixels, mean)
        known = (count > 1e-6).float()
    return pixels.round().to(torch.uint8)


def move(image: Tensor, mask: Tensor, right: int, down: int) -> Tensor:
    """The picture with what `mask` (H, W) covers moved by whole pixels; what leaves it comes back at the other side."""
    there = torch.roll(mask.bool(), (down, right), (0, 1))
    return torch.where(there, torch.roll(image, (down, right), (1, 2)), erase(image, mask))
