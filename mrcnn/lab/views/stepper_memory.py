"""The memory that a stepper shows: buffers and shared arrays as cells, one number each, with their values as text."""

import re

import numpy as np
import torch

from ..cuda.cells import DTYPES
from ..cuda.trace import BUFFER, Trace

WHOLE = 64  # cells: a buffer of no more is shown whole, of a larger one what the shown threads touched
DYNAMIC = "dynamic shared memory"  # as the trace calls it
WIDEST = 16  # columns of a matrix that is shown as one
BY_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.float32, 8: torch.int64}


class Memory:
    """A buffer or shared array. `cells`: the numbers of those to show; `pieces`: its elements are structs."""

    def __init__(self, trace: Trace, number: int, name: str, rows: np.ndarray):
        """rows: all accesses to it."""
        self.number, self.name = number, name
        self.shared = bool(trace.events["space"][rows[0]] != BUFFER)
        names = [buffer for *_, buffer in trace.buffers]
        before = trace.before[names.index(name)] if name in names else None
        kind = _declared(trace, name)
        size = int(trace.events["bytes"][rows].min())
        self.pieces = kind not in DTYPES
        self.dtype = before.dtype if before is not None else _number_in(kind, trace, size)
        self.columns = before.shape[-1] if before is not None and before.dim() > 1 and before.is_contiguous() else 0
        if self.columns > WIDEST:
            self.columns = 0
        self.flat = None if before is None else before.as_strided((before.numel(),), (1,))
        self._offset, self._bytes = trace.offset, trace.events["bytes"]
        self.cells = self._to_show(rows)

    def _to_show(self, rows: np.ndarray) -> list[int]:
        touched = sorted({cell for row in rows.tolist() for cell in self.touched([row])})
        whole = len(self.flat) if self.flat is not None else touched[-1] + 1
        return list(range(whole)) if whole <= WHOLE else touched

    def keep(self, rows: np.ndarray) -> None:
        """Of a large one, show only what these accesses touched."""
        if len(self.cells) > WHOLE:
            self.cells = self._to_show(rows)

    def touched(self, rows: list[int]) -> list[int]:
        """The cells of accesses that lie side by side."""
        begin, end = int(self._offset[rows[0]]), int(self._offset[rows[-1]]) + int(self._bytes[rows[-1]])
        return list(range(begin // self.dtype.itemsize, max(begin, end - 1) // self.dtype.itemsize + 1))

    def texts(self, data: bytes) -> list[str]:
        """The numbers in these bytes."""
        dtype = self.dtype if len(data) % self.dtype.itemsize == 0 else torch.uint8
        return [_short(value) for value in torch.frombuffer(bytearray(data), dtype=dtype).tolist()]

    def as_data(self) -> dict:
        start = (
            ["?"] * len(self.cells) if self.flat is None else [_short(self.flat[cell].item()) for cell in self.cells]
        )
        kind = "shared, one of each block" if self.shared else "global"
        columns = self.columns if len(self.cells) == self.cells[-1] + 1 else 0
        return {"name": self.name, "kind": kind, "cells": self.cells, "columns": columns, "start": start}


def _short(value: float | bool) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).lower() if abs(value) < 10**7 else hex(value)


def _declared(trace: Trace, name: str) -> str:
    """The type of a parameter or shared array in the source, without `const` and `*`; "" if it cannot be told."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", trace.text, flags=re.DOTALL)
    text = text[max(text.find(trace.kernel.split("<")[0]), 0) :] + text  # the kernel's own comes first
    if name == DYNAMIC:  # its name is in the source alone
        found = re.findall(r"DYNAMIC_SHARED\(([^,]*),|extern\s+__shared__\s+([^;\[]*)\b\w+\s*\[", text)
    else:
        type_ = r"(?:^|[(,;{}])\s*((?:[A-Za-z_][\w:<>]*[\s*&]+)+)"
        found = re.findall(rf"{type_}\b{re.escape(name)}\s*[\[,);=]()", text, re.MULTILINE)
    for each in found:
        words = re.sub(r"\b(const|__restrict__|__shared__|static|volatile|return)\b|[*&]", " ", "".join(each)).split()
        if words:
            return " ".join(words)
    return ""


def _number_in(kind: str, trace: Trace, size: int) -> torch.dtype:
    """The type of the numbers in a declared type: float of Box<float> and of float4, the first of a struct's."""
    if kind in DTYPES:
        return DTYPES[kind]
    struct = re.search(rf"struct\s+{re.escape(kind)}\s*\{{\s*(\w+)", trace.text) if kind else None
    for word in (struct[1] if struct else "", *re.findall(r"[A-Za-z_]\w*", kind)):
        if word.rstrip("0123456789") in DTYPES:
            return DTYPES[word.rstrip("0123456789")]
    # A template's parameter, say. The numbers come most likely from a buffer whose elements are as large.
    alike = [tensor.dtype for tensor in trace.before if tensor.dtype.itemsize == size]
    return alike[0] if alike else BY_SIZE.get(size, torch.uint8)
