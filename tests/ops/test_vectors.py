"""Each copy of the CPU kernels that this processor can run (any, AVX2, AVX-512), by gcc and by clang: the same bits."""

import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from builds import ROOT, cpu_kernels, load_setup
from op_cases import bits_of, each_case

from mrcnn import ops
from mrcnn.ops import backend

pytestmark = pytest.mark.skipif(not backend.available("native"), reason="the native ops are not built")


@contextlib.contextmanager
def vectors_of(bits: int, namespace: str = "mrcnn"):
    """Let the kernels of a library use vectors of at most so many bits; gives the width they take."""
    limit = getattr(torch.ops, namespace).limit_vectors
    try:
        yield limit(bits)
    finally:
        limit(ops.built()["vector_bits"])


def wider_copies(namespace: str) -> list[int]:
    widths = []
    for bits in (256, 512):
        with vectors_of(bits, namespace) as taken:
            widths += [bits] if taken == bits else []
    return widths


@each_case
def test_every_copy_gives_the_same_bits(results_of, dtype):
    """The other tests hold the widest copy against the reference and torchvision."""
    if not (widths := wider_copies("mrcnn")):
        pytest.skip("this processor has one copy only")
    with vectors_of(128):
        plain = bits_of(results_of(torch.ops.mrcnn, dtype))
    for width in widths:
        with vectors_of(width):
            torch.testing.assert_close(bits_of(results_of(torch.ops.mrcnn, dtype)), plain, rtol=0, atol=0)


def test_a_copy_is_never_wider_than_asked_or_than_the_processor():
    for most, allowed in ((-1, {128}), (0, {128}), (255, {128}), (256, {128, 256}), (10**6, {128, 256, 512})):
        with vectors_of(most) as taken:
            assert taken in allowed


@pytest.mark.skipif(platform.machine() != "x86_64", reason="an x86-64's names")
def test_torch_says_how_wide_the_vectors_are():
    """ATEN_CPU_CAPABILITY caps what torch takes the processor for, and our kernels with it."""
    program = "import torch, mrcnn; print(torch.backends.cpu.get_cpu_capability(), mrcnn.ops.built()['vector_bits'])"
    for capability in ("default", "avx2"):
        environment = os.environ | {"ATEN_CPU_CAPABILITY": capability}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        said, bits = done.stdout.split()
        assert int(bits) == {"DEFAULT": 128, "AVX2": 256}[said]
    own = {"AVX2": 256, "AVX512": 512}.get(torch.backends.cpu.get_cpu_capability(), 128)
    assert ops.built()["vector_bits"] == own


# ---- what compilers make of it -----------------------------------------------------------------------------


def vector_arithmetic(library: Path) -> dict[tuple[str, str], str]:
    """(kernel<type>, "avx2" or "avx512") -> the lines of machine code that calculate with vectors."""
    listing = subprocess.run(
        ["objdump", "-d", "-C", "--no-show-raw-insn", library], capture_output=True, text=True, check=True
    )
    lines, copy = defaultdict(str), None
    for line in listing.stdout.splitlines():
        if line.endswith(">:"):
            name = re.search(r"run_(avx2|avx512)<.*?::(\w+<[\w:]+>)", line)
            copy = name and (name[2], name[1])
        elif copy and re.search(r"\sv\w+[ps][sd]\s", line):
            lines[copy] += line + "\n"
    return lines


def check_vector_arithmetic(library: Path):
    """Every kernel has its two wider copies, each calculates with its full width, and none fuses products and sums."""
    found = vector_arithmetic(library)
    kernels = {kernel for kernel, _ in found}
    assert len(kernels) == 20  # 4 loops of RoIAlign in 4 types, NMS and matching in 2
    for kernel in kernels:
        for copy, register in (("avx2", "ymm"), ("avx512", "zmm")):
            assert re.search(rf"v(mul|add|sub|div)p[sd] .*%{register}", found[kernel, copy]), (kernel, copy)
            assert not re.search("vfn?m(add|sub)", found[kernel, copy]), (kernel, copy)


needs_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="wider copies are for x86-64")
needs_objdump = pytest.mark.skipif(not shutil.which("objdump"), reason="binutils (objdump) is not installed")


@needs_x86
@needs_objdump
def test_copies_use_their_vectors():
    check_vector_arithmetic(next((ROOT / "mrcnn").glob("_native.*so")))


@pytest.fixture(scope="module")
def by_clang(tmp_path_factory) -> Path:
    """The CPU kernels built by clang, as torch.ops.mrcnn_clang; the library's path."""
    if not shutil.which("clang++"):
        pytest.skip("clang is not installed")
    from torch.utils import cpp_extension

    folder = tmp_path_factory.mktemp("clang")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXX", "clang++")
        cpp_extension.load(
            "mrcnn_clang",
            [str(ROOT / "csrc" / "library.cpp"), *cpu_kernels()],
            extra_cflags=[*load_setup().CXX_FLAGS, "-Werror", "-DMRCNN_LIBRARY=mrcnn_clang"],
            extra_include_paths=[str(ROOT / "csrc")],
            build_directory=str(folder),
            is_python_module=False,
        )
    return folder / "mrcnn_clang.so"


@each_case
def test_clang_gives_the_same_bits(results_of, dtype, by_clang):
    expected = bits_of(results_of(torch.ops.mrcnn, dtype))
    for width in (128, *wider_copies("mrcnn_clang")):
        with vectors_of(width, "mrcnn_clang"):
            torch.testing.assert_close(bits_of(results_of(torch.ops.mrcnn_clang, dtype)), expected, rtol=0, atol=0)


@needs_x86
@needs_objdump
def test_copies_of_clang_use_their_vectors(by_clang):
    """So NMS and matching are as fast as those of gcc."""
    check_vector_arithmetic(by_clang)
