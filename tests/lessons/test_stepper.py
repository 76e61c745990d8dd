"""The stepper: its steps against kernels worked out by hand, and the size and safety of its page."""

import html
import json
import re

import pytest
import torch

from mrcnn import lab
from mrcnn.lab.cuda import Program, schedule

SOURCE = """
__global__ void swap(const float* x, float* y) {
  __shared__ float tile[2];
  tile[threadIdx.x] = 2 * x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[1 - threadIdx.x];
}

__global__ void swap_too_soon(const float* x, float* y) {
  __shared__ float tile[2];
  tile[threadIdx.x] = 2 * x[threadIdx.x];
  y[threadIdx.x] = tile[1 - threadIdx.x];
}

struct Box { float x1, y1, x2, y2; };
__device__ float area(const Box& b) {
  return (b.x2 - b.x1) * (b.y2 - b.y1);
}
__global__ void areas(const Box* boxes, float* y, int* count) {
  __shared__ Box tile[2];
  tile[threadIdx.x] = boxes[threadIdx.x];
  __syncwarp();
  y[threadIdx.x] = area(tile[threadIdx.x ^ 1]);
  atomicAdd(count, 1);
}

__global__ void through_shared(const float* x, float* y) {
  extern __shared__ int64_t numbers[];
  numbers[threadIdx.x] = threadIdx.x;
  __syncthreads();
  if (threadIdx.x == 0) y[0] = numbers[blockDim.x - 1];
}
__global__ void swap_and_clear(const float* x, float* y) {
  __shared__ float tile[2];
  tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[1 - threadIdx.x];
  tile[threadIdx.x] = 0;
}
__global__ void stuck(float* y) {
  y[threadIdx.x] = 1;
  if (threadIdx.x == 0) __syncthreads();
}
"""
PROGRAM = Program(SOURCE)
X = torch.tensor([1.5, 4.0])
WAIT = [0, [], [], None]  # of a step that is no access


def trace(kernel, order="ascending", block=2, x=X):
    with schedule(order):
        return PROGRAM.trace(kernel, 1, block, x, torch.zeros(len(x)))


def only_run(*launch, **more):
    arguments = {name: more.pop(name) for name in ("shared_bytes",) if name in more}
    return lab.stepper({"run": PROGRAM.trace(*launch, **arguments)}, **more).data["runs"][0]


def test_every_step():
    run = lab.stepper({"run": trace("swap")}).data["runs"][0]
    x, tile, y = 0, 1, 2
    assert [each["name"] for each in run["memory"]] == ["x", "tile", "y"]
    assert [each["start"] for each in run["memory"]] == [["1.5", "4"], ["?", "?"], ["0", "0"]]
    assert run["steps"] == [
        ["R", 0, 4, x, [0], ["1.5"], None],
        ["W", 0, 4, tile, [0], ["3"], None],
        ["B", 0, 5, *WAIT],
        ["R", 1, 4, x, [1], ["4"], None],
        ["W", 1, 4, tile, [1], ["8"], None],
        ["B", 1, 5, *WAIT],
        ["M", -1, 5, *WAIT],
        ["R", 0, 6, tile, [1], ["8"], None],
        ["W", 0, 6, y, [0], ["8"], None],
        ["R", 1, 6, tile, [0], ["3"], None],
        ["W", 1, 6, y, [1], ["3"], None],
    ]
    assert run["lines"] == [[n, line] for n, line in enumerate(SOURCE.split("\n"), 1) if 2 <= n <= 7]
    assert run["ending"] == "The trace has found nothing wrong."


def test_the_race_and_what_nobody_has_written():
    run = lab.stepper({"run": trace("swap_too_soon")}).data["runs"][0]
    assert [step[:3] + step[4:] for step in run["steps"]] == [
        ["R", 0, 11, [0], ["1.5"], None],
        ["W", 0, 11, [0], ["3"], None],
        ["R", 0, 12, [1], ["?"], None],
        ["W", 0, 12, [0], run["steps"][3][5], None],  # whatever lay there
        ["R", 1, 11, [1], ["4"], None],
        ["W", 1, 11, [1], ["8"], [0, 3, "R", 12, 1]],  # thread 0 read it in step 3, at line 12
        ["R", 1, 12, [0], ["3"], [0, 2, "W", 11, 0]],
        ["W", 1, 12, [1], ["3"], None],
    ]
    assert "which no thread of the block has written" in run["ending"]


def test_the_other_order():
    run = lab.stepper({"run": trace("swap_too_soon", "descending")}).data["runs"][0]
    assert [step[1] for step in run["steps"]] == [1] * 4 + [0] * 4
    assert [step[6] for step in run["steps"] if step[6]] == [[1, 3, "R", 12, 0], [1, 2, "W", 11, 1]]


def test_what_a_barrier_orders_is_no_race():
    """Both write before the barrier and read the other's after it. Only the clearing comes too soon."""
    steps = lab.stepper({"run": trace("swap_and_clear")}).data["runs"][0]["steps"]
    line = 1 + SOURCE.split("\n").index("  tile[threadIdx.x] = 0;")
    assert [(step[:3], step[6]) for step in steps if step[6]] == [
        (["R", 1, line - 1], [0, 10, "W", line, 0]),
        (["W", 1, line], [0, 8, "R", line - 1, 1]),
    ]


def test_structs_are_moved_in_one_step():
    boxes = torch.tensor([[0.0, 0, 2, 3], [1, 1, 2, 2]])
    run = only_run("areas", 1, 2, boxes, torch.zeros(2), torch.zeros(1, dtype=torch.int32))
    memory = {each["name"]: each for each in run["memory"]}
    assert memory["boxes"]["columns"] == 4
    by_name = [(step[0], step[1], run["memory"][step[3]]["name"], step[4], step[5]) for step in run["steps"][:3]]
    assert by_name == [
        ("R", 0, "boxes", [0, 1, 2, 3], ["0", "0", "2", "3"]),
        ("W", 0, "tile", [0, 1, 2, 3], ["0", "0", "2", "3"]),
        ("V", 0, run["memory"][0]["name"], [], []),
    ]
    assert ["N", -1, 22, 0, [0, 1], [], None] in run["steps"]
    assert [step[5] for step in run["steps"] if step[0] == "A"] == [["1"], ["2"]]
    assert [step[5] for step in run["steps"] if step[0] == "W"][2:] == [["1"], ["6"]]
    assert [number for number, _ in run["lines"]] == [*range(16, 26)]  # the function that was called, too


def test_threads_that_are_not_shown():
    run = only_run("through_shared", 1, 6, X, torch.zeros(2), shared_bytes=48, max_threads=2)
    assert run["threads"] == [0, 1]
    others = [step for step in run["steps"] if step[0] == "O"]
    assert others == [["O", -1, 0, 0, [], [[0, cell, str(cell)] for cell in range(2, 6)], None]]
    assert [step for step in run["steps"] if step[0] == "R"][-1][4:6] == [[5], ["5"]]


def test_a_part_of_it():
    run = lab.stepper({"run": trace("swap")}, buffers=["tile"]).data["runs"][0]
    assert [step[0] for step in run["steps"]] == ["W", "B", "W", "B", "M", "R", "R"]
    many = PROGRAM.trace("swap", 3, 2, X, torch.zeros(2))
    assert lab.stepper({"run": many}, block=2).data["runs"][0]["steps"][-1][:3] == ["W", 1, 6]
    with pytest.raises(ValueError, match="block 3 did nothing"):
        lab.stepper({"run": many}, block=3)
    with pytest.raises(ValueError, match="no run"):
        lab.stepper({})


def test_a_run_that_was_stopped():
    run = only_run("stuck", 1, 2, torch.zeros(2))
    assert [step[:2] for step in run["steps"]] == [["W", 0], ["B", 0], ["W", 1]]
    assert "ended without reaching the barrier" in run["ending"]


def test_the_description_says_what_happened():
    both = lab.stepper({"with": trace("swap"), "without": trace("swap_too_soon")}, "Two numbers")
    first, with_it, without = both.description.split("\n")
    assert first == "Two numbers."
    assert with_it.startswith("with: 11 steps of 2 threads (reads: 4, writes: 4, barriers passed: 1). ")
    assert "Races: 2, the first in step 6: thread 1, line 11, and thread 0, line 12, both use tile[1]" in without
    assert both._repr_mimebundle_() == {"text/html": both.html(), "text/plain": both.description}


def test_the_page_is_small_and_whole():
    program = Program("""
    __global__ void product(const float* a, const float* b, float* c) {
      __shared__ float left[8], right[8];
      float sum = 0;
      for (int k = 0; k < 8; k += 2) {
        left[threadIdx.x] = a[threadIdx.x % 4 * 8 + k + threadIdx.x / 4];
        right[threadIdx.x] = b[(k + threadIdx.x / 4) * 4 + threadIdx.x % 4];
        __syncthreads();
        for (int i = 0; i < 2; ++i) sum += left[4 * i + threadIdx.x % 4] * right[4 * i + threadIdx.x / 4];
        __syncthreads();
      }
      c[threadIdx.x] = sum;
    }""")
    runs = {}
    for order in ("ascending", "descending", "shuffled"):
        with schedule(order):
            runs[order] = program.trace("product", 1, 8, torch.rand(4, 8), torch.rand(8, 4), torch.zeros(8))
    page = lab.stepper(runs)
    assert all(len(run["steps"]) > 250 for run in page.data["runs"])
    text = page.html()
    assert len(text.encode()) < 100 * 1024
    assert not re.search(r"(src|href)=\"(?!data:)|@import|fetch\(|https?://(?!www\.w3\.org)", text)
    assert json.loads(json.dumps(page.data)) == page.data


def test_the_source_cannot_end_the_script():
    program = Program('__global__ void odd(float* y) { *y = 1; }  // </script><img src="x">')
    text = lab.stepper({"<b>run</b>": program.trace("odd", 1, 1, torch.zeros(1))}, 'a "title" <b>').html()
    assert text.count("</script>") == 1
    assert "<b>" not in text
    assert html.escape('a "title" <b>', quote=True) in text
