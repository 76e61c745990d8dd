"""The exercises of a lesson, taken from its source: the stubs and the folded solutions.

answer(solution("07", "bilinear"), height=8)      the function or kernel that the source defines
verdict(pooling.bilinear, that)                   ("right" | "not written" | "wrong", the message)
"""

import ast
import linecache
import math
import re
from pathlib import Path

import pytest
import torch

from mrcnn import lab
from mrcnn.lab.check import verdict

jupytext = pytest.importorskip("jupytext", reason="jupytext, which reads the lessons' sources, is not installed")

__all__ = ["LESSONS", "answer", "cells", "solution", "solutions", "stub", "verdict"]

LESSONS = Path(__file__).resolve().parents[2] / "lessons"


def cells(lesson: str | Path) -> list:
    """The cells of a lesson, by its number or its file."""
    file = lesson if isinstance(lesson, Path) else next(LESSONS.glob(f"{lesson}_*.py"))
    return jupytext.read(file).cells


def stub(lesson: str | Path, exercise: str) -> str:
    """The source of the cell that the learner fills in."""
    return _one([cell.source for cell in cells(lesson) if cell.metadata.get("exercise") == exercise], exercise)


def solution(lesson: str | Path, exercise: str) -> str:
    """The code of the folded solution: what takes the place of the stub."""
    return solutions(lesson)[exercise]


def solutions(lesson: str | Path) -> dict[str, str]:
    found = {}
    for cell in cells(lesson):
        if name := cell.metadata.get("solution"):
            found[name] = _one(re.findall(r"```[^\n]*\n(.*?)\n```", cell.source, re.DOTALL)[:1], name)
    return found


def _one(found: list[str], exercise: str) -> str:
    assert len(found) == 1, f"{exercise}: {len(found)} found"
    return found[0]


def answer(source: str, **names):
    """What the source defines last: its function, or its kernel if it begins with %%cuda or %%cpp.

    names: what it may use besides torch and math; `stub` and `solution` take the cell as it is, without its neighbours.
    """
    magic, _, rest = source.partition("\n")
    if magic.startswith("%%"):
        made = {"%%cuda": lab.cuda, "%%cpp": lab.cpp}[magic.strip()]("\n" + rest)
        return list(made.values())[-1]
    file = f"<answer {hash(source)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)  # so that its source can be had
    scope = {"torch": torch, "math": math, **names}
    exec(compile(source, file, "exec"), scope)
    return scope[[node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)][-1]]
