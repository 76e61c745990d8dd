"""Pictures of threads at work, drawn from a traced run of a kernel (`kernel.trace[grid, block](...)`).

    cells(trace, buffer, shape=None, by="thread", block=None)         who touched which cell of a buffer
    timeline(trace, block=0, threads=None, buffers=None)              in which order, and where two collide
    lanes(trace, buffer, op="read", line=None, nth=0)                 the addresses a warp asks for in one instruction
    sectors(trace, buffer, op="read", line=None)                      how many pieces of memory are moved for them
    count_accesses(trace, in_bytes=False)                             {buffer: {"read": n, "write": n, "atomic": n}}
    races(trace)                                                      every cell in which two threads collide

The first three are Views. Reads are circles, writes squares, atomics diamonds, and the letters R, W and A say the same;
what is in a race is marked with a red X.
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
    spans,
    start_of,
    touched_cells,
    touched_sectors,
)
from .svg import COLOURS, EMPTY, GREY, INK, PALE, PAPER, RULE, Drawing, width_of
from .view import View

__all__ = ["cells", "count_accesses", "lanes", "races", "sectors", "timeline"]

DOES = {"read": "reads", "write": "writes", "atomic": "atomically changes"}
ALARM = COLOURS[5]  # vermilion: races, and nothing else
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
    notes += [f"5x: of 5 {by}s, not in a row"] if any(label.endswith("x") for label in labels) else []
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

    A dashed line across is a wait: a barrier, or a function of the warp. threads: the first eight if not given;
    buffers: all. Only the first `rows` steps are drawn. What a thread does to one struct at one line is one step: its
    parts are loaded in an order that is the compiler's affair.

    data: "threads"; "steps", each with "thread", "op", "what", "line"; "waits", each with "after" so many steps and
    "who"; "races", each with "what" and two "steps", counted from 0; "left", the number of steps that are not shown.
    """
    numbers = list(threads) if threads is not None else np.unique(trace.thread[trace.block == block])[:8].tolist()
    chosen = (trace.block == block) & np.isin(trace.thread, numbers)
    if buffers is not None:
        chosen &= np.isin(trace.buffer, list(buffers))
    groups = _steps(trace, np.flatnonzero(chosen).tolist())
    shown, span = groups[:rows], spans(trace)
    step_of = {row: number for number, group in enumerate(shown) for row in group}
    data = {
        "threads": [int(number) for number in numbers],
        "steps": [_step(trace, span, group) for group in shown],
        "waits": _waits(trace, block, numbers, shown),
        "races": [
            {"what": f"{name}[{cell}]", "steps": [step_of[row] for row in pair]}
            for name, cell, *pair in races(trace)
            if step_of.keys() >= set(pair)
        ],
        "left": len(groups) - len(shown),
    }
    return View(_draw_timeline(data), _timeline_in_words(data), data)


def _steps(trace: Trace, rows: list[int]) -> list[list[int]]:
    """The rows of the trace, those together that are parts of one struct."""
    buffer, span, op, line, thread = trace.buffer, spans(trace), trace.op, trace.line, trace.thread
    groups: list[list[int]] = []
    for row in rows:
        last = groups[-1] if groups else []
        same = last and all(each[last[-1]] == each[row] for each in (thread, line, op, buffer))
        if same and span[row][0] not in span[last][:, 0] and _one_struct(trace, span, [*last, row]):
            last.append(row)
        else:
            groups.append([row])
    return groups


def _one_struct(trace: Trace, span: np.ndarray, rows: list[int]) -> bool:
    """Whether accesses are to parts of one struct: what a parameter points to, or 16 bytes of a shared array."""
    name, touched = trace.buffer[rows[0]], span[rows]
    unit = trace.units.get(name, 16) // int(trace.events["bytes"][rows[0]])  # cells in a struct
    return unit > 1 and touched.min() // unit == (touched.max() - 1) // unit


def _step(trace: Trace, span: np.ndarray, group: list[int]) -> dict:
    row, first, last = group[0], int(span[group].min()), int(span[group].max()) - 1
    what = f"{trace.buffer[row]}[{first}" + (f"-{last}]" if last > first else "]")
    return {"thread": int(trace.thread[row]), "op": str(trace.op[row]), "what": what, "line": int(trace.line[row])}


def _waits(trace: Trace, block: int, numbers: list[int], shown: list[list[int]]) -> list[dict]:
    """Where all of a block, or lanes of a warp, went on together, if it is between two steps that are shown."""
    begins = [group[0] for group in shown]
    waits = []
    for wait in trace.waits[(trace.waits["block"] == block) & (trace.waits["lanes"] != 0)]:
        after = int(np.searchsorted(begins, int(wait["row"])))
        lanes = [int(wait["thread"]) + lane for lane in range(WARP) if int(wait["lanes"]) >> lane & 1]
        here = {"after": after, "who": f"threads {_numbers(lanes)} wait" if wait["in_warp"] else "all wait"}
        if 0 < after < len(shown) and here not in waits and (not wait["in_warp"] or set(lanes) & set(numbers)):
            waits.append(here)
    return waits


def _draw_timeline(data: dict) -> str:
    steps, numbers, pair = data["steps"], data["threads"], _nearest(data["races"])
    column = max(width_of(f"R {step['what']}") for step in steps) + 42 if steps else 100
    at = [44 + number * column + 14 for number in range(len(numbers))]
    notes = ["circle, R: read; square, W: write; diamond, A: atomic"]
    notes += [f"X: a race; dotted: at {pair['what']}, with no wait between"] if pair else []
    notes += [f"and {_sum(data['left'], 'more step')}"] if data["left"] else []
    bottom = 50 + 24 * (len(steps) + len(data["waits"]))
    drawing = Drawing(
        max([44 + column * len(numbers), *(width_of(each) + 16 for each in notes)]), bottom + LINE * len(notes)
    )
    drawing.text(36, 16, "step", "end", fill=GREY)
    for x, number in zip(at, numbers, strict=True):
        drawing.text(x - 8, 16, f"thread {number}", bold=True)
        drawing.line(x, 30, x, bottom - 18, RULE)
    middle = [44 + 24 * (number + sum(w["after"] <= number for w in data["waits"])) for number in range(len(steps))]
    for number, wait in enumerate(data["waits"]):
        y = 44 + 24 * (wait["after"] + number)
        drawing.line(
            44, y, drawing.width - width_of(wait["who"]) - 16, y, INK, stroke_dasharray="7 4", stroke_width=1.6
        )
        drawing.text(drawing.width - 8, y, wait["who"], "end", bold=True)
    places = [(at[numbers.index(step["thread"])], y) for step, y in zip(steps, middle, strict=True)]
    if pair:
        (x1, y1), (x2, y2) = (places[number] for number in pair["steps"])
        drawing.line(x1, y1, x2, y2, ALARM, stroke_width=2, stroke_dasharray="2 4")
    racing = {number for race in data["races"] for number in race["steps"]}
    for number, (step, (x, y)) in enumerate(zip(steps, places, strict=True)):
        drawing.text(36, y, str(number + 1), "end", fill=GREY)
        _draw_step(drawing, x, y, step, number in racing)
    for number, words in enumerate(notes):
        drawing.text(8, bottom + LINE * (number + 0.3), words)
    return str(drawing)


def _draw_step(drawing: Drawing, x: float, y: float, step: dict, racing: bool) -> None:
    if step["op"] == "read":
        drawing.add("circle", cx=x, cy=y, r=6, fill=PAPER, stroke=INK)
    elif step["op"] == "write":
        drawing.rect(x - 6, y - 6, 12, 12, COLOURS[1], INK)
    else:
        drawing.polygon([(x, y - 8), (x + 8, y), (x, y + 8), (x - 8, y)], COLOURS[4])
    if racing:
        drawing.cross(x, y, ALARM, 9)
    words = f"{step['op'][0].upper()} {step['what']}"
    drawing.rect(x + 12, y - 9, width_of(words), 18, PAPER)  # so that no line goes through the letters
    drawing.text(x + 14, y, words)


def _nearest(found: list[dict]) -> dict | None:
    """The race whose two steps are nearest in time tells the story; a line for each would hide the rest."""
    return min(found, key=lambda race: race["steps"][1] - race["steps"][0], default=None)


def _timeline_in_words(data: dict) -> str:
    steps, pair = data["steps"], _nearest(data["races"])
    counts = ", ".join(_sum(n, op) for op in OPS.tolist() if (n := sum(step["op"] == op for step in steps)))
    words = f"{_sum(len(steps), 'step')} of {_sum(len(data['threads']), 'thread')} in the order of the run"
    words += (f": {counts}" if counts else "") + (f"; {data['left']} more are not shown. " if data["left"] else ". ")
    told = [f"step {i}, thread {step['thread']} {DOES[step['op']]} {step['what']}" for i, step in enumerate(steps, 1)]
    words += f"It begins: {'; '.join(told[:6])}. " if told else ""
    words += "".join(f"After step {wait['after']} {wait['who']}. " for wait in data["waits"][:4])
    if pair:
        return words + f"A race: {told[pair['steps'][0]]}; {told[pair['steps'][1]]}, with no wait between."
    return words + "No race."


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
