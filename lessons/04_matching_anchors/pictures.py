"""Pictures for the lesson on matching: the table of IoUs as it fills, and which anchors answer for which object.

Objects are letters, anchors numbers. A match has a thick frame and its object's letter; ignored is "?", background "-".
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from mrcnn import boxes as box_maths
from mrcnn import ops
from mrcnn.lab.views.pictures import GREY, caption, draw_boxes, draw_dimmed, page, panels
from mrcnn.lab.views.view import View
from mrcnn.visualize import COLOURS, INK, PAPER, draw_image

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
STYLES = ("-", (0, (5, 2)), (0, (1, 1)), (0, (5, 1, 1, 1)))
SHADE = np.array([0.34, 0.71, 0.91])  # of a cell with an IoU of 1


def verdict(match: int) -> str:
    """What a match stands for, in one letter."""
    return LETTERS[match] if match >= 0 else {-1: "-", -2: "?"}[match]


def draw_table(axes: Axes, table: Tensor, matches: Sequence[int] = (), filled: int | None = None) -> None:
    """A table of IoUs (G, A), the first `filled` columns of it; each column's largest framed, its verdict below."""
    rows, columns = table.shape
    filled = columns if filled is None else filled
    for a in range(columns):
        axes.text(a + 0.5, -0.25, str(a), ha="center", va="center", fontsize=10, color=GREY)
        best = int(table[:, a].argmax())
        for g in range(rows):
            value = float(table[g, a])
            known = a < filled
            colour = tuple(1 - value * (1 - SHADE)) if known else "#eeeeee"
            axes.add_patch(Rectangle((a, g), 1, 1, facecolor=colour, edgecolor="#bbbbbb", linewidth=0.6))
            if known:
                text = f"{value:.2f}".lstrip("0") if value else "0"
                axes.text(a + 0.5, g + 0.5, text, ha="center", va="center", fontsize=10, color=INK)
            if known and g == best and value:
                inner = Rectangle((a + 0.06, g + 0.06), 0.88, 0.88, fill=False, edgecolor=INK, linewidth=1.6, zorder=3)
                axes.add_patch(inner)
        if a < min(filled, len(matches)):
            axes.text(a + 0.5, rows + 0.35, verdict(matches[a]), ha="center", va="center", fontsize=10, weight="bold")
    for g in range(rows):
        axes.text(-0.2, g + 0.5, LETTERS[g], ha="center", va="center", fontsize=10, weight="bold", color=INK)
    axes.set(xlim=(-0.5, columns + 0.1), ylim=(rows + 0.7, -0.6))
    axes.set_axis_off()


def draw_small_world(axes: Axes, objects: Tensor, anchors: Tensor, shown: Sequence[int] | None = None) -> None:
    """A few objects (G, 4), filled, and anchors (A, 4), outlined, on squared paper; `shown` of the anchors."""
    for g, (x1, y1, x2, y2) in enumerate(objects.tolist()):
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, facecolor=COLOURS[g], alpha=0.45, edgecolor="none"))
        axes.text(x1 + 0.25, y1 + 0.6, LETTERS[g], fontsize=10, weight="bold", color=INK, va="center")
    for a in range(len(anchors)) if shown is None else shown:
        x1, y1, x2, y2 = anchors[a].tolist()
        look = {"fill": False, "edgecolor": INK, "linewidth": 1.3, "linestyle": STYLES[a % len(STYLES)]}
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **look))
        axes.text(x2 - 0.1, y2 - 0.1, str(a), fontsize=10, ha="right", va="bottom", color=INK)
    width, height = (int(max(objects[:, i].max(), anchors[:, i].max())) + 1 for i in (2, 3))
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xticks=range(width + 1), yticks=range(height + 1))
    axes.grid(color="#e2e2e2", linewidth=0.6)
    axes.tick_params(length=0, labelsize=9, labelcolor=GREY)
    axes.spines[:].set_color("#cccccc")


def in_words(boxes: Tensor, names: Sequence[str]) -> str:
    """Where boxes lie on squared paper."""
    return "; ".join(
        f"{name} from ({x1:g}, {y1:g}) to ({x2:g}, {y2:g})"
        for name, (x1, y1, x2, y2) in zip(names, boxes.tolist(), strict=True)
    )


def small_world(objects: Tensor, anchors: Tensor) -> View:
    """Objects and anchors on squared paper."""
    figure = page(6.2, 4.5)
    draw_small_world(figure.add_axes((0.05, 0.06, 0.93, 0.92)), objects, anchors)
    things, boxes = LETTERS[: len(objects)], [f"anchor {a}" for a in range(len(anchors))]
    words = f"Squared paper, x to the right, y down. Objects: {in_words(objects, things)}. "
    return View.of(figure, f"{words}Anchors: {in_words(anchors, boxes)}.", lines=True)


def filmstrip(objects: Tensor, anchors: Tensor, high: float, low: float) -> View:
    """The table of IoUs filled in anchor by anchor, one frame each; the last frame is the whole of it."""
    table = box_maths.iou(objects, anchors)
    matches = ops.match_anchors(anchors, objects, high, low)[0].tolist()
    columns, side = 3, 3.5
    rows = -(-len(anchors) // columns)
    figure = page(columns * side, rows * 3.55)
    for a in range(len(anchors)):
        row, column = divmod(a, columns)
        top = 1 - (row + 0.06) / rows
        world = figure.add_axes(((column + 0.06) / columns, top - 0.52 / rows, 0.9 / columns, 0.52 / rows))
        draw_small_world(world, objects, anchors, [a])
        world.set(xticklabels=[], yticklabels=[])
        world.set_title(f"anchor {a}", fontsize=10, loc="left", color=INK, pad=3)
        below = figure.add_axes(((column + 0.06) / columns, top - 0.9 / rows, 0.9 / columns, 0.34 / rows))
        draw_table(below, table, matches, filled=a + 1)
    columns_ = "; ".join(
        f"anchor {a}: {', '.join(f'{value:.2f}' for value in table[:, a].tolist())}, so {verdict(match)}"
        for a, match in enumerate(matches)
    )
    words = (
        f"The table of IoUs, a column per anchor, each with objects {', '.join(LETTERS[: len(objects)])}. {columns_}."
    )
    return View.of(figure, words, {"ious": table.tolist(), "matches": matches}, lines=True)


def draw_matches(axes: Axes, image: Tensor, objects: Tensor, anchors: Tensor, matches: Tensor) -> None:
    """The anchors that answer for an object, in its colour and style, over a pale picture; ignored ones dotted grey."""
    draw_dimmed(axes, image)
    draw_boxes(axes, anchors[matches == -2], GREY, 0.35, ":")
    for g, thing in enumerate(objects):
        colour, mine = COLOURS[g % len(COLOURS)], anchors[matches == g]
        draw_boxes(axes, thing[None], INK, 2.2)
        draw_boxes(axes, thing[None], colour, 1.2)
        draw_boxes(axes, mine, colour, 2.0, STYLES[1])
        look = {"facecolor": PAPER if len(mine) else INK, "edgecolor": INK, "boxstyle": "round,pad=0.15"}
        text = f"{LETTERS[g]} {len(mine)}"
        x, y = thing[0].item(), max(thing[1].item(), 4)
        axes.text(x, y, text, fontsize=10, color=INK if len(mine) else PAPER, bbox=look, va="center", zorder=5)


def scene(image: Tensor, objects: Tensor, anchors: Tensor, found: dict[str, Tensor]) -> View:
    """The picture with its objects, then one panel for each of `found`: name -> matches (A,)."""
    figure, axes = panels(1 + len(found), side=3.3, columns=3)
    draw_image(axes[0], image)
    for g, (thing, colour) in enumerate(zip(objects, COLOURS * 4, strict=False)):
        draw_boxes(axes[0], thing[None], INK, 2.4)
        draw_boxes(axes[0], thing[None], colour, 1.4)
        axes[0].text(*thing[:2].tolist(), LETTERS[g], fontsize=10, bbox={"facecolor": PAPER, "pad": 1.5}, zorder=5)
    caption(axes[0], f"{len(objects)} objects", f"{len(anchors):,} anchors, not drawn")
    told = [f"A scene with {len(objects)} objects and {len(anchors)} anchors."]
    for each, (name, matches) in zip(axes[1:], found.items(), strict=True):
        per_object = ", ".join(f"{LETTERS[g]} {int((matches == g).sum())}" for g in range(len(objects)))
        told.append(f"{name}: anchors that answer for each object: {per_object}.")
        draw_matches(each, image, objects, anchors, matches)
        counts = [int((matches >= 0).sum()), int((matches == -2).sum()), int((matches == -1).sum())]
        caption(each, name, "{} positive, {} ignored (dotted), {:,} background".format(*counts))
    return View.of(figure, " ".join(told))
