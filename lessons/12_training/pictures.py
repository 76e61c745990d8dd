"""Scenes with what is said of them, and the losses of sick runs beside those of a healthy one."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from mrcnn.lab.views.pictures import BLUE, GREY, INK, LETTERS, PAPER, caption, draw_boxes, page, panels
from mrcnn.lab.views.view import View
from mrcnn.visualize import COLOURS, draw_image, draw_mask


def scenes(images: Sequence[Tensor], objects: Sequence[dict], names: Sequence[str], labels: dict, words: str) -> View:
    """Pictures with their objects, targets or results, each with the first two letters of its class."""
    figure, axes = panels(len(images), side=2.05, head=0.3)
    told = []
    for where, image, each, name in zip(axes, images, objects, names, strict=True):
        draw_image(where, image)
        masks = each["masks"].reshape(-1, *image.shape[1:])
        for box, label, mask in zip(each["boxes"], each["labels"].tolist(), masks, strict=True):
            colour, look = COLOURS[label - 1], {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
            draw_mask(where, mask.numpy(), box.numpy(), colour)
            draw_boxes(where, box[None], colour, 1.6)
            x, y = float(box[0].clamp(3, 58)), float(box[1].clamp(3, 60))
            where.text(x, y, labels["categories"][label][:2], fontsize=LETTERS, va="center", color=INK, bbox=look)
        caption(where, name)
        told.append(f"{name}, {', '.join(labels['categories'][i] for i in each['labels'].tolist()) or 'nothing'}")
    return View.of(figure, f"{words}: {'; '.join(told)}.")


def beside_healthy(healthy: Tensor, runs: Mapping[str, Tensor], losses: Sequence[str], top: Sequence[float]) -> View:
    """A row per run, a column per loss (steps, losses): the run's line, blue, and the healthy one's, grey and dashed.

    top: what each column shows at most. A line above it is drawn at that height, and its largest value written.
    """
    figure = page(10.8, 1.5 * len(runs) + 0.3)
    grid, told = figure.subplots(len(runs), len(losses), squeeze=False), []
    for row, (name, run) in zip(grid, runs.items(), strict=True):
        for column, (where, loss, high) in enumerate(zip(row, losses, top, strict=True)):
            mine = run[:, column]
            where.plot(healthy[:, column].clamp(max=high), "--", color=GREY, linewidth=1.4)
            where.plot(mine.clamp(max=high), color=BLUE, linewidth=1.8, marker="o", markersize=3.5, markevery=6)
            words = f"first {float(mine[0]):.3g}" + f", up to {float(mine.max()):.2g}" * bool(mine.max() > high)
            where.text(0.98, 0.95, words, transform=where.transAxes, ha="right", va="top", fontsize=LETTERS, color=INK,
                       bbox={"facecolor": "#ffffffcc", "edgecolor": "none", "pad": 1})  # fmt: skip
            where.set_ylim(0, 1.4 * high)  # above the lines there is room for words
            where.set_title(f"{name}: {loss}" if not column else loss, fontsize=LETTERS, loc="left", color=INK)
            where.tick_params(labelsize=LETTERS)
            where.set_xlabel("step" if name == list(runs)[-1] else "", fontsize=LETTERS, color=INK)
            where.spines[["top", "right"]].set_visible(False)
            told.append(f"{name}, {loss}: {words}, last {float(mine[-4:].mean()):.2g} "
                        f"(healthy {float(healthy[-4:, column].mean()):.2g})")  # fmt: skip
    figure.tight_layout()
    return View.of(figure, f"Losses of runs beside those of a healthy one, dashed. {'; '.join(told)}.", lines=True)
