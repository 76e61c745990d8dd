"""What this machine's processor can do, asked of torch."""

import functools
from collections.abc import Callable

import torch


def vector_bits() -> int:
    """How wide the vectors are that torch computes with. (Its limit is ATEN_CPU_CAPABILITY in the environment.)"""
    return {"AVX2": 256, "AVX512": 512}.get(torch.backends.cpu.get_cpu_capability(), 128)


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether bfloat16 is faster than float32 here: the processor has instructions for it, and oneDNN may use them.

    oneDNN computes without them too, where there is AVX-512, but no faster; with less than AVX-512 torch takes ten
    times as long. (oneDNN's limit is ONEDNN_MAX_CPU_ISA in the environment.)
    """
    if not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    has = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


def autocast_dtype(device: str) -> torch.dtype | None:
    """What autocast has convolutions and matrix products computed in on "cpu" or "cuda"; None without autocast."""
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def without_slow_autocast(forward: Callable) -> Callable:
    """`forward`, computing in float32 under an autocast for the CPU that would make it slower, not faster."""

    @functools.wraps(forward)
    def call(*args, **options):
        asked = autocast_dtype("cpu")
        if asked is None or (asked == torch.bfloat16 and multiplies_bfloat16()):
            return forward(*args, **options)
        with torch.autocast("cpu", enabled=False):
            return forward(*args, **options)

    return call
