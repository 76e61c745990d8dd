"""How answers are judged that are kernels or C++. Functions: test_check.py; the exercises: test_exercises.py."""

import pytest
import torch

from mrcnn import lab
from mrcnn.lab.check import KernelExercise, Launch, Out, check, verdict
from mrcnn.lab.check import kernels as kernels_module
from mrcnn.lab.cuda import CompileError

HALVES = """
// y[i] = x[i] + x[n - 1 - i], by way of a tile.
__global__ void fold(const float* x, float* y, int n) {
  __shared__ float tile[64];
  «int i = threadIdx.x;
  if (i < n) tile[i] = x[i];
  __syncthreads();
  if (i < n) y[i] = tile[i] + tile[n - 1 - i];»
}"""


def fold(**changes):
    record = {
        "launch": lambda x: Launch((x, Out((len(x),)), len(x)), 1, 64),
        "cases": lambda: [(torch.arange(40.0) ** 2,)],
        "truth": lambda x: x + x.flip(0),
        "uses": ["tile"],
        "may_read": lambda x: {"x": 4 * len(x)},
        "mistakes": {"  __syncthreads();\n ⇒ ": "a barrier is missing"},
    }
    return KernelExercise(HALVES, **(record | changes))


def told(change, record=None):
    record = record or fold()
    old, new = change
    assert old in record.solution
    return verdict(record, record.make(record.solution.replace(old, new)))


def test_a_stub_of_a_kernel():
    record = fold()
    assert "// your code, about 4 lines" in record.stub
    assert verdict(record, record.make(record.stub))[0] == "not written"
    assert verdict(record, record.make(record.solution)) == ("right", "")
    assert verdict(record, lambda x: x)[1] == "expected what a %%cuda cell defines, got function"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("  __syncthreads();\n", ""), "a barrier is missing\n  The trace says: fold, block 0, thread"),
        (("  __syncthreads();", "  if (i < n) __syncthreads();"), "fold, block (0, 0, 0): thread (63, 0, 0) ended"),
        (("if (i < n) tile[i]", "tile[i]"), "reads x[40], out of bounds: it has 40 elements"),
        (("if (i < n) tile[i]", "if (i < n - 1) tile[i]"), "reads shared tile[39], which no thread"),
        (("y[i] = tile[i]", "y[i] += tile[i]"), "reads y[0] before anybody has written it"),
        (("if (i < n) y[i]", "if (i < n - 1) y[i]"), "1 of 40 cells of `y` are never written, the first is y[39]"),
        (("tile[n - 1 - i]", "tile[i]"), "40 of 40 values differ"),
        (("tile[i] + tile[n - 1 - i]", "x[i] + x[n - 1 - i]"), "right, but `tile` is of no use: no thread"),
        (("  __syncthreads();", "  while (n > 0);"), "goes on and on: does a loop never end?"),
        (
            ("  __syncthreads();", "  for (int k = 0; k < 20000; ++k) if (i < n) y[i] = x[i];\n  __syncthreads();"),
            "reads and writes 1,000,000 times",
        ),
        (
            ("if (i < n) tile[i] = x[i];", "for (int k = 0; k < n; ++k) if (i == k) tile[i] = x[i] + 0 * x[k];"),
            "right, but the threads read 320 bytes of `x`; 160 would do",
        ),
        (
            ("if (i < n) y[i] = tile[i] + tile[n - 1 - i];",
             "if (i == 0) for (int k = 0; k < n; ++k) y[k] = tile[k] + tile[n - 1 - k];"),
            "right, but 1 of 64 threads do all the work",
        ),
        (
            ("if (i < n) y[i] = tile[i] + tile[n - 1 - i];",
             "for (int k = 0; k < n; ++k) y[k] = tile[k] + tile[n - 1 - k];"),
            "each of 64 threads writes all 40 cells of `y`; each should do its part",
        ),
    ],
)  # fmt: skip
def test_a_wrong_kernel_gets_no_tick(change, says):
    status, message = told(change)
    assert status == "wrong"
    assert says in message


def test_an_endless_kernel_is_run_once(monkeypatch):
    """It takes long: not in every order, and not once more for each likely mistake."""
    runs, init = [], kernels_module._Run.__init__
    monkeypatch.setattr(kernels_module._Run, "__init__", lambda run, *way: runs.append(way) or init(run, *way))
    status, message = told(("  __syncthreads();", "  while (n > 0);"), fold(mistakes={}))
    assert (status, len(runs)) == ("wrong", 1)
    assert message.endswith("goes on and on: does a loop never end?")


def test_right_numbers_with_a_race_get_no_tick():
    """What others write to the tile is read, but makes no difference to the sum."""
    record = fold(uses=(), may_read=None, truth=lambda x: x, mistakes={})
    harmless = record.solution.replace("tile[i] + tile[n - 1 - i]", "tile[i] + 0 * tile[n - 1 - i]")
    assert verdict(record, record.make(harmless)) == ("right", "")
    status, message = verdict(record, record.make(harmless.replace("  __syncthreads();\n", "")))
    assert status == "wrong"
    assert "tile" in message


def test_outputs_hold_two_different_values_beforehand():
    """What is never written is told by its cells, and a result that happens to be one of these values is a result."""
    seen = []
    record = fold(results=lambda out: seen.append(out.flatten()[0].item()) or out, uses=())
    empty = record.make(record.solution.replace("if (i < n) y[i] =", "if (n < 0) y[i] ="))
    assert "40 of 40 cells of `y` are never written" in verdict(record, empty)[1]
    first, second, *_ = seen
    assert first > 1e6
    assert second < -1e6
    same = fold(cases=lambda: [(torch.full((40,), first / 2),)])
    assert verdict(same, same.make(same.solution)) == ("right", "")


def test_other_parameters_than_the_stubs():
    record = fold()
    status, message = verdict(record, record.make(record.solution.replace("float* y, int n", "float* y, int m, int n")))
    assert (status, message) == ("wrong", "fold(x, y, m, n) takes 4 arguments; got 3")


def test_whatever_the_judge_trips_over_is_told():
    record = fold(results=lambda out: out.reshape(7, 7))
    assert verdict(record, record.make(record.solution))[1].startswith("it raised RuntimeError")


def test_what_nvcc_refuses_is_refused():
    with pytest.raises(CompileError) as error:
        lab.cuda("\n__global__ void top(float* y, float x) {\n  atomicMax(y, x);\n}")
    assert str(error.value).startswith("It does not compile.\nline 3: CUDA has atomicMax for these types only: int, ")


BLANKS = """
void scale(const float* x, int n, float* y) {
  for (int i = 0; i < «n»; ++i) y[i] = «2 * x[i]»;
}"""


def test_blanks_in_cpp():
    record = KernelExercise(
        BLANKS,
        launch=lambda x: Launch((x, len(x), Out((len(x),)))),
        cases=lambda: [(torch.arange(5.0),)],
        truth=lambda x: 2 * x,
        mistakes={"i < n ⇒ i <= n": "x[n] is behind the end"},
        language="cpp",
    )
    assert (
        record.stub == "void scale(const float* x, int n, float* y) {\n  for (int i = 0; i < ____; ++i) y[i] = ____;\n}"
    )
    unfinished = record.make(record.stub)
    assert verdict(record, unfinished) == ("not written", "not written yet.")
    with pytest.raises(TypeError, match="scale has blanks, ____: fill them in first"):
        unfinished(1, 2)
    right = check(record, record.make(record.solution))
    assert torch.equal(right(torch.ones(3)), torch.full((3,), 2.0))
    assert right.trace(torch.ones(3)).findings == []
    status, message = verdict(record, record.make(record.solution.replace("i < n", "i < n + 1")))
    assert status == "wrong"
    seen = "The trace says: line 2: reads x[5], out of bounds: it has 5 elements"  # of no thread and no block
    assert message == f"x[n] is behind the end\n  {seen}"
