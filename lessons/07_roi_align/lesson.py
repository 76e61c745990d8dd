# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # RoIPool and RoIAlign
#
# Boxes have every size; the layers after them want one size: the op that makes one of the other, and what half a pixel costs.
#
# **You will** write a sample between four cells, RoIAlign as a loop, its weights as a matrix, and its gradient.
#
# **Time** about 60 minutes. **Know first** PyTorch tensors, and what a feature map is (lesson 00).
#
# **Files** `mrcnn/ops/pooling.py`, `mrcnn/ops/reference.py`. The same in C++ and CUDA is lesson 07k.

# %%
import math

import exercises
import pictures
import torch

from mrcnn import lab, ops
from mrcnn.data.playground import Playground
from mrcnn.lab import check
from mrcnn.ops import reference

# %matplotlib inline

# %% [markdown]
# ## A picture
#
# A **RoI** (region of interest) is a box in which something may be. The network has made a **feature map** of the whole
# picture, with fewer cells than there were pixels: here one cell for each 8 × 8 pixels, so the map's **stride** is 8.
# For each RoI we want a small grid of features, always of the same size, say 7 × 7. Each cell of that grid is called a
# **bin**.
#
# Feature maps have many channels (64 in lesson 00, 256 in a full-size model) that mean little to the eye. So for the
# pictures we use one channel that we understand: the brightness of the picture.

# %% tags=["cover"]
STRIDE = 8
image, target = Playground(4, seed=7, size=256)[3]  # (3, 256, 256) uint8
box = target["boxes"][3]  # (4,): x1, y1, x2, y2 in pixels
brightness = torch.nn.functional.avg_pool2d(image.float().mean(0)[None, None], STRIDE)  # (1, 1, 32, 32)
roi = torch.cat([torch.zeros(1), box])[None]  # (1, 5): which image, and the box
# In order: the map, the RoI, 7 × 7 bins, what makes cells of pixels, 2 × 2 samples in a bin.
pooled = ops.roi_align(brightness, roi, 7, 1 / STRIDE, sampling_ratio=2, aligned=True)  # (1, 1, 7, 7)
pictures.opening(image, brightness[0, 0], box, pooled[0, 0], STRIDE, samples=2)

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
pictures.two_readings(numbers, small_box)

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
# Write `bilinear`:
#
# 1. more than one cell outside the map (`y < -1`, `y > height`, or `x` likewise): the value is 0;
# 2. otherwise move `y` into 0 … height − 1, and `x` into 0 … width − 1;
# 3. the rows are `top = int(y)` and the one below it, but never below the last row; the columns likewise;
# 4. sum the four cells, each by its weight.

# %% exercise="bilinear"

# %%
print(f"at the dot ({lab.whose(bilinear)}):", float(bilinear(numbers, 0.75, 0.75)))

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

# %% [markdown]
# ## RoIPool, and what rounding costs
#
# Before RoIAlign there was **RoIPool** (2015). It needs no samples between cells, since it rounds twice: first the box
# to whole cells, then each bin: where it begins is rounded down, where it ends is rounded up. So two bins may share
# cells, here the hatched ones. Of each bin it takes the largest cell.

# %%
pictures.rounding(brightness[0, 0], box / STRIDE, bins=3)

# %% [markdown]
# Below are both ops over a coarser map, to be touched. **Predict**, then drag the box to the right by tenths of a cell: which of
# the numbers change at once, and which wait? Then press *gradient*: which cells would learn from this box?

# %%
coarse = torch.nn.functional.avg_pool2d(image.float().mean(0)[None], 24)[0]  # (10, 10)
lab.roi_dragger(coarse, (box / 24 * 10).round() / 10, title="A person under RoIAlign and RoIPool")

# %% [markdown]
# RoIAlign's numbers change at every tenth; RoIPool's stay until a corner has come over the middle of a cell, then jump. With
# RoIAlign every cell near the box receives gradient; without the half pixel (the first button) the cells half a cell further on do.
#
# Now the experiment. We push a box to the right, a tenth of a cell at a time, over a map that holds in each cell its
# own column number plus 0.5: the place of the cell's middle. So a pooled number says *where the op believes that it
# reads*. The truth is the middle of the bin.
#
# **Predict:** what will the two curves look like?

# %%
places = (torch.arange(16) + 0.5).expand(16, 16)
shifts = torch.arange(0, 3.05, 0.1)
read = {"RoIAlign": [], "RoIPool": []}
# roi_pool_one is the lesson's; you can write it at the end.
for shift in shifts.tolist():
    moved = torch.tensor([4.3 + shift, 4, 8.3 + shift, 8])
    read["RoIAlign"].append(float(pool_one(places, moved, 2, 2)[0, 0]))
    read["RoIPool"].append(float(exercises.roi_pool_one(places, moved, 2)[0, 0]))

wrong = max(abs(value - 5.3 - shift) for value, shift in zip(read["RoIPool"], shifts.tolist(), strict=True))
print(f"RoIPool is up to {wrong:.2f} cells off; without the 1 that the maximum adds, {wrong - 1:.2f}")
print(f"on a map of stride 16 these are {16 * wrong:.0f} and {16 * (wrong - 1):.0f} pixels")
pictures.curves(shifts, read, 5.3 + shifts)

# %% [markdown]
# RoIAlign follows the box exactly. RoIPool stands still, and then jumps by a whole cell: that is the rounding. It also
# reads too far to the right all the time, and most of that is not rounding: it takes the largest cell, and on this map
# of growing numbers the largest is the last. The bin has three cells here, so their largest is exactly 1 more than
# their mean, at every point of the curve. The second number above is what the rounding alone would cost.
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
    "RoIPool": lambda: exercises.roi_pool_one(mask[0, 0], box / STRIDE, 28),
}.items():
    small = pool()
    x1, y1, x2, y2 = box.round().int().tolist()
    stretched = torch.nn.functional.interpolate(small[None, None], (y2 - y1, x2 - x1), mode="bilinear")[0, 0] > 0.5
    truth = target["masks"][3][y1:y2, x1:x2].bool()
    iou = (stretched & truth).sum() / (stretched | truth).sum()
    results[f"{name}: IoU {iou:.2f}"] = small
pictures.outlines(image, box, results)

# %% [markdown]
# The half pixel of the map is 4 pixels of the picture. With `aligned=False` everything is read 4 pixels too far right
# and down, so what is drawn back lies 4 pixels too far *left and up*. A network that is trained with it learns to make
# up for that, but only on average. RoIPool's outline is ragged, since it goes by whole cells.

# %% [markdown]
# ## In PyTorch: two matrix products
#
# The Python loop takes one RoI and one channel, cell by cell. There is a short way to say the same. The weight of a cell in a
# sample is (weight of its row) × (weight of its column), so a bin is a sum over rows of a sum over columns, and the whole op is
# two matrix products: `rows @ feature_map @ columns.T`, with `rows` (bins, H) and `columns` (bins, W). Row `p` of `rows` says
# how much each row of the map counts in bin `p`: a bin with one sample, at y = 3.2, has 0, 0, 0, 0.8, 0.2, 0, …
#
# Along one axis, a sample at `at` reads `1 - |at - cell|` of a cell that is less than one away, else 0: a function in the shape
# of a tent. Write what makes such a matrix for one axis. `start` is in the tensor's coordinates (the half pixel is taken off
# already), and `length` is the RoI's side in cells. Take the mean over a bin's samples; the rules at the border are those of
# `bilinear`.

# %% exercise="axis_weights"

# %%
torch.manual_seed(0)
SCALE, BINS, SAMPLES = 0.25, 7, 2
features = torch.randn(2, 32, 20, 20)  # (N, C, H, W)
rois = torch.tensor([[0.0, 2, 3, 60, 50], [1, 10, 20, 79, 78], [0, -3, -3, 20, 30]])  # (K, 5), in pixels
want = ops.roi_align(features, rois, BINS, SCALE, SAMPLES, aligned=True)  # (K, C, bins, bins)

x1, y1, x2, y2 = (rois[1, 1:] * SCALE - 0.5).tolist()
rows = axis_weights(y1, y2 - y1, BINS, SAMPLES, 20)  # (7, H)
columns = axis_weights(x1, x2 - x1, BINS, SAMPLES, 20)  # (7, W)
difference = (rows @ features[1] @ columns.T - want[1]).abs().max()  # all channels at once
print(f"two matrix products ({lab.whose(axis_weights)}) and the op differ by at most {float(difference):.1e}")

# %% [markdown]
# ## The gradient
#
# To train what lies before RoIAlign, we need the gradient for the features. An output is a weighted sum of cells, so backwards
# each cell receives, from each output that read it, that output's gradient times the same weight. Reading turns into adding.
# With the two matrices it is one line: which?

# %% exercise="gradient_one"

# %%
grad = torch.randn(BINS, BINS)
values = features[1:, :1].clone().requires_grad_()
roi = torch.cat([torch.zeros(1), rois[1, 1:]])[None]
ops.roi_align(values, roi, BINS, SCALE, SAMPLES, aligned=True).backward(grad[None, None])
difference = (gradient_one(grad, rows, columns) - values.grad[0, 0]).abs().max()
print(f"the one line ({lab.whose(gradient_one)}) and the op's gradient differ by at most {float(difference):.1e}")

# %% [markdown]
# ## Break it: which check would notice?
#
# Suppose that somebody drops the half pixel from the op (that is `aligned=False`). Here are six checks that one might
# have. (`gradcheck` is PyTorch's: it changes each input a little, and compares what the output does with the gradient.
# The *reference* is the same op once more, in plain PyTorch.) **Predict:** which of them notice?

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
# Most are content. Even `gradcheck` is: a gradient of the wrong function can be perfectly right. What finds it is an input whose answer one *knows*, or another implementation that does not
# share the mistake. So every op of this library is held against torchvision, and against a reference.

# %% [markdown]
# ## How fast is it
#
# The loop for one RoI and one channel; then 100 RoIs with 64 channels by the reference, which is PyTorch, by the library's op,
# and by torchvision's. **Predict** the ratio between the reference and the op.

# %%
features = torch.randn(1, 64, 64, 64)
corners = torch.rand(100, 2) * 150
rois = torch.cat([torch.zeros(100, 1), corners, corners + 20 + 80 * torch.rand(100, 2)], dim=1)
name = f"Python loop, {lab.whose(pool_one)}, one RoI and one channel"
loop = lab.timed({name: lambda: pool_one(features[0, 0], rois[0, 1:] * SCALE, BINS, SAMPLES)}, repeats=3)
print(f"for all of it that would be {loop[name] * 100 * 64 / 1000:.0f} s\n")
ways = {
    "PyTorch, the library's reference": lambda: reference.roi_align(features, rois, (BINS, BINS), SCALE, SAMPLES, True),
    "mrcnn.ops, the library's": lambda: ops.roi_align(features, rois, BINS, SCALE, SAMPLES, True),
}
try:
    import torchvision
except ImportError:
    print("torchvision is not there, so it is not timed")
else:
    ways["torchvision's"] = lambda: torchvision.ops.roi_align(features, rois, BINS, SCALE, SAMPLES, True)
times = lab.timed(ways)

# %% [markdown]
# ## Now find it in the real file
#
# The reference takes all channels and all samples of a RoI at once. Compare its `_samples` with your `bilinear`.

# %%
lab.show(reference._samples)

# %% [markdown]
# ## Extra: RoIPool
#
# Round the corners of `box` as they are, without the half pixel, to the nearest whole
# number, `math.floor(v + 0.5)`. The last row and column belong to the box, so there are `y2 - y1 + 1` rows, at least 1.
# Bin `p` has the rows from `floor(p * rows / bins)` to before `ceil((p + 1) * rows / bins)`, counted from `y1`. Cells
# outside the map do not count, and a bin without cells is 0.

# %% exercise="roi_pool_one"

# %% [markdown]
# ## What we left out, and where to read on
#
# - `sampling_ratio=-1` takes about one sample per cell, `ceil(RoI side / bins)`.
# - Half-precision features: sums and coordinates stay in float32.
# - Which level of the pyramid a RoI is pooled from: lesson 00, `choose_level`. What becomes of the 7 × 7 features: lesson 08,
#   and of the 14 × 14 of the mask head: lesson 09.
# - K. He, G. Gkioxari, P. Dollár, R. Girshick, *Mask R-CNN* (2017), section 3: RoIAlign, with RoIPool beside it in table 2.
#   R. Girshick, *Fast R-CNN* (2015), section 2.1: RoIPool.
# - **Next.** Lesson 07k: the same, down to the thread; and many threads that add to one cell.
