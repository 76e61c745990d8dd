"""`torch.compile` beside the model as it is: how many graphs it makes, how long that takes, and what is gained.

    python benchmarks/compiled.py [--repeats 15] [--only playground_rcnn]

Each way sees pictures of three sizes, which compiles it; then the first picture is timed, in turns with the model as it
is. A ratio is the median over the turns of the model's time by the compiled one's: above 1, compiling gains.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from common import interleaved, machine, markdown_table, write
from torch._dynamo.utils import counters

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "models"))
import twins
from test_compile import WHOLE

import mrcnn
from mrcnn.data import Playground
from mrcnn.export import scenes

PHOTO = "coffee"


@contextlib.contextmanager
def lengths_that_depend_on_values():
    """One graph may then have them; inductor's guess of layouts, made for known lengths, is left out."""
    with torch._dynamo.config.patch(WHOLE), torch._inductor.config.patch(layout_optimization=False):
        yield


def row(name: str, way: str, plain: Callable, compiled: Callable, batches: list[tuple], repeats: int) -> dict:
    """Compiles by calling, batch by batch; then times the first batch."""
    torch._dynamo.reset()
    counters.clear()
    begin = time.perf_counter()
    for batch in batches:
        compiled(*batch)
    took = time.perf_counter() - begin
    graphs, breaks = counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())
    timed = interleaved(lambda: compiled(*batches[0]), lambda: plain(*batches[0]), repeats)
    print(f"{name}, {way}: {graphs} graphs, {breaks} breaks, ratio {timed['ratio']:.2f}", flush=True)
    return {"model": name, "way": way, "graphs": graphs, "breaks": breaks, "compiling_seconds": round(took), **timed}


@torch.no_grad()
def evaluation(name: str, model: torch.nn.Module, pictures: list[torch.Tensor], repeats: int) -> list[dict]:
    batches = [([picture],) for picture in pictures]
    default = row(name, "evaluation, by default", model, torch.compile(model), batches, repeats)
    with lengths_that_depend_on_values():
        whole = row(name, "evaluation, one graph", model, torch.compile(model, fullgraph=True), batches, repeats)
    return [default, whole]


def training(name: str, model: torch.nn.Module, repeats: int) -> list[dict]:
    images, targets = zip(*Playground(12, seed=5), strict=True)
    batches = [(list(images[first : first + 4]), list(targets[first : first + 4])) for first in (0, 4, 8)]

    def step(call: Callable) -> Callable:
        def one(images: list[torch.Tensor], targets: list[dict]) -> None:
            model.zero_grad()
            sum(call(images, targets).values()).backward()

        return one

    model.train()
    return [row(name, "training step of 4 scenes", step(model), step(torch.compile(model)), batches, repeats)]


def table(rows: list[dict]) -> str:
    header = ["model", "what", "graphs", "breaks", "compiling", "as it is", "compiled", "ratio"]
    lines = [
        [
            each["model"],
            each["way"],
            str(each["graphs"]),
            str(each["breaks"]),
            f"{each['compiling_seconds']} s",
            f"{each['theirs_ms']:,.0f} ms",
            f"{each['ours_ms']:,.0f} ms",
            f"{each['ratio']:.2f}",
        ]
        for each in rows
    ]
    return markdown_table(header, lines)


def report(rows: list[dict], where: dict) -> None:
    text = (
        "# torch.compile\n\n"
        "Compiled by inductor, on pictures of three sizes. By default a graph ends at every operator whose result's "
        "length depends on values.\n\n"
        f"{table(rows)}\n\n{where['cpu']}, {where['threads']} threads, {where['vectors']}, torch {where['torch']}."
    )
    write("compiled", {"machine": where, "rows": rows}, text)


def small(repeats: int) -> list[dict]:
    model = mrcnn.playground_rcnn(pretrained=True)
    return evaluation("playground_rcnn", model, scenes(None), repeats) + training("playground_rcnn", model, repeats)


def large(repeats: int) -> list[dict]:
    model = mrcnn.load_torchvision(mrcnn.maskrcnn_resnet50_fpn(), twins.lively("maskrcnn_resnet50_fpn", PHOTO)).eval()
    photo = twins.photograph(PHOTO)
    return evaluation("maskrcnn_resnet50_fpn", model, [photo, photo[:, 20:380, 200:440], photo[:, 100:300]], repeats)


MODELS = {"playground_rcnn": small, "maskrcnn_resnet50_fpn": large}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--repeats", type=int, default=15)
    options.add_argument("--only", choices=MODELS, help="the large one takes inductor long")
    chosen, where = options.parse_args(), machine()
    rows: list[dict] = []
    for name, rows_of in MODELS.items():
        if chosen.only in (None, name):
            rows += rows_of(chosen.repeats)
            report(rows, where)  # the next model takes long


if __name__ == "__main__":
    main()
