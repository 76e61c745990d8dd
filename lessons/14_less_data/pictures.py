"""What a model says of pictures, pasted drawings, and the marks of pseudo-labels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mrcnn import boxes as box_maths
from mrcnn.data import Playground
from mrcnn.lab.by_pycocotools import matches
from mrcnn.lab.views.pictures import COLOURS, caption, panels
from mrcnn.lab.views.view import View
from mrcnn.visualize import draw_image, draw_mask, draw_objects


def what_it_says(model: nn.Module, *rows: Playground) -> View:
    """Pictures of each set, a row each, with what the model finds from a score of 0.5 on, and the truth in words."""
    figure, axes = panels(sum(map(len, rows)), columns=len(rows[0]))
    told = []
    with torch.no_grad():
        for where, (categories, image, target) in zip(
            axes, ((scenes.categories, *scene) for scenes in rows for scene in scenes), strict=True
        ):
            [found] = model([image])
            sure = found["scores"] >= 0.5
            draw_objects(where, image, {key: value[sure] for key, value in found.items()}, model.labels)
            there = names(categories, target["labels"])
            caption(where, f"there: {there}")
            told.append(f"there are {there}, it finds {names(model.labels['categories'], found['labels'][sure])}")
    return View.of(figure, f"Pictures with what the model finds, {len(rows[0])} a row: {'; '.join(told)}.")


def names(categories: Sequence[str], labels: Tensor) -> str:
    """The things' names with their numbers, or "nothing"."""
    count = torch.bincount(labels, minlength=1).tolist()
    return ", ".join(f"{n} {categories[k]}" for k, n in enumerate(count) if n) or "nothing"


def pasted(pairs: Sequence[tuple[tuple, tuple[Tensor, Tensor]]], whose: str) -> View:
    """For each (image, masks, source, source masks) and (picture, masks left): the two, and what became of them."""
    figure, axes = panels(3 * len(pairs), side=1.72, columns=6)
    told = []
    for number, ((image, masks, source, over), (picture, left)) in enumerate(pairs):
        three = axes[3 * number : 3 * number + 3]
        counts = len(masks), len(over), len(left)
        for where, each, parts, name in zip(
            three, (image, source, picture), (masks, over, left), ("one", "another", "pasted"), strict=True
        ):
            draw_image(where, each)
            for k, mask in enumerate(parts):
                rows, columns = mask.nonzero().T
                box = [columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5]
                draw_mask(where, mask.numpy(), torch.tensor(box).numpy(), COLOURS[k % len(COLOURS)])
            caption(where, f"{name}: {len(parts)}")
        told.append("{} things, {} laid over them, {} left".format(*counts))
    return View.of(figure, f"Drawings and things pasted onto them by code that is {whose}: {'; '.join(told)}.")


def hits(made: dict[str, Tensor], target: dict[str, Tensor]) -> tuple[int, int, int]:
    """Of pseudo-labels, the surest first: how many have a true thing of their class at an IoU of 0.5, how many there
    are, and how many true things."""
    good = 0
    for label in made["labels"].unique():
        ious = box_maths.iou(made["boxes"][made["labels"] == label], target["boxes"][target["labels"] == label])
        good += sum(found >= 0 for found in matches(ious, 0.5)) if ious.numel() else 0
    return good, len(made["labels"]), len(target["labels"])
