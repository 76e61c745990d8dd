# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # Matching anchors to objects
#
# Thousands of anchors, a handful of objects: who answers for whom, worked out without ever writing the big table
# down.
#
# **You will** fill in a small table by hand, then write the same thing as a Python loop, in PyTorch, in C++, and as
# two CUDA kernels. One of them has a race in it for a while.
#
# **Time** about 90 minutes. **Know first** Python, a little PyTorch, and what IoU is (lesson 00; it is said again
# below). No CUDA: this is where it begins.
#
# **Files** `mrcnn/ops/matching.py`, `mrcnn/ops/reference.py`, `csrc/anchor_matching/`.

# %%
import torch

import mrcnn
from mrcnn import boxes as box_maths
from mrcnn import lab, ops
from mrcnn.anchors import AnchorSettings, make_anchors
from mrcnn.data import Playground
from mrcnn.lab import check
from mrcnn.lab.exercises import matching
from mrcnn.lab.views import match_pictures, threads

# %load_ext mrcnn.lab
# %matplotlib inline

# %% [markdown]
# ## A picture first
#
# An **anchor** is a box that stands at a fixed place, whatever the picture shows. The model looks at each anchor and
# says "there is an object here" or "there is none". To learn that, it must be told the truth: for each anchor, which
# **object** (the ground truth: a box that a person has drawn) it should find, if any. That is **matching**.
#
# Below is one scene with its objects, and the anchors that answer for each. The number behind a letter counts them.

# %% tags=["cover"]
image, target = Playground(40, seed=0)[3]
objects = target["boxes"].to(lab.device())  # (G, 4)

settings = mrcnn.playground_rcnn().settings.rpn
sizes = [(32, 32), (16, 16), (8, 8), (4, 4), (2, 2)]  # (rows, columns) of the five levels
anchors = torch.cat(make_anchors(settings.anchors, (128, 128), sizes)).to(lab.device())  # (A, 4)

high, low = settings.positive_iou, settings.negative_iou
plain, _ = ops.match_anchors(anchors, objects, high, low)
full, _ = ops.match_anchors(anchors, objects, high, low, allow_low_quality_matches=True)
print(f"A = {len(anchors)} anchors, G = {len(objects)} objects, thresholds {high} and {low}")
match_pictures.scene(image, objects, anchors, {f"IoU of {high} or more": plain, "with low-quality matches": full})

# %% [markdown]
# The middle picture follows the simple rule: an anchor answers for an object if the two overlap enough. Two objects
# have nobody. The right picture mends that. You will write both.
#
# ## Three kinds of anchors
#
# How much two boxes overlap is told by their **IoU**: the area that they share (intersection), divided by the area
# that they cover together (union). It is 0 when they do not touch and 1 when they are the same.
#
# Each anchor looks at its *best* object, the one with the largest IoU:
#
# | best IoU | the anchor is | written |
# |---|---|---|
# | `high` or more | **positive**: it must find that object | the object's row, 0 or more |
# | less than `low` | **negative**, or background: it must say "nothing here" | -1 |
# | between the two | **ignored**: neither a good nor a bad example | -2 |
#
# Why ignore any? An anchor that half covers an object is no clear case. To punish the model for either answer would
# teach it noise.
#
# ## Predict
#
# Three objects, A, B and C, and six anchors, 0 to 5, on squared paper.

# %%
three = torch.tensor([[1.0, 1, 5, 5], [6, 2, 10, 6], [0, 6, 2, 8]])
six = torch.tensor([[1.0, 1, 5, 5], [2, 1, 6, 5], [4, 2, 8, 6], [6, 2, 10, 5], [7, 4, 11, 8], [0, 5, 3, 8]])
match_pictures.small_world(three, six)

# %% [markdown]
# Count squares. Anchor 1 and object A share 3 × 4 = 12; together they cover 16 + 16 - 12 = 20; so their IoU is 12 /
# 20 = 0.6. Do the same for anchor 5 and object C, then guess what becomes of all six, with 0.7 and 0.3.

# %%
my_iou = None  # of anchor 5 and object C
my_matches = ""  # six letters, of anchors 0 to 5: A, B, C, - for background, ? for ignored

# %% [markdown]
# Now the table: one row per object, one column per anchor. It is filled in anchor by anchor. The largest number of
# each column has a frame, and under the column is the anchor's fate.

# %%
match_pictures.filmstrip(three, six, high=0.7, low=0.3)

# %%
table = box_maths.iou(three, six)  # (G, A)
matches, _ = ops.match_anchors(six, three, 0.7, 0.3)
truth = "".join(match_pictures.verdict(match) for match in matches.tolist())
print(f"anchor 5 and object C: {table[2, 5]:.3f}, which is 4 / 9. You said: {my_iou}")
print(f"the six anchors: {truth}. You said: {my_matches or 'nothing yet'}")

# %% [markdown]
# Read a column and you know an anchor's fate. Read a row and you see who could answer for an object. Look at the row
# of object C. Its best anchor is number 5, and that is not good enough. With the simple rule nobody learns to find C.
# Keep this in mind.
#
# ## Build it: the decision
#
# Given each anchor's best object and the IoU with it, decide.


# %% exercise="decide"
def decide(best, ious, high, low):
    """matches (A,) from each anchor's best object (A,) and the IoU with it (A,); -1 background, -2 ignored. 4 lines.

    Leave `best` as it is: begin with a copy.
    """
    ...


# %% [markdown] solution="decide"
# <details><summary>Solution, 4 lines</summary>
#
# ```python
# def decide(best, ious, high, low):
#     matches = best.clone()
#     matches[ious < high] = -2
#     matches[ious < low] = -1
#     return matches
# ```
#
# </details>

# %%
decide = check(matching.decide, decide)

# %% [markdown]
# ## Rung 1: a Python loop
#
# What is left is the search: for each anchor the best object and the IoU with it. We climb a ladder, and each rung
# must agree with the one before. At the bottom is the plainest thing that works: two loops.
#
# **The cost, before we measure it**: A × G pairs. Here that is a few ten thousand; for a photograph of 800 × 1333
# pixels it will be millions, as we shall see.

# %%
overlap = matching.overlap  # IoU of two boxes, in plain numbers
lab.show(overlap)


# %% exercise="best_loop"
def best_loop(anchors, objects):
    """Two lists, as long as `anchors`: each anchor's best object, and the IoU with it. About 10 lines.

    anchors, objects: lists of [x1, y1, x2, y2]. Of equal IoUs the first object wins. No overlap: object 0, IoU 0.
    """
    ...


# %% [markdown] solution="best_loop"
# <details><summary>Solution, 10 lines</summary>
#
# ```python
# def best_loop(anchors, objects):
#     best, ious = [], []
#     for anchor in anchors:
#         mine, top = 0, 0.0
#         for g, thing in enumerate(objects):
#             value = overlap(anchor, thing)
#             if value > top:
#                 mine, top = g, value
#         best.append(mine)
#         ious.append(top)
#     return best, ious
# ```
#
# </details>

# %%
best_loop = check(matching.best_loop, best_loop)

# %% [markdown]
# ## Rung 2: PyTorch, the whole table
#
# PyTorch has no loops to write: `box_maths.iou` gives the whole table at once, and the best of each column is one
# more call.

# %%
lab.show(box_maths.iou)


# %% exercise="best_torch"
def best_torch(anchors, objects):
    """best (A,) and ious (A,) from tensors of boxes (A, 4) and (G, 4), by `box_maths.iou`. 2 lines."""
    ...


# %% [markdown] solution="best_torch"
# <details><summary>Solution, 2 lines</summary>
#
# ```python
# def best_torch(anchors, objects):
#     ious, best = box_maths.iou(objects, anchors).max(dim=0)
#     return best, ious
# ```
#
# </details>

# %%
best_torch = check(matching.best_torch, best_torch)

# %% [markdown]
# Now the two rungs side by side, first for their answers, then for their time.


# %%
def agree(name, result, expected):
    same = torch.equal(result[0].long(), expected[0].long()) and torch.allclose(result[1], expected[1], atol=1e-6)
    print(f"{name}: {'agrees' if same else 'DIFFERS'}")


lists = anchors.tolist(), objects.tolist()
expected = tuple(torch.tensor(each, device=anchors.device) for each in best_loop(*lists))
agree("PyTorch against the loop", best_torch(anchors, objects), expected)
times = lab.timed({"Python loop": lambda: best_loop(*lists), "PyTorch": lambda: best_torch(anchors, objects)})

# %% [markdown]
# ## The object that no anchor matches
#
# Back to the two objects that nobody answered for. The best IoU of each object is the largest number of its *row*.

# %%
table = box_maths.iou(objects, anchors)  # (G, A)
for letter, top in zip("ABCD", table.max(dim=1).values.tolist(), strict=True):
    print(f"object {letter}: its best anchor has an IoU of {top:.2f}{'' if top >= high else ', too little'}")

scenes = Playground(100, seed=0)
tops = torch.cat([box_maths.iou(scenes[i][1]["boxes"], anchors.cpu()).max(dim=1).values for i in range(100)])
print(f"in 100 scenes: {(tops < high).sum()} of {len(tops)} objects reach {high} with no anchor at all")

# %% [markdown]
# This is no accident. Anchors come in a few sizes and three shapes, at fixed places. Many objects lie between them. A
# model trained with the simple rule alone would be told, of most objects, that there is nothing to be found.
#
# So there is a second rule, for **low-quality matches** (Faster R-CNN, section 3.1.2): *the anchors that overlap an
# object most of all anchors are positive too, however low their IoU.* The fine print:
#
# - All anchors that tie for an object's best are claimed.
# - A claimed anchor answers for the object that *it* overlaps most. That may be another than the one that claimed it.
# - An object whose best IoU is 0 claims none.


# %% exercise="claim"
def claim(table, best, matches):
    """`matches` (A,), changed where an anchor is the best of some object: there it is `best` (A,). About 3 lines.

    table: the IoUs (G, A).
    """
    ...


# %% [markdown] solution="claim"
# <details><summary>Solution, 3 lines</summary>
#
# ```python
# def claim(table, best, matches):
#     top = table.max(dim=1, keepdim=True).values  # (G, 1): each object's best
#     claimed = ((table == top) & (top > 0)).any(dim=0)  # (A,)
#     return torch.where(claimed, best, matches)
# ```
#
# </details>

# %%
claim = check(matching.claim, claim)

# %%
best, ious = best_torch(anchors, objects)
matches = claim(table, best, decide(best, ious, high, low))
print("equal to mrcnn.ops.match_anchors:", torch.equal(matches, full))

# %% [markdown]
# ### Break it: an object that overlaps nothing
#
# The last line of the fine print is easily forgotten. Let one object lie beside the picture: somebody cropped the
# picture and forgot the box. Its IoU with every anchor is 0, so its best IoU is 0, and *every anchor ties for that*.
# **Predict**: how many anchors are positive then, if the rule is followed to the letter?

# %%
stray = torch.cat([objects, objects.new_tensor([[400.0, 40, 440, 80]])])  # one more object, far to the right
to_the_letter = box_maths.iou(stray, anchors)
claimed = (to_the_letter == to_the_letter.max(dim=1, keepdim=True).values).any(dim=0)
ours = ops.match_anchors(anchors, stray, high, low, allow_low_quality_matches=True)[0]
print(f"to the letter, {int(claimed.sum())} of {len(anchors)} anchors are claimed")
print(f"mrcnn matches {int((ours >= 0).sum())}")
try:
    from torchvision.models.detection._utils import Matcher
    from torchvision.ops import box_iou
except ImportError:
    print("torchvision is not installed, so it is not compared")
else:
    theirs = Matcher(high, low, allow_low_quality_matches=True)(box_iou(stray, anchors))
    print(f"torchvision matches {int((theirs >= 0).sum())}")

# %% [markdown]
# Followed to the letter, the rule makes the whole picture "an object", and the lesson learned from that scene is
# nonsense. torchvision does so; this library does not. It is one of the few places where the two differ on purpose.
#
# ## What the table costs
#
# The table is simple, and it is thrown away at once: of A × G numbers only the largest of each column and of each row
# are wanted. How large is it for a photograph? The published models look at 800 × 1344 pixels, with five levels of
# cells of 4, 8, 16, 32 and 64 pixels, three anchors each.

# %%
cells = [(200, 336), (100, 168), (50, 84), (25, 42), (13, 21)]
photo_anchors = torch.cat(make_anchors(AnchorSettings(), (800, 1344), cells)).to(lab.device())
print(f"A = 3 * ({' + '.join(f'{h} * {w}' for h, w in cells)}) = {len(photo_anchors):,} anchors")
print(f"the table with 200 objects: {len(photo_anchors):,} * 200 * 4 bytes = {len(photo_anchors) * 200 * 4:,} bytes")
print(f"its two results, 8 + 4 bytes per anchor: {len(photo_anchors) * 12:,} bytes")

# %% [markdown]
# And `box_maths.iou` makes several tensors of that size on its way: corners, widths, heights, unions. All of it per
# picture, in every step of the training.
#
# ## Rung 3: C++, one pass, no table
#
# C++ can loop without the price of Python's loops. So it can go back to rung 1, pair by pair, and remember only the
# best so far: memory for A + G boxes instead of A × G numbers.
#
# The first line of the cell below says what it is: `%%cpp` compiles it and makes each `void` function callable from
# Python. A tensor arrives as a pointer, and `anchors[a]` is a box with `x1, y1, x2, y2`. `iou` comes from
# `csrc/iou.cuh`:

# %%
lab.show("iou.cuh", start="struct alignas(16) Box", end="return inter")

# %% exercise="best_cpp" language="cpp"
# #include "iou.cuh"
# using namespace mrcnn;
#
# // best[a] and ious[a] for each of A anchors; G objects. About 7 lines.
# void best_cpp(const Box<float>* anchors, const Box<float>* objects, int A, int G, int* best, float* ious) {
#   // your code
# }

# %% [markdown] solution="best_cpp"
# <details><summary>Solution, 7 lines</summary>
#
# ```cpp
# %%cpp
# #include "iou.cuh"
# using namespace mrcnn;
#
# void best_cpp(const Box<float>* anchors, const Box<float>* objects, int A, int G, int* best, float* ious) {
#   for (int a = 0; a < A; ++a) {
#     best[a] = 0, ious[a] = 0;
#     for (int g = 0; g < G; ++g) {
#       float value = iou(objects[g], anchors[a]);
#       if (value > ious[a]) ious[a] = value, best[a] = g;
#     }
#   }
# }
# ```
#
# </details>

# %%
best_cpp = check(matching.best_cpp, best_cpp)

# %% [markdown]
# The library has its own C++. It takes 128 anchors at a time, so that the compiler can use vector instructions, skips
# the objects that none of the 128 touches, and shares the work among the cores. **Predict** which step brings more:
# from PyTorch to your C++, or from your C++ to the library's?

# %%
agree("C++ against PyTorch", best_cpp(anchors.cpu(), objects.cpu()), best_torch(anchors.cpu(), objects.cpu()))
times = lab.timed(
    {
        "Python loop": lambda: best_loop(*lists),
        "PyTorch": lambda: best_torch(anchors, objects),
        "C++": lambda: best_cpp(anchors, objects),
        "mrcnn.ops": lambda: ops.match_anchors(anchors, objects, high, low),
    }
)

# %% [markdown]
# The same for a photograph with 20 objects. The loop is left out: its time is only told, from the pairs that it would
# look at.

# %%
photo_objects = box_maths.scale(matching.random_boxes(20, seed=5), (100, 100), (800, 1344)).contiguous()
pairs = len(photo_anchors) * len(photo_objects)
each = times["Python loop"] / 1000 / (len(anchors) * len(objects))  # seconds
print(f"the loop: {pairs:,} pairs, about {pairs * each:.1f} seconds")
photo_times = lab.timed(
    {
        "PyTorch": lambda: best_torch(photo_anchors, photo_objects),
        "C++": lambda: best_cpp(photo_anchors, photo_objects),
        "mrcnn.ops": lambda: ops.match_anchors(photo_anchors, photo_objects, high, low),
    },
    repeats=3,
)

# %% [markdown]
# ## Rung 4: a first CUDA kernel
#
# A GPU runs thousands of **threads** at a time. All run the same function, the **kernel**, and each has a number of
# its own. So the outer loop disappears: thread number `a` does anchor `a`, and no thread needs another.
#
# Threads come in **blocks**, here of 64. A thread knows three numbers:
#
# | | |
# |---|---|
# | `blockIdx.x` | which block it is in |
# | `blockDim.x` | how many threads a block has |
# | `threadIdx.x` | which thread of its block it is |
#
# So its number in all is `blockIdx.x * blockDim.x + threadIdx.x`. We must start whole blocks. **Predict**: how many
# blocks for the anchors of our scene? And for 100 anchors: how many threads have nothing to do?

# %%
my_blocks, my_idle = None, None

# %%
print(f"{len(anchors)} / 64, rounded up: {-(-len(anchors) // 64)} blocks. You said: {my_blocks}")
print(f"100 anchors: 2 blocks, {2 * 64 - 100} threads without work. You said: {my_idle}")

# %% [markdown]
# A thread without an anchor must not read or write: there is nothing behind the end of an array, or something that is
# not yours.
#
# With a GPU and its compiler, the cell below runs there. Without, it runs thread by thread on the CPU: slow, but
# every load and store can be watched.

# %% exercise="best_kernel" language="cuda"
# #include "iou.cuh"
# using namespace mrcnn;
#
# // One thread per anchor: best[a] and ious[a]. About 9 lines.
# __global__ void best_kernel(const Box<float>* anchors, const Box<float>* objects, int A, int G,
#                             int* best, float* ious) {
#   // your code
# }

# %% [markdown] solution="best_kernel"
# <details><summary>Solution, 10 lines</summary>
#
# ```cpp
# %%cuda
# #include "iou.cuh"
# using namespace mrcnn;
#
# __global__ void best_kernel(const Box<float>* anchors, const Box<float>* objects, int A, int G,
#                             int* best, float* ious) {
#   int a = blockIdx.x * blockDim.x + threadIdx.x;
#   if (a >= A) return;
#   Box<float> anchor = anchors[a];
#   int mine = 0;
#   float top = 0;
#   for (int g = 0; g < G; ++g) {
#     float value = iou(objects[g], anchor);
#     if (value > top) top = value, mine = g;
#   }
#   best[a] = mine, ious[a] = top;
# }
# ```
#
# </details>

# %%
best_kernel = check(matching.best_kernel, best_kernel)

# %% [markdown]
# Note what the solution does with the best so far: it is in `mine` and `top`, which are the thread's own (in its
# **registers**, the fastest memory there is), and is written once, at the end.
#
# ### Watching the threads
#
# A **trace** is the record of every load and store of a run. Here 96 anchors, in two blocks, look at 8 objects.
# First, who touched which cell of the result? Each cell belongs to one thread, and no other comes near it. That is
# why this kernel needs no care. (The last 32 are the second block's, whose threads begin at 0 again.)

# %%
few, some = anchors[3456:3552].contiguous(), matching.random_boxes(8, seed=1)  # (96, 4), (8, 4)
trace = best_kernel.trace(few, some)
print("found wrong:", trace.findings or "nothing")
threads.draw_cells(trace, "ious", (6, 16))

# %% [markdown]
# Threads run in groups of 32, called **warps**, which do the same instruction at the same time. Memory is not moved
# in single numbers but in **sectors** of 32 bytes. So what counts is how many sectors the 32 lanes of a warp ask for
# together. Here is one load of the anchors. The lanes' boxes lie side by side, 16 bytes each, and each lane wants one
# of its four coordinates. The next three loads want the other three from the same sectors. (The compiler for the CPU
# takes the box apart like this. `nvcc`, CUDA's compiler, knows from `alignas(16)` that it may load a whole box at
# once.)

# %%
threads.draw_lanes(trace, "anchors")

# %% [markdown]
# And one load of the objects: all lanes look at the same object at the same time, so one sector serves them all.

# %%
threads.draw_lanes(trace, "objects", nth=3)

# %% [markdown]
# Nothing to be mended there. But how often is it done? **Predict** by arithmetic: every thread reads every object, 16
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

# %% exercise="best_shared" language="cuda"
# #include "iou.cuh"
# using namespace mrcnn;
#
# // As before; at most 64 objects.
# __global__ void best_shared(const Box<float>* anchors, const Box<float>* objects, int A, int G,
#                             int* best, float* ious) {
#   __shared__ Box<float> tile[64];
#   // your code: fill tile[0] to tile[G - 1] together, and wait. 2 lines
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

# %% [markdown] solution="best_shared"
# <details><summary>Solution, 2 lines</summary>
#
# ```cpp
# %%cuda
# #include "iou.cuh"
# using namespace mrcnn;
#
# // As before; at most 64 objects.
# __global__ void best_shared(const Box<float>* anchors, const Box<float>* objects, int A, int G,
#                             int* best, float* ious) {
#   __shared__ Box<float> tile[64];
#   if (threadIdx.x < G) tile[threadIdx.x] = objects[threadIdx.x];
#   __syncthreads();
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
# ```
#
# </details>

# %%
best_shared = check(matching.best_shared, best_shared)

# %%
shared_trace = best_shared.trace(few, some)
before, after = (threads.count_accesses(each, in_bytes=True)["objects"]["read"] for each in (trace, shared_trace))
print(f"bytes of objects read from global memory: {before:,} before, {after:,} now; you said {my_bytes}")
agree("the kernel with shared memory against the first", best_shared(anchors, objects), best_kernel(anchors, objects))

# %% [markdown]
# Before: A × G × 16. Now: blocks × G × 16, so 1 / 64 of it for whole blocks of 64. (On a real GPU a cache softens the
# difference; but a cache is shared with everything else, and this memory is ours.)
#
# In time it looks like this, with two objects and three threads. Time goes down. Two of the threads copy a box, all
# wait, and then all read all of the tile, number by number. Thread 2 has nothing to copy; it waits all the same. (On
# the CPU the threads take turns; on a GPU the three columns would run side by side.)

# %%
short_trace = best_shared.trace(few[:3].contiguous(), some[:2].contiguous())
threads.draw_timeline(short_trace, threads=range(3), buffers=["tile"])

# %% [markdown]
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
    others = matching.random_boxes(8, seed=turn)
    expected, _ = best_kernel(few, others)
    got, ious = torch.zeros_like(expected), torch.zeros(len(few), device=few.device)
    with lab.schedule(order, seed):
        racy = no_barrier.trace[2, 64](few, others, len(few), len(others), got, ious)
    print(f"{order:10} {int((got != expected).sum()):3} of {len(got)} anchors have the wrong object")

# %% [markdown]
# No crash, no message, and an answer that depends on who comes first. That is a **race**: two threads touch one cell,
# at least one of them writes, and nothing says who comes first. A thread that comes too early finds in the tile
# whatever lay there before. In some orders that hurts many anchors, in others few or none, so a test may well pass.
# The trace looks at the accesses, not at the answer, and finds it in every order:

# %%
print(racy.findings[0])
print(next(each for each in racy.findings if "race" in each))

# %%
threads.draw_cells(racy, "tile", (8, 4), block=0)

# %% [markdown]
# One row per box, one column per coordinate. Every cell that was written by one thread and read by others is in the
# race.
#
# ## The second pass: a best that all threads share
#
# Low-quality matches need each *object's* best IoU: the largest of a row of the table. But a row's numbers are in A
# different threads. If each thread does "look at `top[g]`; if mine is larger, write mine", two may look at the same
# time, and the smaller one may write last. An **atomic** operation does looking and writing in one go, and no other
# thread comes between: `atomicMax(&cell, value)`.
#
# There is one catch: CUDA has `atomicMax` for whole numbers, not for floats. Here is a picture of the way out.

# %%
match_pictures.bits([0, 0.1, 0.25, 0.5, 0.75, 1])

# %% [markdown]
# A float is stored as a sign, an exponent and a fraction, the weightiest part first. For numbers that are not
# negative the sign is 0. A larger exponent is a larger number, and among equal exponents the larger fraction is. So
# their bits, read as an integer, are in the same order. An IoU is never negative. So it is enough to ask for the
# maximum *of the bits*: `__float_as_int(value)` gives them, and `(int*)&top[g]` looks at the cell as an integer.

# %% exercise="object_best" language="cuda"
# #include "iou.cuh"
# using namespace mrcnn;
#
# // top[g], 0 at first, becomes object g's best IoU with any anchor. One thread per anchor. About 6 lines.
# __global__ void object_best(const Box<float>* anchors, const Box<float>* objects, int A, int G, float* top) {
#   // your code
# }

# %% [markdown] solution="object_best"
# <details><summary>Solution, 6 lines</summary>
#
# ```cpp
# %%cuda
# #include "iou.cuh"
# using namespace mrcnn;
#
# // top[g], 0 at first, becomes object g's best IoU with any anchor. One thread per anchor. About 6 lines.
# __global__ void object_best(const Box<float>* anchors, const Box<float>* objects, int A, int G, float* top) {
#   int a = blockIdx.x * blockDim.x + threadIdx.x;
#   if (a >= A) return;
#   for (int g = 0; g < G; ++g) {
#     float value = iou(objects[g], anchors[a]);
#     if (value > 0) atomicMax((int*)&top[g], __float_as_int(value));
#   }
# }
# ```
#
# </details>

# %%
object_best = check(matching.object_best, object_best)

# %%
print("each object's best IoU:", [round(value, 2) for value in object_best(anchors, objects).tolist()])
top_trace = object_best.trace(few, some)
count = threads.count_accesses(top_trace).get("top", {"atomic": 0})["atomic"]
print(f"pairs of 96 anchors and 8 objects: {96 * 8}; atomics: {count}")

# %% [markdown]
# Threads that meet at one cell must queue, so atomics cost time. The solution asks for one only where the two boxes
# overlap at all, which most pairs do not. The library's kernel goes further: the 32 lanes of a warp first agree on
# their largest among themselves (`warp_max`), and only one of them asks. And it does all of this in the same pass as
# each anchor's best. A second kernel, `match_anchors_low_quality` in the same file, then claims the anchors that
# reach their object's best, as your `claim` did. Read it now; you know every line of it, but the template:

# %%
lab.show("anchor_matching/anchor_matching.cu", start="IoUs are not negative", end="ious[a] = best;")

# %% [markdown]
# ## How fast is it
#
# All rungs once more, for the anchors of our scene. A kernel is timed only on a GPU; on the CPU its loads were
# counted above.

# %%
rungs = {
    "Python loop": lambda: best_loop(*lists),
    "PyTorch": lambda: best_torch(anchors, objects),
    "C++": lambda: best_cpp(anchors, objects),
    "mrcnn.ops": lambda: ops.match_anchors(anchors, objects, high, low),
}
if lab.device() == "cuda":
    rungs |= {"first kernel": lambda: best_kernel(anchors, objects), "shared": lambda: best_shared(anchors, objects)}
times = lab.timed(rungs)

# %% [markdown]
# ## Exercises
#
# ### 1. More objects than fit
#
# Shared memory is small. `best_shared` has room for 64 objects and no more; a photograph may show 200. Take them in
# **tiles** of 64: copy 64, use them, copy the next 64 over them. Two barriers are needed in the loop. Why two? Leave
# one out and see what the check says.

# %% exercise="best_tiles" language="cuda"
# #include "iou.cuh"
# using namespace mrcnn;
#
# // As best_shared, for any number of objects, in blocks of 64 threads.
# __global__ void best_tiles(const Box<float>* anchors, const Box<float>* objects, int A, int G,
#                            int* best, float* ious) {
#   __shared__ Box<float> tile[64];
#   int a = blockIdx.x * blockDim.x + threadIdx.x;
#   Box<float> anchor = anchors[min(a, A - 1)];  // a thread without an anchor stays, for the barriers
#   int mine = 0;
#   float top = 0;
#   for (int first = 0; first < G; first += 64) {
#     // your code: copy the objects first, first + 1, ... into the tile; compare with them. About 7 lines
#   }
#   if (a < A) best[a] = mine, ious[a] = top;
# }

# %% [markdown] solution="best_tiles"
# <details><summary>Solution, 7 lines</summary>
#
# ```cpp
# %%cuda
# #include "iou.cuh"
# using namespace mrcnn;
#
# // As best_shared, for any number of objects, in blocks of 64 threads.
# __global__ void best_tiles(const Box<float>* anchors, const Box<float>* objects, int A, int G,
#                            int* best, float* ious) {
#   __shared__ Box<float> tile[64];
#   int a = blockIdx.x * blockDim.x + threadIdx.x;
#   Box<float> anchor = anchors[min(a, A - 1)];  // a thread without an anchor stays, for the barriers
#   int mine = 0;
#   float top = 0;
#   for (int first = 0; first < G; first += 64) {
#     if (first + threadIdx.x < G) tile[threadIdx.x] = objects[first + threadIdx.x];
#     __syncthreads();  // the tile is there
#     for (int g = first; g < min(first + 64, G); ++g) {
#       float value = iou(tile[g - first], anchor);
#       if (value > top) top = value, mine = g;
#     }
#     __syncthreads();  // nobody still reads the tile when the next is copied over it
#   }
#   if (a < A) best[a] = mine, ious[a] = top;
# }
# ```
#
# </details>

# %%
best_tiles = check(matching.best_tiles, best_tiles)

# %% [markdown]
# ### 2. Whose anchor is it?
#
# Object B is claimed by anchor 7: of all anchors, 7 overlaps it most, with an IoU of 0.4. But 7 overlaps object A by
# 0.5. Which object does anchor 7 answer for? And who then answers for B?
#
# <details><summary>Answer</summary>
#
# Anchor 7 answers for A: a claimed anchor keeps the object that it overlaps most itself. If no other anchor matches
# B, nobody answers for B, in spite of the rule. That is how the published models are trained, so this library does
# the same. It is rare: it takes two objects that lie nearly on one another.
#
# </details>
#
# ### 3. One threshold
#
# The box head matches proposals to objects in the same way, with `high` = `low` = 0.5 and no low-quality matches.
# Which of the three kinds of boxes is then missing, and why does the box head not need the second rule?
#
# <details><summary>Answer</summary>
#
# There are no ignored ones: below 0.5 is background, from 0.5 on is positive. And proposals, unlike anchors, have
# been moved onto the objects already. During training the ground-truth boxes are also added to the proposals, so that
# every object has at least one with an IoU of 1.
#
# </details>
#
# ### 4. Wider
#
# Change `high` to 0.5 in the cell below. How many anchors are positive now, and for how many objects is the second
# rule still needed?

# %%
trial = 0.7
wider, _ = ops.match_anchors(anchors, objects, trial, low)
print(f"{int((wider >= 0).sum())} positive anchors in our scene")
print(f"in 100 scenes {int((tops < trial).sum())} of {len(tops)} objects have none")

# %% [markdown]
# ## What we left out, and where to read on
#
# - **Sampling.** A few positive anchors among thousands of negative ones: the loss takes only some of each. That is
#   lesson 05 (to come).
# - **Other ways to match.** Fixed thresholds are a choice. ATSS (Zhang et al., 2020) takes them from each object's
#   own statistics; DETR (Carion et al., 2020) gives each object exactly one query.
# - **The rest of the op.** `csrc/anchor_matching/anchor_matching_cuda.cpp` calls the kernels from PyTorch; lesson 15
#   (to come) says how an op is registered.
# - **The paper.** Faster R-CNN (Ren et al., 2015), section 3.1.2, has the two rules in one paragraph.
# - **Next.** Lesson 05 (to come) trains the network that needs these matches; lesson 06 is about what it says too
#   often.
