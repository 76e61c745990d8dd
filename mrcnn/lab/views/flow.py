"""The whole model in one picture: every tensor of a walk through it, in order, on one page."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from torch import Tensor

from mrcnn import visualize
from mrcnn.lab.views import pictures
from mrcnn.lab.views.pictures import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY
from mrcnn.lab.walk import Walk
from mrcnn.visualize import INK, PAPER

SIDE, GAP, HEAD, FOOT = 1.78, 0.4, 0.6, 0.4  # inches: a panel, between two, above it, below it
SHOWN = 0.5  # detections from this score on have their masks and keypoints drawn


def flow(walk: Walk, labels: dict[str, Any]) -> Figure:
    """Fifteen panels in three rows, each under the file of `mrcnn/` that makes it. labels: the model's `labels`."""
    shown = shown_detections(walk)
    steps = [
        ("images.py", GREY, "the picture", walk.image, draw_picture),
        ("images.py", GREY, "normalised batch", walk.batch.pixels, draw_normalised),
        ("backbone.py", ORANGE, "feature pyramid", f"{walk.features[0].shape[1]} channels each", draw_features),
        ("anchors.py", SKY, "anchors (of P4)", f"{sum(map(len, walk.anchors)):,} boxes in all", draw_level_anchors),
        ("rpn.py", SKY, "objectness", f"{sum(map(len, walk.anchors)):,} numbers, P2 to P5 drawn", draw_objectness),
        ("rpn.py", SKY, "moved: candidates", walk.candidates, draw_candidates),
        ("rpn.py: NMS", SKY, "proposals", walk.proposals, draw_proposals),
        ("roi_heads.py: RoIAlign", GREEN, "pooled features", walk.pooled, draw_pooled),
        ("box_head.py", GREEN, "class scores", walk.class_logits, draw_classes),
        ("box_head.py", GREEN, "boxes moved, NMS", walk.found["boxes"], draw_boxes),
        ("mask_head.py", PINK, "masks", walk.found["masks"], draw_masks),
        ("mask_head.py: paste", PINK, "pasted masks", walk.result["masks"], draw_pasted),
        ("keypoint_head.py", RED, "keypoints' heatmaps", walk.heatmaps, draw_heatmaps),
        ("keypoint_head.py: peaks", RED, "keypoints", walk.result["keypoints"], draw_read_keypoints),
        ("model.py", INK, "the answer", f"{len(shown)} scored {SHOWN} or more", draw_answer),
    ]
    figure = pictures.page(5 * (SIDE + GAP) - GAP + 0.26, 3 * (SIDE + HEAD + FOOT) - FOOT + 0.15)
    for index, (file, colour, name, shape, draw) in enumerate(steps):
        axes = place(figure, *divmod(index, 5), colour)
        draw(axes, walk, shown, labels)
        label(figure, *divmod(index, 5), file, name, shape if isinstance(shape, str) else pictures.shape_of(shape))
        if index < len(steps) - 1:
            arrow(figure, *divmod(index, 5))
    return figure


def shown_detections(walk: Walk) -> Tensor:
    """The rows of the detections that are worth drawing, by falling score."""
    return (walk.found["scores"] >= SHOWN).nonzero()[:, 0]


# ---- the page --------------------------------------------------------------------------------------------------------


def corner(figure: Figure, row: int, column: int) -> tuple[float, float]:
    """The lower left corner of a panel, in inches."""
    return 0.13 + column * (SIDE + GAP), figure.get_figheight() - row * (SIDE + HEAD + FOOT) - HEAD - SIDE - 0.03


def place(figure: Figure, row: int, column: int, colour: str) -> Axes:
    """The axes of a panel, on a card with an edge of its stage's colour."""
    width, height = figure.get_size_inches()
    left, bottom = corner(figure, row, column)
    card = FancyBboxPatch(
        ((left - 0.07) / width, (bottom - 0.07) / height), (SIDE + 0.14) / width, (SIDE + HEAD) / height,
        boxstyle="round,pad=0,rounding_size=0.006", mutation_aspect=width / height, facecolor="#efefef",
        edgecolor=colour, linewidth=1.5, transform=figure.transFigure, zorder=-1,
    )  # fmt: skip
    figure.add_artist(card)
    axes = figure.add_axes((left / width, bottom / height, SIDE / width, SIDE / height))
    axes.set_axis_off()
    return axes


def label(figure: Figure, row: int, column: int, file: str, name: str, shape: str) -> None:
    """Above a panel: the file that it comes from, its name, its shape."""
    width, height = figure.get_size_inches()
    left, bottom = corner(figure, row, column)
    for text, up, look in (
        (file, 0.39, {"fontsize": 7, "style": "italic"}),
        (name, 0.205, {"fontsize": 9, "weight": "bold"}),
        (shape, 0.06, {"fontsize": 7.5}),
    ):
        figure.text(left / width, (bottom + SIDE + up) / height, text, color=INK, **look)


def arrow(figure: Figure, row: int, column: int) -> None:
    """From a panel to the next: to the right, or from the end of a row back to the start of the next one."""
    left, bottom = corner(figure, row, column)
    if column < 4:
        y = bottom + SIDE / 2
        points = [(left + SIDE + 0.07, y), (left + SIDE + GAP - 0.07, y)]
    else:
        start, end = left + SIDE / 2, corner(figure, row + 1, 0)[0] + SIDE / 2
        y = bottom - 0.07 - FOOT / 2
        points = [(start, bottom - 0.07), (start, y), (end, y), (end, y - FOOT / 2 + 0.06)]
    path = Path([(x / figure.get_figwidth(), y / figure.get_figheight()) for x, y in points])
    figure.add_artist(
        FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=9, color=INK, transform=figure.transFigure)
    )


# ---- the panels: each draws from the walk, the rows of the detections that are shown, and the model's labels ---------


def draw_picture(axes: Axes, walk: Walk, *_: Any) -> None:
    visualize.draw_image(axes, walk.image)


def draw_normalised(axes: Axes, walk: Walk, *_: Any) -> None:
    pictures.draw_map(axes, walk.batch.pixels[0].mean(0), walk.seen.shape[1:], signed=True)


def draw_features(axes: Axes, walk: Walk, *_: Any) -> None:
    """P2, P3 to its right, the others under P3, all at one scale."""
    height, width = walk.features[0].shape[2:]
    left, top = 0.0, 0.0
    for level, each in enumerate(walk.features):
        h, w = each.shape[2:]
        axes.imshow(pictures.strength(each[0]).numpy(), extent=(left, left + w, top + h, top), cmap=pictures.VALUES)
        axes.text(left + w / 2, top + h, f"P{level + 2}", fontsize=7, ha="center", va="top", color=INK)
        left, top = (
            (width * 1.06, 0.0)
            if level == 0
            else (left, h * 1.35)
            if level == 1
            else (left + max(w * 1.3, 0.19 * width), top)
        )
    axes.set_xlim(0, width * 1.68)
    axes.set_ylim(height * 1.25, -height * 0.25)


def draw_level_anchors(axes: Axes, walk: Walk, *_: Any) -> None:
    pictures.draw_dimmed(axes, walk.seen)
    pictures.draw_anchors(axes, walk.anchors[2], walk.cells[2], walk.seen.shape[1:])


def draw_objectness(axes: Axes, walk: Walk, *_: Any) -> None:
    """Four levels, each over the whole picture, two by two."""
    height, width = (side / max(walk.seen.shape) for side in walk.seen.shape[1:])
    for level in range(4):
        best = walk.logits[level][0].view(*walk.cells[level], -1).amax(2).sigmoid()
        left, top = (level % 2) * (width + 0.06), (level // 2) * (height + 0.06)
        extent = (left, left + width, top + height, top)
        axes.imshow(best.numpy(), extent=extent, cmap=pictures.VALUES, vmin=0, vmax=1, interpolation="nearest")
        axes.text(left + 0.04, top + 0.04, f"P{level + 2}", fontsize=7, va="top", color=PAPER)
    axes.set_xlim(0, 2 * width + 0.06)
    axes.set_ylim(2 * height + 0.06, 0)


def draw_candidates(axes: Axes, walk: Walk, *_: Any) -> None:
    pictures.draw_dimmed(axes, walk.seen)
    pictures.draw_boxes(axes, walk.candidates, BLUE, 0.6, alpha=0.2)


def draw_proposals(axes: Axes, walk: Walk, *_: Any) -> None:
    pictures.draw_dimmed(axes, walk.seen)
    pictures.draw_boxes(axes, walk.proposals, BLUE, 0.6, alpha=0.5)


def draw_pooled(axes: Axes, walk: Walk, *_: Any) -> None:
    pictures.draw_tiles(axes, torch.stack([pictures.strength(each) for each in walk.pooled[:16]]), 4)


def draw_classes(axes: Axes, walk: Walk, shown: Tensor, labels: dict[str, Any]) -> None:
    table = axes.inset_axes((0, 0.36, 1, 0.64))
    names = ["nothing", *labels["categories"][1:]]
    pictures.draw_scores(table, walk.class_logits[:12].softmax(1), names, fontsize=6.5)


def draw_boxes(axes: Axes, walk: Walk, shown: Tensor, labels: dict[str, Any]) -> None:
    pictures.draw_dimmed(axes, walk.seen)
    pictures.draw_boxes(axes, walk.found["boxes"][shown], BLUE, 1.2)


def draw_masks(axes: Axes, walk: Walk, shown: Tensor, labels: dict[str, Any]) -> None:
    """The first nine at most, each with its class."""
    shown = shown[:9]
    names = [visualize.label_name(each, labels) for each in walk.found["labels"][shown]]
    pictures.draw_tiles(axes, walk.found["masks"][shown, 0], 2 if len(shown) <= 4 else 3, names, vmax=1)


def draw_pasted(axes: Axes, walk: Walk, shown: Tensor, labels: dict[str, Any]) -> None:
    pictures.draw_dimmed(axes, walk.image)
    boxes = walk.result["boxes"][shown].numpy()
    for row, box, colour in zip(shown.tolist(), boxes, visualize.choose_colours(boxes), strict=True):
        visualize.draw_mask(axes, walk.result["masks"][row, 0].numpy(), box, colour, 0.8)


def draw_heatmaps(axes: Axes, walk: Walk, shown: Tensor, labels: dict[str, Any]) -> None:
    """The logits of all keypoints of the surest person."""
    person = walk.heatmaps[with_keypoints(walk, shown, labels)[:1]].flatten(0, 1)  # (J, M, M), or none
    pictures.draw_tiles(axes, person, 5, space=0.08)


def draw_read_keypoints(axes: Axes, walk: Walk, shown: Tensor, labels: dict[str, Any]) -> None:
    pictures.draw_dimmed(axes, walk.image)
    for row in with_keypoints(walk, shown, labels).tolist():
        sure = walk.result["keypoints_scores"][row].numpy() >= visualize.KEYPOINT_SCORE
        keypoints = walk.result["keypoints"][row].numpy()
        visualize.draw_keypoints(axes, keypoints, labels["skeleton"], ORANGE, 0.8, sure)


def with_keypoints(walk: Walk, shown: Tensor, labels: dict[str, Any]) -> Tensor:
    """Those of the shown detections whose class has keypoints."""
    kinds = torch.tensor(sorted(labels["keypoint_labels"]))
    return shown[torch.isin(walk.found["labels"][shown], kinds)]


def draw_answer(axes: Axes, walk: Walk, shown: Tensor, labels: dict[str, Any]) -> None:
    visualize.draw_objects(axes, walk.image, walk.result, labels, min_score=SHOWN)
