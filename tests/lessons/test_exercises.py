"""Every exercise of every lesson: its stub, its solution, and each of its mistakes, as they are judged."""

import importlib.util
import sys
from pathlib import Path

import pytest

from mrcnn.lab.check import Exercise, KernelExercise, check, verdict

LESSONS = Path(__file__).resolve().parents[2] / "lessons"


def records(folder: Path) -> list[Exercise | KernelExercise]:
    """A lesson's exercises, in the order in which they are written down."""
    spec = importlib.util.spec_from_file_location(f"exercises_{folder.name}", folder / "exercises.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return [each for each in vars(module).values() if isinstance(each, Exercise | KernelExercise)]


EXERCISES = {
    f"{folder.name[:3].strip('_')}-{each.name}": each
    for folder in sorted(LESSONS.glob("[0-9]*_*/"))
    if (folder / "exercises.py").exists()
    for each in records(folder)
}
MISTAKES = [
    pytest.param(name, i, id=f"{name}-{i}") for name, each in EXERCISES.items() for i in range(len(each.mistakes))
]
every_exercise = pytest.mark.parametrize("name", EXERCISES)


@every_exercise
def test_record_is_complete(name):
    record = EXERCISES[name]
    assert len(record.mistakes) >= (3 if record.language == "python" else 5)
    assert len(record.hints) == 3
    assert record.lines <= 15
    assert len(set(record.mistakes.values())) == len(record.mistakes)


@every_exercise
def test_stub_is_not_written_yet(name, capsys):
    record = EXERCISES[name]
    stub = record.make(record.stub)
    assert verdict(record, stub) == ("not written", "not written yet.")
    first = check(record, stub)
    told = capsys.readouterr().out
    again = check(record, first)  # the same cell, run a second time
    assert (
        capsys.readouterr().out
        == told
        == f"· {record.name}: not written yet.\n  The lesson goes on with its own version.\n"
    )
    assert first._whose == again._whose == "the lesson's"


@every_exercise
def test_solution_is_right(name, capsys):
    record = EXERCISES[name]
    first = check(record, record.make(record.solution))
    told = capsys.readouterr().out
    assert told == f"✓ {record.name}: right. The lesson goes on with yours.\n"
    again = check(record, first)
    assert capsys.readouterr().out == told
    assert first._whose == again._whose == "yours"


@pytest.mark.parametrize(("name", "number"), MISTAKES)
def test_mistake_gets_its_sentence(name, number):
    """And no other's."""
    record = EXERCISES[name]
    status, said = verdict(record, record.make(record.mutants[number]))
    assert (status, said.split("\n")[0]) == ("wrong", list(record.mistakes.values())[number])
