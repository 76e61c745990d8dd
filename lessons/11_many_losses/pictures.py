"""Where each loss pulls at the features, and which hands are raised."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from mrcnn.lab.views.pictures import BLUE, caption, draw_boxes, draw_map, panels
from mrcnn.lab.views.view import View
from mrcnn.visualize import draw_image


def pulls(image: Tensor, maps: Mapping[str, Tensor]) -> View:
    """The picture, and for each loss a map (H, W) of how strong its gradient is; light is strong, each on its scale."""
    figure, axes = panels(1 + len(maps), side=2.55, columns=4)
    draw_image(axes[0], image)
    caption(axes[0], "the scene")
    told = []
    for where, (name, strong) in zip(axes[1:], maps.items(), strict=True):
        draw_map(where, strong, image.shape[1:])
        caption(where, name)
        order = strong.flatten().square().sort(descending=True).values.cumsum(0)
        told.append(f"{name}: half of it in {float((order < order[-1] / 2).float().mean()):.1%} of the picture")
    return View.of(figure, f"A scene, and where each loss pulls at its features. {'; '.join(told)}.")


def hands(images: Sequence[Tensor], boxes: Sequence[Tensor], answers: Sequence[Tensor], words: str) -> View:
    """Pictures with people's boxes (K, 4); above, the probabilities (K, 2) of a raised left, right hand."""
    figure, axes = panels(len(images), side=2.55, columns=4)
    told = []
    for where, image, people, shares in zip(axes, images, boxes, answers, strict=True):
        draw_image(where, image)
        draw_boxes(where, people, BLUE, 1.6)
        parts = [f"left {left:.0%}, right {right:.0%}" for left, right in shares.tolist()]
        caption(where, "; ".join(parts))
        told.append("; ".join(parts))
    return View.of(figure, f"{words}. {'. '.join(told)}.")
