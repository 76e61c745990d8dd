"""Boxes before and after they move, what is drawn for the losses, and scores held against what is right."""

import torch
from torch import Tensor

from mrcnn.lab.views.pictures import BLUE, GREEN, GREY, LETTERS, RED, caption, draw_boxes, draw_dimmed, page, panels
from mrcnn.lab.views.view import View
from mrcnn.visualize import INK, draw_image


def moves(image: Tensor, truth: Tensor, before: Tensor, after: Tensor, names: list[str]) -> View:
    """One panel per box (K, 4): the object's true box in green, dotted before the move, solid after."""
    figure, axes = panels(len(names), side=2.6, columns=4)
    for place, (each, name) in enumerate(zip(axes, names, strict=True)):
        draw_image(each, (110 + 0.55 * image.float()).to(torch.uint8))  # paler
        draw_boxes(each, truth[place, None], GREEN, 6, alpha=0.6)
        draw_boxes(each, before[place, None], RED, 2.2, ":")
        draw_boxes(each, after[place, None], BLUE, 1.6)
        both = torch.stack((truth[place], before[place], after[place]))
        (left, top), (right, bottom) = both[:, :2].amin(0).tolist(), both[:, 2:].amax(0).tolist()
        x, y, half = (left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top) / 2 + 6
        each.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
        caption(each, name)
    words = "Objects with a proposal each, dotted, and where it moves, solid; thick: the truth. IoU before and after: "
    return View.of(figure, words + "; ".join(names) + ".")


def samples(image: Tensor, boxes: Tensor, classes: Tensor, true_boxes: int) -> View:
    """The sampled boxes (S, 4) over the scene, those on objects (class above 0) beside background."""
    figure, axes = panels(2, side=3.6)
    for each, kind, name in ((axes[0], classes > 0, "on an object"), (axes[1], classes == 0, "background")):
        draw_dimmed(each, image)
        draw_boxes(each, boxes[kind], BLUE if name != "background" else GREY, 1.4, alpha=0.8)
        caption(each, f"{int(kind.sum())} {name}" + (f", {true_boxes} of them true boxes" if each is axes[0] else ""))
    words = f"The samples of one scene: {int((classes > 0).sum())} on an object, {true_boxes} of them true boxes, "
    return View.of(figure, words + f"and {int((classes == 0).sum())} of background.")


def scatter(before: Tensor, after: Tensor) -> View:
    """A dot per proposal: its IoU before and after the move; above the diagonal it has become better."""
    axes = page(5, 4.4).add_axes((0.13, 0.13, 0.85, 0.84))
    worse = after < before
    axes.plot(before[~worse], after[~worse], ".", color=BLUE, markersize=4, alpha=0.35)
    axes.plot(before[worse], after[worse], "x", color=RED, markersize=5)
    axes.plot([0.5, 1], [0.5, 1], color=INK, linewidth=1)
    axes.text(0.99, 0.5, "below the line: worse", fontsize=LETTERS, ha="right", color=INK)
    axes.set(xlabel="IoU before", ylabel="IoU after (x: worse)", xlim=(0.49, 1.01), ylim=(min(0.3, after.min()), 1.02))
    axes.spines[["top", "right"]].set_visible(False)
    words = f"{len(before)} proposals by their IoU before and after the move: its mean goes from {before.mean():.2f} "
    return View.of(axes.figure, words + f"to {after.mean():.2f}; {int(worse.sum())} have become worse.")


def diagrams(binned: dict[str, tuple[Tensor, Tensor, Tensor]]) -> View:
    """Counts, mean scores and shares that are right, of each bin, under each name; the diagonal is honest."""
    figure, words = page(5.2 * len(binned), 4.6), []
    for axes, (name, (counts, mean, share)) in zip(figure.subplots(1, len(binned)), binned.items(), strict=True):
        spread = (share * (1 - share) / counts).sqrt()
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
        axes.errorbar(mean, share, spread, fmt="o-", color=BLUE, capsize=3)
        for x, y, count in zip(mean.tolist(), share.tolist(), counts.tolist(), strict=True):
            if count:
                axes.annotate(str(count), (x, y), (6, -11), textcoords="offset points", fontsize=LETTERS, color=INK)
                words.append(f"{name}, score {x:.2f}: {100 * y:.0f} % of {count}")
        axes.set(xlabel="mean score of the bin", ylabel="share that is right", xlim=(-0.04, 1.12), ylim=(-0.06, 1.06))
        axes.set_title(name, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return View.of(figure, "Share that is right by score. " + "; ".join(words) + ".", lines=True)
