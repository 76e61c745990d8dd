"""The keypoint head: where is each keypoint of the object in a box? (Mask R-CNN, He et al., 2017, section 5)"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrcnn.images import scale_keypoints
from mrcnn.layers import ConvNorm, initialised
from mrcnn.roi_heads import Head, HeadSettings
from mrcnn.sampling import Samples, mean_or_zero
from mrcnn.settings import Cells, Positive, Width, Widths
from mrcnn.validation import check_finite, check_shape


@dataclass(frozen=True)
class KeypointSettings(HeadSettings):
    """Mask R-CNN, section 5: four times the resolution of the pooled features, one map per keypoint."""

    num_keypoints: Width = 17
    resolution: Cells = 14
    channels: Widths = (512,) * 8
    # Of every second convolution. Which knee is the left one shows in the face: a head of few layers sees as far as
    # from knee to face only with larger steps.
    dilation: Cells = 1
    loss_weight: Positive = 1.0

    def head(self) -> "KeypointHead":
        return KeypointHead(self)


class KeypointHead(Head):
    """A pose in every box, for a model with `KeypointSettings`."""

    name, target = "keypoint", "keypoints"

    def layers(self, channels: int, num_classes: int, norm: type | None) -> tuple[nn.Module, nn.Module]:
        return keypoint_layers(channels, self.settings, norm), KeypointPredictor(self.settings)

    def check(self, target: dict[str, Tensor], name: str, size: tuple[int, int]) -> None:
        shape = (len(target["boxes"]), self.settings.num_keypoints, 3)
        check_shape(target["keypoints"], f'{name}["keypoints"]', shape)

    def learn_from(self, samples: Samples, target: dict[str, Tensor]) -> Samples:
        return samples.positive((target["keypoints"][..., 2] > 0).any(1))

    def loss(self, logits: Tensor, samples: list[Samples], targets: list[dict[str, Tensor]]) -> Tensor:
        return self.settings.loss_weight * keypoint_loss(logits, samples, targets)

    def results(self, logits: Tensor, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """keypoints (K, J, 3) in pixels of the batch, and keypoints_scores (K, J)."""
        check_finite("keypoints", logits)
        find = as_one_node if torch.compiler.is_compiling() else heatmaps_to_keypoints
        keypoints, scores = find(logits, found["boxes"])
        return {"keypoints": keypoints, "keypoints_scores": scores}

    def restore(self, result: dict[str, Tensor], size: tuple[int, int], original_size: tuple[int, int]) -> None:
        result["keypoints"] = scale_keypoints(result["keypoints"], size, original_size)


def keypoint_layers(channels: int, settings: KeypointSettings, norm: type | None) -> nn.Sequential:
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


def keypoint_loss(logits: Tensor, samples: list[Samples], targets: list[dict[str, Tensor]]) -> Tensor:
    """Which cell holds the keypoint? Cross entropy over all cells of its heatmap (Mask R-CNN, section 5).

    logits: (S, J, M, M). Keypoints that are not labelled, or outside the region, do not count.
    """
    resolution = logits.shape[-1]
    pairs = [
        keypoints_to_heatmap(target["keypoints"][picture.objects], picture.boxes, resolution)
        for picture, target in zip(samples, targets, strict=True)
    ]
    cells, valid = (torch.cat(each) for each in zip(*pairs, strict=True))  # (S, J)
    total = F.cross_entropy(logits.flatten(2)[valid], cells[valid], reduction="sum")
    return mean_or_zero(total, int(valid.sum()))


def keypoints_to_heatmap(keypoints: Tensor, boxes: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """The heatmap cell of each keypoint: row · resolution + column, int64 (K, J), and whether it counts, bool (K, J).

    keypoints (K, J, 3) [x, y, v] and boxes (K, 4) in the same pixels. A keypoint just on the right or lower edge
    belongs to the last cell.
    """
    low, high = boxes[:, None, :2], boxes[:, None, 2:]  # (K, 1, 2)
    point = keypoints[..., :2]
    cell = ((point - low) * (resolution / (high - low))).floor()
    cell = torch.where(point == high, resolution - 1, cell)
    inside = ((cell >= 0) & (cell < resolution)).all(-1)
    column, row = cell.clamp(0, resolution - 1).to(torch.int64).unbind(-1)
    return row * resolution + column, inside & (keypoints[..., 2] > 0)


def heatmaps_to_keypoints(heatmaps: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Each keypoint at the peak of its heatmap, after bicubic enlargement to the box's size in whole pixels.

    heatmaps (K, J, M, M), boxes (K, 4). Returns keypoints (K, J, 3) [x, y, 1] in the boxes' pixels, and the logits at
    the peaks (K, J).
    """
    keypoints = heatmaps.new_ones((*heatmaps.shape[:2], 3))
    scores = heatmaps.new_zeros(heatmaps.shape[:2])
    sizes = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)  # (K, 2)
    pixels = sizes.ceil()
    for index, (width, height) in enumerate(pixels.to(torch.int64).tolist()):
        enlarged = enlarge(heatmaps[index], height, width)
        scores[index], peak = enlarged.flatten(1).max(1)
        cell = torch.stack((peak % width, peak // width), dim=1)  # (J, 2)
        keypoints[index, :, :2] = (cell + 0.5) * (sizes[index] / pixels[index]) + boxes[index, :2]
    return keypoints, scores


as_one_node = torch.library.custom_op("mrcnn::heatmaps_to_keypoints", heatmaps_to_keypoints, mutates_args=())


@as_one_node.register_fake
def _(heatmaps: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    return heatmaps.new_empty((*heatmaps.shape[:2], 3)), heatmaps.new_empty(heatmaps.shape[:2])


def enlarge(maps: Tensor, height: int, width: int) -> Tensor:
    """Bicubic enlargement of maps (J, M, M) to (J, height, width), as two matrix products.

    Bicubic weights are a product of one function of the row and one of the column. Enlarging the unit matrix in one
    direction gives that direction's weights, and a matrix product is what a processor does fastest.
    """
    side = maps.shape[-1]
    unit = torch.eye(side, dtype=maps.dtype, device=maps.device)[None, None]
    rows = F.interpolate(unit, size=(height, side), mode="bicubic", align_corners=False)[0, 0]  # (height, M)
    columns = F.interpolate(unit, size=(side, width), mode="bicubic", align_corners=False)[0, 0]  # (M, width)
    return rows @ maps @ columns
