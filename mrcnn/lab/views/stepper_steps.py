"""The steps of a stepper: each access of a traced run, each wait, and with whom an access races."""

import re
from collections.abc import Iterator

import numpy as np

from ..cuda.trace import RACE, Trace
from .accesses import collide
from .stepper_memory import Memory

KINDS = {"read": "R", "write": "W", "atomic": "A"}
LONG = 60  # lines: of a longer function only those around what was done in it are shown


class Steps:
    """Made one after the other, from what the threads of a block did; stepper.js says what a step looks like."""

    def __init__(self, trace: Trace, threads: list[int], memory: dict[str, Memory]):
        self.trace, self.threads, self.memory = trace, threads, memory
        self.made: list[list] = []
        self.thread, self.op, self.line, self.buffer = trace.thread, trace.op, trace.line, trace.buffer
        self.offset, self.size = trace.offset, trace.events["bytes"]
        self._others: dict[
            tuple[int, int], str
        ] = {}  # what threads that are not shown have changed since the last step
        self._races = bool((trace.raw_findings["fault"] == RACE).any())
        self._written: set[tuple[int, int]] = set()  # buffer, cell
        self._past: dict[tuple[int, int], list[tuple[int, int]]] = {}  # and its accesses: row, step

    def add_all(self, rows: np.ndarray, waits: np.ndarray) -> None:
        """rows of the trace and waits, of one block, each in their order."""
        coming = list(waits)
        for group in self._together(rows.tolist()):
            while coming and coming[0]["row"] <= min(group):
                self._add_wait(coming.pop(0))
            self._add_access(group)
        for wait in coming:
            self._add_wait(wait)

    def _together(self, rows: list[int]) -> Iterator[list[int]]:
        """The accesses as the reader of the source knows them. The compiler moves a struct in pieces, which become one
        step; and of a copy it tells the write first."""
        i = 0
        while i < len(rows):
            group = [rows[i]]
            while i + len(group) < len(rows) and self._goes_on(group[-1], rows[i + len(group)]):
                group.append(rows[i + len(group)])
            i += len(group)
            if i < len(rows) and self._copies(group[0], rows[i]):
                yield [rows[i]]
                i += 1
            yield group

    def _goes_on(self, row: int, after: int) -> bool:
        where = self.trace.events["where"]
        return (
            self._alike(row, after)
            and self.memory[self.buffer[row]].pieces
            and self.buffer[row] == self.buffer[after]
            and self.op[row] == self.op[after] != "atomic"
            and where[row] < where[after]  # not a loop, which comes to the same place again
            and self.offset[row] + self.size[row] == self.offset[after]
        )

    def _copies(self, row: int, after: int) -> bool:
        wide = self.size[row] == self.size[after] > self.memory[self.buffer[row]].dtype.itemsize
        return self._alike(row, after) and wide and (self.op[row], self.op[after]) == ("write", "read")

    def _alike(self, row: int, after: int) -> bool:
        return self.thread[row] == self.thread[after] and self.line[row] == self.line[after]

    def _add_access(self, rows: list[int]) -> None:
        row, memory = rows[0], self.memory[self.buffer[rows[0]]]
        cells, texts = memory.touched(rows), memory.texts(b"".join(self.trace.value(row).tobytes() for row in rows))
        if self.op[row] != "read":
            self._written |= {(memory.number, cell) for cell in cells}
        if self.thread[row] not in self.threads:
            return self._add_others(row, memory, cells, texts)
        race = self._race(row, memory.number, cells, len(self.made) + 1)
        if memory.shared and self.op[row] == "read":  # what lies where nobody has written is chance
            texts = [
                text if (memory.number, cell) in self._written else "?"
                for cell, text in zip(cells, texts, strict=False)
            ]
        kind = KINDS[self.op[row]]
        self.made.append([kind, int(self.thread[row]), int(self.line[row]), memory.number, cells, texts, race])

    def _add_others(self, row: int, memory: Memory, cells: list[int], texts: list[str]) -> None:
        """What threads do that are not shown is one step, with the cells that it changes."""
        if not self.made or self.made[-1][0] != "O":
            self.made.append(["O", -1, 0, 0, [], [], None])
            self._others = {}
        self._race(row, memory.number, cells, len(self.made))
        if self.op[row] != "read":
            self._others |= {(memory.number, cell): text for cell, text in zip(cells, texts, strict=False)}
            self.made[-1][5] = [[*key, text] for key, text in self._others.items()]

    def _add_wait(self, wait: np.void) -> None:
        thread, line, in_warp = int(wait["thread"]), int(wait["line"]), bool(wait["in_warp"])
        if wait["lanes"] == 0:
            if thread in self.threads:
                self.made.append(["V" if in_warp else "B", thread, line, 0, [], [], None])
            return
        met = [each for each in self.threads if 0 <= each - thread < 32 and int(wait["lanes"]) >> each - thread & 1]
        if met or not in_warp:
            self.made.append(["N" if in_warp else "M", -1, line, 0, met if in_warp else [], [], None])

    def _race(self, row: int, buffer: int, cells: list[int], number: int) -> list | None:
        """The latest access, of a thread of the block, that could as well have come after step `number`, if any."""
        if not self._races:
            return None
        race = None
        for cell in cells:
            past = self._past.setdefault((buffer, cell), [])
            found = next((seen for seen in reversed(past) if collide(self.trace, seen[0], row)), None)
            if found and race is None:
                other, step = found
                race = [int(self.thread[other]), step, KINDS[self.op[other]], int(self.line[other]), cell]
            past.append((row, number))
        return race


def lines_to_show(text: str, touched: list[int]) -> list[list]:
    """The lines of the functions that were run: [number, text]; number 0 where some are left out."""
    source = text.split("\n")
    wanted: set[int] = set()
    for line in touched:
        begin, end = next(((b, e) for b, e in _functions(source) if b <= line <= e), (line - 3, line + 3))
        if end - begin >= LONG:
            begin, end = line - 3, line + 3
        wanted |= set(range(max(begin, 1), min(end, len(source)) + 1))
    numbers = sorted(wanted)
    indent = min((len(s) - len(s.lstrip()) for s in (source[n - 1] for n in numbers) if s.strip()), default=0)
    shown: list[list] = []
    for before, number in zip([None, *numbers], numbers, strict=False):
        if before is not None and number > before + 1:
            shown.append([0, ""])
        shown.append([number, source[number - 1][indent:]])
    return shown


def _functions(source: list[str]) -> Iterator[tuple[int, int]]:
    """First and last line of each pair of outermost braces; the first line is that of what the braces belong to."""
    depth, begin = 0, 1
    for number, line in enumerate(source, 1):
        code = re.sub(r"//.*|\"[^\"]*\"", "", line)
        if depth == 0 and (not code.strip() or code.startswith("#")):
            begin = number + 1
        before, depth = depth, depth + code.count("{") - code.count("}")
        if depth == 0 and (before or "{" in code):
            yield begin, number
            begin = number + 1
        elif depth == 0 and code.rstrip().endswith(";"):
            begin = number + 1
