"""Mask R-CNN from scratch: boxes, masks and keypoints in one forward pass, on hand-written C++ and CUDA ops."""

from mrcnn import ops
from mrcnn.model import MaskRCNN, ModelSettings
from mrcnn.weights import load_torchvision, to_torchvision
from mrcnn.zoo import (
    fasterrcnn_resnet50_fpn,
    fasterrcnn_resnet50_fpn_v2,
    jointrcnn_resnet50_fpn,
    keypointrcnn_resnet50_fpn,
    maskrcnn_resnet50_fpn,
    maskrcnn_resnet50_fpn_v2,
    maskrcnn_resnet101_fpn,
    playground_rcnn,
)

__version__ = "0.1.0"

__all__ = [
    "MaskRCNN",
    "ModelSettings",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "jointrcnn_resnet50_fpn",
    "keypointrcnn_resnet50_fpn",
    "load_torchvision",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
    "maskrcnn_resnet101_fpn",
    "ops",
    "playground_rcnn",
    "to_torchvision",
]
