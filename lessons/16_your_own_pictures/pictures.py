"""Pictures with what is in them, or what was found, beside one another."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mrcnn.lab.views.pictures import caption, panels
from mrcnn.lab.views.view import View
from mrcnn.visualize import draw_objects, label_name


def beside(views: Mapping[str, tuple[Tensor, dict[str, Any]]], labels: dict[str, Any], min_score: float = 0.5) -> View:
    """By name, a picture uint8 (3, H, W) and the objects in it, a target or a result; labels say what they are.

    Of a result, what has a score of `min_score` or more.
    """
    figure, axes = panels(len(views), side=3.3 if len(views) < 4 else 2.55, columns=4)
    told = []
    for where, (name, (image, objects)) in zip(axes, views.items(), strict=True):
        objects = {key: value for key, value in objects.items() if "keypoints" not in key}
        count = draw_objects(where, image, objects, labels, min_score=min_score, scale=1.0)
        caption(where, f"{name}: {count}")
        shown = objects["labels"][objects["scores"] >= min_score] if "scores" in objects else objects["labels"]
        kinds = sorted({label_name(label, labels) for label in shown.tolist()})
        told.append(f"{name}: {count} objects" + f", of {' and '.join(kinds)}" * bool(kinds))
    _, height, width = next(iter(views.values()))[0].shape
    return View.of(figure, f"Pictures of {width} x {height} pixels with outlines and masks. {'; '.join(told)}.")
