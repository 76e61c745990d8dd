"""Pictures with what is in them, or what was found, beside one another."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mrcnn import boxes as box_maths
from mrcnn.data.masks import tight_boxes
from mrcnn.lab.views.pictures import caption, panels
from mrcnn.lab.views.view import View
from mrcnn.visualize import choose_colours, draw_box, draw_image, draw_mask, draw_tag, label_name

LETTERS = 2.0  # times the size of `draw_tag`: 10 points


def beside(views: Mapping[str, tuple[Tensor, dict[str, Any]]], labels: dict[str, Any], least: float = 0.5) -> View:
    """By name, a picture uint8 (3, H, W) and the objects in it, a target or a result; labels say what they are.

    Of a result, what has a score of `least` or more. Names are written where there is more than one.
    """
    several = len((labels or {}).get("categories", ())) > 2
    figure, axes = panels(len(views), side=3.3 if len(views) < 4 else 2.55, columns=4)
    told = []
    for where, (name, (image, objects)) in zip(axes, views.items(), strict=True):
        draw_image(where, image)
        sure = objects.get("scores", torch.ones(len(objects["boxes"]))) >= least
        boxes, kinds = objects["boxes"][sure].numpy(), [label_name(each, labels) for each in objects["labels"][sure]]
        masks = objects["masks"][sure].numpy() if len(boxes) else boxes
        colours = choose_colours(boxes)
        for box, mask, colour in zip(boxes, masks, colours, strict=True):
            draw_mask(where, mask.reshape(mask.shape[-2:]), box, colour)
            draw_box(where, box, colour)
        for box, kind, colour in zip(boxes, kinds, colours, strict=True):
            if several:
                draw_tag(where, box, kind, None, colour, LETTERS)
        count = ", ".join(f"{kind} {times}" for kind, times in Counter(kinds).items()) or "nothing"
        caption(where, f"{name}: {count}")
        told.append(f"{name}: {count}")
        if len(boxes):
            around = torch.from_numpy(tight_boxes(masks.reshape(len(masks), *image.shape[1:]) > 0.5))
            fit = box_maths.iou(around, objects["boxes"][sure]).diagonal().mean()
            told[-1] += f", the boxes' IoU with what is around their masks {fit:.2f}"
    _, height, width = next(iter(views.values()))[0].shape
    return View.of(figure, f"Pictures of {width} x {height} pixels, with masks and boxes. {'; '.join(told)}.")
