"""The same numbers in differently laid out memory."""

import torch
from torch import Tensor

LAYOUTS = ("contiguous", "channels_last", "window", "channels_last window", "every other", "turned")


def lay_out(values: Tensor, layout: str) -> Tensor:
    """A tensor equal to `values` (N, C, H, W) whose strides are those of `layout`."""
    n, c, h, w = values.shape
    if layout == "contiguous":
        return values.contiguous()
    if layout == "channels_last":
        return values.contiguous(memory_format=torch.channels_last)
    if layout == "turned":  # height and width exchanged in memory
        return values.transpose(2, 3).contiguous().transpose(2, 3)
    if layout == "every other":  # a gap after each number
        room = values.new_full((n, c, h, w, 2), torch.nan)
        view = room[..., 0]
    else:  # a window into a larger map, whose border is NaN: reading outside shows
        larger = values.new_full((n + 1, c + 2, h + 3, w + 2), torch.nan)
        if layout == "channels_last window":
            larger = larger.contiguous(memory_format=torch.channels_last)
        view = larger[1:, 1:-1, 2:-1, 1:-1]
    view.copy_(values)
    return view
