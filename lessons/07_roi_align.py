# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # 07 · RoIPool and RoIAlign
#
# **Goal.** Boxes have every size; the layers after them want one size. Build the op that makes one of the other, from a
# Python loop to a CUDA kernel; then its gradient, with a fault that hides well.
#
# **About 90 minutes.** Running everything takes less than one. No GPU is needed: without one, the kernels run on the
# CPU, thread by thread, and can be watched at it.
#
# **Know first:** PyTorch tensors, and what a feature map is (lesson 00). You need not know any CUDA or
# C++; what you need is shown.
#
# **The files:** `mrcnn/ops/pooling.py`, `mrcnn/ops/reference.py`, and the folder `csrc/roi_align/`.

# %%
import math

import matplotlib.pyplot as plt
import torch

from mrcnn import lab, ops
from mrcnn.data.playground import Playground
from mrcnn.lab import check
from mrcnn.lab.exercises import pooling, pooling_gradient, pooling_rounded
from mrcnn.lab.views import roi_pictures, threads
from mrcnn.ops import reference

# %matplotlib inline
# %load_ext mrcnn.lab
HERE = lab.device()  # where the tensors of our kernels live
print("kernels run on:", "the GPU" if HERE == "cuda" else "the CPU, thread by thread")

# %% [markdown]
# ## A picture
#
# A **RoI** (region of interest) is a box in which something may be. The network has made a **feature map** of the whole
# picture, with fewer cells than there were pixels: here one cell for each 8 × 8 pixels, so the map's **stride** is 8.
# For each RoI we want a small grid of features, always of the same size, say 7 × 7. Each cell of that grid is called a
# **bin**.
#
# Real feature maps have 256 channels that mean little to the eye. So for the pictures we use one channel that we
# understand: the brightness of the picture.

# %% tags=["cover"]
STRIDE = 8
image, target = Playground(4, seed=7, size=256)[3]  # (3, 256, 256) uint8
box = target["boxes"][3]  # (4,): x1, y1, x2, y2 in pixels
brightness = torch.nn.functional.avg_pool2d(image.float().mean(0)[None, None], STRIDE)  # (1, 1, 32, 32)
roi = torch.cat([torch.zeros(1), box])[None]  # (1, 5): which image, and the box
pooled = ops.roi_align(brightness, roi, 7, 1 / STRIDE, sampling_ratio=2, aligned=True)  # (1, 1, 7, 7)
roi_pictures.opening(image, brightness[0, 0], box, pooled[0, 0], STRIDE, samples=2)

# %% [markdown]
# The bins' borders fall anywhere between the cells. **RoIAlign** lets them: it puts a few **samples** (the dots) into
# each bin, reads the map at each dot, between the cells, and takes the mean. Nothing is rounded. (In the maps, here
# and below, yellow is bright and blue is dark.)
#
# ## Predict
#
# Here is a map of 5 × 5 cells that hold 0 to 24. A box goes from (0.5, 0.5) to (2, 2), in units of cells. We want one
# number for it: the map's value at the dot in its middle, at (1.25, 1.25).

# %%
numbers = torch.arange(25.0).view(5, 5)
small_box = torch.tensor([0.5, 0.5, 2, 2])
roi_pictures.two_readings(numbers, small_box)

# %% [markdown]
# One cell to the right adds 1, one cell down adds 5. What is the value at the dot: **4.5 or 7.5**? Write your guess
# before you run the next cell.

# %%
my_guess = None  # 4.5 or 7.5

# %%
small_roi = torch.cat([torch.zeros(1), small_box])[None]
for aligned in (True, False):
    value = ops.roi_align(numbers[None, None], small_roi, 1, sampling_ratio=1, aligned=aligned)
    print(f"aligned={aligned}: {value.item()}")
print("your guess:", my_guess)

# %% [markdown]
# Both numbers come out, and both have been used in earnest.
#
# In the drawing, cell 0 covers the square from 0 to 1, so its **middle** is at 0.5, and its value belongs there. The
# dot at 1.25 is three quarters of the way from the middle of cell 0 (at 0.5) to the middle of cell 1 (at 1.5). So its
# value is 0.75 · 1 + 0.75 · 5 = **4.5**. Tensors are numbered otherwise: for `numbers[y, x]`, the middle of cell 0 is
# at 0, not at 0.5. So to go from the drawing's coordinates to the tensor's we must take off half a cell: 1.25 − 0.5 =
# 0.75.
#
# Whoever forgets that reads at 1.25 · 1 + 1.25 · 5 = **7.5**: half a cell too far right and too far down. The first
# RoIAlign did forget it, and models that were trained with it expect it to this day. Hence the switch: `aligned=True`
# takes the half cell off. People call it *the half pixel*, since a cell is a pixel of the map.

# %% [markdown]
# ## Build it: one sample
#
# From here on, `y` and `x` are the tensor's coordinates: whole numbers are the middles of cells. A sample at `y = 3.2`
# lies between rows 3 and 4, nearer to 3: it reads 0.8 of row 3 and 0.2 of row 4. Columns likewise, so four cells are
# read. This is **bilinear** sampling.
#
# Write `bilinear`, in about 8 lines:
#
# 1. more than one cell outside the map (`y < -1`, `y > height`, or `x` likewise): the value is 0;
# 2. otherwise move `y` into 0 … height − 1, and `x` into 0 … width − 1;
# 3. the rows are `top = int(y)` and the one below it, but never below the last row; the columns likewise;
# 4. sum the four cells, each by its weight.


# %% exercise="bilinear"
def bilinear(feature_map, y, x):
    """The value of a map (H, W) at row y, column x, which are fractions. About 8 lines."""
    ...


# %% [markdown] solution="bilinear"
# <details><summary>Solution</summary>
#
# ```python
# def bilinear(feature_map, y, x):
#     height, width = feature_map.shape
#     if not (-1 <= y <= height and -1 <= x <= width):
#         return torch.tensor(0.0)
#     y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
#     top, left = int(y), int(x)
#     bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
#     upper = (1 - (x - left)) * feature_map[top, left] + (x - left) * feature_map[top, right]
#     lower = (1 - (x - left)) * feature_map[bottom, left] + (x - left) * feature_map[bottom, right]
#     return (1 - (y - top)) * upper + (y - top) * lower
# ```
#
# </details>

# %%
bilinear = check(pooling.bilinear, bilinear)
print("at the dot:", float(bilinear(numbers, 0.75, 0.75)))

# %% [markdown]
# ## Build it: one RoI, one channel
#
# Now a whole RoI. Cut the box into `bins` × `bins` bins, put `samples` × `samples` samples into each, evenly, and take
# the mean of each bin.
#
# Along one axis the samples of all bins are evenly spaced. The box has `bins * samples` of them, so one takes a length
# of `step = (x2 - x1) / (bins * samples)`, and sample `j` lies in the middle of its part: at `x1 + (j + 0.5) * step`.
# Bin `q` has the samples from `q * samples` on.
#
# ```
#         x1                                      x2        bins = 2, samples = 3
#          |      bin 0        |      bin 1       |
#          |  o  |  o  |  o    |  o  |  o  |  o   |
#       j:    0     1     2       3     4     5
# ```
#
# Do not forget the half pixel: `box` is in the drawing's coordinates, `bilinear` wants the tensor's.


# %% exercise="pool_one"
def pool_one(feature_map, box, bins, samples):
    """RoIAlign of one channel (H, W) under one box (4,), in cells -> (bins, bins). About 9 lines."""
    ...


# %% [markdown] solution="pool_one"
# <details><summary>Solution</summary>
#
# ```python
# def pool_one(feature_map, box, bins, samples):
#     x1, y1, x2, y2 = (box - 0.5).tolist()
#     step_x, step_y = (x2 - x1) / (bins * samples), (y2 - y1) / (bins * samples)
#     out = torch.zeros(bins, bins)
#     for p in range(bins):
#         for q in range(bins):
#             for i in range(p * samples, (p + 1) * samples):
#                 for j in range(q * samples, (q + 1) * samples):
#                     out[p, q] += bilinear(feature_map, y1 + (i + 0.5) * step_y, x1 + (j + 0.5) * step_x)
#     return out / samples**2
# ```
#
# </details>

# %%
pool_one = check(pooling.pool_one, pool_one)

# %% [markdown]
# ## RoIPool, and what rounding costs
#
# Before RoIAlign there was **RoIPool** (2015). It needs no samples between cells, since it rounds twice: first the box
# to whole cells, then each bin to whole cells. Of each bin it takes the largest cell.

# %%
roi_pictures.rounding(brightness[0, 0], box / STRIDE, bins=3)

# %% [markdown]
# Write it, in about 11 lines. Round the corners of `box` as they are, without the half pixel, to the nearest whole
# number, `math.floor(v + 0.5)`. The last row and column belong to the box, so there are `y2 - y1 + 1` rows, at least 1.
# Bin `p` has the rows from `floor(p * rows / bins)` to before `ceil((p + 1) * rows / bins)`, counted from `y1`. Cells
# outside the map do not count, and a bin without cells is 0.


# %% exercise="roi_pool_one"
def roi_pool_one(feature_map, box, bins):
    """RoIPool of one channel (H, W) under one box (4,), in cells -> (bins, bins). About 11 lines."""
    ...


# %% [markdown] solution="roi_pool_one"
# <details><summary>Solution</summary>
#
# ```python
# def roi_pool_one(feature_map, box, bins):
#     x1, y1, x2, y2 = (math.floor(v + 0.5) for v in box.tolist())
#     rows, columns = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
#     out = torch.zeros(bins, bins)
#     for p in range(bins):
#         top, bottom = y1 + p * rows // bins, y1 + math.ceil((p + 1) * rows / bins)
#         for q in range(bins):
#             left, right = x1 + q * columns // bins, x1 + math.ceil((q + 1) * columns / bins)
#             cells = feature_map[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
#             if cells.numel():
#                 out[p, q] = cells.max()
#     return out
# ```
#
# </details>

# %%
roi_pool_one = check(pooling_rounded.roi_pool_one, roi_pool_one)

# %% [markdown]
# Now the experiment. We push a box to the right, a tenth of a cell at a time, over a map that holds in each cell its
# own column number plus 0.5: the place of the cell's middle. So a pooled number says *where the op believes that it
# reads*. The truth is the middle of the bin.
#
# **Predict:** what will the two curves look like?

# %%
places = (torch.arange(16) + 0.5).expand(16, 16)
shifts = torch.arange(0, 3.05, 0.1)
curves = {"RoIAlign": [], "RoIPool": []}
for shift in shifts.tolist():
    moved = torch.tensor([4.3 + shift, 4, 8.3 + shift, 8])
    curves["RoIAlign"].append(float(pool_one(places, moved, 2, 2)[0, 0]))
    curves["RoIPool"].append(float(roi_pool_one(places, moved, 2)[0, 0]))

figure, axes = plt.subplots(figsize=(6.5, 3.2), dpi=80)
axes.plot(shifts, 5.3 + shifts, color="black", linewidth=6, alpha=0.15, label="the middle of the bin")
axes.plot(shifts, curves["RoIAlign"], "o-", color="#0072B2", markersize=3, label="RoIAlign")
axes.plot(shifts, curves["RoIPool"], "s--", color="#D55E00", markersize=4, label="RoIPool")
axes.set(xlabel="the box moves by … cells", ylabel="where it reads")
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
wrong = max(abs(value - 5.3 - shift) for value, shift in zip(curves["RoIPool"], shifts.tolist(), strict=True))
print(f"RoIPool is up to {wrong:.2f} cells off; without the 1 that the maximum adds, {wrong - 1:.2f}")
print(f"on a map of stride 16 these are {16 * wrong:.0f} and {16 * (wrong - 1):.0f} pixels")

# %% [markdown]
# RoIAlign follows the box exactly. RoIPool stands still, and then jumps by a whole cell: that is the rounding. It also
# reads too far to the right all the time, and that is not: it takes the largest cell, and on this map of growing
# numbers the largest is the last. The bin has three cells here, so their largest is exactly 1 more than their mean, at
# every point of the curve. The second number above is what the rounding alone would cost.
#
# To say *that* there is a person, an error of some pixels does no harm, and RoIPool was made for that. A **mask** is an
# answer for each pixel. Let us see. We take the person's true mask, shrink it to the map's size, pool it in three ways
# to 28 × 28, stretch the result back over the box, and draw its outline. **IoU** (intersection over union) of the
# result with the truth is 1 for a perfect mask. (Dashed: the box. Where the mask goes on up to the box's edge, its
# outline is open.)

# %%
mask = torch.nn.functional.avg_pool2d(target["masks"][3].float()[None, None], STRIDE)  # (1, 1, 32, 32)
results = {}
for name, pool in {
    "aligned=True": lambda: ops.roi_align(mask, roi, 28, 1 / STRIDE, 2, aligned=True)[0, 0],
    "aligned=False": lambda: ops.roi_align(mask, roi, 28, 1 / STRIDE, 2, aligned=False)[0, 0],
    "RoIPool": lambda: roi_pool_one(mask[0, 0], box / STRIDE, 28),
}.items():
    small = pool()
    x1, y1, x2, y2 = box.round().int().tolist()
    stretched = torch.nn.functional.interpolate(small[None, None], (y2 - y1, x2 - x1), mode="bilinear")[0, 0] > 0.5
    truth = target["masks"][3][y1:y2, x1:x2].bool()
    iou = (stretched & truth).sum() / (stretched | truth).sum()
    results[f"{name}: IoU {iou:.2f}"] = small
roi_pictures.outlines(image, box, results)

# %% [markdown]
# The half pixel of the map is 4 pixels of the picture. With `aligned=False` everything is read 4 pixels too far right
# and down, so what is drawn back lies 4 pixels too far *left and up*. A network that is trained with it learns to make
# up for that, but only on average.

# %% [markdown]
# ## The ladder, rung 2: PyTorch
#
# The Python loop takes one RoI and one channel. In PyTorch we take all channels and all samples of a RoI at once, first
# along y, then along x. This is the library's reference; read `_samples` first and compare it with your `bilinear`. (It
# also knows the other settings: `sampling_ratio=-1` chooses about one sample per cell.)

# %%
lab.show(reference._samples)

# %%
lab.show(reference._pool)

# %%
torch.manual_seed(0)
SCALE, BINS, SAMPLES = 0.25, 7, 2
features = torch.randn(2, 32, 20, 20)  # (N, C, H, W)
rois = torch.tensor([[0.0, 2, 3, 60, 50], [1, 10, 20, 79, 78], [0, -3, -3, 20, 30]])  # (K, 5), in pixels
want = reference.roi_align(features, rois, (BINS, BINS), SCALE, SAMPLES, True)  # (K, C, bins, bins)
one = pool_one(features[1, 4], rois[1, 1:] * SCALE, BINS, SAMPLES)
print("loop and PyTorch differ by at most", float((one - want[1, 4]).abs().max()))

# %% [markdown]
# ## Rung 3: C++
#
# A tensor's memory is one long row of numbers; a C++ function or a CUDA kernel gets only the address of the first. With
# shape (N, C, H, W), the number at `[n, c, y, x]` is number `((n * C + c) * H + y) * W + x` of that row. So the map of
# image `n`, channel `c` begins at `(n * C + c) * H * W`, and in it cell (y, x) is number `y * W + x`.
#
# You need only a little of C++:
#
# | C++ | Python, or what it means |
# |---|---|
# | `int i = 3;` | `i = 3`; the type comes first, and each statement ends with `;` |
# | `a && b`, <code>a &#124;&#124; b</code>, `!a` | `a and b`, `a or b`, `not a` |
# | `{ … }` | what Python says by indenting: the body of a loop, an `if`, a function |
# | `for (int i = 0; i < n; i++)` | `for i in range(n):` |
# | `(int)v` | `int(v)`; `int i = v;` does the same |
# | `0.5f` | 0.5, as a number of 32 bits, a `float` |
# | `const float* p` | the address of a `float` that is only read |
# | `p[7]` | number 7 from there on, the first is number 0 |
# | `p + 7` | the address of number 7 |
#
# One sample in C++ looks like your `bilinear`. We split it in two: *which cells, with which weights* is in a small
# file, so that all our kernels can use it:

# %%
lab.show("roi_align/four_cells.cuh", start="struct FourCells")

# %% [markdown]
# (`__device__` says that a kernel may call it. In plain C++ it means nothing.) And this is your `pool_one` in C++, with
# two more loops around it:

# %% language="cpp"
# #include "roi_align/four_cells.cuh"
#
# void roi_align_loops(const float* features, const float* rois, float* out, int count, int channels, int height,
#                      int width, int bins, int samples, float scale) {
#   for (int k = 0; k < count; k++)
#     for (int c = 0; c < channels; c++)
#       for (int p = 0; p < bins; p++)
#         for (int q = 0; q < bins; q++) {
#           const float* roi = rois + 5 * k;  // image, x1, y1, x2, y2
#           const float* map = features + ((int)roi[0] * channels + c) * height * width;
#           float left = roi[1] * scale - 0.5f, step_x = (roi[3] - roi[1]) * scale / (bins * samples);
#           float top = roi[2] * scale - 0.5f, step_y = (roi[4] - roi[2]) * scale / (bins * samples);
#           float sum = 0;
#           for (int i = p * samples; i < (p + 1) * samples; i++)
#             for (int j = q * samples; j < (q + 1) * samples; j++) {
#               FourCells four = four_cells(top + (i + 0.5f) * step_y, left + (j + 0.5f) * step_x, height, width);
#               for (int t = 0; t < 4; t++) sum += four.weight[t] * map[four.cell[t]];
#             }
#           out[((k * channels + c) * bins + p) * bins + q] = sum / (samples * samples);
#         }
# }

# %%
K, C, (H, W) = len(rois), features.shape[1], features.shape[2:]
out = torch.zeros(K, C, BINS, BINS)
roi_align_loops(features, rois, out, K, C, H, W, BINS, SAMPLES, SCALE)
print("C++ and PyTorch differ by at most", float((out - want).abs().max()))

# %% [markdown]
# ## CUDA from nothing
#
# A GPU runs one function, the **kernel**, in thousands of threads at once. A **thread** is one run of that function.
# All threads get the same arguments; they differ only in their numbers, and from its number a thread works out which
# part of the work is its own.
#
# Threads come in **blocks** of the same size (at most 1,024 threads), and the blocks together are the **grid**. You
# choose both when you start the kernel: `kernel[grid, block](...)`, the number of blocks and the number of threads in
# each.
#
# | in the kernel | what it is |
# |---|---|
# | `threadIdx.x` | the thread's number in its block, from 0 |
# | `blockIdx.x` | the block's number in the grid, from 0 |
# | `blockDim.x` | how many threads a block has |
#
# `__global__ void` marks the kernel. It returns nothing: it writes into memory that was there before.

# %% language="cuda"
# __global__ void who_am_i(int* block, int* thread) {
#   int i = blockIdx.x * blockDim.x + threadIdx.x;  // my number among all threads
#   block[i] = blockIdx.x;
#   thread[i] = threadIdx.x;
# }

# %%
block, thread = (torch.zeros(12, dtype=torch.int32, device=HERE) for _ in range(2))
who_am_i[3, 4](block, thread)
print("blockIdx.x ", block.tolist())
print("threadIdx.x", thread.tolist())

# %% [markdown]
# Three blocks of four threads: the line with `int i` numbers them 0 to 11. Nearly every kernel begins with it.
#
# **Predict:** you have 10 numbers to work on, and blocks of 4 threads. How many blocks do you start, and how many
# threads have nothing to do?

# %%
my_blocks, my_idle_threads = None, None

# %%
n, per_block = 10, 4
blocks = math.ceil(n / per_block)
idle = blocks * per_block - n
print(blocks, "blocks;", idle, "threads have nothing to do; you said", my_blocks, "and", my_idle_threads)

# %% [markdown]
# The threads with nothing to do run all the same, and would write past the end of the tensor, over somebody else's
# numbers. So the second line of nearly every kernel is a **guard**: `if (i >= n) return;`.
#
# ### Your first kernel
#
# Give each thread one coordinate: multiply it by `scale` (from pixels to cells), take off the half pixel. Number,
# guard, and one line of work.

# %% exercise="to_cells" language="cuda"
# __global__ void to_cells(const float* pixels, float* cells, float scale, int n) {
#   // your code: 3 lines
# }

# %% [markdown] solution="to_cells"
# <details><summary>Solution</summary>
#
# ```cpp
# %%cuda
# __global__ void to_cells(const float* pixels, float* cells, float scale, int n) {
#   int i = blockIdx.x * blockDim.x + threadIdx.x;
#   if (i >= n) return;
#   cells[i] = pixels[i] * scale - 0.5f;
# }
# ```
#
# </details>

# %%
to_cells_on_tensors = check(pooling.to_cells, to_cells)
print(to_cells_on_tensors(torch.tensor([0.0, 4, 10, 16], device=HERE), 0.25).tolist())

# %% [markdown]
# A kernel can also be **traced**: it then runs on the CPU, and every read and write of every thread is written down.
# Here is what the trace of `who_am_i` saw in the tensor `thread`. It is drawn in three rows of four, so each row is one
# block. Each cell shows which thread of its block wrote (W) it.

# %%
threads.draw_cells(who_am_i.trace[3, 4](block, thread), "thread", (3, 4))

# %% [markdown]
# ### Samples, one per thread
#
# Next, `bilinear` in a kernel: thread `i` takes point `i`, that is `y = points[2 * i]` and `x = points[2 * i + 1]`, and
# writes `out[i]`. It is the solution from above with C++'s words: `min` and `max` are there, `int top = y;` cuts the
# fraction off, and cell (y, x) is `map[y * width + x]`. Give `min` and `max` two numbers of one type: `0.0f` is a
# float, `height - 1.0f` too. (On the CPU here a mixture is forgiven; the compiler for GPUs may refuse it. And do not
# use `four_cells` here: it is the answer.)

# %% exercise="sample_points" language="cuda"
# __global__ void sample_points(const float* map, const float* points, float* out, int n, int height, int width) {
#   int i = blockIdx.x * blockDim.x + threadIdx.x;
#   if (i >= n) return;
#   // your code: about 9 lines
# }

# %% [markdown] solution="sample_points"
# <details><summary>Solution</summary>
#
# ```cpp
# %%cuda
# __global__ void sample_points(const float* map, const float* points, float* out, int n, int height, int width) {
#   int i = blockIdx.x * blockDim.x + threadIdx.x;
#   if (i >= n) return;
#   float y = points[2 * i], x = points[2 * i + 1];
#   if (y < -1 || y > height || x < -1 || x > width) { out[i] = 0; return; }
#   y = min(max(y, 0.0f), height - 1.0f), x = min(max(x, 0.0f), width - 1.0f);
#   int top = y, left = x, bottom = min(top + 1, height - 1), right = min(left + 1, width - 1);
#   float down = y - top, across = x - left;
#   float upper = (1 - across) * map[top * width + left] + across * map[top * width + right];
#   float lower = (1 - across) * map[bottom * width + left] + across * map[bottom * width + right];
#   out[i] = (1 - down) * upper + down * lower;
# }
# ```
#
# </details>

# %%
sample_on_tensors = check(pooling.sample_points, sample_points)

# %% [markdown]
# ## Rung 4: the first RoIAlign kernel
#
# The C++ has four loops whose turns do not depend on one another: over `k`, `c`, `p`, `q`. That is the sort of work for
# a GPU: we drop the four loops, and start one thread for each output. The inner loops, over a bin's samples, stay.
#
# A thread knows only its number `n`. The output at `[k, c, p, q]` is number `((k * channels + c) * bins + p) * bins +
# q`; we need the way back:
#
# - `q = n % bins` (the remainder: what is left after whole rows),
# - `p = n / bins % bins` (whole numbers divide without a fraction in C++),
# - `c = n / (bins * bins) % channels`,
# - `k = n / (bins * bins) / channels`.
#
# **Predict:** with `bins = 7` and `channels = 32`, which channel and bin is output number 100? Work it out, then run.

# %%
my_answer = None  # (c, p, q)
print("c, p, q =", (100 // 49 % 32, 100 // 7 % 7, 100 % 7), "- you said", my_answer)

# %% [markdown]
# Now write it: number, guard, the way back, and then the body of the C++ loops, about 15 lines in all. `count` is the
# number of outputs.

# %% exercise="roi_align_first" language="cuda"
# #include "roi_align/four_cells.cuh"
#
# __global__ void roi_align_first(const float* features, const float* rois, float* out, int count, int channels,
#                                 int height, int width, int bins, int samples, float scale) {
#   // your code
# }

# %% [markdown] solution="roi_align_first"
# <details><summary>Solution</summary>
#
# ```cpp
# %%cuda
# #include "roi_align/four_cells.cuh"
#
# __global__ void roi_align_first(const float* features, const float* rois, float* out, int count, int channels,
#                                 int height, int width, int bins, int samples, float scale) {
#   int n = blockIdx.x * blockDim.x + threadIdx.x;
#   if (n >= count) return;
#   int q = n % bins, p = n / bins % bins, c = n / (bins * bins) % channels, k = n / (bins * bins) / channels;
#   const float* roi = rois + 5 * k;  // image, x1, y1, x2, y2
#   const float* map = features + ((int)roi[0] * channels + c) * height * width;
#   float left = roi[1] * scale - 0.5f, step_x = (roi[3] - roi[1]) * scale / (bins * samples);
#   float top = roi[2] * scale - 0.5f, step_y = (roi[4] - roi[2]) * scale / (bins * samples);
#   float sum = 0;
#   for (int i = p * samples; i < (p + 1) * samples; i++)
#     for (int j = q * samples; j < (q + 1) * samples; j++) {
#       FourCells four = four_cells(top + (i + 0.5f) * step_y, left + (j + 0.5f) * step_x, height, width);
#       for (int t = 0; t < 4; t++) sum += four.weight[t] * map[four.cell[t]];
#     }
#   out[n] = sum / (samples * samples);
# }
# ```
#
# </details>

# %%
align_first = check(pooling.roi_align_first, roi_align_first)
got = align_first(features.to(HERE), rois.to(HERE), BINS, SAMPLES, SCALE).cpu()
print("kernel and PyTorch differ by at most", float((got - want).abs().max()))

# %% [markdown]
# That is a RoIAlign in CUDA. On a GPU it would already be far faster than the loops. But it can be much better.

# %% [markdown]
# ## What makes a kernel fast: neighbours read neighbours
#
# The GPU runs a block's threads in groups of 32, the **warps**. The 32 threads of a warp, its **lanes**, go in step:
# all of them do the same instruction at the same time. When that is a read, the 32 addresses go to memory together.
# Memory answers in pieces of 32 bytes, **sectors**: eight floats. If the 32 lanes ask for 32 floats that lie side by
# side, that is 128 bytes, 4 sectors: the fewest there can be. If each lane's float lies in another sector, 32 sectors
# must be moved, and seven eighths of what was moved is thrown away.
#
# RoIAlign does little arithmetic on what it reads. So **sectors per read** is the measure for us: it tells how well a
# kernel uses the memory, and it can be counted without a GPU, from the trace.
#
# In the first kernel, neighbouring threads have neighbouring `n`, so neighbouring `q`. **Predict:** how many sectors
# does one read of a warp need? At best 4, at worst 32.

# %%
my_sectors = None


# %% [markdown]
# For the picture we need a kernel that is surely right, yours or not. So here is a smaller one that does only what
# matters: it reads the first cell of the first sample of each output, in the order of the first kernel. Lines lead from
# each lane to the address it asks for; thick lines are the borders of sectors. (Lines of a kernel are counted from
# `%%cuda`.)

# %% language="cuda"
# #include "roi_align/four_cells.cuh"
#
# __global__ void first_reads(const float* features, const float* roi, float* out, int height, int width, int bins,
#                             float scale) {
#   int n = blockIdx.x * blockDim.x + threadIdx.x, q = n % bins, p = n / bins % bins, c = n / (bins * bins);
#   float y = (roi[2] + p * (roi[4] - roi[2]) / bins) * scale, x = (roi[1] + q * (roi[3] - roi[1]) / bins) * scale;
#   out[n] = features[c * height * width + four_cells(y, x, height, width).cell[0]];
# }
#
# __global__ void side_by_side(const float* features, const float* roi, float* out, int height, int width, int bins,
#                              float scale) {
#   int c = threadIdx.x, channels = blockDim.x, q = blockIdx.x % bins, p = blockIdx.x / bins;
#   float y = (roi[2] + p * (roi[4] - roi[2]) / bins) * scale, x = (roi[1] + q * (roi[3] - roi[1]) / bins) * scale;
#   out[blockIdx.x * channels + c] = features[four_cells(y, x, height, width).cell[0] * channels + c];
# }

# %%
image_0 = features[:1].to(HERE)  # (1, C, H, W)
last = image_0.permute(0, 2, 3, 1).contiguous()  # (1, H, W, C): channels last
reads = torch.zeros(C * BINS * BINS, device=HERE)
arguments = (rois[0].to(HERE), reads, H, W, BINS, SCALE)
scattered = first_reads.trace[len(reads) // 32, 32](image_0, *arguments)
threads.draw_lanes(scattered, "features")

# %% [markdown]
# The other way: let neighbouring threads take neighbouring **channels**. For the reads to be neighbours too, the
# channels of a cell must lie side by side in memory, `(N, H, W, C)` instead of `(N, C, H, W)`. PyTorch calls this
# `channels_last`, and convolutions like it as well. Cell (y, x) of channel `c` is then number `(y * W + x) * C + c` of
# the image, and all lanes of a warp read the same cell, each its own channel. `side_by_side` above does it so:

# %%
together = side_by_side.trace[BINS * BINS, C](last, *arguments)
threads.draw_lanes(together, "features")

# %%
for name, trace in {"neighbours take bins": scattered, "neighbours take channels": together}.items():
    warps = BINS * BINS * C // 32  # each reads once
    moved = threads.sectors(trace, "features")
    print(f"{name}: {warps} reads, {moved} sectors, {moved / warps:.1f} sectors per read")
print("you said", my_sectors)

# %% [markdown]
# ## Rung 5: a better kernel
#
# One block takes one RoI, `k = blockIdx.x`. Its threads are the channels, `c = threadIdx.x`, and there are `channels =
# blockDim.x` of them, so no guard is needed. Each thread loops over the bins; the body is as before. The map is
# channels last, and so is the output: `[k, p, q, c]` is number `((k * bins + p) * bins + q) * channels + c`. The stub
# has done everything down to the loop over bins.

# %% exercise="roi_align_better" language="cuda"
# #include "roi_align/four_cells.cuh"
#
# __global__ void roi_align_better(const float* features, const float* rois, float* out, int height, int width,
#                                  int bins, int samples, float scale) {
#   int k = blockIdx.x, c = threadIdx.x, channels = blockDim.x;
#   const float* roi = rois + 5 * k;  // image, x1, y1, x2, y2
#   const float* map = features + (int)roi[0] * height * width * channels;
#   float left = roi[1] * scale - 0.5f, step_x = (roi[3] - roi[1]) * scale / (bins * samples);
#   float top = roi[2] * scale - 0.5f, step_y = (roi[4] - roi[2]) * scale / (bins * samples);
#   for (int p = 0; p < bins; p++)
#     for (int q = 0; q < bins; q++) {
#       // your code: about 7 lines
#     }
# }

# %% [markdown] solution="roi_align_better"
# <details><summary>Solution</summary>
#
# ```cpp
# %%cuda
# #include "roi_align/four_cells.cuh"
#
# __global__ void roi_align_better(const float* features, const float* rois, float* out, int height, int width,
#                                  int bins, int samples, float scale) {
#   int k = blockIdx.x, c = threadIdx.x, channels = blockDim.x;
#   const float* roi = rois + 5 * k;  // image, x1, y1, x2, y2
#   const float* map = features + (int)roi[0] * height * width * channels;
#   float left = roi[1] * scale - 0.5f, step_x = (roi[3] - roi[1]) * scale / (bins * samples);
#   float top = roi[2] * scale - 0.5f, step_y = (roi[4] - roi[2]) * scale / (bins * samples);
#   for (int p = 0; p < bins; p++)
#     for (int q = 0; q < bins; q++) {
#       float sum = 0;
#       for (int i = p * samples; i < (p + 1) * samples; i++)
#         for (int j = q * samples; j < (q + 1) * samples; j++) {
#           FourCells four = four_cells(top + (i + 0.5f) * step_y, left + (j + 0.5f) * step_x, height, width);
#           for (int t = 0; t < 4; t++) sum += four.weight[t] * map[four.cell[t] * channels + c];
#         }
#       out[((k * bins + p) * bins + q) * channels + c] = sum / (samples * samples);
#     }
# }
# ```
#
# </details>

# %%
align_better = check(pooling.roi_align_better, roi_align_better)
got = align_better(features.to(HERE), rois.to(HERE), BINS, SAMPLES, SCALE).cpu()
print("better kernel and PyTorch differ by at most", float((got - want).abs().max()))

# %% [markdown]
# One more waste is left. All threads of a block work out the *same* cells and weights, `four_cells`, each for itself.
# The library's kernel does it once per RoI: the block's threads share the work, keep the result in memory that the
# whole block can see (`__shared__`), wait for each other (`__syncthreads()`), and then only read and add. It also reads
# four channels at a time, 16 bytes per lane. You need not follow every line. Find the two waits, and say why each is
# needed:

# %%
lab.show("roi_align/roi_align.cu", start="    fill_table(y_table, roi.y);", end="// ---- backward, scattering")

# %% [markdown]
# <details><summary>Answer</summary>
#
# The first: nobody may read the table before all of it is filled. The second: nobody may fill it for the next RoI while
# somebody still reads it for this one.
#
# </details>

# %% [markdown]
# ## Break it: which check would notice?
#
# Suppose that somebody drops the half pixel from the op (that is `aligned=False`). Here are six checks that one might
# have. **Predict:** which of them notice?

# %%
my_suspects = []  # some of the names below


# %%
def checks_of(aligned):
    """Whether each check is content with RoIAlign, with or without the half pixel."""

    def pool(values):
        return ops.roi_align(values, inner, 3, SCALE, SAMPLES, aligned)

    inner = torch.tensor([[0.0, 9, 13, 57, 61]], dtype=torch.float64)
    random = features[:1, :2].double().requires_grad_()
    columns = (torch.arange(20.0, dtype=torch.float64) + 0.5).expand(1, 1, 20, 20)  # each cell holds its own place
    middles = torch.tensor([17.0, 33, 49]) * SCALE  # of the three columns of bins
    pool(random).sum().backward()
    return {
        "the right shape": pool(random).shape == (1, 2, 3, 3),
        "a constant map pools to the constant": bool((pool(torch.ones_like(random)) - 1).abs().max() < 1e-9),
        "gradcheck: the gradient fits the values": torch.autograd.gradcheck(pool, random.detach().requires_grad_()),
        "the gradient's sum is the number of outputs": bool((random.grad.sum() - 18).abs() < 1e-9),
        "cells that hold their place pool to the bins' middles": bool((pool(columns) - middles).abs().max() < 1e-6),
        "the reference gives the same": bool(
            (pool(random) - reference.roi_align(random, inner, (3, 3), SCALE, SAMPLES, True)).abs().max() < 1e-9
        ),
    }


whole, broken = checks_of(True), checks_of(False)
says = {True: "passes", False: "FAILS"}
print(f"{'with and without the half pixel':<56}with     without")
for name in whole:
    print(f"{name:<56}{says[whole[name]]:<9}{says[broken[name]]}")
print("you said:", my_suspects)

# %% [markdown]
# Most are content. Even `gradcheck` is: it holds the gradient against the values, and a gradient of the wrong function
# can be perfectly right. What finds it is an input whose answer one *knows*, or another implementation that does not
# share the mistake. So every op of this library is held against torchvision, and against a reference.

# %% [markdown]
# ## The gradient: many add to one
#
# To train what lies before RoIAlign, we need the gradient for the features. An output is a weighted sum of cells, so
# backwards each cell receives, from each output that read it, that output's gradient times the same weight. Reading
# turns into adding.
#
# How many outputs add to one cell? That is the cell's **fan-in**. Three RoIs that overlap, 4 × 4 bins each, on a map of
# 12 × 12 cells:

# %%
crowd = torch.tensor([[0.0, 0.2, 1, 7.2, 8.1], [0, 3.1, 2.8, 9.8, 10], [0, 4.1, 5, 11.8, 11.8]])  # in cells: scale is 1
SHAPE = (1, 1, 12, 12)
reached = torch.zeros(12, 12)
for k in range(3):
    for n in range(16):
        one_output = torch.zeros(3, 1, 4, 4)
        one_output[k].view(-1)[n] = 1
        grad_map = torch.zeros(SHAPE, requires_grad=True)
        ops.roi_align(grad_map, crowd, 4, 1.0, SAMPLES, True).backward(one_output)
        reached += grad_map.grad[0, 0] != 0
roi_pictures.fan_in(reached.int(), crowd[:, 1:], 4)

# %% [markdown]
# ### A kernel with a fault
#
# The same threads as in the first kernel, one per output: each takes its output's gradient and adds a share of it to
# each of its cells. `map[cell] += value` is one line in C++, but three steps: **read** the cell, **add**, **write** it
# back. Here they are written apart. (Leave the line with `in_step` for later: at first, `in_step` is 0.) It looks
# right. Something in it is wrong all the same.

# %% language="cuda"
# #include "roi_align/four_cells.cuh"
#
# __global__ void scatter_wrong(const float* grad, const float* rois, float* grad_features, int count, int channels,
#                               int height, int width, int bins, int samples, float scale, int in_step) {
#   int n = blockIdx.x * blockDim.x + threadIdx.x;
#   if (n >= count) return;
#   int q = n % bins, p = n / bins % bins, c = n / (bins * bins) % channels, k = n / (bins * bins) / channels;
#   const float* roi = rois + 5 * k;
#   float* map = grad_features + ((int)roi[0] * channels + c) * height * width;
#   float left = roi[1] * scale - 0.5f, step_x = (roi[3] - roi[1]) * scale / (bins * samples);
#   float top = roi[2] * scale - 0.5f, step_y = (roi[4] - roi[2]) * scale / (bins * samples);
#   float share = grad[n] / (samples * samples);
#   for (int i = p * samples; i < (p + 1) * samples; i++)
#     for (int j = q * samples; j < (q + 1) * samples; j++) {
#       FourCells four = four_cells(top + (i + 0.5f) * step_y, left + (j + 0.5f) * step_x, height, width);
#       for (int t = 0; t < 4; t++) {
#         float before = map[four.cell[t]];
#         if (in_step) __syncwarp();
#         map[four.cell[t]] = before + share * four.weight[t];
#       }
#     }
# }

# %% [markdown]
# A sum that cannot lie: the weights of a sample add up to 1, so each output hands out exactly its own gradient, and the
# sum over all cells must equal the sum over all outputs. With 48 outputs of gradient 1 that is 48.

# %%
ones = torch.ones(3, 1, 4, 4, device=HERE)
sizes = (ones.numel(), *SHAPE[1:], 4, SAMPLES, 1.0)
total = torch.zeros(SHAPE, device=HERE)
trace = scatter_wrong.trace[1, 64](ones, crowd.to(HERE), total, *sizes, 0)
print(f"the sum is {float(total.sum()):.3f}")
print("the trace says:", trace.findings[0])

# %% [markdown]
# The sum is right, and the trace complains! Who is to be believed? **Find the fault** before you read on: what can
# happen between two threads at the line that the trace names? (Lines count from `%%cuda`. A barrier is a wait such as
# `__syncthreads()`.) Here is what it saw: each cell of the gradient with the threads that used it, and a mark where two
# of them collide. “5x” says that there were five. A coloured cell was used by one thread alone, a white one by several.

# %%
threads.draw_cells(trace, "grad_features", SHAPE[2:])

# %% [markdown]
# When two threads read a cell before either has written it, both add to the same old number, and the one that writes
# last wipes out the other's sum. This is a **race**: the result depends on who comes first.
#
# The trace ran the threads one after the other, and nobody came between the three steps. So the sum was right by luck.
# On a GPU, the 32 threads of a warp take each step *together*. We can have that here: `__syncwarp()` makes the threads
# of a warp wait for each other, and the line with `in_step` puts it between the read and the write. Also,
# `lab.schedule("shuffled")` gives the threads their turns in another order each time. A kernel without a race gives the
# same sum in any order, but for the last digits.

# %%
for seed in range(4):
    total = torch.zeros(SHAPE, device=HERE)
    with lab.schedule("shuffled", seed=seed):
        scatter_wrong[1, 64](ones, crowd.to(HERE), total, *sizes, 1)
    print(f"threads in order number {seed}: the sum is {float(total.sum()):.3f}, and should be 48")

# %% [markdown]
# So the trace was right. For the cells that this run touched, it finds the fault also when luck hides it.
#
# ### Mend it
#
# `atomicAdd(address, value)` does the three steps as one: nobody can come between (*atomic* means that it cannot be
# divided). The address of `map[i]` is `map + i`. Write the inner loop; the stub has the rest.

# %% exercise="scatter" language="cuda"
# #include "roi_align/four_cells.cuh"
#
# __global__ void scatter(const float* grad, const float* rois, float* grad_features, int count, int channels,
#                         int height, int width, int bins, int samples, float scale) {
#   int n = blockIdx.x * blockDim.x + threadIdx.x;
#   if (n >= count) return;
#   int q = n % bins, p = n / bins % bins, c = n / (bins * bins) % channels, k = n / (bins * bins) / channels;
#   const float* roi = rois + 5 * k;
#   float* map = grad_features + ((int)roi[0] * channels + c) * height * width;
#   float left = roi[1] * scale - 0.5f, step_x = (roi[3] - roi[1]) * scale / (bins * samples);
#   float top = roi[2] * scale - 0.5f, step_y = (roi[4] - roi[2]) * scale / (bins * samples);
#   float share = grad[n] / (samples * samples);
#   for (int i = p * samples; i < (p + 1) * samples; i++)
#     for (int j = q * samples; j < (q + 1) * samples; j++) {
#       FourCells four = four_cells(top + (i + 0.5f) * step_y, left + (j + 0.5f) * step_x, height, width);
#       // your code: 1 line
#     }
# }

# %% [markdown] solution="scatter"
# <details><summary>Solution</summary>
#
# ```cpp
# %%cuda
# #include "roi_align/four_cells.cuh"
#
# __global__ void scatter(const float* grad, const float* rois, float* grad_features, int count, int channels,
#                         int height, int width, int bins, int samples, float scale) {
#   int n = blockIdx.x * blockDim.x + threadIdx.x;
#   if (n >= count) return;
#   int q = n % bins, p = n / bins % bins, c = n / (bins * bins) % channels, k = n / (bins * bins) / channels;
#   const float* roi = rois + 5 * k;
#   float* map = grad_features + ((int)roi[0] * channels + c) * height * width;
#   float left = roi[1] * scale - 0.5f, step_x = (roi[3] - roi[1]) * scale / (bins * samples);
#   float top = roi[2] * scale - 0.5f, step_y = (roi[4] - roi[2]) * scale / (bins * samples);
#   float share = grad[n] / (samples * samples);
#   for (int i = p * samples; i < (p + 1) * samples; i++)
#     for (int j = q * samples; j < (q + 1) * samples; j++) {
#       FourCells four = four_cells(top + (i + 0.5f) * step_y, left + (j + 0.5f) * step_x, height, width);
#       for (int t = 0; t < 4; t++) atomicAdd(map + four.cell[t], share * four.weight[t]);
#     }
# }
# ```
#
# </details>

# %%
scatter_on_tensors = check(pooling_gradient.scatter, scatter)

# %% [markdown]
# ### The same numbers, another order, other bits
#
# No sum is lost now. Yet one thing still depends on the order. A float has 24 binary digits; each addition is rounded
# to them. So `(a + b) + c` and `a + (b + c)` may differ in the last digit. Atomics promise that every addend arrives,
# not in which order.
#
# 64 RoIs on the same small map; the library's own kernel with atomics; ten orders of the threads. **Predict:** how many
# of the 144 cells will not be the same, to the last bit, in all ten?

# %%
my_cells = None

# %%
generator = torch.Generator().manual_seed(1)
corners = 6 * torch.rand(64, 2, generator=generator)
sides = 2 + 4 * torch.rand(64, 2, generator=generator)
many = torch.cat([torch.zeros(64, 1), corners, corners + sides], dim=1)  # (64, 5)
many_grads = torch.randn(64, 1, 4, 4, generator=generator)


def gradients_in_ten_orders():
    """(10, 12, 12): the library's CUDA kernels, run on the CPU, thread by thread."""
    results = []
    for seed in range(10):
        values = torch.zeros(SHAPE, requires_grad=True)
        with ops.use_backend("emulated"), lab.schedule("shuffled", seed=seed):
            ops.roi_align(values, many, 4, 1.0, SAMPLES, True).backward(many_grads)
        results.append(values.grad[0, 0])
    return torch.stack(results)


atomic = gradients_in_ten_orders()
differ = (atomic != atomic[0]).any(0)  # (12, 12)
print(f"{int(differ.sum())} of {differ.numel()} cells differ; you said", my_cells)
print(f"the largest difference is {float((atomic - atomic[0]).abs().max()):.1e}")

# %% [markdown]
# The differences are tiny, but training is a long chain, and two runs from the same seed drift apart. Whoever hunts for
# a fault wants the same bits every time.
#
# ### The other way round: gather
#
# The way out is to turn the question around. Not *each output adds to its cells*, but *each cell fetches from its
# outputs*: one thread per **cell**, which goes through the RoIs in a fixed order and sums what they owe it. Nobody else
# writes there, so there is no race and no atomic, and the order of the sum is always the same. The price is to find out
# which RoIs touch a cell. The library does this when you ask PyTorch for determinism:

# %%
lab.show("roi_align/roi_align.cu", start="// ---- backward, gathering", end="touches . x")

# %%
torch.use_deterministic_algorithms(True)
gathered = gradients_in_ten_orders()
torch.use_deterministic_algorithms(False)
differ = (gathered != gathered[0]).any(0)
print(f"{int(differ.sum())} of {differ.numel()} cells differ")
print(f"from the atomic sums it is at most {float((gathered - atomic).abs().max()):.1e} away")

# %% [markdown]
# ## How fast is it
#
# First by arithmetic. 100 RoIs, 64 channels, 7 × 7 bins, 2 × 2 samples, a map of 64 × 64:

# %%
K, C, H, W = 100, 64, 64, 64
outputs = K * C * BINS * BINS
reads = outputs * SAMPLES**2 * 4
print(f"{outputs:,} outputs; {reads:,} reads of a cell, each multiplied and added: {2 * reads:,} operations")
least = 4 * (C * H * W + outputs)
print(f"memory: the map is {4 * C * H * W:,} bytes, the output {4 * outputs:,}: at least {least:,} bytes must move")
print(f"{2 * reads / least:.1f} operations for each of these bytes")
print(f"if each read moved a sector of its own: {32 * reads:,} bytes, {32 * reads / least:.0f} times the least")

# %% [markdown]
# Take a GPU that moves 1 TB a second and does 20 billion operations in a thousandth of a second, 20 TFLOP/s: 20
# operations in the time of one byte. RoIAlign asks for fewer, so **memory is what it waits for**, even if all goes
# well; and the last line says how badly it can go. That is why we counted sectors.
#
# Now measure: first the Python loop, for one RoI and one channel of the 100 × 64; then all of it by the other rungs.

# %%
features = torch.randn(1, C, H, W)
corners = torch.rand(K, 2) * 150
rois = torch.cat([torch.zeros(K, 1), corners, corners + 20 + 80 * torch.rand(K, 2)], dim=1)
out = torch.empty(K, C, BINS, BINS)
loop = {"Python loop, one RoI, one channel": lambda: pool_one(features[0, 0], rois[0, 1:] * SCALE, BINS, SAMPLES)}
for milliseconds in lab.timed(loop, repeats=3).values():
    print(f"for all of it that would be {milliseconds * K * C / 1000:.0f} s\n")

ways = {
    "PyTorch (the reference)": lambda: reference.roi_align(features, rois, (BINS, BINS), SCALE, SAMPLES, True),
    "C++ loops (this lesson's)": lambda: roi_align_loops(features, rois, out, K, C, H, W, BINS, SAMPLES, SCALE),
    "the library's op": lambda: ops.roi_align(features, rois, BINS, SCALE, SAMPLES, True),
}
try:
    import torchvision
except ImportError:
    print("torchvision is not there, so it is not timed")
else:
    ways["torchvision"] = lambda: torchvision.ops.roi_align(features, rois, BINS, SCALE, SAMPLES, True)
if HERE == "cuda":
    on_gpu = features.cuda(), rois.cuda(), BINS, SAMPLES, SCALE
    ways["the first kernel, on the GPU"] = lambda: align_first(*on_gpu)
    ways["the better kernel, on the GPU"] = lambda: align_better(*on_gpu)
times = lab.timed(ways)

# %% [markdown]
# Kernels that run on the CPU thread by thread are not in the table: their time would say nothing about a GPU. The
# library's op on the CPU wins over the plain loops by the same thought as the better kernel: what does not depend on
# the channel (cells, weights) is worked out once for all channels.
#
# Compare it with torchvision's as well, if that is in the table, and do not believe the first number. This input is
# small: a few milliseconds hold the fixed costs of a call, and whatever else the machine does just then. Such times can
# change places from run to run, and either op may come first. Run the cell again, and once more after `K = 1000` in the
# cell before it.

# %% [markdown]
# ## Exercises
#
# ### 1. Gather
#
# Write the deterministic gradient. One thread per cell of `(N, C, H, W)`; the stub finds its `x`, `y`, `c` and `image`.
# Go through all RoIs of this image and all their samples: sample (i, j) belongs to bin (i / samples, j / samples). How
# much of the cell does it read? Along one axis, a sample at `at` reads `1 - |at - cell|` of a cell that is less than
# one away, else 0. That is `max(0.0f, 1 - fabsf(at - cell))`, a function in the shape of a tent. The stub has it as
# `weight`, with the rules of the border. `grad` lies as `out` did, `[k, c, p, q]`; `num_rois` is the number of RoIs.
# Each sample carries 1 / samples² of its output's gradient.

# %% exercise="gather" language="cuda"
# __device__ float weight(float at, int cell, int cells) {  // how much of `cell` a sample reads, along one axis
#   return at < -1 || at > cells ? 0.0f : max(0.0f, 1 - fabsf(min(max(at, 0.0f), cells - 1.0f) - cell));
# }
#
# __global__ void gather(const float* grad, const float* rois, float* grad_features, int count, int num_rois,
#                        int channels, int height, int width, int bins, int samples, float scale) {
#   int n = blockIdx.x * blockDim.x + threadIdx.x;
#   if (n >= count) return;
#   int x = n % width, y = n / width % height, c = n / width / height % channels, image = n / width / height / channels;
#   // your code: about 14 lines
# }

# %% [markdown] solution="gather"
# <details><summary>Solution</summary>
#
# ```cpp
# %%cuda
# __device__ float weight(float at, int cell, int cells) {  // how much of `cell` a sample reads, along one axis
#   return at < -1 || at > cells ? 0.0f : max(0.0f, 1 - fabsf(min(max(at, 0.0f), cells - 1.0f) - cell));
# }
#
# __global__ void gather(const float* grad, const float* rois, float* grad_features, int count, int num_rois,
#                        int channels, int height, int width, int bins, int samples, float scale) {
#   int n = blockIdx.x * blockDim.x + threadIdx.x;
#   if (n >= count) return;
#   int x = n % width, y = n / width % height, c = n / width / height % channels, image = n / width / height / channels;
#   float sum = 0;
#   for (int k = 0; k < num_rois; k++) {
#     const float* roi = rois + 5 * k;
#     if (roi[0] != image) continue;
#     float left = roi[1] * scale - 0.5f, step_x = (roi[3] - roi[1]) * scale / (bins * samples);
#     float top = roi[2] * scale - 0.5f, step_y = (roi[4] - roi[2]) * scale / (bins * samples);
#     for (int i = 0; i < bins * samples; i++)
#       for (int j = 0; j < bins * samples; j++) {
#         float much = weight(top + (i + 0.5f) * step_y, y, height) * weight(left + (j + 0.5f) * step_x, x, width);
#         sum += much * grad[((k * channels + c) * bins + i / samples) * bins + j / samples];
#       }
#   }
#   grad_features[n] = sum / (samples * samples);
# }
# ```
#
# </details>

# %%
gather_on_tensors = check(pooling_gradient.gather, gather)

# %% [markdown]
# ### 2. Rows and columns apart
#
# The tent hides a short way to say RoIAlign. The weight of a cell in a sample is (weight of its row) × (weight of its
# column). So a bin is a sum over rows of a sum over columns, and the whole op is two matrix products: `rows @
# feature_map @ columns.T`, with `rows` (bins, H) and `columns` (bins, W). Write the function that makes such a matrix
# for one axis. `start` is in the tensor's coordinates (the half pixel is taken off already), and `length` is the RoI's
# side in cells. Take the mean over a bin's samples; the border rules are those of `weight` above.


# %% exercise="axis_weights"
def axis_weights(start, length, bins, samples, cells):
    """How much of each cell is in each bin of a RoI along one axis -> (bins, cells). About 5 lines."""
    ...


# %% [markdown] solution="axis_weights"
# <details><summary>Solution</summary>
#
# ```python
# def axis_weights(start, length, bins, samples, cells):
#     at = start + (torch.arange(bins * samples) + 0.5) * length / (bins * samples)  # (bins * samples,)
#     inside = (at >= -1) & (at <= cells)
#     distance = (at.clamp(0, cells - 1)[:, None] - torch.arange(cells)).abs()  # (bins * samples, cells)
#     weights = (1 - distance).clamp(min=0) * inside[:, None]
#     return weights.view(bins, samples, cells).mean(1)
# ```
#
# </details>

# %%
axis_weights = check(pooling.axis_weights, axis_weights)
x1, y1, x2, y2 = (rois[0, 1:] * SCALE - 0.5).tolist()
rows = axis_weights(y1, y2 - y1, BINS, SAMPLES, H)  # (7, H)
columns = axis_weights(x1, x2 - x1, BINS, SAMPLES, W)  # (7, W)
two_products = rows @ features[0] @ columns.T  # (C, 7, 7)
difference = (two_products - ops.roi_align(features, rois[:1], BINS, SCALE, SAMPLES, True)[0]).abs().max()
print(f"two matrix products and the op differ by at most {float(difference):.1e}")

# %% [markdown]
# ### 3. Questions
#
# **a.** A map has 8 channels, channels last. One block per RoI and one thread per channel, as in the better kernel.
# What is wasted?
#
# <details><summary>Answer</summary>
#
# A block of 8 threads fills only 8 of the 32 lanes of a warp: three quarters of the lanes idle. Let a block take
# several bins at once: thread → (bin, channel). A warp then reads 4 cells of 8 channels, 32 bytes each: 4 sectors for
# 32 floats, as good as before.
#
# </details>
#
# **b.** RoIPool's gradient goes to the one cell of each bin that was the largest. Does its scatter need atomics?
#
# <details><summary>Answer</summary>
#
# Yes. A cell can be the largest of several bins: bins of one RoI share border cells (hatched in the picture above), and
# RoIs overlap.
#
# </details>
#
# **c.** `scatter_wrong` went wrong already among the lanes of a warp. Would it be right with blocks of one thread?
#
# <details><summary>Answer</summary>
#
# Here on the CPU yes, by luck: blocks run one after the other. On a GPU blocks run at the same time, and two of them
# race just as two lanes do. The trace reports it also then: try `scatter_wrong.trace[48, 1](...).findings`.
#
# </details>
#
# **d.** Why may the atomic kernel's result differ between two runs on a GPU, when the program and its input are the
# same?
#
# <details><summary>Answer</summary>
#
# The order in which warps and blocks get their turn depends on what else the GPU does, on when data come from memory,
# and so on. The order of the atomic additions follows from that, and the rounding from the order.
#
# </details>

# %% [markdown]
# ## What we left out, and where to read on
#
# - `sampling_ratio=-1` takes about one sample per cell, `ceil(RoI side / bins)`. The kernels' loops are the same, with
#   two counts instead of one.
# - Half-precision features: sums and coordinates stay in float32. Bad RoIs (no such image, NaN): the library's kernels
#   write NaN instead of reading anywhere.
# - How the op is registered with PyTorch, and its gradient: lesson 15 (to come), and `mrcnn/ops/pooling.py`.
# - Which level of the pyramid a RoI is pooled from: lesson 00, `choose_level`. What becomes of the 7 × 7 features:
#   lesson 08 (to come), and of the 14 × 14 of the mask head: lesson 09 (to come).
# - K. He, G. Gkioxari, P. Dollár, R. Girshick, *Mask R-CNN* (2017), section 3: RoIAlign, with RoIPool beside it in
#   table 2. R. Girshick, *Fast R-CNN* (2015), section 2.1: RoIPool.
# - `csrc/cuda_on_cpu/README.md`: how kernels run on the CPU here, what that cannot show, and how to step through a
#   kernel with a debugger.
