"""Anchors and what becomes of them: positive (+), ignored (x) or background (·); moved, kept or removed."""

from torch import Tensor

from mrcnn.lab.views.pictures import BLUE, GREY, ORANGE, RED, caption, draw_boxes, draw_dimmed, draw_moves, panels
from mrcnn.lab.views.view import View
from mrcnn.visualize import INK, draw_image


def opening(image: Tensor, objects: Tensor, positive: Tensor, before: Tensor, after: Tensor, proposals: Tensor) -> View:
    """The objects (G, 4) and their positive anchors; how an anchor of each moves; the proposals."""
    figure, axes = panels(3, side=3.45)
    for where, draw in zip(axes, (draw_image, draw_dimmed, draw_dimmed), strict=True):
        draw(where, image)
        draw_boxes(where, objects, INK, 3.0 if where is axes[2] else 0)
    draw_boxes(axes[0], positive, INK, 2.6)
    draw_boxes(axes[0], positive, ORANGE, 1.4)
    caption(axes[0], f"{len(objects)} objects", "the anchors that should find them")
    draw_moves(axes[1], before, after, 1.6)
    caption(axes[1], "the anchor that ends best on each", "dotted: the anchor; solid: moved")
    draw_boxes(axes[2], proposals, BLUE, 1.2)
    caption(axes[2], f"the {len(proposals)} surest proposals, thin", f"over the {len(objects)} objects, thick")
    return View.written(figure, "One scene three times")


def fates(image: Tensor, anchors: Tensor, kinds: dict[str, tuple[Tensor, Tensor, Tensor]]) -> View:
    """The centres of anchors (A, 4): name -> the rows of positive, ignored and background ones."""
    figure, axes = panels(len(kinds), side=3.45)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    for where, (name, rows) in zip(axes, kinds.items(), strict=True):
        draw_dimmed(where, image)
        for at, look in zip(rows, (("P", RED, 90, INK), ("x", BLUE, 26, None), ("o", GREY, 4, GREY)), strict=True):
            where.scatter(*centres[at].T, marker=look[0], color=look[1], s=look[2], edgecolors=look[3], zorder=look[2])
        where.set(xlim=(-3, image.shape[2]), ylim=(image.shape[1], -3))
        positive, ignored, background = map(len, rows)
        counts = f"{positive} positive (+), {ignored} ignored (x), {background:,} background (·)"
        caption(where, f"{name}: {positive + ignored + background:,} anchors", counts)
    return View.written(figure, "The centres of anchors over a scene")


def funnel(image: Tensor, frame: Tensor, steps: dict[str, tuple[Tensor, Tensor]], most: int = 40) -> View:
    """A panel per step: the boxes left (K, 4), solid, and those removed or cut (R, 4), dashed; `most` of each drawn."""
    figure, axes = panels(len(steps), side=3.2, columns=3)
    for where, (name, (left, gone)) in zip(axes, steps.items(), strict=True):
        draw_dimmed(where, image)
        for boxes, colour, dashes in ((gone, RED, (0, (3, 2))), (left, BLUE, "-")):
            draw_boxes(where, boxes[:: -(-len(boxes) // most) or 1], colour, 1.0, dashes)
        draw_boxes(where, frame, INK, 2.0)
        where.set(xlim=(-20, image.shape[2] + 12), ylim=(image.shape[2] - 2, -34))
        fate = "cut" if "clip" in name else "removed"
        caption(where, name, f"{len(left):,} left, solid; {len(gone):,} {fate}, dashed")
    return View.written(figure, f"Boxes from anchors to proposals, of each kind {most} at most drawn")
