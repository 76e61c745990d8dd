"""The region proposal network: for every anchor, is there an object, and how must the box move to fit it?

Faster R-CNN (Ren et al., 2015), section 3; one head shared by all levels of the pyramid (FPN, section 4.1).
"""

from dataclasses import dataclass, field
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrcnn import boxes as box_maths
from mrcnn import ops
from mrcnn.anchors import AnchorSettings, make_anchors
from mrcnn.images import ImageBatch
from mrcnn.layers import ConvNorm
from mrcnn.sampling import exact, mean_or_zero, sample, seeded
from mrcnn.settings import Count, Length, Settings, Share, require, whole
from mrcnn.validation import check_finite


@dataclass(frozen=True)
class RPNSettings(Settings):
    """Faster R-CNN's section 3 and FPN's section 5.1, as in the published models."""

    anchors: AnchorSettings = field(default_factory=AnchorSettings)
    conv_depth: Annotated[int, whole(0, 64)] = 1
    positive_iou: Share = 0.7  # an anchor with at least this IoU is an object; so is every object's best anchor
    negative_iou: Share = 0.3  # with less than this, background; in between it is left out of the loss
    samples: Count = 256  # anchors per picture in the loss: 268,569 would drown the few objects
    positive_fraction: Share = 0.5
    pre_nms_top_n_train: Count = 2000  # the best of each level that go into NMS
    pre_nms_top_n_test: Count = 1000
    post_nms_top_n_train: Count = 2000  # the best of all levels that come out of it
    post_nms_top_n_test: Count = 1000
    nms_iou: Share = 0.7
    min_size: Length = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "negative_iou", self.negative_iou <= self.positive_iou, "at most positive_iou")


# The anchors' deltas are used as they are: the published models scale only the box head's.
DELTA_WEIGHTS = (1.0, 1.0, 1.0, 1.0)


class RPNHead(nn.Module):
    """A 3×3 convolution, then per anchor one objectness logit and four deltas.

    forward: maps (N, C, H_l, W_l) of L levels -> logits (N, H_l·W_l·A) and deltas (N, H_l·W_l·A, 4) of each level,
    in the order of `make_anchors`.
    """

    def __init__(self, channels: int, anchors_per_cell: int, depth: int):
        super().__init__()
        self.conv = nn.Sequential(*(ConvNorm(channels, channels, 3) for _ in range(depth)))
        self.cls_logits = nn.Conv2d(channels, anchors_per_cell, 1)
        self.bbox_pred = nn.Conv2d(channels, anchors_per_cell * 4, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, deltas = [], []
        for level in features:
            hidden = self.conv(level)
            # Channels last, then flat: a cell's anchors stand together, as in the list of anchors.
            logits.append(self.cls_logits(hidden).permute(0, 2, 3, 1).flatten(1).float())
            deltas.append(self.bbox_pred(hidden).permute(0, 2, 3, 1).reshape(len(hidden), -1, 4).float())
        return logits, deltas


class RegionProposalNetwork(nn.Module):
    """Scores all anchors, moves the best of them, and leaves one proposal per heap of overlapping ones."""

    def __init__(self, channels: int, settings: RPNSettings):
        super().__init__()
        self.settings = settings
        self.head = RPNHead(channels, settings.anchors.per_cell, settings.conv_depth)

    def forward(
        self, batch: ImageBatch, features: list[Tensor], targets: list[dict[str, Tensor]] | None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals (K_i, 4) of each picture, by falling score, in pixels of the batch; in training, the losses too."""
        logits, deltas = self.head(features)
        feature_sizes = [(level.shape[2], level.shape[3]) for level in features]
        anchors = make_anchors(self.settings.anchors, tuple(batch.pixels.shape[2:]), feature_sizes)
        anchors = [level.to(batch.pixels.device) for level in anchors]
        if not self.training:
            check_finite("region proposals", *logits, *deltas)
            return self.propose(anchors, logits, deltas, batch.sizes), {}
        proposals = self.propose(anchors, logits, deltas, batch.sizes)
        return proposals, self.losses(torch.cat(anchors), torch.cat(logits, 1), torch.cat(deltas, 1), targets)

    @torch.no_grad()
    def propose(
        self, anchors: list[Tensor], logits: list[Tensor], deltas: list[Tensor], sizes: list[tuple[int, int]]
    ) -> list[Tensor]:
        """From every anchor's prediction to a short list of proposals (K_i, 4) per picture.

        No gradient: the proposals are the next stage's input, not its parameters (Faster R-CNN, section 3.2).
        """
        settings = self.settings
        pre_nms_top_n = settings.pre_nms_top_n_train if self.training else settings.pre_nms_top_n_test
        post_nms_top_n = settings.post_nms_top_n_train if self.training else settings.post_nms_top_n_test
        scores, boxes, groups = [], [], []
        for level, (level_anchors, level_logits, level_deltas) in enumerate(zip(anchors, logits, deltas, strict=True)):
            count = torch.sym_min(pre_nms_top_n, level_logits.shape[1])  # min, and of a size that is a symbol too
            best, index = level_logits.topk(count, dim=1)  # (N, k)
            chosen = level_deltas.gather(1, index[..., None].expand(-1, -1, 4))  # (N, k, 4)
            moved = box_maths.decode(chosen.flatten(0, 1), level_anchors[index.flatten()], DELTA_WEIGHTS)
            scores.append(best.sigmoid())
            boxes.append(moved.view_as(chosen))
            groups.append(torch.full_like(index, level))
        proposals = []
        for picture_scores, picture_boxes, picture_groups, size in zip(
            torch.cat(scores, 1), torch.cat(boxes, 1), torch.cat(groups, 1), sizes, strict=True
        ):
            clipped = box_maths.clip(picture_boxes, size)
            valid = box_maths.large_enough(clipped, settings.min_size).nonzero()[:, 0]
            clipped = clipped[valid]
            keep = ops.batched_nms(clipped, picture_scores[valid], picture_groups[valid], settings.nms_iou)
            proposals.append(clipped[keep[:post_nms_top_n]])
        return proposals

    def losses(
        self, anchors: Tensor, logits: Tensor, deltas: Tensor, targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Is-there-an-object, by cross entropy, and the boxes of those that are objects, by smooth L1 (eq. 1).

        anchors (A, 4), logits (N, A), deltas (N, A, 4).
        """
        settings = self.settings
        positives, negatives = [], []  # rows of the flattened (N·A) predictions
        regressed, wanted = [], []  # those of the positives whose object's box is exact, and their true deltas
        for picture, target in enumerate(targets):
            matches, _ = ops.match_anchors(
                anchors, target["boxes"], settings.positive_iou, settings.negative_iou, allow_low_quality_matches=True
            )
            random = seeded(target, anchors.device)
            positive, negative = sample(
                matches >= 0, matches == -1, settings.samples, settings.positive_fraction, random
            )
            learnt = positive[exact(target)[matches[positive]]]
            wanted.append(box_maths.encode(target["boxes"][matches[learnt]], anchors[learnt], DELTA_WEIGHTS))
            regressed.append(learnt + picture * len(anchors))
            positives.append(positive + picture * len(anchors))
            negatives.append(negative + picture * len(anchors))
        positive, sampled = torch.cat(positives), torch.cat(positives + negatives)
        labels = (torch.arange(len(sampled), device=logits.device) < len(positive)).float()
        return {
            "loss_objectness": mean_or_zero(
                F.binary_cross_entropy_with_logits(logits.flatten()[sampled], labels, reduction="sum"), len(sampled)
            ),
            "loss_rpn_box_reg": mean_or_zero(
                F.smooth_l1_loss(
                    deltas.flatten(0, 1)[torch.cat(regressed)],
                    torch.cat(wanted),
                    beta=box_maths.SMOOTH_L1_BETA,
                    reduction="sum",
                ),
                len(sampled),
            ),
        }
