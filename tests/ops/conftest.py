"""Every op test runs over every implementation there is here, through the one fixture below."""

import contextlib

import pytest
import torch

from mrcnn import ops
from mrcnn.ops import backend

IMPLEMENTATIONS = {  # name: backend, device
    "reference": ("reference", "cpu"),
    "native": ("native", "cpu"),
    "emulated": ("emulated", "cpu"),
    "cuda": ("native", "cuda"),
}


class Implementation:
    """What a test needs to know of the implementation it runs on: its device, its torch.ops, and how to choose it."""

    def __init__(self, name: str):
        self.name = name
        self.backend, self.device = IMPLEMENTATIONS[name]

    def missing(self) -> str | None:
        if not backend.available(self.backend):
            return f"the {self.backend} ops are not built"
        if self.device == "cuda" and not torch.cuda.is_available():
            return "there is no GPU"
        if self.device == "cuda" and not backend.has_kernels("native", "CUDA"):
            return "built without CUDA kernels"
        return None

    def chosen(self) -> contextlib.AbstractContextManager:
        return ops.use_backend(self.backend)


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request):
    """One implementation, chosen for the whole test; `.device` is where its tensors belong."""
    chosen = Implementation(request.param)
    if missing := chosen.missing():
        pytest.skip(missing)
    with chosen.chosen():
        yield chosen


@pytest.fixture(params=[name for name in IMPLEMENTATIONS if name != "reference"])
def compiled(request):
    """One implementation that is registered in torch.ops; `.ops` holds its registered functions."""
    chosen = Implementation(request.param)
    if missing := chosen.missing():
        pytest.skip(missing)
    with chosen.chosen():
        chosen.ops = backend.compiled_ops()
        yield chosen
