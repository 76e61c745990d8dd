"""What a trace says in numbers: which cells were touched, how many sectors were moved, where two threads collide."""

import numpy as np

from ..cuda.trace import BUFFER, OPS, RACE, Trace

__all__ = [
    "collide", "count_accesses", "instructions", "races", "sectors", "spans", "start_of", "touched_cells",
    "touched_sectors",
]  # fmt: skip

SECTOR = 32  # bytes: the smallest piece of memory that a GPU fetches
WARP = 32


def spans(trace: Trace) -> np.ndarray:
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


def touched_cells(trace: Trace, buffer: str, block: int | None = None) -> dict[int, list[int]]:
    """The cells of a buffer that were touched: cell -> rows of the trace."""
    chosen = trace.buffer == buffer
    if block is not None:
        chosen &= trace.block == block
    span = spans(trace)
    cells: dict[int, list[int]] = {}
    for row in np.flatnonzero(chosen).tolist():
        for cell in range(*span[row].tolist()):
            cells.setdefault(cell, []).append(row)
    return cells


def count_accesses(trace: Trace, in_bytes: bool = False) -> dict[str, dict[str, int]]:
    """How often each buffer was read, written and updated atomically, by all threads together; or how many bytes."""
    buffer, op = trace.buffer, trace.op
    amount = trace.events["bytes"] if in_bytes else np.ones(len(trace), dtype=np.int64)
    return {
        str(name): {str(kind): int(amount[(buffer == name) & (op == kind)].sum()) for kind in OPS}
        for name in np.unique(buffer)
    }


def sectors(trace: Trace, buffer: str, *, op: str = "read", line: int | None = None) -> int:
    """How many 32-byte sectors all the warps of a run ask for: each instruction of a warp asks once for each it needs.

    The fewer, the better the lanes' addresses lie together. Caches may serve some of them again; that is not counted.
    """
    start = start_of(trace, buffer)
    total = 0
    for rows in instructions(trace, buffer, op, line).values():
        events = trace.events[rows]
        total += len(touched_sectors(events["address"].astype(np.int64) - start, events["bytes"]))
    return total


def instructions(
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


def start_of(trace: Trace, buffer: str) -> int:
    """The buffer's first address; a shared array is taken to begin at its lowest address that was touched."""
    for begin, _, _, name in trace.buffers:
        if name == buffer:
            return begin
    addresses = trace.events["address"][trace.buffer == buffer]
    if len(addresses) == 0:
        raise ValueError(f"nobody touched {buffer}; the trace has seen {', '.join(np.unique(trace.buffer))}")
    return int(addresses.min())


def touched_sectors(offset: np.ndarray, size: np.ndarray) -> list[int]:
    """The sectors, counted from the buffer's start, that hold these bytes."""
    return np.unique(np.concatenate([offset // SECTOR, (offset + size - 1) // SECTOR])).tolist()


def races(trace: Trace) -> list[tuple[str, int, int, int]]:
    """Where two collide: (buffer, cell, row of the trace, row of the trace), the first such pair of every cell.

    A finding names one cell and the two places in the code. Two threads that meet elsewhere from the same two places,
    with no wait between them, collide just as well.
    """
    found: dict[tuple[str, int], tuple[int, int]] = {}
    buffer, span = trace.buffer, spans(trace)
    for finding in trace.raw_findings[trace.raw_findings["fault"] == RACE]:
        places = {int(finding["event"]["where"]), int(finding["other"]["where"])}
        seen: dict[tuple[str, int], list[int]] = {}
        for row in np.flatnonzero(np.isin(trace.events["where"], list(places))).tolist():
            for cell in range(*span[row].tolist()):
                key = (str(buffer[row]), cell)
                for before in seen.get(key, []):
                    both = {int(trace.events["where"][before]), int(trace.events["where"][row])} == places
                    if key not in found and both and collide(trace, before, row):
                        found[key] = (before, row)
                seen.setdefault(key, []).append(row)
    return [(name, cell, *rows) for (name, cell), rows in sorted(found.items(), key=lambda item: item[1])]


def collide(trace: Trace, before: int, row: int) -> bool:
    """Whether two accesses to one cell are a race: by two threads, with no wait between them, one of them writing."""
    past, here = trace.events[before], trace.events[row]
    if past["launch"] != here["launch"] or (past["op"] == here["op"] and OPS[here["op"]] != "write"):
        return False
    if past["block"] != here["block"]:
        return here["space"] == BUFFER  # shared memory is each block's own
    return past["thread"] != here["thread"] and not trace.met_between(before, row)
