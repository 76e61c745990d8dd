"""The arithmetic of benchmarks/less_data.py: what a method is worth, and what equal time means."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from less_data import METHODS, SEEDS, SIZES, Cell, Study, as_costly, plan, steps_of

COSTS = dict.fromkeys(METHODS, 1.0) | {"last": 0.5, "all": 1.25, "paste": 1.1}


def study(aps: dict[tuple[str, str, int], list[float]]) -> Study:
    """Of AP of masks by (budget, method, pictures), one for each seed."""
    cells = {
        Cell(*where, seed).name: {"segm": {"AP": value}}
        for where, values in aps.items()
        for seed, value in zip(SEEDS, values, strict=False)
    }
    return Study(cells, COSTS)


APS = 0.1, 0.2, 0.4, 0.5
CURVE = {("steps", "scratch", size): [ap - 0.01, ap + 0.01] for size, ap in zip(SIZES, APS, strict=True)}


@pytest.mark.parametrize("wanted", [0.15, 0.2, 0.35, 0.49])
def test_worth_goes_along_the_logarithm(wanted):
    measured = study(CURVE | {("steps", "tuned", 10): [wanted - 0.02, wanted + 0.02]})
    expected = np.exp(np.interp(wanted, APS, np.log(SIZES)))
    assert measured.worth("steps", "tuned", 10, "segm") == f"{expected:.0f}"


def test_worth_beyond_the_curve():
    measured = study(CURVE | {("steps", "tuned", 10): [0.6], ("steps", "last", 10): [0.05]})
    assert measured.worth("steps", "tuned", 10, "segm") == "> 300"
    assert measured.worth("steps", "last", 10, "segm") == "≤ 10"
    assert measured.worth("steps", "paste", 10, "segm") == ""


def test_equal_time_is_equal_steps_only_where_steps_cost_the_same():
    measured = study(
        {
            ("steps", "paste", 30): [0.5],
            ("long", "paste", 30): [0.6],
            ("steps", "last", 30): [0.2],
            ("time", "last", 30): [0.3],
        }
    )
    assert measured.values("time", "paste", 30, "segm") == [0.5]
    assert measured.values("long", "paste", 30, "segm") == [0.6]
    assert measured.values("time", "last", 30, "segm") == [0.3]
    assert measured.values("steps", "last", 30, "segm") == [0.2]
    assert {name for name in METHODS if not as_costly(name, COSTS)} == {"last", "all"}
    assert steps_of(Cell("time", "last", 30, 0), COSTS) == 1200
    assert steps_of(Cell("time", "all", 30, 0), COSTS) == 480


def test_the_plan_has_each_cell_once_and_answers_the_question_first():
    cells = plan(COSTS)
    assert len(cells) == len(set(cells))
    assert {cell.method for cell in cells if cell.budget == "time"} == {"last", "all"}
    first = [cell for cell in cells if cell.pictures == 30 or (cell.method == "scratch" and cell.pictures in SIZES)]
    assert cells[: len(first)] == first
