"""Pictures of threads at work, drawn from a traced run of a kernel (`kernel.trace[grid, block](...)`).

    draw_cells(trace, buffer, shape=None, by="thread", block=None)    who touched which cell of a buffer
    draw_timeline(trace, block=0, threads=None, buffers=None)         in which order, and where two collide
    draw_lanes(trace, buffer, op="read", line=None, nth=0)            the addresses a warp asks for in one instruction
    sectors(trace, buffer, op="read", line=None)                      how many pieces of memory are moved for them
    count_accesses(trace, in_bytes=False)                             {buffer: {"read": n, "write": n, "atomic": n}}
    races(trace)                                                      every cell in which two threads collide

The three that draw return a matplotlib figure, or draw on `axes=` that you give. Reads are circles, writes squares,
atomics diamonds, and the letters R, W and A say the same; a cell or an access in a race is marked with a red X.
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

from ..cuda.trace import BUFFER, OPS, RACE, Trace

SECTOR = 32  # bytes: the smallest piece of memory that a GPU fetches
WARP = 32
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
    axes: Axes | None = None,
) -> Figure:
    """A buffer as a grid of cells, each with the letters of what was done to it and the numbers of who did it.

    shape: (n,) or (rows, columns); without it one row, as long as what was touched. by: "thread" or "block".
    block: show this block's accesses only. Cells that nobody touched stay grey and empty.
    """
    shape = shape or (int(max(_cells(trace, buffer), default=0)) + 1,)
    rows, columns = (1, *shape)[-2:]
    axes = axes if axes is not None else _new_axes(max(0.5 * columns + 0.6, 3.0), 0.5 * rows + 1.35)
    touched = _cells(trace, buffer, block)
    collisions = {cell for name, cell, *_ in races(trace) if name == buffer}
    for cell in range(rows * columns):
        y, x = divmod(cell, columns)
        who, letters = _who(trace, touched.get(cell, []), by)
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=_fill(who), edgecolor="#999999", linewidth=0.6))
        if who:
            axes.text(x + 0.5, y + 0.32, letters, ha="center", va="center", fontsize=7, color=INK)
            axes.text(x + 0.5, y + 0.7, _numbers(who), ha="center", va="center", fontsize=8, color=INK, weight="bold")
        if cell in collisions:
            _alarm(axes, x, y)
    axes.set(xlim=(-0.1, columns + 0.1), ylim=(rows + 0.1, -0.1), aspect="equal")
    axes.set_xticks(np.arange(columns) + 0.5, range(columns), fontsize=7, color=INK)
    axes.set_yticks(np.arange(rows) + 0.5, range(rows) if rows > 1 else [""] * rows, fontsize=7, color=INK)
    _plain(axes)
    note = f"\nX: a race, in {len(collisions)} cells" if collisions else ""
    key = f"R read, W write, A atomic\ncolour: one {by}, white: several"
    axes.set_title(f"`{buffer}`: which {by} touched each cell\n{key}{note}", fontsize=8, color=INK, loc="left")
    return axes.figure


def _cells(trace: Trace, buffer: str, block: int | None = None) -> dict[int, list[int]]:
    """The cells of a buffer that were touched: cell -> rows of the trace."""
    chosen = trace.buffer == buffer
    if block is not None:
        chosen &= trace.block == block
    spans = _spans(trace)
    cells: dict[int, list[int]] = {}
    for row in np.flatnonzero(chosen).tolist():
        for cell in range(*spans[row].tolist()):
            cells.setdefault(cell, []).append(row)
    return cells


def _spans(trace: Trace) -> np.ndarray:
    """Of each access (N, 2): the first cell and the one after the last. A load of 16 bytes touches four floats.

    A shared array's cells are taken to be as large as the smallest access to it.
    """
    buffer, size = trace.buffer, trace.events["bytes"].astype(np.int64)
    first, item = trace.index.copy(), size.copy()
    known = {name: item for _, _, item, name in trace.buffers}
    for name in np.unique(buffer):
        here = buffer == name
        if name in known:
            item[here] = known[name]
        else:
            item[here] = size[here].min()
            first[here] *= size[here] // item[here]  # the trace counts in steps of the access
    return np.stack([first, first + np.maximum(size // item, 1)], axis=1)


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


def races(trace: Trace) -> list[tuple[str, int, int, int]]:
    """Where two collide: (buffer, cell, row of the trace, row of the trace), the first such pair of every cell.

    A finding names one cell and the two places in the code. Two threads that meet elsewhere from the same two places,
    with no wait between them, collide just as well.
    """
    found: dict[tuple[str, int], tuple[int, int]] = {}
    buffer, spans, rounds = trace.buffer, _spans(trace), _rounds(trace)
    for finding in trace.raw_findings[trace.raw_findings["fault"] == RACE]:
        places = {int(finding["event"]["where"]), int(finding["other"]["where"])}
        seen: dict[tuple[str, int], list[int]] = {}
        for row in np.flatnonzero(np.isin(trace.events["where"], list(places))).tolist():
            for cell in range(*spans[row].tolist()):
                key = (str(buffer[row]), cell)
                for before in seen.get(key, []):
                    both = {int(trace.events["where"][before]), int(trace.events["where"][row])} == places
                    if key not in found and both and _collide(trace, rounds, before, row):
                        found[key] = (before, row)
                seen.setdefault(key, []).append(row)
    return [(name, cell, *rows) for (name, cell), rows in sorted(found.items(), key=lambda item: item[1])]


def _collide(trace: Trace, rounds: np.ndarray, before: int, row: int) -> bool:
    """Whether two accesses to one cell are a race: by two threads, with no wait between them, one of them writing."""
    past, here = trace.events[before], trace.events[row]
    if past["launch"] != here["launch"] or (past["op"] == here["op"] and OPS[here["op"]] != "write"):
        return False
    if past["block"] != here["block"]:
        return here["space"] == BUFFER  # shared memory is each block's own
    return past["thread"] != here["thread"] and rounds[before] == rounds[row]


def _rounds(trace: Trace) -> np.ndarray:
    """Of each access, how often its block had waited before: a thread goes on after others only if it waited.

    The record has no barriers in it; a wait that no thread follows with an access leaves no trace.
    """
    rounds = np.zeros(len(trace), dtype=np.int64)
    here, last, seen, count = None, None, set(), 0
    places = zip(trace.launch.tolist(), trace.block.tolist(), trace.thread.tolist(), strict=True)
    for row, (launch, block, thread) in enumerate(places):
        if (launch, block) != here:
            here, last, seen, count = (launch, block), None, set(), 0
        if thread != last and thread in seen:
            count, seen = count + 1, set()
        seen.add(thread)
        last = thread
        rounds[row] = count
    return rounds


# ---- timeline --------------------------------------------------------------------------------------------------------


def draw_timeline(
    trace: Trace,
    *,
    block: int = 0,
    threads: Iterable[int] | None = None,
    buffers: Iterable[str] | None = None,
    rows: int = 40,
    axes: Axes | None = None,
) -> Figure:
    """What the threads of a block did, in the order of the run: time goes down, one column per thread.

    A dashed line across is a wait: a barrier, or a function of the warp. threads: the first eight if not given;
    buffers: all. Only the first `rows` accesses are drawn.
    """
    numbers = list(threads) if threads is not None else np.unique(trace.thread[trace.block == block])[:8].tolist()
    chosen = (trace.block == block) & np.isin(trace.thread, numbers)
    if buffers is not None:
        chosen &= np.isin(trace.buffer, list(buffers))
    all_rows = np.flatnonzero(chosen)
    shown = all_rows[:rows]
    height = {int(row): y for y, row in enumerate(shown)}
    axes = axes if axes is not None else _new_axes(1.05 * len(numbers) + 0.6, 0.2 * len(shown) + 0.9)
    for x in range(len(numbers)):
        axes.axvline(x, color="#cccccc", linewidth=0.8, zorder=0)
    for op, mark in MARKS.items():
        of_op = [row for row in shown if trace.op[row] == op]
        x = [numbers.index(trace.thread[row]) for row in of_op]
        face = {"read": PAPER, "write": WHO[1], "atomic": WHO[4]}[op]
        axes.scatter(x, [height[row] for row in of_op], marker=mark, s=34, facecolor=face, edgecolor=INK, linewidth=1)
    buffer, spans, op = trace.buffer, _spans(trace), trace.op
    for row in shown:
        cells = "-".join(str(cell) for cell in np.unique(spans[row] - (0, 1)))
        text = f"{LETTERS[op[row]]} {buffer[row]}[{cells}]"
        axes.text(numbers.index(trace.thread[row]) + 0.11, height[row], text, fontsize=6.5, va="center", color=INK)
    _draw_waits(axes, _rounds(trace)[shown], len(numbers))
    _draw_races(axes, trace, numbers, height)
    left = len(all_rows) - len(shown)
    axes.set(xlim=(-0.3, len(numbers) - 0.05), ylim=(len(shown) - 0.3, -0.9))
    axes.set_xticks(range(len(numbers)), [f"thread {number}" for number in numbers], fontsize=7.5, color=INK)
    axes.set_yticks([])
    axes.set_ylabel("time →", fontsize=8, color=INK, rotation=270, labelpad=10)
    axes.xaxis.tick_top()
    _plain(axes)
    axes.set_xlabel(f"… and {left} more accesses" if left else "", fontsize=7.5, color=INK)
    return axes.figure


def _draw_waits(axes: Axes, rounds: np.ndarray, columns: int) -> None:
    for y in np.flatnonzero(np.diff(rounds)) + 0.5:
        axes.axhline(y, color=INK, linestyle=(0, (5, 3)), linewidth=1.2)
        axes.text(columns - 0.1, y - 0.15, "all wait", fontsize=6.5, ha="right", va="bottom", color=INK)


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
        axes.text(at, y[1], f"race: {name}[{cell}]", fontsize=7, color=INK, ha=side, va="center", bbox=look)


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
    axes: Axes | None = None,
) -> Figure:
    """The addresses that a warp's 32 lanes ask for in one instruction, and the 32-byte sectors that hold them.

    The instruction: the first that does `op` to the buffer, or the one on `line`; `nth`: which turn of a loop.
    Only sectors that are touched are drawn, thick lines between them; a gap between two is a gap in memory.
    """
    rows = _instructions(trace, buffer, op, line, block, warp)
    if not rows:
        raise ValueError(f"warp {warp} of block {block} does not {op} {buffer}{f' on line {line}' if line else ''}")
    rows = sorted(rows.items())[nth][1]
    events, start = trace.events[rows], _start(trace, buffer)
    offset = events["address"].astype(np.int64) - start
    touched = _touched(offset, events["bytes"])
    place = _places(touched)
    width = place[touched[-1]] + 1
    room = max(width, 4)
    place = {sector: at + (room - width) / 2 for sector, at in place.items()}  # a short memory stands in the middle
    axes = axes if axes is not None else _new_axes(7.2, 1.9)
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
        axes.text(x, 0.92, str(lane), fontsize=6.5, ha="center", va="center", color=INK)
    axes.set(xlim=(-0.02 * room, 1.02 * room), ylim=(-0.18, 1.0), xticks=[], yticks=[])
    _plain(axes)
    wanted = len({byte for at, size in zip(offset, events["bytes"], strict=True) for byte in range(at, at + size)})
    title = f"{op} of {buffer} at line {trace.line[rows[0]]}: {len(rows)} lanes want {wanted} different bytes, "
    title += f"{len(touched)} sector{'s' * (len(touched) > 1)} = {SECTOR * len(touched)} bytes move\n"
    title += "thick lines: where sectors begin and end; a gap: memory that nobody asked for"
    axes.set_title(title, fontsize=8, color=INK, loc="left")
    return axes.figure


def sectors(trace: Trace, buffer: str, *, op: str = "read", line: int | None = None) -> int:
    """How many 32-byte sectors all the warps of a run ask for: each instruction of a warp asks once for each it needs.

    The fewer, the better the lanes' addresses lie together. Caches may serve some of them again; that is not counted.
    """
    start = _start(trace, buffer)
    total = 0
    for rows in _instructions(trace, buffer, op, line).values():
        events = trace.events[rows]
        total += len(_touched(events["address"].astype(np.int64) - start, events["bytes"]))
    return total


def count_accesses(trace: Trace, in_bytes: bool = False) -> dict[str, dict[str, int]]:
    """How often each buffer was read, written and updated atomically, by all threads together; or how many bytes."""
    buffer, op = trace.buffer, trace.op
    amount = trace.events["bytes"] if in_bytes else np.ones(len(trace), dtype=np.int64)
    return {
        str(name): {str(kind): int(amount[(buffer == name) & (op == kind)].sum()) for kind in OPS}
        for name in np.unique(buffer)
    }


def _instructions(
    trace: Trace, buffer: str, op: str, line: int | None, block: int | None = None, warp: int | None = None
) -> dict[tuple, list[int]]:
    """The accesses made together: (first row, launch, block, warp, place in the code, which time) -> rows of the trace.

    A lane's n-th time at a place in the code goes with the other lanes' n-th time.
    """
    chosen = (trace.buffer == buffer) & (trace.op == op)
    if line is not None:
        chosen &= trace.line == line
    if block is not None:
        chosen &= (trace.block == block) & (trace.thread // WARP == warp)
    times: dict[tuple, int] = {}
    together: dict[tuple, list[int]] = {}
    for row in np.flatnonzero(chosen).tolist():
        event = trace.events[row]
        lane = (int(event["launch"]), int(event["block"]), int(event["thread"]), int(event["where"]))
        time = times[lane] = times.get(lane, -1) + 1
        together.setdefault((lane[0], lane[1], lane[2] // WARP, lane[3], time), []).append(row)
    return {(rows[0], *key): rows for key, rows in together.items()}


def _start(trace: Trace, buffer: str) -> int:
    """The buffer's first address; a shared array is taken to begin at its lowest address that was touched."""
    for begin, _, _, name in trace.buffers:
        if name == buffer:
            return begin
    addresses = trace.events["address"][trace.buffer == buffer]
    if len(addresses) == 0:
        raise ValueError(f"nobody touched {buffer}; the trace has seen {', '.join(np.unique(trace.buffer))}")
    return int(addresses.min())


def _touched(offset: np.ndarray, size: np.ndarray) -> list[int]:
    """The sectors, counted from the buffer's start, that hold these bytes."""
    return np.unique(np.concatenate([offset // SECTOR, (offset + size - 1) // SECTOR])).tolist()


def _places(touched: list[int]) -> dict[int, float]:
    """Where each sector stands: neighbours side by side, others with a gap between them."""
    gaps = np.cumsum(np.diff(touched, prepend=touched[0]) > 1) * 0.5
    return {sector: number + gap for number, (sector, gap) in enumerate(zip(touched, gaps.tolist(), strict=True))}


def _name_sectors(axes: Axes, touched: list[int], place: dict[int, float], room: float) -> None:
    """The byte at which each sector begins, as many as there is room for."""
    step = -(-len(touched) // 12)
    for sector in touched[::step]:
        axes.text(place[sector], -0.1, f"{SECTOR * sector}", fontsize=6.5, ha="left", va="center", color=INK)
    axes.text(1.02 * room, -0.1, "byte", fontsize=6.5, ha="right", va="center", color=INK)


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
