"""`make sanitize`: both libraries under gcc's sanitizers, for addresses, undefined behaviour, and races of threads.

Each sanitizer first has to catch a fault that was planted for it. The kernels run over small_libtorch.cpp: a tensor's
memory ends where its last number ends, and the threads are std::thread, of which ThreadSanitizer knows everything
(of those of libtorch, which was built without it, it would not). The CUDA kernels that run on the CPU have one thread
of the machine; races between their own threads are the matter of the trace (tests/cuda_on_cpu).
"""

import platform
import shutil
import subprocess

import pytest
import small_libtorch
import torch
from builds import cpu_kernels, emulated_kernels, load_setup
from op_cases import bits_of, each_case

from mrcnn.ops import backend

pytestmark = [
    pytest.mark.skipif(not backend.available("native"), reason="the native ops are not built"),
    pytest.mark.skipif(not shutil.which("g++") or not shutil.which("setarch"), reason="g++ or setarch is missing"),
]

# gcc's "undefined" leaves float-cast-overflow out: a number that the integer it becomes cannot hold.
SANITIZERS = {"memory": "address,undefined,float-cast-overflow", "threads": "thread"}
PLANTED = {
    "heap-buffer-overflow": ("memory", "std::vector<int> three(3); return three.data()[2 + count];"),
    "outside the range of representable values": ("memory", "return int64_t(1e19 * count) > 0;"),
    "signed integer overflow": ("memory", "return 0x7fffffff + count;"),
    "data race": ("threads", "int n = 0; std::thread other([&] { n++; }); n++; other.join(); return n;"),
}


def flags(kind: str) -> list[str]:
    # Optimized less, which spares half of the time.
    return ["-O1", "-g1", f"-fsanitize={SANITIZERS[kind]}", "-fno-sanitize-recover=all"]


def command(program) -> list:
    """ThreadSanitizer wants its own stretches of memory, which a randomized layout may take."""
    return ["setarch", platform.machine(), "-R", program]


@pytest.mark.parametrize("report", PLANTED)
def test_a_planted_fault_is_caught(report, tmp_path):
    kind, body = PLANTED[report]
    source, program = tmp_path / "planted.cpp", tmp_path / "planted"
    includes = "#include <cstdint>\n#include <thread>\n#include <vector>\n"
    source.write_text(f"{includes}int main(int count, char**) {{ {body} }}\n")
    subprocess.run(["g++", *flags(kind), source, "-o", program], check=True)
    done = subprocess.run(command(program), capture_output=True, text=True)
    assert done.returncode
    assert report in done.stderr


@pytest.fixture(scope="module", params=SANITIZERS)
def native(request, tmp_path_factory) -> small_libtorch.Kernels:
    program = tmp_path_factory.mktemp(request.param) / "kernels"
    small_libtorch.build("g++", program, cpu_kernels(), *flags(request.param))
    return small_libtorch.Kernels(*command(program))


@pytest.fixture(scope="module")
def emulated(tmp_path_factory) -> small_libtorch.Kernels:
    program = tmp_path_factory.mktemp("emulated") / "kernels"
    small_libtorch.build("g++", program, emulated_kernels(), *load_setup().EMULATED_FLAGS, *flags("memory"))
    return small_libtorch.Kernels(*command(program))


@each_case
def test_nothing_is_found_in_the_native_kernels(results_of, dtype, native):
    """A finding ends the run, and its report is the error. The results are those of libtorch's threads."""
    expected = bits_of(results_of(torch.ops.mrcnn, dtype))
    torch.testing.assert_close(bits_of(results_of(native, dtype)), expected, rtol=0, atol=0)


@each_case
def test_nothing_is_found_in_the_emulated_kernels(results_of, dtype, emulated):
    expected = bits_of(results_of(torch.ops.mrcnn_emulated, dtype))
    torch.testing.assert_close(bits_of(results_of(emulated, dtype)), expected, rtol=0, atol=0)
