"""CUDA kernels from a notebook cell or a file: compiled for the GPU or the CPU, run, and traced access by access."""

from .cells import CompileError, GpuProgram, Kernel, cpp, cuda, device, nvcc
from .program import CSRC, KernelFault, Program, schedule
from .trace import Trace

__all__ = [
    "CSRC", "CompileError", "GpuProgram", "Kernel", "KernelFault", "Program", "Trace", "cpp", "cuda", "device", "nvcc",
    "schedule",
]  # fmt: skip
