"""An answer is judged; the lesson goes on with it if it is right, and otherwise with the lesson's own version.

    decide = check(exercises.decide, decide)

Run a second time, the cell says the same: what `check` returns remembers the answer that it stands for.
"""

import contextlib
import copy
import dis
import functools
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .compare import Wrong, close, difference
from .exercise import BLANK, Exercise, KernelExercise
from .kernels import Runner, judge_kernel

__all__ = ["NotWritten", "check", "verdict", "whose"]

SECONDS = 20.0  # what one answer in Python may take


class NotWritten(Exception):
    """There is no answer yet: the stub is as it was."""


def check(exercise: Exercise | KernelExercise, answer: Any) -> Callable:
    """Print what is to be said of the answer; return it if it is right, else the lesson's version. Never raises.

    A kernel comes back as a function of tensors that launches it; its `kernel` is the kernel itself, and its `trace`
    takes the same tensors.
    """
    answer = getattr(answer, "_answer", answer)
    status, message = verdict(exercise, answer)
    right = status == "right"
    mark = {"right": "✓", "wrong": "✗", "not written": "·"}[status]
    goes_on = (
        "right. The lesson goes on with yours." if right else f"{message}\n  The lesson goes on with its own version."
    )
    print(f"{mark} {exercise.name}: {goes_on}")
    return _to_go_on_with(exercise, answer, right)


def verdict(exercise: Exercise | KernelExercise, answer: Any) -> tuple[str, str]:
    """("right" | "not written" | "wrong", a sentence)."""
    try:
        if answer is None or answer is ...:
            raise NotWritten
        if isinstance(exercise, KernelExercise):
            if not hasattr(answer, "source"):
                raise Wrong(f"expected what a %%{exercise.language} cell defines, got {type(answer).__name__}")
            if BLANK in answer.source or _code(answer.source) == _code(exercise.stub):
                raise NotWritten
            judge_kernel(exercise, answer)
        elif not callable(answer):
            raise Wrong(f"expected a function, got {type(answer).__name__}")
        elif _does_nothing(answer):
            raise NotWritten
        else:
            judge_function(exercise, answer)
    except NotWritten:
        return "not written", "not written yet."
    except Wrong as problem:
        return "wrong", str(problem)
    except Exception as problem:  # a lesson goes on, whatever comes in
        return "wrong", _raised(problem, answer)
    return "right", ""


def whose(function: Callable) -> str:
    """Whose code it is: "yours", or "the lesson's" where `check` has put its own version in your answer's place."""
    return getattr(function, "_whose", "yours")


def _to_go_on_with(exercise: Exercise | KernelExercise, answer: Any, right: bool) -> Callable:
    if isinstance(exercise, KernelExercise):
        function = Runner(exercise, answer if right else None)
    else:

        @functools.wraps(answer if right else exercise.function)
        def function(*arguments, **options):
            return (answer if right else exercise.function)(*arguments, **options)

    function._answer, function._whose = answer, "yours" if right else "the lesson's"
    return function


# ---- functions in Python ---------------------------------------------------------------------------------------------


def judge_function(exercise: Exercise, answer: Callable) -> None:
    """Raise Wrong unless the answer gives what is true in every case."""
    cases = exercise.cases()
    got = [_tried(answer, case, exercise.seen) for case in cases]
    wrong = next(
        (told for each, case in zip(got, cases, strict=True) if (told := _problem(exercise, answer, each, case))), None
    )
    if wrong is None:
        return
    for sentence, mutant in zip(exercise.mistakes.values(), exercise.mutants, strict=True):
        mistaken = exercise.make(mutant)
        tries = (_tried(mistaken, case, exercise.seen) for case in cases)
        if all(_same(each, tried, exercise) for each, tried in zip(got, tries, strict=True)):
            raise Wrong(sentence)
    raise Wrong(wrong)


def _problem(exercise: Exercise, answer: Callable, got: Any, case: tuple) -> str | None:
    """What is wrong with one result, if anything."""
    if isinstance(got, Wrong):
        return str(got)
    if isinstance(got, Exception):
        return _raised(got, answer)
    if got is None:
        return "it returns None. Is a `return` missing?"
    want = exercise.truth(*_copied(case))
    if told := difference(got, want, exercise.tolerance):
        return told + _of_case(exercise, case)
    learns = any(isinstance(value, Tensor) and value.requires_grad for value in case)
    return (_without_gradient(got, want) if learns else None) or _wrong_type(got, want, exercise.stub)


def _without_gradient(got: Any, want: Any) -> str | None:
    """Whether a right result is cut off from the arguments, so that a training could not learn from it."""
    pairs = zip(got, want, strict=True) if isinstance(want, tuple | list) else [(got, want)]
    if all(
        getattr(ours, "requires_grad", False) or not getattr(theirs, "requires_grad", False) for ours, theirs in pairs
    ):
        return None
    return (
        "right, but cut off from what it was computed from: no gradient can go back, and the training needs it. Is "
        "there an `.item()`, `float(…)`, `.detach()`, `torch.tensor(…)` or `torch.no_grad()` on the way?"
    )


def _wrong_type(got: Any, want: Any, stub: str) -> str | None:
    """Whether a right table is of a type that what comes next cannot use: bool, and whole numbers if the stub names
    their type."""
    if isinstance(want, dict):
        told = ((name, _wrong_type(got[name], want[name], stub)) for name in want)
        return next((f"{name}: {found}" for name, found in told if found), None)
    if isinstance(want, tuple | list):
        found = [_wrong_type(ours, theirs, stub) for ours, theirs in zip(got, want, strict=True)]
        first = next((i for i, told in enumerate(found) if told), None)
        return None if first is None else f"result number {first + 1} of {len(want)}: {found[first]}"
    if not isinstance(want, Tensor) or not want.dim() or got.dtype == want.dtype:
        return None
    if want.dtype == torch.bool:
        return f"right, but of type {got.dtype}: yes and no are torch.bool, and what comes next needs them so"
    by = {torch.int64: ".long()", torch.uint8: ".to(torch.uint8)"}.get(want.dtype)
    if by and str(want.dtype).removeprefix("torch.") in stub:
        return f"right, but of type {got.dtype}: what comes next needs {want.dtype}, say by `{by}`"
    return None


def _of_case(exercise: Exercise, case: tuple) -> str:
    """The numbers among its arguments, by which one case is told from another."""
    names = exercise.function.__code__.co_varnames
    numbers = [f"{name} = {value}" for name, value in zip(names, case, strict=False) if isinstance(value, int | float)]
    return f" (with {', '.join(numbers)})" if numbers else ""


def _same(a: Any, b: Any, exercise: Exercise) -> bool:
    """Whether two tries went the same way: to the same result, or to the same kind of error."""
    if isinstance(a, Exception) or isinstance(b, Exception) or a is None or b is None:
        return type(a) is type(b) and (not isinstance(a, Wrong) or str(a) == str(b))
    return close(a, b, exercise.tolerance)


def _tried(function: Callable, case: tuple, seen: Callable | None = None) -> Any:
    """What the function gives, or what is `seen` of that and its arguments, or the exception that it raises. It must
    end, and leave its tensors as they are."""
    given = _copied(case)
    within = [[(tensor, tensor.detach().clone()) for tensor in _tensors_within(value)] for value in case]
    without = [tensor for pairs in within for tensor, _ in pairs if tensor.is_leaf and tensor.grad is None]
    try:
        with torch.random.fork_rng(devices=[]), _time_limit(SECONDS):
            torch.manual_seed(0)
            result = function(*given)
        if seen is not None and result is not None:
            result = seen(result, *given)
    except Exception as problem:
        result = problem
    for tensor in without:
        tensor.grad = None  # the next answer's `backward()` would add to what this one's left there
    told = None
    for i, (before, after, pairs) in enumerate(zip(case, given, within, strict=True)):
        changed = [(tensor, was) for tensor, was in pairs if not _equal(tensor, was)]
        for tensor, was in changed:
            tensor.data = was  # or the next answer would be judged by what this one left behind
        if told is None and (changed or (isinstance(before, Tensor) and not _equal(before, after))):
            names = function.__code__.co_varnames if hasattr(function, "__code__") else ()
            name = f"`{names[i]}`" if i < len(names) else f"its argument number {i + 1}"
            told = Wrong(f"it changes {name} in place; the caller still needs that. Copy it first")
    return result if told is None or isinstance(result, Exception) else told


def _copied(case: tuple) -> list:
    return [
        value.clone() if isinstance(value, Tensor) else copy.deepcopy(value) if isinstance(value, nn.Module) else value
        for value in map(_renewed, case)
    ]


def _renewed(value: Any) -> Any:
    """Lists and dicts anew, with the same tensors in them: a function among the arguments may use these very ones."""
    if type(value) in (list, tuple):
        return type(value)(map(_renewed, value))
    return {name: _renewed(each) for name, each in value.items()} if type(value) is dict else value


def _tensors_within(value: Any) -> list[Tensor]:
    """Those in lists, tuples and dicts, at any depth."""
    parts = value.values() if type(value) is dict else value if type(value) in (list, tuple) else ()
    return [tensor for part in parts for tensor in ([part] if isinstance(part, Tensor) else _tensors_within(part))]


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=a.is_floating_point())


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise Wrong inside the `with` when it takes longer. Only the main thread can be told so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_):
        raise Wrong(f"it had not ended after {seconds:g} seconds: does a loop never end?")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _does_nothing(function: Callable) -> bool:
    """Whether its body is `...` or `pass`, a docstring aside."""
    if not hasattr(function, "__code__"):
        return False
    nothing = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE"}
    steps = {step.opname for step in dis.get_instructions(function)}
    return steps <= nothing and set(function.__code__.co_consts) <= {None, function.__doc__, ...}


def _raised(problem: Exception, answer: Callable) -> str:
    """What the answer's code raised, and at which of its lines."""
    file = getattr(getattr(answer, "__code__", None), "co_filename", None)
    step, line = problem.__traceback__, None
    while step:
        if step.tb_frame.f_code.co_filename == file:
            line = step.tb_lineno
        step = step.tb_next
    where = f" at your line {line}" if line else ""
    return f"it raised {type(problem).__name__}{where}: {problem}"


def _code(source: str) -> list[str]:
    """The words of a C++ text, without its comments and spaces."""
    lines = [line.split("//")[0].split() for line in source.split("\n")]
    return [word for line in lines for word in line]
