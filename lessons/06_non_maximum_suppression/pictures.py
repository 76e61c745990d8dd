"""Boxes and their fates, and the table of overlaps.

Kept is drawn with a solid line, dropped with a dashed one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Rectangle
from torch import Tensor

from mrcnn.lab.views.pictures import caption, page, panels
from mrcnn.lab.views.view import View
from mrcnn.visualize import COLOURS, INK, PAPER, draw_image

KEPT, DROPPED, PALE = COLOURS[3], "#909090", "#e9e9e9"
DASHED = (0, (3, 2))


def draw_box(axes: Axes, box: Sequence[float], colour: str, width: float, style: Any = "-") -> None:
    """An outline; dark on both sides, so that it is seen on any picture."""
    x1, y1, x2, y2 = box
    for line, wide in ((INK, 1.6), (colour, 1.0)) if colour != DROPPED else ((colour, 1.0),):
        look = {"edgecolor": line, "linewidth": wide * width, "linestyle": style, "zorder": 3 - (colour == DROPPED)}
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **look))


def before_and_after(image: Tensor, before: Tensor, after: Tensor) -> View:
    """A picture with all boxes (N, 4) on the left, and what is left of them (K, 4) on the right."""
    figure, (left, right) = panels(2, side=4.6, columns=2)
    for axes, boxes, name in ((left, before, "before"), (right, after, "after")):
        draw_image(axes, image)
        for box in boxes.tolist():
            draw_box(axes, box, COLOURS[0], 1.0)
        caption(axes, f"{name} suppression: {len(boxes)} boxes")
    words = f"One scene twice: with all {len(before)} boxes found, and with the {len(after)} that suppression leaves."
    return View.of(figure, words)


def named_boxes(boxes: Tensor, scores: Tensor, names: str, kept: Sequence[int] | None = None) -> View:
    """A few boxes (N, 4), each with its letter and score."""
    figure = page(6.2, 4.8)
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    for row, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        lives = kept is None or row in kept
        colour = COLOURS[(row + 2) % len(COLOURS)] if lives else DROPPED
        draw_box(axes, (x1, y1, x2, y2), colour, 1.8, "-" if lives else DASHED)
        look = {"facecolor": PAPER, "edgecolor": colour, "linewidth": 1.6, "boxstyle": "round,pad=0.25"}
        text = f"{names[row]} {scores[row]:.2f}" + ("" if kept is None else " kept" if lives else " dropped")
        at = [(x1, y1, "left"), (x2, y2, "right")][row % 2]
        axes.text(*at[:2], text, fontsize=9, ha=at[2], va="center", bbox=look, zorder=5, color=INK)
    low, high = boxes[:, :2].amin(0).tolist(), boxes[:, 2:].amax(0).tolist()
    axes.set(xlim=(low[0] - 8, high[0] + 8), ylim=(high[1] + 6, low[1] - 6), aspect="equal")
    axes.set_axis_off()
    told = "; ".join(
        f"{names[row]}, score {scores[row]:.2f}, from ({x1:g}, {y1:g}) to ({x2:g}, {y2:g})"
        + ("" if kept is None else ", kept" if row in kept else ", dropped")
        for row, (x1, y1, x2, y2) in enumerate(boxes.tolist())
    )
    words = f"{len(boxes)} boxes: {told}."
    return View.of(figure, words, lines=True)


def overlap_table(iou: Tensor, threshold: float, names: str, kept: Sequence[int]) -> View:
    """The IoUs (N, N) of a few boxes. Above the diagonal: the pairs that matter; bold: above the threshold."""
    n = len(iou)
    figure = page(1.0 * n + 2.6, 0.6 * n + 1.0)
    axes = figure.add_axes((0.12, 0.02, 0.86, 0.82))
    for i in range(n):
        for j in range(n):
            matters, strikes = i < j, i < j and iou[i, j] > threshold
            fill = (KEPT if i in kept else DROPPED) if strikes else PAPER if matters else PALE
            axes.add_patch(Rectangle((j, i), 1, 1, facecolor=fill, edgecolor="#999999", linewidth=0.6))
            text = "" if not matters else f"{iou[i, j]:.2f}" + (f"\n{'strikes' if i in kept else 'too late'}" * strikes)
            weight = "bold" if strikes else "normal"
            axes.text(j + 0.5, i + 0.5, text, fontsize=9, ha="center", va="center", color=INK, weight=weight)
    for i in range(n):
        axes.text(n + 0.12, i + 0.5, "kept" if i in kept else "dropped", fontsize=9, va="center", color=INK)
    axes.set(xlim=(0, n + 1.2), ylim=(n + 0.02, -0.02))
    axes.set_xticks(np.arange(n) + 0.5, list(names), fontsize=9)
    axes.set_yticks(np.arange(n) + 0.5, [f"{name} strikes" for name in names], fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    pairs = [
        f"{names[i]} and {names[j]} {iou[i, j]:.2f}"
        + (", strikes" if i in kept else ", too late") * bool(iou[i, j] > threshold)
        for i in range(n)
        for j in range(i + 1, n)
    ]
    words = f"The IoUs of pairs: {'; '.join(pairs)}."
    return View.of(figure, words, lines=True)


def chain(boxes: Tensor, answers: dict[str, Sequence[int]]) -> View:
    """A chain of boxes, each overlapping the next; below, who is kept by which rule."""
    n, rows = len(boxes), len(answers)
    figure = page(9.0, 1.5 + 0.42 * rows)
    top = figure.add_axes((0.22, 0.42 * rows / (1.5 + 0.42 * rows), 0.77, 1.45 / (1.5 + 0.42 * rows)))
    x1, x2 = boxes[:, 0].numpy(), boxes[:, 2].numpy()
    centre = (x1 + x2) / 2
    for i in range(n):
        top.add_patch(
            Rectangle(
                (x1[i], 0.12 * (i % 2)), x2[i] - x1[i], 1, fill=False, edgecolor=COLOURS[i % 2 * 6], linewidth=1.6
            )
        )
        top.text(centre[i], 0.56, str(i), fontsize=9, ha="center", va="center", color=INK, weight="bold")
        if i:
            look = {"arrowstyle": "-|>", "mutation_scale": 9, "color": INK, "linewidth": 0.9}
            top.add_patch(
                FancyArrowPatch((centre[i - 1], 1.2), (centre[i], 1.2), connectionstyle="arc3,rad=-0.45", **look)
            )
    top.set(xlim=(x1.min() - 2, x2.max() + 2), ylim=(-0.05, 1.75))
    top.set_axis_off()
    below = figure.add_axes((0.22, 0.01, 0.77, 0.42 * rows / (1.5 + 0.42 * rows) - 0.02))
    for y, (name, kept) in enumerate(answers.items()):
        below.text(x1.min() - 4, y, name, fontsize=9, ha="right", va="center", color=INK)
        for i in range(n):
            lives = i in kept
            below.plot(centre[i], y, marker="o" if lives else "x", markersize=8, color=KEPT if lives else INK, mew=1.4)
    below.set(xlim=(x1.min() - 2, x2.max() + 2), ylim=(rows - 0.5, -0.5))
    below.set_axis_off()
    told = "; ".join(f"{name}: {', '.join(map(str, kept))}" for name, kept in answers.items())
    words = f"A chain of {n} boxes, each overlapping the next alone. Kept by {told}."
    return View.of(figure, words, lines=True)
