"""Maps of numbers with boxes on them.

Cell (y, x) of a map covers the square from (x, y) to (x + 1, y + 1): its middle is at x + 0.5, y + 0.5.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from mrcnn.visualize import COLOURS, INK, PAPER

from .pictures import page

SHADES = "cividis"  # from dark to light, also for those who see no colour


def row_of_axes(count: int, side: float = 2.9) -> tuple[Figure, Sequence[Axes]]:
    """A page with `count` square axes beside one another."""
    figure = page(count * side, side + 0.3)
    return figure, np.atleast_1d(figure.subplots(1, count))


def draw_map(axes: Axes, values: Tensor, title: str = "", numbers: bool = False) -> None:
    """A map (H, W), each cell a square; with its value written in the middle if `numbers`."""
    height, width = values.shape
    axes.imshow(values.cpu(), extent=(0, width, height, 0), interpolation="nearest", cmap=SHADES)
    if numbers:
        low, high = float(values.min()), float(values.max())
        look = {"ha": "center", "va": "center", "fontsize": 10, "zorder": 5}
        for y in range(height):
            for x in range(width):
                colour = PAPER if float(values[y, x]) < (low + high) / 2 else INK
                axes.text(x + 0.5, y + 0.5, f"{float(values[y, x]):g}", color=colour, **look)
    axes.set_axis_off()
    axes.set_title(title, fontsize=10, color=INK, loc="left")


def draw_bins(axes: Axes, box: Tensor, bins: int, samples: int = 0, colour: str = COLOURS[5], dot: float = 5) -> None:
    """A box (4,) cut into bins x bins; a `dot` for each sample, `samples` per bin along each axis."""
    x1, y1, x2, y2 = box.tolist()
    xs, ys = np.linspace(x1, x2, bins + 1), np.linspace(y1, y2, bins + 1)
    for place, (x, y) in enumerate(zip(xs, ys, strict=True)):
        wide = 1.8 if place in (0, bins) else 0.7
        for line in (([x, x], [y1, y2]), ([x1, x2], [y, y])):
            axes.plot(*line, color=PAPER, linewidth=2 * wide, solid_capstyle="projecting")
            axes.plot(*line, color=colour, linewidth=wide, solid_capstyle="projecting")
    if samples:
        parts = bins * samples
        x, y = np.meshgrid(*(a + (np.arange(parts) + 0.5) * (b - a) / parts for a, b in ((x1, x2), (y1, y2))))
        axes.plot(x, y, ".", color=PAPER, markersize=dot, markeredgecolor=INK, markeredgewidth=0.5)
