"""NMS, down to the thread: what the learner writes. Boxes come sorted, the best first; words as in lab.cases."""

import torch
from torch import Tensor

from mrcnn import boxes as box_maths
from mrcnn import ops
from mrcnn.lab.cases import crowd, falling, words_of
from mrcnn.lab.check import KernelExercise, Launch, Out, exercise

WORD = 64
TIE = "boxes 0 and 1 have an IoU of exactly the threshold: that is no reason to drop one. Compare with >, not >="
CHAIN = "a box was dropped because of one that was dropped itself: only kept boxes strike others out"
BITS = "the bits go by b: box j = 64 * w + b has bit b, 1ull << b, of word w"
HEAD = '#include "iou.cuh"\nusing namespace mrcnn;\n\n'


def overlap_matrix(boxes: Tensor, threshold: float) -> Tensor:
    """Bool (N, N): does box i overlap the later box j?"""
    return (box_maths.iou(boxes, boxes) > threshold).triu(1)


def kept_flags(boxes: Tensor, threshold: float) -> Tensor:
    """uint8 (n,): 1 for the boxes that the library keeps."""
    flags = torch.zeros(len(boxes), dtype=torch.uint8)
    flags[ops.nms(boxes, falling(boxes), threshold)] = 1
    return flags


sorted_nms = KernelExercise(
    HEAD
    + """// Boxes (n,) sorted, the best first. Writes kept[i] = 1 or 0 for every box. First all are kept; then each box
// that is still kept strikes out the later ones that it overlaps.
void sorted_nms(const Box<float>* boxes, unsigned char* kept, int n, float threshold) {
  «for (int i = 0; i < n; ++i) kept[i] = 1;
  for (int i = 0; i < n; ++i) {
    if (!kept[i]) continue;
    for (int j = i + 1; j < n; ++j)
      if (iou(boxes[i], boxes[j]) > threshold) kept[j] = 0;
  }»
}""",
    launch=lambda boxes, threshold: Launch((boxes, Out((len(boxes),), torch.uint8), len(boxes), threshold)),
    cases=lambda: [(crowd(60), 0.5), (crowd(1), 0.5)],
    truth=kept_flags,
    mistakes={
        "> threshold ⇒ >= threshold": TIE,
        "    if (!kept[i]) continue;\n ⇒ ": CHAIN,
        "  for (int i = 0; i < n; ++i) kept[i] = 1;\n ⇒ ": "kept holds anything at first: set all of it to 1",
        "j = i + 1 ⇒ j = i": "a box has IoU 1 with itself and strikes itself out: begin with j = i + 1",
        "j < n ⇒ j <= n": "boxes[n] is behind the end: the last box is n - 1",
        ("  for (int i = 0; i < n; ++i) kept[i] = 1;\n ⇒ ", "if (!kept[i]) continue; ⇒ kept[i] = 1;"): "a box that was "
        "dropped is set to 1 again: set all to 1 before the first strikes",
    },
    hints=[
        "Who is kept before anybody has struck? Who may strike?",
        "Two loops: i over all boxes, and for each that is still kept, j over the later ones.",
        "if (iou(boxes[i], boxes[j]) > threshold) kept[j] = 0;",
    ],
    language="cpp",
)


def launch_pairs(boxes: Tensor, threshold: float) -> Launch:
    n, blocks = len(boxes), -(-len(boxes) // 16)
    return Launch((boxes, Out((n, n), torch.uint8), n, threshold), (blocks, blocks), (16, 16))


pair_matrix = KernelExercise(
    HEAD
    + """// overlaps (n, n): 1 where i < j and the IoU of boxes i and j is greater than the threshold, else 0.
__global__ void pair_matrix(const Box<float>* boxes, unsigned char* overlaps, int n, float threshold) {
  «int i = blockIdx.y * blockDim.y + threadIdx.y;
  int j = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n || j >= n) return;
  overlaps[i * n + j] = i < j && iou(boxes[i], boxes[j]) > threshold;»
}""",
    launch=launch_pairs,
    cases=lambda: [(crowd(40), 0.5)],
    truth=overlap_matrix,
    mistakes={
        "> threshold ⇒ >= threshold": TIE,
        "i < j &&  ⇒ ": "every pair is in it twice, and each box overlaps itself: only pairs with i < j count",
        "i < j && ⇒ i <= j &&": "each box overlaps itself, on the diagonal: i < j, not i <= j",
        "i < j && ⇒ i > j &&": "this is the lower triangle: row i, the better box, strikes out column j, a later one",
        "  if (i >= n || j >= n) return;\n ⇒ ": "a thread whose pair does not exist (i >= n or j >= n) must do nothing",
        "i >= n || j >= n ⇒ i >= n && j >= n": "one of the two beyond n is enough: `||`, not `&&`",
        ("blockIdx.y * blockDim.y +  ⇒ ", "blockIdx.x * blockDim.x +  ⇒ "): "several threads write one cell: each has "
        "one row i and one column j, made of its block's number and its own",
    },
    hints=[
        "Which row and which column are this thread's? Which threads have no pair?",
        "i goes with y, j with x: i = blockIdx.y * blockDim.y + threadIdx.y. Beyond n, in either: return.",
        "overlaps[i * n + j] = i < j && iou(boxes[i], boxes[j]) > threshold;",
    ],
)


@exercise(
    cases=lambda: [([bool(i % 3) for i in range(64)],), ([True],), ([],), ([False] * 63 + [True],)],
    truth=lambda bits: int("".join("01"[bit] for bit in reversed(bits)) or "0", 2),
    mistakes={
        "enumerate(bits) ⇒ enumerate(reversed(bits))": "the bits are the wrong way round: bits[0] is worth 1",
        "1 << b ⇒ 2 << b": "everything is twice too large: bits[0] is worth 1 << 0, which is 1",
        "word |= 1 << b ⇒ word += 1": "this counts the true bits; each has its own worth, 1 << b",
        "|= 1 << b ⇒ |= b": "bit b is worth 1 << b, not b",
        "|= 1 << b ⇒ = 1 << b": "the bits before are forgotten: add to them, with |=",
    },
    hints=["What is bit b worth?", "Begin with 0 and switch on the bits that are true.", "word |= 1 << b"],
)  # fmt: skip
def pack(bits):
    """The number whose bit b is on where bits[b] is true. `bits` is a list of at most 64 bools."""
    word = 0
    for b, bit in enumerate(bits):
        if bit:
            word |= 1 << b
    return word


def launch_words(boxes: Tensor, threshold: float) -> Launch:
    n, columns = len(boxes), -(-len(boxes) // WORD)
    return Launch((boxes, Out((n, columns), torch.uint64), n, threshold), (columns, columns), WORD)


words = {
    "launch": launch_words,
    "cases": lambda: [(crowd(30), 0.5), (crowd(150), 0.5)],
    "results": lambda out: out.view(torch.int64),
    "truth": lambda boxes, threshold: words_of(overlap_matrix(boxes, threshold)),
    "tolerance": 0,
}

mask_words = KernelExercise(
    HEAD
    + """// Bit b of words[i * gridDim.x + w]: does box i overlap box j = 64 * w + b, with i < j < n?
__global__ void mask_words(const Box<float>* boxes, unsigned long long* words, int n, float threshold) {
  int w = blockIdx.x, i = blockIdx.y * 64 + threadIdx.x;
  if (i >= n) return;
  unsigned long long word = 0;
  «for (int b = 0; b < 64; ++b) {
    int j = 64 * w + b;
    if (i < j && j < n && iou(boxes[i], boxes[j]) > threshold) word |= 1ull << b;
  }
  words[i * gridDim.x + w] = word;»
}""",
    mistakes={
        "> threshold ⇒ >= threshold": TIE,
        "1ull << b ⇒ (unsigned long long)(1 << (b & 31))": "`1 << b` is an int, of 32 bits. Write 1ull << b",
        "1ull << b ⇒ 1ull << (63 - b)": BITS,
        "j < n &&  ⇒ ": "boxes[n] is behind the end: the last word has room for more boxes than there are",
        "i < j &&  ⇒ ": "only later boxes count: i < j",
        "    if (i < j ⇒     if (j <= i) break;\n    if (i < j": "a j that does not count ends the loop: `continue`",
        "int j = 64 * w + b ⇒ int j = b": "every word holds the first 64 boxes: j = 64 * w + b",
    },
    hints=[
        "Which box j does bit b of word w stand for? Which j do not count?",
        "A loop over b; where i < j, j < n and the IoU is greater, switch the bit on. After the loop, one store.",
        "word |= 1ull << b; and at the end words[i * gridDim.x + w] = word;",
    ],
    **words,
)

mask_tiles = KernelExercise(
    HEAD
    + """// As mask_words; box j is tile[b]. Fetch one box of the tile, if there is one; wait; without a box i, go home.
__global__ void mask_tiles(const Box<float>* boxes, unsigned long long* words, int n, float threshold) {
  __shared__ Box<float> tile[64];  // tile[b] is box first + b
  int first = blockIdx.x * 64, i = blockIdx.y * 64 + threadIdx.x;
  «if (first + threadIdx.x < n) tile[threadIdx.x] = boxes[first + threadIdx.x];
  __syncthreads();
  if (i >= n) return;»
  const Box<float> box = boxes[i];  // its own, read once
  unsigned long long word = 0;
  for (int b = 0; b < 64; ++b)
    if (i < first + b && first + b < n && iou(box, tile[b]) > threshold) word |= 1ull << b;
  words[i * gridDim.x + blockIdx.x] = word;
}""",
    uses=["tile"],
    readers=lambda boxes, _: {"boxes": sum(max(len(a), len(b)) for a in boxes.split(WORD) for b in boxes.split(WORD))},
    mistakes={
        "  __syncthreads();\n ⇒ ": "a thread reads the tile before others have filled it: __syncthreads() is missing",
        "  __syncthreads();\n  if (i >= n) return;\n ⇒   if (i >= n) return;\n  __syncthreads();\n": "threads without "
        "a box go home before the barrier: every thread of the block must come to it",
        "= boxes[first + threadIdx.x]; ⇒ = boxes[min(i, n - 1)];": "the tile is filled with the boxes i; it is for the "
        "boxes j: number first + threadIdx.x",
        "if (first + threadIdx.x < n)  ⇒ ": "the last tile is not full: fetch only boxes that exist, below n",
        ("if (first + threadIdx.x < n) ⇒ for (int t = 0; !threadIdx.x && t < min(64, n - first); ++t)",
         "tile[threadIdx.x] = boxes[first + threadIdx.x] ⇒ tile[t] = boxes[first + t]"): "thread 0 fetches the whole "
        "tile: each should fetch one box",
        "  if (i >= n) return;\n ⇒ ": "threads without a box i must go home, after the barrier",
    },
    hints=[
        "Which one box does this thread fetch? Who may go home, and when?",
        "tile[threadIdx.x] is box first + threadIdx.x, if that is below n; then the barrier; then the rest with i < n.",
        "tile[threadIdx.x] = boxes[first + threadIdx.x]; before it an `if`, after it __syncthreads();",
    ],
    **words,
)  # fmt: skip


scan_words = KernelExercise(
    """
// One block of 64 threads. Row i of the table is words[i * columns] to words[i * columns + columns - 1].
__global__ void scan_words(const unsigned long long* words, unsigned char* kept, int n, int columns) {
  __shared__ unsigned long long dropped[64];  // enough for 4,096 boxes
  for (int w = threadIdx.x; w < columns; w += blockDim.x) dropped[w] = 0;
  __syncthreads();
  «for (int i = 0; i < n; ++i) {
    bool keep = !(dropped[i / 64] >> (i % 64) & 1);
    __syncthreads();  // all have read
    if (threadIdx.x == 0) kept[i] = keep;
    for (int w = threadIdx.x; keep && w < columns; w += blockDim.x) dropped[w] |= words[i * columns + w];
    __syncthreads();  // all have written
  }»
}""",
    launch=lambda words: Launch((words.view(torch.uint64), Out((len(words),), torch.uint8), *words.shape), 1, WORD),
    cases=lambda: [(words_of(overlap_matrix(crowd(n), 0.5)),) for n in (50, 150)],
    truth=lambda words: kept_flags(crowd(len(words)), 0.5),
    uses=["dropped"],
    readers=lambda words: {"words": words.shape[1]},
    mistakes={
        "    __syncthreads();  // all have read\n ⇒ ": "a thread changes a word that another may be reading. Two "
        "barriers are needed: one after reading bit i, one after writing",
        "keep && w < columns ⇒ w < columns": CHAIN,
        "if (threadIdx.x == 0) kept[i] = keep; ⇒ kept[i] = keep;": "all threads write kept[i]: one is enough, and "
        "more are a race",
        "= keep; ⇒ = !keep;": "kept[i] says which boxes are dropped: 1 is for a kept one",
        ">> (i % 64) & 1 ⇒ & (1 << (i % 32))": "`1 << b` is an int, of 32 bits: write 1ull << b, or read by >> b & 1",
        "dropped[w] |= words ⇒ dropped[w] = words": "what was dropped before is forgotten: add to it, with |=",
        ("int w = threadIdx.x; keep && ⇒ int w = 0; keep && !threadIdx.x &&", "+= blockDim.x) dropped[w] |= ⇒ += 1) "
        "dropped[w] |="): "thread 0 does it all: each thread strikes in its own words, t, t + 64, ...",
    },
    hints=[
        "What does each thread need to know about row i? Who may write which word of `dropped`, and when?",
        "Read bit i of `dropped`; wait; if the box is kept, add the row's words to your own; wait.",
        "bool keep = !(dropped[i / 64] >> (i % 64) & 1); __syncthreads(); … dropped[w] |= words[i * columns + w]; …",
    ],
)  # fmt: skip


def in_rounds(overlaps: Tensor) -> tuple[Tensor, int]:
    """The set of kept boxes, bool (N,), and how many rounds changed it. `overlaps` is the table (N, N), bool."""
    kept = torch.ones_like(overlaps[0])
    for rounds in range(len(overlaps) + 1):
        struck = (overlaps & kept[:, None]).any(0)  # column j: some i in the set overlaps it
        if torch.equal(~struck, kept):
            return kept, rounds
        kept = ~struck
