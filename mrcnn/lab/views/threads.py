"""Pictures of threads at work, drawn from a traced run of a kernel (`kernel.trace[grid, block](...)`).

    cells(trace, buffer, shape=None, by="thread", block=None)         who touched which cell of a buffer
    timeline(trace, block=0, threads=None, buffers=None)              in which order, and where two collide
    lanes(trace, buffer, op="read", line=None, nth=0)                 the addresses a warp asks for in one instruction
    sectors(trace, buffer, op="read", line=None)                      how many pieces of memory are moved for them
    count_accesses(trace, in_bytes=False)                             {buffer: {"read": n, "write": n, "atomic": n}}
    races(trace)                                                      every cell in which two threads collide

The first three are Views, each drawn by the function of its name with draw_ before it. Reads are circles, writes
squares, atomics diamonds, and the letters R, W and A say the same; what is in a race is marked with a red X.
"""

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mrcnn.visualize import COLOURS, INK, PAPER

from ..cuda.trace import OPS, Trace
from .accesses import (
    SECTOR,
    WARP,
    count_accesses,
    instructions,
    races,
    sectors,
    spans,
    start_of,
    touched_cells,
    touched_sectors,
)
from .view import View

__all__ = [
    "cells", "count_accesses", "draw_cells", "draw_lanes", "draw_timeline", "lanes", "races", "sectors", "timeline",
]  # fmt: skip

MARKS = {"read": "o", "write": "s", "atomic": "D"}
LETTERS = {"read": "R", "write": "W", "atomic": "A"}
ALARM = COLOURS[5]  # vermilion: races, and nothing else
WHO = [colour for colour in COLOURS if colour != ALARM]
EMPTY = "#eeeeee"


# ---- cells -----------------------------------------------------------------------------------------------------------


def draw_cells(
    trace: Trace,
    buffer: str,
    shape: tuple[int, ...] | None = None,
    *,
    by: str = "thread",
    block: int | None = None,
) -> Figure:
    """A buffer as a grid of cells, each with the letters of what was done to it and the numbers of who did it.

    shape: (n,) or (rows, columns); without it one row, as long as what was touched. by: "thread" or "block".
    block: show this block's accesses only. Cells that nobody touched stay grey and empty.
    """
    shape = shape or (int(max(touched_cells(trace, buffer), default=0)) + 1,)
    rows, columns = (1, *shape)[-2:]
    axes = _new_axes(max(0.56 * columns + 0.6, 3.4), 0.56 * rows + 1.5)
    touched = touched_cells(trace, buffer, block)
    collisions = {cell for name, cell, *_ in races(trace) if name == buffer}
    for cell in range(rows * columns):
        y, x = divmod(cell, columns)
        who, letters = _who(trace, touched.get(cell, []), by)
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=_fill(who), edgecolor="#999999", linewidth=0.6))
        if who:
            axes.text(x + 0.5, y + 0.32, letters, ha="center", va="center", fontsize=9, color=INK)
            axes.text(x + 0.5, y + 0.7, _numbers(who), ha="center", va="center", fontsize=9, color=INK, weight="bold")
        if cell in collisions:
            _alarm(axes, x, y)
    axes.set(xlim=(-0.1, columns + 0.1), ylim=(rows + 0.1, -0.1), aspect="equal")
    axes.set_xticks(np.arange(columns) + 0.5, range(columns), fontsize=9, color=INK)
    axes.set_yticks(np.arange(rows) + 0.5, range(rows) if rows > 1 else [""] * rows, fontsize=9, color=INK)
    _plain(axes)
    note = f"\nX: a race, in {len(collisions)} cells" if collisions else ""
    key = f"R read, W write, A atomic; below, the number of the {by}\ntinted: one {by} alone; white: several"
    axes.set_title(f"`{buffer}`: which {by} touched each cell\n{key}{note}", fontsize=9, color=INK, loc="left")
    return axes.figure


def _who(trace: Trace, rows: list[int], by: str) -> tuple[list[int], str]:
    events = trace.events[rows]
    letters = "".join(LETTERS[op] for op in OPS if op in OPS[events["op"]])
    return np.unique(events[by]).tolist(), letters


def _numbers(who: list[int]) -> str:
    if len(who) <= 2:
        return ",".join(map(str, who))
    return f"{who[0]}-{who[-1]}" if len(who) == who[-1] - who[0] + 1 else f"{len(who)}x"


def _fill(who: list[int]) -> str | tuple[float, ...]:
    """A cell that one alone touched has its colour, a pale one; a cell of several is white, an untouched one grey."""
    if not who:
        return EMPTY
    return _pale(WHO[who[0] % len(WHO)]) if len(who) == 1 else PAPER


def _alarm(axes: Axes, x: float, y: float) -> None:
    axes.add_patch(Rectangle((x + 0.04, y + 0.04), 0.92, 0.92, fill=False, edgecolor=ALARM, linewidth=2.2, zorder=3))
    axes.scatter(x + 0.83, y + 0.19, marker="x", s=22, color=ALARM, linewidth=1.8, zorder=3)


# ---- races -----------------------------------------------------------------------------------------------------------


# ---- timeline --------------------------------------------------------------------------------------------------------


def draw_timeline(
    trace: Trace,
    *,
    block: int = 0,
    threads: Iterable[int] | None = None,
    buffers: Iterable[str] | None = None,
    rows: int = 40,
) -> Figure:
    """What the threads of a block did, in the order of the run: time goes down, one column per thread.

    A dashed line across is a wait: a barrier, or a function of the warp. threads: the first eight if not given;
    buffers: all. Only the first `rows` accesses are drawn.
    """
    numbers, steps = _steps(trace, block, threads, buffers)
    shown = steps[:rows]
    axes = _new_axes(1.5 * len(numbers) + 0.6, 0.26 * len(shown) + 1.0)
    for x in range(len(numbers)):
        axes.axvline(x, color="#cccccc", linewidth=0.8, zorder=0)
    op = trace.op
    for kind, mark in MARKS.items():
        of_kind = [(x, y) for y, (x, together, _) in enumerate(shown) if op[together[0]] == kind]
        face = {"read": PAPER, "write": WHO[1], "atomic": WHO[4]}[kind]
        axes.scatter(*np.array(of_kind).reshape(-1, 2).T, marker=mark, s=34, facecolor=face, edgecolor=INK, linewidth=1)
    for y, (x, _, text) in enumerate(shown):
        axes.text(x + 0.09, y, text, fontsize=9, va="center", color=INK)
    _draw_waits(axes, trace.round[[together[0] for _, together, _ in shown]], len(numbers))
    height = {row: y for y, (_, together, _) in enumerate(shown) for row in together}
    _draw_races(axes, trace, numbers, height)
    left = len(steps) - len(shown)
    axes.set(xlim=(-0.3, len(numbers) - 0.05), ylim=(len(shown) - 0.3, -0.9))
    axes.set_xticks(range(len(numbers)), [f"thread {number}" for number in numbers], fontsize=9, color=INK)
    axes.set_yticks([])
    axes.set_ylabel("time →", fontsize=9, color=INK, rotation=270, labelpad=10)
    axes.xaxis.tick_top()
    _plain(axes)
    axes.set_xlabel(f"… and {left} more accesses" if left else "", fontsize=9, color=INK)
    return axes.figure


def _steps(
    trace: Trace, block: int, threads: Iterable[int] | None, buffers: Iterable[str] | None
) -> tuple[list[int], list[tuple[int, list[int], str]]]:
    """The threads' numbers, and what they did, in order: (which of these threads, rows of the trace, in words).

    What a thread does to one buffer at one line, access after access, is one step: the parts of a struct are loaded in
    an order that is the compiler's affair.
    """
    numbers = list(threads) if threads is not None else np.unique(trace.thread[trace.block == block])[:8].tolist()
    chosen = (trace.block == block) & np.isin(trace.thread, numbers)
    if buffers is not None:
        chosen &= np.isin(trace.buffer, list(buffers))
    buffer, span, op, line, thread = trace.buffer, spans(trace), trace.op, trace.line, trace.thread
    groups: list[list[int]] = []
    for row in np.flatnonzero(chosen).tolist():
        last = groups[-1] if groups else []
        same = last and all(each[last[-1]] == each[row] for each in (thread, line, op, buffer))
        if same and span[row][0] not in {span[r][0] for r in last} and _one_struct(trace, span, [*last, row]):
            last.append(row)
        else:
            groups.append([row])
    steps = []
    for together in groups:
        first, last = min(span[r][0] for r in together), max(span[r][1] for r in together) - 1
        cell = f"{first}" if first == last else f"{first}-{last}"
        steps.append(
            (numbers.index(thread[together[0]]), together, f"{LETTERS[op[together[0]]]} {buffer[together[0]]}[{cell}]")
        )
    return numbers, steps


def _one_struct(trace: Trace, span: np.ndarray, rows: list[int]) -> bool:
    """Whether accesses are to parts of one struct: what a parameter points to, or 16 bytes of a shared array."""
    name, cells = trace.buffer[rows[0]], [cell for row in rows for cell in span[row]]
    item = int(trace.events["bytes"][rows[0]])
    unit = trace.units.get(name, 16) // item  # cells in a struct
    return unit > 1 and min(cells) // unit == (max(cells) - 1) // unit


def _draw_waits(axes: Axes, rounds: np.ndarray, columns: int) -> None:
    for y in np.flatnonzero(np.diff(rounds)) + 0.5:
        axes.axhline(y, color=INK, linestyle=(0, (5, 3)), linewidth=1.2)
        axes.text(columns - 0.1, y - 0.15, "all wait", fontsize=9, ha="right", va="bottom", color=INK)


def _draw_races(axes: Axes, trace: Trace, numbers: list[int], height: dict[int, int]) -> None:
    seen = [race for race in races(trace) if race[2] in height and race[3] in height]
    for _, _, *pair in seen:
        x, y = [numbers.index(trace.thread[row]) for row in pair], [height[row] for row in pair]
        axes.scatter(x, y, marker="x", s=80, color=ALARM, linewidth=1.6, zorder=3)
    if seen:  # one pair tells the story, the one nearest in time; a line for each would hide the rest
        name, cell, *pair = min(seen, key=lambda race: race[3] - race[2])
        x, y = [numbers.index(trace.thread[row]) for row in pair], [height[row] for row in pair]
        axes.plot(x, y, color=ALARM, linewidth=1.6, linestyle=":", zorder=1)
        look = {"facecolor": PAPER, "edgecolor": ALARM, "boxstyle": "round,pad=0.2"}
        side, at = ("right", x[1] - 0.14) if x[1] else ("left", x[1] + 0.75)  # that row holds nothing else
        axes.text(at, y[1], f"race: {name}[{cell}]", fontsize=9, color=INK, ha=side, va="center", bbox=look)


# ---- the lanes of a warp ---------------------------------------------------------------------------------------------


def draw_lanes(
    trace: Trace,
    buffer: str,
    *,
    op: str = "read",
    line: int | None = None,
    nth: int = 0,
    block: int = 0,
    warp: int = 0,
) -> Figure:
    """The addresses that a warp's 32 lanes ask for in one instruction, and the 32-byte sectors that hold them.

    The instruction: the first that does `op` to the buffer, or the one on `line`; `nth`: which turn of a loop.
    Only sectors that are touched are drawn, thick lines between them; a gap between two is a gap in memory.
    """
    rows = instructions(trace, buffer, op, line, block, warp)
    if not rows:
        raise ValueError(f"warp {warp} of block {block} does not {op} {buffer}{f' on line {line}' if line else ''}")
    rows = sorted(rows.items())[nth][1]
    events, start = trace.events[rows], start_of(trace, buffer)
    offset = events["address"].astype(np.int64) - start
    touched = touched_sectors(offset, events["bytes"])
    place = _places(touched)
    width = place[touched[-1]] + 1
    room = max(width, 4)
    place = {sector: at + (room - width) / 2 for sector, at in place.items()}  # a short memory stands in the middle
    axes = _new_axes(10.5, 2.3)
    boxes = [Rectangle((place[sector], 0), 1, 0.22) for sector in touched]
    axes.add_collection(PatchCollection(boxes, facecolor=EMPTY, edgecolor=INK, linewidth=0.7))
    borders = [place[sector] + side for sector in touched for side in (0, 1)]
    axes.vlines(borders, -0.03, 0.25, INK, linewidth=1.6, zorder=3)
    _name_sectors(axes, touched, place, room)
    for lane, at, size in zip(events["thread"] % WARP, offset, events["bytes"], strict=True):
        colour, x = WHO[lane % len(WHO)], (lane + 0.5) * room / WARP
        cell = place[at // SECTOR] + at % SECTOR / SECTOR
        axes.add_patch(Rectangle((cell, 0), size / SECTOR, 0.22, facecolor=colour, edgecolor=INK, linewidth=0.3))
        axes.plot([x, cell + size / SECTOR / 2], [0.85, 0.22], color=INK, linewidth=0.5, alpha=0.7)
        axes.text(x, 0.92, str(lane), fontsize=9, ha="center", va="center", color=INK)
    axes.set(xlim=(-0.02 * room, 1.02 * room), ylim=(-0.18, 1.0), xticks=[], yticks=[])
    _plain(axes)
    wanted = len({byte for at, size in zip(offset, events["bytes"], strict=True) for byte in range(at, at + size)})
    title = f"{op} of {buffer} at line {trace.line[rows[0]]}: {len(rows)} lanes want {wanted} different bytes, "
    title += f"{len(touched)} sector{'s' * (len(touched) > 1)} = {SECTOR * len(touched)} bytes move\n"
    title += "thick lines: where sectors begin and end; a gap: memory that nobody asked for"
    axes.set_title(title, fontsize=9, color=INK, loc="left")
    return axes.figure


def _places(touched: list[int]) -> dict[int, float]:
    """Where each sector stands: neighbours side by side, others with a gap between them."""
    gaps = np.cumsum(np.diff(touched, prepend=touched[0]) > 1) * 0.5
    return {sector: number + gap for number, (sector, gap) in enumerate(zip(touched, gaps.tolist(), strict=True))}


def _name_sectors(axes: Axes, touched: list[int], place: dict[int, float], room: float) -> None:
    """The byte at which each sector begins, as many as there is room for."""
    step = -(-len(touched) // 12)
    for sector in touched[::step]:
        axes.text(place[sector], -0.1, f"{SECTOR * sector}", fontsize=9, ha="left", va="center", color=INK)
    axes.text(1.02 * room, -0.1, "byte", fontsize=9, ha="right", va="center", color=INK)


# ---- views -----------------------------------------------------------------------------------------------------------


def cells(trace: Trace, buffer: str, shape: tuple[int, ...] | None = None, **options) -> View:
    """Who touched which cell of a buffer: `draw_cells`, with its description."""
    by, touched = options.get("by", "thread"), touched_cells(trace, buffer, options.get("block"))
    who = {cell: _who(trace, rows, by) for cell, rows in sorted(touched.items())}
    collisions = sorted({cell for name, cell, *_ in races(trace) if name == buffer})
    alone = sum(len(numbers) == 1 for numbers, _ in who.values())
    words = f"The cells of {buffer}: {len(who)} were touched, {alone} of them by one {by} alone. "
    words += f"Cell {next(iter(who))}: {by} {_numbers(next(iter(who.values()))[0])}. " if who else ""
    words += f"A race in {len(collisions)} cells, the first is {collisions[0]}." if collisions else "No race."
    data = {str(cell): {"who": numbers, "did": letters} for cell, (numbers, letters) in who.items()}
    return View.of(draw_cells(trace, buffer, shape, **options), words, {"cells": data, "races": collisions}, lines=True)


def timeline(trace: Trace, *, block: int = 0, threads=None, buffers=None, rows: int = 40) -> View:
    """What a block's threads did, in order: `draw_timeline`, with its description."""
    numbers, steps = _steps(trace, block, threads, buffers)
    done = [[numbers[x], text] for x, _, text in steps[:rows]]
    words = "In the order of the run: " + "; ".join(f"thread {number} {text}" for number, text in done)
    words += f". {len(races(trace))} cells are in a race." if races(trace) else ". No race."
    figure = draw_timeline(trace, block=block, threads=threads, buffers=buffers, rows=rows)
    return View.of(figure, words, {"steps": done}, lines=True)


def lanes(trace: Trace, buffer: str, **options) -> View:
    """The addresses of a warp's lanes in one instruction: `draw_lanes`, with its description."""
    figure = draw_lanes(trace, buffer, **options)
    return View.of(figure, figure.axes[0].get_title(loc="left").split("\n")[0] + ".", lines=True)


# ---- look ------------------------------------------------------------------------------------------------------------


def _new_axes(width: float, height: float) -> Axes:
    figure = Figure(figsize=(width, height), dpi=90, facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def _pale(colour: str) -> tuple[float, ...]:
    return tuple(0.5 + 0.5 * channel for channel in to_rgb(colour))


def _plain(axes: Axes) -> None:
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
