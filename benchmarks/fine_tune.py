"""Does it help to start from a .pth file, on a small data set of one's own? Measured with README's command.

    python benchmarks/fine_tune.py                                                        three seeds
    python benchmarks/fine_tune.py --model maskrcnn_resnet50_fpn --weights COCO_V1        from published weights
    python benchmarks/fine_tune.py --model maskrcnn_resnet50_fpn --weights FILE.pth

The data set: 60 pictures of handwritten digits to learn from and 150 to measure on (digits.py). Without --weights the
file is one in torchvision's form, a bare state dict under torchvision's names, of the small model in the package, which
has seen nothing but the playground. For each seed `mrcnn train` runs from the file and from random weights, as long and
with the same options. What --folder has already is taken as it is, so a study that was stopped goes on.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from common import average_precisions, machine, markdown_table, over_seeds, write
from digits import MOST, PICTURES, SIDE, write_digits

import mrcnn
from mrcnn.engine.demo import forget_checkpoints
from mrcnn.files import write_whole

KINDS = {"bbox": "boxes", "segm": "masks"}
STARTS = ("the file", "random weights")


def command(folder: Path, model: str, weights: str | None) -> list[str]:
    """README's command, for the digits, but for the run's own folder and seed. A mirrored digit is none: no
    augmentation."""
    start = ["--weights", weights] if weights else []
    data = ["--data", f"{folder}/train/images", "--annotations", f"{folder}/train/instances.json"]
    test = ["--val-data", f"{folder}/val/images", "--val-annotations", f"{folder}/val/instances.json"]
    epochs = 40 if model == "playground" else 12  # in batches of 8, and of 2: about as many steps
    own = ["--epochs", str(epochs), "--min-size", str(SIDE), "--augment", "none"]
    return ["mrcnn", "train", "--model", model, *start, *data, *test, *own]


def run(words: list[str], out: Path, seed: int) -> dict:
    """The metrics of a run of `mrcnn train`, in a process of its own."""
    if not (out / "metrics.json").exists():
        own = ["--out", str(out), "--seed", str(seed), "--resume"]  # of an empty folder: from the beginning
        subprocess.run([sys.executable, "-m", *words, *own], check=True)
        forget_checkpoints(out)
    metrics = json.loads((out / "metrics.json").read_text())
    length = {name: metrics.pop(name) for name in ("train_steps", "train_seconds")}
    return length | average_precisions(metrics)


def report(runs: dict[str, list[dict]], words: list[str]) -> None:
    rows = []
    for start, each in runs.items():
        numbers = [over_seeds([one[kind][name] for one in each]) for kind in KINDS for name in ("AP", "AP50")]
        middle = [statistics.median(one[name] for one in each) for name in ("train_steps", "train_seconds")]
        rows.append([start, *numbers, *(f"{value:.0f}" for value in middle)])
    heading = [f"{name} of {title}" for title in KINDS.values() for name in ("AP", "AP50")]
    about = machine()
    text = (
        "# Fine-tuning on a small data set, from a .pth file\n\n"
        f"Handwritten digits on photographs, up to {MOST} in a picture of {SIDE} pixels: {PICTURES['train']} pictures "
        f"to learn from, {PICTURES['val']} of other digits on other photographs to measure on. "
        f"{len(runs[STARTS[0]])} trainings each: mean ± one standard deviation; seconds are medians.\n\n"
        f"{markdown_table(['start', *heading, 'steps', 'seconds'], rows)}\n\n"
        f"`{' '.join(words)} --out …`; from random weights without `--weights`.\n\n"
        f"{about['cpu']}, threads: {about['threads']}, torch {about['torch']}."
    )
    write("fine_tune", {"machine": about, "command": words, "runs": runs}, text)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--model", default="playground", help="a builder's name")
    options.add_argument("--weights", help="a .pth file or a name, as for `mrcnn train`")
    options.add_argument("--folder", type=Path, default=Path("runs/fine_tune"), help="for data, file and runs")
    options.add_argument("--seeds", type=int, default=3, help="runs of each start")
    asked = options.parse_args()
    if asked.weights is None and asked.model != "playground":
        options.error(f"--weights for {asked.model}: without, there is only the playground's model")

    if not (asked.folder / "val" / "instances.json").exists():
        write_digits(asked.folder)
    weights = asked.weights or f"{asked.folder}/playground.pth"
    if asked.weights is None:
        state = mrcnn.to_torchvision(mrcnn.playground_rcnn(pretrained=True))
        write_whole(weights, lambda file: torch.save(state, file))
    runs: dict[str, list[dict]] = {start: [] for start in STARTS}
    for seed in range(asked.seeds):  # seed by seed, so that a part of the study already compares
        for start in STARTS:
            words = command(asked.folder, asked.model, weights if start == STARTS[0] else None)
            runs[start].append(run(words, asked.folder / f"{asked.model}, {start}, seed {seed}", seed))
    report(runs, command(asked.folder, asked.model, weights))


if __name__ == "__main__":
    main()
