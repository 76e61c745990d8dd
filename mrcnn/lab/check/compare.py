"""Whether two results are the same, and in what they differ: tensors, numbers, and lists, tuples and dicts of them."""

from numbers import Real
from typing import Any

import torch
from torch import Tensor

EQUAL = "they are equal"

__all__ = ["Wrong", "close", "difference", "first_difference"]


class Wrong(Exception):
    """The answer is wrong; the message says how."""


def close(a: Any, b: Any, tolerance: float = 1e-4) -> bool:
    """Whether two results have one form and, but for rounding, the same values, of whatever type. NaN equals NaN."""
    return difference(a, b, tolerance) is None


def difference(got: Any, want: Any, tolerance: float = 1e-4) -> str | None:
    """A sentence about the first thing in which a result is not the one that is wanted; None if there is none."""
    if isinstance(want, dict):
        return _entries_difference(got, want, tolerance)
    if isinstance(want, tuple | list) and not _numbers(want):
        return _parts_difference(got, want, tolerance)
    if isinstance(want, Tensor) and want.dim():
        if not isinstance(got, Tensor):
            return f"expected a tensor of shape {tuple(want.shape)}, got {_kind(got)}"
        if got.shape != want.shape:
            return f"expected shape {tuple(want.shape)}, got {tuple(got.shape)}"
    elif isinstance(want, tuple | list):
        if not isinstance(got, tuple | list) or len(got) != len(want):
            advice = "; `.tolist()` makes a list of it" if hasattr(got, "tolist") else ""
            return f"expected {len(want)} numbers, got {_kind(got)}{advice}"
        got = [each.item() if isinstance(each, Tensor) and not each.dim() else each for each in got]
        if not _numbers(got):
            first = next(i for i, each in enumerate(got) if not _numbers([each]))
            advice = "; `.item()` is its number" if isinstance(got[first], Tensor) and got[first].numel() == 1 else ""
            return f"expected {len(want)} numbers, but [{first}] is {_kind(got[first])}{advice}"
    elif not isinstance(got, Real | Tensor) or (isinstance(got, Tensor) and got.numel() != 1):
        return f"expected a number, got {_kind(got)}"
    if isinstance(want, int) and isinstance(got, int):  # of any size
        return None if got == want else f"it is {got}, expected {want}"
    ours, theirs = _tensor(got), _tensor(want)
    told = first_difference(ours, theirs.view_as(ours), tolerance)
    return None if told == EQUAL else told


def _entries_difference(got: Any, want: dict, tolerance: float) -> str | None:
    if not isinstance(got, dict) or got.keys() != want.keys():
        has = f"one of {', '.join(map(str, got))}" if isinstance(got, dict) else _kind(got)
        return f"expected a dict of {', '.join(map(str, want))}, got {has}"
    told = ((name, difference(got[name], want[name], tolerance)) for name in want)
    return next((f"{name}: {found}" for name, found in told if found), None)


def _parts_difference(got: Any, want: tuple | list, tolerance: float) -> str | None:
    if not isinstance(got, tuple | list) or len(got) != len(want):
        return f"expected {len(want)} results, got {_kind(got)}"
    for i, (ours, theirs) in enumerate(zip(got, want, strict=True)):
        if found := difference(ours, theirs, tolerance):
            if len(want) == 2 and close(got[1], want[0], tolerance) and close(got[0], want[1], tolerance):
                return "the two results are swapped"
            return found if len(want) == 1 else f"result number {i + 1} of {len(want)}: {found}"
    return None


def first_difference(got: Tensor, want: Tensor, tolerance: float = 1e-4) -> str:
    """A sentence about the first cell in which two tensors of one shape differ, and in how many they do."""
    a, b = got.detach().cpu(), want.detach().cpu()
    if a.is_floating_point() or b.is_floating_point():
        differ = ~torch.isclose(a.double(), b.double(), rtol=tolerance, atol=tolerance, equal_nan=True)
    else:
        differ = a.long() != b.long()
    cells = differ.nonzero()
    if not len(cells):
        return EQUAL
    if not got.dim():
        return f"it is {_short(got)}, expected {_short(want)}"
    first = tuple(cells[0].tolist())
    at = f"[{', '.join(map(str, first))}]"
    both = f"is {_short(got[first])}, expected {_short(want[first])}"
    return f"{len(cells)} of {differ.numel()} values differ; the first, at {at}, {both}"


def _tensor(value: Any) -> Tensor:
    """Numbers of Python and NumPy as they are: float32 would round both sides, or one of them."""
    if isinstance(value, Tensor):
        return value
    made = torch.as_tensor(value)
    return torch.as_tensor(value, dtype=torch.float64) if made.is_floating_point() else made


def _numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, Real) for each in value)


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else type(value).__name__


def _short(value: Tensor) -> str:
    return f"{value.item():.5g}" if value.is_floating_point() else f"{int(value)}"
