# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # Non-maximum suppression
#
# Of many boxes on one object, keep the best: a rule of four lines whose last step does not want to be done in
# parallel.
#
# **You will** write it five times: as a Python loop, in PyTorch, in C++, and as two CUDA kernels, the second with 64
# answers in one number.
#
# **Time** about 90 minutes. **Know first** IoU, intersection over union (lesson 00). Lesson 04 helps with CUDA, but
# the little that is needed is said here again.
#
# **Files** `mrcnn/ops/suppression.py`, `mrcnn/ops/reference.py`, `csrc/nms/`.

# %%
import torch

import mrcnn
from mrcnn import boxes as box_maths
from mrcnn import lab, ops
from mrcnn.data import Playground
from mrcnn.lab import check
from mrcnn.lab.exercises import suppression, suppression_library
from mrcnn.lab.views import nms_pictures, threads
from mrcnn.lab.walk import changed

# %load_ext mrcnn.lab
# %matplotlib inline

# %% [markdown]
# ## A picture first
#
# A detector looks at every place many times, so it finds every object many times. Here is one scene, seen by the
# small trained model. On the left is all that its box head found, with suppression switched off: a threshold of 1
# drops nothing. On the right is what the model answers.

# %%
model = mrcnn.playground_rcnn(pretrained=True)
image, _ = Playground(40, seed=3)[6]

with torch.no_grad():
    after = model([image])[0]
    with changed(model.roi_heads, "box", nms_iou=1.0, detections=1000):
        before = model([image])[0]

before, after = (found["boxes"][found["scores"] > 0.5] for found in (before, after))
nms_pictures.before_and_after(image, before, after)

# %% [markdown]
# The rule that makes the right picture out of the left one is called **non-maximum suppression**, NMS for short:
#
# 1. Go down the boxes by score, the best first.
# 2. Keep a box, unless a box **that was kept** overlaps it: their IoU is greater than a threshold.
#
# ## Predict
#
# Five boxes with their scores. The threshold is 0.5: about two thirds of each box must be common for that, if both
# are of one size. Who survives? Write the letters into `guess` before you go on.

# %%
five = torch.tensor([[10.0, 20, 50, 60], [20, 22, 60, 62], [30, 20, 70, 60], [14, 38, 30, 56], [34, 26, 74, 66]])
five_scores = torch.tensor([0.95, 0.90, 0.80, 0.70, 0.60])
nms_pictures.named_boxes(five, five_scores, "ABCDE")

# %%
guess = ""  # for example "ABE"

# %%
kept = ops.nms(five, five_scores, 0.5).tolist()
answer = "".join("ABCDE"[row] for row in kept)
print(f"kept: {answer}.", f"Your guess: {guess}." if guess else "You have not guessed yet.")
nms_pictures.named_boxes(five, five_scores, "ABCDE", kept)

# %% [markdown]
# Two of them surprise many people.
#
# - **D** lies wholly inside A, and both stay. The union is large, so the IoU is small. NMS does not ask whether a box
#   is covered, but whether two boxes are *the same*.
# - **C** overlaps B by more than the threshold, and B is better. But A dropped B first, and a dropped box drops
#   nobody.
#
# The table of all pairs shows what there is to know. Only pairs above the diagonal matter: there the row is the
# better box. And a row only counts when its own box was kept.

# %%
nms_pictures.overlap_table(box_maths.iou(five, five), 0.5, "ABCDE", kept)

# %% [markdown]
# ## Rung 1: a Python loop
#
# `overlap(a, b)` gives the IoU of two boxes in plain numbers. Of boxes with equal scores the lower row comes first.
# (Python's `sorted` leaves equal ones in their old order.)

# %%
from mrcnn.lab.exercises.suppression_library import overlap

lab.show(overlap)


# %% exercise="greedy"
def greedy(boxes, scores, threshold):
    """Which rows of `boxes`, a list of [x1, y1, x2, y2], are kept: a list, the best score first. About 5 lines."""
    ...


# %% [markdown] solution="greedy"
# <details><summary>Solution</summary>
#
# ```python
# from mrcnn.lab.exercises.suppression_library import overlap
#
#
# def greedy(boxes, scores, threshold):
#     kept = []
#     for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
#         if not any(overlap(boxes[k], boxes[i]) > threshold for k in kept):
#             kept.append(i)
#     return kept
# ```
#
# </details>

# %%
greedy = check(suppression.greedy, greedy)

# %% [markdown]
# ## Rung 2: PyTorch
#
# A Python loop looks at one pair at a time. PyTorch can look at all pairs at once: the table of IoUs, compared with
# the threshold. From here on the boxes come **sorted**, the best first, so "better" is simply "the lower row".
#
# NMS falls into two parts, and they will stay with us to the end:
#
# - **compare**: which box overlaps which later one? A table of yes and no;
# - **scan**: go down the rows of that table.


# %% exercise="overlap_matrix"
def overlap_matrix(boxes, threshold):
    """Bool (N, N): [i, j] is true when i < j and the IoU of boxes i and j is greater than the threshold. About 2 lines.

    box_maths.iou(a, b) gives all IoUs; tensor.triu(1) keeps what is above the diagonal.
    """
    ...


# %% [markdown] solution="overlap_matrix"
# <details><summary>Solution</summary>
#
# ```python
# from mrcnn import boxes as box_maths
#
#
# def overlap_matrix(boxes, threshold):
#     return (box_maths.iou(boxes, boxes) > threshold).triu(1)
# ```
#
# </details>

# %%
overlap_matrix = check(suppression.overlap_matrix, overlap_matrix)


# %% [markdown]
# Now the scan. It has one line of state: which boxes are dropped so far.


# %% exercise="scan_rows"
def scan_rows(overlaps):
    """Which rows are kept, as an int64 tensor, rising; `overlaps` is the table (N, N). About 7 lines.

    Begin with `dropped`, N times false. Visit the rows in order: keep a row that is not dropped, and drop what it
    overlaps.
    """
    ...


# %% [markdown] solution="scan_rows"
# <details><summary>Solution</summary>
#
# ```python
# def scan_rows(overlaps):
#     dropped = torch.zeros(len(overlaps), dtype=torch.bool, device=overlaps.device)
#     kept = []
#     for i in range(len(overlaps)):
#         if not dropped[i]:
#             kept.append(i)
#             dropped |= overlaps[i].bool()
#     return torch.tensor(kept, device=overlaps.device)
# ```
#
# </details>

# %%
scan_rows = check(suppression.scan_rows, scan_rows)


# %% [markdown]
# The two parts with a sort before them are NMS. `mrcnn.ops.nms` should agree.


# %%
def nms_by_rows(boxes, scores, threshold):
    order = scores.sort(descending=True, stable=True).indices
    return order[scan_rows(overlap_matrix(boxes[order], threshold))]


boxes = suppression_library.crowd(500)
scores = torch.rand(500, generator=torch.Generator().manual_seed(0)).to(boxes.device)
print("rung 2 equals mrcnn.ops.nms:", torch.equal(nms_by_rows(boxes, scores, 0.5), ops.nms(boxes, scores, 0.5)))

# %% [markdown]
# ## Break it: why the scan is the hard part
#
# **Compare** is N² questions that do not depend on each other: as many threads as you like can work on it. **Scan**
# is a chain. Here are nine boxes in a row, the best on the left. Each has an IoU above the threshold, 0.4, with the
# next one (an arrow) and with no other.
#
# **Predict** Who survives? And who would, if every box asked on its own: "does any better box overlap me?"

# %%
n = 9
links = torch.tensor([[8.0 * i, 0, 8.0 * i + 20, 10] for i in range(n)]).to(lab.device())
rule = ops.nms(links, suppression_library.falling(links), 0.4).tolist()
alone = (~overlap_matrix(links, 0.4).any(0)).nonzero()[:, 0].tolist()
nms_pictures.chain(links.cpu(), {"NMS": rule, "any better box": alone})

# %% [markdown]
# Box 8 lives because box 7 died, because box 6 lived, ... back to box 0. Its fate cannot be known before all the
# others'. If each box asks on its own, only box 0 is left: "everything that a better box overlaps dies" is the wrong
# rule.
#
# So let the threads ask properly: "does a better box overlap me *that is kept*?" One **thread** per box; a thread is
# one run of the function below, and `threadIdx.x` is its number. All threads run at once, or in any order. (A kernel
# is a function marked `__global__`; `kernel[1, n](...)` starts one block of n threads. `iou` comes from the library's
# own header.)

# %% language="cuda"
# #include "iou.cuh"
# using namespace mrcnn;
#
# // kept (n,) is all 1 before. A wrong kernel: can you say why before you run it?
# __global__ void ask_the_kept(const Box<float>* boxes, unsigned char* kept, int n, float threshold) {
#   int j = threadIdx.x;
#   for (int i = 0; i < j; ++i)
#     if (kept[i] && iou(boxes[i], boxes[j]) > threshold) kept[j] = 0;
# }

# %% [markdown]
# Without a GPU the threads run one after the other on the CPU, in an order that you can choose. We try three orders.

# %%
for order in ("ascending", "descending", "shuffled"):
    kept_flags = torch.ones(n, dtype=torch.uint8, device=lab.device())
    with lab.schedule(order):
        ask_the_kept[1, n](links, kept_flags, n, 0.4)
    print(f"{order:<11} kept {kept_flags.nonzero()[:, 0].tolist()}")

# %% [markdown]
# On the CPU, in ascending order, each thread ends before the next begins, and the answer is right. This is luck, and
# the most expensive kind of it: the kernel passes its test on your desk and fails elsewhere. One thread writes
# `kept[i]` while another reads it, and nothing says who comes first. That is a **race**. A traced run finds it in any
# order:

# %%
seen = ask_the_kept.trace[1, n](links, torch.ones(n, dtype=torch.uint8, device=lab.device()), n, 0.4)
print(seen.findings[0])
threads.draw_timeline(seen, threads=range(4), buffers=["kept"], rows=14)

# %% [markdown]
# No barrier saves this kernel as it is: thread 8 must wait for 7, which must wait for 6. What can be done is to make
# the scan *cheap*, and to give all that is not the scan to the threads. That is what the rest of the lesson does.
# (There is another way, rounds, at the end: it is how the library's kernel does it.)
#
# ## Rung 3: C++
#
# First without threads. C++ needs no table: it looks at a box's later neighbours when it keeps the box. So it asks
# for a pair only if it must, and its memory is N bytes instead of N².


# %% exercise="sorted_nms" language="cpp"
# #include "iou.cuh"
# using namespace mrcnn;
#
# // Boxes (n,) sorted, the best first. Writes kept[i] = 1 or 0 for every box. About 6 lines.
# void sorted_nms(const Box<float>* boxes, unsigned char* kept, int n, float threshold) {
#   // your code: first all are kept; then each box that is still kept strikes out the later ones it overlaps.
#   // iou(boxes[i], boxes[j]) is there.
# }

# %% [markdown] solution="sorted_nms"
# <details><summary>Solution</summary>
#
# ```cpp
# %%cpp
# #include "iou.cuh"
# using namespace mrcnn;
#
# void sorted_nms(const Box<float>* boxes, unsigned char* kept, int n, float threshold) {
#   for (int i = 0; i < n; ++i) kept[i] = 1;
#   for (int i = 0; i < n; ++i) {
#     if (!kept[i]) continue;
#     for (int j = i + 1; j < n; ++j)
#       if (iou(boxes[i], boxes[j]) > threshold) kept[j] = 0;
#   }
# }
# ```
#
# </details>

# %%
sorted_nms = check(suppression.sorted_nms, sorted_nms)

# %% [markdown]
# ## Rung 4: a first kernel, one thread per pair
#
# The table again, made by threads: one for each cell. They come in **blocks** of 16 × 16, and the blocks form a
# **grid** over the table:
#
# - row `i = blockIdx.y * blockDim.y + threadIdx.y`
# - column `j = blockIdx.x * blockDim.x + threadIdx.x`
#
# The grid is rounded up to whole blocks, so some threads have no pair: they must do nothing. Memory is one long line:
# cell [i, j] of a table with n columns is `overlaps[i * n + j]`.

# %% exercise="pair_matrix" language="cuda"
# #include "iou.cuh"
# using namespace mrcnn;
#
# // overlaps (n, n): 1 where i < j and the IoU of boxes i and j is greater than the threshold, else 0. About 4 lines.
# __global__ void pair_matrix(const Box<float>* boxes, unsigned char* overlaps, int n, float threshold) {
#   // your code
# }

# %% [markdown] solution="pair_matrix"
# <details><summary>Solution</summary>
#
# ```cpp
# %%cuda
# #include "iou.cuh"
# using namespace mrcnn;
#
# __global__ void pair_matrix(const Box<float>* boxes, unsigned char* overlaps, int n, float threshold) {
#   int i = blockIdx.y * blockDim.y + threadIdx.y;
#   int j = blockIdx.x * blockDim.x + threadIdx.x;
#   if (i >= n || j >= n) return;
#   overlaps[i * n + j] = i < j && iou(boxes[i], boxes[j]) > threshold;
# }
# ```
#
# </details>

# %%
pair_matrix = check(suppression.pair_matrix, pair_matrix)

# %% [markdown]
# `check` gives back a function of tensors that starts the kernel with the right grid. With the scan of rung 2 it is
# NMS:

# %%
order = scores.sort(descending=True, stable=True).indices
kept = order[scan_rows(pair_matrix(boxes[order], 0.5))]
print("rung 4 equals mrcnn.ops.nms:", torch.equal(kept, ops.nms(boxes, scores, 0.5)))

# %% [markdown]
# What is wrong with it? Its **memory**. Each cell is a byte that holds one bit of news. The arithmetic:

# %%
for n in (1_000, 10_000, 100_000):
    print(f"{n:>7,} boxes: {n * n / 2**20:>8,.1f} MiB as bytes, {n * n / 8 / 2**20:>8,.1f} MiB as bits")

# %% [markdown]
# And all of it has to be read again by the scan, row by row. A bit per pair is an eighth of that, and 64 of them can
# be moved, and combined, in one instruction.
#
# ## Rung 5: 64 answers in one number
#
# A 64-bit number is 64 switches. Bit b is worth 2 to the power b, written `1 << b`. Two things are done with it:
#
# | | |
# |---|---|
# | `word \|= 1 << b` | switch bit b on |
# | `word >> b & 1` | read bit b |
#
# Here is row 0 of a table of 110 boxes: its first word. The boxes are the 110 best that the box head has for our scene,
# taken as one class. (A number is written with its highest digit first, so the hexadecimal digits read from right to
# left: each stands for four bits.)

# %%
with torch.no_grad(), changed(model.roi_heads, "box", nms_iou=1.0, min_score=0.0, detections=110):
    candidates = model([image])[0]["boxes"].to(lab.device())  # (110, 4), by falling score
table = suppression_library.overlap_matrix(candidates, 0.5)
words = suppression_library.words_of(table)
nms_pictures.one_word(table[0, :64].tolist(), row=0, word=0)

# %% [markdown]
# Warm up in Python, whose whole numbers take as many bits as they need.


# %% exercise="pack"
def pack(bits):
    """The number whose bit b is on where bits[b] is true. `bits` is a list of at most 64 bools. About 4 lines."""
    ...


# %% [markdown] solution="pack"
# <details><summary>Solution</summary>
#
# ```python
# def pack(bits):
#     word = 0
#     for b, bit in enumerate(bits):
#         if bit:
#             word |= 1 << b
#     return word
# ```
#
# </details>

# %%
pack = check(suppression.pack, pack)
print(f"row 0, word 0: {pack(table[0, :64].tolist()):#018x}")

# %% [markdown]
# Now all rows of all 110 boxes, bit by bit. Each row is two words; the second has bits for 18 boxes that do not exist.
# Black bits belong to boxes that are kept (green rows, numbered), grey ones to dropped boxes, whose bits nobody will
# ask for.

# %% tags=["cover"]
kept = suppression_library.scan_rows(table).tolist()
nms_pictures.word_table(image, candidates, suppression_library.bits_of(words).cpu().numpy(), kept)

# %% [markdown]
# ### The bit loop
#
# One thread makes one whole word: it compares its box i with 64 boxes j. A block has 64 threads, for 64 rows, and all
# make word `w` of their row. So the grid is a grid of *tiles*, each 64 × 64 pairs.
#
#                 word 0        word 1
#                 j = 0..63     j = 64..127
#     rows 0..63  block (0,0)   block (1,0)
#     64..127     block (0,1)   block (1,1)
#
# Careful: in C++ a plain `1` is a number of 32 bits, and `1 << 40` leaves it. `1ull` has 64.

# %% exercise="mask_words" language="cuda"
# #include "iou.cuh"
# using namespace mrcnn;
#
# // Bit b of words[i * gridDim.x + w]: does box i overlap box j = 64 * w + b, with i < j < n? About 6 lines.
# __global__ void mask_words(const Box<float>* boxes, unsigned long long* words, int n, float threshold) {
#   int w = blockIdx.x, i = blockIdx.y * 64 + threadIdx.x;
#   if (i >= n) return;
#   unsigned long long word = 0;
#   // your code: the loop over b, and after it the one store, also of a word that is 0
# }

# %% [markdown] solution="mask_words"
# <details><summary>Solution</summary>
#
# ```cpp
# %%cuda
# #include "iou.cuh"
# using namespace mrcnn;
#
# __global__ void mask_words(const Box<float>* boxes, unsigned long long* words, int n, float threshold) {
#   int w = blockIdx.x, i = blockIdx.y * 64 + threadIdx.x;
#   if (i >= n) return;
#   unsigned long long word = 0;
#   for (int b = 0; b < 64; ++b) {
#     int j = 64 * w + b;
#     if (i < j && j < n && iou(boxes[i], boxes[j]) > threshold) word |= 1ull << b;
#   }
#   words[i * gridDim.x + w] = word;
# }
# ```
#
# </details>

# %%
mask_words = check(suppression.mask_words, mask_words)

# %% [markdown]
# ### Shared memory
#
# All 64 threads of a block read the same 64 boxes j, each for itself: 64 × 64 reads for 64 boxes. A block has a
# small, fast memory of its own, **shared memory**. Let each thread fetch *one* box j into it, then wait until all
# have (`__syncthreads()`, a **barrier**), and only then read the others' boxes from there.
#
# Two rules. Every thread of the block must come to the barrier, so nobody may return before it: that is why the two
# tests `i < n` stand where they stand below. And without the barrier a thread would read boxes that nobody has
# fetched yet.

# %% exercise="mask_tiles" language="cuda"
# #include "iou.cuh"
# using namespace mrcnn;
#
# __global__ void mask_tiles(const Box<float>* boxes, unsigned long long* words, int n, float threshold) {
#   __shared__ Box<float> tile[64];  // tile[b] is box first + b
#   int first = blockIdx.x * 64, i = blockIdx.y * 64 + threadIdx.x;
#   // your code, 2 lines: this thread fetches one box, if there is one; then all wait
#
#   // your code: as before, but box j is tile[b]; about 5 lines
#
# }

# %% [markdown] solution="mask_tiles"
# <details><summary>Solution</summary>
#
# ```cpp
# %%cuda
# #include "iou.cuh"
# using namespace mrcnn;
# __global__ void mask_tiles(const Box<float>* boxes, unsigned long long* words, int n, float threshold) {
#   __shared__ Box<float> tile[64];  // tile[b] is box first + b
#   int first = blockIdx.x * 64, i = blockIdx.y * 64 + threadIdx.x;
#   if (first + threadIdx.x < n) tile[threadIdx.x] = boxes[first + threadIdx.x];
#   __syncthreads();
#   if (i >= n) return;
#   unsigned long long word = 0;
#   const Box<float> box = boxes[i];
#   for (int b = 0; b < 64; ++b)
#     if (i < first + b && first + b < n && iou(box, tile[b]) > threshold) word |= 1ull << b;
#   words[i * gridDim.x + blockIdx.x] = word;
# }
# ```
#
# </details>

# %%
mask_tiles = check(suppression.mask_tiles, mask_tiles)

# %% [markdown]
# ### The scan over words
#
# One block of 64 threads goes down all rows together. The words of `dropped` lie in shared memory; thread t looks
# after words t, t + 64, ... For each row i:
#
# 1. all threads read bit i of `dropped`: word `i / 64`, bit `i % 64`;
# 2. a barrier: all have read before anyone writes;
# 3. if the box is kept, each thread adds row i's words to its own: `dropped[w] |= words[i * columns + w]`;
# 4. a barrier: all have written before anyone reads again.
#
# One thread, the first, writes `kept[i]`. N steps one after the other remain, but each strikes out 64 boxes per
# instruction.

# %%
nms_pictures.scan_steps(suppression_library.bits_of(words).cpu().numpy(), kept)

# %% exercise="scan_words" language="cuda"
# __global__ void scan_words(const unsigned long long* words, unsigned char* kept, int n, int columns) {
#   __shared__ unsigned long long dropped[64];  // enough for 4,096 boxes
#   for (int w = threadIdx.x; w < columns; w += blockDim.x) dropped[w] = 0;
#   __syncthreads();
#   // your code: the loop over i, about 8 lines
# }

# %% [markdown] solution="scan_words"
# <details><summary>Solution</summary>
#
# ```cpp
# %%cuda
# __global__ void scan_words(const unsigned long long* words, unsigned char* kept, int n, int columns) {
#   __shared__ unsigned long long dropped[64];  // enough for 4,096 boxes
#   for (int w = threadIdx.x; w < columns; w += blockDim.x) dropped[w] = 0;
#   __syncthreads();
#   for (int i = 0; i < n; ++i) {
#     bool keep = !(dropped[i / 64] >> (i % 64) & 1);
#     __syncthreads();
#     if (threadIdx.x == 0) kept[i] = keep;
#     for (int w = threadIdx.x; keep && w < columns; w += blockDim.x) dropped[w] |= words[i * columns + w];
#     __syncthreads();
#   }
# }
# ```
#
# </details>

# %%
scan_words = check(suppression.scan_words, scan_words)


# %% [markdown]
# That is all of it. Sort, compare, scan:


# %%
def nms_by_words(boxes, scores, threshold):
    order = scores.sort(descending=True, stable=True).indices
    return order[scan_words(mask_tiles(boxes[order], threshold))]


print("rung 5 equals mrcnn.ops.nms:", torch.equal(nms_by_words(boxes, scores, 0.5), ops.nms(boxes, scores, 0.5)))

# %% [markdown]
# ## Break it: the threshold and the ties
#
# **Predict** Box 1 is the left half of box 0, so their IoU is exactly 0.5. Is it dropped at a threshold of 0.5? At
# 0.49? And two boxes that are *the same*, at a threshold of 1?

# %%
halves = torch.tensor([[0.0, 0, 2, 1], [0, 0, 1, 1]])
same = torch.tensor([[0.0, 0, 2, 1], [0, 0, 2, 1]])
two = torch.tensor([0.9, 0.8])
print("halves at 0.50:", ops.nms(halves, two, 0.50).tolist(), "  at 0.49:", ops.nms(halves, two, 0.49).tolist())
print("same   at 1.00:", ops.nms(same, two, 1.0).tolist(), "  at 0.99:", ops.nms(same, two, 0.99).tolist())

# %% [markdown]
# Reaching the threshold is not passing it: the comparison is `>`. With `>=` a threshold of 1 would still drop, and so
# there would be no way to switch suppression off, as we did for the first picture.
#
# "Exactly" is a brittle word in floating point. Here the IoU is 3 / 10. In float32 that is a little more than 0.3:

# %%
thirds = torch.tensor([[0.0, 0, 10, 1], [0, 0, 3, 1]])
print(f"IoU in float32: {box_maths.iou(thirds, thirds)[0, 1].item():.10f}")
print("kept at a threshold of 0.3:", ops.nms(thirds, two, 0.3).tolist())

# %% [markdown]
# **Ties.** Two boxes have the same score, and overlap. One must go; which? Whatever the answer, it must be the *same*
# answer every time, or a test fails once a week. `mrcnn` says: the lower row wins, on every device. The word for a
# sort that keeps equal ones in their old order is *stable*, and the price of it is one argument:

# %%
lab.show(ops.reference.nms)

# %% [markdown]
# ## Many classes at once
#
# A cup on a table: two boxes, two classes, one place. They must not suppress each other. `batched_nms` takes a group
# for each box (its class; in the region proposal network its pyramid level) and compares only within groups.
#
# A well-known trick does it with plain NMS: move each group to coordinates of its own, so far away that no two groups
# touch.


# %%
def nms_by_offset(boxes, scores, groups, threshold):
    offset = groups.to(boxes) * (boxes.max() + 1)
    return ops.nms(boxes + offset[:, None], scores, threshold)


cup_and_table = torch.tensor([[20.0, 30, 40, 60], [18, 28, 42, 62]])
labels = torch.tensor([1, 2])
print("one group:     ", ops.nms(cup_and_table, two, 0.5).tolist())
print("by offset:     ", nms_by_offset(cup_and_table, two, labels, 0.5).tolist())
print("by comparison: ", ops.batched_nms(cup_and_table, two, labels, 0.5).tolist())

# %% [markdown]
# **Break it.** Two ways.
#
# First: a float32 has 24 bits for its digits. The further from zero, the wider the steps between two neighbours. Take
# a satellite picture of 20,000 pixels a side, cars of about 12 pixels, and 60 classes. **Predict**: of 10,000 pairs
# of cars that overlap somehow, how many does the trick decide wrongly if they are of class 1? Of class 60?

# %%
random = torch.Generator().manual_seed(0)
cars = torch.rand(10_000, 1, 2, generator=random) * 19_900
cars = cars + torch.rand(10_000, 2, 2, generator=random) * 6  # two cars of a pair lie close together
cars = torch.cat([cars, cars + 8 + 6 * torch.rand(10_000, 2, 2, generator=random)], dim=2)  # (10000, 2, 4)


def pair_iou(pairs):
    """IoU of the two boxes of each pair: (N, 2, 4) -> (N,)."""
    sides = (pairs[..., 2:].amin(1) - pairs[..., :2].amax(1)).clamp(min=0)
    areas = (pairs[..., 2:] - pairs[..., :2]).prod(2)
    inter = sides.prod(1)
    return inter / (areas.sum(1) - inter)


truth = pair_iou(cars.double()) > 0.5
for label in (0, 1, 10, 60):
    moved = cars + label * 20_001.0
    step = torch.tensor(label * 20_001.0 + 10_000).nextafter(torch.tensor(torch.inf)).item() - label * 20_001.0 - 10_000
    wrong = (pair_iou(moved) > 0.5) != truth
    print(f"class {label:>2}: neighbours {step:.5f} pixels apart, {wrong.sum().item():>4} of 10,000 decided wrongly")

# %% [markdown]
# Second: the trick silently assumes that no coordinate is negative. Boxes that reach over the picture's left edge, or
# coordinates with the origin in the middle, are enough. **Predict** what happens to these two, which are of different
# classes and do not even touch:

# %%
apart = torch.tensor([[0.0, 0, 10, 10], [-11, -11, -1, -1]])
classes = torch.tensor([0, 1])
print("by offset:    ", nms_by_offset(apart, two, classes, 0.5).tolist())
print("by comparison:", ops.batched_nms(apart, two, classes, 0.5).tolist())
try:
    import torchvision

    print("torchvision:  ", torchvision.ops.batched_nms(apart, two, classes, 0.5).tolist())
except ImportError:
    pass

# %% [markdown]
# Class 1 is moved by 11, right onto class 0. The honest way costs one comparison of whole numbers. In the table of
# rung 2 it is `overlaps & (groups[:, None] == groups[None, :])`; in the library's kernel, this:

# %%
lab.show("nms/nms.cu", "__device__ bool suppresses", "}")

# %% [markdown]
# ## How fast is it
#
# Arithmetic first, for N = 1,000 boxes. There are N (N − 1) / 2 pairs, about half a million. An IoU is about 15
# operations.
#
# - Python: say 50 nanoseconds for an operation of the interpreter, and some twenty of them for an IoU: a microsecond a
#   pair. But dropped boxes are never asked, and the loop for a box ends with the first that drops it.
# - PyTorch: all pairs, both halves of the table, in several passes over N² numbers; then N small steps, say 5
#   microseconds each.
# - C++: say a nanosecond or two a pair, and only for pairs that are asked for.
#
# **Predict** the ratios, then run. Your C++ is in the table once it is right; `mrcnn` and torchvision are C++ too.
# (Kernels run thread by thread on the CPU have no time worth telling. With a GPU, yours are in the table.)

# %%
many = suppression_library.crowd(1000)
many_scores = suppression_library.falling(many)  # already sorted, so that we do not time the sort
as_lists = many.tolist(), many_scores.tolist()
ways = {
    "Python": lambda: greedy(*as_lists, 0.5),
    "PyTorch": lambda: nms_by_rows(many, many_scores, 0.5),
    "mrcnn": lambda: ops.nms(many, many_scores, 0.5),
}
if hasattr(sorted_nms, "kernel"):
    ways["C++, yours"] = lambda: sorted_nms(many, 0.5)
try:
    import torchvision

    ways["torchvision"] = lambda: torchvision.ops.nms(many, many_scores.float(), 0.5)
except ImportError:
    pass
if lab.device() == "cuda":
    ways["CUDA, words"] = lambda: nms_by_words(many, many_scores, 0.5)
milliseconds = lab.timed(ways)

# %% [markdown]
# For the kernels we count instead: how often all threads together turn to the slow, global memory. First by
# arithmetic, for 64 boxes of 4 numbers:
#
# - a pair reads two boxes, 8 numbers, and there are 64 × 63 / 2 = 2,016 pairs above the diagonal: 16,128 reads,
#   whether a thread has one pair or 64 of them;
# - with a tile, each of the 64 threads fetches one box for all (one read of 16 bytes) and its own box (4 numbers):
#   320;
# - a byte per pair is 4,096 writes, a bit per pair 64.
#
# Then by the trace, for those kernels that you have written:

# %%
few = suppression_library.crowd(64)
launches = {
    "pair_matrix": (pair_matrix, (4, 4), (16, 16), torch.zeros(64 * 64, dtype=torch.uint8)),
    "mask_words": (mask_words, 1, 64, torch.zeros(64, dtype=torch.uint64)),
    "mask_tiles": (mask_tiles, 1, 64, torch.zeros(64, dtype=torch.uint64)),
}
for name, (yours, grid, block, out) in launches.items():
    if not hasattr(yours, "kernel"):
        print(f"{name:<12} no kernel of yours to count yet")
        continue
    counts = threads.count_accesses(yours.kernel.trace[grid, block](few, out.to(few.device), 64, 0.5))
    result = counts["overlaps" if name == "pair_matrix" else "words"]
    print(f"{name:<12} {counts['boxes']['read']:>7,} reads of boxes, {result['write']:>6,} writes of the result")

# %% [markdown]
# On a GPU the compare step shrinks with the number of threads. The scan does not: N rounds of two barriers. That is
# the law of Amdahl: what cannot be shared out decides in the end.
#
# ## Exercises
#
# ### 1. In rounds: how the library's kernel settles it
#
# There is a way to do the scan in parallel after all. Begin with *all* boxes in the set. In each round, every box
# asks at once whether a better box **in the set** overlaps it; those that are not overlapped make the next set. Go on
# until a round changes nothing. After round r the first r boxes are right for good, so it ends, and with the greedy
# answer.
#
# How many rounds does it take? For the chain of nine, and for the scene's candidates? Guess.


# %% exercise="resolve"
def resolve(overlaps):
    """The set, bool (N,), and how many rounds changed it (the last, which changes nothing, does not count).

    `overlaps` is the table (N, N), bool. N rounds are always enough. About 6 lines.
    """
    ...


# %% [markdown] solution="resolve"
# <details><summary>Solution</summary>
#
# ```python
# def resolve(overlaps):
#     kept = torch.ones_like(overlaps[0])
#     for rounds in range(len(overlaps) + 1):
#         struck = (overlaps & kept[:, None]).any(0)  # column j: some i in the set overlaps it
#         if torch.equal(~struck, kept):
#             return kept, rounds
#         kept = ~struck
# ```
#
# All rounds begin with all boxes: one that was struck out in round 1 comes back if its striker falls in round 2.
#
# </details>

# %%
resolve = check(suppression.resolve, resolve)
for name, some in {"chain": links, "scene": candidates, "1,000": many}.items():
    kept_flags, rounds = resolve(suppression_library.overlap_matrix(some, 0.4))
    print(f"{name}: {len(some)} boxes, {rounds} rounds")

# %% [markdown]
# Real boxes come in heaps, not in chains: a handful of rounds, whatever N is. The worst case is still the chain's.
# This is what `csrc/nms/nms.cu` does, in strips of 2,048 boxes, so that its table of bits never grows: 2,048² / 8
# bytes are half a MiB, for any N. Its rounds:

# %%
lab.show("nms/nms.cu", "bool changed = true;", "for (int r = 0; r < boxes_per_thread; ++r) {")

# %% [markdown]
# ### 2. Softly
#
# Two people dance, and NMS drops one of them: their boxes are too alike. Soft-NMS (Bodla et al., 2017) drops nobody.
# It lowers the score of a box that overlaps a better one, by the factor exp(−IoU² / σ), and so the more the more they
# overlap:
#
# repeat N times: take the best box still in play out of play; lower the scores of all that are still in play.


# %% exercise="soft_nms"
def soft_nms(boxes, scores, sigma):
    """The lowered scores (N,), in the order of `boxes` (N, 4). About 8 lines."""
    ...


# %% [markdown] solution="soft_nms"
# <details><summary>Solution</summary>
#
# ```python
# from mrcnn import boxes as box_maths
#
#
# def soft_nms(boxes, scores, sigma):
#     scores = scores.clone()
#     in_play = torch.ones_like(scores, dtype=torch.bool)
#     for _ in range(len(scores)):
#         best = scores.where(in_play, -1.0).argmax()
#         in_play[best] = False
#         iou = box_maths.iou(boxes[best][None], boxes)[0]
#         scores = scores.where(~in_play, scores * torch.exp(-(iou**2) / sigma))
#     return scores
# ```
#
# The best box may change in each step, since scores fall: a sort beforehand is not enough.
#
# </details>

# %%
soft_nms = check(suppression.soft_nms, soft_nms)
print("A to E:", [round(score, 2) for score in soft_nms(five, five_scores, 0.5).tolist()])

# %% [markdown]
# ### 3. By their masks
#
# Two sticks that cross have nearly the same box, and hardly a pixel in common. With masks one can say so. The
# intersections of all pairs of masks are one matrix product: flatten each mask to a row of zeros and ones, and
# multiply each row with each.


# %% exercise="mask_iou"
def mask_iou(masks):
    """IoU of all pairs of masks, uint8 (K, H, W) of 0 and 1: float (K, K). About 4 lines."""
    ...


# %% [markdown] solution="mask_iou"
# <details><summary>Solution</summary>
#
# ```python
# def mask_iou(masks):
#     rows = masks.flatten(1).float()  # (K, H·W); uint8 would wrap round at 256
#     intersection = rows @ rows.T
#     area = rows.sum(1)
#     return intersection / (area[:, None] + area[None, :] - intersection)
# ```
#
# The scan is the same as ever: `scan_rows((mask_iou(masks) > 0.5).triu(1))`.
#
# </details>

# %%
mask_iou = check(suppression.mask_iou, mask_iou)

line = torch.eye(40, dtype=torch.uint8)
sticks = torch.stack([line | line.roll(1, 0), (line | line.roll(1, 0)).flip(1)])
boxes_of_sticks = torch.tensor([[0.0, 0, 40, 40], [0, 0, 40, 40]])
print("by boxes:", scan_rows(overlap_matrix(boxes_of_sticks, 0.5)).tolist())
print("by masks:", scan_rows((mask_iou(sticks) > 0.5).triu(1)).tolist())

# %% [markdown]
# ### 4. Questions
#
# **a.** Half of the tiles lie below the diagonal. Which blocks could return at once? What must the scan then not do?
#
# <details><summary>Answer</summary>
#
# Blocks with `blockIdx.x < blockIdx.y`: all their j are smaller than all their i, so their words are 0. They can
# leave the words unwritten if the scan never reads them: row i begins with word `i / 64`. It does not even need the
# zeros, since bits of earlier boxes no longer matter. With many tiles that halves the comparisons.
#
# </details>
#
# **b.** The library's words have 32 bits, not 64. What else on a GPU comes in 32?
#
# <details><summary>Answer</summary>
#
# A warp: 32 threads that go together. `__ballot_sync` collects one yes or no of each into a 32-bit word, in one
# instruction. Where each thread has one box, the word makes itself: see `nms_resolve` in `csrc/nms/nms.cu`.
#
# </details>
#
# **c.** In `scan_words`, take out the second barrier of the loop, then the first, and run `check` each time. For
# which one does it complain of a wrong answer?
#
# <details><summary>Answer</summary>
#
# Without the last barrier a thread reads bit i + 1 of a word that its owner has not yet brought up to date: wrong
# boxes. Without the one between reading and writing, a thread may read a word while another changes it; but row i
# only changes bits *after* i, and bit i is all that is read. The answer stands, though by the rules of the language
# it is still a race.
#
# </details>
#
# ## What we left out
#
# - **Sorting.** It is done by `torch.sort`, stable; on a GPU a large part of NMS's time for few boxes.
# - **The wait.** How many boxes are kept is only known on the GPU; Python must wait for that number to make the
#   result's shape.
# - **Doing without.** A threshold is a guess: high, and duplicates stay; low, and people in a crowd vanish. Detectors
#   that compare their own answers with attention (DETR: Carion et al., 2020) need no NMS.
#
# **Read on** `csrc/nms/nms.cu`, top to bottom: compare, resolve, suppress. `csrc/nms/nms_cpu.cpp`: many lanes at once,
# and no division unless it matters. Lesson 07: from the boxes that are left, back to the features.
