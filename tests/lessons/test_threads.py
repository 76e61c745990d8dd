"""The views of threads at work, against kernels whose accesses are known by hand."""

import json
import xml.etree.ElementTree as ElementTree

import pytest
import torch
from svg_checks import SVG, check, words_of

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
__global__ void halves(float* y) {
  __shared__ float tile[1];
  if (threadIdx.x == 0) tile[0] = 1;
  if (threadIdx.x / 32 == 1) __syncwarp();
  y[threadIdx.x] = tile[0];
}
""")


def run(kernel, grid, block, *arguments):
    return PROGRAM.trace(kernel, grid, block, *arguments)


def who(view) -> dict[int, tuple[str, list[int]]]:
    return {int(cell): (each["did"], each["who"]) for cell, each in view.data["cells"].items()}


def steps(view) -> list[str]:
    """What was done, without the waits: "0 R x[0-3]"."""
    names = [buffer["name"] for buffer in view.data["memory"]]
    done = [step for step in view.data["steps"] if step[0] in "RWA"]
    return [
        f"{thread} {kind} {names[buffer]}[{cells[0]}{f'-{cells[-1]}' * (len(cells) > 1)}]"
        for kind, thread, _, buffer, cells, *_ in done
    ]


def meetings(view) -> int:
    return sum(step[0] == "M" for step in view.data["steps"])


def some_views(racing, waiting, summing, strided):
    for trace in (racing, waiting, summing):
        yield from (threads.timeline(trace), threads.timeline(trace, threads=[5], rows=2), threads.cells(trace, "x"))
    yield from (threads.cells(racing, "tile", (4, 2)), threads.cells(racing, "tile", block=1))
    yield from (threads.cells(summing, "y"), threads.cells(summing, "y", by="block"), threads.lanes(summing, "x"))
    yield from (threads.lanes(trace, "x") for trace in strided)


def test_every_view_can_be_read_and_is_the_same_again():
    eight = (torch.arange(8.0), torch.zeros(8))
    traces = (
        run("reverse_too_soon", 1, 8, *eight),
        run("reverse", 1, 8, *eight),
        run("sums", 2, 200, torch.arange(400.0), torch.zeros(4)),
        [run("strided", 1, 32, torch.zeros(12401), torch.zeros(32), step) for step in (0, 1, 3, 400)],
    )
    for view, again in zip(some_views(*traces), some_views(*traces), strict=True):
        check(view)
        assert view == again
        assert json.loads(json.dumps(view.data)) == view.data


# ---- cells -----------------------------------------------------------------------------------------------------------


def test_cells_name_who_did_what():
    trace = run("sums", 2, 6, torch.arange(12.0), torch.zeros(4))
    view = threads.cells(trace, "y", (4,))
    assert who(view) == {0: ("A", [0, 3]), 1: ("A", [1, 4]), 2: ("A", [2, 5])}  # nobody touched the fourth
    assert view.description == (
        "4 cells of y in 1 row: 3 touched, by 6 threads; 0 by one alone. Most touch cell 0: 2 threads, 0,3. No race."
    )
    drawn = words_of(view)
    assert [drawn.count(word) for word in ("A", "0,3", "1,4", "2,5")] == [3, 1, 1, 1]
    by_block = threads.cells(trace, "x", (3, 4), by="block")
    assert who(by_block) == {cell: ("R", [cell // 6]) for cell in range(12)}
    assert "12 touched, by 2 blocks; 12 by one alone" in by_block.description
    assert who(threads.cells(trace, "x", (3, 4), block=1)) == {cell: ("R", [cell - 6]) for cell in range(6, 12)}


def test_a_wide_load_touches_several_cells():
    trace = run("whole", 1, 2, torch.arange(8.0), torch.zeros(8))
    assert who(threads.cells(trace, "x", (2, 4))) == {cell: ("R", [cell // 4]) for cell in range(8)}


def test_many_in_one_cell():
    trace = run("twice", 1, 32, torch.arange(65.0), torch.zeros(32))
    view = threads.cells(trace, "x")
    assert who(view) == {0: ("R", list(range(32))), 64: ("R", list(range(32)))}
    assert words_of(view).count("0-31") == 2


def test_a_tint_that_comes_again_is_not_said_to_be_one_thread():
    view = threads.cells(run("strided", 1, 8, torch.zeros(8), torch.zeros(8), 1), "x")
    cells = list(ElementTree.fromstring(view.picture).iter(f"{SVG}rect"))[1:]
    assert cells[0].get("fill") == cells[6].get("fill") != cells[1].get("fill")
    assert any("tints come again" in words for words in words_of(view))
    assert [words_of(view).count(str(thread)) for thread in range(8)] == [2] * 8  # in the cell and above it


# ---- races -----------------------------------------------------------------------------------------------------------


def test_no_race_with_the_barrier():
    trace = run("reverse", 1, 8, torch.arange(8.0), torch.zeros(8))
    assert threads.races(trace) == []
    view = threads.cells(trace, "tile")
    assert view.data["races"] == []
    assert view.description.endswith("No race.")
    view = threads.timeline(trace)
    assert not any(step[6] for step in view.data["steps"])
    assert "The trace has found nothing wrong." in view.description
    for each in (threads.cells(trace, "tile"), view):
        assert not any("race" in words or words.startswith("X") for words in words_of(each))


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
    view = threads.cells(trace, "tile")
    assert view.data["races"] == list(range(8))
    assert "A race in 8 cells, the first is 0." in view.description
    assert "X: a race, in 8 cells" in words_of(view)
    view = threads.timeline(trace)
    assert meetings(view) == 0
    racing = [step for step in view.data["steps"] if step[6]]
    assert sorted(step[4][0] for step in racing) == list(range(8))
    for _, thread, _, _, (cell,), _, (other, *_) in racing:
        assert {thread, other} == {cell, 7 - cell}
    assert "Races: 8, the first in step " in view.description
    assert sum(words.startswith("X ") for words in words_of(view)) == 8


def test_two_blocks_collide():
    trace = run("one_cell", 3, 1, torch.zeros(1))
    assert [(name, cell) for name, cell, *_ in threads.races(trace)] == [("y", 0)]


def test_a_wait_of_others_does_not_end_a_race():
    """Warp 1 waits for itself alone, so its threads race with thread 0 as those of warp 0 do."""
    trace = run("halves", 1, 64, torch.zeros(64))
    assert [(name, cell) for name, cell, *_ in threads.races(trace)] == [("tile", 0)]
    with schedule("descending"):  # the threads of warp 1 come first
        trace = run("halves", 1, 64, torch.zeros(64))
    ((_, _, before, row),) = threads.races(trace)
    assert {int(trace.thread[before]), int(trace.thread[row])} & set(range(32, 64))
    assert meetings(threads.timeline(trace)) == 0


# ---- timeline --------------------------------------------------------------------------------------------------------


def test_timeline_is_the_order_of_the_run():
    trace = run("reverse", 1, 8, torch.arange(8.0), torch.zeros(8))
    view = threads.timeline(trace, threads=[0, 3], rows=100)
    assert steps(view) == [
        *("0 R x[0]", "0 W tile[0]", "3 R x[3]", "3 W tile[3]"),
        *("0 R tile[7]", "0 W y[0]", "3 R tile[4]", "3 W y[3]"),
    ]
    assert [step[2] for step in view.data["steps"] if step[0] in "RWA"] == [4] * 4 + [6] * 4
    assert meetings(view) == 1
    drawn = words_of(view)
    at = [drawn.index(words) for words in ("R x[0] 0", "W tile[0] 0", "R x[3] 3", "W tile[3] 3")]
    at += [drawn.index(words) for words in ("all have met, line 5", "R tile[7] 7", "W y[0] 7", "R tile[4] 4")]
    assert at == sorted(at)
    assert {"thread 0", "thread 3", "waits, line 5", "threads that are not shown"} <= set(drawn)
    assert "reads: 4, writes: 4, barriers passed: 1" in view.description


def test_a_timeline_says_what_it_leaves_out():
    trace = run("reverse", 1, 8, torch.arange(8.0), torch.zeros(8))
    view = threads.timeline(trace, buffers=["tile"], rows=5)
    assert len(steps(view)) == 16  # of the buffer alone
    assert len(view.data["steps"]) == 16 + 8 + 1  # a wait of each thread, and their meeting
    assert "… and 20 more steps" in words_of(view)
    assert view.description.endswith("The first 5 are drawn.")


def test_the_parts_of_a_struct_are_one_step():
    trace = run("whole", 1, 2, torch.arange(8.0), torch.zeros(8))
    done = [step.partition(" ")[2] for step in steps(threads.timeline(trace))]
    assert sorted(done) == ["R x[0-3]", "R x[4-7]", "W y[0-3]", "W y[4-7]"]


def test_the_turns_of_a_loop_are_steps_of_their_own():
    trace = run("strided", 1, 3, torch.arange(3.0), torch.zeros(3), 1)
    assert len(steps(threads.timeline(trace))) == 6
    loop = Program("""
    __global__ void sum(const unsigned char* x, float* y) { for (int i = 0; i < 3; ++i) y[0] += x[i]; }""")
    trace = loop.trace("sum", 1, 1, torch.ones(3, dtype=torch.uint8), torch.zeros(1))
    assert steps(threads.timeline(trace, buffers=["x"])) == ["0 R x[0]", "0 R x[1]", "0 R x[2]"]


# ---- lanes and sectors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 1, 2, 3, 8, 12])
def test_sectors(step):
    """A warp that reads 4 bytes every 4·step bytes; a sector is 32 bytes."""
    trace = run("strided", 1, 32, torch.arange(400.0), torch.zeros(32), step)
    wanted = {4 * step * lane + byte for lane in range(32) for byte in range(4)}
    expected = sorted({byte // 32 for byte in wanted})
    assert threads.sectors(trace, "x") == len(expected)
    assert threads.sectors(trace, "y", op="write") == 4
    view = threads.lanes(trace, "x")
    assert view.data["sectors"] == expected
    assert view.data["lanes"] == [[lane, 4 * step * lane, 4] for lane in range(32)]
    assert (view.data["wanted"], view.data["moved"]) == (len(wanted), 32 * len(expected))
    count = f"{len(expected)} sector" + "s" * (len(expected) > 1)
    assert f"{len(wanted)} different bytes of x at line 13: {count}, {32 * len(expected)} bytes" in view.description
    thick = [each for each in ElementTree.fromstring(view.picture).iter() if each.get("stroke-width") == "2"]
    assert len(thick) == len(expected)


def test_sectors_of_many_warps_and_turns():
    assert threads.sectors(run("strided", 1, 64, torch.zeros(64), torch.zeros(64), 1), "x") == 8  # two warps
    assert threads.sectors(run("strided", 2, 32, torch.zeros(64), torch.zeros(64), 1), "x") == 8  # two blocks
    assert threads.sectors(run("twice", 1, 32, torch.zeros(65), torch.zeros(32)), "x") == 2  # all lanes at one address
    assert threads.sectors(run("whole", 1, 32, torch.zeros(128), torch.zeros(128)), "x") == 16  # 16 bytes a lane
    assert threads.sectors(run("wide", 1, 32, torch.zeros(128), torch.zeros(32)), "x") == 16


def test_lanes_of_a_turn_and_a_line():
    trace = run("twice", 1, 32, torch.zeros(65), torch.zeros(32))
    view = threads.lanes(trace, "x", nth=1)
    assert view.data["sectors"] == [8]
    assert "byte 256" in words_of(view)
    with pytest.raises(ValueError, match="does not write x"):
        threads.lanes(trace, "x", op="write")
    with pytest.raises(ValueError, match="nobody touched z"):
        threads.sectors(trace, "z")


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
    view = threads.cells(trace, "tile", (2, 4))
    alone = {cell: ("W", [cell // 4]) for cell in (0, 1, 2, 4, 5, 6)}
    assert who(view) == alone | {3: ("RW", [0, 1, 2, 3]), 7: ("RW", [1, 4, 5, 6, 7])}
    assert {"0-3", "5x", "5x: of 5 threads, not in a row"} <= set(words_of(view))
    assert view.data["races"] == [3, 7]
    assert "1 W tile[4-7]" in steps(threads.timeline(trace))
