"""What a cell sees, two kinds of networks at their first steps, boxes by level, and the means of small batches."""

from itertools import pairwise

import numpy as np
import torch.nn.functional as F
from matplotlib.axes import Axes
from torch import Tensor

from mrcnn.lab.views.pictures import BLUE, GREY, LETTERS, RED, caption, draw_boxes, page, panels
from mrcnn.lab.views.view import View
from mrcnn.visualize import COLOURS, INK, draw_image

LOOKS = (BLUE, "-", "o"), (RED, "--", "s")


def sees(image: Tensor, fields: dict[str, tuple[Tensor, Tensor, Tensor]], side: float = 2.0) -> View:
    """The picture, coloured where it counts. fields: name -> how much (H, W), the box of all of it, of most of it."""
    (figure, axes), words = panels(len(fields), side=side), []
    low, high = min(each[1].min() for each in fields.values()), max(each[1].max() for each in fields.values())
    for where, (name, (field, whole, most)) in zip(axes, fields.items(), strict=True):
        smooth = F.avg_pool2d(field[None, None], 13, 1, 6)[0, 0]
        seen = (1.5 * smooth / smooth.max()).clamp(max=1) ** 0.4
        pale = 170 + 85 / 255 * image.float().mean(0)
        draw_image(where, (pale + (image - pale) * seen).round().byte())
        where.set(xlim=(low - 20, high + 20), ylim=(high + 20, low - 20))
        draw_boxes(where, whole[None], INK, 1.4, ":")
        draw_boxes(where, most[None], RED, 1.8)
        wide, mostly = (f"{box[2] - box[0]:.0f}" for box in (whole, most))
        caption(where, name, f"{wide} pixels, 90 % in {mostly}")
        words.append(f"{name} {wide} pixels wide, nine tenths of it in a square of {mostly}")
    return View.of(figure, f"A picture, coloured where one cell in its middle sees it: {'; '.join(words)}.")


def first_steps(losses: dict[str, Tensor], gradients: dict[str, Tensor], base: float) -> View:
    """Losses (seeds, steps), and the gradient's norm in each block before the first step (seeds, blocks)."""
    figure = page(9.6, 3.6)
    left, right = figure.subplots(1, 2)
    for axes, runs in ((left, losses), (right, gradients)):
        for (name, values), (colour, line, mark) in zip(runs.items(), LOOKS, strict=True):
            x = np.arange(values.shape[1]) + 1
            axes.plot(x, values.T, line, color=colour, linewidth=0.6, alpha=0.5)
            axes.plot(x, values.mean(0), line, color=colour, marker=mark, markersize=4, markevery=3, label=name)
    left.axhline(base, color=GREY, linestyle=":", label="guessing")
    right.set(yscale="log", xticks=[1, 5, 10, 15, 20], yticks=(ticks := [0.1, 1, 10, 100]), yticklabels=ticks)
    _tidy(left, "the loss, step by step")
    _tidy(right, "size of the gradient before the first step, block by block")
    left.legend(fontsize=LETTERS, frameon=False)
    figure.tight_layout()
    told = "; ".join(
        f"{name}: from {losses[name][:, :5].mean():.2f} to {losses[name][:, -5:].mean():.2f}, gradient "
        f"{gradients[name][:, 0].mean():.2g} in the first block and {gradients[name][:, -1].mean():.2g} in the last"
        for name in losses
    )
    return View.of(figure, f"Losses and gradients of two networks: {told}.", lines=True)


def sides(rules: dict[str, Tensor], size: float) -> View:
    """How many boxes have which side, name -> (K,), and which level they belong to by the canonical size."""
    figure = page(9.6, 1.9 * len(rules))
    borders, words = [8, *(size * 2.0**k for k in (-1, 0, 1)), 1024], []
    for axes, (name, side) in zip(figure.subplots(len(rules), 1, sharex=True), rules.items(), strict=True):
        axes.hist(side, np.geomspace(8, 1024, 57), color=COLOURS[1])
        axes.margins(y=0.3)
        counts = [int(((side >= low) & (side < high)).sum()) for low, high in pairwise(borders)]
        for level, ((low, high), count) in enumerate(zip(pairwise(borders), counts, strict=True), start=2):
            axes.axvline(low, color=INK, linewidth=1.2)
            look = {"ha": "center", "va": "top", "fontsize": LETTERS, "transform": axes.get_xaxis_transform()}
            axes.text((low * high) ** 0.5, 0.97, f"P{level}: {count}", **look)
        ticks = [8, 16, 32, 64, *(int(border) for border in borders[1:])]
        axes.set(xscale="log", xlim=(8, 1024), xticks=ticks, xticklabels=ticks)
        _tidy(axes, f"{name}: side of the box in pixels")
        words.append(f"{name}: " + ", ".join(f"{count} on P{level}" for level, count in enumerate(counts, start=2)))
    figure.tight_layout()
    return View.of(figure, f"Boxes by their side, and by level. {'; '.join(words)}.", lines=True)


def batch_means(means: dict[int, Tensor], frozen: float) -> View:
    """Of batches of each size, one channel's mean in each (B,); the frozen one is a line."""
    figure = page(9.6, 0.5 * len(means) + 0.9)
    axes = figure.subplots()
    for row, values in enumerate(means.values()):
        axes.plot(values, np.full(len(values), row), "o", color=BLUE, markersize=7, alpha=0.5)
    axes.axvline(frozen, color=RED, linewidth=2)
    axes.text(frozen, len(means) - 0.65, "\u00a0frozen", color=INK, fontsize=LETTERS)
    axes.set(ylim=(len(means) - 0.5, -0.5), yticks=range(len(means)), yticklabels=[f"batches of {n}" for n in means])
    _tidy(axes, "mean of one channel in each batch")
    figure.tight_layout()
    told = "; ".join(f"of {n} pictures from {each.min():.2f} to {each.max():.2f}" for n, each in means.items())
    return View.of(figure, f"One channel's mean in batches {told}; frozen it is {frozen:.2f}.", lines=True)


def _tidy(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=LETTERS + 1, loc="left")
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=LETTERS)
