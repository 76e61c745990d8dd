"""What the trace sees, and a kernel planted for each fault that it finds: the message names who and where."""

import shutil

import numpy as np
import pytest
import torch

from mrcnn.lab.cuda import KernelFault, Program

PROGRAM = Program("""
__global__ void shift(const float* x, float* y, int n) {
  __shared__ float tile[32];
  tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[(threadIdx.x + 1) % 32] + n;
}
__global__ void no_barrier(const float* x, float* y) {
  __shared__ float tile[64];
  tile[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = tile[63 - threadIdx.x];
}
__global__ void one_cell(float* y) { *y += 1; }
__global__ void unreached(float* y, int n) {
  if (threadIdx.x < n) __syncthreads();
  y[threadIdx.x] = 1;
}
__global__ void two_barriers(float* y) {
  if (threadIdx.x % 2)
    __syncthreads();
  else
    __syncthreads();
  y[threadIdx.x] = 1;
}
__global__ void unwritten(float* y) {
  __shared__ float tile[64];
  if (threadIdx.x != 5) tile[threadIdx.x] = 1;
  __syncthreads();
  y[threadIdx.x] = tile[threadIdx.x];
}
__global__ void too_far(float* y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i <= n) y[i] = 1;
}
__global__ void past_dynamic(float* y) {
  extern __shared__ float tile[];
  tile[threadIdx.x] = 1;
}
__global__ void not_in_mask(unsigned* y) { y[threadIdx.x] = __ballot_sync(0xffff, 1); }
__global__ void lane_missing(unsigned* y) {
  if (threadIdx.x < 31) y[threadIdx.x] = __ballot_sync(~0u, 1);
  __syncthreads();
}
__global__ void warp_ordered(float* y) {  // lanes hand on a value through shared memory, with a warp's barrier only
  __shared__ float tile[64];
  tile[threadIdx.x] = threadIdx.x;
  __syncwarp();
  y[threadIdx.x] = tile[threadIdx.x ^ 1];
}
__global__ void atomics(float* y, int* n) {
  atomicAdd(y, 1.0f);
  if (atomicAdd(n, 1) == 0) atomicAdd(n, 1);
}
""")


def line_of(part: str) -> int:
    return next(i for i, line in enumerate(PROGRAM.text.split("\n"), 1) if part in line)


def faults(*launch, **more) -> str:
    trace = PROGRAM.trace(*launch, **more)
    with pytest.raises(KernelFault) as fault:
        trace.check()
    return str(fault.value)


def test_every_access_is_seen():
    x, y = torch.arange(32.0), torch.zeros(32)
    trace = PROGRAM.trace("shift", 1, 32, x, y, 5)
    trace.check()
    assert torch.equal(y, x.roll(-1) + 5)
    # By threads, up to the barrier and from there on: x and tile, then tile and y.
    t = torch.arange(32)
    expected = []
    for thread in t.tolist():
        expected += [(thread, "read", "x", thread, "x["), (thread, "write", "tile", thread, "x[")]
    for thread in t.tolist():
        expected += [(thread, "read", "tile", (thread + 1) % 32, "% 32]"), (thread, "write", "y", thread, "% 32]")]
    lines = {"x[": line_of("tile[threadIdx.x] = x["), "% 32]": line_of("% 32]")}
    seen = zip(trace.thread, trace.op, trace.buffer, trace.index, trace.line, strict=True)
    assert list(seen) == [(*access, lines[line]) for *access, line in expected]
    assert set(trace.block) == {0}


def test_values():
    """Of a read what was read, of a write what was written, of an atomic what it left."""
    x, y = torch.arange(32.0), torch.full((32,), -1.0)
    trace = PROGRAM.trace("shift", 1, 32, x, y, 5)
    values = [trace.value(row, "f4").item() for row in range(len(trace))]
    t = list(range(32))
    assert values == [float(v) for i in t for v in (i, i)] + [float((i + 1) % 32 + 5 * w) for i in t for w in (0, 1)]
    assert trace.before[1].tolist() == [-1.0] * 32
    trace = PROGRAM.trace("one_cell", 1, 3, torch.tensor([7.0]))
    assert [trace.value(row, "f4").item() for row in range(6)] == [7, 8, 8, 9, 9, 10]
    trace = PROGRAM.trace("atomics", 1, 2, torch.zeros(1), torch.zeros(1, dtype=torch.int32))
    assert [trace.value(row, "i4").item() for row in np.flatnonzero(trace.buffer == "n")] == [1, 2, 3]


def test_the_last_value_of_a_block():
    """Dynamic shared memory is overwritten before the next block begins."""
    program = Program("""
    __global__ void leaves(float* y) {
      extern __shared__ float tile[];
      tile[0] = y[blockIdx.x];
      tile[1] = 2 * y[blockIdx.x];
    }""")
    trace = program.trace("leaves", 2, 1, torch.tensor([3.0, 4.0]), shared_bytes=8)
    written = [trace.value(row, "f4").item() for row in np.flatnonzero(trace.op == "write")]
    assert written == [3, 6, 4, 8]
    assert "extern __shared__ float tile[];" in trace.text  # as it was written


def test_wide_values():
    program = Program("__global__ void copy(const float4* x, float4* y) { y[threadIdx.x] = x[threadIdx.x]; }")
    trace = program.trace("copy", 1, 2, torch.arange(8.0), torch.zeros(8))
    # The compiler may move 16 bytes in pieces, and in any order.
    for op in ("read", "write"):
        rows = sorted(np.flatnonzero(trace.op == op), key=lambda row: trace.events["address"][row])
        assert [number for row in rows for number in trace.value(row, "f4").tolist()] == list(range(8))


def test_waits():
    trace = PROGRAM.trace("shift", 2, 32, torch.arange(32.0), torch.zeros(32), 5)
    line = line_of("x[threadIdx.x];") + 1
    first = trace.waits[trace.waits["block"] == 0]
    # Each thread begins to wait after its two accesses; then all go on.
    assert first["row"].tolist() == [2 * i + 2 for i in range(32)] + [64]
    assert first["thread"].tolist() == [*range(32), -1]
    assert (first["lanes"] == 0).tolist() == [True] * 32 + [False]
    assert set(trace.waits["line"]) == {line}
    assert not trace.waits["in_warp"].any()
    assert all(trace.met_between(i, 64) for i in range(64))
    assert not any(trace.met_between(128, 128 + i) for i in range(64))
    assert trace.met_between(1, 64)
    assert not trace.met_between(1, 63)


def test_waits_in_a_warp():
    """Each warp meets by itself: of two warps, no access of one is ordered with one of the other."""
    program = Program("""
    __global__ void by_warps(float* y) {
      y[threadIdx.x] = 1;
      __syncwarp();
      if (threadIdx.x % 32 < 2) __shfl_sync(3, 0, 1);
      y[threadIdx.x] = 2;
    }""")
    trace = program.trace("by_warps", 1, 64, torch.zeros(64))
    meetings = trace.waits[trace.waits["lanes"] != 0]
    assert meetings[["thread", "lanes", "line"]].tolist() == [
        *((0, 2**32 - 1, 4), (0, 3, 5), (32, 2**32 - 1, 4), (32, 3, 5))
    ]
    last = [int(np.flatnonzero(trace.thread == thread)[-1]) for thread in range(64)]
    assert trace.met_between(0, last[31])
    assert not trace.met_between(0, last[32])


def test_who_waits_for_ever():
    trace = PROGRAM.trace("unreached", 1, 3, torch.zeros(3), 2)
    assert trace.waits[["thread", "lanes", "row"]].tolist() == [(0, 0, 0), (1, 0, 0)]


def test_missing_barrier():
    x, y = torch.arange(64.0), torch.zeros(64)
    message = faults("no_barrier", 1, 64, x, y)
    assert "no_barrier, block 0, thread 32" in message
    assert "with no barrier between them: a race" in message
    assert f"line {line_of('tile[63 - threadIdx.x]')}" in message


def test_two_threads_write_one_cell():
    assert "one_cell, block 0, thread 1" in faults("one_cell", 1, 2, torch.zeros(1))
    assert "which block 0, thread 0 uses" in faults("one_cell", 2, 1, torch.zeros(1))  # also from two blocks


def test_barrier_that_some_threads_do_not_reach():
    where = f"barrier at line {line_of('if (threadIdx.x < n)')}"
    assert f"unreached, block (0, 0, 0): thread (63, 0, 0) ended without reaching the {where}" in faults(
        "unreached", 1, 64, torch.zeros(64), 40
    )
    with pytest.raises(KernelFault, match=where):  # the plain build finds it too
        PROGRAM.launch("unreached", 1, 64, torch.zeros(64), 40)
    PROGRAM.launch("unreached", 1, 64, torch.zeros(64), 64)


def test_threads_at_different_barriers():
    message = faults("two_barriers", 1, 8, torch.zeros(8))
    assert "two_barriers, block (0, 0, 0): thread (0, 0, 0) waits at the barrier at line" in message


def test_shared_memory_that_nobody_wrote():
    message = faults("unwritten", 1, 64, torch.zeros(64))
    assert "unwritten, block 0, thread 5" in message
    assert "reads shared tile[5], which no thread of the block has written" in message


def test_unwritten_in_the_second_block_only():
    """The first block's values are still in the memory, but they are not the second's."""
    program = Program("""
    __global__ void first_block_writes(float* y) {
      __shared__ float tile[1];
      if (blockIdx.x == 0) tile[0] = 1;
      y[blockIdx.x] = tile[0];
    }""")
    assert "block 1, thread 0" in program.trace("first_block_writes", 2, 1, torch.zeros(2)).findings[0]


def test_out_of_bounds():
    y = torch.zeros(100)
    message = faults("too_far", 2, 64, y, 100)
    line = line_of("if (i <= n)")
    assert message == f"too_far, block 1, thread 36, line {line}: writes y[100], out of bounds: it has 100 elements"
    assert "writes dynamic shared memory[31], out of bounds" in faults("past_dynamic", 1, 32, y, shared_bytes=4 * 31)


@pytest.mark.parametrize("first", [1, 40, 5000])
def test_out_of_a_shared_array(first):
    """Into the array beside it, or into what the tracer itself keeps in memory: the access is told, and not made."""
    program = Program("""
    __global__ void beside(float* y, int first) {
      __shared__ float tile[32], other[32];
      other[threadIdx.x] = 1;
      tile[first + threadIdx.x] = 2;
      __syncthreads();
      y[threadIdx.x] = tile[threadIdx.x] + other[threadIdx.x];
    }""")
    cell = max(first, 32)
    (found,) = program.trace("beside", 1, 32, torch.zeros(32), first).findings
    assert found == (
        f"beside, block 0, thread {cell - first}, line 5: writes tile[{cell}], out of bounds: it has 32 elements"
    )


@pytest.mark.parametrize(("bits", "wrong"), [(63, False), (64, True), (-1, True)])
def test_a_shift_by_too_many_bits(bits, wrong):
    program = Program("""
    __global__ void shifts(unsigned long long* y, int bits) {
      y[0] = 1ull << bits;
    }""")
    y = torch.zeros(1, dtype=torch.uint64)
    found = program.trace("shifts", 1, 1, y, bits).findings
    message = "shifts, block (0, 0, 0): thread (0, 0, 0) shifts by more bits than the number has, at line 3"
    assert found == [message] * wrong


def test_wrong_masks():
    out = torch.zeros(32, dtype=torch.int32)
    assert "thread (16, 0, 0) calls a warp function with a mask it is not in" in faults("not_in_mask", 1, 32, out)
    assert "for lanes of its mask that never come" in faults("lane_missing", 1, 32, out)


def test_what_is_ordered_is_no_race():
    y, n = torch.zeros(64), torch.zeros(1, dtype=torch.int32)
    PROGRAM.trace("warp_ordered", 1, 64, y).check()
    assert torch.equal(y, torch.arange(64.0).view(32, 2).flip(1).flatten())
    PROGRAM.trace("atomics", 4, 64, y[:1], n).check()
    assert n.item() == 257


def test_results_come_back_through_other_layouts():
    y = torch.zeros(8, 4).t()
    PROGRAM.trace("too_far", 1, 32, y, 31).check()
    assert y.sum() == 32
    with pytest.raises(ValueError, match="dense in memory"):
        PROGRAM.trace("too_far", 1, 32, torch.zeros(8, 4)[:, :2], 3)


@pytest.mark.skipif(not (shutil.which("g++") and shutil.which("clang++")), reason="g++ or clang++ is missing")
def test_a_struct_that_is_copied_is_seen_whatever_CXX_says(monkeypatch):
    """clang does not tell of such copies: with it the reads would seem to come before any write."""
    monkeypatch.setenv("CXX", "clang++")
    program = Program("""
struct Span { float first, last, middle, width, weight, more[12]; };
__global__ void copies(const Span* x, float* y) {
  __shared__ Span spans[32];
  spans[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = spans[31 - threadIdx.x].middle;
}
""")
    x, y = torch.arange(32 * 17.0), torch.zeros(32)
    program.trace("copies", 1, 32, x, y).check()
    assert torch.equal(y, x.view(32, 17)[:, 2].flip(0))
