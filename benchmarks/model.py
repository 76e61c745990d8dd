"""Whole models against torchvision's, with the same weights: one picture through, and one step of training.

    python benchmarks/model.py [--repeats 7] [--only inference]

Both run in one process, in turns; times are medians, and a ratio is the median over the turns of torchvision's time
by ours. Inference is checked before it is timed: the same objects. Weights are random, and calibrated on the photograph
as in tests/models/twins.py, so that there are dozens of objects for the mask head to work on.
"""

import argparse
import sys
from pathlib import Path

import torch
from common import interleaved, machine, markdown_table, write

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "models"))
import twins
from agreement import assert_same_detections
from demo_vs_torchvision import Rival

import mrcnn
from mrcnn.data import Playground, collate

SURE = 0.1  # a score well above the threshold
PHOTO = "coffee"  # 600 × 400, which the model brings to 1200 × 800


def mask_rcnn_pair() -> tuple[torch.nn.Module, torch.nn.Module]:
    """torchvision's Mask R-CNN and ours with the same weights. Batch norm is frozen in both, as with published ones."""
    weights = twins.lively("maskrcnn_resnet50_fpn", PHOTO)
    theirs = twins.torchvision_model("maskrcnn_resnet50_fpn", frozen=True)
    theirs.load_state_dict(weights)
    return theirs, mrcnn.load_torchvision(mrcnn.maskrcnn_resnet50_fpn(), weights)


def inference(repeats: int) -> list[dict]:
    theirs, ours = mask_rcnn_pair()
    theirs.eval(), ours.eval()
    photo = [twins.photograph(PHOTO)]
    with torch.inference_mode():
        expected, found = theirs(photo)[0], ours(photo)[0]
        assert_same_detections(expected, found)
        exact = interleaved(lambda: ours(photo), lambda: theirs(photo), repeats)
        exact["ours_convolving"] = convolving(lambda: ours(photo))

        def half(model=ours):
            with torch.autocast("cpu", torch.bfloat16):
                return model(photo)

        checked = same_objects(expected, half()[0], half(theirs)[0])
        short = interleaved(half, lambda: theirs(photo), repeats)
        short["ours_convolving"] = convolving(half)
    count = len(expected["boxes"])
    return [
        {"row": "Mask R-CNN R50-FPN, one 800 x 1200 picture, float32", "checked": f"{count} equal objects", **exact},
        {"row": "the same, ours in bfloat16", "checked": checked, **short},
    ]


def convolving(call) -> float:
    """The share of a call's time that is spent inside oneDNN's convolutions and matrix products: what no code around
    them can make shorter."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        call()
    times = {event.key: event.self_cpu_time_total for event in profile.key_averages()}
    libraries = ("mkldnn", "aten::_convolution", "aten::addmm", "aten::mm")
    return sum(time for name, time in times.items() if name.startswith((*libraries, "aten::mkldnn"))) / sum(
        times.values()
    )


def same_objects(expected: dict, ours: dict, theirs: dict) -> str:
    """Holds the objects of both models in bfloat16 against those of float32: ours must find as many of them again.

    The weights are random, so that scores lie close together and rounding decides which objects come and go: some are
    lost by any model in bfloat16, others on another processor. What counts is that ours loses no more.
    """
    sure = expected["scores"] >= SURE
    assert sure.sum() >= 10
    mine, others = (int((found_again(expected, each) & sure).sum()) for each in (ours, theirs))
    assert mine >= others, f"of {int(sure.sum())} objects bfloat16 keeps {mine}, with torchvision's model {others}"
    return f"of {int(sure.sum())} objects of score {SURE} or more {mine} again; torchvision in bfloat16: {others}"


def found_again(expected: dict, found: dict) -> torch.Tensor:
    """Which of the objects (K,) there are in `found` too, with the same label and an IoU of at least 0.5."""
    overlaps = mrcnn.boxes.iou(expected["boxes"], found["boxes"].float())
    same = expected["labels"][:, None] == found["labels"][None]
    return ((overlaps >= 0.5) & same).any(1)


def training(name: str, theirs, ours, images: list, targets: list, repeats: int) -> dict:
    """One step: forward, backward, SGD."""

    def stepper(model):
        trained = [parameter for parameter in model.train().parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=1e-4, momentum=0.9)

        def step():
            optimizer.zero_grad()
            sum(model(images, targets).values()).backward()
            optimizer.step()

        return step

    timed = interleaved(stepper(ours), stepper(theirs), repeats)
    return {"row": name, "checked": "", **timed}


def playground_step(repeats: int) -> dict:
    torch.manual_seed(0)
    ours = mrcnn.playground_rcnn()
    scenes = Playground(8, seed=1)
    images, targets = collate([scenes[index] for index in range(8)])
    name = "training step, playground_rcnn, 8 scenes of 128 x 128"
    return training(name, Rival(ours.settings), ours, images, targets, repeats)


def full_size_step(repeats: int) -> dict:
    theirs, ours = mask_rcnn_pair()
    mrcnn.backbone.freeze_stages(ours.backbone.body, 3)
    trained = {name for name, parameter in ours.named_parameters() if parameter.requires_grad}
    for name, parameter in theirs.named_parameters():
        parameter.requires_grad_(name in trained)
    images = [twins.photograph(PHOTO), twins.photograph("rocket")]
    targets = []
    for image in images:
        boxes = torch.tensor([[30.0, 40, 200, 300], [150, 60, 330, 200], [10, 10, 60, 80], [250, 150, 420, 390]])
        masks = torch.zeros(4, *image.shape[1:], dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = 1
        targets.append({"boxes": boxes, "labels": torch.tensor([1, 5, 17, 62]), "masks": masks})
    name = "training step, Mask R-CNN R50-FPN, 2 pictures at 800 pixels"
    return training(name, theirs, ours, images, targets, repeats)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--only", choices=["inference", "training"])
    asked = options.parse_args()
    torch.manual_seed(0)
    rows = []
    if asked.only != "training":
        rows += inference(asked.repeats)
    if asked.only != "inference":
        rows += [playground_step(4 * asked.repeats), full_size_step(max(2, asked.repeats // 2))]
    table = [
        [
            row["row"],
            f"{row['theirs_ms']:.0f}",
            f"{row['ours_ms']:.0f}",
            "{:.2f} ({:.2f} … {:.2f})".format(row["ratio"], *row["ratio_quartiles"]),
            f"{row['ours_convolving']:.0%}" if "ours_convolving" in row else "",
            row["checked"],
        ]
        for row in rows
    ]
    about = machine()
    text = (
        "# Whole models\n\nMilliseconds, medians of alternating runs in one process, and torchvision's time by ours "
        "(median and quartiles over the turns).\n\n"
        f"{markdown_table(['', 'torchvision', 'ours', 'ratio', 'of ours in oneDNN', 'checked'], table)}\n\n"
        f"{about['cpu']}, {about['threads']} threads, torch {about['torch']}."
    )
    write("model", {"machine": about, "rows": rows}, text)


if __name__ == "__main__":
    main()
