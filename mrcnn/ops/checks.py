"""What bad input gets: a sentence that names the argument, what was expected, and what came.

Shapes, dtypes and devices cost nothing to look at and are always checked. Values are looked at only where that is free
of waiting: on the CPU, outside `torch.compile`. Elsewhere the kernels themselves give such input a harmless, loud
meaning, told in each op's docstring.
"""

import math
from numbers import Real

import torch
from torch import Tensor

from .reference import accumulate_dtype

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_tensor(name: str, value, shape: str, ndim: int, last: int | None = None, dtypes=FLOATS) -> None:
    """`value` must be a dense tensor of `ndim` dimensions, the last of size `last`, of one of `dtypes`."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor {shape}; got {type(value).__name__}")
    if value.layout != torch.strided or value.is_nested:
        kind = "a nested one" if value.is_nested else str(value.layout).removeprefix("torch.")
        raise TypeError(f"{name} must be a dense tensor; got {kind}")
    if value.dim() != ndim or (last is not None and value.shape[-1] != last):
        raise ValueError(f"{name} must have shape {shape}; got {tuple(value.shape)}")
    if value.dtype not in dtypes:
        wanted = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(f"{name} must be of dtype {wanted}; got {str(value.dtype).removeprefix('torch.')}")


def check_number(name: str, value) -> float:
    """`value` as a float: infinity is a number, NaN is none."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number; got {value!r}")
    try:
        number = float(value)
    except OverflowError:  # a whole number that no float reaches
        number = math.nan
    if number != number:  # NaN alone; torch.compile follows this, and not math.isnan
        raise ValueError(f"{name} must be a number; got {value!r}")
    return number


def check_flag(name: str, value) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False; got {value!r}")


def check_same_device(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    if value.device != other.device:
        raise ValueError(f"{name} must be on the device of {other_name}, {other.device}; got {value.device}")


def check_same_length(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    if value.shape[0] != other.shape[0]:
        raise ValueError(f"{name} must have one entry per row of {other_name}, {len(other)}; got {len(value)}")


def values_visible(value: Tensor) -> bool:
    """Whether values can be looked at without a device-to-host copy or a break in a compiled graph."""
    return value.device.type == "cpu" and not torch.compiler.is_compiling()


def check_finite(name: str, value: Tensor) -> None:
    """Every number must be finite. One sum tells, in the usual case: NaN and infinity survive addition."""
    if not values_visible(value) or math.isfinite(value.detach().sum(dtype=accumulate_dtype(value.dtype)).item()):
        return
    bad = ~torch.isfinite(value.detach()).reshape(len(value), -1).all(dim=1)  # (len,)
    if bad.any():
        row = int(bad.nonzero()[0])
        raise ValueError(f"{name} must be finite; row {row} is {value[row].tolist()}")
