"""Traced runs of a kernel, played back step by step in a notebook or on a web page: the one view that can be touched.

    stepper({"with the barrier": reverse.trace[1, 8](x, y), "without": too_soon.trace[1, 8](x, y)})

A step is one access, or a wait. All is worked out here; the page's script (mrcnn/lab/web/stepper.js, which says what a
step looks like) only shows it. Where no script runs, a picture of the steps stands in its place.
"""

from collections.abc import Iterable

import numpy as np

from ..cuda.trace import Trace
from .stepper_memory import Memory
from .stepper_steps import Steps, lines_to_show
from .stepper_still import still
from .touch import Touch
from .view import View

MOST_STEPS = 1200  # of all runs together: the page is to stay below 100 KiB
COUNTED = {"R": "reads", "W": "writes", "A": "atomic updates", "M": "barriers passed", "N": "meetings of lanes"}
HINT = (
    "Arrow keys ← →: one step. Home, End: first, last. R read, W wrote, A updated atomically, the thread's number; "
    "✗ a race; ? not written yet. Each run is one order of many: between two waits a GPU runs its threads in any order."
)


def stepper(
    runs: dict[str, Trace],
    title: str = "",
    block: int = 0,
    max_threads: int = 8,
    buffers: Iterable[str] | None = None,
) -> Touch:
    """Play back traced runs of a kernel, of which the reader chooses one: with and without a barrier, in two orders.

    runs: name -> trace. Shown are the accesses of one block of the (first) launch, made by the first `max_threads` of
    the threads that did something; what the others did between them is one step. buffers: only these; all otherwise.

    Raises:
        ValueError: there are no runs, or in one of them the block did nothing.
    """
    if not runs:
        raise ValueError("there is no run to show")
    played = [
        play(name, trace, block, None, buffers, max_threads, MOST_STEPS // len(runs)) for name, trace in runs.items()
    ]
    title = title or f"{next(iter(runs.values())).kernel}, block {block}, step by step"
    first, *_ = played
    shows = f"A table of what each thread did, step by step, time downwards. {run_in_words(first)}"
    return Touch(
        "stepper",
        title,
        {"title": title, "hint": HINT, "runs": played},
        View(still(first), shows),
        "\n".join([f"{title}.", *(run_in_words(run) for run in played)]),
    )


def play(
    name: str,
    trace: Trace,
    block: int,
    threads: Iterable[int] | None = None,
    buffers: Iterable[str] | None = None,
    max_threads: int = 8,
    most: int = MOST_STEPS,
) -> dict:
    """A run as the script wants it: the first `most` steps of these threads, or of the first `max_threads`."""
    rows = np.flatnonzero((trace.block == block) & (trace.launch == 0))
    waits = trace.waits[(trace.waits["block"] == block) & (trace.waits["launch"] == 0)]
    if buffers is not None:
        rows = rows[np.isin(trace.buffer[rows], list(buffers))]
    who = np.union1d(trace.thread[rows], waits["thread"][waits["lanes"] == 0])
    if not len(who):
        raise ValueError(f"{name}: block {block} did nothing that the trace has seen")
    threads = who[:max_threads].tolist() if threads is None else [int(thread) for thread in threads]
    memory = _memory(trace, rows, threads)
    steps = Steps(trace, threads, memory)
    steps.add_all(rows, waits)
    made = steps.made[:most]
    return {
        "name": name,
        "threads": threads,
        "lines": lines_to_show(trace.text, sorted({step[2] for step in made if step[2]})),
        "memory": [each.as_data() for each in memory.values()],
        "steps": made,
        "ending": _ending(trace, len(steps.made) - len(made)),
    }


def _memory(trace: Trace, rows: np.ndarray, threads: list[int]) -> dict[str, Memory]:
    """By name, those first that are touched first."""
    names = list(dict.fromkeys(trace.buffer[rows].tolist()))
    memory = {name: Memory(trace, i, name, rows[trace.buffer[rows] == name]) for i, name in enumerate(names)}
    shown = rows[np.isin(trace.thread[rows], threads)]
    for name, each in memory.items():
        each.keep(shown[trace.buffer[shown] == name])
    return memory


def _ending(trace: Trace, left: int) -> str:
    """Said at the last step."""
    if left:
        return f"{left} more steps are not shown."
    if trace.findings:
        return f"The trace has found: {'; '.join(trace.findings[:2])}."
    return "The trace has found nothing wrong."


def run_in_words(run: dict) -> str:
    """What happened in a run."""
    kinds = [step[0] for step in run["steps"]]
    done = ", ".join(f"{words}: {kinds.count(kind)}" for kind, words in COUNTED.items() if kind in kinds)
    races = [(number, step) for number, step in enumerate(run["steps"], 1) if step[6]]
    told = f"{run['name']}: {len(kinds)} steps of {len(run['threads'])} threads ({done})."
    if races:
        number, (_, thread, line, buffer, _, _, (other, _, _, other_line, cell)) = races[0]
        told += f" Races: {len(races)}, the first in step {number}: thread {thread}, line {line}, and thread {other}, "
        told += f"line {other_line}, both use {run['memory'][buffer]['name']}[{cell}] with no wait between."
    return f"{told} {run['ending']}"
