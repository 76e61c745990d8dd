"""How many labelled pictures is each method worth? Measured in equal steps and in equal time.

    python benchmarks/less_data.py                        the study; it goes on where it was stopped
    python benchmarks/less_data.py --only steps           the cells of one budget (steps, long, time)
    python benchmarks/less_data.py --costs                how long a step of each method takes
    python benchmarks/less_data.py --again tuned 30 0     one cell of the steps once more: is it within the spread?
    python benchmarks/less_data.py --report               table and figure of what there is

The target is new to the model that comes with the package: it has seen photograph-like scenes of people and solid
things; these are drawings in ink of six other categories (`Playground(style="ink")`), where nothing is filled and only
lines tell where a thing is. A seed chooses the labelled pictures, the order of the steps, and the random weights. 500
drawings of a seed that no training uses are the test. Each cell trains alone on one thread, as many at once as there
are cores.

Equal time is counted in steps, so that a busy machine changes no result: `--costs` measures the processor's time that a
step of each method takes beside one of `tuned`, and a method whose steps are cheaper gets more of them. Where the two
are as good as equal, the cells of equal steps serve for both.
"""

import argparse
import functools
import itertools
import json
import multiprocessing
import statistics
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace

import matplotlib
import torch
from common import RESULTS, average_precisions, machine, markdown_table, over_seeds
from torch import Tensor
from tqdm import tqdm

from mrcnn.data import InMemory, Playground
from mrcnn.engine.build_model import model_to_train
from mrcnn.engine.demo import SETTINGS, TEST_SEED
from mrcnn.engine.evaluate import evaluate
from mrcnn.engine.train import train
from mrcnn.model import MaskRCNN

matplotlib.use("Agg")
from matplotlib import pyplot as plt

FILE = RESULTS / "less_data.json"
SIZES, MORE = (10, 30, 100, 300), (1000, 3000)  # labelled pictures; and, from scratch, more, to compare with
SEEDS = (0, 1, 2)
UNLABELLED, UNLABELLED_SEED = 2000, 30_000_000
TEST = 500
STEPS = {"steps": 600, "long": 1800, "time": 600}  # of each budget; in equal time, of `tuned`
KINDS = {"bbox": "boxes", "segm": "masks"}
BUDGETS = {"steps": "600 steps each", "long": "1,800 steps each", "time": "in the time of 600 steps of `tuned` each"}
AS_GOOD_AS_EQUAL = 0.15  # costs that differ by less are taken for the same
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
LONG = ("scratch", "paste")  # trained three times as long as well: is it the few steps that hold scratch back?


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


def plan(costs: dict[str, float]) -> list[Cell]:
    """All cells, seed by seed, so that a part of the study already shows every method; what answers the question comes
    first: every method with 30 pictures, and how many training from scratch needs."""
    methods = {"steps": list(METHODS), "long": LONG, "time": [name for name in METHODS if not as_costly(name, costs)]}
    cells = []
    for seed in SEEDS:
        for budget in BUDGETS:
            cells += [Cell(budget, method, size, seed) for method in methods[budget] for size in SIZES]
        cells += [Cell(budget, "scratch", size, seed) for budget in ("steps", "long") for size in MORE]
    return sorted(cells, key=lambda cell: cell.pictures != 30 and (cell.method != "scratch" or cell.pictures in MORE))


def as_costly(method: str, costs: dict[str, float]) -> bool:
    """Whether a step takes as long as one of `tuned`."""
    return abs(costs[method] - 1) < AS_GOOD_AS_EQUAL


def steps_of(cell: Cell, costs: dict[str, float]) -> int:
    return STEPS[cell.budget] if cell.budget != "time" else round(STEPS["time"] / costs[cell.method])


# ---- one cell


@functools.cache
def test_set() -> InMemory:
    return InMemory(Playground(TEST, TEST_SEED, style="ink"))


def run_cell(cell: Cell, steps: int) -> dict:
    """Trains and measures; returns the record of the cell."""
    torch.set_num_threads(1)
    begin = time.process_time()
    data = InMemory(Playground(cell.pictures, cell.seed, style="ink"))
    method = METHODS[cell.method]
    others = unlabelled(cell.seed, UNLABELLED) if method.unlabelled else []
    model = train_by(method, data, others, steps, cell.seed)
    metrics = evaluate(model, test_set())
    return {
        "steps": steps,
        "seconds": round(time.process_time() - begin, 1),
        "cpu": machine()["cpu"],
        **average_precisions(metrics),
    }


def train_by(method: Method, data: InMemory, others: list[Tensor], steps: int, seed: int) -> MaskRCNN:
    settings = replace(COMMON, seed=seed, **method.settings)
    torch.manual_seed(seed)
    model, _ = model_to_train(data, "playground", method.weights)
    if method.unlabelled is None:
        train(model, data, replace(settings, steps=steps))
    else:
        train(model, data, replace(settings, steps=steps // 2))
        train(model, data, replace(settings, steps=steps // 2, **method.unlabelled), unlabelled=others)
    return model


def unlabelled(seed: int, count: int) -> list[Tensor]:
    return [image for image, _ in Playground(count, UNLABELLED_SEED + seed, style="ink")]


def measure_costs(rounds: int = 3, steps: int = 30) -> dict[str, float]:
    """The processor's time that a step of each method takes, beside one of `tuned`: the median of rounds in turn."""
    torch.set_num_threads(1)
    data, others = InMemory(Playground(100, 0, style="ink")), unlabelled(0, 2 * steps)
    train_by(METHODS["tuned"], data, others, steps, seed=0)  # what is slow only once
    found = {name: [] for name in METHODS}
    for _, (name, method) in itertools.product(range(rounds), METHODS.items()):
        begin = time.process_time()
        train_by(method, data, others, steps, seed=0)
        found[name].append(time.process_time() - begin)
        print(f"{name}: {found[name][-1] / steps * 1000:.0f} ms a step", flush=True)
    middle = {name: statistics.median(each) for name, each in found.items()}
    return {name: round(each / middle["tuned"], 2) for name, each in middle.items()}


# ---- the study


@dataclass
class Study:
    """What is done of it: the record of each cell, by the cell's name; and what a step of each method costs."""

    cells: dict[str, dict]
    costs: dict[str, float]

    @classmethod
    def stored(cls) -> "Study":
        if not FILE.exists():
            return cls({}, {})
        record = json.loads(FILE.read_text())
        return cls(record["cells"], record["costs"])

    def keep(self) -> None:
        half = FILE.with_suffix(".part")
        half.write_text(json.dumps({"costs": self.costs, "cells": dict(sorted(self.cells.items()))}, indent=1) + "\n")
        half.replace(FILE)

    def values(self, budget: str, method: str, pictures: int, kind: str) -> list[float]:
        """AP of every seed there is. A method as costly as `tuned` has trained equal steps in equal time."""
        if budget == "time" and as_costly(method, self.costs):
            budget = "steps"
        names = (Cell(budget, method, pictures, seed).name for seed in SEEDS)
        return [self.cells[name][kind]["AP"] for name in names if name in self.cells]

    def worth(self, budget: str, method: str, pictures: int, kind: str) -> str:
        """With how many labelled pictures training from scratch reaches the same AP: between two sizes along a line
        over the logarithm of their number."""
        found = self.values(budget, method, pictures, kind)
        curve = [(size, self.values(budget, "scratch", size, kind)) for size in (*SIZES, *MORE)]
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


def run_study(only: str | None, workers: int) -> None:
    study = Study.stored()
    if not study.costs:
        study.costs = measure_costs()
        study.keep()
    cells = [cell for cell in plan(study.costs) if only in (None, cell.budget)]
    left = [cell for cell in cells if cell.name not in study.cells]
    print(f"{len(cells)} cells, {len(cells) - len(left)} done, {len(left)} to do, {workers} at a time")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool, tqdm(total=len(left), unit=" cells") as bar:
        running = {pool.submit(run_cell, cell, steps_of(cell, study.costs)): cell for cell in left}
        try:
            for future in as_completed(running):
                study.cells[running[future].name] = future.result()
                study.keep()
                bar.update()
                bar.set_postfix_str(running[future].name)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # after Ctrl-C, what has not begun


def again(method: str, pictures: int, seed: int) -> None:
    """Runs a cell of equal steps once more, and holds it against the spread of its seeds."""
    cell = Cell("steps", method, pictures, seed)
    study, found = Study.stored(), run_cell(cell, STEPS["steps"])
    print(f"{cell.name}: {found}")
    for kind in KINDS:
        known = study.values("steps", method, pictures, kind)
        if len(known) < 2:
            print("nothing is recorded to compare it with")
            return
        middle, spread = statistics.mean(known), deviation(known)
        far = abs(found[kind]["AP"] - middle) / spread
        print(f"{kind} AP {found[kind]['AP']:.3f}, recorded {middle:.3f} ± {spread:.3f}: {far:.1f} deviations from it")


# ---- table and figure


def deviation(found: list[float]) -> float:
    return statistics.stdev(found) if len(found) > 1 else 0.0


def report() -> None:
    study = Study.stored()
    sizes = [*SIZES, *MORE]
    parts = []
    for (budget, words), (kind, title) in itertools.product(BUDGETS.items(), KINDS.items()):
        rows = [
            [f"{name}: {method.words}", *(over_seeds(study.values(budget, name, size, kind)) for size in sizes)]
            for name, method in METHODS.items()
        ]
        parts.append(table(f"AP of {title}, {words}", sizes, rows))
    for budget in ("steps", "long"):
        rows = [[name, *(study.worth(budget, name, size, "segm") for size in SIZES)] for name in METHODS]
        heading = f"With how many pictures `scratch` reaches the same AP of masks, {BUDGETS[budget]}"
        parts.append(table(heading, SIZES, rows[1:]))
    rows = [[name, f"{cost:.2f}", f"{STEPS['time'] / cost:.0f}"] for name, cost in study.costs.items()]
    parts.append(table("A step's time, beside one of `tuned`", ["time", "steps in equal time"], rows))
    draw(study)
    of_each = [len(study.cells), len(plan(study.costs))]
    seconds = [each["seconds"] for each in study.cells.values()]
    text = (
        "# Learning with less data\n\n"
        f"Drawings in ink, {TEST} others to measure on, {len(SEEDS)} seeds: mean ± one standard deviation. "
        f"{of_each[0]} of {of_each[1]} cells are done. Across: how many pictures have labels. Methods whose steps cost "
        f"within {AS_GOOD_AS_EQUAL:.0%} of one of `tuned` have the same cells in equal time as in equal steps.\n\n"
        "![AP over the number of labelled pictures](less_data.png)\n\n"
        + "\n\n".join(part for part in parts if part)
        + f"\n\nOne thread a training on {' and '.join(sorted({each['cpu'] for each in study.cells.values()}))}; "
        f"{sum(seconds) / 3600:.1f} hours of the processor in all, {statistics.median(seconds):.0f} s a cell (median)."
    )
    print(text)
    (RESULTS / "less_data.md").write_text(text + "\n")


def table(heading: str, columns: Iterable, rows: list[list[str]]) -> str:
    """Of the rows that have something in them; nothing if none has."""
    rows = [row for row in rows if any(row[1:])]
    return f"## {heading}\n\n{markdown_table(['', *map(str, columns)], rows)}" if rows else ""


STYLES = {
    "scratch": ("#555555", "o", "--"), "scratch_paste": ("#555555", "s", ":"), "tuned": ("#0072B2", "o", "-"),
    "frozen_5": ("#56B4E9", "v", "-."), "last": ("#CC79A7", "x", "-."), "paste": ("#D55E00", "s", "-"),
    "pseudo": ("#E69F00", "^", ":"), "mean_teacher": ("#009E73", "^", "-"), "all": ("#000000", "D", "-"),
}  # fmt: skip


def draw(study: Study) -> None:
    """AP of boxes and of masks over the number of labelled pictures, in equal steps."""
    figure, panels = plt.subplots(1, 2, figsize=(13, 5), layout="constrained", sharey=True)
    for axes, (kind, title) in zip(panels, KINDS.items(), strict=True):
        for name, (colour, marker, dashes) in STYLES.items():
            points = [(size, study.values("steps", name, size, kind)) for size in (*SIZES, *MORE)]
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
    options.add_argument("--costs", action="store_true", help="measure how long a step of each method takes")
    options.add_argument("--again", nargs=3, metavar=("METHOD", "PICTURES", "SEED"), help="one cell once more")
    options.add_argument("--report", action="store_true", help="table and figure of what there is")
    asked = options.parse_args()
    if asked.again:
        method, pictures, seed = asked.again
        if method not in METHODS:
            options.error(f"no method {method!r}; there are {', '.join(METHODS)}")
        again(method, int(pictures), int(seed))
        return
    if asked.costs:
        study = Study.stored()
        study.costs = measure_costs()
        study.keep()
    elif not asked.report:
        run_study(asked.only, asked.workers)
    report()


if __name__ == "__main__":
    main()
