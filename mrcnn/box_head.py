"""The box head: what is in each proposal, and where exactly? (Fast R-CNN, Girshick, 2015)

A class and a box for every proposal: softmax over the classes, and a set of deltas for each of them.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrcnn import boxes as box_maths
from mrcnn import ops
from mrcnn.layers import ConvNorm, fully_connected, initialised
from mrcnn.sampling import Samples, exact, mean_or_zero
from mrcnn.settings import Cells, Count, Length, MaybeWidths, Positive, Settings, Share, Weights, Widths, require, whole


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
    # Of RoIAlign, for all heads. Samples per bin and axis: "four regularly sampled locations" (Mask R-CNN, section 3);
    # 0: as many as the bin has cells. aligned: a sample falls where its pixel's middle is. Without, half a cell below
    # and to the right of it, as models trained before this was known expect, torchvision's among them.
    sampling_ratio: Annotated[int, whole(0, 4096)] = 2
    aligned: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "fc_channels", self.conv_channels or len(self.fc_channels) == 2, "two without conv_channels")


def make_box_head(channels: int, settings: BoxSettings, norm: type | None) -> nn.Module:
    """(K, C, r, r) -> (K, hidden), with convolutions if the settings have some."""
    return conv_head(channels, settings, norm) if settings.conv_channels else TwoLayerHead(channels, settings)


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


def box_losses(
    logits: Tensor, deltas: Tensor, samples: list[Samples], targets: list[dict[str, Tensor]], settings: BoxSettings
) -> dict[str, Tensor]:
    """The class by cross entropy, and the box, of the true class only, by smooth L1 (Fast R-CNN, eq. 1), from those
    objects whose box is exact.

    logits (S, classes), deltas (S, classes, 4), S the samples of all pictures.
    """
    labels = torch.cat([s.labels for s in samples])
    kept = [s.positive() for s in samples]
    learnt = torch.cat([exact(t)[k.objects] for t, k in zip(targets, kept, strict=True)])
    positive = labels.nonzero()[learnt, 0]
    true_boxes = torch.cat([t["boxes"][k.objects] for t, k in zip(targets, kept, strict=True)])
    wanted = box_maths.encode(true_boxes[learnt], torch.cat([k.boxes for k in kept])[learnt], settings.delta_weights)
    box_loss = F.smooth_l1_loss(
        deltas[positive, labels[positive]], wanted, beta=box_maths.SMOOTH_L1_BETA, reduction="sum"
    )
    return {
        "loss_classifier": mean_or_zero(F.cross_entropy(logits, labels, reduction="sum"), len(labels)),
        "loss_box_reg": mean_or_zero(box_loss, len(labels)),
    }


def postprocess_detections(
    scores: Tensor, deltas: Tensor, proposals: Tensor, size: tuple[int, int], settings: BoxSettings
) -> dict[str, Tensor]:
    """A picture's final boxes (K, 4), labels (K,) and scores (K,), from scores (P, classes) and deltas (P, classes, 4).

    A proposal may become several detections, one per class: NMS never compares two classes.
    """
    rows, labels = (scores[:, 1:] > settings.min_score).nonzero(as_tuple=True)
    labels = labels + 1  # background, class 0, was left out
    boxes = box_maths.decode(deltas[rows, labels], proposals[rows], settings.delta_weights)
    boxes, scores = box_maths.clip(boxes, size), scores[rows, labels]
    valid = box_maths.large_enough(boxes, settings.min_size).nonzero()[:, 0]
    boxes, scores, labels = boxes[valid], scores[valid], labels[valid]
    keep = ops.batched_nms(boxes, scores, labels, settings.nms_iou)[: settings.detections]
    return {"boxes": boxes[keep], "labels": labels[keep], "scores": scores[keep]}
