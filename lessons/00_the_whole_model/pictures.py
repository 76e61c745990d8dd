"""The film of the whole model: every tensor of a walk through it on one page; and names that do not hide each other."""

from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from torch import Tensor

from mrcnn import boxes as box_maths
from mrcnn import visualize
from mrcnn.lab.views import pictures as views
from mrcnn.lab.views.pictures import BLUE, GREEN, GREY, LETTERS, ORANGE, PINK, RED, SKY
from mrcnn.lab.views.view import View
from mrcnn.lab.walk import Walk
from mrcnn.visualize import INK, PAPER

SIDE, GAP, HEAD, FOOT = 1.78, 0.4, 0.68, 0.4  # inches: a card, between two, above it, below it
SHOWN = 0.5  # detections from this score on are drawn


def told(words: str, figure: Figure, **options: Any) -> View:
    """A figure with its description, which is `words` and all that is written in it."""
    figure.draw_without_rendering()  # the numbers along an axis are made when it is drawn
    letters = []
    for axes in figure.findobj(Axes):
        letters += [axes.title, *axes.texts, *(axes.get_yticklabels() + axes.get_xticklabels() if axes.axison else [])]
    written = "; ".join(text.get_text() for text in figure.texts or letters if text.get_text())
    return View.of(figure, f"{words}: {written}.", **options)


def draw_found(axes: Axes, image: Tensor, found: dict[str, Tensor], labels: dict, scores: bool = True) -> None:
    """A picture and what was found in it, with one name for all boxes of a class that lie on one another."""
    visualize.draw_objects(axes, image, found, labels, min_score=SHOWN)
    for tag in list(axes.texts):
        tag.remove()
    width, rows, taken = image.shape[2], (found["scores"] >= SHOWN).nonzero()[:, 0], []
    line = 1.4 * LETTERS / 72 * axes.figure.dpi / axes.bbox.width * width  # of letters, in pixels of the picture
    while len(rows):  # the surest of them, and all that are like it
        first, boxes, kinds = int(rows[0]), found["boxes"], found["labels"]
        alike = (box_maths.iou(boxes[first, None], boxes[rows])[0] > 0.3) & (kinds[rows] == kinds[first])
        score = f" {100 * found['scores'][first]:.0f}" if scores else ""
        name = visualize.label_name(kinds[first], labels) + (score if alike.sum() == 1 else f", {alike.sum()} times")
        y, wide = max(float(boxes[first, 1]), line), 0.55 * line * len(name)
        x = min(max(float(boxes[first, 0]), 0), width - wide)
        while any(abs(y - b) < line and x < a + w and a < x + wide for a, b, w in taken):
            y += line
        if y <= boxes[first, 3]:  # else there is no room for it
            taken.append((x, y, wide))
            look = {"facecolor": PAPER, "edgecolor": INK, "linewidth": 0.5, "pad": 1, "alpha": 0.85}
            axes.text(x, y, name, fontsize=LETTERS, color=INK, va="bottom", bbox=look)
        rows = rows[~alike]


def draw_pyramid(axes: Axes, walk: Walk) -> None:
    """The strength of each level, half as large from one to the next."""
    for level, (x, y) in enumerate([(0, 0.2), (0.6, 0.49), (0.6, 0.2), (0.79, 0.2), (0.92, 0.2)]):
        part = axes.inset_axes((x, y, 0.58 / 2**level, 0.58 / 2**level), anchor="S")
        views.draw_map(part, views.strength(walk.features[level][0]), walk.seen.shape[1:])
        part.set_title(f"P{level + 2}", fontsize=LETTERS, y=0, pad=-11)


def draw_objectness(axes: Axes, walk: Walk) -> None:
    for level, (x, y) in enumerate([(0, 0.52), (0.52, 0.52), (0, 0), (0.52, 0)]):
        part = axes.inset_axes((x, y, 0.48, 0.4))
        views.draw_objectness(part, walk.logits[level][0], walk.cells[level], walk.seen.shape[1:])
        part.set_title(f"P{level + 2}", fontsize=LETTERS, pad=1)


def flow(walk: Walk, labels: dict[str, Any]) -> View:
    """Fifteen cards in three rows, each under the file of `mrcnn/` that makes it. labels: the model's `labels`."""
    found, result, rows = walk.found, walk.result, (walk.found["scores"] >= SHOWN).nonzero()[:, 0]
    people = rows[torch.isin(found["labels"][rows], torch.tensor(sorted(labels["keypoint_labels"])))]
    names = [visualize.label_name(each, labels) for each in found["labels"][rows[:4]]]
    seen, given, pixels, features = walk.seen, walk.image, walk.batch.pixels, walk.features[0]
    anchors, points = walk.anchors[2], result["keypoints"]
    draw_boxes, tiles = views.draw_boxes, views.draw_tiles
    size, all_boxes = walk.seen.shape[1:], f"{sum(map(len, walk.anchors)):,} boxes"
    pooled, heatmaps = walk.pooled[:16].square().mean(1).sqrt(), walk.heatmaps[people[:1]].flatten(0, 1)

    def classes(axes: Axes) -> None:
        table = axes.inset_axes((0, 0.4, 1, 0.6))
        views.draw_scores(table, walk.class_logits[:7].softmax(1), ["nothing", *labels["categories"][1:]])

    def masks(axes: Axes) -> None:
        boxes = result["boxes"][rows].numpy()
        for mask, box, colour in zip(result["masks"][rows, 0], boxes, visualize.choose_colours(boxes), strict=True):
            visualize.draw_mask(axes, mask.numpy(), box, colour, 0.8)

    def keypoints(axes: Axes) -> None:
        there = result["keypoints_scores"].numpy() >= visualize.KEYPOINT_SCORE
        for row in people.tolist():
            visualize.draw_keypoints(axes, points[row].numpy(), labels["skeleton"], ORANGE, 0.8, there[row])

    # The file, its stage's colour, the name, the tensor or what to say of it, what lies below, how it is drawn.
    steps = [
        ("images.py", GREY, "the picture", given, None, visualize.draw_image, given),
        ("images.py", GREY, "normalised batch", pixels, None, views.draw_map, pixels[0].mean(0), size, True),
        ("backbone.py", ORANGE, "feature pyramid", f"{features.shape[1]} channels each", None, draw_pyramid, walk),
        ("anchors.py", SKY, "anchors (of P4)", all_boxes, seen, views.draw_anchors, anchors, walk.cells[2], size),
        ("rpn.py", SKY, "objectness", f"of {all_boxes}", None, draw_objectness, walk),
        ("rpn.py", SKY, "moved: candidates", walk.candidates, seen, draw_boxes, walk.candidates, f"{BLUE}33"),
        ("rpn.py: NMS", SKY, "proposals", walk.proposals, seen, draw_boxes, walk.proposals, f"{BLUE}77"),
        ("roi_heads.py: RoIAlign", GREEN, "pooled features", walk.pooled, None, tiles, pooled, 4),
        ("box_head.py", GREEN, "class scores", walk.class_logits, None, classes),
        ("box_head.py", GREEN, "boxes moved, NMS", found["boxes"], seen, draw_boxes, found["boxes"][rows], BLUE, 1.2),
        ("mask_head.py", PINK, "masks", found["masks"], None, tiles, found["masks"][rows[:4], 0], 2, names, 1),
        ("mask_head.py: paste", PINK, "pasted masks", result["masks"], given, masks),
        ("keypoint_head.py", RED, "heatmaps", walk.heatmaps, None, tiles, heatmaps, 5, (), None, 0.08),
        ("keypoint_head.py: peaks", RED, "keypoints", points, given, keypoints),
        ("model.py", INK, "the answer", f"{len(rows)} from {SHOWN} on", None, draw_found, given, result, labels, False),
    ]  # fmt: skip
    figure = views.page(5 * (SIDE + GAP) - GAP + 0.26, 3 * (SIDE + HEAD + FOOT) - FOOT + 0.15)
    for index, (file, colour, name, shape, ground, draw, *what) in enumerate(steps):
        shape = shape if isinstance(shape, str) else views.shape_of(shape)
        axes = card(figure, *divmod(index, 5), colour, (file, name, shape), last=draw is draw_found)
        if ground is not None:
            views.draw_dimmed(axes, ground)
        draw(axes, *what)
    return told(f"The whole model in 15 cards, on the last of them {len(rows)} things found", figure)


def card(figure: Figure, row: int, column: int, colour: str, words: tuple[str, str, str], last: bool) -> Axes:
    """The axes of a card with an edge of its stage's colour, its words, and the arrow to the next one."""
    inches, (width, height) = figure.dpi_scale_trans, figure.get_size_inches()
    left, bottom = 0.13 + column * (SIDE + GAP), height - row * (SIDE + HEAD + FOOT) - HEAD - SIDE - 0.03
    look = {"boxstyle": "round,pad=0,rounding_size=0.06", "fc": "none", "ec": colour, "lw": 1.5, "transform": inches}
    figure.add_artist(FancyBboxPatch((left - 0.07, bottom - 0.07), SIDE + 0.14, SIDE + HEAD, **look))
    start, end, turn = (left + SIDE + 0.07, bottom + SIDE / 2), (left + SIDE + GAP - 0.07, bottom + SIDE / 2), "arc3"
    if column == 4:  # down, back to the left, and down again
        start, end = (left + SIDE / 2, bottom - 0.07), (0.13 + SIDE / 2, bottom - FOOT - 0.01)
        turn = "arc,angleA=-90,angleB=90,rad=0,armA={0},armB={0}".format((FOOT - 0.06) / 2 * figure.dpi)
    look = {"arrowstyle": "-|>", "mutation_scale": 9, "color": INK, "shrinkA": 0, "shrinkB": 0, "transform": inches}
    if not last:
        figure.add_artist(FancyArrowPatch(start, end, connectionstyle=turn, **look))
    for text, up, style in zip(words, (0.43, 0.235, 0.06), ({"style": "italic"}, {"weight": "bold"}, {}), strict=True):
        figure.text(left, bottom + SIDE + up, text, transform=inches, fontsize=LETTERS, color=INK, **style)
    axes = figure.add_axes((left / width, bottom / height, SIDE / width, SIDE / height))
    axes.set_axis_off()
    return axes
