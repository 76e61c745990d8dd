"""The CPU kernels on arm64: cross-compiled, and run under an emulator of the processor (qemu-user).

libtorch for arm64 is not needed: the few functions of it that the kernels call are in small_libtorch.cpp.
"""

import shutil

import pytest
import small_libtorch
import torch
from builds import cpu_kernels
from op_cases import bits_of, each_case

from mrcnn.ops import backend

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"


@pytest.fixture(scope="module")
def arm64(tmp_path_factory) -> small_libtorch.Kernels:
    for tool, package in ((COMPILER, "g++-aarch64-linux-gnu"), (EMULATOR, "qemu-user")):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed (on Debian: {package})")
    program = tmp_path_factory.mktemp("arm64") / "kernels"
    # -Wno-psabi: gcc otherwise notes where it once changed how arguments are passed
    small_libtorch.build(COMPILER, program, cpu_kernels(), "-Wno-psabi", "-static")
    return small_libtorch.Kernels(EMULATOR, program)


@pytest.mark.skipif(not backend.available("native"), reason="the native ops are not built")
@each_case
def test_arm64_gives_the_same_bits(results_of, dtype, arm64):
    expected = bits_of(results_of(torch.ops.mrcnn, dtype))
    torch.testing.assert_close(bits_of(results_of(arm64, dtype)), expected, rtol=0, atol=0)
