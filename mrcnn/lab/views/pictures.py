"""Pictures of what lies between the picture and the answer: one function per kind of tensor.

`draw_…` functions draw into axes; the others return a page. The look is that of `mrcnn.visualize`: its colours, and
never colour alone. Values from low to high go from dark to light (cividis, which needs no colour vision); signed values
from black through grey, which is zero, to white. All maps are drawn over the area of the picture that they
describe, whatever their resolution; coordinates are pixels of the batch.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from mrcnn import visualize
from mrcnn.visualize import COLOURS, INK, PAPER

ORANGE, SKY, PINK, GREEN, YELLOW, RED, BLUE = COLOURS
VALUES, SIGNED = "cividis", "gray"
GREY = "#767676"
LETTERS = 9  # points, at least
DOTS_PER_INCH = 90  # a page is 11 inches wide at most: as wide as a notebook's column


class Page(Figure):
    """A figure that a notebook shows as a PNG of few colours: a third of the size, and no difference to be seen."""

    def _repr_png_(self) -> bytes:
        drawn, file = io.BytesIO(), io.BytesIO()
        self.savefig(drawn, format="png", dpi=DOTS_PER_INCH)
        pixels = Image.open(drawn).convert("RGB")
        # The colours are chosen by every third pixel, which is quicker; paper stays white.
        sample = pixels.resize((pixels.width // 3, pixels.height // 3), Image.Resampling.NEAREST)
        colours = np.array(sample.quantize(160, kmeans=2).getpalette()).reshape(-1, 3)
        colours[colours.min(1) > 242] = 255
        palette = Image.new("P", (1, 1))
        palette.putpalette(colours.flatten().tolist())
        pixels.quantize(palette=palette, dither=Image.Dither.NONE).save(file, "png", optimize=True)
        return file.getvalue()


def page(width: float, height: float) -> Page:
    """A page of this many inches."""
    figure = Page(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def panels(count: int, side: float = 2.2, columns: int = 5, head: float = 0.45) -> tuple[Figure, list[Axes]]:
    """A page with `count` square axes of `side` inches, row by row; `head` inches above each row are for titles."""
    columns = min(count, columns)
    rows, gap = -(-count // columns), 0.12
    width, height = columns * (side + gap) + gap, rows * (side + head) + gap
    figure = page(width, height)
    axes = []
    for index in range(count):
        row, column = divmod(index, columns)
        left, bottom = gap + column * (side + gap), height - (row + 1) * (side + head)
        axes.append(figure.add_axes((left / width, bottom / height, side / width, side / height)))
        axes[-1].set_axis_off()
    return figure, axes


def caption(axes: Axes, name: str, shape: str = "") -> None:
    """The name of what is drawn, and under it, smaller, its shape."""
    look = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
    axes.annotate(name, (0, 1), (0, 14 if shape else 3), fontsize=LETTERS, color=INK, weight="bold", **look)
    if shape:
        axes.annotate(shape, (0, 1), (0, 3), fontsize=LETTERS, color=GREY, **look)


def shape_of(tensor: Tensor) -> str:
    """(1, 64, 32, 32), as text."""
    return str(tuple(tensor.shape))


# ---- pictures and maps -----------------------------------------------------------------------------------------------


def draw_dimmed(axes: Axes, image: Tensor) -> None:
    """The picture uint8 (3, H, W) in pale greys, as a ground for boxes and maps."""
    grey = image.float().mean(0, keepdim=True)
    visualize.draw_image(axes, (150 + 105 / 255 * grey).to(torch.uint8).expand(3, -1, -1))


def draw_map(axes: Axes, values: Tensor, size: tuple[int, int], signed: bool = False, **options: Any) -> None:
    """A map (h, w) over a picture of `size` (height, width): every cell is the square of pixels it stands for."""
    if signed:
        limit = float(values.abs().max())
        options |= {"vmin": -limit, "vmax": limit, "cmap": SIGNED}
    extent = (0, size[1], size[0], 0)
    axes.imshow(values.cpu().numpy(), extent=extent, interpolation="nearest", **{"cmap": VALUES, **options})
    axes.set_axis_off()


def strength(features: Tensor) -> Tensor:
    """How strongly each cell of a feature map (C, h, w) answers: the root mean square over its channels, (h, w)."""
    return features.square().mean(0).sqrt()


def draw_tiles(
    axes: Axes, maps: Tensor, columns: int, names: Sequence[str] = (), vmax: float | None = None, space: float = 0.12
) -> None:
    """Maps (K, h, w) in rows of `columns`. vmax: the value that is drawn brightest, each map's own if None.

    space: between two maps, in widths of one; there must be enough of it for their names.
    """
    room = 0.32 if names else space
    for index, values in enumerate(maps.cpu().numpy()):
        row, column = divmod(index, columns)
        left, top = column * (1 + space), row * (1 + room) + (room if names else 0)
        extent = (left, left + 1, top + 1, top)
        axes.imshow(values, extent=extent, interpolation="nearest", cmap=VALUES, vmin=0 if vmax else None, vmax=vmax)
        if names:
            axes.text(left, top - 0.05, names[index], fontsize=LETTERS, color=INK, clip_on=False)
    rows = max(-(-len(maps) // columns), 1)
    side = max(columns * (1 + space) - space, rows * (1 + room) - (0 if names else space))
    axes.set_xlim(-0.02, side + 0.02)
    axes.set_ylim(side + 0.02, -0.02)
    axes.set_axis_off()
    if not len(maps):
        axes.text(side / 2, side / 2, "nothing to draw", ha="center", fontsize=LETTERS, color=GREY)


# ---- boxes -----------------------------------------------------------------------------------------------------------


def draw_boxes(
    axes: Axes, boxes: Tensor, colour: str = BLUE, width: float = 0.8, style: str = "-", **look: Any
) -> None:
    """The outlines of many boxes (K, 4)."""
    x1, y1, x2, y2 = boxes.cpu().unbind(1)
    corners = torch.stack((x1, y1, x2, y1, x2, y2, x1, y2, x1, y1), dim=1).view(-1, 5, 2)
    axes.add_collection(
        LineCollection(list(corners.numpy()), colors=colour, linewidths=width, linestyles=style, **look)
    )


def draw_anchors(
    axes: Axes, anchors: Tensor, cells: tuple[int, int], size: tuple[int, int], width: float = 1.2
) -> None:
    """The centres of a level's anchors (A, 4) as dots, and all anchors of the cell nearest to the middle.

    cells: (rows, columns) of the level; size: of the picture.
    """
    per_cell = anchors.view(cells[0], cells[1], -1, 4)
    centres = (per_cell[:, :, 0, :2] + per_cell[:, :, 0, 2:]) / 2
    area = 260 / max(cells) ** 1.3
    axes.scatter(*centres.reshape(-1, 2).T.cpu().numpy(), s=max(area, 0.6), color=INK, linewidths=0)
    middle = per_cell[cells[0] // 2, cells[1] // 2]
    for anchor, colour, style in zip(middle, (RED, BLUE, GREEN, PINK) * 4, ("-", "--", ":", "-.") * 4, strict=False):
        draw_boxes(axes, anchor[None], colour, width, style)
    axes.set_xlim(0, size[1])
    axes.set_ylim(size[0], 0)


def draw_moves(axes: Axes, before: Tensor, after: Tensor, width: float = 1.2) -> None:
    """Where boxes (K, 4) went: dotted before, solid after, an arrow between the centres."""
    draw_boxes(axes, before, RED, width, ":")
    draw_boxes(axes, after, BLUE, width, "-")
    for old, new in zip(before.cpu(), after.cpu(), strict=True):
        tip, tail = ((box[:2] + box[2:]).numpy() / 2 for box in (new, old))
        axes.annotate("", tip, tail, arrowprops={"arrowstyle": "->", "color": INK, "linewidth": 0.8, "shrinkA": 0})


def draw_objectness(
    axes: Axes, logits: Tensor, cells: tuple[int, int], size: tuple[int, int], vmax: float | None = 1
) -> None:
    """Objectness logits (A_l,) of a level, row by row: of each cell the probability of its best anchor."""
    best = logits.view(cells[0], cells[1], -1).amax(2).sigmoid()
    draw_map(axes, best, size, vmin=0, vmax=vmax)


def draw_scores(axes: Axes, scores: Tensor, names: Sequence[str]) -> None:
    """Probabilities (P, classes) as a table, a row per region; the largest of each row is written into it."""
    axes.imshow(scores.cpu().numpy(), aspect="auto", interpolation="nearest", cmap=VALUES, vmin=0, vmax=1)
    for row, column in enumerate(scores.argmax(1).tolist()):
        value = float(scores[row, column])
        look = {"fontsize": LETTERS, "ha": "center", "va": "center", "color": INK if value > 0.5 else PAPER}
        axes.text(column, row, f"{100 * value:.0f}", **look)
    axes.set_axis_on()
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=LETTERS)
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


# ---- pages about one stage -------------------------------------------------------------------------------------------


def normalisation(image: Tensor, pixels: Tensor) -> Figure:
    """A picture uint8 (3, h, w) and its normalised pixels (3, H, W): each channel, and all values counted."""
    figure, axes = panels(5, side=2.0)
    visualize.draw_image(axes[0], image)
    caption(axes[0], "the picture", f"uint8, {shape_of(image)}")
    limit = float(pixels.abs().max())
    for channel, name, each in zip(pixels, ("red", "green", "blue"), axes[1:4], strict=True):
        draw_map(each, channel, tuple(channel.shape), vmin=-limit, vmax=limit, cmap=SIGNED)
        caption(each, f"{name}, normalised", f"{float(channel.min()):.1f} to {float(channel.max()):.1f}")
    axes[4].set_axis_on()
    left, bottom, width, height = axes[4].get_position().bounds
    axes[4].set_position((left, bottom + 0.1 * height, width, 0.9 * height))  # room for the numbers
    for channel, colour, style in zip(pixels, (RED, GREEN, BLUE), ("-", "--", ":"), strict=True):
        axes[4].hist(
            channel.flatten().cpu().numpy(), bins=40, histtype="step", color=colour, linestyle=style, linewidth=1.4
        )
    axes[4].set_yticks([])
    axes[4].tick_params(labelsize=LETTERS)
    axes[4].spines[["top", "left", "right"]].set_visible(False)
    caption(axes[4], "all values, counted", "red: line, green: dashes, blue: dots")
    return figure


def pyramid(features: Sequence[Tensor], size: tuple[int, int], channels: int = 5) -> Figure:
    """All levels (1, C, h, w) over the same picture; below, the liveliest channels of the first two levels."""
    figure, axes = panels(len(features) + 2 * channels, side=2.0, columns=len(features))
    for level, (each, where) in enumerate(zip(features, axes, strict=False)):
        draw_map(where, strength(each[0]), size)
        caption(where, f"P{level + 2}: all channels", shape_of(each))
    rest = iter(axes[len(features) :])
    for level, each in enumerate(features[:2]):
        liveliest = each[0].flatten(1).std(1).topk(channels).indices
        for channel in liveliest.tolist():
            where = next(rest)
            draw_map(where, each[0, channel], size, signed=True)
            caption(where, f"P{level + 2}, channel {channel}")
    return figure


def anchor_levels(image: Tensor, anchors: Sequence[Tensor], cells: Sequence[tuple[int, int]]) -> Figure:
    """The anchors (A_l, 4) of every level over the picture."""
    figure, axes = panels(len(anchors), side=2.0)
    for level, (each, grid, where) in enumerate(zip(anchors, cells, axes, strict=True)):
        draw_dimmed(where, image)
        draw_anchors(where, each, grid, image.shape[1:], width=1.6)
        caption(where, f"P{level + 2}: {grid[0]} by {grid[1]} cells", f"{len(each):,} anchors")
    return figure


def objectness_levels(logits: Sequence[Tensor], cells: Sequence[tuple[int, int]], size: tuple[int, int]) -> Figure:
    """The objectness (A_l,) of every level, all on one scale from 0 (dark) to 1 (light)."""
    figure, axes = panels(len(logits), side=2.0)
    for level, (each, grid, where) in enumerate(zip(logits, cells, axes, strict=True)):
        draw_objectness(where, each, grid, size)
        caption(where, f"P{level + 2}", f"best anchor: {float(each.max().sigmoid()):.2f}")
    return figure


def level_table(values: Tensor, rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """A small table (R, C) of values from 0 to 1, e.g. each object's best IoU with the anchors of each level."""
    figure = page(0.8 * len(columns) + 1.2, 0.42 * len(rows) + 0.5)
    axes = figure.add_axes((1.1 / figure.get_figwidth(), 0.05, 0.8 * len(columns) / figure.get_figwidth(), 0.7))
    axes.imshow(values.cpu().numpy(), aspect="auto", cmap=VALUES, vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(values.cpu().numpy()):
        best = bool(values[row, column] == values[row].max())
        look = {"weight": "bold" if best else "normal", "color": INK if value > 0.5 else PAPER}
        axes.text(
            column, row, f"{value:.2f}" + (" ◂" if best else ""), ha="center", va="center", fontsize=LETTERS, **look
        )
    axes.set_xticks(range(len(columns)), columns, fontsize=LETTERS)
    axes.set_yticks(range(len(rows)), rows, fontsize=LETTERS)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    return figure


def box_pages(image: Tensor, boxes: dict[str, Tensor], side: float = 2.8) -> Figure:
    """Several lists of boxes (K, 4), each over the same picture, named, and counted."""
    figure, axes = panels(len(boxes), side=side, columns=4)
    for (name, each), where in zip(boxes.items(), axes, strict=True):
        draw_dimmed(where, image)
        draw_boxes(where, each, BLUE, 0.9, alpha=float(np.clip(25 / max(len(each), 1), 0.06, 1)))
        caption(where, name, f"{len(each):,} boxes")
    return figure


def moves(image: Tensor, before: Tensor, after: Tensor, names: Sequence[str] = ()) -> Figure:
    """One panel per box (K, 4): dotted before, solid after, with a name each."""
    figure, axes = panels(len(before), side=2.0)
    for index, where in enumerate(axes):
        draw_dimmed(where, image)
        draw_moves(where, before[index, None], after[index, None], width=1.6)
        caption(where, names[index] if names else "")
    return figure


def roi_levels(features: Sequence[Tensor], rois: Tensor, levels: Tensor, size: tuple[int, int]) -> Figure:
    """RoIs (P, 4) over the level (0 for the finest) that each is pooled from."""
    figure, axes = panels(len(features), side=2.4)
    for level, (each, where) in enumerate(zip(features, axes, strict=True)):
        chosen = rois[levels == level]
        draw_map(where, strength(each[0]), size, alpha=0.55)
        draw_boxes(where, chosen, INK, 0.8, alpha=0.6)
        caption(where, f"P{level + 2}", f"{len(chosen)} of {len(rois)} RoIs")
    return figure


def regions(image: Tensor, rois: Tensor, pooled: Tensor) -> Figure:
    """Above, each RoI (K, 4) cut out of the picture; below, what the heads see: its pooled features (K, C, r, r)."""
    figure, axes = panels(2 * len(rois), side=10.5 / len(rois) - 0.12, columns=len(rois), head=0.28)
    above, below = axes[: len(rois)], axes[len(rois) :]
    for roi, features, top, bottom in zip(rois.cpu(), pooled, above, below, strict=True):
        visualize.draw_image(top, image)
        top.set_xlim(float(roi[0]), float(roi[2]))
        top.set_ylim(float(roi[3]), float(roi[1]))
        top.set_aspect("auto")
        draw_map(bottom, strength(features), features.shape[1:])
    caption(above[0], "RoIs, each stretched to a square")
    caption(below[0], f"what the heads see: {shape_of(pooled[0])} numbers each")
    return figure


def keypoints(image: Tensor, box: Tensor, heatmaps: Tensor, points: Tensor, chosen: dict[str, int]) -> Figure:
    """Heatmap logits (J, M, M) of one person over its box, for the chosen keypoints (name: row); a cross at each of the
    keypoints (J, 3) that were read."""
    figure, axes = panels(len(chosen), side=2.0)
    x1, y1, x2, y2 = box.tolist()
    for (name, row), where in zip(chosen.items(), axes, strict=True):
        draw_dimmed(where, image)
        extent = (x1, x2, y2, y1)
        where.imshow(heatmaps[row].cpu().numpy(), extent=extent, cmap=VALUES, interpolation="nearest", alpha=0.75)
        where.plot(*points[row, :2].tolist(), marker="+", color=RED, markersize=10, markeredgewidth=1.6)
        where.set_xlim(x1, x2)
        where.set_ylim(y2, y1)
        caption(where, name)
    return figure


def shares(parts: dict[str, dict[str, float]], formats: dict[str, str]) -> Figure:
    """Bars: parts[measure][stage]. One panel per measure, the same stages in each, values written at the bars."""
    figure = page(9, 0.34 * len(next(iter(parts.values()))) + 0.7)
    for index, (axes, (measure, values)) in enumerate(zip(figure.subplots(1, len(parts)), parts.items(), strict=True)):
        names = list(values)
        axes.barh(names, list(values.values()), color=(SKY, ORANGE)[index % 2], hatch=("", "//")[index % 2])
        for row, value in enumerate(values.values()):
            axes.text(value, row, " " + formats[measure].format(value), va="center", fontsize=LETTERS, color=INK)
        axes.invert_yaxis()
        axes.margins(x=0.22)
        axes.set_xticks([])
        axes.set_yticks(range(len(names)), names if index == 0 else [], fontsize=LETTERS)
        axes.set_title(measure, fontsize=LETTERS, loc="left", color=INK)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    figure.tight_layout()
    return figure
