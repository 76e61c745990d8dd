"""In a notebook: the cell magics, source code shown in place, and a table of times. Imports without Jupyter."""

import inspect
import statistics
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .cuda import CSRC, cpp, cuda

FOLDED = 40  # source of more lines than this is shown folded


def load_ipython_extension(ipython) -> None:
    """`%load_ext mrcnn.lab`: a cell that begins with %%cuda or %%cpp is compiled; its functions are then names here."""

    def magic(compile_: Callable[[str], dict]):
        # The empty line stands for the magic's own, so that a message's line is the one that the editor shows.
        return lambda line, cell: ipython.push(compile_("\n" + cell))

    ipython.register_magic_function(magic(cuda), "cell", "cuda")
    ipython.register_magic_function(magic(cpp), "cell", "cpp")


def show(what: Any, start: str | None = None, end: str | None = None) -> None:
    """Show the source of a function or class, or of a file of csrc/ ("nms/nms.cu").

    Of it, only the part from the line that contains `start` to the next one that contains `end`, both included.
    """
    if isinstance(what, str | Path):
        path = CSRC / what
        text, title = path.read_text(), path.relative_to(CSRC.parent)
    else:
        text = inspect.getsource(what)
        title = f"{what.__qualname__}, in {what.__module__.replace('.', '/')}.py"
    part = textwrap.dedent("\n".join(_part(text.rstrip().split("\n"), start, end)))
    language = "python" if str(title).endswith(".py") else "c++"
    fence, count = f"```{language}\n{part}\n```", part.count("\n") + 1
    if count > FOLDED:
        _display(f"<details><summary>{title} ({count} lines)</summary>\n\n{fence}\n\n</details>")
    else:
        _display(f"{title}\n\n{fence}")


def _part(lines: list[str], start: str | None, end: str | None) -> list[str]:
    first = _find(lines, start, 0) if start else 0
    last = _find(lines, end, first) if end else len(lines) - 1
    return lines[first : last + 1]


def _find(lines: list[str], words: str, begin: int) -> int:
    for i in range(begin, len(lines)):
        if words in lines[i]:
            return i
    raise ValueError(f"no line from line {begin + 1} on contains {words!r}")


def _display(markdown: str) -> None:
    try:
        from IPython import get_ipython
        from IPython.display import Markdown, display
    except ImportError:
        return print(markdown)
    return display(Markdown(markdown)) if get_ipython() else print(markdown)


def timed(
    ways: dict[str, Callable[[], Any]], repeats: int = 5, of: Callable[[list[float]], float] = statistics.median
) -> dict[str, float]:
    """Run each way once to warm up, then all in turn `repeats` times; print and return the medians in milliseconds.

    of: what is taken of the times of a way, if not their median. `min` is the least disturbed by what else goes on.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, run in ways.items():
            _wait()
            start = time.perf_counter()
            run()
            _wait()
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    taken = {name: 1000 * of(times) for name, times in seconds.items()}
    width = max(map(len, taken))
    first, *_ = taken
    for name, ms in taken.items():
        print(f"{name:<{width}} {ms:12.3f} ms{_against(ms / taken[first], first) if name != first else ''}")
    return taken


def _against(ratio: float, first: str) -> str:
    times, word = (1 / ratio, "fast") if ratio < 1 else (ratio, "slow")
    return (
        f"   {times:,.0f} times as {word} as {first}" if times >= 100 else f"   {times:.3g} times as {word} as {first}"
    )


def _wait() -> None:
    """A GPU works on while Python goes on."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
