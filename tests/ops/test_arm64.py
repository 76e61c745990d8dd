"""The CPU kernels on arm64: cross-compiled, and run under an emulator of the processor (qemu-user).

libtorch for arm64 is not needed: the few functions of it that the kernels call are in small_libtorch.cpp.
"""

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from builds import ROOT, cpu_kernels, load_setup
from op_cases import bits_of, each_case
from torch.utils import cpp_extension

from mrcnn.ops import backend

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
SCALAR_TYPES = {torch.int64: 4, torch.float16: 5, torch.float32: 6, torch.float64: 7, torch.bfloat16: 15}


def pack(argument) -> bytes:
    """An argument as small_libtorch.cpp reads it: a letter, and the number or the tensor."""
    if isinstance(argument, float):
        return struct.pack("<cd", b"d", argument)
    if not isinstance(argument, torch.Tensor):
        return struct.pack("<cq", b"i", argument)
    memory = torch.empty(0, dtype=torch.uint8).set_(argument.untyped_storage()).numpy().tobytes()
    memory = memory[argument.storage_offset() * argument.element_size() :]
    head = (SCALAR_TYPES[argument.dtype], argument.dim(), len(memory), *argument.shape, *argument.stride())
    return b"t" + struct.pack(f"<{len(head)}q", *head) + memory


def unpack(results: bytes) -> list[torch.Tensor]:
    tensors = []
    while results:
        dtype, dim, size = struct.unpack_from("<3q", results)
        shape_and_strides = struct.unpack_from(f"<{2 * dim}q", results, 24)
        memory, results = np.frombuffer(results[24 + 16 * dim :][:size], np.uint8), results[24 + 16 * dim + size :]
        numbers = torch.from_numpy(memory.copy()).view({value: key for key, value in SCALAR_TYPES.items()}[dtype])
        tensors.append(numbers.as_strided(shape_and_strides[:dim], shape_and_strides[dim:]))
    return tensors


class Kernels:
    """The registered ops, each call of them a run of the program."""

    def __init__(self, program: Path):
        self.program = program

    def _call(self, op: str, results: int, *arguments) -> list[torch.Tensor]:
        packed = struct.pack("<q", len(arguments)) + b"".join(map(pack, arguments))
        command = [EMULATOR, self.program, op, str(results)]
        return unpack(subprocess.run(command, input=packed, capture_output=True, check=True).stdout)

    def roi_align(self, *arguments):
        return self._call("roi_align", 1, *arguments)[0]

    def roi_align_backward(self, *arguments):
        return self._call("roi_align_backward", 1, *arguments)[0]

    def nms(self, *arguments):
        return self._call("nms", 1, *arguments, 0)[0]  # without groups

    def match_anchors(self, *arguments):
        return self._call("match_anchors", 2, *arguments)


@pytest.fixture(scope="module")
def arm64(tmp_path_factory) -> Kernels:
    for tool, package in ((COMPILER, "g++-aarch64-linux-gnu"), (EMULATOR, "qemu-user")):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed (on Debian: {package})")
    program = tmp_path_factory.mktemp("arm64") / "kernels"
    files = [*cpu_kernels(), ROOT / "tests" / "ops" / "small_libtorch.cpp"]
    # -Wno-psabi: gcc otherwise notes where it once changed how arguments are passed
    flags = [*load_setup().CXX_FLAGS, "-Werror", "-Wno-psabi", "-static", "-Wl,--unresolved-symbols=ignore-all"]
    includes = [f"-I{path}" for path in (ROOT / "csrc", *cpp_extension.include_paths())]
    subprocess.run([COMPILER, *flags, *includes, *files, "-o", program], check=True)
    return Kernels(program)


@pytest.mark.skipif(not backend.available("native"), reason="the native ops are not built")
@each_case
def test_arm64_gives_the_same_bits(results_of, dtype, arm64):
    expected = bits_of(results_of(torch.ops.mrcnn, dtype))
    torch.testing.assert_close(bits_of(results_of(arm64, dtype)), expected, rtol=0, atol=0)
