"""Compile CUDA C++ with the host compiler and run its kernels on the CPU, thread by thread, on PyTorch tensors.

    program = Program('''
        __global__ void double_it(const float* x, float* y, int n) {
          int i = blockIdx.x * blockDim.x + threadIdx.x;
          if (i < n) y[i] = 2 * x[i];
        }''')
    program.launch("double_it", 2, 64, x, y, 100)                   # grid, block, arguments
    trace = program.trace("double_it", 2, 64, x, y, 100)            # the same, and who read and wrote which cell
    trace.check()                                                   # raises KernelFault: races, barriers, bounds, ...
    with schedule("shuffled", seed=3): ...                          # threads, warps and blocks in another order

How it works, and what it cannot show: csrc/cuda_on_cpu/README.md.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .trace import EVENT, FINDING, WAIT, KernelFault, Trace, shared_arrays

__all__ = ["KernelFault", "Program", "Trace", "schedule"]

CSRC = Path(__file__).resolve().parents[3] / "csrc"
HERE = CSRC / "cuda_on_cpu"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mrcnn" / "cuda_on_cpu"
MAX_EVENTS = 1_000_000  # of a trace: more are not kept
ORDERS = ("ascending", "descending", "shuffled")

_schedule = (0, 0)  # the order, as a number, and the seed


@contextlib.contextmanager
def schedule(order: str, seed: int = 0):
    """Run blocks, warps and threads "ascending", "descending" or "shuffled" (by the seed) inside the `with` block.

    Holds for every `Program` and for the ops' backend "emulated". MRCNN_SCHEDULE=descending or shuffled:3 in the
    environment sets it for the emulated ops from the start.
    """
    global _schedule
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}; got {order!r}")
    before, _schedule = _schedule, (ORDERS.index(order), seed)
    _tell_emulated_ops()
    try:
        yield
    finally:
        _schedule = before
        _tell_emulated_ops()


def _tell_emulated_ops() -> None:
    for file in CSRC.parent.glob("mrcnn/_emulated.*so"):
        _set_schedule(ctypes.CDLL(str(file)))


def _set_schedule(library: ctypes.CDLL) -> None:
    library.cuda_on_cpu_schedule(ctypes.c_int(_schedule[0]), ctypes.c_uint64(_schedule[1]))


class Program:
    """CUDA source, compiled for the CPU when it is first used.

    Args:
        source: CUDA C++, or the path of a file of it. The header csrc/cuda_on_cpu/cuda_on_cpu.h is included already.
        kernels: what can be launched; needed for templates, "scale<float, 4>". All kernels that are not, otherwise.
        functions: host functions, of type void, that can be called; they may launch kernels with CUDA_LAUNCH.
        flags: for the compiler.

    Arguments: tensors (a pointer to their first element: mind the strides), numbers, None (a null pointer), and bytes
    for a struct passed by value.

    Raises:
        RuntimeError: it does not compile (with the compiler's message), or no compiler is there.
    """

    def __init__(self, source: str | Path, kernels=None, functions=(), flags=()):
        if isinstance(source, Path):
            self.text, self.name = source.read_text(), str(source)
        else:
            self.text, self.name = source, "kernel.cu"
        self.written = self.text
        # nvcc needs a declaration without a size; here the memory is the emulator's.
        self.text = re.sub(
            r"extern\s+__shared__\s+([\w ]+?)\s+(\w+)\s*\[\s*\]\s*;", r"DYNAMIC_SHARED(\1, \2);", self.text
        )
        found = re.findall(
            r"(template\s*<[^{;]*?>\s*)?__global__\s+void\s+(?:__launch_bounds__\(.*?\)\s*)?(\w+)", self.text
        )
        self.kernels = [name for template, name in found if not template] if kernels is None else list(kernels)
        self.functions = list(functions)
        self.flags = tuple(flags)
        self._libraries: dict[bool, ctypes.CDLL] = {}

    def launch(self, kernel: str, grid, block, *arguments, shared_bytes: int = 0) -> None:
        """Run every thread of `grid` x `block` (a number or up to three); `shared_bytes` of dynamic shared memory.

        Raises KernelFault when the launch is invalid or threads wait for each other for ever.
        """
        self._enter(False, kernel, (grid, block, shared_bytes), arguments)

    def call(self, function: str, *arguments) -> None:
        """Call a host function."""
        self._enter(False, function, None, arguments)

    def trace(self, kernel: str, grid, block, *arguments, shared_bytes: int = 0, max_events: int = MAX_EVENTS) -> Trace:
        """`launch` in an instrumented build: what each thread read and wrote, and what is wrong with that.

        The kernel sees copies of the tensors, well apart, so that leaving one is noticed; results are copied back.
        Faults do not raise here: see `Trace.findings` and `Trace.check`.
        """
        return self._trace(kernel, (grid, block, shared_bytes), arguments, max_events)

    def trace_call(self, function: str, *arguments, max_events: int = MAX_EVENTS) -> Trace:
        """`call` in an instrumented build."""
        return self._trace(function, None, arguments, max_events)

    # ---- calling -------------------------------------------------------------------------------------------------

    def _enter(self, traced: bool, name: str, launch, arguments) -> None:
        library = self._library(traced)
        index = [*self.kernels, *self.functions].index(name)
        codes = self._codes(library, name)
        if len(codes) != len(arguments):
            raise TypeError(f"{name} takes {len(codes)} arguments; got {len(arguments)}")
        # Each argument's bytes, and an array of pointers to them.
        values = [_pack(name, i, code, value) for i, (code, value) in enumerate(zip(codes, arguments, strict=True))]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        shape, shared_bytes = None, 0
        if launch:
            grid, block, shared_bytes = launch
            shape = (ctypes.c_uint * 6)(*_three(grid), *_three(block))
        enter = getattr(library, f"enter_{index}")
        enter.restype = ctypes.c_char_p
        _set_schedule(library)
        problem = enter(shape, ctypes.c_size_t(shared_bytes), pointers)
        if problem:
            raise KernelFault(problem.decode())

    def _trace(self, name: str, launch, arguments, max_events: int) -> Trace:
        library = self._library(True)
        tensors = [value for value in arguments if isinstance(value, Tensor)]
        arena = _Arena(tensors)
        inside = iter(arena.copies)
        copies = [next(inside) if isinstance(value, Tensor) else value for value in arguments]
        for function in (library.trace_base, library.trace_dynamic_shared):
            function.restype = ctypes.c_uint64
        shared = [(library.trace_base() + offset, size, 1) for offset, size, _ in shared_arrays(library._name)]
        known = [(c.data_ptr(), c.numel() * c.element_size(), c.element_size()) for c in arena.copies]
        begins, sizes, items = np.array(known + shared).reshape(-1, 3).T.astype(np.uint64).copy()
        pointer = ctypes.POINTER(ctypes.c_uint64)
        library.trace_begin(
            ctypes.c_int(len(known)),
            ctypes.c_int(len(shared)),
            *(column.ctypes.data_as(pointer) for column in (begins, sizes, items)),
            ctypes.c_uint64(max_events),
        )
        before = [copy.clone() for copy in arena.copies]
        problem = None
        try:
            self._enter(True, name, launch, copies)
        except KernelFault as fault:
            problem = str(fault)
        arena.copy_back()
        names = _parameters(self.text, name, len(arguments))
        buffers = [
            (*columns, names[i])
            for columns, i in zip(known, (i for i, v in enumerate(arguments) if isinstance(v, Tensor)), strict=True)
        ]
        return Trace(
            _records(library, "trace_events", EVENT),
            _records(library, "trace_values", np.dtype("u1")).tobytes(),
            _records(library, "trace_waits", WAIT),
            _records(library, "trace_findings", FINDING),
            problem,
            buffers,
            library._name,
            library.trace_base(),
            library.trace_dynamic_shared(),
            self.name,
            self.written,
            name,
            before,
            dict(zip(names, self._pointees(library, name), strict=True)),
        )

    def _codes(self, library: ctypes.CDLL, name: str) -> list[str]:
        """A letter per parameter: csrc/cuda_on_cpu/trace/calls.h."""
        signature = getattr(library, f"signature_{[*self.kernels, *self.functions].index(name)}")
        signature.restype = ctypes.c_char_p
        return signature().decode().split()

    def _pointees(self, library: ctypes.CDLL, name: str) -> list[int]:
        """Of each parameter the bytes of what it points to; 1 where it is no pointer."""
        return [int(code[1:]) if code[0] == "P" else 1 for code in self._codes(library, name)]

    # ---- compiling -----------------------------------------------------------------------------------------------

    def _library(self, traced: bool) -> ctypes.CDLL:
        if traced not in self._libraries:
            self._libraries[traced] = ctypes.CDLL(str(_link(self._main(), traced, self.flags)))
        return self._libraries[traced]

    def _main(self) -> str:
        """The source, with an entry for Python to each kernel and function."""
        lines = ['#include "cuda_on_cpu/trace/calls.h"', f'#line 1 "{self.name}"', self.text, '#line 1 "entries"']
        for i, name in enumerate([*self.kernels, *self.functions]):
            lines += [
                f'extern "C" const char* signature_{i}() {{ return cuda_on_cpu::python::signature({name}); }}',
                f'extern "C" const char* enter_{i}(const unsigned* shape, size_t shared_bytes, void** arguments) {{',
                f'  return cuda_on_cpu::python::enter("{name}", {name}, shape, shared_bytes, arguments);',
                "}",
            ]
        return "\n".join(lines) + "\n"


COMMON = ["-std=c++17", "-fPIC", "-ffp-contract=off", "-I", str(CSRC), "-I", f"{torch.__path__[0]}/include"]
TRACED = [
    "-O1", "-g", "-fsanitize=thread,shift-exponent", "-fsanitize-coverage=trace-pc", "-fno-threadsafe-statics",
    "-DCUDA_ON_CPU_TRACED",
]  # fmt: skip


@functools.cache
def _headers() -> str:
    """A hash of everything in csrc/ that a program may include: when that changes, so do the programs."""
    files = sorted(file for end in ("h", "cuh", "cu", "cpp") for file in CSRC.rglob(f"*.{end}"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _compile(flags, text: str, suffix: str, make) -> Path:
    """The file that `make(source, out)` makes of `text`, from the cache if it has been made before."""
    made_of = [_compiler(), _headers(), torch.__version__, *flags, text]
    key = hashlib.sha256("\0".join(made_of).encode()).hexdigest()[:24]
    out = CACHE / f"{key}{suffix}"
    if not out.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            source, made = Path(folder) / "main.cpp", Path(folder) / f"made{suffix}"
            source.write_text(text)
            make(source, made)
            made.replace(out)  # in one step: another process may be at the same
    return out


def _compiler() -> str:
    """g++ if there is one, whatever $CXX says: the trace sees what the compiler tells it of, and clang, for one, does
    not tell of a struct that is copied."""
    compiler = shutil.which("g++") or os.environ.get("CXX") or shutil.which("c++")
    if not compiler:
        raise RuntimeError("running CUDA on the CPU needs a C++ compiler; g++ was not found")
    return compiler


def _run_compiler(*arguments) -> None:
    done = subprocess.run([_compiler(), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the CUDA source does not compile:\n{done.stderr}")


def _link(main: str, traced: bool, flags) -> Path:
    flags = [*COMMON, *(TRACED if traced else ["-O1"]), *flags]
    parts = [HERE / "scheduler.cpp"] + [HERE / "trace" / "trace.cpp"] * traced
    runtime = ["-std=c++17", "-fPIC", "-O2", "-fvisibility=hidden", "-c"]
    objects = [
        _compile([*runtime, str(part)], "", ".o", lambda _, out, part=part: _run_compiler(*runtime, part, "-o", out))
        for part in parts
    ]

    def make(source: Path, out: Path) -> None:
        _run_compiler(*flags, "-c", source, "-o", f"{out}.o")
        # Linked without -fsanitize: the hooks are ours. -Bsymbolic: a library's names are its own, whatever is loaded.
        _run_compiler("-shared", "-Wl,-Bsymbolic", f"{out}.o", *objects, "-o", out)

    return _compile(flags, main, ".so", make)


# ---- arguments ---------------------------------------------------------------------------------------------------


def _three(sizes) -> tuple[int, int, int]:
    sizes = (sizes,) if isinstance(sizes, int) else tuple(sizes)
    if not 1 <= len(sizes) <= 3 or min(sizes) < 0:
        raise ValueError(f"a grid or block is one to three numbers; got {sizes}")
    return sizes + (1,) * (3 - len(sizes))


def _pack(name: str, i: int, code: str, value):
    """A parameter's bytes."""
    if isinstance(value, Tensor):
        value = value.data_ptr()
        if code[0] != "P":
            raise TypeError(f"argument {i} of {name} is no pointer; got a tensor")
    try:
        data = struct.pack("P" if code[0] == "P" else code, 0 if value is None else value)
    except struct.error as error:
        raise TypeError(f"argument {i} of {name}: {error}; got {value!r}") from None
    return ctypes.create_string_buffer(data, len(data))


def _parameters(text: str, name: str, count: int) -> list[str]:
    """The names of a function's parameters, for messages."""
    plain = re.escape(name.split("<")[0].split("::")[-1])
    declared = re.search(rf"\b{plain}\s*\(([^()]*)\)\s*\{{", text)
    names = [re.sub(r"\W+$", "", part).split()[-1].strip("*&") for part in declared[1].split(",")] if declared else []
    return names if len(names) == count else [f"argument {i}" for i in range(count)]


def _records(library: ctypes.CDLL, function: str, dtype: np.dtype) -> np.ndarray:
    first = ctypes.c_void_p()
    get = getattr(library, function)
    get.restype = ctypes.c_uint64
    count = get(ctypes.byref(first))
    data = ctypes.string_at(first, count * dtype.itemsize) if count else b""
    return np.frombuffer(data, dtype)


class _Arena:
    """Copies of tensors with nothing beside them, so that a step outside one does not end inside another."""

    GAP = 1 << 16

    def __init__(self, tensors: list[Tensor]):
        for tensor in tensors:
            if not _dense(tensor):
                raise ValueError(f"a traced tensor must be dense in memory; got strides {tensor.stride()}")
        sizes = [-(-tensor.numel() * tensor.element_size() // 256) * 256 for tensor in tensors]
        memory = torch.empty(sum(sizes) + self.GAP * (len(sizes) + 1) + 256, dtype=torch.uint8)
        at = -memory.data_ptr() % 256
        self.pairs = []
        for tensor, size in zip(tensors, sizes, strict=True):
            at += self.GAP
            bytes_ = memory[at : at + tensor.numel() * tensor.element_size()]
            copy = bytes_.view(tensor.dtype).as_strided(tensor.shape, tensor.stride())
            self.pairs.append((tensor, copy.copy_(tensor)))
            at += size
        self.copies = [copy for _, copy in self.pairs]

    def copy_back(self) -> None:
        for tensor, copy in self.pairs:
            tensor.detach().copy_(copy)


def _dense(tensor: Tensor) -> bool:
    """Whether its elements fill a stretch of memory: contiguous, or some permutation of that."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True
