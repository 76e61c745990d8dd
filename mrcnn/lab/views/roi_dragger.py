"""A box to drag over a map: what RoIAlign and RoIPool make of it, which cells they read, and where the gradient goes.

The page's script (mrcnn/lab/web/roi_dragger.js) computes it anew at every move; here is RoIAlign at the start.
"""

import torch
from matplotlib import colormaps
from matplotlib.colors import to_hex
from torch import Tensor

from mrcnn import ops

from .maps import SHADES, draw_bins, draw_map, row_of_axes
from .touch import Touch
from .view import View

HINT = (
    "Drag the box or a corner; with keys: Tab to it, then arrows, a tenth of a cell each, with Shift a whole one. In "
    "the two small grids a click, or arrows, choose a bin: orange in the map, with the weights by which RoIAlign reads "
    "the cells. White dots: its samples. Dashed: the whole cells of which RoIPool takes the largest; its gradient goes "
    "to that one alone."
)
STEPS = 32  # of colour


def roi_dragger(values: Tensor, box: Tensor, bins: int = 3, samples: int = 2, title: str = "") -> Touch:
    """A map (H, W) with a box (4,) in cells to drag, beside it the bins x bins numbers of RoIAlign, with samples x
    samples in each bin, and of RoIPool.

    Raises:
        ValueError: the box has a side below half a cell, or lies outside of the map.
    """
    height, width = values.shape
    x1, y1, x2, y2 = box.tolist()
    if not (0 <= x1 <= x2 - 0.5 and x2 <= width and 0 <= y1 <= y2 - 0.5 and y2 <= height):
        raise ValueError(
            f"the box must lie on the map, {width} x {height} cells, with sides of 0.5; got {box.tolist()}"
        )
    title = title or "RoIAlign and RoIPool"
    values = values.float()
    shades = [to_hex(colormaps[SHADES](step / (STEPS - 1))) for step in range(STEPS)]
    rows = [[float(f"{value:.6g}") for value in row] for row in values.tolist()]
    told = in_words(values, box, bins, samples)
    return Touch(
        "roi_dragger",
        title,
        {"title": title, "hint": HINT, "values": rows, "box": [round(side, 6) for side in box.tolist()]}
        | {"bins": bins, "samples": samples, "shades": shades},
        View.of(still(values, box, bins, samples), f"A map with a box, and what it pools to. {told}"),
        f"{title}.\n{told}",
        shared=("handles",),
    )


def pooled(values: Tensor, box: Tensor, bins: int, samples: int) -> Tensor:
    """What RoIAlign, aligned, makes of a box in cells: (bins, bins)."""
    roi = torch.cat([torch.zeros(1), box.float()])[None]
    return ops.roi_align(values[None, None], roi, bins, 1.0, samples, aligned=True)[0, 0]


def in_words(values: Tensor, box: Tensor, bins: int, samples: int) -> str:
    place = "({:.2f}, {:.2f}) to ({:.2f}, {:.2f})".format(*box.tolist())
    numbers = "; ".join(
        ", ".join(f"{value:.3g}" for value in row) for row in pooled(values, box, bins, samples).tolist()
    )
    return f"The box goes from {place}, in cells. RoIAlign gives, row by row: {numbers}."


def still(values: Tensor, box: Tensor, bins: int, samples: int):
    """The map with the box, and the numbers that it pools to."""
    figure, axes = row_of_axes(2, 3.2)
    draw_map(axes[0], values, f"{values.shape[0]} x {values.shape[1]} cells, a box in {bins} x {bins} bins")
    draw_bins(axes[0], box, bins, samples, dot=3.5)
    draw_map(
        axes[1], pooled(values, box, bins, samples).mul(10).round() / 10, "what RoIAlign makes of it", numbers=True
    )
    figure.tight_layout()
    return figure
