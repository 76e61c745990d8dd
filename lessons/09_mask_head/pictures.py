"""A mask's way from region to picture, two kinds of training, and ceilings by size."""

import torch
from torch import Tensor

from mrcnn.lab.views.maps import row_of_axes
from mrcnn.lab.views.pictures import BLUE, GREEN, ORANGE, RED, caption, draw_boxes, draw_map, panels
from mrcnn.lab.views.view import View
from mrcnn.visualize import INK, draw_image, draw_mask

LOOKS = ((BLUE, "o", "-"), (RED, "s", "--"), (GREEN, "^", ":"), (ORANGE, "D", "-."))


def opening(image: Tensor, boxes: Tensor, small: Tensor, pasted: Tensor, names: list[str]) -> View:
    """Boxes (K, 4) of a scene; of each the region, its map (K, M, M), and the mask (K, H, W) in place."""
    figure, axes = panels(3 * len(boxes), side=2.05, columns=len(boxes), head=0.3)
    for k, (box, name) in enumerate(zip(boxes, names, strict=True)):
        top, middle, bottom = axes[k :: len(boxes)]
        for each in (top, bottom):
            draw_image(each, image)
        draw_boxes(bottom, box[None], INK, 1.2, "--")
        draw_mask(bottom, pasted[k].numpy(), box.numpy(), ORANGE, 1.6)
        draw_map(middle, small[k], tuple(small[k].shape), vmin=0, vmax=1)
        (x1, y1, x2, y2), air = box.tolist(), 4
        top.set(xlim=(x1, x2), ylim=(y2, y1), aspect="auto")
        bottom.set(xlim=(x1 - air, x2 + air), ylim=(y2 + air, y1 - air), aspect="auto")
        caption(top, name)
        caption(middle, f"{len(small[k])} by {len(small[k])} answers")
        caption(bottom, f"pasted: {int((pasted[k] >= 0.5).sum())} pixels")
    told = "; ".join(f"{name}, {int((each >= 0.5).sum())} pixels" for name, each in zip(names, pasted, strict=True))
    return View.of(figure, f"Regions of a scene, the mask head's map for each, and the masks pasted back: {told}.")


def class_maps(maps: Tensor, names: list[str]) -> View:
    """The probabilities (C, M, M) of every class's map in one box."""
    figure, axes = panels(len(maps), side=1.6, columns=len(maps))
    for each, values, name in zip(axes, maps, names, strict=True):
        draw_map(each, values, tuple(values.shape), vmin=0, vmax=1)
        caption(each, name)
    told = ", ".join(
        f"{name} {100 * (each >= 0.5).float().mean():.0f} %" for name, each in zip(names, maps, strict=True)
    )
    return View.of(figure, f"What each class's map says of one box, by the share of its cells that are on: {told}.")


def curves(title: str, across: str, up: str, at: list[list[float]], lines: dict[str, list[Tensor]]) -> View:
    """A panel per entry of `at`, which are its places; lines[name][panel] (runs, places): means, and bars where there
    are several runs. `title`, `|` between the panels' own."""
    figure, axes = row_of_axes(len(at), 4.2)
    words = []
    for k, (each, places, name_of) in enumerate(zip(axes, at, title.split("|"), strict=True)):
        for (name, values), (colour, mark, style) in zip(lines.items(), LOOKS, strict=False):
            mean = values[k].mean(0)
            bars = values[k].std(0) if len(values[k]) > 1 else None
            each.errorbar(places, mean, bars, color=colour, fmt=mark + style, capsize=3, markersize=5, label=name)
            told = ", ".join(f"{x:.3g}: {y:.2f}" for x, y in zip(places, mean.tolist(), strict=True))
            words.append(f"{name_of.strip()}, {name}, {told}")
        each.set(xlabel=across, ylabel=up)
        each.set_title(name_of.strip(), fontsize=10, loc="left")
        each.spines[["top", "right"]].set_visible(False)
        each.legend(frameon=False, fontsize=9)
    low, high = min(each.get_ylim()[0] for each in axes), max(each.get_ylim()[1] for each in axes)
    for each in axes:
        each.set_ylim(low, high + 0.01)
    figure.tight_layout()
    return View.of(figure, f"{up} over {across}. " + "; ".join(words) + ".", lines=True)


def borders(image: Tensor, truth: Tensor, box: Tensor, masks: dict[str, Tensor]) -> View:
    """The outlines of pasted masks (H, W), solid, over the true one, whose pixels are pale."""
    figure, axes = panels(len(masks), side=3.4, columns=len(masks))
    x1, y1, x2, y2 = box.tolist()
    for each, (name, mask) in zip(axes, masks.items(), strict=True):
        pale = image.float() * 0.25 + torch.where(truth.bool(), 120.0, 185.0)
        each.imshow(pale.clamp(max=255).to(torch.uint8).permute(1, 2, 0), extent=(0, *truth.shape[::-1], 0))
        x, y = torch.arange(truth.shape[1]) + 0.5, torch.arange(truth.shape[0]) + 0.5
        each.contour(x, y, mask, [0.5], colors=[RED], linewidths=2)
        each.set(xlim=(x1 - 3, x2 + 3), ylim=(y2 + 3, y1 - 3))
        caption(each, name)
    return View.of(figure, "A true mask, dark, and the outlines of what came back: " + "; ".join(masks) + ".")
