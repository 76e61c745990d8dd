"""Weights as detectron2's files have them, made from torchvision's lively ones (twins.py)."""

import functools
import re

import torch
import twins

TO_THEIRS = (
    (r"backbone\.body\.(conv1|bn1)\.", r"backbone.bottom_up.stem.\1."),
    (r"backbone\.body\.layer(\d)\.", lambda found: f"backbone.bottom_up.res{int(found[1]) + 1}."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.0\.", lambda found: f"backbone.fpn_lateral{int(found[1]) + 2}."),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.0\.", lambda found: f"backbone.fpn_output{int(found[1]) + 2}."),
    (r"^rpn\.head\.conv\.0\.0\.", "proposal_generator.rpn_head.conv."),
    (r"^rpn\.head\.cls_logits\.", "proposal_generator.rpn_head.objectness_logits."),
    (r"^rpn\.head\.bbox_pred\.", "proposal_generator.rpn_head.anchor_deltas."),
    (r"box_head\.fc([67])\.", lambda found: f"box_head.fc{int(found[1]) - 5}."),
    (r"mask_head\.(\d)\.0\.", lambda found: f"mask_head.mask_fcn{int(found[1]) + 1}."),
    (r"mask_predictor\.conv5_mask\.", "mask_head.deconv."),
    (r"mask_predictor\.mask_fcn_logits\.", "mask_head.predictor."),
)


def renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """torchvision's weights under detectron2's names."""
    theirs = {}
    for name, tensor in state.items():
        for pattern, name_there in TO_THEIRS:
            name = re.sub(pattern, name_there, name)
        if not name.endswith("num_batches_tracked"):
            theirs[name] = tensor
    return theirs


def in_bgr(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The first convolution sees the same colours blue first, and 255 times as bright, for they are not divided by
    ImageNet's spread."""
    name = "backbone.bottom_up.stem.conv1.weight"
    spread = 255 * torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    return state | {name: (state[name] / spread).flip(1)}


def background_last(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """80 categories: the background's scores after theirs, and none of its boxes and masks."""
    state = dict(state)
    for name, tensor in state.items():
        if ".cls_score." in name:
            state[name] = torch.cat((tensor[1:81], tensor[:1]))
        elif ".box_predictor.bbox_pred." in name:
            state[name] = tensor[4 : 4 * 81]
        elif ".mask_head.predictor." in name:
            state[name] = tensor[1:81]
    return state


@functools.cache
def checkpoint(builder: str = "maskrcnn_resnet50_fpn") -> dict[str, torch.Tensor]:
    """The state dict of detectron2's model of 80 categories."""
    return background_last(in_bgr(renamed(twins.lively(builder, "coffee", short_side=256))))
