"""How many labelled pictures is each method worth? Measured in equal steps and in equal time.

    python benchmarks/less_data.py                        the study; it goes on where it was stopped
    python benchmarks/less_data.py --only steps           the cells of one budget (steps, long, time)
    python benchmarks/less_data.py --again tuned 30 0     one cell of the steps once more: is it within the spread?
    python benchmarks/less_data.py --report               table and figure of what there is

The target is new to the model that comes with the package: it has seen photograph-like scenes of people and solid
things; these are drawings in ink of six other categories (`Playground(style="ink")`), where nothing is filled and only
lines tell where a thing is. A seed chooses the labelled pictures, the order of the steps, and the random weights. 500
drawings of a seed that no training uses are the test. Each cell trains alone on one thread, as many at once as there
are cores, so cells of equal time want a quiet machine; those of equal steps do not care.
"""

import argparse
import functools
import itertools
import json
import multiprocessing
import statistics
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace

import matplotlib
import torch
from common import RESULTS, machine, markdown_table, write
from tqdm import tqdm

from mrcnn.data import InMemory, Playground
from mrcnn.engine.build_model import model_to_train
from mrcnn.engine.demo import SETTINGS, TEST_SEED
from mrcnn.engine.evaluate import evaluate
from mrcnn.engine.train import train

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SIZES, MORE = (10, 30, 100, 300), (1000, 3000)  # labelled pictures; and, from scratch, more, to compare with
SEEDS = (0, 1, 2)
UNLABELLED, UNLABELLED_SEED = 2000, 30_000_000
TEST = 500
BUDGETS = {"steps": {"steps": 600}, "long": {"steps": 1800}, "time": {"seconds": 60.0}}
COMMON = replace(SETTINGS, augment="flip")  # the demo's recipe, on pictures that are mirrored only


@dataclass(frozen=True)
class Method:
    """What is done with the labelled pictures. weights: where the first stage starts. A method with unlabelled pictures
    has two stages of half the budget: the first finds a teacher, on the labelled ones alone."""

    words: str
    weights: str | None = "playground"
    settings: dict = field(default_factory=dict)
    unlabelled: dict | None = None


METHODS = {
    "scratch": Method("from random weights", weights=None),
    "scratch_paste": Method("from random weights, copy-paste and scale jitter", None, {"augment": "paste"}),
    "tuned": Method("from the model in the package"),
    "frozen_2": Method("the same, stem and first stage frozen", settings={"frozen_stages": 2}),
    "frozen_5": Method("the same, the whole body frozen", settings={"frozen_stages": 5}),
    "last": Method("the same, all but the last layers frozen", settings={"last_layers_only": True}),
    "jitter": Method("tuned, with scale and colour jitter", settings={"augment": "full"}),
    "paste": Method("tuned, with jitter and copy-paste", settings={"augment": "paste"}),
    "pseudo": Method("tuned; then pseudo-labels of that model", unlabelled={"teacher": "start"}),
    "mean_teacher": Method("tuned; then pseudo-labels of a mean teacher", unlabelled={"teacher": "average"}),
    "all": Method("copy-paste, jitter, mean teacher", settings={"augment": "paste"}, unlabelled={"teacher": "average"}),
}
LONG = ("scratch", "scratch_paste", "paste", "all")  # trained three times as long as well


@dataclass(frozen=True)
class Cell:
    """One training of the study."""

    budget: str
    method: str
    pictures: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.budget} {self.method} {self.pictures} {self.seed}"


def plan() -> list[Cell]:
    """All cells, seed by seed, so that a part of the study already shows every method."""
    cells = []
    for seed in SEEDS:
        for budget in BUDGETS:
            methods = LONG if budget == "long" else METHODS
            cells += [Cell(budget, method, size, seed) for method in methods for size in SIZES]
        cells += [Cell(budget, "scratch", size, seed) for budget in ("steps", "long") for size in MORE]
    return cells


# ---- one cell


@functools.cache
def test_set() -> InMemory:
    return InMemory(Playground(TEST, TEST_SEED, style="ink"))


def run_cell(cell: Cell) -> dict:
    """Trains and measures; returns the record of the cell."""
    torch.set_num_threads(1)
    method = METHODS[cell.method]
    data = InMemory(Playground(cell.pictures, cell.seed, style="ink"))
    stages = 1 if method.unlabelled is None else 2
    budget = {"steps": None} | {name: value // stages for name, value in BUDGETS[cell.budget].items()}
    settings = replace(COMMON, seed=cell.seed, **budget, **method.settings)
    torch.manual_seed(cell.seed)
    model, _ = model_to_train(data, "playground", method.weights)
    reports = [train(model, data, settings)]
    if method.unlabelled is not None:
        others = Playground(UNLABELLED, UNLABELLED_SEED + cell.seed, style="ink")
        pictures = [image for image, _ in (others[index] for index in range(UNLABELLED))]
        second = replace(settings, **method.unlabelled)
        reports.append(train(model, data, second, unlabelled=pictures))
    metrics = evaluate(model, test_set())
    return {
        "steps": sum(report.steps for report in reports),
        "seconds": round(sum(report.seconds for report in reports), 1),
        **{kind: {name: round(metrics[kind][name], 4) for name in ("AP", "AP50", "AP75")} for kind in ("bbox", "segm")},
    }


# ---- the study


def stored() -> dict[str, dict]:
    """The cells that are done, by name."""
    file = RESULTS / "less_data.json"
    return json.loads(file.read_text())["cells"] if file.exists() else {}


def run_study(only: str | None, workers: int) -> None:
    cells = [cell for cell in plan() if only in (None, cell.budget)]
    done = stored()
    left = [cell for cell in cells if cell.name not in done]
    print(f"{len(cells)} cells, {len(cells) - len(left)} done, {len(left)} to do, {workers} at a time")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool, tqdm(total=len(left), unit=" cells") as bar:
        running = {pool.submit(run_cell, cell): cell for cell in left}
        try:
            for future in as_completed(running):
                done[running[future].name] = future.result()
                keep(done)
                bar.update()
                bar.set_postfix_str(running[future].name)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # after Ctrl-C, what has not begun


def keep(cells: dict[str, dict]) -> None:
    half = RESULTS / "less_data.json.part"
    half.write_text(json.dumps({"machine": machine(), "cells": dict(sorted(cells.items()))}, indent=1) + "\n")
    half.replace(RESULTS / "less_data.json")


def again(method: str, pictures: int, seed: int) -> None:
    """Runs a cell of equal steps once more, and holds it against the spread of its seeds."""
    cell = Cell("steps", method, pictures, seed)
    record, found = stored(), run_cell(cell)
    print(f"{cell.name}: {found}")
    for kind in ("bbox", "segm"):
        known = values(record, "steps", method, pictures, kind)
        if len(known) < 2:
            print("nothing is recorded to compare it with")
            return
        middle, spread = statistics.mean(known), deviation(known)
        far = abs(found[kind]["AP"] - middle) / spread
        print(f"{kind} AP {found[kind]['AP']:.3f}, recorded {middle:.3f} ± {spread:.3f}: {far:.1f} deviations from it")


# ---- table and figure


def values(cells: dict, budget: str, method: str, pictures: int, kind: str) -> list[float]:
    """AP of every seed there is."""
    names = (Cell(budget, method, pictures, seed).name for seed in SEEDS)
    return [cells[name][kind]["AP"] for name in names if name in cells]


def deviation(found: list[float]) -> float:
    return statistics.stdev(found) if len(found) > 1 else 0.0


def in_words(found: list[float]) -> str:
    return f"{statistics.mean(found):.3f} ± {deviation(found):.3f}" if found else ""


def worth(cells: dict, budget: str, method: str, pictures: int, kind: str) -> str:
    """With how many labelled pictures training from scratch reaches the same AP: between two sizes along a line over
    the logarithm of their number."""
    found = values(cells, budget, method, pictures, kind)
    curve = [(size, values(cells, budget, "scratch", size, kind)) for size in (*SIZES, *MORE)]
    curve = [(size, statistics.mean(each)) for size, each in curve if each]
    if not found or len(curve) < 2:
        return ""
    wanted = statistics.mean(found)
    if wanted <= curve[0][1]:
        return f"≤ {curve[0][0]}"
    for (size, low), (larger, high) in itertools.pairwise(curve):
        if low < wanted <= high:
            return f"{size * (larger / size) ** ((wanted - low) / (high - low)):.0f}"
    return f"> {curve[-1][0]}"


def report() -> None:
    cells = stored()
    parts = []
    for budget, limit in BUDGETS.items():
        ends = ", ".join(f"{value:.0f} {name}" for name, value in limit.items())
        for kind, title in (("bbox", "boxes"), ("segm", "masks")):
            rows = []
            for name, method in METHODS.items():
                shown = [in_words(values(cells, budget, name, size, kind)) for size in SIZES + MORE]
                if any(shown):
                    rows.append([f"{name}: {method.words}", *shown])
            if rows:
                parts.append(f"## AP of {title}, {ends} each\n\n{markdown_table(['', *map(str, SIZES + MORE)], rows)}")
    rows = [
        [name, *(worth(cells, "steps", name, size, "segm") for size in SIZES)] for name in METHODS if name != "scratch"
    ]
    head = "## Worth\n\nWith how many pictures training from scratch reaches the same AP of masks, in equal steps:"
    parts.append(f"{head}\n\n{markdown_table(['', *map(str, SIZES)], rows)}")
    times = [cells[name]["seconds"] for name in cells if name.startswith("steps ")]
    about = machine()
    text = (
        "# Learning with less data\n\n"
        f"Drawings in ink, {TEST} others to measure on, {len(SEEDS)} seeds: mean ± one standard deviation. "
        f"{len(cells)} of {len(plan())} cells are done. Across: how many pictures have labels.\n\n"
        + "\n\n".join(parts)
        + "\n\n![AP over the number of labelled pictures](less_data.png)\n\n"
        f"{about['cpu']}, one thread a training; {sum(each['seconds'] for each in cells.values()) / 3600:.1f} hours of "
        f"training in all, {statistics.median(times):.0f} s a cell of equal steps (median). torch {about['torch']}."
    )
    draw(cells)
    write("less_data", {"machine": about, "cells": cells}, text)


STYLES = {
    "scratch": ("#555555", "o", "--"), "scratch_paste": ("#555555", "s", ":"), "tuned": ("#0072B2", "o", "-"),
    "frozen_5": ("#56B4E9", "v", "-."), "last": ("#CC79A7", "x", "-."), "paste": ("#D55E00", "s", "-"),
    "pseudo": ("#E69F00", "^", ":"), "mean_teacher": ("#009E73", "^", "-"), "all": ("#000000", "D", "-"),
}  # fmt: skip


def draw(cells: dict) -> None:
    """AP of boxes and of masks over the number of labelled pictures, in equal steps."""
    figure, panels = plt.subplots(1, 2, figsize=(13, 5), layout="constrained", sharey=True)
    for axes, (kind, title) in zip(panels, (("bbox", "boxes"), ("segm", "masks")), strict=True):
        for name, (colour, marker, dashes) in STYLES.items():
            points = [(size, values(cells, "steps", name, size, kind)) for size in (*SIZES, *MORE)]
            points = [(size, statistics.mean(each), deviation(each)) for size, each in points if each]
            if points:
                x, y, bars = zip(*points, strict=True)
                axes.errorbar(x, y, bars, color=colour, marker=marker, linestyle=dashes, capsize=3, label=name)
        axes.set(xscale="log", xlabel="labelled pictures", title=f"AP of {title}, 600 steps each")
        axes.set_xticks([*SIZES, *MORE], map(str, [*SIZES, *MORE]))
        axes.minorticks_off()
        axes.grid(color="#e2e2e2", linewidth=0.6)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.savefig(RESULTS / "less_data.png", dpi=90)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--only", choices=BUDGETS, help="the cells of one budget")
    options.add_argument("--workers", type=int, default=torch.get_num_threads(), help="cells at a time")
    options.add_argument("--again", nargs=3, metavar=("METHOD", "PICTURES", "SEED"), help="one cell once more")
    options.add_argument("--report", action="store_true", help="table and figure of what there is")
    asked = options.parse_args()
    if asked.again:
        method, pictures, seed = asked.again
        if method not in METHODS:
            options.error(f"no method {method!r}; there are {', '.join(METHODS)}")
        again(method, int(pictures), int(seed))
        return
    if not asked.report:
        run_study(asked.only, asked.workers)
    report()


if __name__ == "__main__":
    main()
