"""The second stage: what is in each proposal? Its class and exact box, its mask, its joints.

Box head: Fast R-CNN (Girshick, 2015). Mask and keypoint heads: Mask R-CNN (He et al., 2017), sections 3 and 5.
All three look at the pyramid through RoIAlign; none of them sees the others' work.
"""

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrcnn import boxes as box_maths
from mrcnn import ops
from mrcnn.checks import check_finite
from mrcnn.images import find_joints, seeded
from mrcnn.layers import ConvNorm, fully_connected
from mrcnn.rpn import SMOOTH_L1_BETA, mean_or_zero, sample
from mrcnn.settings import (
    Cells,
    Count,
    Length,
    MaybeCount,
    MaybeWidths,
    Positive,
    Settings,
    Share,
    Weights,
    Width,
    Widths,
    require,
)


@dataclass(frozen=True)
class BoxSettings(Settings):
    """Sampling, head and post-processing of the boxes (Fast R-CNN, section 2.3; FPN, section 5.2)."""

    positive_iou: Share = 0.5  # a proposal with at least this IoU has the class of its object; any other is background
    samples: Count = 512  # proposals per picture in the losses
    positive_fraction: Share = 0.25  # background is what a detector mostly sees
    resolution: Cells = 7
    conv_channels: MaybeWidths = ()  # convolutions before the first fully connected layer
    fc_channels: Widths = (1024, 1024)
    # About 1 / the deltas' standard deviations: they come out with unit variance, worth as much as the class loss.
    delta_weights: Weights = (10.0, 10.0, 5.0, 5.0)
    min_score: Share = 0.05
    min_size: Length = 1e-2
    nms_iou: Share = 0.5
    detections: Count = 100
    # FPN, eq. 1: a RoI of this side (ImageNet's pictures) is pooled from P4, one of half the side from P3.
    canonical_size: Positive = 224.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "fc_channels", self.conv_channels or len(self.fc_channels) == 2, "two without conv_channels")


@dataclass(frozen=True)
class MaskSettings(Settings):
    """Mask R-CNN, figure 4 right: twice the resolution of the pooled features, one map per class."""

    samples: MaybeCount = None  # positive proposals per picture in the loss, at most; None: all that the box head has
    resolution: Cells = 14
    channels: Widths = (256, 256, 256, 256)
    hidden: Width = 256


@dataclass(frozen=True)
class KeypointSettings(Settings):
    """Mask R-CNN, section 5: four times the resolution of the pooled features, one map per joint."""

    num_keypoints: Width = 17
    resolution: Cells = 14
    channels: Widths = (512,) * 8
    # Of every second convolution. Which knee is the left one shows in the face: a head of few layers sees as far as
    # from knee to face only with larger steps.
    dilation: Cells = 1
    loss_weight: Positive = 1.0


# Samples per bin and axis in RoIAlign: "four regularly sampled locations" (Mask R-CNN, section 3).
SAMPLING_RATIO = 2


def pool(features: list[Tensor], stride: int, boxes: list[Tensor], resolution: int, canonical_size: float) -> Tensor:
    """RoIAlign of each box from the pyramid level that fits its size: (K, C, resolution, resolution).

    features: maps (N, C, H_l, W_l), each half as fine as the one before. stride: of the first, in pixels.
    boxes: (K_i, 4) for each of the N pictures, in pixels of the batch; K is their sum.
    """
    rois = with_picture_index(boxes)  # (K, 5)
    levels = choose_levels(rois[:, 1:], stride, len(features), canonical_size)
    shape = (len(rois), features[0].shape[1], resolution, resolution)
    like = {"dtype": features[0].dtype, "device": features[0].device}
    pooled = torch.empty(shape, **like, memory_format=torch.channels_last)
    for index, level in enumerate(features):
        chosen = (levels == index).nonzero()[:, 0]
        scale = 1 / (stride * 2**index)
        pooled[chosen] = ops.roi_align(level, rois[chosen], resolution, scale, SAMPLING_RATIO)
    return pooled


def with_picture_index(boxes: list[Tensor]) -> Tensor:
    """Boxes (K_i, 4) of N pictures as one list of RoIs (K, 5) [picture, x1, y1, x2, y2]."""
    counts = torch.tensor([len(each) for each in boxes])
    pictures = torch.arange(len(boxes)).repeat_interleave(counts)[:, None]
    together = torch.cat(boxes)
    return torch.cat((pictures.to(together), together), dim=1)


def choose_levels(boxes: Tensor, stride: int, num_levels: int, canonical_size: float) -> Tensor:
    """Which pyramid level each box (K, 4) is pooled from, 0 for the finest: int64 (K,) (FPN, eq. 1)."""
    finest = stride.bit_length() - 1  # stride 4 is P2
    side = box_maths.area(boxes).sqrt()
    # A side just at the border may come out of the logarithm a rounding error below it: hence 1e-6.
    level = torch.floor(4 + torch.log2(side / canonical_size) + 1e-6)
    return level.clamp(finest, finest + num_levels - 1).to(torch.int64) - finest


class TwoLayerHead(nn.Module):
    """(K, C, r, r) -> (K, hidden): two fully connected layers (FPN, section 5.2)."""

    def __init__(self, channels: int, settings: BoxSettings):
        super().__init__()
        first, second = settings.fc_channels
        self.fc6 = nn.Linear(channels * settings.resolution**2, first)
        self.fc7 = nn.Linear(first, second)

    def forward(self, x: Tensor) -> Tensor:
        x = fully_connected(x, self.fc6)
        return F.relu_(self.fc7(x))


def conv_head(channels: int, settings: BoxSettings, norm: type) -> nn.Sequential:
    """(K, C, r, r) -> (K, hidden): convolutions, then fully connected layers (Group Normalization, section 4.2)."""
    layers: list[nn.Module] = []
    for width in settings.conv_channels:
        layers.append(initialised(ConvNorm(channels, width, 3, norm)))
        channels = width
    layers.append(nn.Flatten())
    width_in = channels * settings.resolution**2
    for width in settings.fc_channels:
        layers += [nn.Linear(width_in, width), nn.ReLU(inplace=True)]
        width_in = width
    return nn.Sequential(*layers)


class BoxPredictor(nn.Module):
    """(K, hidden) -> class logits (K, classes), background first, and deltas (K, classes, 4), one set per class."""

    def __init__(self, hidden: int, num_classes: int):
        super().__init__()
        self.cls_score = nn.Linear(hidden, num_classes)
        self.bbox_pred = nn.Linear(hidden, num_classes * 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(x).float(), self.bbox_pred(x).float().unflatten(1, (-1, 4))


def mask_head(channels: int, settings: MaskSettings, norm: type | None) -> nn.Sequential:
    """(K, C, r, r) -> (K, channels[-1], r, r): a small segmentation network inside each region."""
    widths = (channels, *settings.channels)
    pairs = itertools.pairwise(widths)
    return initialised(nn.Sequential(*(ConvNorm(before, after, 3, norm) for before, after in pairs)))


class MaskPredictor(nn.Module):
    """(K, C, r, r) -> mask logits (K, classes, 2r, 2r). Classes do not compete: each has its own sigmoid."""

    def __init__(self, settings: MaskSettings, num_classes: int):
        super().__init__()
        self.conv5_mask = initialised(nn.ConvTranspose2d(settings.channels[-1], settings.hidden, 2, stride=2))
        self.mask_fcn_logits = initialised(nn.Conv2d(settings.hidden, num_classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.mask_fcn_logits(F.relu_(self.conv5_mask(x)))


def keypoint_head(channels: int, settings: KeypointSettings, norm: type | None) -> nn.Sequential:
    """(K, C, r, r) -> (K, channels[-1], r, r): 3×3 convolutions, each with ReLU."""
    layers: list[nn.Module] = []
    for index, width in enumerate(settings.channels):
        dilation = settings.dilation if index % 2 else 1
        if norm:
            layers.append(ConvNorm(channels, width, 3, norm, dilation=dilation))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation), nn.ReLU(inplace=True)]
        channels = width
    return initialised(nn.Sequential(*layers))


class KeypointPredictor(nn.Module):
    """(K, C, r, r) -> heatmap logits (K, J, 4r, 4r): a transposed convolution, then bilinear enlargement."""

    def __init__(self, settings: KeypointSettings):
        super().__init__()
        deconv = nn.ConvTranspose2d(settings.channels[-1], settings.num_keypoints, 4, stride=2, padding=1)
        self.kps_score_lowres = initialised(deconv)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.kps_score_lowres(x).float(), scale_factor=2.0, mode="bilinear", align_corners=False)


def initialised(module: nn.Module) -> nn.Module:
    """Normal weights that keep the signal's variance through ReLU (He et al., 2015), zero biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module


@dataclass
class Samples:
    """A picture's sampled proposals: boxes (S, 4); labels (S,), 0 for background; objects (S,), rows of its target."""

    boxes: Tensor
    labels: Tensor
    objects: Tensor

    def positive(self, usable: Tensor | None = None, most: int | None = None) -> "Samples":
        """Those that hold an object; of these, only the objects that are `usable` (bool, one per object), and at most
        `most`. Samples stand in no order, so the first ones are any."""
        keep = self.labels > 0
        if usable is not None and len(usable):
            keep &= usable[self.objects]
        keep = keep.nonzero()[:most, 0]
        return Samples(self.boxes[keep], self.labels[keep], self.objects[keep])


class RoIHeads(nn.Module):
    """Box head, and with it or without: mask head, keypoint head."""

    def __init__(
        self,
        channels: int,
        num_classes: int,
        box: BoxSettings,
        mask: MaskSettings | None = None,
        keypoint: KeypointSettings | None = None,
        norm: type | None = None,
    ):
        super().__init__()
        self.box, self.mask, self.keypoint = box, mask, keypoint
        self.box_head = conv_head(channels, box, norm) if box.conv_channels else TwoLayerHead(channels, box)
        self.box_predictor = BoxPredictor(box.fc_channels[-1], num_classes)
        if mask:
            self.mask_head = mask_head(channels, mask, norm)
            self.mask_predictor = MaskPredictor(mask, num_classes)
        if keypoint:
            self.keypoint_head = keypoint_head(channels, keypoint, norm)
            self.keypoint_predictor = KeypointPredictor(keypoint)

    def train_step(
        self, features: list[Tensor], stride: int, proposals: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """The losses of all heads. Every head learns from the proposals, not from the boxes that the box head makes."""
        samples = [self.select(*each) for each in zip(proposals, targets, strict=True)]
        losses = box_losses(
            *self.predict_boxes(features, stride, [s.boxes for s in samples]), samples, targets, self.box
        )
        if self.mask:
            # An object without a mask (all zero) can teach the box head, but not this one.
            usable = [target["masks"].flatten(1).any(1).bool() for target in targets]
            positive = [s.positive(u, self.mask.samples) for s, u in zip(samples, usable, strict=True)]
            logits = self.predict_masks(features, stride, [s.boxes for s in positive])
            losses["loss_mask"] = mask_loss(logits, positive, targets)
        if self.keypoint:
            usable = [(target["keypoints"][..., 2] > 0).any(1) for target in targets]
            positive = [s.positive(u) for s, u in zip(samples, usable, strict=True)]
            logits = self.predict_keypoints(features, stride, [s.boxes for s in positive])
            losses["loss_keypoint"] = self.keypoint.loss_weight * keypoint_loss(logits, positive, targets)
        return losses

    def detect(
        self, features: list[Tensor], stride: int, proposals: list[Tensor], sizes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Per picture: boxes (K, 4) in pixels of the batch, labels (K,), scores (K,) falling; masks (K, 1, M, M),
        probabilities inside the box; keypoints (K, J, 3) in pixels of the batch and keypoints_scores (K, J).

        Masks and joints are predicted in the final boxes only (Mask R-CNN, section 3.1, inference).
        """
        logits, deltas = self.predict_boxes(features, stride, proposals)
        check_finite("boxes", logits, deltas)
        counts = [len(each) for each in proposals]
        per_picture = zip(logits.softmax(-1).split(counts), deltas.split(counts), proposals, sizes, strict=True)
        results = [choose_detections(*each, self.box) for each in per_picture]
        boxes = [result["boxes"] for result in results]
        counts = [len(each) for each in boxes]
        if self.mask:
            masks = self.predict_masks(features, stride, boxes)
            labels = torch.cat([result["labels"] for result in results])
            masks = masks[torch.arange(len(labels), device=labels.device), labels].float()[:, None]
            check_finite("masks", masks)
            for result, each in zip(results, masks.sigmoid().split(counts), strict=True):
                result["masks"] = each
        if self.keypoint:
            heatmaps = self.predict_keypoints(features, stride, boxes)
            check_finite("keypoints", heatmaps)
            for result, each in zip(results, heatmaps.split(counts), strict=True):
                result["keypoints"], result["keypoints_scores"] = find_joints(each, result["boxes"])
        return results

    @torch.no_grad()
    def select(self, proposals: Tensor, target: dict[str, Tensor]) -> Samples:
        """Labels a picture's proposals by the objects they cover, and draws those that the losses see.

        The true boxes are proposals too: at the start of training hardly another would be positive.
        """
        proposals = torch.cat((proposals, target["boxes"]))
        objects, _ = ops.match_anchors(proposals, target["boxes"], self.box.positive_iou, self.box.positive_iou)
        random = seeded(target, proposals.device)
        rows = torch.cat(sample(objects >= 0, objects < 0, self.box.samples, self.box.positive_fraction, random))
        objects = objects[rows]
        if len(target["labels"]) == 0:
            return Samples(proposals[rows], torch.zeros_like(objects), objects.clamp(min=0))
        labels = torch.where(objects >= 0, target["labels"][objects.clamp(min=0)], 0)
        return Samples(proposals[rows], labels, objects.clamp(min=0))

    def predict_boxes(self, features: list[Tensor], stride: int, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        pooled = pool(features, stride, boxes, self.box.resolution, self.box.canonical_size)
        return self.box_predictor(self.box_head(pooled))

    def predict_masks(self, features: list[Tensor], stride: int, boxes: list[Tensor]) -> Tensor:
        pooled = pool(features, stride, boxes, self.mask.resolution, self.box.canonical_size)
        return self.mask_predictor(self.mask_head(pooled))

    def predict_keypoints(self, features: list[Tensor], stride: int, boxes: list[Tensor]) -> Tensor:
        pooled = pool(features, stride, boxes, self.keypoint.resolution, self.box.canonical_size)
        return self.keypoint_predictor(self.keypoint_head(pooled))


def box_losses(
    logits: Tensor, deltas: Tensor, samples: list[Samples], targets: list[dict[str, Tensor]], settings: BoxSettings
) -> dict[str, Tensor]:
    """The class by cross entropy, and the box, of the true class only, by smooth L1 (Fast R-CNN, eq. 1).

    logits (S, classes), deltas (S, classes, 4), S the samples of all pictures.
    """
    labels = torch.cat([s.labels for s in samples])
    positive = labels.nonzero()[:, 0]
    kept = [s.positive() for s in samples]
    true_boxes = torch.cat([t["boxes"][k.objects] for t, k in zip(targets, kept, strict=True)])
    wanted = box_maths.encode(true_boxes, torch.cat([k.boxes for k in kept]), settings.delta_weights)
    box_loss = F.smooth_l1_loss(deltas[positive, labels[positive]], wanted, beta=SMOOTH_L1_BETA, reduction="sum")
    return {
        "loss_classifier": mean_or_zero(F.cross_entropy(logits, labels, reduction="sum"), len(labels)),
        "loss_box_reg": mean_or_zero(box_loss, len(labels)),
    }


def choose_detections(
    scores: Tensor, deltas: Tensor, proposals: Tensor, size: tuple[int, int], settings: BoxSettings
) -> dict[str, Tensor]:
    """A picture's final boxes (K, 4), labels (K,) and scores (K,), from scores (P, classes) and deltas (P, classes, 4).

    A proposal may become several detections, one per class: NMS never compares two classes.
    """
    rows, labels = (scores[:, 1:] > settings.min_score).nonzero(as_tuple=True)
    labels = labels + 1  # background, class 0, was left out
    boxes = box_maths.decode(deltas[rows, labels], proposals[rows], settings.delta_weights)
    boxes, scores = box_maths.clip(boxes, size), scores[rows, labels]
    valid = box_maths.large_enough(boxes, settings.min_size)
    boxes, scores, labels = boxes[valid], scores[valid], labels[valid]
    keep = ops.batched_nms(boxes, scores, labels, settings.nms_iou)[: settings.detections]
    return {"boxes": boxes[keep], "labels": labels[keep], "scores": scores[keep]}


def mask_loss(logits: Tensor, samples: list[Samples], targets: list[dict[str, Tensor]]) -> Tensor:
    """Per-pixel binary cross entropy on the true class's map (Mask R-CNN, section 3).

    logits: (S, classes, M, M). The true mask is cut out with RoIAlign too, and stays soft at its edges.
    """
    resolution = logits.shape[-1]
    wanted = []
    for picture, target in zip(samples, targets, strict=True):
        masks = target["masks"].float()[:, None]  # (G, 1, H, W)
        rois = torch.cat((picture.objects[:, None].float(), picture.boxes), dim=1)
        wanted.append(ops.roi_align(masks, rois, resolution)[:, 0])
    labels = torch.cat([s.labels for s in samples])[:, None, None, None]
    # Along the last dimension of the map as it lies in memory: so will its gradient, which saves the copies.
    chosen = logits.permute(0, 2, 3, 1).gather(3, labels.expand(-1, resolution, resolution, 1))[..., 0].float()
    total = F.binary_cross_entropy_with_logits(chosen, torch.cat(wanted), reduction="sum")
    return mean_or_zero(total, chosen.numel())


def keypoint_loss(logits: Tensor, samples: list[Samples], targets: list[dict[str, Tensor]]) -> Tensor:
    """Which cell holds the joint? Cross entropy over all cells of its heatmap (Mask R-CNN, section 5).

    logits: (S, J, M, M). Joints that are not labelled, or outside the region, do not count.
    """
    resolution = logits.shape[-1]
    pairs = [
        joint_cells(target["keypoints"][picture.objects], picture.boxes, resolution)
        for picture, target in zip(samples, targets, strict=True)
    ]
    cells, valid = (torch.cat(each) for each in zip(*pairs, strict=True))  # (S, J)
    total = F.cross_entropy(logits.flatten(2)[valid], cells[valid], reduction="sum")
    return mean_or_zero(total, int(valid.sum()))


def joint_cells(keypoints: Tensor, boxes: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """The heatmap cell of each joint: row · resolution + column, int64 (K, J), and whether it counts, bool (K, J).

    keypoints (K, J, 3) [x, y, v] and boxes (K, 4) in the same pixels. A joint just on the right or lower edge belongs
    to the last cell.
    """
    low, high = boxes[:, None, :2], boxes[:, None, 2:]  # (K, 1, 2)
    point = keypoints[..., :2]
    cell = ((point - low) * (resolution / (high - low))).floor()
    cell = torch.where(point == high, resolution - 1, cell)
    inside = ((cell >= 0) & (cell < resolution)).all(-1)
    column, row = cell.clamp(0, resolution - 1).to(torch.int64).unbind(-1)
    return row * resolution + column, inside & (keypoints[..., 2] > 0)
