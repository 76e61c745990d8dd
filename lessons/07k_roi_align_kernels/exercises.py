"""RoIAlign, down to the thread: what the learner writes."""

import math

import torch
from torch import Tensor

from mrcnn import ops
from mrcnn.lab.check import KernelExercise, Launch, Out

THREADS = 64  # in a block
SCALE, BINS, SAMPLES = 0.25, 3, 2
ROIS = torch.tensor([[0.0, 5, 2, 38, 30], [1, 12, 8, 44, 28], [0, -3, 14, 30, 35], [1, 3, 6, 40, 33]])
NO_BLOCK = "the threads of every block are numbered from 0: add blockIdx.x * blockDim.x"
NO_GUARD = "the last block has threads too many: `if (i >= n) return;`"
HALF = "did you leave out the half pixel? A coordinate in cells is x * scale - 0.5f (1 / 2 is 0: whole numbers)"
HALF_FIRST = "the half pixel is one of the map: multiply by scale first, then take off 0.5f"
SUM = "each output is the sum of its samples: divide by how many there are"
PART = "a sample's part is 1 / (bins * samples) of the box's side, not 1 / bins"
UNITS = "box and map are not in the same units: multiply the coordinates by scale"
BIN_0 = "every bin has the samples of bin 0: those of bin p are p * samples to (p + 1) * samples - 1"
CORNERS = "the samples lie at the corners of their parts of the bin; they belong in the middle, at i + 0.5f"
FOUR = '#include "roi_align/four_cells.cuh"\n\n'


def blocks(threads: int) -> int:
    return -(-threads // THREADS)


def features(images: int = 2, channels: int = 3, height: int = 9, width: int = 12) -> Tensor:
    return torch.randn(images, channels, height, width, generator=torch.Generator().manual_seed(7))


def roi_align(values: Tensor, rois: Tensor, bins: int, samples: int, scale: float) -> Tensor:
    """torchvision's, or the library's where there is none."""
    try:
        from torchvision.ops import roi_align as op
    except ImportError:
        op = ops.roi_align
    return op(values, rois, (bins, bins), scale, samples, True)


def gradient(grad: Tensor, rois: Tensor, shape: tuple, samples: int, scale: float) -> Tensor:
    values = torch.zeros(shape, requires_grad=True)
    roi_align(values, rois, grad.shape[-1], samples, scale).backward(grad)
    return values.grad


to_cells = KernelExercise(
    """
// cells[i] = pixels[i] * scale, less the half pixel
__global__ void to_cells(const float* pixels, float* cells, float scale, int n) {
  «int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  cells[i] = pixels[i] * scale - 0.5f;»
}""",
    launch=lambda pixels, scale: Launch((pixels, Out(pixels.shape), scale, len(pixels)), blocks(len(pixels)), THREADS),
    cases=lambda: [(torch.arange(150) * 1.5, 0.25)],
    truth=lambda pixels, scale: pixels * scale - 0.5,
    mistakes={
        "blockIdx.x * blockDim.x +  ⇒ ": NO_BLOCK,
        "  if (i >= n) return;\n ⇒ ": NO_GUARD,
        "i >= n ⇒ i > n": "one thread too many goes on: the last cell is n - 1, so `i >= n` goes home",
        "i >= n ⇒ i >= n - 1": "the last cell is not written: the guard leaves one thread too many out",
        " - 0.5f ⇒ ": HALF,
        " * scale - 0.5f ⇒  - 0.5f": UNITS,
        "pixels[i] * scale - 0.5f ⇒ (pixels[i] - 0.5f) * scale": HALF_FIRST,
    },
    hints=[
        "Which coordinate is this thread's? Which threads have none?",
        "Number, guard, one line of work: int i = blockIdx.x * blockDim.x + threadIdx.x;",
        "if (i >= n) return; and then cells[i] = pixels[i] * scale - 0.5f;",
    ],
)


def one_by_one(values: Tensor, points: Tensor) -> Tensor:
    """Each sample is a RoI of no size."""
    y, x = (points + 0.5).T
    rois = torch.stack([torch.zeros_like(x), x, y, x, y], dim=1)  # (P, 5)
    return roi_align(values[None, None], rois, 1, 1, 1.0).flatten()


MAP = torch.tensor([[0.0, 3, 1, 8, 2], [7, 4, 9, 5, 6], [2, 6, 3, 1, 9], [8, 1, 7, 4, 5]])
POINTS = [(0.25, 1.75), (1.5, 2.0), (2.875, 0.375), (1.625, 3.25), (3.0, 4.0), (-0.5, 2.25), (3.75, 1.5), (1.5, -0.75)]
POINTS += [(0.25, 4.5), (-1.0, 2.5), (2.5, 5.0), (-1.25, 2.0), (1.0, -3.0), (4.5, 1.0), (2.0, 5.25)]

sample_points = KernelExercise(
    """
__global__ void sample_points(const float* map, const float* points, float* out, int n, int height, int width) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  «float y = points[2 * i], x = points[2 * i + 1];
  if (y < -1 || y > height || x < -1 || x > width) { out[i] = 0; return; }
  y = min(max(y, 0.0f), height - 1.0f), x = min(max(x, 0.0f), width - 1.0f);
  int top = y, left = x, bottom = min(top + 1, height - 1), right = min(left + 1, width - 1);
  float down = y - top, across = x - left;
  float upper = (1 - across) * map[top * width + left] + across * map[top * width + right];
  float lower = (1 - across) * map[bottom * width + left] + across * map[bottom * width + right];
  out[i] = (1 - down) * upper + down * lower;»
}""",
    launch=lambda values, points: Launch(
        (values, points, Out((len(points),)), len(points), *values.shape), blocks(len(points)), THREADS
    ),
    cases=lambda: [(MAP, torch.tensor(POINTS))],
    truth=one_by_one,
    mistakes={
        "{ out[i] = 0; return; } ⇒ return;": "some of `out` is never set: assign it also where the value is 0",
        "  if (y < -1 || y > height || x < -1 || x > width) { out[i] = 0; return; }\n ⇒ ": "wrong far from the map: a "
        "sample more than one cell outside counts as 0",
        "y < -1 || y > height || x < -1 || x > width ⇒ y <= -1 || y >= height || x <= -1 || x >= width": "a sample "
        "exactly one cell outside still reads the border cell: only MORE than one cell outside is 0",
        "  y = min(max(y, 0.0f), height - 1.0f), x = min(max(x, 0.0f), width - 1.0f);\n ⇒ ": "wrong at the edge: a "
        "sample within one cell outside reads the border cell. Move y and x into the map first",
        "min(top + 1, height - 1), right = min(left + 1, width - 1) ⇒ top + 1, right = left + 1": "it reads below the "
        "last row: in it, the cell below is that row itself",
        "float upper ⇒ down = 1 - down, across = 1 - across;\n  float upper": "the weights are turned around: the "
        "nearer a cell, the MORE it counts",
        "y = points[2 * i], x = points[2 * i + 1] ⇒ x = points[2 * i], y = points[2 * i + 1]": "x and y are exchanged: "
        "y comes first in `points`",
        " * width + ⇒  * height + ": "a row has `width` cells: row y begins at number y * width",
        "(1 - down) * upper + down * lower ⇒ map[top * width + left]": "that is one cell; a sample lies between four",
    },
    hints=[
        "It is bilinear from lesson 07. Which line of it is which here?",
        "Four cells: map[top * width + left] and so on, with bottom = min(top + 1, height - 1).",
        "out[i] = (1 - down) * upper + down * lower, with upper and lower as in Python.",
    ],
    extra=True,
)


def launch_first(values: Tensor, rois: Tensor, bins: int, samples: int, scale: float) -> Launch:
    shape = (len(rois), values.shape[1], bins, bins)
    count = math.prod(shape)
    return Launch((values, rois, Out(shape), count, *values.shape[1:], bins, samples, scale), blocks(count), THREADS)


pooled = {"cases": lambda: [(features(), ROIS, BINS, SAMPLES, SCALE)], "truth": roi_align}
BODY = """float sum = 0;
  for (int i = p * samples; i < (p + 1) * samples; i++)
    for (int j = q * samples; j < (q + 1) * samples; j++) {
      FourCells four = four_cells(top + (i + 0.5f) * step_y, left + (j + 0.5f) * step_x, height, width);
      for (int t = 0; t < 4; t++) sum += four.weight[t] * map[four.cell[t]];
    }"""
STEPS = """float left = roi[1] * scale - 0.5f, step_x = (roi[3] - roi[1]) * scale / (bins * samples);
  float top = roi[2] * scale - 0.5f, step_y = (roi[4] - roi[2]) * scale / (bins * samples);"""
WAY_BACK = "int q = n % bins, p = n / bins % bins, c = n / (bins * bins) % channels, k = n / (bins * bins) / channels;"
IN_LOOP = STEPS.replace("\n", "\n  ")
MISTAKES = {
    (" - 0.5f, step_x ⇒ , step_x", " - 0.5f, step_y ⇒ , step_y"): HALF,
    " - 0.5f, step ⇒  - 1.0f, step": "the half pixel is taken off twice: once is enough",
    ("roi[1] * scale - 0.5f ⇒ (roi[1] - 0.5f) * scale", "roi[2] * scale - 0.5f ⇒ (roi[2] - 0.5f) * scale"): HALF_FIRST,
    " * scale ⇒ ": UNITS,
    ("left = ⇒ a =", "top = ⇒ left =", "a = ⇒ top =", "step_x = ⇒ b =", "step_y = ⇒ step_x =", "b = ⇒ step_y ="): "x "
    "and y are exchanged: a box is x1, y1, x2, y2; left goes with x, top with y",
    " * scale / (bins * samples) ⇒  * scale / bins": PART,
    " / (samples * samples) ⇒ ": SUM,
    ("(i + 0.5f) ⇒ i", "(j + 0.5f) ⇒ j"): CORNERS,
}

roi_align_first = KernelExercise(
    FOUR
    + f"""__global__ void roi_align_first(const float* features, const float* rois, float* out, int count, int channels,
                                int height, int width, int bins, int samples, float scale) {{
  «int n = blockIdx.x * blockDim.x + threadIdx.x;
  if (n >= count) return;
  {WAY_BACK}
  const float* roi = rois + 5 * k;  // image, x1, y1, x2, y2
  const float* map = features + ((int)roi[0] * channels + c) * height * width;
  {STEPS}
  {BODY}
  out[n] = sum / (samples * samples);»
}}""",
    launch=launch_first,
    mistakes={
        **MISTAKES,
        "((int)roi[0] * channels + c) ⇒ c": "every RoI is read from image 0: its own image's number is roi[0]",
        ("p * samples; i < (p + 1) * ⇒ 0; i <", "q * samples; j < (q + 1) * ⇒ 0; j <"): BIN_0,
        "four_cells(top + (i + 0.5f) * step_y, left + (j + 0.5f) * step_x ⇒ four_cells(left + (j + 0.5f) * step_x, top "
        "+ (i + 0.5f) * step_y": "x and y are exchanged: four_cells takes y first, and y begins at top",
        "((int)roi[0] * channels + c) ⇒ (k * channels + c)": "k is the RoI's own number; its image's number is roi[0]",
        "(bins * bins) / channels; ⇒ (bins * bins) / channels % channels;": "k needs no remainder: nothing lies beyond "
        "the RoIs, and there may be more of them than channels",
        "int q = n % bins, p = n / bins % bins ⇒ int p = n % bins, q = n / bins % bins": "rows and columns of the bins "
        "are exchanged: q, the column, changes fastest",
        "(int)roi[0] * channels + c) * ⇒ (int)roi[0] * channels) *": "every channel holds channel 0",
        "blockIdx.x * blockDim.x +  ⇒ ": NO_BLOCK,
        "  if (n >= count) return;\n ⇒ ": NO_GUARD,
    },
    hints=[
        "Which output is this thread's: which RoI, channel, row and column of bins?",
        "Number, guard, the way back, then the body of the C++ loops: roi, map, left, top, the steps, the sum.",
        "map = features + ((int)roi[0] * channels + c) * height * width; and out[n] = sum / (samples * samples);",
    ],
    **pooled,
)


def launch_better(values: Tensor, rois: Tensor, bins: int, samples: int, scale: float) -> Launch:
    """One block per RoI, a thread per channel; the kernel's map is (N, H, W, C), its output (K, bins, bins, C)."""
    channels, height, width = values.shape[1:]
    last, out = values.permute(0, 2, 3, 1).contiguous(), Out((len(rois), bins, bins, channels))
    return Launch((last, rois, out, height, width, bins, samples, scale), len(rois), channels)


INNER = BODY.replace("\n", "\n    ").replace("map[four.cell[t]]", "map[four.cell[t] * channels + c]")
roi_align_better = KernelExercise(
    FOUR
    + f"""__global__ void roi_align_better(const float* features, const float* rois, float* out, int height, int width,
                                 int bins, int samples, float scale) {{
  int k = blockIdx.x, c = threadIdx.x, channels = blockDim.x;
  const float* roi = rois + 5 * k;  // image, x1, y1, x2, y2
  const float* map = features + (int)roi[0] * height * width * channels;
  {STEPS}
  for (int p = 0; p < bins; p++)
    for (int q = 0; q < bins; q++) {{
      «{INNER}
      out[((k * bins + p) * bins + q) * channels + c] = sum / (samples * samples);»
    }}
}}""",
    launch=launch_better,
    results=lambda out: out.permute(0, 3, 1, 2),
    mistakes={
        " = sum / (samples * samples) ⇒  = sum": SUM,
        ("(i + 0.5f) ⇒ i", "(j + 0.5f) ⇒ j"): CORNERS,
        ("p * samples; i < (p + 1) * ⇒ 0; i <", "q * samples; j < (q + 1) * ⇒ 0; j <"): BIN_0,
        "four.cell[t] * channels + c ⇒ c * height * width + four.cell[t]": "read as if each channel had a map of its "
        "own. With channels last, channel c of a cell is number cell * channels + c",
        "four.cell[t] * channels + c ⇒ four.cell[t] + c": "the cells are read as if they had one channel: channel c of "
        "a cell is number cell * channels + c",
        ("float sum = 0; ⇒ ", "  for (int p = 0; ⇒   float sum = 0;\n  for (int p = 0;"): "each bin also has the sum "
        "of the bins before it: begin each with sum = 0",
        "(k * bins + p) * bins + q ⇒ (k * bins + q) * bins + p": "rows and columns of the bins are exchanged",
        "((k * bins + p) * bins + q) * channels + c ⇒ ((k * channels + c) * bins + p) * bins + q": "right numbers in "
        "the wrong places: the output is channels last too, c changes fastest",
    },
    hints=[
        "What is as in the first kernel, and what lies elsewhere in memory?",
        "The sum over the bin's samples as before; channel c of a cell is map[four.cell[t] * channels + c].",
        "out[((k * bins + p) * bins + q) * channels + c] = sum / (samples * samples);",
    ],
    **pooled,
)


def pulled(channels: int = 3, height: int = 9, width: int = 12) -> tuple:
    grad = torch.randn(len(ROIS), channels, BINS, BINS, generator=torch.Generator().manual_seed(5))
    return grad, ROIS, (2, channels, height, width), SAMPLES, SCALE


def launch_back(grad: Tensor, rois: Tensor, out: Out, count: int, sizes: tuple, samples: int, scale: float) -> Launch:
    return Launch((grad, rois, out, count, *sizes, grad.shape[-1], samples, scale), blocks(count), THREADS)


scatter = KernelExercise(
    FOUR
    + f"""__global__ void scatter(const float* grad, const float* rois, float* grad_features, int count, int channels,
                        int height, int width, int bins, int samples, float scale) {{
  int n = blockIdx.x * blockDim.x + threadIdx.x;
  if (n >= count) return;
  {WAY_BACK}
  const float* roi = rois + 5 * k;
  float* map = grad_features + ((int)roi[0] * channels + c) * height * width;
  {STEPS}
  float share = grad[n] / (samples * samples);
  for (int i = p * samples; i < (p + 1) * samples; i++)
    for (int j = q * samples; j < (q + 1) * samples; j++) {{
      FourCells four = four_cells(top + (i + 0.5f) * step_y, left + (j + 0.5f) * step_x, height, width);
      «for (int t = 0; t < 4; t++) atomicAdd(map + four.cell[t], share * four.weight[t]);»
    }}
}}""",
    launch=lambda grad, rois, to, *more: launch_back(grad, rois, Out(to, start=0), grad.numel(), to[1:], *more),
    cases=lambda: [pulled()],
    truth=gradient,
    mistakes={
        "atomicAdd(map + four.cell[t], share * four.weight[t]) ⇒ map[four.cell[t]] += share * four.weight[t]": "the "
        "sums may look right here, but two threads can lose each other's: this needs atomicAdd",
        "share * four.weight[t] ⇒ share": "each of a sample's four cells gets all of it: multiply by the cell's weight",
        "share * four.weight[t] ⇒ grad[n] * four.weight[t]": "the output is a mean: a sample gets `share`",
        "map + four.cell[t] ⇒ grad_features + four.cell[t]": "this RoI's image and channel begin at `map`",
        "map + four.cell[t] ⇒ map + t": "t is which of the four; the cell's number is four.cell[t]",
    },
    hints=[
        "To which cells does a sample give, and how much to each?",
        "A loop over the four cells; the address of a cell is map + four.cell[t].",
        "for (int t = 0; t < 4; t++) atomicAdd(map + four.cell[t], share * four.weight[t]);",
    ],
)


gather = KernelExercise(
    f"""
__device__ float weight(float at, int cell, int cells) {{  // how much of `cell` a sample reads, along one axis
  return at < -1 || at > cells ? 0.0f : max(0.0f, 1 - fabsf(min(max(at, 0.0f), cells - 1.0f) - cell));
}}

__global__ void gather(const float* grad, const float* rois, float* grad_features, int count, int num_rois,
                       int channels, int height, int width, int bins, int samples, float scale) {{
  int n = blockIdx.x * blockDim.x + threadIdx.x;
  if (n >= count) return;
  int x = n % width, y = n / width % height, c = n / width / height % channels, image = n / width / height / channels;
  «float sum = 0;
  for (int k = 0; k < num_rois; k++) {{
    const float* roi = rois + 5 * k;
    if (roi[0] != image) continue;
    {IN_LOOP}
    for (int i = 0; i < bins * samples; i++)
      for (int j = 0; j < bins * samples; j++) {{
        float much = weight(top + (i + 0.5f) * step_y, y, height) * weight(left + (j + 0.5f) * step_x, x, width);
        sum += much * grad[((k * channels + c) * bins + i / samples) * bins + j / samples];
      }}
  }}
  grad_features[n] = sum / (samples * samples);»
}}""",
    launch=lambda grad, rois, to, *more: launch_back(grad, rois, Out(to), math.prod(to), (len(rois), *to[1:]), *more),
    cases=lambda: [pulled(2, 6, 9)],
    truth=gradient,
    mistakes={
        **MISTAKES,
        "    if (roi[0] != image) continue;\n ⇒ ": "leave out the RoIs of other images, those with another roi[0]",
        "(k * channels + c) * bins ⇒ k * bins": "every channel is given the gradient of the same one: `grad` lies as "
        "[k, c, p, q], so it begins with (k * channels + c)",
        "i / samples) * bins + j / samples ⇒ j / samples) * bins + i / samples": "rows and columns are exchanged",
    },
    hints=[
        "Which RoIs can owe this cell anything? Which of their samples?",
        "For each RoI of this image, for each sample (i, j): how much of the cell it reads, times its gradient.",
        "sum += weight(…) * weight(…) * grad[((k * channels + c) * bins + i / samples) * bins + j / samples];",
    ],
    extra=True,
)
