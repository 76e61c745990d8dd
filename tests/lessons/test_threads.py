"""The pictures of threads at work, against kernels whose accesses are known by hand."""

import pytest
import torch
from matplotlib.collections import PathCollection

from mrcnn.lab.cuda import Program, schedule
from mrcnn.lab.views import threads

PROGRAM = Program("""
__global__ void reverse(const float* x, float* y) {
  __shared__ float tile[8];
  tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[7 - threadIdx.x];
}
__global__ void reverse_too_soon(const float* x, float* y) {
  __shared__ float tile[8];
  tile[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = tile[7 - threadIdx.x];
}
__global__ void strided(const float* x, float* y, int step) { y[threadIdx.x] = x[threadIdx.x * step]; }
__global__ void wide(const float4* x, float* y) { y[threadIdx.x] = x[threadIdx.x].w; }
__global__ void whole(const float4* x, float4* y) { y[threadIdx.x] = x[threadIdx.x]; }
__global__ void twice(const float* x, float* y) {
  for (int i = 0; i < 2; ++i) y[threadIdx.x] = x[64 * i];
}
__global__ void sums(const float* x, float* y) {
  atomicAdd(&y[threadIdx.x % 3], x[blockIdx.x * blockDim.x + threadIdx.x]);
}
__global__ void one_cell(float* y) { *y = blockIdx.x; }
""")


def run(kernel, grid, block, *arguments):
    return PROGRAM.trace(kernel, grid, block, *arguments)


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_cells_name_who_did_what():
    trace = run("sums", 2, 6, torch.arange(12.0), torch.zeros(4))
    assert texts(threads.draw_cells(trace, "y", (4,))) == ["A", "0,3", "A", "1,4", "A", "2,5"]  # the fourth is empty
    by_block = texts(threads.draw_cells(trace, "x", (3, 4), by="block"))
    assert by_block == ["R", "0"] * 6 + ["R", "1"] * 6
    second = texts(threads.draw_cells(trace, "x", (3, 4), block=1))
    assert second == [word for thread in "012345" for word in ("R", thread)]


def test_a_wide_load_touches_several_cells():
    trace = run("whole", 1, 2, torch.arange(8.0), torch.zeros(8))
    assert texts(threads.draw_cells(trace, "x", (2, 4))) == ["R", "0"] * 4 + ["R", "1"] * 4


def test_many_in_one_cell():
    trace = run("twice", 1, 32, torch.arange(65.0), torch.zeros(32))
    assert texts(threads.draw_cells(trace, "x")) == ["R", "0-31", "R", "0-31"]  # x[0] and x[64]


def test_no_race_with_the_barrier():
    trace = run("reverse", 1, 8, torch.arange(8.0), torch.zeros(8))
    assert threads.races(trace) == []
    assert "race" not in threads.draw_cells(trace, "tile").axes[0].get_title(loc="left")
    assert "all wait" in texts(threads.draw_timeline(trace))


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
def test_every_cell_of_a_race(order):
    with schedule(order, seed=3):
        trace = run("reverse_too_soon", 1, 8, torch.arange(8.0), torch.zeros(8))
    found = threads.races(trace)
    assert sorted(cell for _, cell, *_ in found) == list(range(8))
    for name, cell, before, row in found:
        assert name == "tile"
        assert before < row
        assert {trace.thread[before], trace.thread[row]} == {cell, 7 - cell}
        assert {trace.op[before], trace.op[row]} == {"read", "write"}
    assert "X: a race, in 8 cells" in threads.draw_cells(trace, "tile").axes[0].get_title(loc="left")
    drawn = texts(threads.draw_timeline(trace))
    assert "all wait" not in drawn
    assert sum(text.startswith("race: tile[") for text in drawn) == 1


def test_two_blocks_collide():
    trace = run("one_cell", 3, 1, torch.zeros(1))
    assert [(name, cell) for name, cell, *_ in threads.races(trace)] == [("y", 0)]


def test_timeline_is_the_order_of_the_run():
    trace = run("reverse", 1, 8, torch.arange(8.0), torch.zeros(8))
    figure = threads.draw_timeline(trace, threads=[0, 3])
    spoken = [text for text in figure.axes[0].texts if text.get_text() != "all wait"]
    assert [text.get_text() for text in spoken] == [
        *("R x[0]", "W tile[0]", "R x[3]", "W tile[3]"),
        *("R tile[7]", "W y[0]", "R tile[4]", "W y[3]"),
    ]
    assert [round(text.get_position()[1]) for text in spoken] == list(range(8))
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["thread 0", "thread 3"]
    only = threads.draw_timeline(trace, buffers=["tile"], rows=5)
    assert "11 more" in only.axes[0].get_xlabel()
    # Reads, writes and atomics have marks of different shapes.
    marks = [c for c in figure.axes[0].collections if isinstance(c, PathCollection)]
    assert len({len(mark.get_paths()[0].vertices) for mark in marks[:2]}) == 2


@pytest.mark.parametrize(("step", "expected"), [(0, 1), (1, 4), (2, 8), (8, 32), (12, 32)])
def test_sectors(step, expected):
    """A warp that reads 4 bytes every 4·step bytes; a sector is 32 bytes."""
    trace = run("strided", 1, 32, torch.arange(400.0), torch.zeros(32), step)
    assert threads.sectors(trace, "x") == expected
    assert threads.sectors(trace, "y", op="write") == 4
    title = threads.draw_lanes(trace, "x").axes[0].get_title(loc="left")
    assert f"{4 * (32 if step else 1)} different bytes, {expected} sector" in title
    assert f"{32 * expected} bytes move" in title
    borders = threads.draw_lanes(trace, "x").axes[0].collections[1].get_segments()
    assert len(borders) == 2 * expected


def test_sectors_of_many_warps_and_turns():
    assert threads.sectors(run("strided", 1, 64, torch.zeros(64), torch.zeros(64), 1), "x") == 8  # two warps
    assert threads.sectors(run("strided", 2, 32, torch.zeros(64), torch.zeros(64), 1), "x") == 8  # two blocks
    assert threads.sectors(run("twice", 1, 32, torch.zeros(65), torch.zeros(32)), "x") == 2  # all lanes at one address
    assert threads.sectors(run("whole", 1, 32, torch.zeros(128), torch.zeros(128)), "x") == 16  # 16 bytes a lane
    assert threads.sectors(run("wide", 1, 32, torch.zeros(128), torch.zeros(32)), "x") == 16


def test_lanes_of_a_turn_and_a_line():
    trace = run("twice", 1, 32, torch.zeros(65), torch.zeros(32))
    assert [text for text in texts(threads.draw_lanes(trace, "x", nth=1)) if text == "256"] == ["256"]  # its byte
    with pytest.raises(ValueError, match="does not write x"):
        threads.draw_lanes(trace, "x", op="write")
    with pytest.raises(ValueError, match="nobody touched z"):
        threads.sectors(trace, "z")


def test_views_say_what_they_show():
    trace = run("reverse_too_soon", 1, 8, torch.arange(8.0), torch.zeros(8))
    tile = threads.cells(trace, "tile")
    assert tile.data["cells"]["3"] == {"who": [3, 4], "did": "RW"}
    assert tile.data["races"] == list(range(8))
    assert (
        tile.description
        == "The cells of tile: 8 were touched, 0 of them by one thread alone. Cell 0: thread 0,7. "
        + ("A race in 8 cells, the first is 0.")
    )
    first = threads.timeline(trace, threads=[0], rows=2)
    assert first.data == {"steps": [[0, "R x[0]"], [0, "W tile[0]"]]}
    assert first.description.startswith("In the order of the run: thread 0 R x[0]; thread 0 W tile[0]. 8 cells are in")
    strided = run("strided", 1, 32, torch.arange(400.0), torch.zeros(32), 2)
    assert "32 lanes want 128 different bytes, 8 sectors = 256 bytes move." in threads.lanes(strided, "x").description


def test_the_parts_of_a_struct_are_one_step():
    trace = run("whole", 1, 2, torch.arange(8.0), torch.zeros(8))
    steps = [text for _, text in threads.timeline(trace).data["steps"]]
    assert sorted(steps) == ["R x[0-3]", "R x[4-7]", "W y[0-3]", "W y[4-7]"]


def test_the_turns_of_a_loop_are_steps_of_their_own():
    trace = run("strided", 1, 3, torch.arange(3.0), torch.zeros(3), 1)
    assert len(threads.timeline(trace).data["steps"]) == 6
    loop = Program("""
    __global__ void sum(const unsigned char* x, float* y) { for (int i = 0; i < 3; ++i) y[0] += x[i]; }""")
    trace = loop.trace("sum", 1, 1, torch.ones(3, dtype=torch.uint8), torch.zeros(1))
    read = [text for _, text in threads.timeline(trace, buffers=["x"]).data["steps"]]
    assert read == ["R x[0]", "R x[1]", "R x[2]"]


def test_counts():
    trace = run("sums", 2, 6, torch.arange(12.0), torch.zeros(4))
    assert threads.count_accesses(trace) == {
        "x": {"read": 12, "write": 0, "atomic": 0},
        "y": {"read": 0, "write": 0, "atomic": 12},
    }
    assert threads.count_accesses(trace, in_bytes=True)["x"]["read"] == 48


def test_a_shared_array_used_in_two_widths():
    """Written 16 bytes at a time, read 4: its cells are the floats, for the picture and for the races."""
    program = Program("""
    __global__ void stage(const float4* x, float* y) {
      __shared__ float4 tile[2];
      if (threadIdx.x < 2) tile[threadIdx.x] = x[threadIdx.x];
      y[threadIdx.x] = tile[threadIdx.x / 4].w;
    }""")
    trace = program.trace("stage", 1, 8, torch.arange(8.0), torch.zeros(8))
    assert texts(threads.draw_cells(trace, "tile", (2, 4))) == [
        *("W", "0") * 3,
        *("RW", "0-3"),
        *("W", "1") * 3,
        *("RW", "5x"),
    ]
    assert sorted(cell for _, cell, *_ in threads.races(trace)) == [3, 7]
    assert "W tile[4-7]" in texts(threads.draw_timeline(trace))
