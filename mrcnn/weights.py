"""Weights from elsewhere: torchvision's published models, and ResNet classifiers for the backbone alone.

The modules here bear torchvision's names, so a state dict needs translation only where a file is old.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mrcnn import detectron2
from mrcnn.coco_names import COCO_CATEGORIES, KEYPOINT_NAMES, SKELETON
from mrcnn.layers import FrozenBatchNorm2d
from mrcnn.model import MaskRCNN
from mrcnn.validation import describe, is_finite

ADDRESS = "https://download.pytorch.org/models/"
# The eight digits before ".pth" begin the file's SHA-256, which the download is checked against.
PUBLISHED = {
    "fasterrcnn_resnet50_fpn": "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
    "maskrcnn_resnet50_fpn": "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
    "keypointrcnn_resnet50_fpn": "keypointrcnn_resnet50_fpn_coco-fc266e95.pth",
    "fasterrcnn_resnet50_fpn_v2": "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
    "maskrcnn_resnet50_fpn_v2": "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth",
}
PUBLISHED_BACKBONES = {"resnet50": "resnet50-0676ba61.pth", "resnet101": "resnet101-63fe2227.pth"}

# Names of the published v1 files -> today's.
OLD_NAMES = (
    (re.compile(r"^(rpn\.head\.conv)\.(weight|bias)$"), r"\1.0.0.\2"),
    (re.compile(r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$"), r"\1.0.\2"),
)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# The last layers of the heads: an output for each category, or for each keypoint.
OF_CLASSES = ("roi_heads.box_predictor.", "roi_heads.mask_predictor.mask_fcn_logits.")
OF_KEYPOINTS = ("roi_heads.keypoint_predictor.",)
CLASSES = "roi_heads.box_predictor.cls_score.weight"  # (classes, hidden)
KEYPOINTS = "roi_heads.keypoint_predictor.kps_score_lowres.weight"  # (hidden, keypoints, 4, 4)
OLD_MASK_NAME = re.compile(r"^(roi_heads\.mask_head)\.mask_fcn(\d+)\.(weight|bias)$")


def load_torchvision(model: MaskRCNN, path_or_state_dict: str | Path | dict[str, Tensor]) -> MaskRCNN:
    """Loads weights of the torchvision model of the same name into `model`, and returns it.

    path_or_state_dict: a .pth file or a state dict, or a training checkpoint that holds one under "model" or
    "state_dict"; with today's key names or those of the published v1 files. The latter were trained with batch norm's
    eps at 0 and are run so, as torchvision does; their old names tell them apart.
    Raises ValueError, and leaves the model as it was, where keys or shapes differ or a number is not finite, and names
    them.
    """
    state = read_weights(path_or_state_dict)
    refuse_differences(model.state_dict(), with_new_names(state))
    transfer(model, state)
    return model


def start_from(model: MaskRCNN, state: dict[str, Tensor]) -> list[str]:
    """Loads a state dict as `load_torchvision` does, but for the last layers of the heads that are of another shape, of
    other classes or keypoints: these stay as they are. Returns their names. Raises ValueError where more differs."""
    own, given = model.state_dict(), with_new_names(state)
    others = {
        name: own[name]
        for name in own.keys() & given.keys()
        if name.startswith(OF_CLASSES + OF_KEYPOINTS) and given[name].shape != own[name].shape
    }
    refuse_differences(own, given | others)
    return transfer(model, state)


def transfer(model: MaskRCNN, state: dict[str, Tensor]) -> list[str]:
    """Loads the weights that the model has under the same name and in the same shape; returns the names of the rest,
    without batch norm's step counters, which old files do not have.

    This is fine-tuning's beginning: features learned for other categories, and last layers that are new (Girshick et
    al. 2014, section 2.3, https://arxiv.org/abs/1311.2524).
    """
    given = with_new_names(state)
    own = model.state_dict()
    fits = {name for name in own if name in given and given[name].shape == own[name].shape}
    # A step counter is loaded also where the model has none; one that not even its layer knows is passed over.
    counters = {name for name in given if name.endswith("num_batches_tracked")}
    model.load_state_dict(own | {name: given[name] for name in fits | counters}, strict=False)
    if given.keys() != state.keys():  # a published v1 file
        set_batch_norm_eps(model, 0.0)
    return sorted(name for name in own.keys() - fits if not name.endswith("num_batches_tracked"))


def published_labels(state: dict[str, Tensor]) -> dict[str, list] | None:
    """What the outputs of torchvision's published weights mean: of 91 classes COCO's categories, of 2 with COCO's
    keypoints background and person. None where there are other numbers of classes."""
    num_classes = len(state[CLASSES]) if CLASSES in state else 0
    posed = KEYPOINTS in state and state[KEYPOINTS].shape[1:2] == (len(KEYPOINT_NAMES),)
    if num_classes != len(COCO_CATEGORIES) and not (num_classes == 2 and posed):
        return None
    return {
        "categories": list(COCO_CATEGORIES[:num_classes]),
        "category_ids": list(range(num_classes)),  # they count as COCO does, gaps and all
        "keypoint_names": list(KEYPOINT_NAMES) if posed else [],
        "skeleton": [list(bone) for bone in SKELETON] if posed else [],
        "keypoint_labels": [1] if posed else [],
    }


def to_torchvision(model: MaskRCNN) -> dict[str, Tensor]:
    """The model's weights as a state dict that torchvision's model of the same name loads."""
    return {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }


def load_classifier(model: MaskRCNN, path_or_state_dict: str | Path | dict[str, Tensor]) -> MaskRCNN:
    """Loads a ResNet classification checkpoint, whose last layer is left out, into the backbone's body."""
    state = read_weights(path_or_state_dict)
    state = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    refuse_differences(model.backbone.body.state_dict(), state)
    model.backbone.body.load_state_dict(state)
    return model


def published_weights(builder: str, weights: str | Path) -> dict[str, Tensor] | str | Path:
    """The weights of a name, "COCO_V1", or the path itself."""
    if weights != "COCO_V1":
        return weights
    if builder not in PUBLISHED:
        raise ValueError(f'weights="COCO_V1" is not published for {builder}; it is for {", ".join(PUBLISHED)}')
    return download(PUBLISHED[builder])


def published_backbone(body: str, weights: str | Path) -> dict[str, Tensor] | str | Path:
    """The backbone weights of a name, "IMAGENET1K_V1", or the path itself."""
    if weights != "IMAGENET1K_V1":
        return weights
    if body not in PUBLISHED_BACKBONES:
        raise ValueError(f'backbone_weights="IMAGENET1K_V1" is not published for {body}')
    return download(PUBLISHED_BACKBONES[body])


def download(file_name: str) -> dict[str, Tensor]:
    """Fetches a published file once, into torch.hub's cache, and checks its hash."""
    return torch.hub.load_state_dict_from_url(
        ADDRESS + file_name, map_location="cpu", check_hash=True, weights_only=True
    )


def read_weights(source: str | Path | dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict from a file or as given, or the one that a checkpoint holds under "model" or "state_dict"."""
    if isinstance(source, Mapping):
        return checked_state(unwrapped(source), "the state dict")
    if not isinstance(source, str | Path):
        raise TypeError(f"weights must be a path or a state dict, got {describe(source)}")
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file {path}")
    if detectron2.is_pickle(path):
        return checked_state(unwrapped(detectron2.read_pickle(path)), str(path))
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} is not a weights file, or was cut short: expected what torch.save writes") from error
    return checked_state(unwrapped(contents), str(path))


def unwrapped(contents: Any) -> Any:
    """The state dict inside a training checkpoint, as torchvision's recipes leave: {"model": …, "optimizer": …}."""
    if isinstance(contents, Mapping):
        for name in ("model", "state_dict"):
            if isinstance(contents.get(name), Mapping):
                return contents[name]
    return contents


def checked_state(state: Any, source: str) -> dict[str, Tensor]:
    """The state dict, or a ValueError unless it holds names and tensors of finite floats; step counters are whole."""
    if not isinstance(state, Mapping):
        raise ValueError(f"{source} must hold a state dict (names and tensors), got {describe(state)}")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ValueError(f"{source} must hold names and tensors, got {describe(tensor)} as {name!r}")
        if tensor.layout != torch.strided or tensor.is_meta:
            raise ValueError(f"{source}: {name} must be a dense tensor, got {tensor.layout} on {tensor.device}")
        if name.endswith("num_batches_tracked"):
            continue
        if tensor.dtype not in FLOATS:
            raise ValueError(f"{source}: {name} must be of a float type, got {tensor.dtype}")
        if not is_finite(tensor):
            raise ValueError(f"{source}: {name} has NaN or infinity in it")
    return dict(state)


def with_new_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {new_name(name): tensor for name, tensor in state.items()}


def new_name(name: str) -> str:
    """A parameter's name today, from that of a published v1 file."""
    for old, new in OLD_NAMES:
        name = old.sub(new, name)
    return OLD_MASK_NAME.sub(lambda found: f"{found[1]}.{int(found[2]) - 1}.0.{found[3]}", name)


def refuse_differences(own: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    """Raises ValueError where keys are missing or unknown, or shapes differ; batch norm's step counters may be."""
    counters = {name for name in own.keys() | given.keys() if name.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - given.keys() - counters)
    unknown = sorted(given.keys() - own.keys() - counters)
    shapes = [
        f"{name} {tuple(given[name].shape)}, not {tuple(own[name].shape)}"
        for name in own.keys() & given.keys()
        if own[name].shape != given[name].shape
    ]
    parts = [
        f"{title}: {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
        for title, names in (("missing", missing), ("unknown", unknown), ("of another shape", sorted(shapes)))
        if names
    ]
    if parts:
        raise ValueError(f"these weights are of another model. {'; '.join(parts)}")


def set_batch_norm_eps(model: MaskRCNN, eps: float) -> None:
    """Sets eps of the body's frozen batch norm, in the model's settings too, so that it can be built again."""
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = eps
    model.settings = replace(model.settings, backbone=replace(model.settings.backbone, eps=eps))
