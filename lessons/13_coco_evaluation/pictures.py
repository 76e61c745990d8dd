"""Three pictures with people and numbered boxes, and the curve that they make."""

from collections.abc import Sequence

from torch import Tensor

from mrcnn.lab.views.pictures import GREEN, INK, PAPER, RED, caption, draw_boxes, panels
from mrcnn.lab.views.precision_recall import draw_precision_recall
from mrcnn.lab.views.view import View
from mrcnn.visualize import draw_image


def ranked(
    images: Sequence[Tensor], truths: Sequence[Tensor], found: Sequence[tuple[int, Tensor, float]],
    hits: Sequence[bool] | None = None, curve: tuple | None = None,
) -> View:  # fmt: skip
    """Pictures with true boxes (G, 4), dashed, and detections (picture, box, score), solid, with their ranks.

    hits: which are right. curve: what draw_precision_recall takes.
    """
    figure, axes = panels(len(images) + bool(curve), side=2.55, columns=4)
    for where, image, boxes, name in zip(axes, images, truths, "XYZ", strict=False):
        draw_image(where, image)
        draw_boxes(where, boxes, INK, 2.6)
        draw_boxes(where, boxes, PAPER, 1.6, (0, (4, 2)))
        caption(where, f"{name}: people dashed")
    told = []
    for rank, (picture, box, score) in enumerate(found, start=1):
        colour = INK if hits is None else GREEN if hits[rank - 1] else RED
        word = "" if hits is None else ", right" if hits[rank - 1] else ", false"
        draw_boxes(axes[picture], box[None], PAPER, 2.8)
        draw_boxes(axes[picture], box[None], colour, 1.6)
        look = {"facecolor": colour, "edgecolor": PAPER, "boxstyle": "round,pad=0.15", "linewidth": 0.8}
        mark = "" if hits is None else " ✓" if hits[rank - 1] else " ✗"
        x, y = float(box[0 if rank % 2 else 2]), float(box[3 if rank in (3, 6) else 1])
        axes[picture].text(x, y, f"{rank}{mark}", fontsize=9, color=PAPER, ha="center", va="center", bbox=look)
        told.append(f"{rank} in {'XYZ'[picture]}, score {score:.2f}{word}")
    words = (
        f"Three pictures with {', '.join(str(len(boxes)) for boxes in truths)} people. Detections: {'; '.join(told)}."
    )
    if curve:
        axes[-1].set_axis_on()
        left, bottom, width, height = axes[-1].get_position().bounds
        axes[-1].set_position((left + 0.045, bottom + 0.16 * height, width - 0.05, 0.84 * height))
        draw_precision_recall(axes[-1], *curve)
        caption(axes[-1], "cut after each rank")
        points = ", ".join(f"{p:.2f} at {r:.2f}" for p, r in zip(*curve[:2], strict=True))
        words += f" Precision at recall after each: {points}."
    return View.of(figure, words)
