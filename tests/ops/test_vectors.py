"""Each copy of the CPU kernels that this processor can run (any, AVX2, AVX-512), by gcc and by clang: the same bits."""

import contextlib
import importlib.util
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
from layouts import lay_out

from mrcnn import ops
from mrcnn.ops import backend

pytestmark = pytest.mark.skipif(not backend.available("native"), reason="the native ops are not built")

ROOT = Path(__file__).parents[2]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


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


def bits_of(tensors) -> list[torch.Tensor]:
    """The numbers as integers, so that NaN equals itself and 0 is not -0."""
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return [tensor.contiguous().view(integers[tensor.element_size()]) for tensor in tensors]


def roi_align_results(kernels, dtype) -> list[torch.Tensor]:
    """Forward and backward in every layout, with channel counts that fill vectors and that leave some over."""
    torch.manual_seed(0)
    rois = torch.rand(30, 5) * torch.tensor([0, 60.0, 50, 90, 70]) - 10
    rois[:, 0] = torch.arange(30) % 3 - (torch.arange(30) == 7) * 5  # one of no image
    rois = rois.to(torch.float64 if dtype == torch.float64 else torch.float32)
    results = []
    for channels in (1, 37, 64):
        features = torch.randn(3, channels, 11, 19, dtype=torch.float64) * 100
        features[0, 0, 2] = torch.tensor(
            [torch.inf, -torch.inf, torch.nan, -0.0, 1e-7] + [3e38, 65519, 65520, 1e-5] + [0] * 10
        )
        for layout in ("contiguous", "channels_last", "channels_last window"):
            pooled = kernels.roi_align(lay_out(features.to(dtype), layout), rois, 0.3, 7, 5, -1, True)
            grad = torch.randn(pooled.shape, dtype=torch.float64).to(dtype)
            shape = (3, channels, 11, 19)
            gradient = kernels.roi_align_backward(grad, rois, 0.3, 7, 5, *shape, 2, False, layout != "contiguous", True)
            results += [pooled, gradient]
    return results


def boxes_and_scores(count: int, dtype) -> tuple[torch.Tensor, torch.Tensor]:
    boxes = (torch.rand(count, 4, dtype=dtype) * 40).round(decimals=1)
    boxes[:, 2:] = boxes[:, 2:] / 2 + boxes[:, :2]
    boxes[3::50, 2:] = boxes[3::50, :2]  # without area
    boxes[5::70] = torch.tensor([0, 0, torch.inf, torch.nan], dtype=dtype)
    return boxes, (torch.rand(count) * 50).round()  # many ties


def nms_results(kernels, dtype) -> list[torch.Tensor]:
    """Counts that leave lanes over, thresholds that IoUs meet exactly."""
    torch.manual_seed(1)
    problems = [(*boxes_and_scores(count, dtype), threshold) for count in (1, 65, 700) for threshold in (-1, 0.25, 0.5)]
    return [kernels.nms(*problem) for problem in problems]


def match_anchors_results(kernels, dtype) -> list[torch.Tensor]:
    torch.manual_seed(2)
    results = []
    for count, objects in ((1, 3), (129, 0), (1000, 40)):
        anchors, gt_boxes = boxes_and_scores(count, dtype)[0], boxes_and_scores(objects, dtype)[0]
        results += kernels.match_anchors(anchors, gt_boxes, 0.5, 0.25, True)
    return results


CASES = [
    *((roi_align_results, dtype) for dtype in DTYPES),
    *((nms_results, dtype) for dtype in DTYPES[:2]),
    *((match_anchors_results, dtype) for dtype in DTYPES[:2]),
]
each_case = pytest.mark.parametrize(
    ("results_of", "dtype"), CASES, ids=[f"{case.__name__[:-8]}-{str(dtype)[6:]}" for case, dtype in CASES]
)


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

    spec = importlib.util.spec_from_file_location("mrcnn_setup", ROOT / "setup.py")
    setup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(setup)
    folder = tmp_path_factory.mktemp("clang")
    files = [ROOT / "csrc" / name for name in ("cpu.cpp", "library.cpp")] + sorted(ROOT.glob("csrc/*/*_cpu.cpp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXX", "clang++")
        cpp_extension.load(
            "mrcnn_clang",
            [str(file) for file in files],
            extra_cflags=[*setup.CXX_FLAGS, "-Werror", "-DMRCNN_LIBRARY=mrcnn_clang"],
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
