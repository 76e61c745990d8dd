"""A picture to draw a polygon on, by hand: it becomes a mask, a box, an area, and a COCO annotation to copy.

    polygon_drawer(image, [20, 10, 60, 12, 40, 50])

The page's script (mrcnn/lab/web/polygon_drawer.js) does the drawing. Where no script runs, a picture of the polygon
stands in its place.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from .svg import COLOURS, INK, PAPER, Drawing
from .touch import Touch, photograph
from .view import View

WIDE = 480  # pixels of the picture that stands still
COARSE = 200  # a picture of fewer pixels is shown pixel by pixel
HINT = (
    "Click: a new point. Drag: move one. Arrow keys: the cross-hair, with Shift ten pixels. Enter: add a point, or "
    "pick one up and put it down. Backspace: remove the point under the cross-hair, else the last. The square "
    "is the first point: choose it to close the polygon. Closed, a new point goes into the nearest side."
)


def polygon_drawer(
    image: Tensor,
    polygon: Sequence[float] = (),
    title: str = "Draw a polygon",
    image_id: int = 1,
    category_id: int = 1,
) -> Touch:
    """A picture uint8 (3, H, W) and a polygon on it, flat as COCO has it: [x1, y1, x2, y2, ...]. It may be empty.

    The annotation that is written below the picture has these ids. Points keep one digit after the point, and the
    pixels whose middles are inside the polygon are drawn as its mask.

    Raises:
        ValueError: the polygon has an odd number of coordinates, or one or two points, or one outside the picture.
    """
    points = np.asarray(polygon, dtype=float).reshape(-1, 2).round(1) if len(polygon) % 2 == 0 else None
    height, width = image.shape[1:]
    if points is None or 0 < len(points) < 3:
        raise ValueError(f"a polygon must be at least three points x, y in one flat list; got {len(polygon)} numbers")
    if len(points) and not ((points >= 0) & (points <= (width, height))).all():
        raise ValueError(f"the polygon must lie inside the picture of {width} x {height} pixels; got {list(polygon)}")
    description = in_words(points, width, height)
    data = {
        "title": title,
        "hint": HINT,
        "width": width,
        "height": height,
        "coarse": max(width, height) < COARSE,
        "points": points.tolist(),
        "image_id": image_id,
        "category_id": category_id,
    }
    return Touch("polygon_drawer", title, data, View(still(image, points), description), f"{title}. {description}")


def in_words(points: np.ndarray, width: int, height: int) -> str:
    """What the picture shows, with the polygon's (N, 2) box and area."""
    words = f"A picture of {width} x {height} pixels to draw a polygon on"
    if not len(points):
        return f"{words}; it has none yet."
    (x1, y1), (x2, y2) = points.min(0), points.max(0)
    corners = ", ".join(f"({x:g}, {y:g})" for x, y in points)
    return (
        f"{words}. It has {len(points)} points: {corners}. Box from ({x1:g}, {y1:g}) to ({x2:g}, {y2:g}), "
        f"area {shoelace(points):g} pixels."
    )


def shoelace(points: np.ndarray) -> float:
    """The area of a polygon (N, 2): half of what its sides' cross products add up to."""
    x, y = points.T
    return round(abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2, 3)


def still(image: Tensor, points: np.ndarray) -> str:
    """An SVG of the picture, which the script takes from here, with the polygon (N, 2) on it."""
    height, width = image.shape[1:]
    scale = WIDE / width
    drawing = Drawing(WIDE, scale * height)
    rendering = "image-rendering: pixelated" if max(width, height) < COARSE else None
    drawing.add("image", x=0, y=0, width=WIDE, height=drawing.height, href=photograph(image), style=rendering)
    if len(points):
        places = (points * scale).round(1).tolist()
        drawing.polygon(places, fill=f"{COLOURS[0]}59", stroke=INK, stroke_width=4)
        drawing.polygon(places, stroke=PAPER, stroke_width=1.5)
        for number, (x, y) in enumerate(places):
            drawing.rect(x - 5, y - 5, 10, 10, COLOURS[4], INK, rx=5 * (number > 0))
    return str(drawing)
