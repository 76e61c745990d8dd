"""Pictures to look at: what a model found, beside what is there; how the losses fell.

Drawn with matplotlib's Agg canvas, which needs no display. The colours are Okabe and Ito's, which colour-blind readers
can tell apart; every line has a dark or light edge, so that it also shows on its own colour and in print.
Coordinates are the boxes': pixel (0, 0) covers the square from (0, 0) to (1, 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from mrcnn.files import write_whole

# Okabe & Ito, without black; neighbours in the list differ in lightness too.
COLOURS = ("#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#F0E442", "#D55E00", "#0072B2")
INK, PAPER = "#222222", "#ffffff"

# Shown from this score on. A keypoint's score is the height of its heatmap's peak, a logit.
SCORE, KEYPOINT_SCORE = 0.5, 0.0

# Whole sizes of text and lines are for a picture shown 3.2 inches wide; others scale with it.
WIDTH = 3.2
DOTS_PER_INCH = 200


def draw_objects(
    axes: Axes,
    image: Any,
    objects: dict[str, Any],
    labels: dict[str, Any] | None,
    *,
    min_score: float = SCORE,
    min_keypoint_score: float = KEYPOINT_SCORE,
    scale: float = 1.0,
) -> int:
    """Draws a picture and its objects, results or ground truth; returns how many.

    image uint8 (3, H, W); objects: boxes (K, 4), labels (K,), and if there are any scores (K,), masks (K, 1, H, W) or
    (K, H, W), keypoints (K, J, 3), keypoints_scores (K, J). labels: a model's ``labels`` (category names, skeleton).
    scale: of text and lines.
    """
    draw_image(axes, image)
    objects = {name: np.asarray(value) for name, value in objects.items() if name in _PARTS}
    scores = objects.get("scores", np.ones(len(objects["boxes"])))
    chosen = np.flatnonzero(scores >= min_score)
    # The largest first, so that small objects lie on top of what is behind them.
    boxes = objects["boxes"]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    chosen = chosen[np.argsort(-areas[chosen], kind="stable")]
    tags = []
    for row, colour in zip(chosen, choose_colours(boxes[chosen]), strict=True):
        if "masks" in objects:
            draw_mask(axes, objects["masks"][row].reshape(objects["masks"].shape[-2:]), boxes[row], colour, scale)
        draw_box(axes, boxes[row], colour, scale)
        tags.append((row, colour))
    for row, colour in tags:  # keypoints and names above all masks
        if "keypoints" in objects and _has_keypoints(objects["labels"][row], labels):
            keypoints = objects["keypoints"][row]
            sure = objects["keypoints_scores"][row] >= min_keypoint_score if "keypoints_scores" in objects else None
            draw_keypoints(
                axes, keypoints, (labels or {}).get("skeleton", ()), colour, scale * _thinner(axes, boxes[row]), sure
            )
    for row, colour in tags:
        score = scores[row] if "scores" in objects else None
        draw_tag(axes, boxes[row], label_name(objects["labels"][row], labels), score, colour, scale)
    return len(chosen)


_PARTS = {"boxes", "labels", "scores", "masks", "keypoints", "keypoints_scores"}


def _has_keypoints(label: int, labels: dict[str, Any] | None) -> bool:
    return labels is None or int(label) in labels["keypoint_labels"]


def choose_colours(boxes: np.ndarray) -> list[str]:
    """A colour for each box (K, 4): the one whose nearest bearer is the furthest away."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    distances = np.linalg.norm(centres[:, None] - centres, axis=-1)  # (K, K)
    given: list[int] = []
    for index in range(len(boxes)):
        nearest = np.full(len(COLOURS), np.inf)
        np.minimum.at(nearest, given, distances[index, :index])
        given.append(int(nearest.argmax()))
    return [COLOURS[colour] for colour in given]


def _thinner(axes: Axes, box: np.ndarray) -> float:
    """Lines of a small figure are thinner, or they would hide it."""
    whole = abs(axes.get_xlim()[1] - axes.get_xlim()[0])
    return float(np.clip(max(box[2:] - box[:2]) / (0.5 * whole), 0.5, 1.2))


def label_name(label: int, labels: dict[str, Any] | None) -> str:
    categories = (labels or {}).get("categories", ())
    return categories[int(label)] if int(label) < len(categories) else str(int(label))


def draw_image(axes: Axes, image: Any) -> None:
    """A picture uint8 (3, H, W); a small one is enlarged smoothly, as its content, not its pixels, is to be seen."""
    pixels = np.asarray(image).transpose(1, 2, 0)
    height, width = pixels.shape[:2]
    axes.imshow(pixels, extent=(0, width, height, 0), interpolation="bicubic" if width < 600 else "antialiased")
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()


def draw_mask(axes: Axes, mask: np.ndarray, box: np.ndarray, colour: str, scale: float = 1.0) -> None:
    """A mask (H, W), probabilities or 0 and 1: translucent, with its outline at 0.5."""
    height, width = mask.shape
    left, top = (max(int(v) - 2, 0) for v in box[:2])
    right, bottom = min(int(box[2]) + 3, width), min(int(box[3]) + 3, height)
    window = mask[top:bottom, left:right].astype(np.float32)
    if window.size == 0 or window.max() <= 0.5:
        return
    window = np.pad(window, 1)  # outlines close at the edge of the picture
    if mask.dtype.kind in "bu":
        window = _softened(window)
    x, y = np.arange(left - 1, right + 1) + 0.5, np.arange(top - 1, bottom + 1) + 0.5
    axes.contourf(x, y, window, levels=[0.5, 2], colors=[colour], alpha=0.35)
    for line, wide in ((INK, 1.9), (colour, 1.1)):
        axes.contour(x, y, window, levels=[0.5], colors=[line], linewidths=wide * scale)


def _softened(mask: np.ndarray) -> np.ndarray:
    """A mask of 0 and 1 with soft edges, so that its outline at 0.5 is no staircase; a line of one pixel stays."""
    rows = np.pad(mask, ((1, 1), (0, 0)), mode="edge")
    rows = (rows[:-2] + 2.02 * rows[1:-1] + rows[2:]) / 4
    columns = np.pad(rows, ((0, 0), (1, 1)), mode="edge")
    return (columns[:, :-2] + 2.02 * columns[:, 1:-1] + columns[:, 2:]) / 4


def draw_box(axes: Axes, box: np.ndarray, colour: str, scale: float = 1.0) -> None:
    x1, y1, x2, y2 = (float(v) for v in box)
    axes.plot(
        [x1, x2, x2, x1, x1],
        [y1, y1, y2, y2, y1],
        color=colour,
        linewidth=0.7 * scale,
        path_effects=_edge(0.75 * scale),
        solid_joinstyle="miter",
    )


def draw_keypoints(
    axes: Axes,
    keypoints: np.ndarray,
    skeleton: Sequence[Sequence[int]],
    colour: str,
    scale: float = 1.0,
    sure: np.ndarray | None = None,
) -> None:
    """Keypoints (J, 3) [x, y, v] and the bones between them. v 0: not there; v 1 in ground truth: hidden, drawn hollow.

    ``sure`` (J,) says which keypoints of a prediction to draw; without it the keypoints are ground truth.
    """
    there = keypoints[:, 2] > 0 if sure is None else sure
    light = tuple(0.35 * channel + 0.65 for channel in to_rgb(colour))
    for first, second in skeleton:
        if there[first] and there[second]:
            ends = keypoints[[first, second]]
            axes.plot(ends[:, 0], ends[:, 1], color=light, linewidth=1.3 * scale, path_effects=_edge(scale))
    hidden = (keypoints[:, 2] == 1) & there if sure is None else np.zeros(len(keypoints), dtype=bool)
    for chosen, fill in ((there & ~hidden, light), (hidden, INK)):
        axes.plot(
            *keypoints[chosen, :2].T,
            linestyle="",
            marker="o",
            markersize=2.6 * scale,
            markerfacecolor=fill,
            markeredgecolor=INK if fill != INK else light,
            markeredgewidth=0.5 * scale,
        )


def draw_tag(axes: Axes, box: np.ndarray, name: str, score: float | None, colour: str, scale: float = 1.0) -> None:
    """Name and score in per cent, on the upper left corner of the box, inside the picture."""
    (left, right), top = axes.get_xlim(), axes.get_ylim()[1]
    line = 0.045 * (right - left)  # about the height of a tag
    x = min(max(float(box[0]), left), right - 2 * line)
    y = float(box[1])
    above = y - line > top
    axes.text(
        x,
        y if above else max(y, top),
        name if score is None else f"{name} {100 * score:.0f}",
        fontsize=5.0 * scale,
        color=INK if _lightness(colour) > 0.45 else PAPER,
        verticalalignment="bottom" if above else "top",
        clip_on=True,
        parse_math=False,  # a $ in a name is a $
        bbox={"facecolor": colour, "edgecolor": "none", "alpha": 0.9, "pad": 0.6 * scale},
    )


def _lightness(colour: str) -> float:
    red, green, blue = to_rgb(colour)
    return 0.3 * red + 0.59 * green + 0.11 * blue


def _edge(scale: float) -> list:
    return [patheffects.Stroke(linewidth=1.9 * scale, foreground=INK, alpha=0.7), patheffects.Normal()]


# ---- whole pages -----------------------------------------------------------------------------------------------------


def new_figure(width: float, height: float) -> Figure:
    """A figure of this many inches that belongs to no window."""
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Writes the figure whole or not at all."""
    kind = Path(path).suffix.lstrip(".").lower() or "png"
    write: Callable[[IO[bytes]], None] = lambda file: figure.savefig(file, format=kind)  # noqa: E731
    write_whole(path, write)


def pixels(figure: Figure) -> np.ndarray:
    """The figure as a picture uint8 (H, W, 3)."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]


def draw_photo(image: Any, objects: dict[str, Any], labels: dict[str, Any] | None, **options: Any) -> Figure:
    """One picture with its objects, at least 1,000 and at most 2,400 pixels wide or high."""
    height, width = np.asarray(image).shape[1:]
    longest = min(max(width, height, 1000), 2400) / DOTS_PER_INCH  # inches
    size = np.array([width, height]) * longest / max(width, height)
    figure = new_figure(*np.maximum(size, 0.5))
    axes = figure.add_axes((0, 0, 1, 1))
    draw_objects(axes, image, objects, labels, scale=longest / WIDTH / 1.2, **options)
    return figure


def draw_page(
    images: Sequence[Any],
    results: Sequence[dict[str, Any]],
    targets: Sequence[dict[str, Any]],
    labels: dict[str, Any] | None,
    *,
    columns: int = 3,
    title: str = "",
) -> Figure:
    """Pairs of pictures: on the left what the model found, on the right what is there."""
    rows = -(-len(images) // columns)
    side, gap, head = 2.2, 0.16, 0.42
    figure = new_figure(columns * (2 * side + gap) + gap, rows * (side + gap) + head)
    width, height = figure.get_size_inches()
    for index, (image, result, target) in enumerate(zip(images, results, targets, strict=True)):
        row, column = divmod(index, columns)
        bottom = height - head - (row + 1) * (side + gap) + gap
        for half, objects in enumerate((result, target)):
            left = gap + column * (2 * side + gap) + half * side
            axes = figure.add_axes((left / width, bottom / height, 0.985 * side / width, side / height))
            draw_objects(axes, image, objects, labels, scale=1.1)
            if row == 0:
                axes.set_title("found" if half == 0 else "truth", fontsize=9, color=INK, pad=3)
    if title:
        figure.text(gap / width, 1 - 0.05 / height, title, fontsize=10, color=INK, va="top", weight="bold")
    return figure


def draw_samples(
    images: Sequence[Any], targets: Sequence[dict[str, Any]], labels: dict[str, Any] | None, *, columns: int = 4
) -> Figure:
    """A page of pictures with what is annotated in them."""
    rows = -(-len(images) // columns)
    side, gap = 2.2, 0.1
    figure = new_figure(columns * (side + gap) + gap, rows * (side + gap) + gap)
    width, height = figure.get_size_inches()
    for index, (image, target) in enumerate(zip(images, targets, strict=True)):
        row, column = divmod(index, columns)
        left, bottom = gap + column * (side + gap), height - (row + 1) * (side + gap)
        axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
        draw_objects(axes, image, target, labels, scale=1.1)
    return figure


def draw_curves(
    losses: list[dict[str, float]],
    metrics: dict[str, dict[str, float]] | list[dict[str, float]],
    title: str = "",
) -> Figure:
    """Left, each loss over the steps; right, the metrics: over the steps if they were measured often, else as bars."""
    figure = new_figure(9, 4)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_losses(left, losses)
    if isinstance(metrics, dict):
        _draw_bars(right, metrics)
    else:
        _draw_metrics(right, metrics)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    if title:
        figure.suptitle(title, fontsize=10, color=INK)
    figure.tight_layout()
    return figure


def _draw_losses(axes: Axes, rows: list[dict[str, float]]) -> None:
    names = [name for name in rows[0] if name.startswith("loss")] if rows else []
    steps = np.array([row["step"] for row in rows])
    ends = []
    for place, name in enumerate(names):
        values = np.array([row[name] for row in rows])
        colour = INK if name == "loss" else COLOURS[(place - 1) % len(COLOURS)]
        axes.plot(steps, values, color=colour, alpha=0.15, linewidth=0.6)
        smooth = smoothed(values)
        axes.plot(steps, smooth, color=colour, linewidth=1.8 if name == "loss" else 1.2)
        ends.append((max(smooth[-1], 1e-6), "all" if name == "loss" else name.removeprefix("loss_"), colour))
    axes.set_yscale("log")
    axes.set_xlabel("step", fontsize=8)
    axes.set_title("losses", fontsize=9, loc="left")
    axes.margins(x=0.01)
    _label_ends(axes, ends)


def _label_ends(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Names (value, name, colour) at the right, level with the ends of their lines, moved apart where they overlap."""
    to_share = axes.transScale + axes.transLimits  # from the axis, linear or logarithmic, to 0 … 1
    last = -0.05
    for value, name, colour in sorted(ends):
        level = to_share.transform((0, max(value, axes.get_ylim()[0])))[1]
        last = max(level, last + 0.05)
        look = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "center"}
        axes.annotate("—", (1, last), (3, 0), color=colour, fontsize=9, weight="bold", **look)
        axes.annotate(name.replace("_", " "), (1, last), (13, 0), color=INK, fontsize=7.5, **look)


def smoothed(values: np.ndarray) -> np.ndarray:
    """A running mean over about a thirtieth of the run, shorter at its ends; as long as ``values`` (N,)."""
    half = len(values) // 60
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    first, last = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)


PARTS = {
    "bbox": ("boxes", COLOURS[6], "-"),
    "segm": ("masks", COLOURS[5], "--"),
    "keypoints": ("keypoints", COLOURS[3], "-."),
}


def _draw_bars(axes: Axes, metrics: dict[str, dict[str, float]]) -> None:
    kinds = [kind for kind in PARTS if isinstance(metrics.get(kind), dict)]
    for place, kind in enumerate(kinds):
        colour = PARTS[kind][1]
        for offset, key, alpha in ((-0.2, "AP", 1.0), (0.2, "AP50", 0.45)):
            value = metrics[kind][key]
            axes.bar(place + offset, max(value, 0), 0.36, color=colour, alpha=alpha)
            axes.text(
                place + offset, max(value, 0) + 0.015, f"{key}\n{value:.2f}", ha="center", fontsize=7.5, color=INK
            )
    axes.set_xticks(range(len(kinds)), [PARTS[kind][0] for kind in kinds])
    axes.set_ylim(0, 1.12)
    axes.set_title("average precision on pictures never seen", fontsize=9, loc="left")


def _draw_metrics(axes: Axes, rows: list[dict[str, float]]) -> None:
    ends = []
    for kind, (name, colour, style) in PARTS.items():
        for key, width in (("AP", 1.8), ("AP50", 0.9)):
            points = [(row["step"], row[f"{kind}/{key}"]) for row in rows if f"{kind}/{key}" in row]
            if points:
                x, y = zip(*points, strict=True)
                axes.plot(x, y, color=colour, linestyle=style, linewidth=width, marker="o", markersize=3)
                ends.append((y[-1], f"{name} {key}", colour))
    axes.set_ylim(0, 1)
    _label_ends(axes, ends)
    axes.set_xlabel("step", fontsize=8)
    axes.set_title("average precision", fontsize=9, loc="left")
