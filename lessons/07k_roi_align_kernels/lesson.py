# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # RoIAlign, down to the thread
#
# A kernel that waits for memory, the layout that makes it wait less, and many threads that add to one cell.
#
# **You will** write RoIAlign as a CUDA kernel, then a better one, and mend a gradient whose fault hides well.
#
# **Time** about 60 minutes. **Know first** RoIAlign (lesson 07), and a first kernel and the trace (lesson 04k).
#
# **Files** `csrc/roi_align/`.

# %%
import exercises
import pictures
import torch

from mrcnn import lab, ops
from mrcnn.lab import check
from mrcnn.lab.views import threads

# %load_ext mrcnn.lab
# %matplotlib inline
HERE = lab.device()  # where the tensors of our kernels live
print("kernels run on:", "the GPU" if HERE == "cuda" else "the CPU, thread by thread")

# %% [markdown]
# ## Where a number lies
#
# A tensor's memory is one long row of numbers; a kernel gets only the address of the first. With shape (N, C, H, W), the number
# at `[n, c, y, x]` is number `((n * C + c) * H + y) * W + x` of that row. So the map of image `n`, channel `c` begins at
# `(n * C + c) * H * W`, and in it cell (y, x) is number `y * W + x`.

# %%
torch.manual_seed(0)
SCALE, BINS, SAMPLES = 0.25, 7, 2
features = torch.randn(2, 32, 20, 20)  # (N, C, H, W)
rois = torch.tensor([[0.0, 2, 3, 60, 50], [1, 10, 20, 79, 78], [0, -3, -3, 20, 30]])  # (K, 5), in pixels
want = ops.roi_align(features, rois, BINS, SCALE, SAMPLES, aligned=True)  # (K, C, bins, bins)
K, C, (H, W) = len(rois), features.shape[1], features.shape[2:]
number = ((1 * C + 5) * H + 3) * W + 7
print("by its place and by its number:", features[1, 5, 3, 7].item(), features.flatten()[number].item())

# %% [markdown]
# ## Warm up: from pixels to cells
#
# Give each thread one coordinate: multiply it by `scale`, take off the half pixel. Number, guard, and one line of work.
# (`kernel[grid, block](...)` starts `grid` blocks of `block` threads; `check` does that for you here.)

# %% exercise="to_cells"

# %%
print(lab.whose(to_cells), to_cells(torch.tensor([0.0, 4, 10, 16]), 0.25).tolist())

# %% [markdown]
# ## One sample
#
# One sample in C++ looks like your `bilinear` of lesson 07. *Which cells, with which weights* is in a small file, so that all our
# kernels can use it:

# %%
lab.show("roi_align/four_cells.cuh", start="struct FourCells")

# %% [markdown]
# (`__device__` says that a kernel may call it.) And this is `pool_one` in C++, with two more loops around it. New in it:
# `rois + 5 * k` is the address 5 * k numbers further on; `(int)` makes a whole number of a float; `0.5f` is a float, where
# `0.5` would be a number of double precision; `four.cell` and `four.weight` are the two arrays of a `FourCells`.

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
out = torch.zeros(K, C, BINS, BINS)
roi_align_loops(features, rois, out, K, C, H, W, BINS, SAMPLES, SCALE)
print("C++ and the op differ by at most", float((out - want).abs().max()))

# %% [markdown]
# ## Rung 4: the first RoIAlign kernel
#
# The C++ has four loops whose turns do not depend on one another: over `k`, `c`, `p`, `q`. That is the sort of work for
# a GPU: we drop the four loops, and start one thread for each output. The inner loops, over a bin's samples, stay. (The
# rungs below are a loop in Python, PyTorch, and the C++ above.)
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
# Now write it: number, guard, the way back, and then the body of the C++ loops. `count` is the number of outputs here.

# %% exercise="roi_align_first"

# %%
got = roi_align_first(features, rois, BINS, SAMPLES, SCALE).cpu()
print(f"the kernel ({lab.whose(roi_align_first)}) and the op differ by at most {float((got - want).abs().max()):.1e}")

# %% [markdown]
# ## What makes a kernel fast: neighbours read neighbours
#
# As in lesson 04k: the 32 threads of a **warp**, its **lanes**, do the same instruction at the same time. When that is
# a read, memory answers in pieces of 32 bytes, **sectors**: eight floats. If the 32 lanes ask for 32 floats that lie
# side by side, that is 128 bytes, 4 sectors: the fewest there can be. If each lane's float lies in another sector, 32
# sectors must be moved, and seven eighths of what was moved is thrown away.
#
# RoIAlign does little arithmetic on what it reads. So **sectors per read** is our measure; the trace counts it without a GPU.
#
# Slide the stride: from when on is each sector moved for one number?

# %%
lab.memory_slider(3)

# %% [markdown]
# In the first kernel, neighbouring threads have neighbouring `n`, so neighbouring `q`. **Predict:** how many sectors
# does one read of a warp need? At best 4, at worst 32.

# %%
my_sectors = None

# %% [markdown]
# A small kernel does only what matters: it reads the first cell of the first sample of each output, in the order of
# the first kernel; and another that lets neighbouring threads take neighbouring **channels**. For the reads to be neighbours too,
# the channels of a cell must lie side by side in memory, `(N, H, W, C)`: PyTorch calls that `channels_last`. Cell (y, x) of
# channel `c` is then number `(y * W + x) * C + c` of the image.

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
threads.lanes(scattered, "features")

# %% [markdown]
# Lines lead from each lane to the address it asks for; thick lines are the borders of sectors. Seven lanes are a row of
# bins; the next row of bins is read some rows of the map further on. And the other way:

# %%
together = side_by_side.trace[BINS * BINS, C](last, *arguments)
threads.lanes(together, "features")

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
# channels last, and so is the output: `[k, p, q, c]` is number `((k * bins + p) * bins + q) * channels + c`.

# %% exercise="roi_align_better"

# %%
got = roi_align_better(features, rois, BINS, SAMPLES, SCALE).cpu()
print(
    f"the better kernel ({lab.whose(roi_align_better)}) and the op differ by at most {float((got - want).abs().max()):.1e}"
)

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
# ## The gradient: many add to one
#
# As in lesson 07: backwards, each cell receives, from each output that read it, that output's gradient times the same
# weight. Reading turns into adding.
#
# How many outputs add to one cell? That is the cell's **fan-in**. Three RoIs that overlap, 4 × 4 bins each, on a map of
# 12 × 12 cells:

# %% tags=["cover"]
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
pictures.fan_in(reached.int(), crowd[:, 1:])

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
# happen between two threads at the line that the trace names? (Lines count from `%%cuda`.) Here is what it saw: each
# cell of the gradient with the threads that used it, and a mark where two of them collide; “5x” means five threads. A
# coloured cell was used by one thread alone, a white one by several.

# %%
threads.cells(trace, "grad_features", SHAPE[2:])

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
# Step through it: which addition is lost?

# %%
runs = {}
for name, in_step in {"one after the other": 0, "in step": 1}.items():
    total = torch.zeros(SHAPE, device=HERE)
    runs[name] = scatter_wrong.trace[1, 64](ones, crowd.to(HERE), total, *sizes, in_step)
lab.stepper(runs, title="Read, add, write", buffers=["grad_features"], max_threads=3)

# %% [markdown]
# So the trace was right. For the cells that this run touched, it finds the fault also when luck hides it.
#
# ### Mend it
#
# `atomicAdd(address, value)` does the three steps as one: nobody can come between (*atomic* means that it cannot be
# divided). The address of `map[i]` is `map + i`. (A barrier is no way out: two blocks do not wait for each other.) Write
# the inner loop; the stub has the rest.

# %% exercise="scatter"

# %% [markdown]
# Sums are safe now. Yet one thing still depends on the order. A float has 24 binary digits; each addition is rounded to them. So
# `(a + b) + c` and `a + (b + c)` may differ in the last digit. Atomics promise that every addend arrives, not in which order.
#
# 64 RoIs on the same small map; the library's own kernel with atomics; ten orders of the threads. **Predict:** how many of the
# 144 cells will not be the same, to the last bit, in all ten?

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
# The way out is to turn the question around: one thread per **cell**, which goes through the RoIs in a fixed order
# and sums what they owe it. Nobody else writes there, so there is no race and no atomic. The price is to find out
# which RoIs touch a cell. The library does this when you ask PyTorch for determinism (`csrc/roi_align/roi_align.cu`,
# from "backward, gathering" on):

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
# By arithmetic. 100 RoIs, 64 channels, 7 × 7 bins, 2 × 2 samples, a map of 64 × 64:

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
# Take a GPU that moves 1 TB a second and does 20 operations in the time of one byte. RoIAlign asks for fewer, so **memory is what
# it waits for**, even if all goes well; and the last line says how badly it can go. That is why we counted sectors. Kernels that
# run on the CPU thread by thread have no time worth telling; the C++ loops have:

# %%
features = torch.randn(1, C, H, W)
corners = torch.rand(K, 2) * 150
rois = torch.cat([torch.zeros(K, 1), corners, corners + 20 + 80 * torch.rand(K, 2)], dim=1)
out = torch.empty(K, C, BINS, BINS)
ways = {
    "C++ loops, the lesson's": lambda: roi_align_loops(features, rois, out, K, C, H, W, BINS, SAMPLES, SCALE),
    "mrcnn.ops, the library's": lambda: ops.roi_align(features, rois, BINS, SCALE, SAMPLES, True),
}
if HERE == "cuda":
    on_gpu = features.cuda(), rois.cuda(), BINS, SAMPLES, SCALE
    ways[f"first kernel, {lab.whose(roi_align_first)}"] = lambda: roi_align_first(*on_gpu)
    ways[f"better kernel, {lab.whose(roi_align_better)}"] = lambda: roi_align_better(*on_gpu)
times = lab.timed(ways)

# %% [markdown]
# ## Extra: bilinear in a kernel
#
# Thread `i` takes point `i`, that is `y = points[2 * i]` and `x = points[2 * i + 1]`, and
# writes `out[i]`. It is the solution of lesson 07 with C++'s words: `min` and `max` are there, `int top = y;` cuts the
# fraction off, and cell (y, x) is `map[y * width + x]`. Give `min` and `max` two numbers of one type: `0.0f` is a
# float, `height - 1.0f` too. (On the CPU here a mixture is forgiven; the compiler for GPUs may refuse it. And do not
# use `four_cells` here: it is the answer.)

# %% exercise="sample_points"

# %% [markdown]
# ## Extra: gather
#
# Write the deterministic gradient. One thread per cell of `(N, C, H, W)`; the stub finds its `x`, `y`, `c` and `image`.
# Go through all RoIs of this image and all their samples: sample (i, j) belongs to bin (i / samples, j / samples). How
# much of the cell does it read? Along one axis, the stub's `weight` says so: the tent of lesson 07, with the rules of
# the border. `grad` lies as `out` did, `[k, c, p, q]`; `num_rois` is the number of RoIs.
# Each sample carries 1 / samples² of its output's gradient.

# %% exercise="gather"

# %% [markdown]
# ## Extra: four questions
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
# Yes. A cell can be the largest of several bins: bins of one RoI share border cells (hatched in a picture of lesson 07), and
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
# - `csrc/roi_align/roi_align.cu`, top to bottom.
# - How the op is registered with PyTorch, and its gradient: lesson 15, and `mrcnn/ops/pooling.py`.
# - `csrc/cuda_on_cpu/README.md`: how kernels run on the CPU here, what that cannot show, and how to step through a kernel with a
#   debugger.
