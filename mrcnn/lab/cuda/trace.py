"""What a traced run of a CUDA kernel saw: every load and store, and the faults among them."""

import bisect
import dataclasses
import functools
import re
import subprocess
import sys

import numpy as np
from torch import Tensor

# As in csrc/cuda_on_cpu/trace/trace.cpp.
EVENT = np.dtype(
    [
        ("address", "u8"),
        ("where", "u8"),
        ("block", "i8"),
        ("thread", "i4"),
        ("launch", "i4"),
        ("bytes", "u2"),
        ("op", "u1"),
        ("space", "u1"),
    ],
    align=True,
)
WAIT = np.dtype(
    [
        ("row", "u8"),
        ("block", "i8"),
        ("launch", "i4"),
        ("thread", "i4"),
        ("line", "i4"),
        ("lanes", "u4"),
        ("in_warp", "?"),
    ],
    align=True,
)
FINDING = np.dtype([("event", EVENT), ("other", EVENT), ("fault", "u1"), ("kernel", "S95")], align=True)
OPS = np.array(["read", "write", "atomic"])
BUFFER, STATIC_SHARED, DYNAMIC_SHARED = 0, 1, 2
BOUNDS, RACE, UNWRITTEN = 0, 1, 2
NEAR = 1 << 15  # bytes: half of what lies between two buffers


class KernelFault(RuntimeError):
    """A kernel did what it must not: the message names kernel, block, thread and, where it can be told, the line."""


@dataclasses.dataclass
class Trace:
    """Every load and store of a run, in the order in which they happened, and the faults that were found.

    Arrays, one entry per access: `launch` (which of a function's launches), `block` and `thread` (numbers, counting
    along x, then y, then z), `op` ("read", "write", "atomic"), `buffer` (the parameter's name, or that of the shared
    array), `index` and `offset` (in elements and bytes from the buffer's start), `line` (of the source). `value(row)`
    is what one moved.

    `waits` (WAIT) holds where threads stop for each other. With `lanes` 0 the thread begins to wait at `line`, after
    `row` accesses of the run; otherwise all have come and go on: the whole block (`thread` is -1), or in a warp
    function the lanes of the mask `lanes` (`thread` is the first of its warp).
    """

    events: np.ndarray  # EVENT
    values: bytes  # of each event its bytes, one after the other
    waits: np.ndarray  # WAIT
    raw_findings: np.ndarray  # FINDING
    problem: str | None  # what stopped the run, or None
    buffers: list[tuple[int, int, int, str]]  # first address, bytes, bytes per element, name
    library: str
    base: int  # where it lies in memory
    dynamic_shared: int  # and the dynamic shared memory
    source: str  # the file's name, for the compiler
    text: str  # what is in it; a notebook cell's has an empty first line, where the magic stands
    kernel: str  # what was run: a kernel, or a function that launches some
    before: list[Tensor]  # the buffers, as they were before the run
    units: dict[str, int]  # of each parameter that is a pointer, the bytes of what it points to

    def __len__(self) -> int:
        return len(self.events)

    @property
    def launch(self) -> np.ndarray:
        return self.events["launch"]

    @property
    def block(self) -> np.ndarray:
        return self.events["block"]

    @property
    def thread(self) -> np.ndarray:
        return self.events["thread"]

    @property
    def op(self) -> np.ndarray:
        return OPS[self.events["op"]]

    @functools.cached_property
    def _places(self) -> list[tuple[str, int, int]]:
        keys = self.events[["address", "bytes", "space"]]
        places = {key: self._place(*key) for key in np.unique(keys).tolist()}
        return [places[key] for key in keys.tolist()]

    @property
    def buffer(self) -> np.ndarray:
        return np.array([name for name, _, _ in self._places])

    @property
    def offset(self) -> np.ndarray:
        """In bytes from the buffer's start."""
        return np.array([offset for _, offset, _ in self._places], dtype=np.int64)

    @property
    def index(self) -> np.ndarray:
        return np.array([offset // item for _, offset, item in self._places], dtype=np.int64)

    @property
    def line(self) -> np.ndarray:
        unique, back = np.unique(self.events["where"], return_inverse=True)
        return np.array([self._lines[int(where)] for where in unique], dtype=np.int64)[back]

    def value(self, row: int, dtype: str | np.dtype | None = None) -> np.ndarray:
        """What an access read or wrote, of an atomic what it left: its bytes, or as numbers of a NumPy type."""
        begin = int(self._starts[row])
        data = np.frombuffer(self.values[begin : begin + int(self.events["bytes"][row])], np.uint8)
        return data if dtype is None else data.view(dtype)

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum(self.events["bytes"], dtype=np.int64) - self.events["bytes"]

    def met_between(self, before: int, row: int) -> bool:
        """Whether the threads of two accesses, of one block, met between them: then the one surely came first."""
        begin, end = np.searchsorted(self._meetings["row"], np.array([before, row], np.uint64), "right")
        return any(self._takes_part(wait, self.events[[before, row]]).all() for wait in self._meetings[begin:end])

    @functools.cached_property
    def _meetings(self) -> np.ndarray:
        return self.waits[self.waits["lanes"] != 0]

    @staticmethod
    def _takes_part(wait: np.void, events: np.ndarray) -> np.ndarray:
        """Of each access, whether its thread is one of those that met."""
        here = (events["launch"] == wait["launch"]) & (events["block"] == wait["block"])
        if not wait["in_warp"]:
            return here
        lane = events["thread"].astype(np.int64) - wait["thread"]
        return here & (lane >= 0) & (lane < 32) & (np.int64(wait["lanes"]) >> lane.clip(0, 31) & 1 == 1)

    @functools.cached_property
    def findings(self) -> list[str]:
        """One sentence per fault; the same line's are told once."""
        sentences = [self._sentence(finding) for finding in self.raw_findings]
        if self.problem and not (self.raw_findings["fault"] == BOUNDS).any():
            sentences.append(self.problem)
        return sentences

    def check(self) -> None:
        """Raise KernelFault if anything was found."""
        if self.findings:
            raise KernelFault("\n".join(self.findings))

    def place(self, event: np.void) -> tuple[str, int, int]:
        """Of an access: the buffer, the bytes from its start, and the bytes of an element."""
        return self._place(int(event["address"]), int(event["bytes"]), int(event["space"]))

    # ---- addresses -----------------------------------------------------------------------------------------------

    def _place(self, address: int, size: int, space: int) -> tuple[str, int, int]:
        """The buffer at an address, the bytes from its start, and the bytes of an element."""
        if space == DYNAMIC_SHARED:
            return "dynamic shared memory", address - self.dynamic_shared, size
        if space == STATIC_SHARED:
            arrays = shared_arrays(self.library)
            begin, _, name = arrays[bisect.bisect_right(arrays, (address - self.base, sys.maxsize)) - 1]
            return name, address - self.base - begin, size
        for begin, length, item, name in self.buffers:
            if begin <= address < begin + length:
                return name, address - begin, item
        # Outside all of them: told by its distance from the nearest, if one is near.
        near = [*self.buffers, *self._shared(size), (self.dynamic_shared, 0, size, "dynamic shared memory")]
        begin, length, item, name = min(near, key=lambda b: max(b[0] - address, address - b[0] - b[1]))
        if max(begin - address, address - begin - length) > NEAR:
            return "memory", address, 1
        return name, address - begin, item

    def _shared(self, item: int) -> list[tuple[int, int, int, str]]:
        """The shared arrays as buffers of elements of `item` bytes."""
        return [(self.base + offset, size, item, name) for offset, size, name in shared_arrays(self.library)]

    @functools.cached_property
    def _lines(self) -> dict[int, int]:
        """The source line of each return address; 0 where it cannot be told."""
        seen = [self.events["where"], self.raw_findings["event"]["where"], self.raw_findings["other"]["where"]]
        wheres = [int(where) for where in np.unique(np.concatenate(seen))]
        asked = "\n".join(hex(where - 1 - self.base) for where in wheres)  # the call lies before its return address
        told = subprocess.run(
            ["addr2line", "-i", "-a", "-e", self.library], input=asked, capture_output=True, text=True
        )
        lines: dict[int, int] = {}
        for chunk, where in zip(re.split(r"^0x[0-9a-f]+\n", told.stdout, flags=re.MULTILINE)[1:], wheres, strict=False):
            # With inlining several lines are told, the innermost first: the first that is in the source itself.
            own = [line for line in chunk.splitlines() if self.source in line] or chunk.splitlines()
            number = re.search(r":(\d+)", own[0])
            lines[where] = int(number[1]) if number else 0
        return {where: lines.get(where, 0) for where in wheres}

    def _sentence(self, finding: np.void) -> str:
        event, other = finding["event"], finding["other"]
        kernel = finding["kernel"].decode()
        name, offset, item = self._place(int(event["address"]), int(event["bytes"]), int(event["space"]))
        index = offset // item
        who = f"{kernel}, block {event['block']}, thread {event['thread']}, line {self._lines[int(event['where'])]}"
        verb = {"read": "reads", "write": "writes", "atomic": "adds to"}[OPS[event["op"]]]
        if finding["fault"] == BOUNDS:
            return f"{who}: {verb} {self._beyond(name, index, int(event['address']), item)}"
        if finding["fault"] == UNWRITTEN:
            return f"{who}: reads shared {name}[{index}], which no thread of the block has written"
        return (
            f"{who}: {verb} {name}[{index}], which block {other['block']}, thread {other['thread']} uses at line "
            f"{self._lines[int(other['where'])]} with no barrier between them: a race"
        )

    def _beyond(self, name: str, index: int, address: int, item: int) -> str:
        """What was asked for and is not there, counted as the source counts: in boxes, if it points to boxes."""
        for begin, length, _, buffer in [*self.buffers, *self._shared(item)]:
            if buffer == name:
                unit = self.units.get(name, item)
                return f"{name}[{(address - begin) // unit}], out of bounds: it has {length // unit} elements"
        return f"{name}[{index}], out of bounds"


@functools.cache
def shared_arrays(library: str) -> list[tuple[int, int, str]]:
    """The shared arrays of a library's kernels: offset, bytes, and the name without that of the function around it."""
    listed = subprocess.run(["nm", "-S", "-C", library], capture_output=True, text=True).stdout
    ours = r"cuda_on_cpu::|\(anonymous|std::|guard |DW\.|(?:thread|block)Idx|(?:grid|block)Dim|completed"
    found = re.findall(rf"^(\w+) (\w+) [bBuVdD] (?!{ours})(.+)$", listed, re.MULTILINE)
    return sorted((int(offset, 16), int(size, 16), name.split("::")[-1]) for offset, size, name in found)
