"""Where samples fall, and what rounding moves."""

import numpy as np
import torch
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from mrcnn.lab.views.maps import draw_bins, draw_map, row_of_axes
from mrcnn.lab.views.pictures import page
from mrcnn.lab.views.view import View
from mrcnn.visualize import COLOURS, INK, PAPER, draw_image

ORANGE, SKY, PINK, GREEN, YELLOW, RED, BLUE = COLOURS


def opening(image: Tensor, features: Tensor, box: Tensor, pooled: Tensor, stride: int, samples: int) -> View:
    """The picture with a box; the features (H, W) with its bins; what RoIAlign makes of it (bins, bins)."""
    figure, axes = row_of_axes(3, 3.2)
    bins = len(pooled)
    draw_image(axes[0], image)
    draw_bins(axes[0], box, 1)
    axes[0].set_title(f"{image.shape[2]} x {image.shape[1]} pixels, and a box", fontsize=10, loc="left")
    draw_map(axes[1], features, f"the features, {bins} x {bins} bins")
    draw_bins(axes[1], box / stride, bins, samples, dot=3.5)
    (x1, y1, x2, y2), margin = (box / stride).tolist(), 2
    middle, half = (x1 + x2) / 2, (y2 - y1) / 2 + margin
    axes[1].set(xlim=(middle - half, middle + half), ylim=(y2 + margin, y1 - margin))
    draw_map(axes[2], pooled, f"pooled, {bins} x {bins}")
    figure.tight_layout()
    words = f"A scene with a box; the features under it, cut into {bins} by {bins} bins with {samples} by {samples} "
    words += f"samples each; and what they pool to, from {pooled.min():.0f} to {pooled.max():.0f}."
    return View.of(figure, words)


def two_readings(values: Tensor, box: Tensor) -> View:
    """A numbered map, a box, and the middle of the box."""
    figure, (axes,) = row_of_axes(1, 3.6)
    height, width = values.shape
    for y, x in np.ndindex(height, width):
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor="#eeeeee", edgecolor="#999999", linewidth=0.8))
        axes.text(x + 0.5, y + 0.5, f"{float(values[y, x]):g}", ha="center", va="center", fontsize=10, zorder=5)
    x1, y1, x2, y2 = box.tolist()
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, facecolor=RED + "33", edgecolor=RED, linewidth=1.8))
    axes.plot((x1 + x2) / 2, (y1 + y2) / 2, "o", color=SKY, markeredgecolor=INK, markersize=8)
    axes.set(xlim=(-0.1, width + 0.1), ylim=(height + 0.1, -0.1), xticks=range(width + 1), yticks=range(height + 1))
    axes.tick_params(labelsize=10)
    axes.spines[:].set_visible(False)
    axes.set_title("25 cells, a box, and the middle of the box", fontsize=10, color=INK, loc="left")
    figure.tight_layout()
    words = f"A map of {height} by {width} cells, numbered 0 to {height * width - 1} row by row, a box from "
    words += f"({x1:g}, {y1:g}) to ({x2:g}, {y2:g}), and its middle."
    return View.of(figure, words, lines=True)


def rounding(features: Tensor, box: Tensor, bins: int) -> View:
    """The same box (in cells) as RoIAlign cuts it, and as RoIPool does: whole cells."""
    figure, axes = row_of_axes(2, 3.3)
    draw_map(axes[0], features, "RoIAlign: as it is")
    draw_bins(axes[0], box, bins, 2)
    draw_map(axes[1], features, "RoIPool: whole cells")
    x1, y1, x2, y2 = (int(v) for v in (box + 0.5).floor())
    rows, columns = (
        [(a + p * n // bins, a - (-(p + 1) * n // bins)) for p in range(bins)]
        for a, n in ((y1, y2 + 1 - y1), (x1, x2 + 1 - x1))
    )
    times = np.zeros(features.shape, dtype=int)
    for top, bottom in rows:
        for left, right in columns:
            times[top:bottom, left:right] += 1
            place = ((left, top), right - left, bottom - top)
            axes[1].add_patch(Rectangle(*place, fill=False, edgecolor=PAPER, linewidth=3))
            axes[1].add_patch(Rectangle(*place, fill=False, edgecolor=ORANGE, linewidth=1.5))
    for y, x in zip(*np.nonzero(times > 1), strict=True):
        axes[1].add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor=PAPER, linewidth=0, hatch="////"))
    draw_bins(axes[1], box, 1)
    lines = [Line2D([], [], color=colour, linewidth=wide) for colour, wide in ((RED, 1.8), (ORANGE, 1.5))]
    look = {"fontsize": 10, "loc": "upper left", "bbox_to_anchor": (0, 0), "frameon": False}
    axes[1].legend(lines, ["the true box", "rounded, with its bins; hatched: cells in two bins"], **look)
    for each in axes:
        each.set(xlim=(x1 - 2.5, x2 + 3.5), ylim=(y2 + 3.5, y1 - 2.5))
    figure.tight_layout()
    words = f"A box of {(box[2] - box[0]):.1f} by {(box[3] - box[1]):.1f} cells, cut by RoIAlign as it is, and by "
    words += f"RoIPool into whole cells: {int((times > 1).sum())} cells are in two bins."
    return View.of(figure, words)


def outlines(image: Tensor, box: Tensor, masks: dict[str, Tensor]) -> View:
    """Small masks (28, 28), each stretched back over its box, dashed, and drawn where it passes one half."""
    figure, axes = row_of_axes(len(masks), 3.1)
    x1, y1, x2, y2 = box.tolist()
    for each, (name, mask) in zip(axes, masks.items(), strict=True):
        draw_image(each, image)
        each.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=INK, linestyle="--", linewidth=1))
        y, x = ((np.arange(n) + 0.5) / n for n in mask.shape)
        for colour, wide in ((PAPER, 3.2), (RED, 1.6)):
            each.contour(x1 + x * (x2 - x1), y1 + y * (y2 - y1), mask.numpy(), [0.5], colors=[colour], linewidths=wide)
        each.set(xlim=(x1 - 12, x2 + 12), ylim=(y2 + 12, y1 - 12))
        each.set_title(name, fontsize=10, color=INK, loc="left")
    figure.tight_layout()
    words = f"Outlines of a mask, pooled and stretched back over its box, in {len(masks)} ways: {'; '.join(masks)}."
    return View.of(figure, words)


def curves(moved: Tensor, read: dict[str, list[float]], truth: Tensor) -> View:
    """Where each op believes that it reads while a box moves by `moved` cells; the truth is the bin's middle."""
    figure = page(8, 4)
    axes = figure.subplots()
    axes.plot(moved, truth, color="black", linewidth=6, alpha=0.15, label="the middle of the bin")
    for (name, values), look, colour in zip(read.items(), ("o-", "s--"), (BLUE, RED), strict=False):
        axes.plot(moved, values, look, color=colour, markersize=4, label=name)
    axes.set(xlabel="the box moves by … cells", ylabel="where it reads")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    off = {name: (torch.tensor(values) - truth).abs().max().item() for name, values in read.items()}
    words = "; ".join(f"{name} is at most {most:.2f} cells off the truth" for name, most in off.items())
    words = f"Where the ops read while a box moves by 0 to {moved.max():.1f} cells: {words}."
    return View.of(figure, words, lines=True)
