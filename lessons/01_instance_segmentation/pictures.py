"""A scene as classes, boxes and instances; masks cell by cell."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from mrcnn.lab.views.pictures import GREY, LETTERS, caption, draw_dimmed, page, panels
from mrcnn.lab.views.view import View
from mrcnn.visualize import COLOURS, INK, PAPER, draw_box, draw_image, draw_mask

KINDS = ["picture"], ["semantic segmentation"], ["object detection"], ["instance segmentation"]
TAG = {"fontsize": LETTERS, "color": INK, "ha": "center", "va": "center"}
PAPER_TAG = {"boxstyle": "round,pad=0.15", "facecolor": PAPER, "edgecolor": INK, "linewidth": 0.6}


def draw_numbered(axes: Axes, image: Tensor, masks: Sequence[Tensor], names: Sequence[str]) -> None:
    """Masks (H, W) over a pale picture, each with its name on the pixel that is deepest inside it."""
    draw_dimmed(axes, image)
    for i, mask in enumerate(masks):
        ys, xs = mask.numpy().nonzero()
        draw_mask(axes, mask.numpy(), np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]), COLOURS[i % 7])
        near = np.hypot(xs - np.median(xs), ys - np.median(ys)).argmin()
        axes.text(xs[near] + 0.5, ys[near] + 0.5, names[i], bbox=PAPER_TAG, **TAG)


def three_ways(image: Tensor, target: dict, semantic: Tensor, names: Sequence[str]) -> View:
    """A picture, its semantic map (H, W), its boxes, its instances."""
    figure, (photo, classes, boxes, instances) = panels(4, side=2.6)
    labels = target["labels"].tolist()
    things = [f"{names[label]} {labels[:i].count(label) + 1}" for i, label in enumerate(labels)]
    kinds = sorted(set(labels))
    draw_image(photo, image)
    draw_numbered(classes, image, [semantic == label for label in kinds], [names[label] for label in kinds])
    draw_dimmed(boxes, image)
    for i, box in enumerate(target["boxes"].numpy()):
        draw_box(boxes, box, COLOURS[i], 1.6)
        boxes.text(*box[:2], things[i], bbox=PAPER_TAG, **TAG | {"ha": "left"})
    draw_numbered(instances, image, target["masks"], things)
    for axes, words in zip(figure.axes, KINDS, strict=True):
        caption(axes, *words)
    pixels = ", ".join(f"{thing} {int(mask.sum())} pixels" for thing, mask in zip(things, target["masks"], strict=True))
    areas = ", ".join(f"{names[label]} {int((semantic == label).sum())} pixels" for label in kinds)
    return View.of(figure, f"One scene four times: the picture; classes: {areas}; boxes; instances: {pixels}.")


def masks_in_a_row(image: Tensor, shown: dict[str, Sequence[Tensor]]) -> View:
    """Under each name some masks (H, W), which get numbers."""
    figure, axes = panels(len(shown), side=2.6)
    for where, (name, masks) in zip(axes, shown.items(), strict=True):
        draw_numbered(where, image, masks, [str(i) for i in range(1, len(masks) + 1)])
        caption(where, name)
    areas = (f"{name}: {', '.join(str(int(mask.sum())) for mask in masks)} pixels" for name, masks in shown.items())
    return View.of(figure, f"Masks over one picture. {'; '.join(areas)}.")


def fates(tally: dict[int, dict[str, int]]) -> View:
    """Bars: of the instances that are one of n of a kind, how many come back whole, merged, in pieces."""
    figure = page(9.0, 0.42 * len(tally) + 0.6)
    axes = figure.add_axes((0.16, 0.02, 0.82, 0.82))
    told = []
    for row, (many, counts) in enumerate(sorted(tally.items())):
        left, total = 0.0, sum(counts.values())
        for (name, count), colour in zip(counts.items(), (COLOURS[3], COLOURS[0], COLOURS[1]), strict=True):
            share = count / total
            axes.barh(row, share, left=left, color=colour, edgecolor=PAPER)
            if share > 0.04:
                axes.text(left + share / 2, row, f"{100 * share:.0f}%" + f" {name}" * (share > 0.12), **TAG)
            left += share
        axes.text(-0.01, row, f"{many} of a kind ({total})", **TAG | {"ha": "right"})
        told.append(f"{many} of a kind: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    axes.set(xlim=(0, 1), ylim=(len(tally) - 0.5, -0.6))
    axes.set_axis_off()
    caption(axes, "what becomes of an instance; from left to right: whole, merged, in pieces")
    return View.of(figure, f"What becomes of instances. {'; '.join(told)}.", lines=True)


def cells(mask: Tensor, polygon: Sequence[float] = (), other: Tensor | None = None) -> View:
    """A small mask (H, W): cells numbered down columns; or a polygon, and x where only `other` is 1, o where not."""
    height, width = mask.shape
    figure = page(0.44 * width + 0.2, 0.44 * height + 0.2)
    axes = figure.add_axes((0.02, 0.02, 0.96, 0.96))
    for y in range(height):
        for x in range(width):
            colour = COLOURS[0] if mask[y, x] else PAPER
            axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor=GREY, linewidth=0.6))
            differs = "" if other is None or mask[y, x] == other[y, x] else "o" if mask[y, x] else "x"
            text, look = (differs, {"weight": "bold", "fontsize": 14}) if len(polygon) else (str(x * height + y), {})
            axes.text(x + 0.5, y + 0.5, text, **TAG | look)
    axes.plot([*polygon[::2], *polygon[:1]], [*polygon[1::2], *polygon[1:2]], color=INK, linewidth=1.6)
    axes.set(xlim=(-0.1, width + 0.1), ylim=(height + 0.1, -0.1), aspect="equal")
    axes.set_axis_off()
    rows = "; ".join("".join(map(str, row)) for row in mask.int().tolist())
    differs = "" if other is None else f" In {int((mask != other).sum())} cells the other mask differs."
    return View.of(figure, f"A mask of {height} by {width} cells, row by row: {rows}.{differs}", lines=True)
