"""What an exercise is: one record, from which its stub, its folded solution, its hints, its judge and its tests come.

In Python the solution is a function, and the record is made around it:

    @exercise(
        cases=lambda: [(boxes, 0.5)],                       # what an answer is tried on
        truth=lambda boxes, threshold: ...,                 # what is right, found in another way
        mistakes={"value > top ⇒ value >= top": "of equal scores the first must win: `>`"},
        hints=["a question", "more of it", "nearly the line"],
    )
    def best(boxes, threshold):
        ...

A mistake is what to put in place of what in the solution (several changes in a tuple), and a sentence. An answer that
behaves as the solution with the mistake in it gets the sentence. A kernel's record is a `KernelExercise`.
"""

import ast
import dataclasses
import functools
import inspect
import linecache
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..cuda import cpp, cuda
from ..cuda.cells import BLANK

__all__ = ["Exercise", "KernelExercise", "Launch", "Out", "exercise"]

OPEN, CLOSE = "«", "»"  # around what the learner writes

ARROW = " ⇒ "  # "old ⇒ new"
Mistakes = Mapping[str | tuple[str, ...], str]


@dataclasses.dataclass(frozen=True)
class Exercise:
    """A function that the learner writes.

    Args:
        function: the solution.
        cases: gives the arguments, one tuple per try.
        truth: the right results for the arguments, found in another way: by the library, by torchvision, by a loop.
        mistakes: see above.
        hints: from a question to nearly the line.
        extra: whether the lesson can be finished without it.
        tolerance: absolute and relative, for the rounding of float32 sums in another order.
        seen: of a function that changes a model: makes what is judged, and compared with `truth`, of its result and
            the arguments as it left them.
    """

    function: Callable
    cases: Callable[[], Sequence[tuple]]
    truth: Callable
    mistakes: Mistakes = dataclasses.field(default_factory=dict)
    hints: Sequence[str] = ()
    extra: bool = False
    tolerance: float = 1e-4
    seen: Callable | None = None
    language = "python"

    @property
    def name(self) -> str:
        return self.function.__name__

    def __call__(self, *arguments, **options) -> Any:
        """The solution, run: other solutions may build on it."""
        return self.function(*arguments, **options)

    @functools.cached_property
    def solution(self) -> str:
        """The solution's text, from its `def` on."""
        text = textwrap.dedent(inspect.getsource(self.function))
        return "\n".join(text.split("\n")[ast.parse(text).body[0].lineno - 1 :]).rstrip()

    @property
    def stub(self) -> str:
        """Its first lines and its docstring; the rest is the learner's."""
        return f"{self._head}\n    ...  # your code, {self._about}"

    @property
    def lines(self) -> int:
        """How many lines the learner writes."""
        return _count(self.solution.removeprefix(self._head), "#")

    @property
    def _about(self) -> str:
        return f"about {self.lines} line{'s' * (self.lines > 1)}"

    @property
    def _head(self) -> str:
        first = ast.parse(self.solution).body[0].body[0]
        documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        last = first.end_lineno if documented else first.lineno - 1
        return "\n".join(self.solution.split("\n")[:last])

    def make(self, source: str) -> Callable:
        """The function that a text defines, with the names of the solution's file at hand."""
        file = f"<{self.name} {hash(source)}>"
        linecache.cache[file] = (len(source), None, source.splitlines(True), file)  # so that its source can be had
        scope = dict(self.function.__globals__)
        exec(compile(source, file, "exec"), scope)
        return scope[self.name]

    @functools.cached_property
    def mutants(self) -> list[str]:
        """The solution with each of the mistakes in it."""
        return [_mutated(self.solution, change) for change in self.mistakes]


def exercise(**record) -> Callable[[Callable], Exercise]:
    """Makes an exercise of the function below it, which is its solution. The arguments are those of `Exercise`."""
    return lambda function: Exercise(function, **record)


@dataclasses.dataclass(frozen=True)
class Out:
    """A result of a kernel, in its place among the arguments.

    Args:
        shape, dtype: of the tensor that the kernel writes.
        start: what it holds before the kernel runs. None: anything, so that every cell must be written before it is
            read; the judge tries it with two different values.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    start: float | None = None


@dataclasses.dataclass(frozen=True)
class Launch:
    """How a kernel is launched for some input. C++ functions have arguments only."""

    arguments: tuple  # tensors, numbers and `Out`s
    grid: Any = 1
    block: Any = 1


@dataclasses.dataclass(frozen=True)
class KernelExercise:
    """A kernel, or a C++ function, that the learner writes.

    Args:
        solution_text: its source, as the cell holds it, without the magic. What the learner writes stands between « and
            »: on lines of its own, or within a line, where the stub then has a blank, ____.
        launch: from the arguments of a case, the `Launch`.
        cases, truth, mistakes, hints, extra, tolerance: as in `Exercise`.
        results: from the kernel's outputs, in their order, what is compared with the truth.
        uses: names of shared arrays that it must write and read.
        may_read: from the arguments of a case, for some of the parameters, how many bytes of it all threads together
            may read.
        readers: from the arguments of a case, for some of the parameters, how many threads must read it: where one
            thread alone writes the results. Without it, half of the threads must write some, if there are so many.
        language: "cuda" or "cpp".
    """

    solution_text: str
    launch: Callable[..., Launch]
    cases: Callable[[], Sequence[tuple]]
    truth: Callable
    results: Callable = lambda *outputs: outputs if len(outputs) > 1 else outputs[0]
    mistakes: Mistakes = dataclasses.field(default_factory=dict)
    hints: Sequence[str] = ()
    uses: Sequence[str] = ()
    may_read: Callable[..., dict[str, int]] | None = None
    readers: Callable[..., dict[str, int]] | None = None
    extra: bool = False
    tolerance: float = 1e-4
    language: str = "cuda"

    @functools.cached_property
    def name(self) -> str:
        return re.findall(r"^(?:__global__ )?void (\w+)\(", self.solution_text, re.MULTILINE)[-1]

    @property
    def solution(self) -> str:
        return self.solution_text.replace(OPEN, "").replace(CLOSE, "").strip()

    @property
    def lines(self) -> int:
        """How many lines the learner writes, or fills in."""
        return sum(_count(part, "//") for part in re.findall(f"{OPEN}(.*?){CLOSE}", self.solution_text, re.DOTALL))

    @property
    def stub(self) -> str:
        def left_out(found: re.Match) -> str:
            lines = _count(found[1], "//")
            if "\n" not in found[0] and found.string[: found.start()].rsplit("\n", 1)[-1].strip():
                return BLANK
            return f"// your code, about {lines} line{'s' * (lines > 1)}"

        return re.sub(f"{OPEN}(.*?){CLOSE}", left_out, self.solution_text, flags=re.DOTALL).strip()

    def make(self, source: str, now: bool = True) -> Any:
        """The kernel, or the C++ function, of a text; compiled now, or when it is first used."""
        return {"cuda": cuda, "cpp": cpp}[self.language](source, now)[self.name]

    @functools.cached_property
    def function(self) -> Any:
        """The solution, compiled when it is first wanted."""
        return self.make(self.solution)

    @functools.cached_property
    def mutants(self) -> list[str]:
        return [_mutated(self.solution, change) for change in self.mistakes]


def _mutated(solution: str, change: str | tuple[str, ...]) -> str:
    for each in (change,) if isinstance(change, str) else change:
        old, new = each.split(ARROW)
        if old not in solution:
            raise ValueError(f"a mistake changes {old!r}, which is not in the solution:\n{solution}")
        solution = solution.replace(old, new)
    return solution


def _count(text: str, comment: str) -> int:
    """Its lines, without empty ones and comments."""
    lines = [line.strip() for line in text.split("\n")]
    return sum(bool(line) and not line.startswith(comment) for line in lines)


def on(device: str, value: Any) -> Any:
    """A tensor, or tensors in lists and tuples, on a device; anything else as it is."""
    if isinstance(value, Tensor):
        return value.to(device)
    return type(value)(on(device, each) for each in value) if isinstance(value, list | tuple) else value
