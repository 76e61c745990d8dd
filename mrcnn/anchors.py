"""Anchors: the fixed boxes, at every cell of every pyramid level, that the region proposal network starts from."""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from mrcnn.backbone import STRIDE
from mrcnn.settings import POSITIVE, Positives, Settings, require, several

PER_LEVEL = several(several(POSITIVE, 1, 64), 1, 64)


@dataclass(frozen=True)
class AnchorSettings(Settings):
    """Which anchors stand at a cell of each pyramid level.

    sizes: per level, the square roots of the anchors' areas, in pixels of the network's input. One size per level
        (Feature Pyramid Networks, section 4.1): the pyramid supplies the scales. One head predicts for all levels, so
        all have as many.
    ratios: height / width.
    exact: anchors of exactly these sizes and ratios, at every 4, 8, 16, 32 and 64 pixels, as detectron2's models were
        trained with. torchvision's, like Faster R-CNN's own, have corners in whole pixels; and they stand at equal
        distances of whole pixels over the padded picture: where this is no multiple of 64, the coarsest level's are a
        little closer than 64 (13 cells over 800 pixels: 61).
    """

    sizes: Annotated[tuple[tuple[float, ...], ...], PER_LEVEL] = ((32,), (64,), (128,), (256,), (512,))
    ratios: Positives = (0.5, 1.0, 2.0)
    exact: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "sizes", len(set(map(len, self.sizes))) == 1, "as many for every level")

    @property
    def per_cell(self) -> int:
        return len(self.sizes[0]) * len(self.ratios)


def cell_anchors(sizes: tuple[float, ...], ratios: tuple[float, ...], exact: bool = False) -> Tensor:
    """The anchors of one cell, centred on (0, 0): (len(ratios) × len(sizes), 4), ratios varying slowest.

    Unless they are to be exact, corners are rounded to whole pixels (half to even), as in torchvision's models.
    """
    size = torch.tensor(sizes, dtype=torch.float32)
    root = torch.tensor(ratios, dtype=torch.float32).sqrt()
    heights = (root[:, None] * size[None, :]).flatten()
    widths = ((1 / root)[:, None] * size[None, :]).flatten()
    corners = torch.stack((-widths, -heights, widths, heights), dim=1) / 2
    return corners if exact else corners.round()


def make_anchors(
    settings: AnchorSettings, padded_size: tuple[int, int], feature_sizes: list[tuple[int, int]]
) -> list[Tensor]:
    """The anchors of every level for a padded batch.

    padded_size: (height, width) of the network's input. feature_sizes: (height, width) of each level.
    Returns, per level, boxes (H × W × per_cell, 4) in pixels of the network's input, row by row, the anchors of a cell
    together. A cell's anchors are centred on its top left corner, column × stride: there is no half-stride offset.
    """
    if len(settings.sizes) != len(feature_sizes):
        raise ValueError(
            f"settings.sizes has sizes for {len(settings.sizes)} levels, the backbone gives {len(feature_sizes)}"
        )
    levels = []
    for level, (sizes, (height, width)) in enumerate(zip(settings.sizes, feature_sizes, strict=True)):
        exact = STRIDE * 2**level
        down, right = (exact, exact) if settings.exact else (padded_size[0] // height, padded_size[1] // width)
        ys = torch.arange(height, dtype=torch.float32) * down
        xs = torch.arange(width, dtype=torch.float32) * right
        corner = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1).view(-1, 1, 2)  # (H·W, 1, 2)
        cell = cell_anchors(sizes, settings.ratios, settings.exact)  # (A, 4)
        levels.append((corner.repeat(1, 1, 2) + cell).view(-1, 4))  # (H·W·A, 4)
    return levels
