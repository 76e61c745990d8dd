"""Two thresholds to slide, of a mask's pixels and of a match: what is right then, the precision-recall curve, and AP.

The page's script (mrcnn/lab/web/ap_slider.js) cuts the masks, matches and measures anew at every move, by COCO's rules;
here is the start, measured by pycocotools.
"""

import base64
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from torch import Tensor

from mrcnn.visualize import draw_image

from .. import by_pycocotools
from .pictures import GREEN, INK, LETTERS, PAPER, RED, caption, panels
from .precision_recall import draw_precision_recall
from .touch import Touch, photograph
from .view import View

PIXEL, MATCH = 0.5, 0.75  # the two thresholds at the start
LEVELS = np.linspace(0.5, 0.95, 10)  # IoUs from which on a detection is right; AP is the mean over them
POINTS = torch.from_numpy(np.linspace(0, 1, 101))  # of recall
TOLD = (0.1, 0.3, 0.5, 0.7, 0.9)  # thresholds of a pixel that the description has
HINT = (
    "White: the true masks. Coloured: what is kept of each detection, with its rank, and ✓ if it is right. Below: each "
    "one's largest IoU. Drag a slider, or press Tab to reach it and then the arrow keys."
)
Found = tuple[Tensor, Tensor]  # scores (D,) and masks (D, H, W) of probabilities


def ap_slider(images: Sequence[Tensor], found: Sequence[Found], truths: Sequence[Tensor], title: str = "") -> Touch:
    """Pictures uint8 (3, H, W) with what was found of one class, and true masks (G, H, W), bool.

    Raises:
        ValueError: a true mask without a pixel, or none at all.
    """
    if not sum(map(len, truths)) or not all(bool(masks.any(2).any(1).all()) for masks in truths):
        raise ValueError("there must be true masks, each with a pixel")
    title = title or "Which pixels belong to the mask, and which masks are right?"
    found = [in_bytes(*each) for each in found]
    pictures = [
        {
            "picture": photograph(image),
            "size": [image.shape[2], image.shape[1]],
            "found": [{"score": score, **patch(mask)} for score, mask in zip(scores.tolist(), masks, strict=True)],
            "truth": [patch(mask.byte()) for mask in truth],
        }
        for image, (scores, masks), truth in zip(images, found, truths, strict=True)
    ]
    told = "\n".join(in_words(compared(found, truths, pixel), pixel) for pixel in TOLD)
    data = {"title": title, "hint": HINT, "pictures": pictures, "pixel": PIXEL, "match": MATCH}
    drawn = still(images, found, truths)
    return Touch("ap_slider", title, data | {"levels": LEVELS.tolist()}, drawn, f"{title}\n{told}")


def in_bytes(scores: Tensor, masks: Tensor) -> Found:
    """The best first, probabilities as bytes: so rounded, a pixel is above 0.5 if it was before."""
    order = scores.argsort(descending=True, stable=True)
    return scores[order], (masks[order] * 255).round().byte()


def patch(mask: Tensor) -> dict:
    """A map uint8 (H, W), cut to where it is not zero: its corner, its size, and its bytes row by row, in base64."""
    rows, columns = mask.any(1).nonzero().flatten().tolist(), mask.any(0).nonzero().flatten().tolist()
    top, bottom, left, right = (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) if rows else (0, 0, 0, 0)
    cut = mask[top:bottom, left:right].contiguous()
    values = base64.b64encode(cut.cpu().numpy().tobytes()).decode()
    return {"x": left, "y": top, "width": right - left, "height": bottom - top, "values": values}


def compared(found: Sequence[Found], truths: Sequence[Tensor], pixel: float) -> by_pycocotools.Pictures:
    """Per picture the scores, and the IoU of each mask, cut at this threshold, with each true one."""
    return [
        (scores, by_pycocotools.mask_ious(masks > 255 * pixel, truth))
        for (scores, masks), truth in zip(found, truths, strict=True)
    ]


def average_precisions(pictures: by_pycocotools.Pictures) -> list[float]:
    """At each of the ten levels."""
    return [by_pycocotools.precisions(pictures, level, POINTS).mean().item() for level in LEVELS]


def ranked(pictures: by_pycocotools.Pictures, match: float) -> tuple[Tensor, Tensor]:
    """Of all detections, the best first: in which picture each is, and whether it is right."""
    scores = torch.cat([scores for scores, _ in pictures])
    order = scores.argsort(descending=True, stable=True)
    where = torch.cat([torch.full((len(scores),), number) for number, (scores, _) in enumerate(pictures)])
    hits = torch.tensor([hit for _, ious in pictures for hit in by_pycocotools.matches(ious, match)]) >= 0
    return where[order], hits[order]


def in_words(pictures: by_pycocotools.Pictures, pixel: float) -> str:
    _, hits = ranked(pictures, MATCH)
    objects, levels = sum(ious.shape[1] for _, ious in pictures), average_precisions(pictures)
    return (
        f"Pixels above {pixel:.2f}, right from an IoU of {MATCH:.2f}: {int(hits.sum())} of {len(hits)} detections are "
        f"right, of {objects} objects. AP50 {levels[0]:.3f}, AP75 {levels[5]:.3f}, AP {sum(levels) / 10:.3f}."
    )


def still(images: Sequence[Tensor], found: Sequence[Found], truths: Sequence[Tensor]) -> View:
    """The pictures at the start, and the curve."""
    pictures = compared(found, truths, PIXEL)
    where, hits = ranked(pictures, MATCH)
    figure, axes = panels(len(images) + 1, side=2.3, columns=4)
    for number, (image, (_, masks), truth) in enumerate(zip(images, found, truths, strict=True)):
        draw_image(axes[number], image)
        ranks = (where == number).nonzero().flatten().tolist()
        for rank, mask in reversed(list(zip(ranks, (masks > 255 * PIXEL).numpy(), strict=True))):
            draw_kept(axes[number], mask, rank + 1, bool(hits[rank]))
        for mask in truth.float().numpy():
            axes[number].contour(mask, [0.5], colors=[INK], linewidths=3)
            axes[number].contour(mask, [0.5], colors=[PAPER], linewidths=1.5)
    axes[-1].set_axis_off()
    left, bottom, width, height = axes[-1].get_position().bounds
    chart = figure.add_axes((left + 0.05, bottom + 0.16 * height, width - 0.055, 0.84 * height))
    right, places = hits.cumsum(0).double(), torch.arange(1, len(hits) + 1)
    recall = right / sum(map(len, truths))
    draw_precision_recall(chart, (right / places).tolist(), recall.tolist(), hits.tolist())
    caption(chart, "cut after each rank")
    return View.of(figure, f"{len(images)} pictures with masks, and a curve. {in_words(pictures, PIXEL)}")


def draw_kept(axes: Axes, mask: np.ndarray, rank: int, right: bool) -> None:
    """A mask (H, W) over a picture, and a tag: at its top if it is right, else at its bottom."""
    colour, mark, end = (GREEN, "✓", np.min) if right else (RED, "✗", np.max)
    axes.imshow(np.where(mask[..., None], to_rgba(colour, 0.6), 0), extent=(0, mask.shape[1], mask.shape[0], 0))
    rows, columns = mask.nonzero()
    if len(rows):
        look = {"facecolor": colour, "edgecolor": PAPER, "boxstyle": "round,pad=0.15", "linewidth": 0.8}
        place = (columns.mean(), end(rows))
        axes.text(*place, f"{rank} {mark}", fontsize=LETTERS, color=PAPER, ha="center", va="center", bbox=look)
