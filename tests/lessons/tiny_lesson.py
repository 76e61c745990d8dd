"""A lesson in the form of the real ones, to try the tools on."""

from pathlib import Path

FILES = {
    "lesson.py": """\
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
# **Time** about 10 minutes. Ten seconds.

# %%
# %load_ext mrcnn.lab
import exercises
import pictures

from mrcnn import lab
from mrcnn.lab import check

# %% tags=["cover"]
pictures.line([1, 2])

# %% exercise="twice"

# %% exercise="double_it"

# %%
lab.show("nms/nms.cu", "__global__", "{")
""",
    "pictures.py": """\
from mrcnn.lab.views.pictures import page
from mrcnn.lab.views.view import View


def line(values):
    figure = page(2, 1)
    figure.add_axes((0, 0, 1, 1)).plot(values)
    return View.of(figure, f"a line through {values}, from left to right")
""",
    "exercises.py": '''\
import torch

from mrcnn.lab.check import KernelExercise, Launch, Out, exercise

CASE = (torch.arange(100.0),)


@exercise(
    cases=lambda: [CASE],
    truth=lambda x: 2 * x,
    mistakes={"x + x ⇒ x": "once", "x + x ⇒ x * x": "the square", "x + x ⇒ x + 2": "two more"},
    hints=["What is twice?", "A sum.", "x + x"],
)
def twice(x):
    """Twice x."""
    return x + x


double_it = KernelExercise(
    """
__global__ void double_it(const float* x, float* y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;

  «if (i < n) y[i] = 2 * x[i];»
}""",
    launch=lambda x: Launch((x, Out((len(x),)), len(x)), 4, 32),
    cases=lambda: [CASE],
    truth=lambda x: 2 * x,
    mistakes={"if (i < n)  ⇒ ": "no guard"},
    hints=["Which cell?", "Which has none?", "if (i < n) y[i] = 2 * x[i];"],
)
''',
}


def write(where: Path, *changes: tuple[str, str]) -> Path:
    """The lesson's folder under `where`, with (old, new) changes in its files."""
    folder = where / "90k_twice"
    folder.mkdir(exist_ok=True)
    for name, text in FILES.items():
        for old, new in changes:
            text = text.replace(old, new)
        (folder / name).write_text(text)
    assert all(any(new in (folder / name).read_text() for name in FILES) for _, new in changes)
    return folder
