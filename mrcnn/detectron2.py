"""Files of detectron2: its Faster and Mask R-CNN with ResNet-50-FPN or ResNet-101-FPN, under our names and settings.

    mrcnn.maskrcnn_resnet50_fpn(weights="model_final_f10217.pkl")
    mrcnn.maskrcnn_resnet101_fpn(weights="model_final_f6e8b1.pkl", mask=None)     Faster R-CNN with ResNet-101

Its models (`configs/Base-RCNN-FPN.yaml` of its source) compute what torchvision's do but for the following. With these
settings the numbers are equal to rounding, for a picture that needs no resizing:

- Pixels are BGR, from 0 to 255, and only their mean is taken off: `images.std` 1 / 255, and a body that sees BGR.
- A stage's stride is on its first 1×1 convolution: `backbone.body` "resnet50_caffe".
- Anchors are not rounded, and stand exactly 4, 8, 16, 32, 64 pixels apart: `rpn.anchors.exact`.
- RoIAlign is aligned and takes as many samples as a bin has cells: `box.aligned`, `box.sampling_ratio` 0.
- Masks are learned and pasted to fractions of a pixel: `mask.exact`.
- The background is the last class, and has neither boxes nor masks: it moves to the front, and gets rows of zeros.

What stays different: detectron2's own predictor resizes pictures as bytes, by Pillow, to sizes rounded to the nearest;
it cuts masks off at 0.5, where ours are probabilities; its smooth L1 is linear from 0 on, ours from 1/9.

Where the stride is, and in which order channels come, cannot be read off the weights. A model that was trained in
detectron2 from torchvision's ResNet (RGB, the stride on the 3×3) is loaded with torchvision's settings of these two:
`backbone={"body": "resnet50"}, images={"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}`.
"""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from mrcnn.backbone import BODIES
from mrcnn.coco_names import COCO_CATEGORIES
from mrcnn.model import ModelSettings
from mrcnn.settings import changed

# Parts of their names, and ours.
NAMES = (
    ("backbone.bottom_up.stem.", "backbone.body."),
    *((f"backbone.bottom_up.res{stage + 1}.", f"backbone.body.layer{stage}.") for stage in (1, 2, 3, 4)),
    *((f".conv{number}.norm.", f".bn{number}.") for number in (1, 2, 3)),
    (".shortcut.norm.", ".downsample.1."),
    (".shortcut.", ".downsample.0."),
    *((f"backbone.fpn_lateral{level + 2}.", f"backbone.fpn.inner_blocks.{level}.0.") for level in (0, 1, 2, 3)),
    *((f"backbone.fpn_output{level + 2}.", f"backbone.fpn.layer_blocks.{level}.0.") for level in (0, 1, 2, 3)),
    ("proposal_generator.rpn_head.conv.", "rpn.head.conv.0.0."),
    ("proposal_generator.rpn_head.objectness_logits.", "rpn.head.cls_logits."),
    ("proposal_generator.rpn_head.anchor_deltas.", "rpn.head.bbox_pred."),
    ("roi_heads.box_head.fc1.", "roi_heads.box_head.fc6."),
    ("roi_heads.box_head.fc2.", "roi_heads.box_head.fc7."),
    *((f"roi_heads.mask_head.mask_fcn{layer + 1}.", f"roi_heads.mask_head.{layer}.0.") for layer in (0, 1, 2, 3)),
    ("roi_heads.mask_head.deconv.", "roi_heads.mask_predictor.conv5_mask."),
    ("roi_heads.mask_head.predictor.", "roi_heads.mask_predictor.mask_fcn_logits."),
)
ANCHORS = "proposal_generator.anchor_generator.cell_anchors."
NOT_WEIGHTS = (ANCHORS, "pixel_mean", "pixel_std")  # older files have these too
CLASSES = "roi_heads.box_predictor.cls_score.weight"
# Layers without a row for the background, and how many rows they have for each category.
PER_CATEGORY = {"roi_heads.box_predictor.bbox_pred.": 4, "roi_heads.mask_head.predictor.": 1}
# detectron2's default: BGR, in 255ths.
MEAN, STD = (103.530, 116.280, 123.675), (1.0, 1.0, 1.0)


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is of one of detectron2's two-stage models."""
    return "proposal_generator.rpn_head.conv.weight" in state and CLASSES in state and state[CLASSES].dim() == 2


def translated(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under our names, the background first. Raises ValueError where boxes or masks are not per class."""
    categories = len(state[CLASSES]) - 1
    ours = {}
    for name, tensor in state.items():
        if name.startswith(NOT_WEIGHTS):
            continue
        if name.startswith("roi_heads.box_predictor.cls_score.") and tensor.dim():
            tensor = tensor.roll(1, 0)
        for layer, rows in PER_CATEGORY.items():
            if name.startswith(layer):
                tensor = with_background(name, tensor, rows, categories)
        ours[our_name(name)] = tensor
    return ours


def our_name(name: str) -> str:
    for theirs, ours in NAMES:
        name = name.replace(theirs, ours)
    return name


def with_background(name: str, tensor: Tensor, rows: int, categories: int) -> Tensor:
    """A last layer's tensor (rows × categories, …) with zeros for the background in front, which nothing looks at."""
    if tensor.shape[:1] != (rows * categories,):
        raise ValueError(
            f"{name} must have {rows * categories} rows, {rows} for each category, got the shape {tuple(tensor.shape)}"
        )
    return torch.cat((tensor.new_zeros(rows, *tensor.shape[1:]), tensor))


def settings_of(state: Mapping[str, Tensor], settings: ModelSettings) -> ModelSettings:
    """A builder's settings as a model with these weights needs them. Raises ValueError for a body that has no form for
    Caffe's weights."""
    body = f"{settings.backbone.body}_caffe"
    if body not in BODIES:
        raise ValueError(
            f"detectron2's weights are for the bodies resnet50 and resnet101, not {settings.backbone.body}"
        )
    changes = {
        "num_classes": len(state[CLASSES]),
        "backbone": {"body": body},
        "images": {
            "mean": in_rgb(state.get("pixel_mean", MEAN)),
            "std": in_rgb(state.get("pixel_std", STD)),
        },
        "rpn": {"anchors": {"exact": True} | anchors_of(state)},
        "box": {"sampling_ratio": 0, "aligned": True},
        "mask": settings.mask and {"exact": True},
    }
    return changed(settings, changes)


def in_rgb(values: Tensor | tuple[float, ...]) -> tuple[float, ...]:
    """Of BGR channels in 255ths: RGB in [0, 1]."""
    return tuple(value / 255 for value in reversed(torch.as_tensor(values, dtype=torch.float64).flatten().tolist()))


def anchors_of(state: Mapping[str, Tensor]) -> dict[str, tuple]:
    """The sizes and ratios of the anchors, to a thousandth, if the file has them; else nothing is known of them.

    Raises ValueError where a level has several sizes, or ratios of its own.
    """
    cells = {name: cell.double() for name, cell in sorted(state.items()) if name.startswith(ANCHORS)}  # (A, 4) each
    sizes, ratios = [], set()
    for name, cell in cells.items():
        if cell.dim() != 2 or cell.shape[1] != 4:
            raise ValueError(f"{name} must be anchors (A, 4), got the shape {tuple(cell.shape)}")
        width, height = (cell[:, 2:] - cell[:, :2]).unbind(1)
        sizes.append(tuple({round(size, 3) for size in (width * height).sqrt().tolist()}))
        ratios.add(tuple(round(ratio, 3) for ratio in (height / width).tolist()))
        if len(sizes[-1]) > 1 or len(ratios) > 1:
            raise ValueError(
                f"{name} must be anchors of one size, in the same ratios at each level, got {cell.tolist()!s:.100}"
            )
    return {"sizes": tuple(sizes), "ratios": ratios.pop()} if cells else {}


def labels_of(num_classes: int) -> dict[str, list] | None:
    """What the outputs of a model with 81 classes mean: COCO's categories in the order of their ids. Else None."""
    named = [(number, name) for number, name in enumerate(COCO_CATEGORIES) if name != "N/A"]
    if num_classes != len(named):
        return None
    ids, names = zip(*named, strict=True)
    labels = {"categories": list(names), "category_ids": list(ids)}
    return labels | {"keypoint_names": [], "skeleton": [], "keypoint_labels": []}


# ---- Files of its model zoo: {"model": {name: array}, "__author__": …}, pickled


# What numpy pickles its arrays by, before version 2 and since, and Python its bytes.
ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
}


def is_pickle(path: Path) -> bool:
    """Whether a file's name says so, and it is not an archive of torch.save's, which some name the same."""
    return path.suffix == ".pkl" and not zipfile.is_zipfile(path)


class ArrayUnpickler(pickle.Unpickler):
    """Reads numbers, text, lists, dicts and arrays. A pickle can name any function to be called while it is read: all
    but those that make arrays are refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which has no place among arrays")
        return super().find_class(module, name)


def read_pickle(path: Path) -> Any:
    """The contents of such a file, with tensors for arrays. Raises ValueError for what is none, or not harmless."""
    try:
        with path.open("rb") as file:
            contents = ArrayUnpickler(file, encoding="latin1").load()  # some were written by Python 2
        if isinstance(contents, dict) and isinstance(contents.get("model"), dict):
            contents["model"] = {name: as_tensor(value) for name, value in contents["model"].items()}
    except Exception as error:  # whatever the bytes make the unpickler do, the file is not one of these
        raise ValueError(f"{path} is not a file of detectron2's model zoo, or was cut short: {error}") from error
    return contents


def as_tensor(value: Any) -> Any:
    """A tensor of its own memory for an array; anything else as it is."""
    return torch.from_numpy(value.copy()) if isinstance(value, numpy.ndarray) else value
