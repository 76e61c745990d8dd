"""One judge for all kernels, and for C++ functions, which it runs as a kernel of one thread.

A kernel is run in the trace, on every case, in three orders of its threads, over outputs filled beforehand with one of
two values and with nothing beside its buffers. The trace's findings come first: what a kernel may not do is wrong even
where the numbers came out right. Then it is run for what it is, on the GPU if there is one, with guards around its
outputs.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..cuda import Trace, device, schedule
from ..cuda.program import MAX_EVENTS, _three
from ..cuda.trace import BOUNDS, OPS, RACE, UNWRITTEN
from ..views.accesses import count_accesses
from .compare import Wrong, close, difference
from .exercise import KernelExercise, Launch, Out, on

__all__ = ["Runner", "judge_kernel"]

RUNS = (("ascending", 0), ("descending", 1), ("shuffled", 0))  # an order of the threads, and which of two fills
FILLS = {
    4: (1_234_567_890, -1_234_567_890),
    8: (0x123456789ABCDEF, -0x123456789ABCDEF),
    1: (77, -77),
    2: (7777, -7777),
}  # by bytes
GUARD = 1 << 12  # cells before and after an output
KINDS = {BOUNDS: "bounds", RACE: "race", UNWRITTEN: "unwritten"}
STOPPED, BEYOND, RACES, EARLY, VALUES, UNFIT = range(6)  # what is told first


class Runner:
    """A kernel as a function of tensors: makes its outputs, launches it, and returns what the exercise compares.

    Args:
        exercise: says how it is launched.
        kernel: None: the solution.
    """

    def __init__(self, exercise: KernelExercise, kernel: Any = None):
        self._exercise, self._kernel = exercise, kernel
        self.__name__ = exercise.name

    @property
    def kernel(self) -> Any:
        """The kernel, or the C++ function, itself."""
        return self._exercise.function if self._kernel is None else self._kernel

    def __call__(self, *case) -> Any:
        where = _place(self._exercise)
        launch = self._exercise.launch(*on(where, case))
        whole = [_filled(out, math.prod(out.shape) + 2 * GUARD, 0).to(where) for out in _outs(launch)]
        inner = [each[GUARD:-GUARD].view(out.shape) for each, out in zip(whole, _outs(launch), strict=True)]
        for tensor, out in zip(inner, _outs(launch), strict=True):
            if out.start is not None:
                tensor.fill_(out.start)
        _launched(self._exercise, self.kernel, launch, inner)
        for each, out in zip(whole, _outs(launch), strict=True):
            beside = torch.cat([each[:GUARD], each[-GUARD:]]).view(_signed(out.dtype))
            if not (beside == _filled(out, 1, 0).view(_signed(out.dtype)).to(where)).all():
                raise Wrong(f"{self.__name__} writes before or behind its output")
        return self._exercise.results(*inner)

    def trace(self, *case) -> Trace:
        """Run it on the CPU, and see every access."""
        return _traced(self._exercise, self.kernel, case, fill=None).trace


def judge_kernel(exercise: KernelExercise, kernel: Any) -> None:
    """Raise Wrong unless the kernel does what it should in every case and order, and nothing that it may not."""
    ways = [(case, *run) for case in exercise.cases() for run in RUNS]
    runs = []
    for way in ways:
        runs.append(_Run(exercise, kernel, *way))
        if runs[-1].endless:  # it takes long, and once is enough
            break
    wrong = min((run for run in runs if run.problem), key=lambda run: run.rank, default=None)
    if wrong:
        likely = _likely_mistake(exercise, runs, ways)
        seen = f"\n  The trace says: {wrong.problem}" if wrong.rank < VALUES else ""
        raise Wrong(f"{likely}{seen}" if likely else wrong.problem)
    for case in exercise.cases():
        told = difference(Runner(exercise, kernel)(*case), exercise.truth(*case), exercise.tolerance)
        if told:
            raise Wrong(f"right in the trace, wrong when it runs by itself: {told}")


def _likely_mistake(exercise: KernelExercise, runs: Sequence["_Run"], ways: Sequence[tuple]) -> str | None:
    """The sentence of the mistake that behaves as the answer does. Each is compiled only now that it is wanted."""
    for sentence, mutant in zip(exercise.mistakes.values(), exercise.mutants, strict=True):
        mistaken = exercise.make(mutant, now=False)
        if all(run.same_as(_Run(exercise, mistaken, *way)) for run, way in zip(runs, ways, strict=False)):
            return sentence
    return None


# ---- one run in the trace --------------------------------------------------------------------------------------------


@dataclasses.dataclass
class _Traced:
    results: Any
    outputs: list[Tensor]
    launch: Launch
    trace: Trace


def _traced(exercise: KernelExercise, kernel: Any, case: tuple, fill: int | None) -> _Traced:
    """`fill`: which of the two values lies in the outputs beforehand; None: zeros, which a reader is not puzzled by."""
    launch = exercise.launch(*on(_place(exercise), case))
    outputs = [
        _filled(out, math.prod(out.shape), fill or 0).view(out.shape).to(_place(exercise)) for out in _outs(launch)
    ]
    for tensor, out in zip(outputs, _outs(launch), strict=True):
        if fill is None or out.start is not None:
            tensor.fill_(out.start or 0)
    try:
        trace = _launched(exercise, kernel.trace, launch, outputs)
    except TypeError as problem:  # other parameters than the stub's
        raise Wrong(str(problem)) from None
    return _Traced(exercise.results(*outputs), outputs, launch, trace)


class _Run:
    """One traced run: what is wrong with it, and how it went, to be compared with the run of a likely mistake."""

    def __init__(self, exercise: KernelExercise, kernel: Any, case: tuple, order: str, fill: int):
        with schedule(order, seed=1):
            seen = _traced(exercise, kernel, case, fill)
        self.tolerance, self.results = exercise.tolerance, seen.results
        self.fault = _fault(seen.trace) or _early(seen)  # (rank, what by which faults are told apart, a sentence)
        if self.fault and self.fault[0] == RACES:
            self.fault = _each_does_all(seen) or self.fault
        if self.fault:
            self.rank, self.how, self.problem = self.fault
            if exercise.language == "cpp":
                self.problem = _without_thread(self.problem)
            return
        self.how = None
        self.rank, self.problem = VALUES, _untouched(seen)
        self.problem = self.problem or difference(self.results, exercise.truth(*case), self.tolerance)
        if not self.problem:
            self.rank, self.problem = UNFIT, _unfit(exercise, case, seen)
            self.how = self.problem and re.sub(r"\d+", "#", self.problem)

    @property
    def endless(self) -> bool:
        return self.rank == STOPPED and "never end" in self.problem

    def same_as(self, other: "_Run") -> bool:
        """Whether two runs went wrong, or right, in the same way."""
        if self.how or other.how:
            return self.how == other.how
        return close(self.results, other.results, self.tolerance)


def _without_thread(problem: str) -> str:
    """A C++ function is traced as a kernel of one thread, of which its writer need not know."""
    return re.sub(r"\w+, block 0, thread 0, |thread 0 of block 0, ", "", problem)


def _fault(trace: Trace) -> tuple | None:
    """A barrier's fault, or a loop without end, before the accesses that went wrong because of it."""
    found = trace.raw_findings
    kinds = frozenset(
        (KINDS[int(each["fault"])], trace.place(each["event"])[0], OPS[each["event"]["op"]]) for each in found
    )
    if trace.problem and not (found["fault"] == BOUNDS).any():
        return STOPPED, re.sub(r"\d+", "#", trace.problem), trace.problem
    if not kinds and len(trace) == MAX_EVENTS:
        return (
            STOPPED,
            "too much",
            f"it reads and writes {MAX_EVENTS:,} times and more: does each thread do its part alone?",
        )
    if not kinds:
        return None
    beyond = np.flatnonzero(found["fault"] == BOUNDS)
    if not len(beyond):
        return RACES, kinds, trace.findings[0]
    name, offset, _ = trace.place(found["event"][beyond[0]])
    return BEYOND, (name, offset), trace.findings[int(beyond[0])]


def _early(seen: _Traced) -> tuple | None:
    """A thread that reads an output which nobody has written yet: what lies there is anything."""
    events = seen.trace.events
    for name, begin, item, out, rows in _to_outputs(seen):
        if out.start is not None:
            continue
        _, first = np.unique(events["address"][rows], return_index=True)
        early = rows[np.sort(first)]
        early = early[OPS[events["op"][early]] != "write"]
        if len(early):
            row = int(early[0])
            cell = (int(events["address"][row]) - begin) // item
            who = f"thread {events['thread'][row]} of block {events['block'][row]}, line {seen.trace.line[row]}:"
            return EARLY, ("early", name), f"{who} reads {name}[{cell}] before anybody has written it"
    return None


def _each_does_all(seen: _Traced) -> tuple | None:
    """Threads that race since each goes through the whole output, in a loop that was to be shared among them."""
    events = seen.trace.events
    for name, _, _, out, rows in _to_outputs(seen):
        written = rows[OPS[events["op"][rows]] == "write"]
        pairs = np.unique(events[["block", "thread", "address"]][written])
        _, cells = np.unique(pairs[["block", "thread"]], return_counts=True)
        if len(cells) > 1 and (cells == math.prod(out.shape)).all() and cells[0] > 1:
            sentence = f"each of {len(cells)} threads writes all {cells[0]} cells of `{name}`; each should do its part"
            return RACES, ("all", name), sentence
    return None


def _untouched(seen: _Traced) -> str | None:
    """Cells of an output that no thread has written: told by the trace, whatever value lies in them."""
    events = seen.trace.events
    for name, begin, item, out, rows in _to_outputs(seen):
        written = rows[OPS[events["op"][rows]] != "read"]
        first = (events["address"][written].astype(np.int64) - begin) // item
        cells = np.zeros(math.prod(out.shape), dtype=bool)
        for more in range(int(events["bytes"].max(initial=1)) // item or 1):  # one access may write several cells
            wide = events["bytes"][written] > more * item
            cells[first[wide] + more] = True
        left = np.flatnonzero(~cells)
        if out.start is None and len(left):
            return f"{len(left)} of {len(cells)} cells of `{name}` are never written, the first is {name}[{left[0]}]"
    return None


def _to_outputs(seen: _Traced) -> Iterator[tuple[str, int, int, Out, np.ndarray]]:
    """Of each output: its name, where it begins, the bytes of a cell, what it is, and which accesses are to it."""
    address = seen.trace.events["address"]
    tensors = [each for each in seen.launch.arguments if isinstance(each, Tensor | Out)]
    for (begin, length, item, name), out in zip(seen.trace.buffers, tensors, strict=True):
        if isinstance(out, Out):
            yield name, begin, item, out, np.flatnonzero((address >= begin) & (address < begin + length))


def _unfit(exercise: KernelExercise, case: tuple, seen: _Traced) -> str | None:
    """What a kernel with the right numbers should have done, or should have left."""
    counts = count_accesses(seen.trace, in_bytes=True)
    for name in exercise.uses:
        for kind in ("write", "read"):
            if not counts.get(name, {}).get(kind):
                return f"right, but `{name}` is of no use: no thread {kind}s it"
    for name, most in (exercise.may_read(*case) if exercise.may_read else {}).items():
        if (read := counts[name]["read"]) > most:
            return f"right, but the threads read {read} bytes of `{name}`; {most} would do"
    if exercise.language == "cpp":
        return None
    if exercise.readers:
        return _too_few_readers(exercise.readers(*case), seen.trace)
    rows = np.concatenate([rows for *_, rows in _to_outputs(seen)])
    writers = _threads(seen.trace, rows[OPS[seen.trace.events["op"][rows]] != "read"])
    threads = math.prod(_three(seen.launch.grid)) * math.prod(_three(seen.launch.block))
    if 2 * writers < min(threads, max(math.prod(out.shape) for out in _outs(seen.launch))):
        return f"right, but {writers} of {threads} threads do all the work; each should do its part"
    return None


def _too_few_readers(wanted: dict[str, int], trace: Trace) -> str | None:
    for name, most in wanted.items():
        readers = _threads(trace, np.flatnonzero((trace.buffer == name) & (trace.op == "read")))
        if readers < most:
            return f"right, but {readers} of {most} threads do all the work with `{name}`; each should do its part"
    return None


def _threads(trace: Trace, rows: np.ndarray) -> int:
    """How many threads make these accesses."""
    return len(np.unique(trace.events[["block", "thread"]][rows]))


# ---- outputs and arguments -------------------------------------------------------------------------------------------


def _place(exercise: KernelExercise) -> str:
    return device() if exercise.language == "cuda" else "cpu"


def _launched(exercise: KernelExercise, run: Any, launch: Launch, outputs: Sequence[Tensor]) -> Any:
    """Start a kernel, or its trace, with the number of threads that the launch says, over these outputs."""
    inside = iter(outputs)
    arguments = [next(inside) if isinstance(each, Out) else each for each in launch.arguments]
    return (run[launch.grid, launch.block] if exercise.language == "cuda" else run)(*arguments)


def _outs(launch: Launch) -> list[Out]:
    return [each for each in launch.arguments if isinstance(each, Out)]


def _filled(out: Out, cells: int, fill: int) -> Tensor:
    """Flat memory for an output, with one of the two values in it."""
    return torch.full((cells,), FILLS[out.dtype.itemsize][fill], dtype=_signed(out.dtype)).view(out.dtype)


def _signed(dtype: torch.dtype) -> torch.dtype:
    """The type of as many bytes that torch compares and fills."""
    return (
        dtype
        if dtype.is_floating_point
        else {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    )
