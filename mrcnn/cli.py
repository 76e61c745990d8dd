"""The `mrcnn` command. What takes long to import is imported by the command that needs it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mrcnn.cli_options import (
    FILE,
    FOLDER,
    data_options,
    device_option,
    limit_options,
    on_error_option,
    trained_options,
    workers_option,
)
from mrcnn.engine.settings import AUGMENTATIONS
from mrcnn.engine.signals import terminated_as_interrupted
from mrcnn.errors import sentence


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.version_option(package_name="mrcnn")
def cli() -> None:
    """Mask R-CNN from scratch: boxes, masks and keypoints."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and exits: 0; 1 after an error, told in a sentence; 2 for options that do not exist; 130 and 143
    after Ctrl-C and SIGTERM. With MRCNN_TRACEBACK=1 in the environment errors come with their traceback."""
    sys.stderr = sys.stderr or open(os.devnull, "w")  # None if it was closed, as by `2>&-`
    try:
        with terminated_as_interrupted():
            status = cli.main(arguments, prog_name="mrcnn", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except click.Abort as abort:  # what click makes of a KeyboardInterrupt
        stop = abort.__cause__
        click.echo(str(stop) or "stopped", err=True)
        status = 128 + getattr(stop, "signal", signal.SIGINT)
    except Exception as error:
        told = sentence(error)
        if told is None or os.environ.get("MRCNN_TRACEBACK") == "1":
            raise
        click.echo(f"mrcnn: {told}", err=True)
        status = 1
    sys.exit(status)


@cli.command()
@click.option("--out", type=FOLDER, default=Path("runs/demo"), show_default=True, help="Folder for what it leaves.")
@click.option("--seconds", type=click.FloatRange(1), help="At most so long: fewer steps, learning less.")
@click.option("--scenes", type=click.IntRange(1), default=200, show_default=True, help="Scenes to evaluate on.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Of the weights and the scenes.")
def demo(out: Path, seconds: float | None, scenes: int, seed: int | None) -> None:
    """Train the small joint model on the playground, evaluate it, draw what it sees. Minutes on two CPU cores."""
    from dataclasses import replace

    from mrcnn.engine import demo as demo_engine
    from mrcnn.engine.runs import summary_lines

    settings = replace(demo_engine.SETTINGS, **_given(seconds=seconds, seed=seed))
    click.echo(f"Training playground_rcnn from scratch: {settings.steps} steps of {settings.batch_size} scenes …")
    metrics = demo_engine.demo(out, settings, scenes)
    click.echo(f"\nAfter {metrics['train_steps']} steps, on {scenes} scenes it never saw:")
    for line in summary_lines(metrics):
        click.echo(f"  {line}")
    coins = metrics.get("coins")
    if coins:
        click.echo(f"On a photograph: {coins['found']} of {coins['coins']} coins, {coins['detections']} detections.")
    else:
        click.echo("The photograph of coins was left out: it comes with scikit-image, which is not installed.")
    click.echo(f"\nLook at  {out / 'predictions.png'}\n         {out / 'curves.png'}")
    if coins:
        click.echo(f"         {out / 'coins.png'}")
    click.echo(f"Numbers  {out / 'metrics.json'}\nModel    {out / 'model.pt'}")


def augment_help() -> str:
    """What each name of `--augment` does, from the table of them."""
    steps = [
        f"{name}: {', '.join(step.replace('_', '-') for step, strength in options.items() if strength)}"
        for name, options in AUGMENTATIONS.items()
        if options
    ]
    return f"{'; '.join(steps)}. A turn, by quarters, is for pictures without an up and a down."


@cli.command()
@data_options()
@data_options("val-", required=False)
@on_error_option
@click.option("--model", "builder", help='A builder\'s name, or "playground".  [default: the one of --weights]')
@click.option(
    "--weights",
    help='Where to start: a model.pt, "playground", a torchvision or detectron2 file with --model, COCO_V1.',
)
@click.option("--backbone-weights", help="A ResNet classifier to start from: a file, or IMAGENET1K_V1.")
@click.option("--out", type=FOLDER, required=True, help="Folder for the model, checkpoints, curves.")
@click.option("--epochs", type=click.IntRange(1), help="How long to train: times through the pictures …")
@click.option("--steps", type=click.IntRange(1), help="… or steps …")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="… or seconds.")
@click.option("--batch-size", type=click.IntRange(1), help="Pictures per step, of all processes together.")
@click.option("--lr", type=float, help="The highest learning rate.")
@click.option("--optimizer", type=click.Choice(["sgd", "adamw", "muon"]))
@click.option("--weight-decay", type=float)
@click.option("--schedule", type=click.Choice(["cosine", "steps"]), help="How the learning rate falls.")
@click.option("--milestones", type=float, nargs=2, help="Shares of the run after which it falls (steps).")
@click.option("--warmup", type=float, help="Share of the run in which the learning rate rises.")
@click.option("--clip", type=float, help="The longest gradient.")
@click.option("--average", type=float, help="Decay per step of the averaged weights; 0: none.")
@click.option("--bfloat16", is_flag=True, default=None, help="Forward pass in bfloat16.")
@click.option(
    "--frozen-stages",
    type=int,
    help="How many of the backbone's five stages are not trained.  [default: 2 of a ResNet with weights, else 0]",
)
@click.option("--last-layers-only", is_flag=True, default=None, help="Train nothing but the last layers of the heads.")
@click.option(
    "--unlabelled",
    type=click.Path(path_type=Path),
    help="More pictures, without labels: a teacher finds what is in them.",
)
@click.option(
    "--teacher",
    type=click.Choice(["average", "start"]),
    help="The average of the weights, or the model of --weights as it is.  [default: average]",
)
@click.option("--pseudo-score", type=click.FloatRange(0, 1), help="The teacher's score that counts.  [default: 0.7]")
@click.option("--group-shapes/--mix-shapes", default=None, help="Batches of upright or of wide pictures.")
@click.option(
    "--augment",
    type=click.Choice(list(AUGMENTATIONS)),
    help=augment_help(),
)
@workers_option
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Of everything random.  [default: 0]")
@click.option("--checkpoint-every", type=click.IntRange(0), help="Steps between checkpoints.  [default: 1000]")
@click.option("--evaluate-every", type=click.IntRange(0), help="Steps between evaluations.")
@click.option("--patience", type=click.IntRange(1), help="Evaluations without a better AP that end the run.")
@limit_options
@click.option(
    "--settings",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="settings.json of another run: its model and its settings, but for the options given here.",
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out.")
@device_option
def train(
    data: str,
    annotations: str | None,
    keypoints: str | None,
    val_data: str | None,
    val_annotations: str | None,
    val_keypoints: str | None,
    on_error: str,
    builder: str | None,
    weights: str | None,
    backbone_weights: str | None,
    out: Path,
    min_size: tuple[int, ...],
    max_size: int | None,
    detections: int | None,
    unlabelled: Path | None,
    settings: Path | None,
    resume: bool,
    device: str | None,
    **chosen: Any,
) -> None:
    """Train a model on COCO-format data. Under torchrun, on many GPUs or machines."""
    from mrcnn.engine.runs import DataSource, train_run
    from mrcnn.engine.settings_file import Wanted, read_settings

    chosen = _given(**chosen)
    if "epochs" in chosen and chosen.keys() & {"steps", "seconds"}:
        raise click.UsageError("--epochs is the whole length of the run: give it without --steps and --seconds")
    if val_data is None and (val_annotations or val_keypoints):
        raise click.UsageError("--val-annotations are those of --val-data: give both")
    validation = DataSource(val_data, val_annotations, val_keypoints, on_error) if val_data else None
    train_run(
        DataSource(data, annotations, keypoints, on_error),
        validation,
        out,
        builder=builder,
        weights=weights,
        backbone_weights=backbone_weights,
        wanted=read_settings(settings) if settings else Wanted(),
        limits={"min_size": min_size, "max_size": max_size, "detections": detections},
        chosen=chosen,
        unlabelled=unlabelled,
        resume=resume,
        device=device,
        say=click.echo,
    )


@cli.command("eval")
@trained_options
@data_options()
@on_error_option
@limit_options
@click.option("--out", type=FILE, help="A JSON file for the metrics.")
@click.option("--report", type=FOLDER, help="Folder for AP by category, confusion matrix, curves, the worst pictures.")
@workers_option
@device_option
def evaluate(
    weights: str,
    builder: str | None,
    data: str,
    annotations: str | None,
    keypoints: str | None,
    on_error: str,
    out: Path | None,
    report: Path | None,
    workers: int | None,
    device: str | None,
    **limits: Any,
) -> None:
    """COCO metrics of a model for boxes, masks and keypoints."""
    from mrcnn.engine.runs import DataSource, eval_run

    source = DataSource(data, annotations, keypoints, on_error)
    eval_run(source, weights, builder, limits, out, report, device, workers or 0, click.echo)


@cli.command()
@click.argument("photos", nargs=-1, required=True, metavar="PATH...")
@trained_options
@click.option("--out", type=FOLDER, required=True, help="Folder for what --save names.")
@click.option(
    "--min-score", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Objects from it on are kept."
)
@click.option(
    "--save",
    default="pictures,json",
    show_default=True,
    metavar="KINDS",
    help="With commas between: pictures (drawn; a video comes out as one), json (results.json), masks, crops.",
)
@click.option(
    "--batch-size", type=click.IntRange(1), default=1, show_default=True, help="Pictures the model sees at once."
)
@limit_options
@device_option
def predict(
    photos: tuple[str, ...],
    weights: str,
    builder: str | None,
    out: Path,
    min_score: float,
    save: str,
    batch_size: int,
    device: str | None,
    **limits: Any,
) -> None:
    """Find objects in photographs: drawings, and results in COCO's format. PATH: a picture, a film (GIF, WEBP, PNG), a
    video (MP4, MOV, …), a folder of them, or a pattern in quotes."""
    from mrcnn.engine import distributed
    from mrcnn.engine.build_model import limit, trained_model
    from mrcnn.engine.predict import find_photographs, found_table
    from mrcnn.engine.predict import predict as predict_photos

    files, kinds = find_photographs(photos), [kind.strip() for kind in save.split(",")]
    with distributed.processes(device) as where:
        model = limit(trained_model(weights, builder), **limits).to(where)
        limit(model, at_least=min_score)  # what is not kept needs no mask, 4 bytes for each pixel of the picture
        begin = time.perf_counter()
        results, complaints, pictures = predict_photos(model, files, out, min_score, batch_size=batch_size, save=kinds)
    took = time.perf_counter() - begin
    click.echo(f"{_count(pictures, 'picture')}, {_count(len(results), 'object')}: {', '.join(kinds)} in {out}")
    if results:
        click.echo(found_table(results))
    if pictures:
        click.echo(f"{took:.1f} s, {pictures / took:.3g} pictures a second, everything included")
    for complaint in complaints:
        click.echo(f"mrcnn: {complaint}", err=True)
    if complaints:
        sys.exit(1)


@cli.command()
@trained_options
@click.option("--out", type=FILE, required=True, help="The file: model.onnx.")
@click.option(
    "--size", type=click.IntRange(1), nargs=2, metavar="HEIGHT WIDTH", help="Of all pictures.  [default: any]"
)
@click.option("--small-masks", is_flag=True, help="Leave masks as large as their boxes, 28 x 28: for small machines.")
@click.option("--float16", is_flag=True, help="Keep the weights in half the bytes.")
@click.option("--opset", type=int, default=18, show_default=True, help="Version of ONNX's operators.")
@click.option(
    "--check", "photos", multiple=True, metavar="PHOTO", help="A photograph to compare on.  [default: three scenes]"
)
def export(
    weights: str,
    builder: str | None,
    out: Path,
    size: tuple[int, int] | None,
    small_masks: bool,
    float16: bool,
    opset: int,
    photos: tuple[str, ...],
) -> None:
    """The whole model as one ONNX file, kept if onnxruntime finds with it what the model finds."""
    from mrcnn.data import read_picture
    from mrcnn.engine.build_model import trained_model
    from mrcnn.export import summary, to_onnx

    pictures = [read_picture(photo) for photo in photos] or None
    model = trained_model(weights, builder)
    click.echo(f"Writing {model.builder} and comparing it with the file: a minute or so …")
    compared = to_onnx(model, out, size=size, paste=not small_masks, float16=float16, opset=opset, pictures=pictures)
    click.echo(summary(compared))
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


@cli.command()
@click.option("--out", type=FOLDER, required=True, help="Folder for images/ and the JSON files.")
@click.option("--images", type=click.IntRange(1), required=True, help="How many scenes.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--size", type=click.IntRange(32), default=128, show_default=True, help="Width and height in pixels.")
@click.option(
    "--style",
    type=click.Choice(["photo", "ink"]),
    default="photo",
    show_default=True,
    help="photo: people and solid things; ink: drawings of other things.",
)
def playground(out: Path, images: int, seed: int, size: int, style: str) -> None:
    """Write playground scenes as a COCO-format data set."""
    from tqdm import tqdm

    from mrcnn.data import Playground, write_coco

    with tqdm(total=images, desc="drawing", unit=" scenes", disable=None, leave=False) as bar:
        write_coco(Playground(images, seed, size, style), out, lambda _index: bar.update())
    files = " and ".join(sorted(file.name for file in out.glob("*.json")))
    click.echo(f"{images} scenes in {out / 'images'}; {files} beside it")


@cli.command()
@data_options(required=False, playground=False)
@click.option("--out", type=FILE, help="Page of drawn samples.  [default: samples.png]")
def doctor(data: str | None, annotations: str | None, keypoints: str | None, out: Path | None) -> None:
    """What was built, what was found, what is missing; with --data and --annotations, the same of a data set."""
    from mrcnn.engine.doctor import data_report, print_machine_report

    if data is None and annotations is None:
        print_machine_report(click.echo)
    elif data is None or annotations is None:
        raise click.UsageError("a data set is --data together with --annotations")
    elif data_report(data, annotations, keypoints, out or Path("samples.png"), click.echo):
        sys.exit(1)


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _given(**options: Any) -> dict[str, Any]:
    """The options that the user gave."""
    return {name: value for name, value in options.items() if value is not None}
