"""What the lesson on matching goes on with where an answer is missing, and what kernels are launched with.

Tables of IoUs are (G, A): one row per object, one column per anchor. "best" is the row of an anchor's best object, and
"ious" the IoU with it. G is at least 1.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from mrcnn import boxes as box_maths
from mrcnn.lab.check import NotWritten
from mrcnn.lab.cuda import Kernel, Trace, cpp, cuda, device
from mrcnn.lab.exercises.suppression_library import overlap

THREADS = 64  # in a block
TILE = 64  # objects in shared memory at a time
UNTOUCHED = -7  # what outputs hold before a kernel runs


# ---- in Python -------------------------------------------------------------------------------------------------------


def best_loop(anchors: list[list[float]], objects: list[list[float]]) -> tuple[list[int], list[float]]:
    best, ious = [], []
    for anchor in anchors:
        mine, top = 0, 0.0
        for g, thing in enumerate(objects):
            value = overlap(anchor, thing)
            if value > top:
                mine, top = g, value
        best.append(mine)
        ious.append(top)
    return best, ious


def best_torch(anchors: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
    ious, best = box_maths.iou(objects, anchors).max(dim=0)
    return best, ious


def decide(best: Tensor, ious: Tensor, high: float, low: float) -> Tensor:
    matches = best.clone()
    matches[ious < high] = -2
    matches[ious < low] = -1
    return matches


def claim(table: Tensor, best: Tensor, matches: Tensor) -> Tensor:
    top = table.max(dim=1, keepdim=True).values
    claimed = ((table == top) & (top > 0)).any(dim=0)
    return torch.where(claimed, best, matches)


def object_best(anchors: Tensor, objects: Tensor) -> Tensor:
    return box_maths.iou(objects, anchors).max(dim=1).values


# ---- in C++ and CUDA: the text of the folded solutions ---------------------------------------------------------------

HEAD = '#include "iou.cuh"\nusing namespace mrcnn;\n'
PARAMETERS = "const Box<float>* anchors, const Box<float>* objects, int A, int G, int* best, float* ious"
BEST_OF = """
  int mine = 0;
  float top = 0;
  for (int g = 0; g < G; ++g) {
    float value = iou(%s[g], anchors[a]);
    if (value > top) top = value, mine = g;
  }
  best[a] = mine, ious[a] = top;
"""
SOURCES = {
    "best_cpp": f"void best_cpp({PARAMETERS}) {{ for (int a = 0; a < A; ++a) {{ {BEST_OF % 'objects'} }} }}",
    "best_kernel": f"""__global__ void best_kernel({PARAMETERS}) {{
      int a = blockIdx.x * blockDim.x + threadIdx.x;
      if (a >= A) return;
      {BEST_OF % "objects"}
    }}""",
    "best_shared": f"""__global__ void best_shared({PARAMETERS}) {{
      __shared__ Box<float> tile[64];
      if (threadIdx.x < G) tile[threadIdx.x] = objects[threadIdx.x];
      __syncthreads();
      int a = blockIdx.x * blockDim.x + threadIdx.x;
      if (a >= A) return;
      {BEST_OF % "tile"}
    }}""",
    "best_tiles": f"""__global__ void best_tiles({PARAMETERS}) {{
      __shared__ Box<float> tile[64];
      int a = blockIdx.x * blockDim.x + threadIdx.x, mine = 0;
      Box<float> anchor = anchors[min(a, A - 1)];
      float top = 0;
      for (int first = 0; first < G; first += 64) {{
        if (first + threadIdx.x < G) tile[threadIdx.x] = objects[first + threadIdx.x];
        __syncthreads();
        for (int g = first; g < min(first + 64, G); ++g) {{
          float value = iou(tile[g - first], anchor);
          if (value > top) top = value, mine = g;
        }}
        __syncthreads();
      }}
      if (a < A) best[a] = mine, ious[a] = top;
    }}""",
    "object_best": """__global__ void object_best(const Box<float>* anchors, const Box<float>* objects, int A, int G,
                                              float* top) {
      int a = blockIdx.x * blockDim.x + threadIdx.x;
      if (a >= A) return;
      for (int g = 0; g < G; ++g) {
        float value = iou(objects[g], anchors[a]);
        if (value > 0) atomicMax((int*)&top[g], __float_as_int(value));
      }
    }""",
}


@functools.cache
def kernel(name: str) -> Kernel:
    """The library's own, compiled when it is first run."""
    return (cpp if name == "best_cpp" else cuda)(HEAD + SOURCES[name])[name]


# ---- launching -------------------------------------------------------------------------------------------------------


def launches_best(get: Callable[[], Kernel]) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """From a kernel with PARAMETERS the function (anchors, objects) -> (best, ious): one thread per anchor."""
    return _launches(get, lambda anchors, objects: (_out(len(anchors), torch.int32), _out(len(anchors))))


def launches_top(get: Callable[[], Kernel]) -> Callable[[Tensor, Tensor], Tensor]:
    """From the kernel object_best the function (anchors, objects) -> top (G,), which begins as zeros."""
    return _launches(get, lambda anchors, objects: (torch.zeros(len(objects), device=device()),))


def _launches(get: Callable[[], Kernel], outputs: Callable) -> Callable:
    def run(anchors: Tensor, objects: Tensor):
        out = outputs(anchors, objects)
        get()[_grid(anchors), THREADS](anchors, objects, len(anchors), len(objects), *out)
        return written(out)

    def trace(anchors: Tensor, objects: Tensor) -> Trace:
        return traced(anchors, objects)[1]

    def traced(anchors: Tensor, objects: Tensor) -> tuple[tuple[Tensor, ...], Trace]:
        out = outputs(anchors, objects)
        seen = get().trace[_grid(anchors), THREADS](anchors, objects, len(anchors), len(objects), *out)
        return out, seen

    run.trace, run.traced = trace, traced
    return run


def runs_cpp(get: Callable[[], Callable]) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """From the C++ function with PARAMETERS the function (anchors, objects) -> (best, ious)."""

    def run(anchors: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
        out = _out(len(anchors), torch.int32, "cpu"), _out(len(anchors), where="cpu")
        get()(anchors.cpu(), objects.cpu(), len(anchors), len(objects), *out)
        return written(out)

    return run


def _grid(anchors: Tensor) -> int:
    return -(-len(anchors) // THREADS)


def _out(size: int, dtype: torch.dtype = torch.float32, where: str | None = None) -> Tensor:
    return torch.full((size,), UNTOUCHED, dtype=dtype, device=where or device())


def written(out: tuple[Tensor, ...]):
    if all((each == UNTOUCHED).all() for each in out):
        raise NotWritten
    return out if len(out) > 1 else out[0]
