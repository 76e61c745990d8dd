"""torchvision's models with weights that are random, lively and the same on every run.

Comparing two models on freshly initialised weights proves little: every score is near 1/91, every box is its anchor,
and a broken part may not show. Trained weights would need a download. So the weights here are drawn from a seed and
then *calibrated*: from stage to stage the model looks at a photograph, and

* batch norm takes the statistics of that photograph, so activations stay healthy through fifty layers, and gets random
  gains and offsets, so that none of its four tensors can be left out unnoticed. Residual branches get a fifth of that
  gain: as in trained networks, where the sum is mostly the shortcut, rounding is then not amplified by the depth;
* each last layer (objectness, deltas, class scores, boxes, masks, heatmaps) is scaled and shifted so that every output
  channel has mean 0 and a chosen spread over the photograph: scores that differ, boxes that move off their anchors,
  masks with an inside and an outside, heatmaps with a peak;
* the background's bias is set so that a few dozen detections pass the score threshold.

The test stays fair: calibration uses torchvision alone, only chooses numbers that training could have chosen, and
both models get the very same state dict. It makes decisions (NMS, thresholds, arg-max) be taken on values that lie
apart, as a trained model's do, and not on ties that the last bit of a float decides.
"""

import functools

import pytest
import torch
from skimage import data as photographs
from torch import nn

import mrcnn
from mrcnn.images import ImageSettings

detection = pytest.importorskip("torchvision.models.detection", reason="torchvision, the yardstick, is not installed")
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone  # noqa: E402
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor  # noqa: E402
from torchvision.models.resnet import Bottleneck  # noqa: E402
from torchvision.ops import FrozenBatchNorm2d  # noqa: E402

BUILDERS = (
    "fasterrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn",
    "keypointrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "maskrcnn_resnet50_fpn_v2",
)
JOINT = "jointrcnn_resnet50_fpn"
# The spread (standard deviation) each output is given. Logits of 2 to 5 make confident and doubtful cases both occur;
# deltas of 0.3 (RPN), and of 1 in the box head's units (0.1 of a width, 0.2 of a log width), are what training meets.
SPREAD = {"objectness": 2.0, "rpn_deltas": 0.3, "classes": 2.5, "box_deltas": 1.0, "masks": 3.0, "heatmaps": 3.0}
DETECTIONS = 60
RPN_GROWTH = (
    1.4  # mean of the RPN's log size deltas: proposals four times their anchors, so that all pyramid levels are used
)


@functools.cache
def photograph(name: str) -> torch.Tensor:
    """A real photograph from scikit-image, RGB in [0, 1]: (3, H, W) float32."""
    return torch.from_numpy(getattr(photographs, name)().copy()).permute(2, 0, 1).contiguous().float() / 255


def torchvision_model(builder: str, *, frozen: bool = False, eps: float = 1e-5, **arguments) -> nn.Module:
    """torchvision's model without any download. `frozen` gives a v1 model the frozen batch norm that torchvision
    itself uses once pretrained weights are asked for; eps 0 is what it sets for the published v1 weights."""
    if not frozen and builder in BUILDERS:
        return getattr(detection, builder)(weights=None, weights_backbone=None, **arguments)
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=FrozenBatchNorm2d if frozen else nn.BatchNorm2d,
        trainable_layers=5,
    )
    whole, classes = {
        "fasterrcnn_resnet50_fpn": (detection.FasterRCNN, 91),
        "maskrcnn_resnet50_fpn": (detection.MaskRCNN, 91),
        "keypointrcnn_resnet50_fpn": (detection.KeypointRCNN, 2),
        "jointrcnn_resnet50_fpn": (detection.MaskRCNN, 91),
    }[builder]
    model = whole(backbone, **{"num_classes": classes, **arguments})
    if builder == "jointrcnn_resnet50_fpn":  # torchvision has the parts, but nothing that puts them together
        heads = model.roi_heads
        heads.keypoint_roi_pool = heads.mask_roi_pool
        heads.keypoint_head = KeypointRCNNHeads(256, (512,) * 8)
        heads.keypoint_predictor = KeypointRCNNPredictor(512, 17)
    for layer in model.modules():
        if isinstance(layer, FrozenBatchNorm2d):
            layer.eps = eps
    return model


@functools.lru_cache(maxsize=2)  # a state dict is 200 MB
def lively(builder: str, photo: str = "astronaut", short_side: int = 800, seed: int = 0) -> dict[str, torch.Tensor]:
    """The state dict of torchvision's `builder`, random and calibrated on `photo`, at `short_side` pixels, as above."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = torchvision_model(builder, min_size=short_side).eval()
        calibrate(model, photograph(photo))
    return model.state_dict()


def small_pair(builder: str, frozen: bool = False, short_side: int = 256) -> tuple[nn.Module, nn.Module]:
    """torchvision's model and ours with the same lively weights, both for small pictures."""
    weights = lively(builder, "coffee", short_side)
    theirs = torchvision_model(builder, frozen=frozen, min_size=short_side, max_size=400)
    theirs.load_state_dict(weights)
    ours = getattr(mrcnn, builder)(images=ImageSettings(min_size=(short_side,), max_size=400))
    mrcnn.load_torchvision(ours, weights)
    return theirs, ours


@torch.no_grad()
def calibrate(model: nn.Module, photo: torch.Tensor) -> None:
    """Gives every stage of a torchvision model healthy statistics on one photograph. Changes the model in place."""
    images, _ = model.transform([photo])
    features = run_with_fresh_batch_norm(model.backbone, images.tensors)
    levels = list(features.values())

    head = model.rpn.head
    hidden = [run_with_fresh_batch_norm(head.conv, level) for level in levels]
    spread_out(head.cls_logits, [head.cls_logits(x) for x in hidden], SPREAD["objectness"])
    spread_out(head.bbox_pred, [head.bbox_pred(x) for x in hidden], SPREAD["rpn_deltas"])
    head.bbox_pred.bias.view(-1, 4)[:, 2:] += RPN_GROWTH
    proposals, _ = model.rpn(images, features)

    heads = model.roi_heads
    pooled = heads.box_roi_pool(features, proposals, images.image_sizes)
    hidden = run_with_fresh_batch_norm(heads.box_head, pooled)
    predictor = heads.box_predictor
    # With one class instead of ninety there is no luckiest of them to reach a high score: it needs more spread.
    wider = 2 if predictor.cls_score.out_features == 2 else 1
    spread_out(predictor.cls_score, [predictor.cls_score(hidden)], SPREAD["classes"] * wider)
    spread_out(predictor.bbox_pred, [predictor.bbox_pred(hidden)], SPREAD["box_deltas"])
    predictor.cls_score.weight[0] *= 0.2  # the background's score, soon to be raised for all, hardly varies
    boxes = raise_background(model, hidden, proposals, images.image_sizes)

    if heads.has_mask():
        hidden = run_with_fresh_batch_norm(heads.mask_head, heads.mask_roi_pool(features, boxes, images.image_sizes))
        predictor = heads.mask_predictor
        spread_out(predictor.mask_fcn_logits, [predictor(hidden)], SPREAD["masks"])
    if heads.has_keypoint():
        hidden = heads.keypoint_head(heads.keypoint_roi_pool(features, boxes, images.image_sizes))
        predictor = heads.keypoint_predictor
        spread_out(predictor.kps_score_lowres, [predictor(hidden)], SPREAD["heatmaps"])


def run_with_fresh_batch_norm(module: nn.Module, x: torch.Tensor):
    """Runs `module` with every batch norm normalising, and from now on remembering, by the statistics of `x`."""
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    ends_of_branches = {id(layer.bn3) for layer in module.modules() if isinstance(layer, Bottleneck)}
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.6, 1.4)
        if id(norm) in ends_of_branches:
            norm.weight *= 0.2
        nn.init.normal_(norm.bias, 0, 0.2)
        norm.momentum = None  # running statistics become the plain average: of one batch, this one
        norm.train()
    result = module(x)
    for norm in norms:
        norm.eval()
    return result


def spread_out(layer: nn.Module, outputs: list[torch.Tensor], spread: float) -> None:
    """Scales and shifts a linear last layer so that each of its output channels (axis 1 of `outputs`) has mean 0 and
    standard deviation `spread`."""
    channels = torch.cat([x.transpose(0, 1).flatten(1) for x in outputs], dim=1)  # (C, everything else)
    scale = spread / channels.std(dim=1)
    axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    shape = [1] * layer.weight.dim()
    shape[axis] = -1
    layer.bias.copy_((layer.bias - channels.mean(dim=1)) * scale)
    layer.weight.mul_(scale.view(shape))


def raise_background(model, hidden, proposals, sizes) -> list[torch.Tensor]:
    """Raises the background's bias, by bisection, until about DETECTIONS objects are found; returns their boxes."""
    heads, bias = model.roi_heads, model.roi_heads.box_predictor.cls_score.bias
    start, low, high = bias[0].item(), 0.0, 40.0
    for _ in range(12):
        middle = (low + high) / 2
        bias[0] = start + middle
        logits, deltas = heads.box_predictor(hidden)
        boxes, _, _ = heads.postprocess_detections(logits, deltas, proposals, sizes)
        low, high = (middle, high) if len(boxes[0]) > DETECTIONS else (low, middle)
    return boxes
