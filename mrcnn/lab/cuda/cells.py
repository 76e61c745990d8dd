"""CUDA and C++ from a notebook cell: compiled, and callable with tensors.

    %load_ext mrcnn.lab

    %%cuda
    __global__ void double_it(const float* x, float* y, int n) {
      int i = blockIdx.x * blockDim.x + threadIdx.x;
      if (i < n) y[i] = 2 * x[i];
    }

    double_it[2, 64](x, y, 100)               # grid, block
    double_it.trace[2, 64](x, y, 100)         # who read and wrote which cell, and what is wrong with that

With a GPU and nvcc the kernel runs on the GPU, otherwise on the CPU (cuda_on_cpu.py); its tensors must be there too.
"""

import ctypes
import functools
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from .program import CSRC, KernelFault, Program, _compile
from .trace import Trace

BLANK = "____"  # in an exercise, what is to be filled in
DTYPES = {
    "float": torch.float32,
    "double": torch.float64,
    "bool": torch.bool,
    "unsigned char": torch.uint8,
    "uint8_t": torch.uint8,
    "int": torch.int32,
    "int32_t": torch.int32,
    "unsigned": torch.uint32,
    "unsigned int": torch.uint32,
    "uint32_t": torch.uint32,
    "long long": torch.int64,
    "int64_t": torch.int64,
    "unsigned long long": torch.uint64,
    "uint64_t": torch.uint64,
}


class CompileError(RuntimeError):
    """The source does not compile. The message shows its lines, and what the compiler says of them."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: not the Python that called the compiler."""
        return str(self).split("\n")


def device() -> str:
    """Where kernels run, and so where their tensors must be: "cuda" if there is a GPU and nvcc, else "cpu"."""
    return "cuda" if torch.cuda.is_available() and nvcc() else "cpu"


def cuda(source: str, now: bool = True) -> dict[str, "Kernel"]:
    """CUDA C++: each `__global__` function of it (no templates), by name. Compiled now, or when it is first used.

    Raises:
        CompileError: it does not compile.
    """
    names = Program(_without_comments(source)).kernels
    if BLANK in source:
        return {name: Unfinished(name, source) for name in names}
    program = Program(source, names)
    runs = GpuProgram(source, names) if device() == "cuda" else program
    if now:
        _load(runs, source)
    return {name: Kernel(name, runs, program, source) for name in names}


def cpp(source: str, now: bool = True) -> dict[str, "HostFunction"]:
    """C++, optimised: each function whose line begins with `void name(`, by name. Tensors are on the CPU.

    Raises:
        CompileError: it does not compile.
    """
    plain = _without_comments(source)
    names = re.findall(r"^void\s+(\w+)\s*\(", plain, re.MULTILINE)
    if BLANK in source:
        return {name: Unfinished(name, source) for name in names}
    program = Program(source, kernels=(), functions=names, flags=("-O3",))
    if now:
        _load(program, source)
    # In the trace a function is a kernel of one thread, whose accesses are seen.
    calls = [
        f"__global__ void traced_{name}({_declared(plain, name)}) {{ "
        f"{name}({', '.join(parameter for _, parameter in _parameters(plain, name))}); }}"
        for name in names
    ]
    traced = Program("\n".join([source, *calls]), kernels=[f"traced_{name}" for name in names])
    return {name: HostFunction(name, program, traced, source) for name in names}


class Unfinished:
    """What a cell defines as long as there are blanks in it."""

    def __init__(self, name: str, source: str):
        self.__name__, self.source = name, source

    def __call__(self, *arguments):
        raise TypeError(f"{self.__name__} has blanks, {BLANK}: fill them in first")

    def __getitem__(self, shape):
        return self


class HostFunction:
    """A C++ function; function(...) calls it, function.trace(...) returns a `Trace` of it, as of one CUDA thread."""

    def __init__(self, name: str, runs: Program, traced: Program, source: str):
        self.__name__, self.source = name, source
        self._runs, self._traced = runs, traced

    def __call__(self, *arguments) -> None:
        _fit(self.source, self.__name__, arguments, "cpu")
        self._runs.call(self.__name__, *arguments)

    def trace(self, *arguments) -> Trace:
        _fit(self.source, self.__name__, arguments, "cpu")
        return self._traced.trace(f"traced_{self.__name__}", 1, 1, *arguments)


class Kernel:
    """A `__global__` function; kernel[grid, block](...) or kernel[grid, block, shared_bytes](...) runs it.

    kernel.trace[grid, block](...) runs it on the CPU, wherever the tensors are, and returns a `Trace`.
    """

    def __init__(self, name: str, runs: Program, traced: Program, source: str):
        self.__name__, self.source = name, source
        self._runs, self._traced = runs, traced
        self.trace = _Launcher(self._trace)

    def __getitem__(self, shape) -> Callable[..., None]:
        return _Launcher(self._launch)[shape]

    def __call__(self, *arguments):
        raise TypeError(f"how many threads? Write {self.__name__}[grid, block](...)")

    def _launch(self, grid, block, shared_bytes: int, arguments) -> None:
        _fit(self.source, self.__name__, arguments, device())
        self._runs.launch(self.__name__, grid, block, *arguments, shared_bytes=shared_bytes)

    def _trace(self, grid, block, shared_bytes: int, arguments) -> Trace:
        _fit(self.source, self.__name__, arguments, device())
        here = [value.cpu() if isinstance(value, Tensor) else value for value in arguments]
        seen = self._traced.trace(self.__name__, grid, block, *here, shared_bytes=shared_bytes)
        for there, copy in zip(arguments, here, strict=True):
            if there is not copy:
                there.copy_(copy)
        return seen


class _Launcher:
    """Takes [grid, block] or [grid, block, shared_bytes], then the arguments."""

    def __init__(self, run: Callable):
        self.run = run

    def __getitem__(self, shape) -> Callable:
        if not isinstance(shape, tuple) or len(shape) not in (2, 3):
            raise TypeError(f"a launch is kernel[grid, block](...); got [{shape}]")
        grid, block, shared_bytes = (*shape, 0)[:3]

        def launch(*arguments):
            try:
                return self.run(grid, block, shared_bytes, arguments)
            except KernelFault as fault:
                # It tells which thread did what, and where; how Python came there is of no interest in a notebook.
                lines = str(fault).split("\n")
                fault._render_traceback_ = lambda: lines
                raise

        return launch


class GpuProgram(Program):
    """A program for the GPU: compiled by nvcc, run on the default stream. It has no trace."""

    def _library(self, traced: bool) -> ctypes.CDLL:
        if traced not in self._libraries:
            major, minor = torch.cuda.get_device_capability()
            self._libraries[traced] = ctypes.CDLL(str(self.build(f"sm_{major}{minor}")))
        return self._libraries[traced]

    def _main(self) -> str:
        return super()._main() + 'extern "C" void cuda_on_cpu_schedule(int, uint64_t) {}  // a GPU has its own order\n'

    def build(self, arch: str) -> Path:
        """The library, for an architecture such as "sm_90". Needs no GPU."""
        flags = ["-O3", "-std=c++17", "-lineinfo", f"-arch={arch}", "-shared", "-Xcompiler=-fPIC", f"-I{CSRC}"]

        def make(source: Path, out: Path) -> None:
            command = [nvcc(), *flags, *self.flags, "-x", "cu", source, "-o", out]
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"nvcc:\n{done.stdout}{done.stderr}")

        return _compile([nvcc(), *flags, *self.flags], self._main(), ".so", make)


@functools.cache
def nvcc() -> str | None:
    """CUDA's compiler, if it is there."""
    places = [shutil.which("nvcc"), os.environ.get("CUDA_HOME", "/usr/local/cuda") + "/bin/nvcc"]
    return next((place for place in places if place and Path(place).exists()), None)


# ---- what can be wrong with an argument: the kernel itself would not notice --------------------------------------


def _fit(source: str, name: str, arguments, where: str) -> None:
    """Raise TypeError for a tensor that the parameter in its place cannot take."""
    parameters = _parameters(source, name)
    if len(parameters) != len(arguments):
        names = ", ".join(parameter for _, parameter in parameters)
        raise TypeError(f"{name}({names}) takes {len(parameters)} arguments; got {len(arguments)}")
    for (declared, parameter), value in zip(parameters, arguments, strict=True):
        if not isinstance(value, Tensor):
            continue
        dtype = DTYPES.get(declared, value.dtype)
        if value.dtype != dtype:
            raise TypeError(f"{name} takes {declared}* {parameter}, a tensor of {dtype}; got one of {value.dtype}")
        if not value.is_contiguous():
            raise TypeError(
                f"{parameter} of {name} is not contiguous, and a kernel sees memory only: use .contiguous()"
            )
        if value.device.type != where:
            raise TypeError(f"{parameter} of {name} must be on {where!r}; it is on {value.device.type!r}")


@functools.cache
def _parameters(source: str, name: str) -> list[tuple[str, str]]:
    """Each parameter's type, without `const` and `*`, and its name."""
    plain = re.sub(r"\bconst\b|\b__restrict__\b", "", _declared(source, name))
    words = [re.findall(r"\w+", part) for part in plain.split(",")]
    return [(" ".join(kind), parameter) for *kind, parameter in words if kind]


def _declared(source: str, name: str) -> str:
    """What stands between the brackets of its declaration."""
    return re.search(rf"\b{name}\s*\(([^()]*)\)\s*\{{", _without_comments(source))[1]


def _without_comments(source: str) -> str:
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", source, flags=re.DOTALL)


# ---- compiler errors ---------------------------------------------------------------------------------------------


def _load(program: Program, source: str) -> None:
    """Compile it now, not when it is first used."""
    try:
        program._library(False)
    except RuntimeError as error:
        raise CompileError(_explained(str(error), source)) from None


def _explained(message: str, source: str, most: int = 3) -> str:
    """The source's lines that the compiler complains of, each with what it says: g++'s messages or nvcc's."""
    found = re.findall(r"^(kernel\.cu|entries)[:(](\d+)(?::(\d+)|\))?: (?:fatal )?error: (.*)$", message, re.MULTILINE)
    # An error in a header, because of what a line of the source asks of it.
    asked = r"^(kernel\.cu):(\d+):(\d+): +required from here\n[^\n]*error: (?:static assertion failed: )?([^\n]*)$"
    found += re.findall(asked, message, re.MULTILINE)
    if not found:
        return message
    lines = source.split("\n")
    told = []
    for file, number, column, says in dict.fromkeys(found):
        if file == "entries":  # what cuda_on_cpu.py writes below the source
            told.append("the end comes too early: a { is not closed")
            continue
        told.append(f"line {number}: {says}\n  {number:>4} | {lines[int(number) - 1]}")
        if column:
            told[-1] += f"\n       | {' ' * (int(column) - 1)}^"
    return "\n".join(["It does not compile.", *dict.fromkeys(told[:most])])
