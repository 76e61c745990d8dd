"""Matching, down to the thread: what the learner writes."""

import torch
from torch import Tensor

from mrcnn import ops
from mrcnn.lab.cases import random_boxes
from mrcnn.lab.check import KernelExercise, Launch, Out

THREADS = 64  # in a block
TILE = 64  # objects in shared memory at a time
TIE = "of two objects with the same IoU the first must win, as everywhere in the library: `>`, not `>=`"
NO_BLOCK = (
    "several threads do the same anchor: a thread's own is number blockIdx.x * blockDim.x + threadIdx.x, and no loop "
    "over the anchors is left"
)
NO_GUARD = "the last block has threads without an anchor: these must not read or write any"
HEAD = '#include "iou.cuh"\nusing namespace mrcnn;\n\n'


def twins(anchors: int, objects: int) -> tuple[Tensor, Tensor]:
    """Anchors (A, 4) and objects (G, 4), of which the last is the same as the first."""
    things = random_boxes(objects, seed=1)
    things[-1] = things[0]
    return random_boxes(anchors, seed=2), things


def by_the_op(anchors: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
    """Each anchor's best object and the IoU with it. With thresholds of 0 the op calls every anchor a match."""
    return ops.match_anchors(anchors, objects, 0.0, 0.0)


def launch(anchors: Tensor, objects: Tensor) -> Launch:
    """One thread per anchor."""
    a, g = len(anchors), len(objects)
    return Launch((anchors, objects, a, g, Out((a,), torch.int32), Out((a,))), -(-a // THREADS), THREADS)


def read_once(anchors: Tensor, objects: Tensor) -> dict[str, int]:
    """In bytes: every block reads each object once."""
    return {"objects": -(-len(anchors) // THREADS) * len(objects) * 16}


def copiers(anchors: Tensor, objects: Tensor) -> dict[str, int]:
    """At least half of the threads that could copy an object into their block's tile."""
    return {"objects": -(-len(anchors) // THREADS) * min(len(objects), TILE) // 2}


best = {"launch": launch, "truth": by_the_op}

add_up = KernelExercise(
    """
// sum[0] = x[0] + x[1] + ... + x[n - 1]
void add_up(const float* x, int n, float* sum) {
  float total = «0»;
  for (int i = «0»; i < «n»; ++i) {
    total += «x[i]»;
  }
  «sum[0] = total;»
}""",
    launch=lambda x: Launch((x, len(x), Out((1,)))),
    cases=lambda: [(torch.tensor([0.5, 4.0, -1.0, 2.25]),), (torch.tensor([3.0]),)],
    truth=lambda x: x.sum()[None],
    mistakes={
        "total = 0 ⇒ total = 1": "the sum begins at 0",
        "total = 0 ⇒ total = x[0]": "x[0] is counted twice: the sum begins at 0, and the loop adds every number",
        "float total ⇒ int total": "an `int` holds whole numbers only: `total` must be a `float`",
        "i = 0 ⇒ i = 1": "x[0] is left out: the first number of an array has the index 0",
        "i < n ⇒ i < n - 1": "the last number is left out: it is x[n - 1], and `i < n` lets i come so far",
        "i < n ⇒ i <= n": "x[n] is behind the end: the numbers are x[0] to x[n - 1]",
        "x[i] ⇒ i": "that adds the indices; the number at an index is x[i]",
        "sum[0] = total ⇒ x[0] + total": "the result must be written to where `sum` points: sum[0] = ...",
    },
    hints=[
        "The Python beside it says: total = 0, then `for i in range(n): total += x[i]`.",
        "A pointer is used like a list: x[i] reads, sum[0] = … writes.",
        "The blanks are, from the top: 0, 0, n, x[i]. The last line is sum[0] = total;",
    ],
    language="cpp",
)

best_cpp = KernelExercise(
    HEAD
    + """// best[a] and ious[a] for each of A anchors; G objects. Of equal IoUs the first object wins.
// No overlap: object 0, IoU 0.
void best_cpp(const Box<float>* anchors, const Box<float>* objects, int A, int G, int* best, float* ious) {
  «for (int a = 0; a < A; ++a) {
    best[a] = 0, ious[a] = 0;
    for (int g = 0; g < G; ++g) {
      float value = iou(objects[g], anchors[a]);
      if (value > ious[a]) ious[a] = value, best[a] = g;
    }
  }»
}""",
    cases=lambda: [twins(50, 6)],
    mistakes={
        "value > ious[a] ⇒ value >= ious[a]": TIE,
        "best[a] = 0, ious[a] = 0; ⇒ best[a] = 0;": "ious[a] holds anything at first: begin with 0",
        "best[a] = 0, ious[a] = 0; ⇒ ious[a] = 0;": "an anchor that overlaps nothing needs an answer too: best[a] = 0",
        "g < G ⇒ g <= G": "objects[G] is behind the end: the objects are 0 to G - 1",
        "best[a] = 0, ious[a] = 0; ⇒ best[a] = a ? best[a - 1] : 0, ious[a] = a ? ious[a - 1] : 0;": "the best so far "
        "is kept from one anchor to the next: it must begin at 0 again for each",
        "ious[a] = value, best[a] = g; ⇒ ious[a] = value; best[a] = g;": "without braces the `if` holds for one "
        "statement alone: the last object was noted, whatever its IoU",
        "float value ⇒ int value": "an IoU is a fraction, and an `int` cuts it to 0: keep it in a `float`",
        "ious[a] = value ⇒ ious[a] = (int)value": "the best IoU so far was cut to a whole number: it must be a `float`",
        "best[a] = g ⇒ best[a] = a": "best[a] is the object's number, g, not the anchor's",
    },
    hints=[
        "It is the Python loop again. Which two loops, and what is remembered for each anchor?",
        "best[a] and ious[a] can hold the best so far: 0 and 0 before the objects go by.",
        "In the inner loop: float value = iou(objects[g], anchors[a]); if it is larger than ious[a], note it and g.",
    ],
    language="cpp",
    **best,
)

best_kernel = KernelExercise(
    HEAD
    + """// One thread per anchor: best[a] and ious[a].
__global__ void best_kernel(const Box<float>* anchors, const Box<float>* objects, int A, int G,
                            int* best, float* ious) {
  «int a = blockIdx.x * blockDim.x + threadIdx.x;
  if (a >= A) return;
  Box<float> anchor = anchors[a];
  int mine = 0;
  float top = 0;
  for (int g = 0; g < G; ++g) {
    float value = iou(objects[g], anchor);
    if (value > top) top = value, mine = g;
  }
  best[a] = mine, ious[a] = top;»
}""",
    cases=lambda: [twins(100, 5), twins(2 * THREADS, 2)],
    mistakes={
        "value > top ⇒ value >= top": TIE,
        "blockIdx.x * blockDim.x +  ⇒ ": NO_BLOCK,
        "  if (a >= A) return;\n ⇒ ": NO_GUARD,
        "a >= A ⇒ a > A": "one thread too many goes on: anchors[A] is behind the end, so `a >= A` goes home",
        "g < G ⇒ g <= G": "objects[G] is behind the end: the objects are 0 to G - 1",
        "blockIdx.x * blockDim.x + threadIdx.x ⇒ blockIdx.x + blockDim.x * threadIdx.x": "a block's anchors begin at "
        "blockIdx.x * blockDim.x, and threadIdx.x counts on from there",
        "float top ⇒ int top": "an IoU is a fraction, and an `int` cuts it to 0: `top` must be a `float`",
        ", ious[a] = top ⇒ ": "ious[a] is never written",
        "float top = 0 ⇒ float top = ious[a]": "ious[a] holds anything at first: begin with top = 0",
    },
    hints=[
        "Which anchor is this thread's? Which threads have none?",
        "int a = blockIdx.x * blockDim.x + threadIdx.x; a thread with a >= A goes home at once.",
        "Then the inner loop of rung 3, with the best so far in two variables, and at the end best[a] and ious[a].",
    ],
    **best,
)

LOOP = """
  int mine = 0;
  float top = 0;
  for (int g = 0; g < G; ++g) {
    float value = iou(tile[g], anchor);
    if (value > top) top = value, mine = g;
  }
  best[a] = mine, ious[a] = top;
}"""
best_shared = KernelExercise(
    HEAD
    + """// As before; at most 64 objects. Fill tile[0] to tile[G - 1] together, and wait.
__global__ void best_shared(const Box<float>* anchors, const Box<float>* objects, int A, int G,
                            int* best, float* ious) {
  __shared__ Box<float> tile[64];
  «if (threadIdx.x < G) tile[threadIdx.x] = objects[threadIdx.x];
  __syncthreads();»
  int a = blockIdx.x * blockDim.x + threadIdx.x;
  if (a >= A) return;
  Box<float> anchor = anchors[a];"""
    + LOOP,
    cases=lambda: [twins(100, 5), twins(100, TILE)],
    uses=["tile"],
    may_read=read_once,
    readers=copiers,
    mistakes={
        "if (threadIdx.x < G) tile[threadIdx.x] = objects[threadIdx.x]; ⇒ "
        "if (threadIdx.x == 0) for (int g = 0; g < G; ++g) tile[g] = objects[g];": "a few threads copy for all, and "
        "the others wait for them: each copies its own object, number threadIdx.x",
        "if (threadIdx.x < G) tile[threadIdx.x] = objects[threadIdx.x]; ⇒ "
        "int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < G) tile[i] = objects[i];": "every block has a tile of "
        "its own and fills all of it: the object's number is threadIdx.x, in each block",
        "  __syncthreads();\n ⇒ ": "a thread reads the tile before others have filled it: __syncthreads() is missing",
        (
            "if (threadIdx.x < G) tile ⇒ if (threadIdx.x < G) { tile",
            "  __syncthreads();\n ⇒   __syncthreads(); }\n",
        ): "the barrier is inside the `if`: all threads must come to it, also those with nothing to copy",
        ("  __syncthreads();\n ⇒ ", "  if (a >= A) return;\n ⇒   if (a >= A) return;\n  __syncthreads();\n"): "threads "
        "without an anchor go home before the barrier: every thread of the block must come to it",
        "if (threadIdx.x < G)  ⇒ ": "there are G objects: threads from G on have none to copy",
        "if (threadIdx.x < G) tile[threadIdx.x] = objects[threadIdx.x]; ⇒ "
        "for (int g = threadIdx.x; g < G; ++g) tile[g] = objects[g];": "several threads copy the same object: each "
        "copies its own, number threadIdx.x",
        "tile[threadIdx.x] = objects[threadIdx.x] ⇒ tile[threadIdx.x] = anchors[threadIdx.x]": "the tile is for "
        "objects",
    },
    hints=[
        "Which object should thread number threadIdx.x copy? What about threads whose number is G or more?",
        "tile[threadIdx.x] = objects[threadIdx.x], for threads below G. Then all must wait: where is the barrier?",
        "if (threadIdx.x < G) …;  and on a line of its own, outside the `if`:  __syncthreads();",
    ],
    **best,
)

object_best = KernelExercise(
    HEAD
    + """// top[g], 0 at first, becomes object g's best IoU with any anchor. One thread per anchor.
__global__ void object_best(const Box<float>* anchors, const Box<float>* objects, int A, int G, float* top) {
  «int a = blockIdx.x * blockDim.x + threadIdx.x;
  if (a >= A) return;
  for (int g = 0; g < G; ++g) {
    float value = iou(objects[g], anchors[a]);
    if (value > 0) atomicMax((int*)&top[g], __float_as_int(value));
  }»
}""",
    launch=lambda anchors, objects: Launch(
        (anchors, objects, len(anchors), len(objects), Out((len(objects),), start=0)),
        -(-len(anchors) // THREADS),
        THREADS,
    ),
    cases=lambda: [
        twins(100, 5),
        (random_boxes(70, 3), torch.cat([random_boxes(70, 3)[66:], torch.full((1, 4), 900.0)])),
    ],
    readers=lambda anchors, objects: {"anchors": len(anchors) // 2},
    truth=lambda anchors, objects: torch.stack([by_the_op(anchors, each[None])[1].max() for each in objects]),
    mistakes={
        "atomicMax((int*)&top[g], __float_as_int(value)) ⇒ top[g] = fmaxf(top[g], value)": "between one thread's look "
        "at top[g] and its write another may have written: this needs atomicMax",
        "__float_as_int(value) ⇒ (int)value": "the IoUs became 0: `(int)value` cuts off the fraction; "
        "__float_as_int(value) takes the bits",
        ("int a = ⇒ int g =", "a >= A ⇒ g >= G", "int g = 0; g < G; ++g ⇒ int a = 0; a < A; ++a"): "a few threads do "
        "all the work: the anchors are shared out, one thread per anchor",
        "if (value > 0) ⇒ if (value > top[g])": "a plain look at top[g] while others change it is a race; atomicMax "
        "looks itself whether the value is larger",
        "if (value > 0) ⇒ bool mine = value > 0;\n    for (int h = 0; h < G; ++h) mine = mine && (h < g ? "
        "iou(objects[h], anchors[a]) < value : iou(objects[h], anchors[a]) <= value);\n    if (mine)": "every pair "
        "counts: an object's best anchor may overlap another object more",
        "&top[g] ⇒ &top[0]": "all objects share one cell: object g's is top[g]",
        "blockIdx.x * blockDim.x +  ⇒ ": NO_BLOCK,
        "  if (a >= A) return;\n ⇒ ": NO_GUARD,
    },
    hints=[
        "The loop is the same. What must happen to top[g], whoever else is at it?",
        "atomicMax takes the address of an int and an int: (int*)&top[g] is the one, the bits of value are the other.",
        "atomicMax((int*)&top[g], __float_as_int(value));",
    ],
)

best_tiles = KernelExercise(
    HEAD
    + """// As best_shared, for any number of objects: copy the objects first, first + 1, ... into the tile; use them.
__global__ void best_tiles(const Box<float>* anchors, const Box<float>* objects, int A, int G,
                           int* best, float* ious) {
  __shared__ Box<float> tile[64];
  int a = blockIdx.x * blockDim.x + threadIdx.x;
  Box<float> anchor = anchors[min(a, A - 1)];  // a thread without an anchor stays, for the barriers
  int mine = 0;
  float top = 0;
  for (int first = 0; first < G; first += 64) {
    «if (first + threadIdx.x < G) tile[threadIdx.x] = objects[first + threadIdx.x];
    __syncthreads();  // the tile is there
    for (int g = first; g < min(first + 64, G); ++g) {
      float value = iou(tile[g - first], anchor);
      if (value > top) top = value, mine = g;
    }
    __syncthreads();  // nobody still reads the tile when the next is copied over it»
  }
  if (a < A) best[a] = mine, ious[a] = top;
}""",
    cases=lambda: [twins(100, 5), twins(100, TILE), twins(100, 2 * TILE + 22)],
    uses=["tile"],
    may_read=read_once,
    readers=copiers,
    mistakes={
        "if (first + threadIdx.x < G) tile[threadIdx.x] = objects[first + threadIdx.x]; ⇒ if (threadIdx.x == 0) "
        "for (int g = first; g < min(first + 64, G); ++g) tile[g - first] = objects[g];": "a few threads copy for all, "
        "and the others wait for them: each copies its own, number first + threadIdx.x",
        "    __syncthreads();  // the tile is there\n ⇒ ": "a thread reads the tile before others have filled it: a "
        "barrier is missing after the copying",
        "    __syncthreads();  // nobody still reads the tile when the next is copied over it ⇒ ": "right for one "
        "tile; with more, a thread copies over what another still reads: a second barrier is missing, after comparing",
        "objects[first + threadIdx.x] ⇒ objects[threadIdx.x]": "every tile holds the first 64 objects: copy number "
        "first + threadIdx.x",
        "tile[g - first] ⇒ tile[g]": "the tile is counted from 0 again: object g lies in tile[g - first]",
        "if (first + threadIdx.x < G)  ⇒ ": "the last tile is not full: copy only objects whose number is below G",
        "g < min(first + 64, G) ⇒ g < first + 64": "the last tile is not full: compare only with objects whose number "
        "is below G",
        "mine = g; ⇒ mine = g - first;": "that is the object's place in the tile; its number is `first` more",
    },
    hints=[
        "The three steps of best_shared, once per tile. What could go wrong when the next tile is copied?",
        "Copy object first + threadIdx.x, wait, compare with tile[g - first] for g below min(first + 64, G), wait.",
        "Two __syncthreads(): one after copying, one after comparing.",
    ],
    extra=True,
    **best,
)
