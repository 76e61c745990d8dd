"""The exercises of the lessons: an answer is judged, and the lesson goes on with it, or with the library's version.

    iou_table = Exercise(judge=_judge_iou_table, library=boxes.iou)     # in mrcnn/lab/exercises
    iou_table = check(matching.iou_table, iou_table)                    # in the lesson

A judge is a function of the answer. It raises `Wrong`, with a sentence that names the likely mistake, or returns.
"""

import dataclasses
import dis
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Exercise", "NotWritten", "Wrong", "check", "close", "first_difference", "same_shape", "verdict"]


class Wrong(Exception):
    """The answer is wrong; the message says how, and what the likely mistake is."""


class NotWritten(Exception):
    """There is no answer yet: the stub is as it was."""


@dataclasses.dataclass(frozen=True)
class Exercise:
    """What an answer is held against.

    Args:
        judge: called with the answer; raises Wrong, or NotWritten, or returns.
        library: what the lesson goes on with unless the answer is right.
        wrap: makes of a kernel the function of tensors that launches it, which is what the judge and the lesson get.
            It fills the outputs beforehand with what no kernel writes, and raises NotWritten if that is still there.
    """

    judge: Callable[[Any], None]
    library: Any
    wrap: Callable[[Any], Callable] | None = None


def check(exercise: Exercise, answer: Any) -> Any:
    """Print what is to be said of the answer; return it if it is right, else the library's version. Never raises."""
    name = getattr(answer, "__name__", "your answer")
    status, message = verdict(exercise, answer)
    if status == "right":
        print(f"✓ {name}: right. The lesson goes on with yours.")
        return exercise.wrap(answer) if exercise.wrap else answer
    print(f"{'✗' if status == 'wrong' else '·'} {name}: {message}\n  The lesson goes on with the library's version.")
    return exercise.library


def verdict(exercise: Exercise, answer: Any) -> tuple[str, str]:
    """("right" | "not written" | "wrong", a sentence)."""
    try:
        if answer is None or answer is ...:
            raise NotWritten
        judged = exercise.wrap(answer) if exercise.wrap else answer
        exercise.judge(_watched(judged, answer) if callable(judged) else judged)
    except NotWritten as problem:
        return "not written", f"not written yet{str(problem) or '.'}"
    except Wrong as problem:
        return "wrong", str(problem)
    except Exception as problem:
        return "wrong", _raised(problem, answer)
    return "right", ""


def _watched(function: Callable, answer: Any) -> Callable:
    """The function; but None means that it is not written yet, and it must leave its arguments as they are."""

    @functools.wraps(function)
    def watched(*arguments, **options):
        given = [value.clone() if isinstance(value, Tensor) else value for value in arguments]
        result = function(*given, **options)
        if result is None:
            raise NotWritten("" if _does_nothing(answer) else ": it returns None. Is a `return` missing?")
        for i, (before, after) in enumerate(zip(arguments, given, strict=True), 1):
            if isinstance(before, Tensor) and not _equal(before, after):
                raise Wrong(f"it changes its argument number {i} in place; the caller still needs that. Copy it first")
        return result

    return watched


def _does_nothing(function: Any) -> bool:
    """Whether its body is `...` or `pass`, a docstring aside."""
    if not hasattr(function, "__code__"):
        return True
    return {step.opname for step in dis.get_instructions(function)} <= {
        "RESUME",
        "NOP",
        "LOAD_CONST",
        "RETURN_CONST",
        "RETURN_VALUE",
    }


def _raised(problem: Exception, answer: Any) -> str:
    """What the answer's code raised, and at which of its lines."""
    file = getattr(getattr(answer, "__code__", None), "co_filename", None)
    step, line = problem.__traceback__, None
    while step:
        if step.tb_frame.f_code.co_filename == file:
            line = step.tb_lineno
        step = step.tb_next
    where = f" at your line {line}" if line else ""
    return f"it raised {type(problem).__name__}{where}: {problem}"


# ---- for judges --------------------------------------------------------------------------------------------------


def same_shape(got: Any, want: Tensor) -> None:
    """Raise Wrong unless `got` is a tensor of `want`'s shape."""
    if not isinstance(got, Tensor):
        raise Wrong(f"expected a tensor of shape {tuple(want.shape)}, got {type(got).__name__}")
    if got.shape != want.shape:
        raise Wrong(f"expected shape {tuple(want.shape)}, got {tuple(got.shape)}")


def close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    """Whether two tensors have one shape and, but for rounding, the same values, of whatever type. NaN equals NaN."""
    if a.shape != b.shape:
        return False
    return torch.allclose(*_comparable(a, b), rtol=tolerance, atol=tolerance, equal_nan=True)


def first_difference(got: Tensor, want: Tensor, tolerance: float = 1e-4) -> str:
    """A sentence about the first cell in which two tensors of one shape differ, and in how many they do."""
    ours, theirs = _comparable(got, want)
    differ = ~torch.isclose(ours, theirs, rtol=tolerance, atol=tolerance, equal_nan=True)
    cells = differ.nonzero()
    if not len(cells):
        return "they are equal"
    first = tuple(cells[0].tolist())
    at = f"at [{', '.join(map(str, first))}]" if first else "it"
    count = f"{len(cells)} of {differ.numel()} values differ; the first, {at}," if first else "it"
    return f"{count} is {_short(got[first])}, expected {_short(want[first])}"


def _comparable(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().cpu().double() for tensor in tensors]


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=a.is_floating_point())


def _short(value: Tensor) -> str:
    return f"{value.item():.5g}" if value.is_floating_point() else str(value.item())
