"""Pictures for the lesson on non-maximum suppression: boxes and their fates, the table of overlaps, words, the scan.

Kept is drawn with a solid line, dropped with a dashed one; a kept row of a table is green, a dropped one grey.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from torch import Tensor

from mrcnn.visualize import COLOURS, INK, PAPER, draw_image

from .pictures import caption, draw_dimmed, page, panels

KEPT, DROPPED, PALE = COLOURS[3], "#a8a8a8", "#e9e9e9"
DASHED = (0, (3, 2))


def draw_boxes(axes: Axes, boxes: Tensor, kept: Sequence[int] | None = None, width: float = 1.1) -> None:
    """Outlines of boxes (N, 4). kept: the rows of the survivors; without it all are drawn alike."""
    for row, box in enumerate(boxes.tolist()):
        lives = kept is None or row in kept
        draw_box(axes, box, COLOURS[0] if kept is None else KEPT if lives else DROPPED, width, "-" if lives else DASHED)


def draw_box(axes: Axes, box: Sequence[float], colour: str, width: float, style: Any = "-") -> None:
    x1, y1, x2, y2 = box
    for line, wide in ((INK, 1.6), (colour, 1.0)) if colour != DROPPED else ((colour, 1.0),):
        look = {
            "edgecolor": line,
            "linewidth": wide * width,
            "linestyle": style,
            "zorder": 2 if colour == DROPPED else 3,
        }
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **look))


def before_and_after(image: Tensor, before: Tensor, after: Tensor) -> Figure:
    """A picture with all boxes (N, 4) on the left, and what is left of them (K, 4) on the right."""
    figure, (left, right) = panels(2, side=3.6, columns=2)
    for axes, boxes, name in ((left, before, "before"), (right, after, "after")):
        draw_image(axes, image)
        draw_boxes(axes, boxes, width=1.0)
        caption(axes, f"{name} suppression: {len(boxes)} boxes")
    return figure


def named_boxes(boxes: Tensor, scores: Tensor, names: str, kept: Sequence[int] | None = None) -> Figure:
    """A few boxes (N, 4), each with its letter and score."""
    figure = page(5.2, 4.0)
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
    return figure


def overlap_table(iou: Tensor, threshold: float, names: str, kept: Sequence[int]) -> Figure:
    """The IoUs (N, N) of a few boxes. Above the diagonal: the pairs that matter; bold: above the threshold."""
    n = len(iou)
    figure = page(0.78 * n + 2.2, 0.5 * n + 0.8)
    axes = figure.add_axes((0.12, 0.02, 0.86, 0.82))
    for i in range(n):
        for j in range(n):
            matters, strikes = i < j, i < j and iou[i, j] > threshold
            fill = (KEPT if i in kept else DROPPED) if strikes else PAPER if matters else PALE
            axes.add_patch(Rectangle((j, i), 1, 1, facecolor=fill, edgecolor="#999999", linewidth=0.6))
            text = "" if not matters else f"{iou[i, j]:.2f}" + (f"\n{'strikes' if i in kept else 'too late'}" * strikes)
            weight = "bold" if strikes else "normal"
            axes.text(j + 0.5, i + 0.5, text, fontsize=8, ha="center", va="center", color=INK, weight=weight)
    for i in range(n):
        axes.text(n + 0.12, i + 0.5, "kept" if i in kept else "dropped", fontsize=8.5, va="center", color=INK)
    axes.set(xlim=(0, n + 1.2), ylim=(n + 0.02, -0.02))
    axes.set_xticks(np.arange(n) + 0.5, list(names), fontsize=9)
    axes.set_yticks(np.arange(n) + 0.5, [f"{name} strikes" for name in names], fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def chain(boxes: Tensor, answers: dict[str, Sequence[int]]) -> Figure:
    """A chain of boxes, each overlapping the next; below, who is kept by which rule."""
    n, rows = len(boxes), len(answers)
    figure = page(7.6, 1.5 + 0.42 * rows)
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
        below.text(x1.min() - 4, y, name, fontsize=8.5, ha="right", va="center", color=INK)
        for i in range(n):
            lives = i in kept
            below.plot(centre[i], y, marker="o" if lives else "x", markersize=8, color=KEPT if lives else INK, mew=1.4)
    below.set(xlim=(x1.min() - 2, x2.max() + 2), ylim=(rows - 0.5, -0.5))
    below.set_axis_off()
    return figure


def one_word(bits: Sequence[bool], row: int, word: int) -> Figure:
    """The 64 bits of a word, the lowest on the left, each with the number of the box it stands for."""
    figure = page(8.6, 1.25)
    axes = figure.add_axes((0.005, 0.0, 0.99, 0.8))
    for b, bit in enumerate(bits):
        axes.add_patch(Rectangle((b, 0), 1, 1, facecolor=INK if bit else PAPER, edgecolor="#999999", linewidth=0.5))
        axes.text(b + 0.5, 0.5, str(int(bit)), fontsize=7, ha="center", va="center", color=PAPER if bit else INK)
        if bit:
            axes.text(b + 0.5, -0.25, str(64 * word + b), fontsize=6, ha="center", va="top", color=INK)
    value = sum(1 << b for b, bit in enumerate(bits) if bit)
    axes.set(xlim=(-0.2, len(bits) + 0.2), ylim=(-0.9, 1.05))
    axes.set_axis_off()
    axes.set_title(
        f"word {word} of row {row}: 0x{value:016x}   (numbers below: which box a bit stands for)",
        fontsize=8.5, color=INK, loc="left",
    )  # fmt: skip
    return figure


def word_table(image: Tensor, boxes: Tensor, bits: np.ndarray, kept: Sequence[int]) -> Figure:
    """Left the boxes (N, 4), right their words, bit by bit: bits (N, 64 x words) of which later boxes each overlaps."""
    n, columns = bits.shape
    height, side = 6.0, 3.4
    wide = side + 0.5 + 0.9 * height * columns / n
    figure = page(wide, height)
    left = figure.add_axes((0.05 / wide, 0.5 - side / height / 2, side / wide, side / height))
    draw_dimmed(left, image)
    draw_boxes(left, boxes.cpu(), kept, width=0.8)
    caption(left, f"{n} boxes, {len(kept)} kept")
    axes = figure.add_axes(((side + 0.4) / wide, 0.02, 0.9 * height * columns / n / wide, 0.9))
    _draw_bits(axes, bits, kept)
    for word in range(columns // 64):
        look = {"ha": "center", "va": "bottom", "color": INK, "weight": "bold"}
        axes.text(64 * word + 32, -1.2, f"word {word}", fontsize=9, **look)
    named = [row for place, row in enumerate(kept) if place == 0 or row > kept[place - 1] + 1]  # room for the number
    axes.set_yticks(named, [str(row) for row in named], fontsize=6.5, color=INK)
    return figure


def _draw_bits(axes: Axes, bits: np.ndarray, kept: Sequence[int]) -> None:
    """A row of cells per box: black a set bit, of a kept row on green; below the diagonal and past the end pale."""
    n, columns = bits.shape
    i, j = np.arange(n)[:, None], np.arange(columns)[None]
    lives = np.isin(np.arange(n), kept)[:, None]
    shade = np.full((n, columns, 3), 1.0)
    shade[np.broadcast_to(lives, shade.shape[:2])] = (0.72, 0.90, 0.83)
    shade[(j <= i) | (j >= n)] = (0.90, 0.90, 0.90)
    shade[bits & lives] = (0.0, 0.0, 0.0)
    shade[bits & ~lives] = (0.62, 0.62, 0.62)
    axes.imshow(shade, interpolation="nearest", aspect="equal")
    for edge in range(64, columns, 64):
        axes.axvline(edge - 0.5, color=INK, linewidth=1.4)
    axes.set_xticks([])
    axes.tick_params(length=0, pad=1)
    axes.spines[:].set_linewidth(0.6)


def scan_steps(bits: np.ndarray, kept: Sequence[int], steps: int = 8) -> Figure:
    """The words of "dropped" after each kept row of the scan: black is struck out now, grey was before."""
    columns = bits.shape[1]
    figure = page(8.6, 0.26 * steps + 0.5)
    axes = figure.add_axes((0.13, 0.02, 0.86, 1 - 0.4 / (0.26 * steps + 0.5)))
    dropped = np.zeros(columns, dtype=bool)
    for y, row in enumerate(kept[:steps]):
        for b in range(columns):
            now = bits[row, b]
            fill = INK if now else DROPPED if dropped[b] else KEPT if b == row else PAPER if b < len(bits) else PALE
            axes.add_patch(Rectangle((b, y + 0.1), 1, 0.8, facecolor=fill, edgecolor="#aaaaaa", linewidth=0.3))
        dropped |= bits[row]
        axes.text(-1, y + 0.5, f"keep {row}", fontsize=8, ha="right", va="center", color=INK)
    for edge in range(64, columns, 64):
        axes.axvline(edge, color=INK, linewidth=1.6)
    axes.set(xlim=(-0.2, columns + 0.2), ylim=(steps, 0))
    axes.set_axis_off()
    axes.set_title(
        "the words of `dropped`, after each box that is kept (green): black struck out now, grey before",
        fontsize=8.5, color=INK, loc="left",
    )  # fmt: skip
    return figure
