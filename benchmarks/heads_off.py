"""What are the heads worth to one another? The same training with some of them left out.

    python benchmarks/heads_off.py                the trainings; it goes on where it was stopped
    python benchmarks/heads_off.py --report       the table of what there is

The demo's model and recipe, shorter. A seed chooses the scenes, the order of the steps and the random weights, and the
variants of a seed share all of these: they are compared within it. 150 scenes of a seed that no training uses are the
test. Each trains alone, on one thread.
"""

import argparse
import json
import statistics
import time
from dataclasses import replace

import torch
from common import RESULTS, average_precisions, machine, markdown_table, over_seeds, write
from tqdm import tqdm

from mrcnn.data import InMemory, Playground
from mrcnn.engine.demo import HEADS, SETTINGS, TEST_SEED
from mrcnn.engine.evaluate import evaluate
from mrcnn.engine.train import train
from mrcnn.zoo import playground_rcnn

FILE = RESULTS / "heads_off.json"
SEEDS = (0, 1, 2)
STEPS, SCENES, TEST = 300, 1000, 150
KINDS = {"bbox": "boxes", "segm": "masks", "keypoints": "keypoints"}
ALL = "all heads"
VARIANTS = {  # what is changed in the settings of the heads
    ALL: {},
    "no mask head": {"mask": None},
    "no keypoint head": {"keypoint": None},
}


def run_cell(off: dict, seed: int, scenes: InMemory, test: InMemory) -> dict:
    """Trains one model and measures it. off: what is changed in the settings of the heads."""
    begin = time.process_time()
    torch.manual_seed(seed)
    model = playground_rcnn(**(HEADS | off))
    train(model, scenes, replace(SETTINGS, steps=STEPS, seed=seed))
    metrics = evaluate(model, test)
    seconds = round(time.process_time() - begin, 1)
    return {"seconds": seconds, "cpu": machine()["cpu"], **average_precisions(metrics)}


def stored() -> dict[str, dict]:
    return json.loads(FILE.read_text())["cells"] if FILE.exists() else {}


def name_of(variant: str, seed: int) -> str:
    return f"{variant}, seed {seed}"


def run_study() -> None:
    torch.set_num_threads(1)
    cells = stored()
    test = InMemory(Playground(TEST, TEST_SEED))
    for seed in SEEDS:  # seed by seed, so that a part of the study already shows every variant
        left = [variant for variant in VARIANTS if name_of(variant, seed) not in cells]
        scenes = InMemory(Playground(SCENES, seed)) if left else None
        for variant in tqdm(left, desc=f"seed {seed}", unit=" trainings"):
            cells[name_of(variant, seed)] = run_cell(VARIANTS[variant], seed, scenes, test)
            report(cells)


def differences(cells: dict[str, dict], variant: str, kind: str) -> list[float]:
    """Of every seed there is: the AP of a variant less that of the same seed with all heads."""
    pairs = [(cells.get(name_of(variant, seed), {}), cells.get(name_of(ALL, seed), {})) for seed in SEEDS]
    return [ours[kind]["AP"] - whole[kind]["AP"] for ours, whole in pairs if kind in ours and kind in whole]


def report(cells: dict[str, dict]) -> None:
    rows, changes = [], []
    for variant in VARIANTS:
        mine = [cells[name_of(variant, seed)] for seed in SEEDS if name_of(variant, seed) in cells]
        rows.append([variant, *(over_seeds([each[kind]["AP"] for each in mine if kind in each]) for kind in KINDS)])
        if variant != ALL:
            changes.append([variant, *(over_seeds(differences(cells, variant, kind), "+") for kind in KINDS)])
    seconds = [each["seconds"] for each in cells.values()]
    heading = ["", *(f"AP of {words}" for words in KINDS.values())]
    text = (
        "# Heads switched off\n\n"
        f"The demo's recipe, {STEPS} steps on {SCENES} scenes, {TEST} others to measure on, {len(SEEDS)} seeds: mean ± "
        f"one standard deviation. {len(cells)} of {len(VARIANTS) * len(SEEDS)} trainings are done.\n\n"
        f"{markdown_table(heading, rows)}\n\n"
        "What changes within a seed, against all heads:\n\n"
        f"{markdown_table(heading, changes)}\n\n"
        f"One thread on {' and '.join(sorted({each['cpu'] for each in cells.values()}))}; "
        f"{statistics.median(seconds):.0f} s of the processor a training (median), "
        f"{sum(seconds) / 60:.0f} minutes in all."
    )
    about = {"steps": STEPS, "scenes": SCENES, "test": TEST, "seeds": list(SEEDS)}
    write("heads_off", about | {"cells": cells}, text)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--report", action="store_true", help="the table of what there is")
    if options.parse_args().report:
        report(stored())
    else:
        run_study()


if __name__ == "__main__":
    main()
