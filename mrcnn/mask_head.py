"""The mask head: which pixels of each box are the object's? (Mask R-CNN, He et al., 2017, section 3)"""

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrcnn import ops
from mrcnn.layers import ConvNorm, initialised
from mrcnn.roi_heads import Head, HeadSettings
from mrcnn.sampling import Samples, mean_or_zero
from mrcnn.settings import Cells, MaybeCount, Width, Widths
from mrcnn.validation import check_finite, check_mask_values, check_shape


@dataclass(frozen=True)
class MaskSettings(HeadSettings):
    """Mask R-CNN, figure 4 right: twice the resolution of the pooled features, one map per class.

    exact: a mask covers its box to a fraction of a pixel, where it is cut out of the truth to learn from and where it
        is pasted into the picture, as in detectron2. torchvision's are cut out half a pixel off, and pasted into boxes
        of whole pixels.
    """

    samples: MaybeCount = None  # positive proposals per picture in the loss, at most; None: all that the box head has
    resolution: Cells = 14
    channels: Widths = (256, 256, 256, 256)
    hidden: Width = 256
    exact: bool = False

    def head(self) -> "MaskHead":
        return MaskHead(self)


class MaskHead(Head):
    """A mask in every box, for a model with `MaskSettings`."""

    name, target = "mask", "masks"

    def layers(self, channels: int, num_classes: int, norm: type | None) -> tuple[nn.Module, nn.Module]:
        return mask_layers(channels, self.settings, norm), MaskPredictor(self.settings, num_classes)

    def check(self, target: dict[str, Tensor], name: str, size: tuple[int, int]) -> None:
        check_shape(target["masks"], f'{name}["masks"]', (len(target["boxes"]), *size))
        check_mask_values(target["masks"], f'{name}["masks"]')

    def learn_from(self, samples: Samples, target: dict[str, Tensor]) -> Samples:
        """An object without a mask (all zero) can teach the box head, but not this one."""
        return samples.positive(target["masks"].flatten(1).any(1).bool(), self.settings.samples)

    def loss(self, logits: Tensor, samples: list[Samples], targets: list[dict[str, Tensor]]) -> Tensor:
        return mask_loss(logits, samples, targets, self.settings.exact)

    def results(self, logits: Tensor, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """masks (K, 1, M, M): probabilities inside the box, from the map of the object's class."""
        chosen = logits[torch.arange(logits.shape[0], device=logits.device), found["labels"]].float()[:, None]
        check_finite("masks", chosen)
        return {"masks": chosen.sigmoid()}

    def restore(self, result: dict[str, Tensor], _size: tuple[int, int], original_size: tuple[int, int]) -> None:
        paste = paste_masks_at_once if torch.compiler.is_compiling() else paste_masks
        result["masks"] = paste(result["masks"], result["boxes"], original_size, self.settings.exact)


def mask_layers(channels: int, settings: MaskSettings, norm: type | None) -> nn.Sequential:
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


def mask_loss(logits: Tensor, samples: list[Samples], targets: list[dict[str, Tensor]], exact: bool) -> Tensor:
    """Per-pixel binary cross entropy on the true class's map (Mask R-CNN, section 3).

    logits: (S, classes, M, M). The true mask is cut out with RoIAlign too, and stays soft at its edges. exact: see
    `MaskSettings`.
    """
    resolution = logits.shape[-1]
    wanted = []
    for picture, target in zip(samples, targets, strict=True):
        masks = target["masks"].float()[:, None]  # (G, 1, H, W)
        rois = torch.cat((picture.objects[:, None].float(), picture.boxes), dim=1)
        wanted.append(ops.roi_align(masks, rois, resolution, aligned=exact)[:, 0])
    labels = torch.cat([s.labels for s in samples])[:, None, None, None]
    # Along the last dimension of the map as it lies in memory: so will its gradient, which saves the copies.
    chosen = logits.permute(0, 2, 3, 1).gather(3, labels.expand(-1, resolution, resolution, 1))[..., 0].float()
    total = F.binary_cross_entropy_with_logits(chosen, torch.cat(wanted), reduction="sum")
    return mean_or_zero(total, chosen.numel())


def paste_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int], exact: bool = False) -> Tensor:
    """Pastes mask probabilities (K, 1, M, M) into pictures of `size` (height, width): float (K, 1, height, width).

    Each mask gets a rim of one zero cell, its box grows with it, and the grown box is cut to whole pixels, first and
    last included: so a mask can fade out beyond the box it was predicted in. exact: nothing is cut to whole pixels.
    """
    if exact:
        return paste_masks_exactly(masks, boxes, size)
    height, width = size
    pasted = masks.new_zeros((len(masks), 1, height, width))
    grown = grow_boxes(boxes, (masks.shape[-1] + 2) / masks.shape[-1]).to(torch.int64).tolist()
    rimmed = F.pad(masks, (1, 1, 1, 1))  # (K, 1, M + 2, M + 2)
    for index, (x1, y1, x2, y2) in enumerate(grown):
        w, h = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
        mask = F.interpolate(rimmed[index, None], size=(h, w), mode="bilinear", align_corners=False)[0]
        left, top = max(x1, 0), max(y1, 0)
        right, bottom = min(x1 + w, width), min(y1 + h, height)
        if right > left and bottom > top:
            pasted[index, :, top:bottom, left:right] = mask[:, top - y1 : bottom - y1, left - x1 : right - x1]
    return pasted


def paste_masks_exactly(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """`paste_masks` where a mask covers exactly its box, one after the other.

    A pixel gets what its middle sees between the middles of the four cells around it; outside the mask cells are zero,
    so it fades out over half a cell beyond the box.
    """
    height, width = size
    pasted = masks.new_zeros((len(masks), 1, height, width))
    reach = grow_boxes(boxes, (masks.shape[-1] + 1) / masks.shape[-1])
    low, high = reach[:, :2].floor().clamp(min=0), reach[:, 2:].ceil()
    for index, (left, top, right, bottom) in enumerate(torch.cat((low, high), 1).to(torch.int64).tolist()):
        right, bottom = min(right, width), min(bottom, height)
        if right > left and bottom > top:
            one = slice(index, index + 1)
            inside = boxes[one] - boxes.new_tensor([left, top, left, top])
            mask = paste_masks_at_once(masks[one], inside, (bottom - top, right - left), exact=True)
            pasted[one, :, top:bottom, left:right] = mask
    return pasted


def paste_masks_at_once(masks: Tensor, boxes: Tensor, size: tuple[int, int], exact: bool = False) -> Tensor:
    """`paste_masks` without a loop over the objects, for a graph that is compiled or exported.

    Bilinear weights are a product of one function of the row and one of the column: two matrix products.
    """
    if exact:
        corners, extents = boxes[:, :2], (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6)
    else:
        grown = grow_boxes(boxes, (masks.shape[-1] + 2) / masks.shape[-1]).to(torch.int64)  # (K, 4)
        corners, extents = grown[:, :2], (grown[:, 2:] - grown[:, :2] + 1).clamp(min=1)
        masks = F.pad(masks, (1, 1, 1, 1))
    columns, rows = (
        bilinear_weights(corners[:, axis], extents[:, axis], size[1 - axis], masks.shape[-1]) for axis in (0, 1)
    )  # (K, width, M), (K, height, M)
    return rows[:, None] @ masks @ columns[:, None].mT


def bilinear_weights(corner: Tensor, extent: Tensor, length: int, side: int) -> Tensor:
    """How much each of `side` cells, spread over `extent` (K,) pixels from `corner` (K,) on, counts in each of a
    picture's `length` pixels: (K, length, side). What lies outside the cells counts as zero."""
    pixel = torch.arange(length, device=corner.device) - corner[:, None]  # (K, length)
    cell = (pixel + 0.5) * (side / extent)[:, None] - 0.5
    return (1 - (cell[..., None] - torch.arange(side, device=corner.device)).abs()).clamp(min=0)


def grow_boxes(boxes: Tensor, factor: float) -> Tensor:
    """Boxes (K, 4) made larger by `factor` about their centres."""
    centre = (boxes[:, :2] + boxes[:, 2:]) * 0.5
    half = (boxes[:, 2:] - boxes[:, :2]) * 0.5 * factor
    return torch.cat((centre - half, centre + half), dim=1)
