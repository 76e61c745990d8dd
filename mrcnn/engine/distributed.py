"""One process or many: the few things the engine asks of torch.distributed. With one process each is the identity.

``torchrun --nproc-per-node 8 -m mrcnn train …`` starts one process per GPU and tells each its place through the
environment variables RANK, WORLD_SIZE and LOCAL_RANK.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist


def rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the process that writes files and draws the progress bar."""
    return rank() == 0


def chosen_device(device: str | None) -> torch.device:
    """The device of this name; None: this process's GPU, if there is one. Raises ValueError where it does not exist."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    own = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    if device is None:
        device = own if gpus else "cpu"
    try:
        chosen = torch.device(own if device == "cuda" else device)
    except RuntimeError:
        chosen = torch.device("meta")  # no name of a device at all
    if chosen.type not in ("cpu", "cuda"):
        raise ValueError(f'device must be "cpu", "cuda" or "cuda:" and a number, got {device!r}')
    if chosen.type == "cuda" and chosen.index >= gpus:
        raise ValueError(
            f"device {device!r} does not exist: torch {torch.__version__} finds {gpus} GPUs on this machine"
        )
    return chosen


@contextlib.contextmanager
def processes(device: str | None = None) -> Iterator[torch.device]:
    """Joins the processes that torchrun started, if it did; gives the device that this one should use."""
    chosen = chosen_device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield chosen
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield chosen
    finally:
        # What a training leaves in cycles still holds the group, and threads of it that outlive Python end the process
        # with an abort, on a busy machine now and then.
        gc.collect()
        dist.destroy_process_group()


def mean(values: torch.Tensor) -> torch.Tensor:
    """The mean of a small tensor over the processes: the same bits in each of them."""
    if world_size() == 1:
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values / world_size()


def share_buffers(module: torch.nn.Module) -> None:
    """Gives every process the main one's buffers: batch norm's statistics, which follow each process's own pictures."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def gather(value: Any) -> list[Any]:
    """What every process passed in, by rank, in every process. For picklable values, not for large tensors."""
    if world_size() == 1:
        return [value]
    gathered: list[Any] = [None] * world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def from_main(value: Any) -> Any:
    """What the main process passed in, in every process."""
    if world_size() == 1:
        return value
    holder = [value]
    dist.broadcast_object_list(holder, src=0)
    return holder[0]
