"""What `mrcnn train` and `mrcnn eval` do: open the data, make the model, train, evaluate, leave files."""

from __future__ import annotations

import json
import math
import signal
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mrcnn.data import CocoDataset, PictureFolder, Playground
from mrcnn.engine import demo, distributed
from mrcnn.engine.best import Best
from mrcnn.engine.build_model import limit, model_to_train, trained_model
from mrcnn.engine.csv_log import read_table
from mrcnn.engine.evaluate import KINDS, evaluate, gather_detections, judge
from mrcnn.engine.predict import detect
from mrcnn.engine.report import category_lines, category_rows, decimals, write_report
from mrcnn.engine.settings import TrainSettings
from mrcnn.engine.settings_file import Wanted
from mrcnn.engine.signals import Stopped, StopRequests
from mrcnn.engine.train import train
from mrcnn.files import write_json
from mrcnn.model_file import save_model
from mrcnn.processor import multiplies_bfloat16
from mrcnn.settings import STEPS
from mrcnn.zoo import builders_name

Say = Callable[[str], None]
TEST_SCENES = 500
LENGTHS = {"epochs", "steps", "seconds"}


@dataclass(frozen=True)
class DataSource:
    """Where pictures and annotations are. data "playground": scenes drawn on the spot, without files."""

    data: str
    annotations: str | None = None
    keypoints: str | None = None
    on_error: str = "raise"

    def open_to_measure(self) -> Any:
        """The data set for an evaluation. A broken picture is left out beforehand: in its place the next one would be
        judged twice."""
        dataset = self.open(TEST_SCENES, demo.TEST_SEED)
        if self.on_error == "skip" and isinstance(dataset, CocoDataset):
            dataset.drop_unreadable()
        return dataset

    def open(self, scenes: int, seed: int) -> Any:
        """The data set; ``scenes`` and ``seed`` are for the playground."""
        if not self.data:
            raise ValueError("the name of the folder of pictures is empty")
        if self.data == "playground" and self.annotations is not None:
            raise ValueError(f"the playground's scenes have annotations of their own: what is {self.annotations} for?")
        if self.data == "playground":
            return Playground(scenes, seed)
        if self.annotations is None:
            raise ValueError(f"name the annotations of {self.data}: a JSON file in COCO's format")
        if not Path(self.data).is_dir():
            raise ValueError(f"there is no folder {self.data} of pictures")
        if distributed.is_main():
            return CocoDataset(self.data, self.annotations, self.keypoints, on_error=self.on_error)
        with warnings.catch_warnings(action="ignore"):  # once is enough
            return CocoDataset(self.data, self.annotations, self.keypoints, on_error=self.on_error)


def default_settings(builder: str, size: int, **budget: Any) -> TrainSettings:
    """The settings for a model and a batch size: tuned on the playground for its own; the published recipe's for the
    large ones."""
    if builder.startswith("playground"):
        settings = TrainSettings(batch_size=size, optimizer="adamw", lr=0.003, average=0.99, **budget)
        return replace(settings, weight_decay=0.01, bfloat16=multiplies_bfloat16())
    # Mask R-CNN, section 3.1: 0.02 for 16 pictures; the rate goes with their number (Goyal et al. 2017, section 2.1).
    settings = TrainSettings(batch_size=size, lr=0.02 * size / 16, schedule="steps", average=0.0, **budget)
    return replace(settings, clip=None, group_shapes=True)


def run_settings(
    builder: str, dataset: Any, chosen: dict[str, Any], *, pretrained: bool, unlabelled: bool
) -> TrainSettings:
    """The settings of a run: what is ``chosen``, fields of TrainSettings or ``epochs``, and else what suits the model
    and the data set."""
    chosen = dict(chosen)
    size = chosen.pop("batch_size", 8 if builder.startswith("playground") else 2)
    length = {name: chosen.pop(name, None) for name in ("steps", "seconds")}
    if "epochs" in chosen:
        length["steps"] = in_steps(chosen.pop("epochs"), dataset, size / 2 if unlabelled else size)
    # The playground's scenes never come twice; pictures in files do.
    augment = "none" if isinstance(dataset, Playground) else "flip"
    settings = replace(default_settings(builder, size, **length), augment=augment)
    if pretrained and not builder.startswith("playground"):
        settings = replace(settings, frozen_stages=2)  # stem and layer 1, as in the published recipe
    return replace(settings, **chosen)


def over(stored: dict[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
    """The settings in a file, with those that are chosen in their place: a length of the run in place of the whole
    length there."""
    if chosen.keys() & LENGTHS:
        stored = {name: value for name, value in stored.items() if name not in LENGTHS}
    return stored | chosen


def in_steps(epochs: int, dataset: Any, labelled: float) -> int:
    """How many steps of so many pictures it takes to see all pictures of a data set as often."""
    if isinstance(dataset, Playground):
        raise ValueError("the playground has no epochs, its scenes never come twice: give steps or seconds")
    if not STEPS.holds(epochs):
        raise ValueError(f"epochs must be {STEPS.expected}, got {epochs}")
    return math.ceil(epochs * len(dataset) / labelled)


def train_run(
    source: DataSource,
    validation: DataSource | None,
    out: Path,
    *,
    builder: str | None,
    weights: str | None,
    backbone_weights: str | None,
    wanted: Wanted,
    limits: dict[str, Any],
    chosen: dict[str, Any],
    unlabelled: Path | None = None,
    resume: bool,
    device: str | None,
    say: Say,
) -> None:
    """Trains on ``source``; leaves model.pt, losses.csv, curves.png and, with ``validation``, best.pt, metrics.json and
    pages of predictions in ``out``. ``wanted`` is what a settings file says; ``chosen`` (for `run_settings`) and
    ``limits`` (for `build_model.limit`) go over it."""
    with distributed.processes(device) as where:
        main = distributed.is_main()
        say = say if main else _silence
        chosen = over(wanted.train, chosen)
        seed = chosen.get("seed", 0)
        dataset = source.open(demo.SCENES, seed)
        test = validation.open_to_measure() if validation else None
        torch.manual_seed(seed)  # every process begins with the same weights
        if builder and wanted.builder and builders_name(builder) != builders_name(wanted.builder):
            raise ValueError(f"the settings are those of {wanted.builder}, which {builder} (--model) is not")
        model, fresh = model_to_train(dataset, builder or wanted.builder, weights, backbone_weights, wanted.model)
        if fresh:
            say(f"{len(fresh)} tensors start afresh, as other categories or keypoints need: {', '.join(fresh[:4])}, …")
        limit(model, **limits)
        kind = {"pretrained": bool(weights or backbone_weights), "unlabelled": unlabelled is not None}
        settings = run_settings(model.builder, dataset, chosen, **kind)
        if settings.patience and test is None:
            raise ValueError("patience counts evaluations: give validation pictures (--val-data)")
        if (settings.frozen_stages or settings.last_layers_only) and weights is None and backbone_weights is None:
            say("what is frozen has random weights: there are none to start from")
        others = None if unlabelled is None else PictureFolder(unlabelled, source.on_error)
        if others and settings.teacher == "start" and (weights is None or fresh):
            raise ValueError(
                "the model at the start cannot teach: it has layers of random weights. Train it on the labelled "
                "pictures first and give --weights, or let the average of the weights teach"
            )
        besides = "" if others is None else f", and {len(others)} pictures without labels"
        say(f"{model.builder} on {len(dataset)} pictures, {len(dataset.categories) - 1} categories{besides}")
        measure = _measure(test, out, settings.workers) if test is not None else None
        report = train(model.to(where), dataset, settings, unlabelled=others, out=out, evaluate=measure, resume=resume)
        if test is not None:
            metrics = last_evaluation(model, test, settings.workers, out)
        else:
            metrics = {} if report.losses else earlier_metrics(out, report.steps)
        if main:
            metrics |= {"train_seconds": round(report.seconds, 1), "train_steps": report.steps}
            finish(model, test, metrics, out, say)


def last_evaluation(model: torch.nn.Module, test: Any, workers: int, out: Path) -> dict[str, Any]:
    """The metrics of a finished run. Ctrl-C and SIGTERM end it at once, with a word on what there is already."""
    with StopRequests() as requests:
        try:
            with requests.at_once():
                return evaluate(model, test, workers=workers, show_progress=True)
        except KeyboardInterrupt as error:
            kept = f"trained, not measured: {out / 'model.pt'} is there, and --resume measures it"
            raise Stopped(kept, requests.requested or signal.SIGINT) from error


def earlier_metrics(out: Path, steps: int) -> dict[str, Any]:
    """What was measured when the run ended after as many steps: it may be resumed without validation pictures."""
    try:
        stored = json.loads((out / "metrics.json").read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(stored, dict) or stored.get("train_steps") != steps:
        return {}
    return {kind: stored[kind] for kind in KINDS if kind in stored}


def finish(model: torch.nn.Module, test: Any, metrics: dict[str, Any], out: Path, say: Say) -> None:
    from mrcnn import visualize

    title = f"{model.builder}, {metrics['train_steps']} steps in {metrics['train_seconds']:.0f} s"
    measured = read_table(out / "metrics.csv")
    figure = visualize.draw_curves(read_table(out / "losses.csv"), measured if len(measured) > 1 else metrics, title)
    visualize.save(figure, out / "curves.png")
    if test is not None:
        draw_predictions(model, test, out / "predictions.png")
    write_json(out / "metrics.json", metrics)
    if test is None:
        earlier = any(kind in metrics for kind in KINDS)
        say(f"not measured{' anew' if earlier else ''}: no validation pictures were given (--val-data)")
    else:
        for line in summary_lines(metrics):
            say(line)
        best = keep_best(model, metrics, out)
        if best.step is not None:
            say(f"best: {out / 'best.pt'}, of step {best.step}, with a mean AP of {best.score:.3f}")
    say(f"model: {out / 'model.pt'}; metrics.json, curves.png, losses.csv beside it")


def keep_best(model: torch.nn.Module, metrics: dict[str, Any], out: Path) -> Best:
    """The best evaluation of a run. If it is the last one, of the model at the end, that becomes best.pt."""
    best = Best()
    for row in read_table(out / "metrics.csv"):
        best.add(row)
    if best.add(flat(metrics) | {"step": metrics["train_steps"]}):
        save_model(model, out / "best.pt")
    return best


def flat(metrics: dict[str, Any]) -> dict[str, float]:
    """Metrics as a row of metrics.csv has them: "bbox/AP", …"""
    kinds = [kind for kind in KINDS if kind in metrics]
    return {f"{kind}/{name}": value for kind in kinds for name, value in metrics[kind].items()}


def _measure(test: Any, out: Path, workers: int) -> Callable[[torch.nn.Module, int], dict[str, float]]:
    def measure(model: torch.nn.Module, step: int) -> dict[str, float]:
        metrics = evaluate(model, test, workers=workers, show_progress=True)
        if distributed.is_main():
            draw_predictions(model, test, out / f"predictions-{step:08d}.png")
        return flat(metrics)

    return measure


def draw_predictions(model: torch.nn.Module, test: Any, path: Path, count: int = 9) -> None:
    from mrcnn import visualize

    images, targets = zip(*[test[index] for index in range(min(count, len(test)))], strict=True)
    results = [detect(model, image) for image in images]
    visualize.save(visualize.draw_page(images, results, targets, model.labels), path)


def eval_run(
    source: DataSource,
    weights: str,
    builder: str | None,
    limits: dict[str, Any],
    out: Path | None,
    report: Path | None,
    device: str | None,
    workers: int,
    say: Say,
) -> None:
    """Evaluates a model, within ``limits`` (`build_model.limit`); writes the metrics to the file ``out`` and all that
    `write_report` tells into the folder ``report``, if they are given."""
    with distributed.processes(device) as where:
        model = limit(trained_model(weights, builder), **limits).to(where)
        dataset = source.open_to_measure()
        detections = gather_detections(model, dataset, workers=workers, show_progress=True)
        if not distributed.is_main():
            return
        truth = dataset.coco()
        judged = judge(truth, detections)
        metrics = {kind: one.metrics for kind, one in judged.items()}
        for line in [*summary_lines(metrics), *category_lines(category_rows(dataset, truth, judged))]:
            say(line)
        if out is not None:
            write_json(out, metrics)
        if report is not None:
            write_report(report, model, dataset, truth, detections, judged)
            say(f"{report}: categories.csv, confusion.png, precision_recall.png, worst.png, results.json")


def summary_lines(metrics: dict[str, Any]) -> list[str]:
    """The main numbers, in a small table."""
    names = {"bbox": "boxes", "segm": "masks", "keypoints": "keypoints"}
    rows = [(name, metrics[kind]) for kind, name in names.items() if kind in metrics]
    if not rows:
        return ["nothing to measure: the data set has no ground truth that the model predicts"]
    return [f"{'':9}    AP   AP50   AP75"] + [
        f"{name:9}{decimals(row['AP']):>6} {decimals(row['AP50']):>6} {decimals(row['AP75']):>6}" for name, row in rows
    ]


def _silence(_text: str) -> None:
    pass
