"""The pictures of lesson 07: where samples fall, what rounding moves, how many outputs lean on a cell.

Cell (y, x) of a map covers the square from (x, y) to (x + 1, y + 1): its middle is at x + 0.5, y + 0.5.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from mrcnn.visualize import COLOURS, INK, PAPER, draw_image, new_figure

ORANGE, SKY, PINK, GREEN, YELLOW, RED, BLUE = COLOURS
DOTS_PER_INCH = 80
SHADES = "cividis"  # from dark to light, also for those who see no colour


def row_of_axes(count: int, side: float = 2.9) -> tuple[Figure, Sequence[Axes]]:
    """A figure with `count` square axes beside one another."""
    figure = new_figure(count * side, side + 0.3)
    figure.set_dpi(DOTS_PER_INCH)
    return figure, np.atleast_1d(figure.subplots(1, count))


def draw_map(axes: Axes, values: Tensor, title: str = "", numbers: bool = False) -> None:
    """A map (H, W), each cell a square; with its value written in the middle if `numbers`."""
    height, width = values.shape
    axes.imshow(values.cpu(), extent=(0, width, height, 0), interpolation="nearest", cmap=SHADES)
    if numbers:
        low, high = float(values.min()), float(values.max())
        look = {"ha": "center", "va": "center", "fontsize": 8, "zorder": 5}
        for y in range(height):
            for x in range(width):
                colour = PAPER if float(values[y, x]) < (low + high) / 2 else INK
                axes.text(x + 0.5, y + 0.5, f"{float(values[y, x]):g}", color=colour, **look)
    axes.set_axis_off()
    axes.set_title(title, fontsize=8.5, color=INK, loc="left")


def draw_bins(axes: Axes, box: Tensor, bins: int, samples: int = 0, colour: str = RED, dot: float = 5) -> None:
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


def opening(image: Tensor, features: Tensor, box: Tensor, pooled: Tensor, stride: int, samples: int) -> Figure:
    """The picture with a box; the features (H, W) with its bins; what RoIAlign makes of it (bins, bins)."""
    figure, axes = row_of_axes(3, 3.2)
    bins = len(pooled)
    draw_image(axes[0], image)
    draw_bins(axes[0], box, 1)
    axes[0].set_title(f"picture, {image.shape[2]} x {image.shape[1]} pixels, and a box", fontsize=8.5, loc="left")
    draw_map(axes[1], features, f"the features there, {bins} x {bins} bins, and samples")
    draw_bins(axes[1], box / stride, bins, samples, dot=3.5)
    (x1, y1, x2, y2), margin = (box / stride).tolist(), 2
    middle, half = (x1 + x2) / 2, (y2 - y1) / 2 + margin
    axes[1].set(xlim=(middle - half, middle + half), ylim=(y2 + margin, y1 - margin))
    draw_map(axes[2], pooled, f"pooled, {bins} x {bins}")
    figure.tight_layout()
    return figure


def two_readings(values: Tensor, box: Tensor) -> Figure:
    """A numbered map, a box, and the middle of the box."""
    figure, (axes,) = row_of_axes(1, 3.6)
    height, width = values.shape
    for y in range(height):
        for x in range(width):
            axes.add_patch(Rectangle((x, y), 1, 1, facecolor="#eeeeee", edgecolor="#999999", linewidth=0.8))
            axes.text(x + 0.5, y + 0.5, f"{float(values[y, x]):g}", ha="center", va="center", fontsize=10, zorder=5)
    x1, y1, x2, y2 = box.tolist()
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, facecolor=RED, alpha=0.2))
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=RED, linewidth=1.8))
    axes.plot((x1 + x2) / 2, (y1 + y2) / 2, "o", color=SKY, markeredgecolor=INK, markersize=8)
    axes.set(xlim=(-0.1, width + 0.1), ylim=(height + 0.1, -0.1), aspect="equal")
    axes.set(xticks=range(width + 1), yticks=range(height + 1))
    axes.tick_params(labelsize=8)
    axes.spines[:].set_visible(False)
    axes.set_title("25 cells, a box, and the middle of the box", fontsize=8.5, color=INK, loc="left")
    figure.tight_layout()
    return figure


def rounding(features: Tensor, box: Tensor, bins: int) -> Figure:
    """The same box (in cells) as RoIAlign cuts it, and as RoIPool does: whole cells."""
    figure, axes = row_of_axes(2, 3.3)
    draw_map(axes[0], features, "RoIAlign: nothing is rounded")
    draw_bins(axes[0], box, bins, 2)
    draw_map(axes[1], features, "RoIPool: whole cells (hatched: in two bins)")
    x1, y1, x2, y2 = (int(v) for v in (box + 0.5).floor())
    edges = [
        [(a + p * (b + 1 - a) // bins, a - (-(p + 1) * (b + 1 - a) // bins)) for p in range(bins)]
        for a, b in ((y1, y2), (x1, x2))
    ]
    times = np.zeros(features.shape, dtype=int)
    for top, bottom in edges[0]:
        for left, right in edges[1]:
            times[top:bottom, left:right] += 1
            place = ((left, top), right - left, bottom - top)
            axes[1].add_patch(Rectangle(*place, fill=False, edgecolor=PAPER, linewidth=3))
            axes[1].add_patch(Rectangle(*place, fill=False, edgecolor=ORANGE, linewidth=1.5))
    for y, x in zip(*np.nonzero(times > 1), strict=True):
        axes[1].add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor=PAPER, linewidth=0, hatch="////"))
    draw_bins(axes[1], box, 1)
    lines = [Line2D([], [], color=colour, linewidth=wide) for colour, wide in ((RED, 1.8), (ORANGE, 1.5))]
    axes[1].legend(
        lines,
        ["the true box", "rounded, with its bins"],
        fontsize=7.5,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        frameon=False,
    )
    for each in axes:
        each.set(xlim=(x1 - 2.5, x2 + 3.5), ylim=(y2 + 3.5, y1 - 2.5))
    figure.tight_layout()
    return figure


def outlines(image: Tensor, box: Tensor, masks: dict[str, Tensor]) -> Figure:
    """Small masks (28, 28), each stretched back over its box, dashed, and drawn where it passes one half."""
    figure, axes = row_of_axes(len(masks), 3.1)
    x1, y1, x2, y2 = box.tolist()
    for each, (name, mask) in zip(axes, masks.items(), strict=True):
        draw_image(each, image)
        each.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=INK, linestyle="--", linewidth=1))
        rows, columns = mask.shape
        x = x1 + (np.arange(columns) + 0.5) * (x2 - x1) / columns
        y = y1 + (np.arange(rows) + 0.5) * (y2 - y1) / rows
        each.contour(x, y, mask.numpy(), [0.5], colors=[PAPER], linewidths=3.2)
        each.contour(x, y, mask.numpy(), [0.5], colors=[RED], linewidths=1.6)
        each.set(xlim=(x1 - 12, x2 + 12), ylim=(y2 + 12, y1 - 12))
        each.set_title(name, fontsize=8.5, color=INK, loc="left")
    figure.tight_layout()
    return figure


def fan_in(counts: Tensor, boxes: Tensor, bins: int) -> Figure:
    """How many outputs add to each cell's gradient, with the boxes (in cells) that they come from."""
    figure, (axes,) = row_of_axes(1, 4.4)
    draw_map(axes, counts, "how many outputs add to each cell", numbers=True)
    for box, colour in zip(boxes, (RED, SKY, PINK, GREEN), strict=False):
        draw_bins(axes, box, 1, colour=colour)
    figure.tight_layout()
    return figure
