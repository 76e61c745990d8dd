"""Which of an op's implementations runs, and loading the compiled ones.

`native` is the compiled library (CPU kernels, and CUDA kernels where it was built with them), `reference` the plain
PyTorch of `reference.py`, and `emulated` the CUDA kernels compiled for, and run on, the CPU.
"""

import contextlib
import json
import os
from pathlib import Path

import torch
from torch.autograd import forward_ad

from mrcnn.processor import vector_bits

BACKENDS = ("native", "reference", "emulated")
_PACKAGE = Path(__file__).resolve().parent.parent
_LIBRARIES = {"native": "_native", "emulated": "_emulated"}  # file names in mrcnn/, without their endings
_NAMESPACES = {"native": "mrcnn", "emulated": "mrcnn_emulated"}  # torch.ops.<namespace>


def _load(backend: str) -> str | None:
    """Load a backend's library, which registers its ops; returns what went wrong, or None."""
    library = _LIBRARIES[backend]
    files = sorted(_PACKAGE.glob(f"{library}.*so")) + sorted(_PACKAGE.glob(f"{library}.*pyd"))
    if not files:
        return f"{_PACKAGE / library}.abi3.so is not there"
    try:
        torch.ops.load_library(files[0])
    except OSError as error:
        return f"{files[0]} cannot be loaded: {error}"
    return None if has_kernels(backend, "CPU") else f"{files[0]} has no kernels in it"


def has_kernels(backend: str, device: str) -> bool:
    """Whether the compiled ops of a backend run on "CPU" or "CUDA" tensors."""
    op = f"{_NAMESPACES[backend]}::nms"
    return torch._C._dispatch_has_kernel(op) and torch._C._dispatch_has_kernel_for_dispatch_key(op, device)


_problems = {backend: _load(backend) for backend in _LIBRARIES}


def _limit_vectors() -> int:
    """Let the native CPU kernels use the vectors that torch uses; returns how many bits they have."""
    return torch.ops.mrcnn.limit_vectors(vector_bits())


_vector_bits = _limit_vectors() if _problems["native"] is None else None


def available(backend: str) -> bool:
    """Whether `use_backend(backend)` would work here."""
    return backend == "reference" or (backend in _LIBRARIES and _problems[backend] is None)


def transformed() -> bool:
    """Whether torch.func or forward-mode differentiation is at work, which sees through plain PyTorch only."""
    return forward_ad._current_level >= 0 or (
        not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is not None
    )


def namespaces() -> list[str]:
    """The `torch.ops` namespaces whose library is loaded: each gets the same fake and autograd rules."""
    return [_NAMESPACES[backend] for backend in _LIBRARIES if available(backend)]


def _check(backend: str, setting: str) -> str:
    if backend not in BACKENDS:
        raise ValueError(f"{setting} must be one of {', '.join(BACKENDS)}; got {backend!r}")
    return backend


_current = _check(os.environ.get("MRCNN_BACKEND", "native"), "MRCNN_BACKEND in the environment")


def _require(backend: str) -> None:
    if not available(backend):
        raise ImportError(f"the {backend} ops are not built ({_problems[backend]}); run `make install` to build them")


@contextlib.contextmanager
def use_backend(backend: str):
    """Run the ops called inside the `with` block by another implementation.

    Args:
        backend: "native", "reference" or "emulated". The environment variable MRCNN_BACKEND sets what is used outside
            any such block; "native" otherwise.

    Raises:
        ValueError: no such backend. ImportError: its library was not built.

    The choice holds for the whole process, all threads. A gradient is computed by the backend of its forward pass.
    """
    global _current
    _require(_check(backend, "backend"))
    before, _current = _current, backend
    try:
        yield
    finally:
        _current = before


def current() -> str:
    """The backend that a call would use now."""
    return _current


def compiled_ops():
    """`torch.ops.mrcnn` or `torch.ops.mrcnn_emulated`, by the current backend (which is not "reference")."""
    _require(_current)
    return getattr(torch.ops, _NAMESPACES[_current])


def built() -> dict:
    """What there is of the compiled ops: the record `setup.py` left, and what really loaded here.

    Keys: "native", "cuda", "emulated" (bool: loaded, with kernels for that), "problems" (backend -> sentence),
    "vector_bits" (of the native CPU kernels: 128, 256 or 512; None when not loaded), and from the build "torch",
    "cuda_toolkit", "cuda_archs", "reason" (why CUDA was built or not), or {} when never built.
    """
    record = _PACKAGE / "_build.json"
    loaded = {backend: available(backend) for backend in _LIBRARIES}
    cuda = loaded["native"] and has_kernels("native", "CUDA")
    problems = {backend: problem for backend, problem in _problems.items() if problem}
    build = json.loads(record.read_text()) if record.exists() else {}
    return {**build, **loaded, "cuda": cuda, "problems": problems, "vector_bits": _vector_bits}
