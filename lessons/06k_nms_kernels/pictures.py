"""Words, bit by bit, and the scan over them. A kept row is green, a dropped one grey."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from mrcnn.lab.views.pictures import caption, draw_boxes, draw_dimmed, page
from mrcnn.lab.views.view import View
from mrcnn.visualize import COLOURS, INK, PAPER

KEPT, DROPPED, PALE = COLOURS[3], "#909090", "#e9e9e9"


def one_word(bits: Sequence[bool], row: int, word: int) -> View:
    """The 64 bits of a word, the lowest on the left, each with the number of the box it stands for."""
    figure = page(11, 1.5)
    axes = figure.add_axes((0.005, 0.0, 0.99, 0.8))
    for b, bit in enumerate(bits):
        axes.add_patch(Rectangle((b, 0), 1, 1, facecolor=INK if bit else PAPER, edgecolor="#999999", linewidth=0.5))
        axes.text(b + 0.5, 0.5, str(int(bit)), fontsize=9, ha="center", va="center", color=PAPER if bit else INK)
        if bit:
            y = -0.7 if b and bits[b - 1] else -0.25  # beside another number: lower
            axes.text(b + 0.5, y, str(64 * word + b), fontsize=9, ha="center", va="top", color=INK)
    value = sum(1 << b for b, bit in enumerate(bits) if bit)
    axes.set(xlim=(-0.2, len(bits) + 0.2), ylim=(-0.9, 1.05))
    axes.set_axis_off()
    axes.set_title(
        f"word {word} of row {row}: 0x{value:016x}   (numbers below: which box a bit stands for)",
        fontsize=9, color=INK, loc="left",
    )  # fmt: skip
    on = ", ".join(str(64 * word + b) for b, bit in enumerate(bits) if bit)
    words = f"Word {word} of row {row}, 64 bits: 0x{value:016x}. On are the bits of the boxes {on}."
    return View.of(figure, words, lines=True)


def word_table(image: Tensor, boxes: Tensor, bits: np.ndarray, kept: Sequence[int]) -> View:
    """Left the boxes (N, 4), right their words, bit by bit: bits (N, 64 x words) of which later boxes each overlaps."""
    n, columns = bits.shape
    height, side = 7.5, 3.6
    wide = side + 0.5 + 0.9 * height * columns / n
    figure = page(wide, height)
    left = figure.add_axes((0.05 / wide, 0.5 - side / height / 2, side / wide, side / height))
    draw_dimmed(left, image)
    dropped = [row for row in range(n) if row not in kept]
    draw_boxes(left, boxes.cpu()[dropped], DROPPED, 0.8, (0, (3, 2)))
    draw_boxes(left, boxes.cpu()[list(kept)], KEPT, 1.2)
    caption(left, f"{n} boxes, {len(kept)} kept")
    axes = figure.add_axes(((side + 0.4) / wide, 0.02, 0.9 * height * columns / n / wide, 0.9))
    _draw_bits(axes, bits, kept)
    for word in range(columns // 64):
        look = {"ha": "center", "va": "bottom", "color": INK, "weight": "bold"}
        axes.text(64 * word + 32, -1.2, f"word {word}", fontsize=9, **look)
    named = [row for place, row in enumerate(kept) if place == 0 or row > kept[place - 1] + 1]  # room for the number
    axes.set_yticks(named, [str(row) for row in named], fontsize=9, color=INK)
    words = f"{n} boxes over a scene, {len(kept)} of them kept; beside it their words: {int(bits.sum())} bits are on."
    return View.of(figure, words)


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


def scan_steps(bits: np.ndarray, kept: Sequence[int], steps: int = 8) -> View:
    """The words of "dropped" after each kept row of the scan: black is struck out now, grey was before."""
    columns = bits.shape[1]
    figure = page(11, 0.28 * steps + 0.5)
    axes = figure.add_axes((0.13, 0.02, 0.86, 1 - 0.4 / (0.26 * steps + 0.5)))
    dropped = np.zeros(columns, dtype=bool)
    for y, row in enumerate(kept[:steps]):
        for b in range(columns):
            now = bits[row, b]
            fill = INK if now else DROPPED if dropped[b] else KEPT if b == row else PAPER if b < len(bits) else PALE
            axes.add_patch(Rectangle((b, y + 0.1), 1, 0.8, facecolor=fill, edgecolor="#aaaaaa", linewidth=0.3))
        dropped |= bits[row]
        axes.text(-1, y + 0.5, f"keep {row}", fontsize=9, ha="right", va="center", color=INK)
    for edge in range(64, columns, 64):
        axes.axvline(edge, color=INK, linewidth=1.6)
    axes.set(xlim=(-0.2, columns + 0.2), ylim=(steps, 0))
    axes.set_axis_off()
    axes.set_title(
        "the words of `dropped`, after each box that is kept (green): black struck out now, grey before",
        fontsize=9, color=INK, loc="left",
    )  # fmt: skip
    rows = ", ".join(map(str, kept[:steps]))
    words = f"The words of `dropped` while the first {min(steps, len(kept))} kept boxes strike: {rows}."
    return View.of(figure, words, lines=True)
