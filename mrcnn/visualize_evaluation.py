"""Pictures of an evaluation: what was taken for what, and precision over recall."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure

from mrcnn.visualize import COLOURS, INK, PAPER, PARTS, new_figure

NUMBERED = 25  # categories at most whose counts are written into the cells
GREY = "#d8d8d8"
SHARES = LinearSegmentedColormap.from_list("shares", [PAPER, COLOURS[6]]).with_extremes(bad=GREY)


def draw_confusion(counts: np.ndarray, categories: Sequence[str], title: str = "") -> Figure:
    """How often a true category was found as another.

    counts (C + 1, C + 1): row by row the true categories and, last, nothing; column by column the found ones and, last,
    missed. What is neither there nor found cannot be counted, so the last cell is grey.
    """
    size = len(counts)
    numbered = size <= NUMBERED + 1
    cell = 0.45 if numbered else min(0.15, 14 / size)  # inches
    letters = 8 if numbered else 50 * cell  # points
    rows, columns = [*categories, "nothing"], [*categories, "missed"]
    names = 0.35 + 0.009 * letters * max(map(len, rows + columns))  # inches that they take, and the axis' own name
    side, head, scale = cell * size, 0.4, 0.9
    figure = new_figure(max(names + side + scale, 5.5), head + side + names)
    width, height = figure.get_size_inches()
    axes = figure.add_axes((names / width, names / height, side / width, side / height))
    shares = shares_of_rows(counts)
    roots = PowerNorm(0.5, 0, 1)  # so that rare confusions show: a share of 4 % has a fifth of the colour
    image = axes.imshow(shares, cmap=SHARES, norm=roots, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(size), columns, rotation=90, fontsize=letters, parse_math=False)
    axes.set_yticks(range(size), rows, fontsize=letters, parse_math=False)
    axes.tick_params(length=0, pad=2)
    axes.set_xlabel("found", fontsize=9, color=INK, weight="bold")
    axes.set_ylabel("true", fontsize=9, color=INK, weight="bold")
    for draw_line in (axes.axhline, axes.axvline):
        draw_line(size - 1.5, color=INK, linewidth=0.6)
    if numbered:
        _write_counts(axes, counts, shares)
    beside = figure.add_axes(((names + side + 0.12) / width, names / height, 0.12 / width, side / height))
    bar = figure.colorbar(image, cax=beside, ticks=[0, 0.01, 0.05, 0.1, 0.2, 0.5, 1], format="{x:.0%}")
    bar.set_label("share of the row", fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7)
    figure.text(0.1 / width, 1 - 0.08 / height, title, fontsize=9, color=INK, va="top", weight="bold")
    return figure


def shares_of_rows(counts: np.ndarray) -> np.ma.MaskedArray:
    """Counts divided by the sum of their row, 0 in an empty row; without the last cell."""
    shares = np.ma.array(counts / np.maximum(counts.sum(1, keepdims=True), 1))
    shares[-1, -1] = np.ma.masked
    return shares


def _write_counts(axes: Axes, counts: np.ndarray, shares: np.ma.MaskedArray) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if not shares.mask[row, column]:
            colour = PAPER if shares[row, column] > 0.3 else INK if count else GREY
            axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)


def draw_precision_recall(precision: dict[str, np.ndarray], categories: dict[str, Sequence[str]]) -> Figure:
    """For each kind ("bbox", "segm", "keypoints") precision over recall, of each category and their mean.

    precision (T, R, K): pycocotools' own, at IoU 0.50, 0.55, …, 0.95 and recall 0, 0.01, …, 1; -1 for a category
    without ground truth. categories: the names of the K.
    """
    side, head = 4.0, 0.4
    figure = new_figure(side * max(len(precision), 1), side + head)
    title = "Precision over recall" if precision else "Precision over recall: there was nothing to measure"
    figure.suptitle(title, x=0.02, ha="left", fontsize=10, color=INK, weight="bold")
    for place, (kind, values) in enumerate(precision.items(), start=1):
        axes = figure.add_subplot(1, len(precision), place)
        _draw_kind(axes, kind, values, categories[kind])
    figure.tight_layout()
    return figure


def _draw_kind(axes: Axes, kind: str, precision: np.ndarray, categories: Sequence[str]) -> None:
    overlap = "OKS" if kind == "keypoints" else "IoU"
    measured = np.flatnonzero(precision[0, 0] >= 0)
    if len(measured) > 1:  # the curve of a single one is the mean
        _draw_categories(axes, precision[0][:, measured], [categories[place] for place in measured])
    if len(measured):
        for row, style in ((0, "-"), (5, "--")):
            mean = precision[row][:, measured].mean(1)
            label = f"mean, {overlap} {0.5 + 0.05 * row:.2f}"
            axes.plot(np.linspace(0, 1, len(mean)), mean, style, color=INK, linewidth=1.8, label=label)
        for text in axes.legend(fontsize=7, loc="lower left", framealpha=0.85).get_texts():
            text.set_parse_math(False)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04))
    axes.set_xlabel("recall: share of the objects found", fontsize=8)
    axes.set_ylabel("precision: share of the detections right", fontsize=8)
    each = f"; each category at {overlap} 0.50" if len(measured) > 1 else ""
    axes.set_title(f"{PARTS[kind][0]}{each}", fontsize=9, loc="left")
    axes.tick_params(labelsize=8)
    axes.grid(color="#e8e8e8", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_categories(axes: Axes, curves: np.ndarray, names: Sequence[str]) -> None:
    """Curves (R, K): each with a colour and its name, or all grey where there are not as many colours."""
    recall = np.linspace(0, 1, len(curves))
    if len(names) > len(COLOURS):
        axes.plot(recall, curves, color=GREY, linewidth=0.8)[0].set_label("each category")
        return
    for name, colour, curve in zip(names, COLOURS, curves.T, strict=False):
        axes.plot(recall, curve, color=colour, linewidth=1.3, label=name)
