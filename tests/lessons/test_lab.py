"""What the lessons stand on: checks of exercises, kernels compiled in a cell, source shown, times told."""

import subprocess
import sys
import time

import pytest
import torch

from mrcnn import lab
from mrcnn.lab.cuda import CompileError, GpuProgram, KernelFault, nvcc
from mrcnn.lab.cuda.cells import _explained

DOUBLE = """
__global__ void double_it(const float* x, float* y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = 2 * x[i];
}
"""

X = torch.arange(6.0).view(2, 3)

# ---- kernels ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def double_it():
    return lab.cuda(DOUBLE)["double_it"]


def test_a_kernel_runs_and_is_traced(double_it):
    x, y = torch.arange(100.0, device=lab.device()), torch.zeros(100, device=lab.device())
    double_it[2, 64](x, y, 100)
    assert torch.equal(y, 2 * x)
    y.zero_()
    trace = double_it.trace[(2, 1), (64, 1, 1)](x, y, 100)
    assert torch.equal(y, 2 * x)
    assert set(trace.buffer) == {"x", "y"}
    assert set(trace.line) == {4}
    assert double_it.trace[2, 64](x, y, 101).findings == [
        "double_it, block 1, thread 36, line 4: reads x[100], out of bounds: it has 100 elements"
    ]


def test_shared_memory_and_several_kernels():
    kernels = lab.cuda("""
    // __global__ void not_this(int n) {}
    __global__ void turn(int* y) {
      extern __shared__ int tile[];
      tile[threadIdx.x] = y[threadIdx.x];
      __syncthreads();
      y[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
    }
    __global__ void one(int* y) { *y = 1; }""")
    assert list(kernels) == ["turn", "one"]
    y = torch.arange(8, dtype=torch.int32, device=lab.device())
    kernels["turn"][1, 8, 8 * 4](y)
    assert y.tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    kernels["turn"].trace[1, 8, 8 * 4](y).check()
    assert y.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    with pytest.raises(KernelFault):
        kernels["turn"][1, 8, 1 << 30](y)  # more than there is


def test_the_schedule_can_be_shuffled():
    last = lab.cuda("__global__ void last(int* y) { *y = threadIdx.x; }")["last"]
    y = torch.zeros(1, dtype=torch.int32, device=lab.device())
    with lab.schedule("descending"):
        last.trace[1, 8](y)
    assert y.item() == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((X, X), r"double_it\(x, y, n\) takes 3 arguments; got 2"),
        ((X, X.double(), 6), r"takes float\* y, a tensor of torch.float32; got one of torch.float64"),
        ((X.T, X, 6), "x of double_it is not contiguous"),
        ((X.to("meta"), X, 6), "x of double_it must be on 'c.*'; it is on 'meta'"),
    ],
)
def test_arguments_that_a_kernel_would_misread(double_it, arguments, says):
    with pytest.raises(TypeError, match=says):
        double_it[1, 32](*arguments)
    with pytest.raises(TypeError, match=says):
        double_it.trace[1, 32](*arguments)


def test_launches_without_a_shape(double_it):
    with pytest.raises(TypeError, match=r"how many threads\? Write double_it\[grid, block\]"):
        double_it(X, X, 6)
    with pytest.raises(TypeError, match=r"a launch is kernel\[grid, block\]"):
        double_it[6](X, X, 6)


def test_cpp():
    functions = lab.cpp("""
#include <algorithm>
static float twice(float x) { return 2 * x; }
/*
void not_this(int n) {}
*/
void fill(const float* x, float* y, int64_t n) { std::transform(x, x + n, y, twice); }""")
    assert list(functions) == ["fill"]
    y = torch.zeros(6)
    functions["fill"](X, y, 6)
    assert torch.equal(y, 2 * X.flatten())
    with pytest.raises(TypeError, match=r"takes float\* x"):
        functions["fill"](X.int(), y, 6)


COMPILE_ERRORS = [
    (("2 *", "two *"), "line 4: ", "two", "     4 |   if (i < n) y[i] = two * x[i];\n       |                     ^"),
    (("2 * x[i];", "2 * x[i]"), "line 4: ", "expected", "     4 |   if (i < n) y[i] = 2 * x[i]\n"),
    (("x[i];\n}", "x[i];\n"), "the end comes too early: a { is not closed", "", ""),
]


@pytest.mark.parametrize(("change", "begins", "names", "shows"), COMPILE_ERRORS)
def test_compile_errors_are_told_at_the_line(change, begins, names, shows):
    with pytest.raises(CompileError) as error:
        lab.cuda(DOUBLE.replace(*change))
    first, second, *_ = str(error.value).split("\n")
    assert first == "It does not compile."
    assert second.startswith(begins)
    assert names in second
    assert lab.device() == "cuda" or shows in str(error.value) + "\n"


def test_a_small_kernel_compiles_fast():
    """So that to try something costs nothing: processor seconds, which other work on the machine does not lengthen."""
    before = sum(resource_times())
    lab.cuda(DOUBLE + f"// {time.time_ns()}")
    assert sum(resource_times()) - before < 3


def resource_times():
    import resource

    times = [resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)]
    return [part for used in times for part in (used.ru_utime, used.ru_stime)]


@pytest.mark.skipif(nvcc() is None, reason="nvcc is not installed")
def test_the_same_source_compiles_for_a_gpu():
    program = GpuProgram(DOUBLE)
    assert program.build("sm_90").stat().st_size > 0
    symbols = subprocess.run(["nm", "-D", program.build("sm_90")], capture_output=True, text=True).stdout
    assert {"enter_0", "signature_0", "cuda_on_cpu_schedule"} <= set(symbols.split())
    with pytest.raises(RuntimeError) as error:
        GpuProgram(DOUBLE.replace("2 *", "two *")).build("sm_90")
    explained = _explained(str(error.value), DOUBLE)
    assert explained.startswith('It does not compile.\nline 4: identifier "two" is undefined')


# ---- in a notebook ---------------------------------------------------------------------------------------------------


@pytest.fixture
def shell():
    interactive = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell
    from traitlets.config import Config

    shell = interactive.instance(config=Config({"HistoryManager": {"enabled": False}}))
    shell.colors = "nocolor"
    shell.run_cell("%load_ext mrcnn.lab")
    yield shell
    interactive.clear_instance()


def test_the_magics(shell):
    assert shell.run_cell("%%cuda" + DOUBLE).success
    assert shell.run_cell("%%cpp\nvoid one(float* y) { *y = 1; }").success
    y = torch.zeros(6)
    shell.user_ns["double_it"][1, 32](X.to(lab.device()), y.to(lab.device()), 6)
    shell.user_ns["one"](y)
    assert y[0] == 1


def test_a_compile_error_shows_the_cells_line_and_no_python(shell, capsys):
    result = shell.run_cell("%%cuda" + DOUBLE.replace("2 *", "two *"))
    assert isinstance(result.error_in_exec, CompileError)  # so Run All stops
    shown = capsys.readouterr().out
    assert shown.startswith("It does not compile.\nline 4: ")  # the line of %%cuda is the first
    assert ".py" not in shown


def test_a_fault_shows_no_python(shell, capsys):
    shell.run_cell("%%cuda\n__global__ void nothing(int n) {}")
    capsys.readouterr()
    assert not shell.run_cell("nothing[0, 8](4)").success
    assert "launching nothing: " in (shown := capsys.readouterr().out)
    assert ".py" not in shown


# ---- to look at ------------------------------------------------------------------------------------------------------


def test_show_a_function_in_part(capsys):
    lab.show(lab.timed, "taken =", "max(")
    title, _, fence, first, last, end, _ = capsys.readouterr().out.split("\n")
    assert (title, fence, end) == ("timed, in mrcnn/lab/notebook.py", "```python", "```")
    assert first.startswith("taken =")
    assert last.endswith("max(map(len, taken))")


def test_show_a_file(capsys):
    lab.show("nms/nms.cu", "__global__", "{")
    shown = capsys.readouterr().out
    assert shown.startswith("csrc/nms/nms.cu\n\n```c++\n__global__")
    assert shown.endswith("{\n```\n")
    lab.show("nms/nms.cu")
    assert capsys.readouterr().out.startswith("<details><summary>csrc/nms/nms.cu (")
    with pytest.raises(ValueError, match="no line from line 1 on contains 'not there'"):
        lab.show("nms/nms.cu", "not there")


def test_timed(capsys):
    order = []
    ways = {"slow": lambda: (order.append("slow"), time.sleep(0.02)), "quick": lambda: order.append("quick")}
    medians = lab.timed(ways, repeats=2)
    assert order == ["slow", "quick"] * 3
    assert list(medians) == ["slow", "quick"]
    assert medians["slow"] >= 20
    slow, quick = capsys.readouterr().out.strip().split("\n")
    assert slow.split() == ["slow", f"{medians['slow']:.3f}", "ms"]
    assert quick.startswith("quick ")
    assert quick.endswith(f"{medians['slow'] / medians['quick']:,.0f} times as fast as slow")
    warm_up = iter([1, 0])
    assert lab.timed({"slow at first": lambda: time.sleep(next(warm_up))}, repeats=1)["slow at first"] < 500
    disturbed = iter([0, 0.5, 0, 0.5])
    assert lab.timed({"disturbed": lambda: time.sleep(next(disturbed))}, repeats=3, of=min)["disturbed"] < 250
    lab.timed({"quick": lambda: None, "slow": lambda: time.sleep(0.01)}, repeats=1)
    assert capsys.readouterr().out.endswith(" times as slow as quick\n")


def test_it_imports_without_jupyter():
    code = """
import sys
for name in ("IPython", "ipykernel", "jupytext", "nbclient", "torchvision"):
    sys.modules[name] = None
from mrcnn import lab
lab.show(lab.timed, "first, *_")
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("timed, in mrcnn/lab/notebook.py\n\n```python\nfirst, *_ = taken\n")
