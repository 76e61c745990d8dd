"""A slider over the threshold above which a pixel belongs to its mask: the outlines in one picture, and measures.

Outlines and IoUs are worked out here, for every threshold; the page's script (mrcnn/lab/web/threshold_slider.js) only
shows those of the slider's place.
"""

from collections.abc import Mapping, Sequence
from string import ascii_uppercase

import torch
from contourpy import contour_generator
from torch import Tensor

from .svg import COLOURS, GREY, INK, LETTERS, PAPER, RULE, Drawing
from .touch import Touch, photograph
from .view import View

SIDE, WIDE, MARGIN = 300, 280, 40  # pixels: the longer side of the picture, the chart's width, and its room for numbers
LOOKS = ((COLOURS[6], None), (COLOURS[5], "8 4"), (COLOURS[3], "2 4"))  # of the curves: colour and dashes
HINT = "Dashed: the true masks. Solid: what is kept. Drag the slider, or press Tab to reach it and then the arrow keys."


def threshold_slider(
    image: Tensor, masks: Tensor, truth: Tensor, thresholds: Sequence[float], measures: Mapping[str, Sequence[float]],
    start: int, title: str = "",
) -> Touch:  # fmt: skip
    """A picture uint8 (3, H, W) with masks (K, H, W) of probabilities, and beside it curves over the thresholds.

    Args:
        truth: the true mask of each (K, H, W), bool.
        measures: by name, a value from 0 to 1 for each threshold: up to three curves.
        start: at which threshold, by its place in the list, the slider stands at first.
    """
    if any(len(values) != len(thresholds) for values in measures.values()) or len(measures) > len(LOOKS):
        raise ValueError(f"up to {len(LOOKS)} measures are drawn, each with a value for each threshold")
    title = title or "Which pixels belong to the mask?"
    picture, height, width = photograph(image), *image.shape[1:]
    steps = [
        {
            "outline": " ".join(outline(mask, at) for mask in masks),
            "says": in_words(at, {name: values[i] for name, values in measures.items()}, ious(masks > at, truth)),
        }
        for i, at in enumerate(thresholds)
    ]
    true = " ".join(outline(mask.float(), 0.5) for mask in truth)
    chart = {
        "thresholds": list(thresholds),
        "lines": [
            {"name": name, "values": [round(value, 4) for value in values], "colour": colour, "dashes": dashes or ""}
            for (name, values), (colour, dashes) in zip(measures.items(), LOOKS, strict=False)
        ],
    }
    data = {"title": title, "hint": HINT, "picture": picture, "size": [width, height], "truth": true}
    data |= {"steps": steps, "start": start, "middles": middles(truth)} | chart
    drawn = still(data)
    return Touch(
        "threshold_slider", title, data, View(drawn, f"A picture with masks, and curves. {steps[start]['says']}"),
        f"{title}\n" + "\n".join(step["says"] for step in steps),
    )  # fmt: skip


def ious(masks: Tensor, truth: Tensor) -> list[float]:
    """Of each pair of masks (K, H, W), bool."""
    both, either = (masks & truth).sum((1, 2)), (masks | truth).sum((1, 2))
    return (both / either.clamp(min=1)).tolist()


def in_words(threshold: float, values: Mapping[str, float], overlaps: Sequence[float]) -> str:
    told = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
    here = ", ".join(f"{letter} {value:.2f}" for letter, value in zip(ascii_uppercase, overlaps, strict=False))
    return f"Above {threshold:.2f}: {told} over all pictures. IoU of the masks in this one: {here}."


def middles(masks: Tensor) -> list[list[float]]:
    """Of each mask (K, H, W) the pixel of it that is nearest to the mean of all: [x, y], to put a letter there."""
    places = [mask.nonzero().float() for mask in masks]
    nearest = [each[(each - each.mean(0)).square().sum(1).argmin()] if len(each) else torch.zeros(2) for each in places]
    return [[x + 0.5, y + 0.5] for y, x in (each.tolist() for each in nearest)]


def outline(mask: Tensor, threshold: float) -> str:
    """Where a map (H, W) passes the threshold, as an SVG path; a pixel's value stands at its middle."""
    padded = torch.nn.functional.pad(mask, (1, 1, 1, 1)).numpy()  # so that it closes at the picture's edge
    lines = contour_generator(z=padded).lines(threshold)
    return "".join(f"M{' '.join(f'{x - 0.5:.1f},{y - 0.5:.1f}' for x, y in line.tolist())}Z" for line in lines)


def still(data: dict) -> str:
    """An SVG of the start: the picture, and beside it the curves."""
    scale = SIDE / max(data["size"])
    width, height = (scale * side for side in data["size"])
    step = data["steps"][data["start"]]
    drawing = Drawing(max(width + WIDE + 2 * MARGIN, 0.64 * LETTERS * len(step["says"])), max(height, 220) + 60)
    drawing.add("image", href=data["picture"], width=width, height=height)
    for path, under, over, dashes in (
        (data["truth"], INK, PAPER, "4 3"),
        (step["outline"], INK, COLOURS[0], None),
    ):
        look = {"transform": f"scale({scale:g})"}
        drawing.path(path, under, stroke_width=4 / scale, **look)
        drawing.path(path, over, stroke_width=2 / scale, stroke_dasharray=dashes, **look)
    for (x, y), letter in zip(data["middles"], ascii_uppercase, strict=False):
        drawing.text(
            scale * x, scale * y, letter, "middle", bold=True, stroke=PAPER, stroke_width=4, paint_order="stroke"
        )
    at, low, high = data["thresholds"], data["thresholds"][0], data["thresholds"][-1]
    left, bottom = width + MARGIN, 200

    def place(threshold: float, value: float) -> tuple[float, float]:
        return left + (threshold - low) / (high - low) * WIDE, bottom - 180 * value

    for value in (0, 0.5, 1):
        y = place(low, value)[1]
        drawing.line(left, y, left + WIDE, y, RULE)
        drawing.text(left - 6, y, f"{value:g}", "end", fill=GREY)
    for line in data["lines"]:
        points = [place(*pair) for pair in zip(at, line["values"], strict=True)]
        commands = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        drawing.path(commands, line["colour"], stroke_width=2.4, stroke_dasharray=line["dashes"] or None)
    x = place(at[data["start"]], 0)[0]
    drawing.line(x, bottom, x, bottom - 180, INK)
    for i, line in enumerate(data["lines"]):
        drawing.line(left + 90 * i, bottom + 22, left + 90 * i + 24, bottom + 22, line["colour"], stroke_width=2.4,
                     stroke_dasharray=line["dashes"] or None)  # fmt: skip
        drawing.text(left + 90 * i + 29, bottom + 22, line["name"])
    drawing.text(4, max(height, 220) + 40, step["says"])
    return str(drawing)
