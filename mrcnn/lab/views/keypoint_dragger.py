"""A person's keypoints to drag over a picture, each in its circle of tolerance: how alike they are to the truth, live.

The page's script (mrcnn/lab/web/keypoint_dragger.js) works the numbers out anew at every move; here are those of the
start.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .svg import COLOURS, INK, LETTERS, PAPER, Drawing, width_of
from .touch import Touch, photograph
from .view import View

SIDE = 460  # pixels: the longer side of the picture that stands still
ORANGE, BLUE = COLOURS[0], COLOURS[6]
HINT = (
    "Blue crosses: the truth, each in its circle of tolerance. Orange: what was found; drag it. With keys: Tab to a "
    "keypoint, then arrows: 1 pixel each, with Shift 10."
)


def keypoint_dragger(
    image: Tensor,
    truth: Tensor,
    found: Tensor,
    area: float,
    names: Sequence[str],
    sigmas: Tensor,
    partner: Sequence[int] = (),
    skeleton: Sequence[tuple[int, int]] = (),
    title: str = "",
) -> Touch:
    """A picture uint8 (3, H, W) with the true keypoints (J, 3) [x, y, v] of one person, and those found, to drag.

    Beside it are the similarities of all of them, and their mean, OKS, as pycocotools has it.

    Args:
        found: (J, 2) or (J, 3), x and y first, in the picture's pixels.
        area: of the person, in pixels of that picture.
        names: J of them. sigmas (J,): COCO's spread of each. partner: what each is called in a mirror.
        skeleton: pairs of keypoints with a bone between them.

    Raises:
        ValueError: these do not fit together, the area is not above 0, or no keypoint counts (v > 0).
    """
    count = len(names)
    if truth.shape != (count, 3) or len(found) != count or len(sigmas) != count or len(partner) not in (0, count):
        raise ValueError(f"expected {count} keypoints, one for each name, in truth, found, sigmas and partner")
    if not area > 0 or not bool((truth[:, 2] > 0).any()):
        raise ValueError(f"there must be an area above 0, and a keypoint with v > 0; got an area of {area}")
    title = title or "Keypoints to drag"
    truth, points, tolerance = truth.double(), found[:, :2].double(), 2 * sigmas.double()
    height, width = image.shape[1:]
    data = {"picture": photograph(image), "size": [width, height], "truth": truth.tolist(), "points": points.tolist()}
    data |= {"area": float(area), "tolerance": tolerance.tolist(), "names": [name.replace("_", " ") for name in names]}
    data |= {"partner": list(partner), "skeleton": [list(bone) for bone in skeleton], "title": title, "hint": HINT}
    told = in_words(data)
    return Touch("keypoint_dragger", title, data, View(still(data), f"A picture with keypoints. {told}"), told)


def similarities(data: dict) -> Tensor:
    """How alike each keypoint is to its true one, from 0 to 1; NaN where it does not count: (J,)."""
    truth, points, tolerance = (torch.tensor(data[name]).double() for name in ("truth", "points", "tolerance"))
    distance = (points - truth[:, :2]).square().sum(1)
    alike = torch.exp(-distance / (2 * data["area"] * tolerance**2))
    return torch.where(truth[:, 2] > 0, alike, torch.nan)


def in_words(data: dict) -> str:
    alike = similarities(data)
    each = ", ".join(
        f"{name} {value:.3f}" if value == value else f"{name} does not count"
        for name, value in zip(data["names"], alike.tolist(), strict=True)
    )
    return f"{data['title']}. OKS {float(alike.nanmean()):.3f}. The similarities: {each}."


def still(data: dict) -> str:
    """An SVG of the start; the mean is below it."""
    scale = SIDE / max(data["size"])
    width, height = (scale * side for side in data["size"])
    words = f"OKS {float(similarities(data).nanmean()):.3f}"
    drawing = Drawing(max(width, width_of(words, LETTERS) + 16), height + 30)
    drawing.add("image", href=data["picture"], width=width, height=height)
    points = [(scale * x, scale * y) for x, y in data["points"]]
    for a, b in data["skeleton"]:
        drawing.line(*points[a], *points[b], INK, stroke_width=4)
        drawing.line(*points[a], *points[b], ORANGE, stroke_width=2)
    for (x, y, v), tolerance in zip(data["truth"], data["tolerance"], strict=True):
        if v > 0:
            radius = tolerance * data["area"] ** 0.5
            for stroke, wide in ((PAPER, 3.5), (BLUE, 1.5)):
                place = {"cx": scale * x, "cy": scale * y, "r": scale * radius}
                drawing.add("circle", **place, fill="none", stroke=stroke, stroke_width=wide)
            drawing.cross(scale * x, scale * y, BLUE, 4)
    for x, y in points:
        drawing.add("circle", cx=x, cy=y, r=5, fill=ORANGE, stroke=INK, stroke_width=1.5)
    drawing.text(8, height + 15, words)
    return str(drawing)
