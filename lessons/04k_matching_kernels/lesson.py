# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # Matching, down to the thread
#
# The same matching in C++, and then as CUDA kernels: which thread does what, what threads can share, and the race between
# them.
#
# **You will** fill in the blanks of a first C++ function, write the matching loop in C++, then two kernels and an atomic. You
# need no GPU: kernels run thread by thread on the CPU, where every load and store can be watched.
#
# **Time** about 60 minutes. **Know first** the first half of lesson 04: each anchor looks for its best object. No C++, no CUDA.
#
# **Files** `csrc/anchor_matching/`, `csrc/iou.cuh`.

# %%
import exercises
import pictures
import torch

import mrcnn
from mrcnn import boxes as box_maths
from mrcnn import lab, ops
from mrcnn.anchors import make_anchors
from mrcnn.data import Playground
from mrcnn.lab import check
from mrcnn.lab.cases import random_boxes
from mrcnn.lab.views import threads

# %load_ext mrcnn.lab
# %matplotlib inline

# %% [markdown]
# ## What is to be done
#
# Here are the anchors and the objects of a scene. For each **anchor** we want its *best* **object**, the one with the largest
# IoU, and that IoU. In PyTorch it is the largest number of each column of a table.

# %%
image, target = Playground(40, seed=0)[3]
objects = target["boxes"].to(lab.device())  # (G, 4)
settings = mrcnn.playground_rcnn().settings.rpn
sizes = [(32, 32), (16, 16), (8, 8), (4, 4), (2, 2)]  # (rows, columns) of the five levels
anchors = torch.cat(make_anchors(settings.anchors, (128, 128), sizes)).to(lab.device())  # (A, 4)
high, low = settings.positive_iou, settings.negative_iou


def with_table(anchors, objects):
    """Each anchor's best object and the IoU with it, by way of the whole table (G, A)."""
    ious, best = box_maths.iou(objects, anchors).max(dim=0)
    return best, ious


best, ious = with_table(anchors, objects)
print(f"A = {len(anchors)} anchors, G = {len(objects)} objects: a table of {len(anchors) * len(objects):,} IoUs")

# %% [markdown]
# The table is thrown away at once: only the best of each column is wanted. A loop needs no table, but Python's loops are
# slow. C++ has loops that are not.
#
# ## C++, if you have never seen it
#
# | Python | C++ | |
# |---|---|---|
# | `total = 0.0` | `float total = 0;` | a variable has a **type**: `float`, or `int` for whole numbers; a line ends with `;` |
# | `for i in range(n):` | `for (int i = 0; i < n; ++i) { }` | begin; go on while; after each turn. Braces, not indents, say what is inside |
# | `if a > b:` | `if (a > b) { }` | without braces the next line alone is inside |
# | `def f(x, n):` | `void f(const float* x, int n) { }` | `void`: it returns nothing |
# | `x[i]` | `x[i]` | `float* x` is a **pointer**: the place in memory where a tensor's numbers begin. Its length must be told: `n` |
# | `return total` | `sum[0] = total;` | a result is written to where a pointer points. `const` means: read only |
#
# Nobody checks an index: `x[n]` is whatever lies behind the end. In this notebook `check` looks.
#
# A cell that begins with `%%cpp` is compiled, and its `void` functions can then be called with tensors. Fill in the
# blanks and write the last line.

# %% exercise="add_up"

# %% [markdown]
# Now you can call it. What `check` gives back takes the tensors alone: it passes `n`, makes room for the result and
# returns it. (If nothing is written yet, this is the lesson's version.)

# %%
numbers = torch.tensor([1.0, 2.0, 3.5])
print("their sum:", add_up(numbers).item(), f"({lab.whose(add_up)})")

# %% [markdown]
# ## Rung 3: one pass, no table
#
# Pair by pair, and only the best so far is remembered: memory for A + G boxes instead of A × G numbers. `anchors[a]` is a box
# with `x1, y1, x2, y2`, and `iou` takes two of them. It comes from `csrc/iou.cuh`:

# %%
lab.show("iou.cuh", start="struct alignas(16) Box", end="return inter")

# %% [markdown]
# `template`, `Real` and `__device__` are for the library: the same text serves float and double, on CPU and GPU. Read `Real`
# as `float`, and skip the rest.

# %% exercise="best_cpp"

# %% [markdown]
# The library has its own C++. It takes 128 anchors at a time, so that the compiler can use vector instructions, skips
# the objects that none of the 128 touches, and shares the work among the cores. **Predict** which step brings more:
# from PyTorch to your C++, or from your C++ to the library's?


# %%
def agree(name, result, expected):
    same = torch.equal(result[0].long(), expected[0].long()) and torch.allclose(result[1], expected[1], atol=1e-6)
    print(f"{name}: {'agrees' if same else 'DIFFERS'}")


cpu_anchors, cpu_objects = anchors.cpu(), objects.cpu()
whole = with_table(cpu_anchors, cpu_objects)
agree(f"C++, {lab.whose(best_cpp)}, against PyTorch", best_cpp(cpu_anchors, cpu_objects), whole)
times = lab.timed(
    {
        "PyTorch, the whole table": lambda: with_table(cpu_anchors, cpu_objects),
        f"C++, {lab.whose(best_cpp)}": lambda: best_cpp(cpu_anchors, cpu_objects),
        "mrcnn.ops, the library's": lambda: ops.match_anchors(cpu_anchors, cpu_objects, high, low),
    }
)

# %% [markdown]
# ## Rung 4: a first CUDA kernel
#
# A GPU runs thousands of **threads** at a time. All run the same function, the **kernel**, and each has a number of its own.
# So the outer loop disappears: thread number `a` does anchor `a`, and no thread needs another.
#
# Threads come in **blocks**. A thread knows three numbers: `threadIdx.x`, which thread of its block it is; `blockIdx.x`,
# which block it is in; `blockDim.x`, how many threads a block has. (`gridDim.x`, how many blocks there are, it seldom needs.)
# Before you write a kernel, run one. It writes down who does which cell. `__global__` marks a kernel, and a comma makes one
# statement of two. `who_am_i[2, 4]` **launches** it: 2 blocks of 4 threads.

# %% language="cuda"
# __global__ void who_am_i(int* block, int* thread, int n) {
#   int i = blockIdx.x * blockDim.x + threadIdx.x;
#   if (i < n) block[i] = blockIdx.x, thread[i] = threadIdx.x;
# }

# %%
block, thread = (torch.full((7,), -1, dtype=torch.int32, device=lab.device()) for _ in range(2))
who_am_i[2, 4](block, thread, 7)
print("cell     0  1  2  3  4  5  6")
print("block  ", "  ".join(map(str, block.tolist())))
print("thread ", "  ".join(map(str, thread.tolist())))

# %% [markdown]
# Eight threads for seven cells: only whole blocks can be started, so the last thread has nothing to do. A thread without
# work must not read or write: behind the end of an array is nothing, or something that is not yours. That is what `if (i < n)`
# is for. In a longer kernel, `if (i >= n) return;` sends such a thread home at once.
#
# **Predict**: how many blocks of 64 for the anchors of our scene? And for 100 anchors: how many threads have no work?

# %%
my_blocks, my_idle = None, None

# %%
print(f"{len(anchors)} / 64, rounded up: {-(-len(anchors) // 64)} blocks. You said: {my_blocks}")
print(f"100 anchors: 2 blocks, {2 * 64 - 100} threads without work. You said: {my_idle}")

# %% [markdown]
# With a GPU and its compiler, the cell below runs there. Without, it runs thread by thread on the CPU.

# %% exercise="best_kernel"

# %% [markdown]
# Note what the solution does with the best so far: it is in `mine` and `top`, which are the thread's own (in its
# **registers**, the fastest memory there is), and is written once, at the end.
#
# ### Watching the threads
#
# A **trace** is the record of every load and store of a run. Here 96 anchors, in two blocks, look at 8 objects.
# First, who touched which cell of the result? Each cell belongs to one thread, and no other comes near it. That is
# why this kernel needs no care. (The last 32 are the second block's, whose threads begin at 0 again.)

# %% tags=["cover"]
few, some = anchors[3456:3552].contiguous(), random_boxes(8, seed=1).to(lab.device())  # (96, 4), (8, 4)
trace = best_kernel.trace(few, some)
print("found wrong:", trace.findings or "nothing")
threads.cells(trace, "ious", (6, 16))

# %% [markdown]
# Threads run in groups of 32, called **warps**; a thread of a warp is a **lane**, 0 to 31. They do the same instruction at
# the same time. Memory is not moved in single numbers but in **sectors** of 32 bytes. So what counts is how many sectors the
# lanes of a warp ask for together. Here is one load of the anchors. The lanes' boxes lie side by side, 16 bytes each, and
# each lane wants one of its four coordinates. The next three loads want the other three, from the same sectors.

# %%
threads.lanes(trace, "anchors")

# %% [markdown]
# Nothing to be mended there. And the objects? All lanes look at the same object at the same time, so one sector
# serves them all. But how often is that done? **Predict** by arithmetic: every thread reads every object, 16
# bytes each.

# %%
read = threads.count_accesses(trace, in_bytes=True)["objects"]["read"]
print(f"bytes of objects that threads read: {read:,}")
print(f"96 anchors * 8 objects * 16 bytes = {96 * 8 * 16:,}")

# %% [markdown]
# (The emulated kernel's time would tell nothing about a GPU: it runs one thread after another. So on the CPU we
# count.)
#
# ## Rung 5: share what all read
#
# All threads of a block read the same objects. The threads of a block can share a small, fast memory, `__shared__`,
# which lives as long as the block. So let them copy the objects there once, *together*, and read them from there:
#
# 1. each thread copies one object: thread 0 object 0, thread 1 object 1, as far as there are objects;
# 2. all wait until all have copied: `__syncthreads()`, a **barrier**;
# 3. each does its anchor as before, from `tile` instead of `objects`.
#
# **Predict** how many bytes of `objects` are then read by two blocks with 8 objects.

# %%
my_bytes = None

# %% [markdown]
# Step 3 is written already; steps 1 and 2 are yours. Mind where the threads without an anchor go home: they too must
# copy, and *every* thread of a block must come to the barrier.

# %% exercise="best_shared"

# %%
shared_trace = best_shared.trace(few, some)
before, after = (threads.count_accesses(each, in_bytes=True)["objects"]["read"] for each in (trace, shared_trace))
print(f"bytes of objects read from global memory: {before:,} before, {after:,} now; you said {my_bytes}")
whose = f"{lab.whose(best_shared)}, against the first, {lab.whose(best_kernel)}"
agree(f"the kernel with shared memory, {whose}", best_shared(anchors, objects), best_kernel(anchors, objects))

# %% [markdown]
# Before: A × G × 16. Now: blocks × G × 16, so 1 / 64 of it for whole blocks of 64. (On a real GPU a cache softens the
# difference; but a cache is shared with everything else, and this memory is ours.)
#
# ## Break it: leave the barrier out
#
# The same kernel without `__syncthreads()`. **Predict**: does it crash? Is the answer wrong? Always?

# %% language="cuda"
# #include "iou.cuh"
# using namespace mrcnn;
#
# __global__ void no_barrier(const Box<float>* anchors, const Box<float>* objects, int A, int G,
#                            int* best, float* ious) {
#   __shared__ Box<float> tile[64];
#   if (threadIdx.x < G) tile[threadIdx.x] = objects[threadIdx.x];
#   int a = blockIdx.x * blockDim.x + threadIdx.x;
#   if (a >= A) return;
#   Box<float> anchor = anchors[a];
#   int mine = 0;
#   float top = 0;
#   for (int g = 0; g < G; ++g) {
#     float value = iou(tile[g], anchor);
#     if (value > top) top = value, mine = g;
#   }
#   best[a] = mine, ious[a] = top;
# }

# %% [markdown]
# `lab.schedule` runs the threads in another order. A right kernel does not care in which order its threads come.

# %%
for turn, (order, seed) in enumerate([("ascending", 0), ("descending", 0), ("shuffled", 1), ("shuffled", 2)]):
    others = random_boxes(8, seed=turn).to(lab.device())
    expected, _ = best_kernel(few, others)
    got, ious = torch.zeros_like(expected), torch.zeros(len(few), device=few.device)
    with lab.schedule(order, seed):
        racy = no_barrier.trace[2, 64](few, others, len(few), len(others), got, ious)
    print(f"{order:10} {int((got != expected).sum()):3} of {len(got)} anchors have the wrong object")

# %% [markdown]
# No crash, no message, and an answer that depends on who comes first. That is a **race**: two threads touch one cell, at
# least one of them writes, and nothing says who comes first. In some orders that hurts many anchors, in others few or none,
# so a test may well pass. The trace looks at the accesses, not at the answer, and finds it in every order:

# %%
print(racy.findings[0])
print(next(each for each in racy.findings if "race" in each))

# %% [markdown]
# Go through it yourself, one access at a time: two objects and three threads, with the barrier and without, in two orders.
# Press the arrow keys. In which step does it go wrong? (*next race* goes straight to it.)

# %%
three, two = few[:3].contiguous(), some[:2].contiguous()
runs = {"with the barrier": best_shared.trace(three, two)}
for order in ("ascending", "descending"):
    with lab.schedule(order):
        best, ious = torch.zeros(3, dtype=torch.int32, device=three.device), torch.zeros(3, device=three.device)
        runs[f"without it, {order}"] = no_barrier.trace[1, 4](three, two, 3, 2, best, ious)
lab.stepper(runs, title="Filling the tile, and reading it", max_threads=3)

# %% [markdown]
# ## The second pass: a best that all threads share
#
# Low-quality matches need each *object's* best IoU: the largest of a row of the table. But a row's numbers are in A
# different threads. If each thread does "look at `top[g]`; if mine is larger, write mine", two may look at the same
# time, and the smaller one may write last. An **atomic** operation does looking and writing in one go, and no other
# thread comes between: `atomicMax(&cell, value)`, where `&cell` is a pointer to the cell.
#
# There is one catch: CUDA has `atomicMax` for whole numbers, not for floats. Here is a picture of the way out.

# %%
pictures.bits([0, 0.1, 0.25, 0.5, 0.75, 1])

# %% [markdown]
# A float is stored as a sign, an exponent and a fraction, the weightiest part first. For numbers that are not
# negative the sign is 0. A larger exponent is a larger number, and among equal exponents the larger fraction is. So
# their bits, read as an integer, are in the same order. An IoU is never negative. So it is enough to ask for the
# maximum *of the bits*: `__float_as_int(value)` gives them, and `(int*)&top[g]` looks at the cell as an integer.

# %% exercise="object_best"

# %%
tops = object_best(anchors, objects).tolist()
print(f"each object's best IoU ({lab.whose(object_best)}):", [round(value, 2) for value in tops])
top_trace = object_best.trace(few, some)
count = threads.count_accesses(top_trace).get("top", {"atomic": 0})["atomic"]
print(f"pairs of 96 anchors and 8 objects: {96 * 8}; atomics: {count}")

# %% [markdown]
# Threads that meet at one cell must queue, so atomics cost time. The solution asks for one only where the two boxes overlap
# at all, which most pairs do not.
#
# ## Now find it in the real file
#
# Here is the library's kernel. Two things in it you have not met. `warp_max` lets the lanes of a warp agree on their largest
# number among themselves, so that one lane alone asks for the atomic. And it is a `template`, for float and double. All else
# you have written.

# %%
lab.show("anchor_matching/anchor_matching.cu", start="IoUs are not negative", end="ious[a] = best;")

# %% [markdown]
# ## How fast is it
#
# All rungs once more, for the anchors of our scene. A kernel is timed only on a GPU; on the CPU its loads were counted above.

# %%
rungs = {
    "PyTorch, the whole table": lambda: with_table(anchors, objects),
    f"C++, {lab.whose(best_cpp)}": lambda: best_cpp(cpu_anchors, cpu_objects),
    "mrcnn.ops, the library's": lambda: ops.match_anchors(anchors, objects, high, low),
}
if lab.device() == "cuda":
    rungs |= {
        f"first kernel, {lab.whose(best_kernel)}": lambda: best_kernel(anchors, objects),
        f"shared memory, {lab.whose(best_shared)}": lambda: best_shared(anchors, objects),
    }
times = lab.timed(rungs)

# %% [markdown]
# ## Extra: more objects than fit
#
# Shared memory is small. `best_shared` has room for 64 objects and no more; a photograph may show 200. Take them in
# **tiles** of 64: copy 64, use them, copy the next 64 over them. Two barriers are needed in the loop. Why two? Leave one out
# and see what the check says.

# %% exercise="best_tiles"

# %% [markdown]
# ## What we left out, and where to read on
#
# - **The rest of the op.** `csrc/anchor_matching/anchor_matching_cuda.cpp` calls the kernels from PyTorch; lesson 15
#   says how an op is registered.
# - **The second rule.** A second kernel, `match_anchors_low_quality`, claims the anchors that reach their object's best, as
#   `claim` did in lesson 04.
# - **Next.** Lesson 06k: what to do when threads cannot work alone, because each answer depends on the one before.
