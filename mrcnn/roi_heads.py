"""The second stage: what is in each proposal? Its class and exact box, its mask, its keypoints.

The box head (`box_head.py`) is always there; of the others (`mask_head.py`, `keypoint_head.py`, or one of your own) a
model has those that its settings name. All of them look at the pyramid through RoIAlign; none sees the others' work.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrcnn import boxes as box_maths
from mrcnn import ops
from mrcnn.box_head import BoxPredictor, BoxSettings, box_losses, make_box_head, postprocess_detections
from mrcnn.sampling import Samples, label_and_sample
from mrcnn.settings import Settings
from mrcnn.validation import check_finite


class HeadSettings(Settings):
    """The settings of a head beside the box head: a field of `ModelSettings`, and a head of its own if not None."""

    resolution: int  # of the features that are pooled for it

    def head(self) -> "Head":
        raise NotImplementedError


class Head:
    """A head beside the box head: its layers, what it learns from, and what it adds to a result.

    name: its layers are `{name}_head` and `{name}_predictor` of `RoIHeads`, its loss is `loss_{name}`. target: the key
    of a target that it learns from. A head of one's own is a file with a subclass of this and its settings, and the
    line `name: ItsSettings | None = None` in `ModelSettings`.
    """

    name: str
    target: str

    def __init__(self, settings: HeadSettings):
        self.settings = settings

    def layers(self, channels: int, num_classes: int, norm: type | None) -> tuple[nn.Module, nn.Module]:
        """From pooled features (K, C, r, r) to hidden ones, and from these to the head's logits (K, …)."""
        raise NotImplementedError

    def check(self, target: dict[str, Tensor], name: str, size: tuple[int, int]) -> None:
        """Raises ValueError or TypeError where a target of this `name`, for a picture of this `size` (height, width),
        has something else than the head learns from under its key."""

    def learn_from(self, samples: Samples, target: dict[str, Tensor]) -> Samples:
        """Those of a picture's samples that the loss is to see."""
        return samples.positive()

    def loss(self, logits: Tensor, samples: list[Samples], targets: list[dict[str, Tensor]]) -> Tensor:
        """A scalar, from the logits of the samples of all pictures."""
        raise NotImplementedError

    def results(self, logits: Tensor, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """What is added to a picture's boxes (K, 4), labels and scores, from the logits in its K boxes."""
        raise NotImplementedError

    def restore(self, result: dict[str, Tensor], size: tuple[int, int], original_size: tuple[int, int]) -> None:
        """Brings what `results` gave from the pixels of the batch to those of the picture as it was given, in place;
        the boxes are there already."""


class RoIHeads(nn.Module):
    """The box head, and beside it the heads that a model's settings name."""

    def __init__(self, channels: int, num_classes: int, box: BoxSettings, heads: list[Head], norm: type | None = None):
        super().__init__()
        self.box = box
        self.heads = {head.name: head for head in heads}
        self.box_head = make_box_head(channels, box, norm)
        self.box_predictor = BoxPredictor(box.fc_channels[-1], num_classes)
        for name, head in self.heads.items():
            layers, predictor = head.layers(channels, num_classes, norm)
            self.add_module(f"{name}_head", layers)
            self.add_module(f"{name}_predictor", predictor)

    def train_step(
        self, features: list[Tensor], stride: int, proposals: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """The losses of all heads. Every head learns from the proposals, not from the boxes that the box head makes."""
        limits = self.box.positive_iou, self.box.samples, self.box.positive_fraction
        samples = [label_and_sample(*each, *limits) for each in zip(proposals, targets, strict=True)]
        logits, deltas = self.predict("box", features, stride, [s.boxes for s in samples])
        losses = box_losses(logits, deltas, samples, targets, self.box)
        for name, head in self.heads.items():
            chosen = [head.learn_from(*each) for each in zip(samples, targets, strict=True)]
            logits = self.predict(name, features, stride, [s.boxes for s in chosen])
            losses[f"loss_{name}"] = head.loss(logits, chosen, targets)
        return losses

    def detect(
        self, features: list[Tensor], stride: int, proposals: list[Tensor], sizes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Per picture: boxes (K, 4) in pixels of the batch, labels (K,), scores (K,) falling, and what each head adds.

        These look into the final boxes only (Mask R-CNN, section 3.1, inference).
        """
        logits, deltas = self.predict("box", features, stride, proposals)
        check_finite("boxes", logits, deltas)
        counts = [each.shape[0] for each in proposals]
        per_picture = zip(logits.softmax(-1).split(counts), deltas.split(counts), proposals, sizes, strict=True)
        results = [postprocess_detections(*each, self.box) for each in per_picture]
        boxes = [result["boxes"] for result in results]
        for name, head in self.heads.items():
            logits = self.predict(name, features, stride, boxes)
            for result, each in zip(results, logits.split([each.shape[0] for each in boxes]), strict=True):
                result |= head.results(each, result)
        return results

    def restore(
        self, result: dict[str, Tensor], size: tuple[int, int], original_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """A picture's result in the pixels of the picture as it was given; sizes (height, width)."""
        result = result | {"boxes": box_maths.scale(result["boxes"], size, original_size)}
        for head in self.heads.values():
            head.restore(result, size, original_size)
        return result

    def predict(self, name: str, features: list[Tensor], stride: int, boxes: list[Tensor]):
        """What a head's predictor says of boxes (K_i, 4) of each picture: logits (K, …), K their sum; of the box head,
        class logits (K, classes) and deltas (K, classes, 4)."""
        head, predictor = getattr(self, f"{name}_head"), getattr(self, f"{name}_predictor")
        resolution = self.box.resolution if name == "box" else self.heads[name].settings.resolution
        how = (self.box.canonical_size, self.box.sampling_ratio, self.box.aligned)
        return predictor(head(multiscale_roi_align(features, stride, boxes, resolution, *how)))


def multiscale_roi_align(
    features: list[Tensor],
    stride: int,
    boxes: list[Tensor],
    resolution: int,
    canonical_size: float,
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> Tensor:
    """RoIAlign of each box from the pyramid level that fits its size: (K, C, resolution, resolution).

    features: maps (N, C, H_l, W_l), each half as fine as the one before. stride: of the first, in pixels.
    boxes: (K_i, 4) for each of the N pictures, in pixels of the batch; K is their sum. The rest: see `BoxSettings`.
    """
    rois = with_picture_index(boxes)  # (K, 5)
    levels = choose_levels(rois[:, 1:], stride, len(features), canonical_size)
    shape = (rois.shape[0], features[0].shape[1], resolution, resolution)
    like = {"dtype": features[0].dtype, "device": features[0].device}
    pooled = torch.empty(shape, **like, memory_format=torch.channels_last)
    for index, level in enumerate(features):
        chosen = (levels == index).nonzero()[:, 0]
        scale = 1 / (stride * 2**index)
        pooled[chosen] = ops.roi_align(level, rois[chosen], resolution, scale, sampling_ratio, aligned)
    return pooled


def with_picture_index(boxes: list[Tensor]) -> Tensor:
    """Boxes (K_i, 4) of N pictures as one list of RoIs (K, 5) [picture, x1, y1, x2, y2]."""
    return torch.cat([F.pad(each, (1, 0), value=picture) for picture, each in enumerate(boxes)])


def choose_levels(boxes: Tensor, stride: int, num_levels: int, canonical_size: float) -> Tensor:
    """Which pyramid level each box (K, 4) is pooled from, 0 for the finest: int64 (K,) (FPN, eq. 1)."""
    finest = stride.bit_length() - 1  # stride 4 is P2
    side = box_maths.area(boxes).sqrt()
    # A side just at the border may come out of the logarithm a rounding error below it: hence 1e-6.
    level = torch.floor(4 + torch.log2(side / canonical_size) + 1e-6)
    return level.clamp(finest, finest + num_levels - 1).to(torch.int64) - finest
