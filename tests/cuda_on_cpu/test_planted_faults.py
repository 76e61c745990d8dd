"""Faults planted in copies of our own kernels: the checks that the kernels pass must find every one of them."""

import tempfile
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from harness import (
    check_backward,
    check_few_blocks,
    check_forward,
    check_match,
    check_nms,
    match_program,
    nms_program,
    pool,
    roi_align_program,
)

from mrcnn.lab.cuda import KernelFault


def roi_align(*change, check=check_forward):
    return roi_align_program(change), check


def scatter(*change):
    return roi_align_program(change), lambda program: check_backward(program, ["scatter"])


def gather(*change):
    return roi_align_program(change), lambda program: check_backward(program, ["gather"])


def nms(*change):
    return nms_program(change, strip=256), check_nms


def matching(*change):
    return match_program(change, tile=8), check_match


def check_large_index(program):
    """Cells more than 2^31 elements from the first: the map is a file full of holes, which takes no room."""
    rois = torch.tensor([[0, 30.0, 40000.0, 60.0, 40060.0]])
    features = large_map()
    features[0, 0, 39990:40070] = torch.arange(65536.0).to(torch.bfloat16)
    out = pool(program, features, rois, (2, 2), 1.0, 1, False, traced=False)
    # One sample per bin, in its middle, on a map that rises by 1 per column (exact in bfloat16 up to 256).
    assert out[0, 0].tolist() == [[37.5, 52.5]] * 2


def large_map():
    with tempfile.NamedTemporaryFile() as file:
        return torch.from_file(file.name, shared=True, size=65536 * 40100, dtype=torch.bfloat16).view(
            1, 1, 40100, 65536
        )


BARRIER = "    __syncthreads();\n"
FAULTS = {
    # forward
    "barrier dropped after the table is filled": roi_align(BARRIER, "", 0),
    "barrier dropped before the table is filled again": roi_align(
        "    __syncthreads();  // nobody still reads the table when the next RoI overwrites it\n",
        "",
        check=check_few_blocks,
    ),
    "x and y swapped": roi_align("make_axis(roi[2], roi[4],", "make_axis(roi[1], roi[3],"),
    "half a pixel missing": roi_align("p.aligned ? Real(0.5) : Real(0)", "Real(0)"),
    "samples at the edge of their cell": roi_align("(sample + Real(0.5)) * bin", "sample * bin"),
    "the last row reads past the map": roi_align("min(low + 1, cells - 1)", "low + 1"),
    "a cell too few in the table": roi_align(
        "i < count; i += blockDim.x) table", "i < count - 1; i += blockDim.x) table"
    ),
    "the tail of the channels is not left out": roi_align(
        "      if (o.channel >= p.features.channels) continue;\n", "", 0
    ),
    # backward
    "an addition that is not atomic": scatter(
        "atomicAdd(channel + y.low + x.low, each * y.low_weight * x.low_weight);",
        "channel[y.low + x.low] += each * y.low_weight * x.low_weight;",
    ),
    "a gradient divided by nothing": scatter(
        "static_cast<Real>(from) / roi.samples_per_bin()", "static_cast<Real>(from)"
    ),
    "packing counts its own warp twice": gather("if (w < warp) before", "if (w <= warp) before"),
    "packing without waiting for the counts": gather(
        "  __syncthreads();  // also: everyone is done with the previous list\n", ""
    ),
    "the tail of a tile is written": gather("y < map.height && x < map.width && ", ""),
    "samples that begin a cell too late": gather("(cell - reach - axis.start)", "(cell + reach - axis.start)"),
    # NMS
    "one box too many compared": nms("strip + i >= p.n || word", "strip + i > p.n || word"),
    "half of the warp left out of the ballot": nms("__ballot_sync(~0u, keep)", "__ballot_sync(0xffffu, keep)"),
    "the old set overwritten while it is read": nms("    __syncthreads();  // all have read the old set\n", ""),
    "one survivor too many": nms("s < count && !drop", "s <= count && !drop"),
    "a word of the strip dropped without an atomic": nms(
        "atomicOr(&dropped[i / word_bits], drops)", "dropped[i / word_bits] |= drops"
    ),
    "groups not looked at": nms("better_group == group && ", ""),
    # matching
    "a tail that skips the barrier": matching("  Real best = 0;\n", "  if (!there) return;\n  Real best = 0;\n"),
    "barrier dropped after the tile is loaded": matching(BARRIER, "", 0),
    "the last of equal ground truths wins": matching("if (value > best) {", "if (value >= best) {"),
    "a maximum that is not atomic": matching(
        "atomicMax(reinterpret_cast<int*>(address), __float_as_int(value));", "*address = max(*address, value);"
    ),
    "the wrong half of the warp in the maximum": matching(
        "__shfl_xor_sync(~0u, value", "__shfl_xor_sync(0xffff0000u, value"
    ),
    "an untouched ground truth claims anchors": matching(
        "if (value > 0 && value == tile_best[g])", "if (value == tile_best[g])"
    ),
}


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """All of them, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda fault: fault[0]._library(traced=True), FAULTS.values()))


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found(fault):
    program, check = FAULTS[fault]
    with pytest.raises((AssertionError, KernelFault)):
        check(program)


@pytest.mark.parametrize(
    ("program", "check"),
    [
        (roi_align_program(), check_forward),
        (roi_align_program(), check_backward),
        (roi_align_program(), check_few_blocks),
        (nms_program(strip=256), check_nms),
        (match_program(tile=8), check_match),
    ],
)
def test_kernels_without_a_fault_pass(program, check):
    check(program)


def test_64_bit_indices():
    check_large_index(roi_align_program(dtype="c10::BFloat16"))


def test_32_bit_index_is_found():
    narrow = ("{low * stride, high * stride,", "{int(low * stride), int(high * stride),")
    with pytest.raises(AssertionError):
        check_large_index(roi_align_program(narrow, dtype="c10::BFloat16"))
