"""Poses with their left and right sides told apart, and heatmaps over the picture that they were made from."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.patheffects import Normal, Stroke
from torch import Tensor

from mrcnn.visualize import INK, PAPER, draw_image

from .pictures import BLUE, GREY, LETTERS, ORANGE, RED, VALUES, caption, draw_dimmed, panels
from .view import View

SIDES = {"left": (BLUE, "-", "L"), "right": (ORANGE, (0, (2, 1)), "R")}  # a colour, dashes, and a letter
LETTERED = ("wrist", "ankle")
FAINTEST = math.log(1e4)


def draw_sides(axes: Axes, keypoints: Tensor, names: Sequence[str], skeleton: Sequence[tuple[int, int]]) -> None:
    """Keypoints (J, 3) [x, y, v]: left limbs blue and solid, right ones orange and dashed, L and R at their ends."""
    there = (keypoints[:, 2] > 0).tolist()
    side = [name.partition("_")[0] for name in names]
    for first, second in skeleton:
        if there[first] and there[second]:
            colour, dashes, _ = SIDES.get(side[first] if side[first] == side[second] else "", (GREY, "-", ""))
            edge = [Stroke(linewidth=3.4, foreground=PAPER if colour != GREY else INK, alpha=0.8), Normal()]
            axes.plot(
                *keypoints[[first, second], :2].T.tolist(),
                color=colour,
                linestyle=dashes,
                linewidth=2,
                path_effects=edge,
            )
    for (x, y, _), yes, name, which in zip(keypoints.tolist(), there, names, side, strict=True):
        if yes and name.endswith(LETTERED) and which in SIDES:
            colour, _, letter = SIDES[which]
            box = {"boxstyle": "circle,pad=0.15", "facecolor": colour, "edgecolor": INK, "linewidth": 0.8}
            look = {"ha": "center", "va": "center", "weight": "bold", "fontsize": LETTERS, "bbox": box}
            axes.text(x, y, letter, color=PAPER if colour == BLUE else INK, **look)


def around(axes: Axes, image: Tensor, box: Tensor, margin: float = 0.0) -> None:
    """Of the picture (3, H, W) only a square around the box (4,), with a margin, in parts of the box's longer side."""
    height, width = image.shape[1:]
    x1, y1, x2, y2 = box.tolist()
    side = min(max(x2 - x1, y2 - y1) * (1 + 2 * margin), height, width)
    left = min(max((x1 + x2 - side) / 2, 0), width - side)
    top = min(max((y1 + y2 - side) / 2, 0), height - side)
    axes.set(xlim=(left, left + side), ylim=(top + side, top))


def sides(
    pictures: Sequence[tuple[Tensor, Tensor, Tensor]],
    names: Sequence[str],
    skeleton: Sequence[tuple[int, int]],
    titles: Sequence[str],
) -> View:
    """Pictures uint8 (3, H, W), each with a box (4,) to look at and the keypoints (J, 3) of the person in it."""
    figure, axes = panels(len(pictures), side=1.7 if len(pictures) > 4 else 2.5, columns=6)
    told = []
    for (image, box, keypoints), title, where in zip(pictures, titles, axes, strict=True):
        draw_image(where, image)
        draw_sides(where, keypoints, names, skeleton)
        around(where, image, box, 0.08)
        caption(where, title)
        there = [
            f"{name.replace('_', ' ')} at x {x:.0f}"
            for name, (x, _, v) in zip(names, keypoints.tolist(), strict=True)
            if v > 0 and name.endswith(LETTERED)
        ]
        told.append(f"{title}: {', '.join(there)}")
    return View.of(figure, f"People with their left limbs marked L and their right limbs R. {'; '.join(told)}.")


def draw_heatmap(axes: Axes, image: Tensor, box: Tensor, heatmap: Tensor, title: str, mark: Tensor) -> None:
    """A heatmap of logits (M, M) over its box (4,) of the picture, a ring around `mark` (x, y).

    Dark are all cells with less than 1 / 10,000 of the probability of the highest one.
    """
    x1, y1, x2, y2 = box.tolist()
    draw_dimmed(axes, image)
    look = {"cmap": VALUES, "interpolation": "nearest", "alpha": 0.85, "vmin": float(heatmap.max()) - FAINTEST}
    axes.imshow(heatmap, extent=(x1, x2, y2, y1), **look)
    for colour, wide in ((PAPER, 4), (RED, 2)):
        axes.plot(*mark.tolist(), marker="o", color="none", markersize=14, markeredgecolor=colour, markeredgewidth=wide)
    around(axes, image, box)
    caption(axes, title)


def heatmaps_over(image: Tensor, box: Tensor, maps: Mapping[str, Tensor], marks: Sequence[Tensor]) -> View:
    """Heatmaps (M, M) over one box (4,), by their names, each with a ring around its mark (x, y)."""
    figure, axes = panels(len(maps), side=2.3, columns=4)
    for (name, heatmap), mark, where in zip(maps.items(), marks, axes, strict=True):
        draw_heatmap(where, image, box, heatmap, name, mark)
    told = "; ".join(
        f"{name}: a ring at ({mark[0]:.0f}, {mark[1]:.0f})" for name, mark in zip(maps, marks, strict=True)
    )
    return View.of(figure, f"Heatmaps over a person's box. {told}.")
