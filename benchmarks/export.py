"""The whole model as one ONNX file: how far onnxruntime's answers are from the model's, and how long each takes.

    python benchmarks/export.py [--repeats 5] [--only maskrcnn_resnet50_fpn]

Each model is written by `mrcnn.export.to_onnx` and compared on three pictures of different sizes. On the first, the
model, torchvision's and onnxruntime take turns; times are medians, ratios medians over the turns of torchvision's time
by the other's. Weights are random, and calibrated on the photograph as in tests/models/twins.py; the playground's model
is the trained one of the package, which torchvision does not have.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import onnxruntime
import torch
from common import machine, markdown_table, turns, write

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "models"))
import twins

import mrcnn
from mrcnn.export import LIMITS, scenes, to_onnx

PHOTO = "coffee"  # 600 × 400, which the models bring to 1200 × 800
MODELS = (*twins.BUILDERS, twins.JOINT, "playground_rcnn")


def pair(builder: str) -> tuple[torch.nn.Module | None, torch.nn.Module, list[torch.Tensor]]:
    """torchvision's model, ours with the same weights, and three pictures: as it is, upright, and wide."""
    if builder == "playground_rcnn":
        return None, mrcnn.playground_rcnn(pretrained=True), scenes(None)
    weights = twins.lively(builder, PHOTO)
    theirs = twins.torchvision_model(builder)
    theirs.load_state_dict(weights)
    ours = mrcnn.load_torchvision(getattr(mrcnn, builder)(), weights)
    photo = twins.photograph(PHOTO)
    return theirs.eval(), ours.eval(), [photo, photo[:, 20:380, 200:440], photo[:, 100:300]]


def row(builder: str, repeats: int) -> dict:
    theirs, ours, pictures = pair(builder)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        path = Path(folder) / "model.onnx"
        begin = time.perf_counter()
        compared = to_onnx(ours, path, pictures=pictures)
        took = time.perf_counter() - begin
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        given = {"image": pictures[0].numpy()}
        calls = {"ours": lambda: ours(pictures[:1]), "onnxruntime": lambda: session.run(None, given)}
        if theirs is not None:
            calls["torchvision"] = lambda: theirs(pictures[:1])
        seconds = turns(calls, repeats)
        return {
            "model": builder,
            "megabytes": round(path.stat().st_size / 1e6, 1),
            "export_seconds": round(took),
            "sizes": [each.size for each in compared],
            "objects": [each.objects for each in compared],
            "differences": {
                name: max(each.differences[name] for each in compared)
                for name in LIMITS
                if name in compared[0].differences
            },
            "milliseconds": {name: round(1e3 * statistics.median(each), 1) for name, each in seconds.items()},
            "ratios": {
                name: round(statistics.median(t / e for t, e in zip(seconds["torchvision"], each, strict=True)), 2)
                for name, each in seconds.items()
                if theirs is not None and name != "torchvision"
            },
        }


def table(rows: list[dict]) -> str:
    header = ["model", "file", "pictures", "objects", *(f"{name}, at most" for name in LIMITS)]
    header += ["torchvision", "ours", "onnxruntime"]
    lines = [
        [
            each["model"],
            f"{each['megabytes']:.0f} MB",
            ", ".join(f"{height} x {width}" for height, width in each["sizes"]),
            ", ".join(map(str, each["objects"])),
            *(f"{each['differences'][name]:.1e}" if name in each["differences"] else "" for name in LIMITS),
            *(cell(each, name) for name in ("torchvision", "ours", "onnxruntime")),
        ]
        for each in rows
    ]
    return markdown_table(header, lines)


def cell(row: dict, name: str) -> str:
    if name not in row["milliseconds"]:
        return ""
    ratio = f" ({row['ratios'][name]:.2f})" if name in row["ratios"] else ""
    return f"{row['milliseconds'][name]:,.0f} ms{ratio}"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--only", choices=MODELS, help="one of the models")
    asked = options.parse_args()
    where, rows = machine(), []
    for builder in MODELS if asked.only is None else (asked.only,):
        rows.append(row(builder, asked.repeats))
        text = (
            "# The whole model as one ONNX file\n\n"
            "The largest differences between the model and its file in onnxruntime, boxes and keypoints in pixels; and "
            "what the first picture takes, in brackets how many times faster than torchvision.\n\n"
            f"{table(rows)}\n\n{where['cpu']}, {where['threads']} threads, {where['vectors']}, torch {where['torch']}, "
            f"onnxruntime {onnxruntime.__version__}."
        )
        if asked.only:
            print(text)
        else:
            write("export", {"machine": where, "rows": rows}, text)


if __name__ == "__main__":
    main()
