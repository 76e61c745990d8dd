"""The demo's training, with torchvision's classes in our model's place: who has learnt more in the same time?

    python benchmarks/demo_vs_torchvision.py [--seconds 196] [--rounds 1] [--their-lr 0.003] [--their-float32]

The rival is put together from torchvision's GeneralizedRCNN, RegionProposalNetwork and RoIHeads, with a mask and a
keypoint branch. It gets all that torchvision's classes can take: the very backbone of `playground_rcnn`, its anchor
sizes, numbers of samples and proposals, thresholds, pooling and head sizes, and the norm in the mask and box heads. It
sees the same scenes in the same order, in batches of the same size, with the same optimiser, schedule and averaging
for the same seconds, and the same `evaluate` measures it on the same scenes. Its learning rate and precision can be
chosen for it. What its classes cannot take (a norm or dilation in the keypoint head) it goes without.

The two train one after the other in one process, in turns if there are several rounds.
"""

import argparse
import statistics
from collections import OrderedDict
from dataclasses import replace
from functools import partial

import torch
from common import machine, markdown_table, write
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

import mrcnn
from mrcnn.backbone import make_backbone
from mrcnn.data import Playground
from mrcnn.engine.demo import HEADS, SETTINGS, TEST_SEED, training_scenes
from mrcnn.engine.evaluate import evaluate
from mrcnn.engine.train import train
from mrcnn.model import ModelSettings

KINDS = {"bbox": "boxes", "segm": "masks", "keypoints": "keypoints"}


class Levels(nn.Module):
    """Our backbone with the output that torchvision's classes expect: levels by name."""

    def __init__(self, settings: ModelSettings):
        super().__init__()
        self.backbone = make_backbone(settings.backbone)
        self.out_channels = self.backbone.channels

    def forward(self, pixels: torch.Tensor) -> OrderedDict:
        return OrderedDict(zip(("0", "1", "2", "3", "pool"), self.backbone(pixels), strict=True))


class Rival(nn.Module):
    """torchvision's model behind the interface of ours: pictures may be uint8, and labels and a config can be kept."""

    def __init__(self, settings: ModelSettings):
        super().__init__()
        self.labels, self.config = None, None
        backbone = Levels(settings)
        transform = GeneralizedRCNNTransform(
            settings.images.min_size, settings.images.max_size, settings.images.mean, settings.images.std
        )
        self.model = GeneralizedRCNN(
            backbone, proposal_network(settings, backbone), heads(settings, backbone), transform
        )

    def forward(self, images, targets=None):
        return self.model([image.float() / 255 if image.dtype == torch.uint8 else image for image in images], targets)


def proposal_network(settings: ModelSettings, backbone: Levels) -> RegionProposalNetwork:
    rpn = settings.rpn
    anchors = AnchorGenerator(rpn.anchors.sizes, (rpn.anchors.ratios,) * len(rpn.anchors.sizes))
    return RegionProposalNetwork(
        anchors,
        RPNHead(backbone.out_channels, rpn.anchors.per_cell, rpn.conv_depth),
        rpn.positive_iou,
        rpn.negative_iou,
        rpn.samples,
        rpn.positive_fraction,
        {"training": rpn.pre_nms_top_n_train, "testing": rpn.pre_nms_top_n_test},
        {"training": rpn.post_nms_top_n_train, "testing": rpn.post_nms_top_n_test},
        rpn.nms_iou,
    )


def heads(settings: ModelSettings, backbone: Levels) -> RoIHeads:
    box, mask, keypoint, channels = settings.box, settings.mask, settings.keypoint, backbone.out_channels
    norm = nn.BatchNorm2d if settings.backbone.head_norm else None
    pool = partial(
        MultiScaleRoIAlign,
        ["0", "1", "2", "3"],
        sampling_ratio=2,
        canonical_scale=box.canonical_size,
        canonical_level=4,
    )
    if box.conv_channels:
        size = (channels, box.resolution, box.resolution)
        box_head = FastRCNNConvFCHead(size, list(box.conv_channels), list(box.fc_channels), norm)
    else:
        box_head = TwoMLPHead(channels * box.resolution**2, box.fc_channels[0])
    return RoIHeads(
        pool(output_size=box.resolution),
        box_head,
        FastRCNNPredictor(box.fc_channels[-1], settings.num_classes),
        box.positive_iou,
        box.positive_iou,
        box.samples,
        box.positive_fraction,
        box.delta_weights,
        box.min_score,
        box.nms_iou,
        box.detections,
        pool(output_size=mask.resolution),
        MaskRCNNHeads(channels, mask.channels, 1, norm),
        MaskRCNNPredictor(mask.channels[-1], mask.hidden, settings.num_classes),
        pool(output_size=keypoint.resolution),
        KeypointRCNNHeads(channels, keypoint.channels),
        KeypointRCNNPredictor(keypoint.channels[-1], keypoint.num_keypoints),
    )


def contest(name: str, settings, test: Playground) -> dict:
    """Trains one of the two from scratch and measures it."""
    torch.manual_seed(settings.seed)
    ours = mrcnn.playground_rcnn(box=HEADS["box"])
    model = ours if name == "ours" else Rival(ours.settings)
    report = train(model, training_scenes(settings.seed), settings)
    metrics = evaluate(model, test)
    print(f"{name}: {report.steps} steps in {report.seconds:.0f} s", metrics, flush=True)
    return {
        "steps": report.steps,
        "seconds": report.seconds,
        "lr": settings.lr,
        "bfloat16": settings.bfloat16,
        **metrics,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--seconds", type=float, default=196)
    options.add_argument("--scenes", type=int, default=200, help="unseen scenes to measure on")
    options.add_argument("--rounds", type=int, default=1, help="trainings of each, with seeds 0, 1, …")
    options.add_argument("--their-lr", type=float, default=SETTINGS.lr, help="torchvision's learning rate")
    options.add_argument("--their-float32", action="store_true", help="torchvision's classes without bfloat16")
    asked = options.parse_args()

    test = Playground(asked.scenes, seed=TEST_SEED)
    runs = {"torchvision": [], "ours": []}
    for seed in range(asked.rounds):
        settings = replace(SETTINGS, steps=None, seconds=asked.seconds, seed=seed)
        for name in list(runs)[:: -1 if seed % 2 else 1]:  # who goes first changes
            theirs = replace(settings, lr=asked.their_lr, bfloat16=settings.bfloat16 and not asked.their_float32)
            runs[name].append(contest(name, settings if name == "ours" else theirs, test))

    rows = []
    for name, results in runs.items():
        middle = partial(lambda get, results: statistics.median(get(each) for each in results), results=results)
        numbers = [f"{middle(lambda r, k=kind, m=m: r[k][m]):.3f}" for kind in KINDS for m in ("AP", "AP50")]
        rows.append([name, *numbers, f"{middle(lambda r: r['steps']):.0f}", f"{middle(lambda r: r['seconds']):.0f}"])
    header = ["", *(f"{kind} {metric}" for kind in KINDS.values() for metric in ("AP", "AP50")), "steps", "seconds"]
    about = machine()
    text = (
        f"# Learning in {asked.seconds:.0f} seconds\n\n"
        f"`playground_rcnn` and torchvision's classes, from scratch on the playground: the same backbone, scenes, "
        f"batch size and optimiser, measured on {asked.scenes} unseen scenes ({asked.rounds} of each, medians).\n\n"
        f"{markdown_table(header, rows)}\n\n{about['cpu']}, {about['threads']} threads, torch {about['torch']}."
    )
    write("demo_vs_torchvision", {"machine": about, "options": vars(asked), "runs": runs}, text)


if __name__ == "__main__":
    main()
