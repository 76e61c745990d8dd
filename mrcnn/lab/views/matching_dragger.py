"""Objects to drag among anchors: the table of IoUs, what becomes of each anchor, and what the second rule changes.

The page's script (mrcnn/lab/web/matching_dragger.js) decides anew at every move; here is the start.
"""

from torch import Tensor

from mrcnn import boxes as box_maths
from mrcnn import ops

from .svg import COLOURS, INK, PAPER, RULE, Drawing
from .touch import Touch
from .view import View

UNIT = 44  # pixels for a square of the paper in the picture that stands still
HINT = (
    "Solid: objects; drag one, or a corner; with keys: Tab to it, then arrows, half a square each, with Shift five. "
    "Dashed: anchors, in the colour of the object that they answer for, grey for background, white for ignored. "
    "A frame in the table: the best of its column."
)
FATES = {-1: "background", -2: "ignored"}


def matching_dragger(
    objects: Tensor, anchors: Tensor, size: tuple[int, int], high: float = 0.7, low: float = 0.3, title: str = ""
) -> Touch:
    """Objects (G, 4), at most 7, and anchors (A, 4) on squared paper of `size` (height, width) squares.

    Raises:
        ValueError: there are no objects or too many, or one is not on the paper.
    """
    height, width = size
    inside = (objects[:, :2] >= 0).all(1) & (objects[:, 2] <= width) & (objects[:, 3] <= height)
    if not 1 <= len(objects) <= len(COLOURS) or not bool(inside.all()):
        raise ValueError(
            f"there must be 1 to {len(COLOURS)} objects on the paper, {width} x {height}; got {objects.tolist()}"
        )
    title = title or "Objects and anchors"
    objects, anchors = objects.double(), anchors.double()
    matches, _ = ops.match_anchors(anchors, objects, high, low)
    told = in_words(objects, anchors, matches.tolist(), high, low)
    return Touch(
        "matching_dragger",
        title,
        {
            "title": title,
            "hint": HINT,
            "size": [width, height],
            "objects": objects.tolist(),
            "anchors": anchors.tolist(),
        }
        | {"high": high, "low": low, "colours": list(COLOURS[: len(objects)])},
        View(still(objects, anchors, size, matches.tolist()), f"Objects and anchors. {told}"),
        f"{title}.\n{told}",
        shared=("handles",),
    )


def name_of(row: int) -> str:
    return chr(ord("A") + row)


def in_words(objects: Tensor, anchors: Tensor, matches: list[int], high: float, low: float) -> str:
    """Each anchor's IoU with every object, and what becomes of it."""
    table = box_maths.iou(objects, anchors)
    columns = (
        f"anchor {a}: {', '.join(f'{name_of(g)} {value:.2f}' for g, value in enumerate(table[:, a].tolist()))}, so "
        f"{FATES.get(match) or name_of(match)}"
        for a, match in enumerate(matches)
    )
    return f"IoU, with thresholds {high:g} and {low:g}. {'; '.join(columns)}."


def still(objects: Tensor, anchors: Tensor, size: tuple[int, int], matches: list[int]) -> str:
    """An SVG of the start: objects solid, anchors dashed, in the colour of the object that they answer for."""
    height, width = size
    drawing = Drawing(UNIT * width, UNIT * height)
    for x in range(width + 1):
        drawing.line(UNIT * x, 0, UNIT * x, UNIT * height, stroke=RULE, stroke_width=0.6)
    for y in range(height + 1):
        drawing.line(0, UNIT * y, UNIT * width, UNIT * y, stroke=RULE, stroke_width=0.6)
    for row, (x1, y1, x2, y2) in enumerate((UNIT * objects).tolist()):
        drawing.rect(x1, y1, x2 - x1, y2 - y1, stroke=INK, stroke_width=6)
        drawing.rect(x1, y1, x2 - x1, y2 - y1, stroke=COLOURS[row], stroke_width=4)
        drawing.text(x1 + 8, y1 + 14, name_of(row), bold=True)
    for row, (x1, y1, x2, y2) in enumerate((UNIT * anchors).tolist()):
        colour = COLOURS[matches[row]] if matches[row] >= 0 else "#888888" if matches[row] == -1 else PAPER
        drawing.rect(x1, y1, x2 - x1, y2 - y1, stroke=INK, stroke_width=4, stroke_dasharray="7 4")
        drawing.rect(x1, y1, x2 - x1, y2 - y1, stroke=colour, stroke_width=2.2, stroke_dasharray="7 4")
        drawing.text(x2 - 8, y2 - 10, str(row), anchor="end")
    return str(drawing)
