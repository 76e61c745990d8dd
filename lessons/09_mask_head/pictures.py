"""A mask's way from region to picture, its maps of all classes, and two borders."""

import torch
from torch import Tensor

from mrcnn.lab.views.pictures import ORANGE, RED, caption, draw_boxes, draw_map, panels
from mrcnn.lab.views.view import View
from mrcnn.visualize import INK, draw_image, draw_mask


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
