"""A lesson in the form of the real ones, to try the tools on."""

SOURCE = '''\
# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # 90 · Twice
#
# **Goal.** Double numbers,
# by two means. More about it.
#
# Ten seconds.

# %%
# %load_ext mrcnn.lab
import matplotlib.pyplot as plt
import torch

from mrcnn import lab
from mrcnn.lab import check
from mrcnn.lab.check import Exercise, NotWritten, Wrong

# %% tags=["cover"]
figure, axes = plt.subplots(figsize=(2, 1))
axes.plot([1, 2])
plt.show()


# %%
def judge(answer):
    x = torch.arange(100.0)
    if not torch.equal(answer(x), 2 * x):
        raise Wrong("that is not twice as much")


def wrap(kernel):
    def run(x):
        x = x.to(lab.device())
        y = torch.full_like(x, torch.nan)
        kernel[4, 32](x, y, 100)
        if y.isnan().all():
            raise NotWritten
        return y.cpu()

    return run


library = lambda x: 2 * x


# %% exercise="twice"
def twice(x):
    """Twice x. About 1 line."""
    ...


# %% [markdown] solution="twice"
# <details><summary>Solution</summary>
#
# ```python
# def twice(x):
#     return x + x
# ```
#
# Or `2 * x`:
#
# ```python
# 2 * x
# ```
#
# </details>

# %%
twice = check(Exercise(judge, library), twice)

# %% exercise="double_it" language="cuda"
# __global__ void double_it(const float* x, float* y, int n) {
#   int i = blockIdx.x * blockDim.x + threadIdx.x;
#
#   // your code
# }

# %% [markdown] solution="double_it"
# <details><summary>Solution</summary>
#
# ```c++
# %%cuda
# __global__ void double_it(const float* x, float* y, int n) {
#   int i = blockIdx.x * blockDim.x + threadIdx.x;
#
#   if (i < n) y[i] = 2 * x[i];
# }
# ```
#
# </details>

# %%
double_it = check(Exercise(judge, library, wrap), double_it)
lab.show("nms/nms.cu", "__global__", "{")
'''
