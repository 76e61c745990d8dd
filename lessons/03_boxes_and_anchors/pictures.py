"""Anchors and objects: which go together, how far apart they are, and which of them never meet."""

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from torch import Tensor

from mrcnn import visualize
from mrcnn.lab.views import pictures as views
from mrcnn.lab.views.pictures import BLUE, INK, LETTERS, ORANGE, RED
from mrcnn.lab.views.view import View

LINES = ((BLUE, "-"), (RED, "--"))


def moves(images: Sequence[Tensor], anchors: Tensor, objects: Tensor, deltas: Tensor, ious: Tensor) -> View:
    """One panel for each object (K, 4): its anchor dotted, itself solid, the deltas (K, 4) and IoU (K,) above."""
    figure, axes = views.panels(len(objects), side=2.55, columns=4)
    told = []
    for image, where, anchor, thing, delta, iou in zip(images, axes, anchors, objects, deltas, ious, strict=True):
        visualize.draw_image(where, image // 2 + 127)
        views.draw_moves(where, anchor[None], thing[None], width=2.2)
        size = "{:.0f} by {:.0f} pixels, IoU {:.2f}".format(*(thing[2:] - thing[:2]), iou)
        move = "dx {:+.2f} dy {:+.2f} dw {:+.2f} dh {:+.2f}".format(*delta.tolist())
        views.caption(where, size, move)
        told.append(f"{size}, {move}")
    return View.of(figure, f"Objects, solid, each with the anchor that overlaps it most, dotted: {'; '.join(told)}.")


def name_axes(axes: Axes, across: str, up: str) -> None:
    axes.set_xlabel(across, fontsize=LETTERS)
    axes.set_ylabel(up, fontsize=LETTERS)
    axes.tick_params(labelsize=LETTERS)
    axes.legend(frameon=False, fontsize=LETTERS, loc="lower right" if up == "height" else "best")
    axes.spines[["top", "right"]].set_visible(False)


def histograms(parts: dict[str, tuple[Tensor, Tensor]]) -> View:
    """Of each measure the values for small objects and those for large, counted."""
    figure = views.page(10, 4.6)
    told = []
    for axes, (name, groups) in zip(figure.subplots(2, len(parts) // 2).flat, parts.items(), strict=True):
        limit = float(torch.cat(groups).abs().quantile(0.99))
        for values, (colour, style), who in zip(groups, LINES, ("small", "large"), strict=True):
            look = {"histtype": "step", "color": colour, "linestyle": style, "linewidth": 1.6, "density": True}
            axes.hist(values.numpy(), bins=21, range=(-limit, limit), label=f"{who}: spread {values.std():.2g}", **look)
            told.append(f"{name}, {who} objects, spread {values.std():.2g}")
        axes.set_title(name, fontsize=LETTERS + 1, color=INK, loc="left")
        axes.set(yticks=[], ylim=(0, 1.35 * axes.get_ylim()[1]))
        axes.tick_params(labelsize=LETTERS)
        axes.legend(frameon=False, fontsize=LETTERS, loc="upper left")
        axes.spines[["top", "left", "right"]].set_visible(False)
    figure.tight_layout()
    return View.of(figure, f"Histograms: {'; '.join(told)}.", lines=True)


def shapes(objects: Tensor, best: Tensor, cells: Sequence[Tensor], threshold: float) -> View:
    """Widths and heights of objects (G, 4), crosses where `best` (G,) is below the threshold; squares: the anchors'."""
    figure = views.page(6.4, 5.2)
    axes = figure.subplots()
    sides, out = objects[:, 2:] - objects[:, :2], best < threshold
    axes.scatter(*sides[~out].T, s=9, color=BLUE, label=f"reached: {int((~out).sum())}")
    axes.scatter(*sides[out].T, s=40, marker="x", color=RED, label=f"not reached: {int(out.sum())}")
    shape = torch.cat([each[:, 2:] - each[:, :2] for each in cells])
    axes.scatter(*shape.T, s=60, marker="s", facecolor=ORANGE, edgecolor=INK, label=f"anchors: {len(shape)} shapes")
    top = float(sides.max()) + 8
    axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
    name_axes(axes, "width in pixels", "height")
    figure.tight_layout()
    missed = ", ".join("{:.0f} by {:.0f}".format(*each) for each in sides[out].tolist()[:12])
    return View.of(figure, f"Widths and heights of {len(sides)} objects. Not reached: {int(out.sum())}, of {missed}.")
