"""detectron2's Mask R-CNN R50-FPN for one picture, from its definitions, on a state dict with its own names.

Written with torch and torchvision.ops alone, for a test to hold our model against. Everything is as in its
`configs/Base-RCNN-FPN.yaml`: pixels BGR from 0 to 255, strides on the first 1×1 convolutions, anchors that are not
rounded, RoIAlign aligned and with adaptive sampling, the background as the last class, masks sampled at pixel centres.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import nms, roi_align

BLOCKS = {"res2": 3, "res3": 4, "res4": 6, "res5": 3}
PIXEL_MEAN = (103.530, 116.280, 123.675)
SIZES, RATIOS, STRIDES = (32, 64, 128, 256, 512), (0.5, 1.0, 2.0), (4, 8, 16, 32, 64)
LARGEST_SCALE = math.log(1000 / 16)


@torch.no_grad()
def detect(state: dict[str, Tensor], picture: Tensor) -> dict[str, Tensor]:
    """boxes (K, 4), classes (K,) from 0 on, scores (K,) and, with a mask head, masks (K, H, W), probabilities.

    picture: (3, H, W), RGB in [0, 1], of the size in which the network is to see it.
    """
    height, width = picture.shape[1:]
    pixels = 255 * picture.flip(0) - torch.tensor(PIXEL_MEAN)[:, None, None]
    pixels = F.pad(pixels, (0, -width % 32, 0, -height % 32))
    maps = pyramid(state, bottom_up(state, pixels[None]))
    proposals = find_proposals(state, maps, (height, width))
    result = find_boxes(state, maps, proposals, (height, width))
    if "roi_heads.mask_head.predictor.weight" in state:
        small = find_masks(state, maps, result["boxes"], result["classes"])
        result["masks"] = torch.stack(
            [paste(*each, height, width) for each in zip(small, result["boxes"], strict=True)]
        )
    return result


# Backbone


def conv(state: dict, name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), stride, padding)


def conv_norm(state: dict, name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    weight, bias, mean, var = (state[f"{name}.norm.{k}"] for k in ("weight", "bias", "running_mean", "running_var"))
    return F.batch_norm(conv(state, name, x, stride, padding), mean, var, weight, bias, eps=1e-5)


def bottom_up(state: dict, pixels: Tensor) -> list[Tensor]:
    x = conv_norm(state, "backbone.bottom_up.stem.conv1", pixels, stride=2, padding=3).relu()
    x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
    maps = []
    for stage, blocks in BLOCKS.items():
        for block in range(blocks):
            name = f"backbone.bottom_up.{stage}.{block}"
            stride = 2 if block == 0 and stage != "res2" else 1
            y = conv_norm(state, f"{name}.conv1", x, stride).relu()
            y = conv_norm(state, f"{name}.conv2", y, padding=1).relu()
            y = conv_norm(state, f"{name}.conv3", y)
            shortcut = conv_norm(state, f"{name}.shortcut", x, stride) if block == 0 else x
            x = (y + shortcut).relu()
        maps.append(x)
    return maps


def pyramid(state: dict, maps: list[Tensor]) -> list[Tensor]:
    """P2 … P6."""
    above, levels = None, []
    for number, x in zip((5, 4, 3, 2), reversed(maps), strict=True):
        x = conv(state, f"backbone.fpn_lateral{number}", x)
        if above is not None:
            x = x + above.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        above = x
        levels.insert(0, conv(state, f"backbone.fpn_output{number}", x, padding=1))
    return [*levels, levels[-1][:, :, ::2, ::2]]


# Proposals


def anchors(size: int, stride: int, rows: int, columns: int) -> Tensor:
    found = []
    for y in range(rows):
        for x in range(columns):
            for ratio in RATIOS:
                w = math.sqrt(size * size / ratio)
                h = ratio * w
                found.append([x * stride - w / 2, y * stride - h / 2, x * stride + w / 2, y * stride + h / 2])
    return torch.tensor(found)


def apply_deltas(deltas: Tensor, boxes: Tensor, weights: tuple[float, ...]) -> Tensor:
    dx, dy, dw, dh = (deltas / torch.tensor(weights)).unbind(-1)
    x1, y1, x2, y2 = boxes.unbind(-1)
    w, h = x2 - x1, y2 - y1
    x, y = x1 + w / 2 + dx * w, y1 + h / 2 + dy * h
    w, h = w * dw.clamp(max=LARGEST_SCALE).exp(), h * dh.clamp(max=LARGEST_SCALE).exp()
    return torch.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), dim=-1)


def clip(boxes: Tensor, height: int, width: int) -> Tensor:
    return torch.minimum(boxes.clamp(min=0), torch.tensor([width, height, width, height]))


def find_proposals(state: dict, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
    """The best thousand of what is left of each level's best thousand."""
    kept_boxes, kept_logits = [], []
    for level, anchor_size, stride in zip(maps, SIZES, STRIDES, strict=True):
        hidden = conv(state, "proposal_generator.rpn_head.conv", level, padding=1).relu()
        logits = conv(state, "proposal_generator.rpn_head.objectness_logits", hidden)[0]  # (3, H, W)
        deltas = conv(state, "proposal_generator.rpn_head.anchor_deltas", hidden)[0]  # (3 · 4, H, W)
        logits = logits.permute(1, 2, 0).flatten()
        deltas = deltas.view(3, 4, *level.shape[2:]).permute(2, 3, 0, 1).reshape(-1, 4)
        boxes = apply_deltas(deltas, anchors(anchor_size, stride, *level.shape[2:]), (1, 1, 1, 1))
        logits, best = logits.sort(descending=True)
        boxes, logits = clip(boxes[best[:1000]], *size), logits[:1000]
        there = ((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])).nonzero()[:, 0]
        there = there[nms(boxes[there], logits[there], 0.7)]
        kept_boxes.append(boxes[there])
        kept_logits.append(logits[there])
    order = torch.cat(kept_logits).argsort(descending=True)[:1000]
    return torch.cat(kept_boxes)[order]


# What is in them


def pool(maps: list[Tensor], boxes: Tensor, side: int) -> Tensor:
    pooled = torch.zeros(len(boxes), maps[0].shape[1], side, side)
    for row, box in enumerate(boxes):
        area = (box[2] - box[0]) * (box[3] - box[1])
        level = min(max(int(torch.floor(4 + torch.log2(area.sqrt() / 224))), 2), 5)
        options = {"spatial_scale": 1 / 2**level, "sampling_ratio": 0, "aligned": True}
        pooled[row] = roi_align(maps[level - 2], [box[None]], side, **options)[0]
    return pooled


def find_boxes(state: dict, maps: list[Tensor], proposals: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    hidden = linear("roi_heads.box_head.fc1", pool(maps, proposals, 7).flatten(1)).relu()
    hidden = linear("roi_heads.box_head.fc2", hidden).relu()
    scores = linear("roi_heads.box_predictor.cls_score", hidden).softmax(-1)[:, :-1]
    deltas = linear("roi_heads.box_predictor.bbox_pred", hidden).view(*scores.shape, 4)
    found = []
    for category in range(scores.shape[1]):
        boxes = apply_deltas(deltas[:, category], proposals, (10, 10, 5, 5))
        likely = scores[:, category] > 0.05
        boxes, likely = clip(boxes[likely], *size), scores[likely, category]
        found += [(likely[row], boxes[row], category) for row in nms(boxes, likely, 0.5)]
    found.sort(key=lambda each: -each[0])
    scores, boxes, classes = zip(*found[:100], strict=True)
    return {"boxes": torch.stack(boxes), "classes": torch.tensor(classes), "scores": torch.stack(scores)}


def find_masks(state: dict, maps: list[Tensor], boxes: Tensor, classes: Tensor) -> Tensor:
    """(K, 28, 28)"""
    name = "roi_heads.mask_head"
    x = pool(maps, boxes, 14)
    for number in (1, 2, 3, 4):
        x = conv(state, f"{name}.mask_fcn{number}", x, padding=1).relu()
    x = F.conv_transpose2d(x, state[f"{name}.deconv.weight"], state[f"{name}.deconv.bias"], stride=2).relu()
    logits = conv(state, f"{name}.predictor", x)
    return torch.stack([logits[row, category] for row, category in enumerate(classes)]).sigmoid()


def paste(mask: Tensor, box: Tensor, height: int, width: int) -> Tensor:
    """A mask (28, 28) of a box, seen at the centre of every pixel of the picture: (height, width)."""
    x1, y1, x2, y2 = box
    xs = (torch.arange(width) + 0.5 - x1) / (x2 - x1) * 2 - 1
    ys = (torch.arange(height) + 0.5 - y1) / (y2 - y1) * 2 - 1
    grid = torch.stack((xs.expand(height, width), ys[:, None].expand(height, width)), dim=-1)
    return F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0]
