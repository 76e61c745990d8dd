"""Boxes to drag and a threshold to slide: what NMS keeps, who suppresses whom, and what Soft-NMS makes of the scores.

The page's script (mrcnn/lab/web/nms_dragger.js) decides anew at every move; here is NMS at the start.
"""

from collections.abc import Sequence

from torch import Tensor

from mrcnn import boxes as box_maths
from mrcnn import ops
from mrcnn.visualize import choose_colours

from .svg import INK, Drawing
from .touch import Touch
from .view import View

SIDE = 400  # pixels: the longer side of the picture that stands still
SIGMA = 0.5  # of Soft-NMS, at the start: the paper's
MOST = 12  # boxes: more are a heap that nobody can take apart
HINT = (
    "Drag a box or a corner; with keys: Tab to it, then arrows, 1 pixel each, with Shift 10. Dashed boxes are "
    "suppressed, each by the better box at the other end of its line. Soft-NMS suppresses none and lowers scores; then "
    "the slider is its sigma."
)


def nms_dragger(boxes: Tensor, scores: Tensor, size: tuple[int, int], threshold: float = 0.5, title: str = "") -> Touch:
    """Boxes (K, 4) with scores (K,), called A, B, …, on a paper of `size` (height, width) pixels.

    Raises:
        ValueError: more than 12 boxes, or one of them without area, or not on the paper.
    """
    height, width = size
    if len(boxes) > MOST:
        raise ValueError(f"there must be at most {MOST} boxes, got {len(boxes)}")
    inside = (boxes[:, :2] >= 0).all(1) & (boxes[:, 2] <= width) & (boxes[:, 3] <= height)
    if not bool((inside & (boxes[:, 2:] > boxes[:, :2]).all(1)).all()):
        raise ValueError(
            f"boxes must have an area and lie on the paper, {width} x {height} pixels; got {boxes.tolist()}"
        )
    title = title or "Non-maximum suppression"
    boxes, scores = boxes.double(), scores.double()
    told = in_words(boxes, scores, threshold)
    colours = choose_colours(boxes.numpy())
    return Touch(
        "nms_dragger",
        title,
        {"title": title, "hint": HINT, "size": [width, height], "boxes": boxes.tolist(), "scores": scores.tolist()}
        | {"threshold": threshold, "sigma": SIGMA, "colours": colours},
        View(still(boxes, scores, (width, height), threshold, colours), f"{len(boxes)} boxes. {told}"),
        f"{title}.\n{told}",
        shared=("handles",),
    )


def name_of(row: int) -> str:
    return chr(ord("A") + row)


def in_words(boxes: Tensor, scores: Tensor, threshold: float) -> str:
    """Who is kept, and where each box lies."""
    kept = ops.nms(boxes, scores, threshold).tolist()
    places = (
        "{} from ({:g}, {:g}) to ({:g}, {:g}), score {:.2f}".format(name_of(row), *box, score)
        for row, (box, score) in enumerate(zip(boxes.tolist(), scores.tolist(), strict=True))
    )
    overlaps = box_maths.iou(boxes, boxes)
    pairs = (
        f"{name_of(a)} and {name_of(b)} {overlaps[a, b]:.2f}"
        for a in range(len(boxes))
        for b in range(a + 1, len(boxes))
        if overlaps[a, b] > 0
    )
    return (
        f"With a threshold of {threshold:g} NMS keeps {', '.join(map(name_of, kept))}. {'; '.join(places)}. "
        f"IoU: {', '.join(pairs) or 'no two boxes overlap'}."
    )


def still(boxes: Tensor, scores: Tensor, size: tuple[int, int], threshold: float, colours: Sequence[str]) -> str:
    """An SVG of the start: suppressed boxes are dashed."""
    scale = SIDE / max(size)
    drawing = Drawing(scale * size[0], scale * size[1])
    kept = set(ops.nms(boxes, scores, threshold).tolist())
    for row, (x1, y1, x2, y2) in enumerate((scale * boxes).tolist()):
        dashes = None if row in kept else "4 5"
        drawing.rect(x1, y1, x2 - x1, y2 - y1, stroke=INK, stroke_width=5, stroke_dasharray=dashes)
        drawing.rect(x1, y1, x2 - x1, y2 - y1, stroke=colours[row], stroke_width=3, stroke_dasharray=dashes)
        drawing.text(x1 + 6, y1 + 12, f"{name_of(row)} {scores[row]:.2f}", bold=True)
    return str(drawing)
