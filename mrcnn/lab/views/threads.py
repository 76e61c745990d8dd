"""Pictures of threads at work, drawn from a traced run of a kernel (`kernel.trace[grid, block](...)`).

    cells(trace, buffer, shape=None, by="thread", block=None)         who touched which cell of a buffer
    timeline(trace, block=0, threads=None, buffers=None)              in which order, and where two collide
    lanes(trace, buffer, op="read", line=None, nth=0)                 the addresses a warp asks for in one instruction
    sectors(trace, buffer, op="read", line=None)                      how many pieces of memory are moved for them
    count_accesses(trace, in_bytes=False)                             {buffer: {"read": n, "write": n, "atomic": n}}
    races(trace)                                                      every cell in which two threads collide

The first three are Views. R is a read, W a write, A an atomic; what is in a race has a red frame and an X.
"""

from collections.abc import Iterable

import numpy as np

from ..cuda.trace import OPS, Trace
from .accesses import (
    SECTOR,
    WARP,
    count_accesses,
    instructions,
    races,
    sectors,
    start_of,
    touched_cells,
    touched_sectors,
)
from .stepper import play, run_in_words
from .stepper_still import ALARM, still
from .svg import EMPTY, GREY, INK, PALE, PAPER, RULE, Drawing, width_of
from .view import View

__all__ = ["cells", "count_accesses", "lanes", "races", "sectors", "timeline"]

TINTS = PALE[:5] + PALE[6:]
LINE = 20  # pixels, of the words above and below a picture


def _sum(count: int, thing: str) -> str:
    return f"{count} {thing}" + "s" * (count != 1)


# ---- cells -----------------------------------------------------------------------------------------------------------


def cells(
    trace: Trace, buffer: str, shape: tuple[int, ...] | None = None, *, by: str = "thread", block: int | None = None
) -> View:
    """A buffer as a grid of cells, each with the letters of what was done to it and the numbers of who did it.

    shape: (n,) or (rows, columns); without it one row, as long as what was touched. by: "thread" or "block".
    block: show this block's accesses only. Cells that nobody touched stay grey and empty.

    data: "shape", "cells" (number -> {"who": [...], "did": "RW"}) and "races", the cells in which two collide.
    """
    touched = touched_cells(trace, buffer, block)
    rows, columns = (1, *(shape or (max(touched, default=0) + 1,)))[-2:]
    found = {
        cell: {"who": np.unique(trace.events[by][at]).tolist(), "did": _letters(trace, at)}
        for cell, at in sorted(touched.items())
        if cell < rows * columns
    }
    collisions = sorted({cell for name, cell, *_ in races(trace) if name == buffer and cell in found})
    data = {"shape": [rows, columns], "cells": {str(cell): each for cell, each in found.items()}, "races": collisions}
    return View(_draw_cells(buffer, by, data), _cells_in_words(buffer, by, data), data)


def _letters(trace: Trace, at: list[int]) -> str:
    return "".join(op[0].upper() for op in OPS if op in trace.op[at])


def _numbers(who: list[int]) -> str:
    if len(who) <= 2:
        return ",".join(map(str, who))
    return f"{who[0]}-{who[-1]}" if len(who) == who[-1] - who[0] + 1 else f"{len(who)}x"


def _draw_cells(buffer: str, by: str, data: dict) -> str:
    (rows, columns), found = data["shape"], data["cells"]
    labels = [_numbers(each["who"]) for each in found.values()]
    notes = [f"R read, W write, A atomic; below, the number of the {by}"]
    notes += [f"{label}: of {label[:-1]} {by}s, not in a row" for label in labels if label.endswith("x")][:1]
    notes += [f"tinted: by one {by} alone (tints come again);", "white: by several; grey: by nobody"]
    notes += [f"X: a race, in {_sum(len(data['races']), 'cell')}"] if data["races"] else []
    title, side, high = f"{buffer}: which {by} touched each cell", max([36, *map(width_of, labels)]) + 10, 44
    left, top = width_of(str(rows - 1)) + 16 if rows > 1 else 8, 2.4 * LINE
    width = max(left + side * columns + 8, *(width_of(words) + 16 for words in [*notes, title]))
    drawing = Drawing(width, top + high * rows + LINE * (len(notes) + 0.8))
    drawing.text(8, 0.8 * LINE, title, bold=True)
    for column in range(columns):
        drawing.text(left + (column + 0.5) * side, top - 10, str(column), "middle", fill=GREY)
    for cell in range(rows * columns):
        x, y = left + cell % columns * side, top + cell // columns * high
        if cell % columns == 0 and rows > 1:
            drawing.text(left - 8, y + high / 2, str(cell // columns), "end", fill=GREY)
        each = found.get(str(cell))
        who = each["who"] if each else []
        drawing.rect(
            x, y, side, high, (EMPTY, TINTS[who[0] % len(TINTS)] if who else "", PAPER)[min(len(who), 2)], RULE
        )
        race = cell in data["races"]
        if who:
            drawing.text(x + side / 2 - 6 * race, y + 13, each["did"], "middle")  # beside the X
            drawing.text(x + side / 2, y + 31, _numbers(who), "middle", bold=True)
        if race:
            drawing.rect(x + 2.5, y + 2.5, side - 5, high - 5, stroke=ALARM, stroke_width=2.5)
            drawing.cross(x + side - 10, y + 10, ALARM, 4)
    for number, words in enumerate(notes):
        drawing.text(8, top + high * rows + LINE * (number + 0.9), words)
    return str(drawing)


def _cells_in_words(buffer: str, by: str, data: dict) -> str:
    (rows, columns), found, collisions = data["shape"], data["cells"], data["races"]
    words = f"{_sum(rows * columns, 'cell')} of {buffer} in {_sum(rows, 'row')}: {len(found)} touched"
    if found:
        everyone = sorted({number for each in found.values() for number in each["who"]})
        most = max(found, key=lambda cell: len(found[cell]["who"]))
        words += f", by {_sum(len(everyone), by)}; {sum(len(each['who']) == 1 for each in found.values())} by one alone"
        if len(found[most]["who"]) > 1:
            words += f". Most touch cell {most}: {_sum(len(found[most]['who']), by)}, {_numbers(found[most]['who'])}"
    race = f"A race in {_sum(len(collisions), 'cell')}, the first is {collisions[0]}." if collisions else "No race."
    return f"{words}. {race}"


# ---- timeline --------------------------------------------------------------------------------------------------------


def timeline(
    trace: Trace,
    *,
    block: int = 0,
    threads: Iterable[int] | None = None,
    buffers: Iterable[str] | None = None,
    rows: int = 40,
) -> View:
    """What the threads of a block did, in the order of the run: time goes down, one column per thread.

    It is the stepper's run, standing still. threads: the first eight if not given; buffers: all. Only the first `rows`
    steps are drawn. data: the run, as mrcnn/lab/web/stepper.js describes it.
    """
    run = play(f"{trace.kernel}, block {block}", trace, block, threads, buffers)
    key = "R read, W write, A atomic, and the value" + ("; X: a race" if any(step[6] for step in run["steps"]) else "")
    drawn = f" The first {rows} are drawn." if len(run["steps"]) > rows else ""
    return View(still(run, rows, f"{run['name']}: {key}"), run_in_words(run) + drawn, run)


# ---- the lanes of a warp ---------------------------------------------------------------------------------------------


def lanes(
    trace: Trace, buffer: str, *, op: str = "read", line: int | None = None, nth: int = 0, block: int = 0, warp: int = 0
) -> View:
    """The addresses that a warp's 32 lanes ask for in one instruction, and the 32-byte sectors that hold them.

    The instruction: the first that does `op` to the buffer, or the one on `line`; `nth`: which turn of a loop.
    Only sectors that are touched are drawn, thick lines between them; a gap between two is a gap in memory.

    data: "lanes", each [lane, first byte, bytes]; "sectors", numbered from the buffer's start; "wanted" and "moved",
    in bytes; "line".

    Raises:
        ValueError: nobody touched the buffer, or this warp did not do that to it.
    """
    start, found = start_of(trace, buffer), instructions(trace, buffer, op, line, block, warp)
    if not found:
        raise ValueError(f"warp {warp} of block {block} does not {op} {buffer}{f' on line {line}' if line else ''}")
    rows = sorted(found.items())[nth][1]
    events = trace.events[rows]
    offset, size = events["address"].astype(np.int64) - start, events["bytes"].astype(np.int64)
    touched = touched_sectors(offset, size)
    data = {
        "lanes": np.stack([events["thread"] % WARP, offset, size], axis=1).tolist(),
        "sectors": touched,
        "wanted": len(
            {byte for at, n in zip(offset.tolist(), size.tolist(), strict=True) for byte in range(at, at + n)}
        ),
        "moved": SECTOR * len(touched),
        "line": int(trace.line[rows[0]]),
    }
    title = f"{_sum(len(rows), 'lane')} {op} {data['wanted']} different bytes of {buffer} at line {data['line']}"
    title += f": {_sum(len(touched), 'sector')}, {data['moved']} bytes move"
    words = f"{title}. Lane {data['lanes'][0][0]} asks for byte {offset[0]}, lane {data['lanes'][-1][0]} for byte "
    words += f"{offset[-1]}; of the bytes that move, {100 * data['wanted'] / data['moved']:.0f} % are wanted."
    return View(_draw_lanes(title, data), words, data)


def _draw_lanes(title: str, data: dict) -> str:
    touched, room, left, top = data["sectors"], 32 * 27, 12, 3 * LINE
    gaps = np.cumsum(np.diff(touched, prepend=touched[0]) > 1) * 0.5  # neighbours side by side, a gap between others
    wide = min(room / (len(touched) + gaps[-1]), room / 4)
    begin = left + (room - wide * (len(touched) + gaps[-1])) / 2  # a short memory stands in the middle
    place = {sector: begin + wide * (number + gaps[number]) for number, sector in enumerate(touched)}
    drawing = Drawing(room + 2 * left, top + 170)
    drawing.text(left, 0.8 * LINE, title, bold=True)
    drawing.text(
        left, 1.8 * LINE, "above: the lanes; below: memory, thick lines where sectors begin; a gap: not asked for"
    )
    for sector in touched:
        drawing.rect(place[sector], top + 110, wide, 28, EMPTY)
    for lane, at, size in data["lanes"]:
        x = left + (lane + 0.5) * room / WARP
        cell = place[at // SECTOR] + at % SECTOR / SECTOR * wide
        drawing.rect(cell, top + 110, size / SECTOR * wide, 28, TINTS[lane % len(TINTS)], INK, stroke_width=0.5)
        drawing.line(x, top + 20, cell + size / SECTOR * wide / 2, top + 110, INK, stroke_width=0.7)
        drawing.rect(x - 12, top, 24, 20, TINTS[lane % len(TINTS)], INK, stroke_width=0.5)
        drawing.text(x, top + 10, str(lane), "middle")
    for sector in touched:
        drawing.rect(place[sector], top + 110, wide, 28, stroke=INK, stroke_width=2)
    _name_sectors(drawing, place, top + 152)
    return str(drawing)


def _name_sectors(drawing: Drawing, place: dict[int, float], y: float) -> None:
    """The byte at which each sector begins, of those for which there is room."""
    free = 0.0
    for sector, x in place.items():
        words = f"{SECTOR * sector}" if free else f"byte {SECTOR * sector}"
        x = min(x, drawing.width - 12 - width_of(words))
        if x >= free:
            drawing.text(x, y, words)
            free = x + width_of(words) + 8
