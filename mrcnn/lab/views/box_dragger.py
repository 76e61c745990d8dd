"""A box to drag on a picture, beside an anchor that stands still: the deltas between the two and their IoU, live.

The page's script (mrcnn/lab/web/box_dragger.js) works the numbers out anew at every move; here are those of the start.
"""

from collections.abc import Sequence

from torch import Tensor

from mrcnn import boxes as box_maths

from .svg import COLOURS, INK, LETTERS, PAPER, Drawing
from .touch import Touch, photograph
from .view import View

SIDE = 400  # pixels: the longer side of the picture that stands still
ORANGE, BLUE = COLOURS[0], COLOURS[6]
HINT = (
    "Dashed: the anchor. Solid: the box; drag its inside or a corner. With keys: Tab to the inside or to a corner, "
    "then arrows: 1 pixel each, with Shift 10."
)


def box_dragger(image: Tensor, anchor: Tensor, box: Tensor, title: str = "") -> Touch:
    """A picture uint8 (3, H, W) with an anchor (4,), which stands still, and a box (4,) to drag by corners or inside.

    Beside it are the deltas that move the anchor onto the box, as `mrcnn.boxes.encode` has them with weights of 1, and
    the IoU of the two.

    Raises:
        ValueError: the anchor or the box has a side of 0 or less.
    """
    anchor, box = anchor.double(), box.double()
    for name, each in (("anchor", anchor), ("box", box)):
        if not bool((each[2:] > each[:2]).all()):
            raise ValueError(f"the {name} must have a width and a height; got {each.tolist()}")
    title = title or "An anchor, and a box to drag"
    height, width = image.shape[1:]
    picture = photograph(image)
    told = in_words(anchor, box)
    return Touch(
        "box_dragger",
        title,
        {"title": title, "hint": HINT, "picture": picture, "size": [width, height]}
        | {"anchor": anchor.tolist(), "box": box.tolist()},
        View(still(picture, (width, height), anchor.tolist(), box.tolist(), told), f"A picture with two boxes. {told}"),
        f"{title}.\n{told}",
        shared=("handles",),
    )


def in_words(anchor: Tensor, box: Tensor) -> str:
    """Where the two lie, the deltas between them, and their IoU."""
    deltas = box_maths.encode(box[None], anchor[None], (1.0, 1.0, 1.0, 1.0))[0].tolist()
    numbers = ", ".join(f"{name} {value:+.3f}" for name, value in zip(("dx", "dy", "dw", "dh"), deltas, strict=True))
    places = (
        "({:g}, {:g}) to ({:g}, {:g})".format(*(round(value, 1) for value in each.tolist())) for each in (anchor, box)
    )
    overlap = box_maths.iou(anchor[None], box[None]).item()
    return "The anchor, dashed, goes from {}; the box, solid, from {}. ".format(*places) + (
        f"From the anchor to the box: {numbers}. IoU {overlap:.3f}."
    )


def still(picture: str, size: tuple[int, int], anchor: Sequence[float], box: Sequence[float], told: str) -> str:
    """An SVG of the start; the numbers are below it."""
    scale = SIDE / max(size)
    width, height = (scale * side for side in size)
    numbers = told.split(": ")[-1]
    drawing = Drawing(max(width, 0.64 * LETTERS * len(numbers) + 16), height + 30)
    drawing.add("image", href=picture, width=width, height=height)
    for (x1, y1, x2, y2), under, over, dashes in ((anchor, PAPER, BLUE, "9 5"), (box, INK, ORANGE, None)):
        place = (scale * x1, scale * y1, scale * (x2 - x1), scale * (y2 - y1))
        drawing.rect(*place, stroke=under, stroke_width=6)
        drawing.rect(*place, stroke=over, stroke_width=3, stroke_dasharray=dashes)
    drawing.text(8, height + 15, numbers)
    return str(drawing)
