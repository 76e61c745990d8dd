"""The kernels compiled for real, where there is a CUDA toolkit: for every architecture, and without spills."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import kernel_report

pytestmark = pytest.mark.skipif(kernel_report.setup_module().find_toolkit() is None, reason="no CUDA toolkit here")


@pytest.fixture(scope="module")
def table():
    return kernel_report.report(only_type="float")


def test_every_kernel_compiles_for_every_architecture(table):
    archs = {"75", "80", "86", "90", "100", "120"}
    assert {
        "roi_align_backward_gather<float>",
        "nms_resolve",
        "nms_suppress<float>",
        "match_anchors_best<float>",
    } <= set(table)
    assert all(set(row) == archs for row in table.values())


def test_no_forward_kernel_spills_at_float32(table):
    forward = [name for name in table if "backward" not in name and "double" not in name]
    assert len(forward) == 9
    for name in forward:
        for arch, usage in table[name].items():
            assert usage.registers > 0
            assert usage.spilled_bytes == 0, f"{name} on sm_{arch}: {usage}"


def test_ptxas_report_is_understood():
    usage = kernel_report.parse("""
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN5mrcnn12_GLOBAL__N_111nms_compareIfEEvNS_10NmsProblemIT_EElPj' for 'sm_90'
ptxas info    : Function properties for _ZN5mrcnn12_GLOBAL__N_111nms_compareIfEEvNS_10NmsProblemIT_EElPj
    8 bytes stack frame, 8 bytes spill stores, 32 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 8 bytes cumulative stack size, 6144 bytes smem
""")
    assert usage == {"nms_compare<float>": kernel_report.Usage(40, 6144, 40)}
