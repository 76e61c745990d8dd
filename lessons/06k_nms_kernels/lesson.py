# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # NMS, down to the thread
#
# A rule whose last step does not want to be done in parallel, and 64 answers in one number.
#
# **You will** write it in C++, then as CUDA kernels: one thread per pair, one thread per 64 pairs, and the scan.
#
# **Time** about 60 minutes. **Know first** the rule (lesson 06, to the chain of nine boxes), and a first kernel, shared memory
# and the barrier (lesson 04k).
#
# **Files** `csrc/nms/`.

# %%
import exercises
import pictures
import torch
from exercises import overlap_matrix

import mrcnn
from mrcnn import lab, ops
from mrcnn.data import Playground
from mrcnn.lab import check
from mrcnn.lab.cases import bits_of, crowd, falling, words_of
from mrcnn.lab.views import threads
from mrcnn.lab.walk import changed

# %load_ext mrcnn.lab
# %matplotlib inline

# %% [markdown]
# ## Two parts
#
# Go down the boxes by score, the best first. Keep a box, unless a box that was kept overlaps it by more than a threshold. That
# falls into two parts: **compare**, which box overlaps which later one; and **scan**, go down the rows of that table. Compare
# is N² questions that do not depend on each other: as many threads as you like can work on it. Scan is a chain. Nine boxes in
# a row, each overlapping the next:

# %%
n = 9
links = torch.tensor([[8.0 * i, 0, 8.0 * i + 20, 10] for i in range(n)]).to(lab.device())
print("kept by the rule:", ops.nms(links, falling(links), 0.4).tolist())

# %% [markdown]
# Box 8 lives because box 7 died, because box 6 lived, ... back to box 0.
#
# ## Break it: everybody asks at once
#
# One **thread** per box asks: does a better box overlap me *that is kept*? `ask_the_kept[1, n]` starts one block of n threads.
# (An `unsigned char` is a whole number of one byte, here 1 for yes and 0 for no. `&&` is "and", `||` "or", `!` "not".)
# **Predict** which boxes are kept if thread 0 is done before thread 1 begins, and so on; and in the opposite order.

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
threads.timeline(seen, threads=range(4), buffers=["kept"], rows=14)

# %% [markdown]
# Go through it yourself, one access at a time, in two orders. In the second: which thread reads a `kept` that will change later?

# %%
runs = {}
for order in ("ascending", "descending"):
    with lab.schedule(order):
        flags = torch.ones(n, dtype=torch.uint8, device=lab.device())
        runs[order] = ask_the_kept.trace[1, n](links, flags, n, 0.4)
lab.stepper(runs, title="Everybody asks at once", buffers=["kept"])

# %% [markdown]
# No barrier saves this kernel as it is: thread 8 must wait for 7, which must wait for 6. What can be done is to make
# the scan *cheap*, and to give all that is not the scan to the threads. That is what the rest of the lesson does.
# (There is another way, rounds, at the end: it is how the library's kernel does it.)
#
# ## Rung 3: C++
#
# First without threads. C++ needs no table: when it keeps a box, it looks at the later ones. So it asks for a pair
# only if it must, and its memory is N bytes instead of N². (`continue` and `break` are as in Python.)

# %% exercise="sorted_nms"

# %% [markdown]
# ## Rung 4: a first kernel, one thread per pair
#
# The table, made by threads: one for each cell. For a table the threads of a block stand in rows and columns, and so do
# the blocks: `.y` says how far down, `.x` how far to the right. All blocks together are the **grid**. Memory is still
# one long line: cell [i, j] of a table with n columns is number `i * n + j`. Run a small one first: 3 × 5 cells, in
# blocks of 2 × 2 threads. Each cell notes its block, x before y.

# %% language="cuda"
# __global__ void which_block(int* x, int* y, int rows, int columns) {
#   int i = blockIdx.y * blockDim.y + threadIdx.y;
#   int j = blockIdx.x * blockDim.x + threadIdx.x;
#   if (i < rows && j < columns) x[i * columns + j] = blockIdx.x, y[i * columns + j] = blockIdx.y;
# }

# %%
x, y = (torch.zeros(3, 5, dtype=torch.int32, device=lab.device()) for _ in range(2))
which_block[(3, 2), (2, 2)](x, y, 3, 5)  # a grid of 3 blocks to the right and 2 down
for across, down in zip(x.tolist(), y.tolist(), strict=True):
    print("  ".join(f"({bx},{by})" for bx, by in zip(across, down, strict=True)))

# %% [markdown]
# The grid is rounded up to whole blocks, so some threads have no cell: they must do nothing. Now the real table, in
# blocks of 16 × 16 threads, each with one pair.

# %% exercise="pair_matrix"


# %%
def scan_rows(overlaps):
    """The scan in PyTorch, of lesson 06."""
    dropped, kept = torch.zeros_like(overlaps[0]), []
    for i in range(len(overlaps)):
        if not dropped[i]:
            kept.append(i)
            dropped |= overlaps[i]
    return torch.tensor(kept, device=overlaps.device)


boxes = crowd(300).to(lab.device())
scores = torch.rand(300, generator=torch.Generator().manual_seed(0)).to(boxes.device)
order = scores.sort(descending=True, stable=True).indices
same = torch.equal(order[scan_rows(pair_matrix(boxes[order], 0.5).bool())], ops.nms(boxes, scores, 0.5))
print(f"with the scan it equals mrcnn.ops.nms: {same} (pair_matrix {lab.whose(pair_matrix)})")

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
# Try it in Python, whose whole numbers take as many bits as they need:

# %%
word = 0
word |= 1 << 1
word |= 1 << 5
print(f"{word} is {word:#b}, bit 0 on the right; bits 0 to 5, read one by one:", [word >> b & 1 for b in range(6)])

# %% [markdown]
# Here is row 0 of a table of 110 boxes: its first word. The boxes are the 110 best that the box head has for our scene,
# taken as one class. (The number above the bits is **hexadecimal**: a digit, 0 to f, stands for four bits. The highest
# digit comes first, so the digits go from right to left where the bits go from left to right.)

# %%
model = mrcnn.playground_rcnn(pretrained=True)
image, _ = Playground(40, seed=3)[6]
with torch.no_grad(), changed(model.roi_heads, "box", nms_iou=1.0, min_score=0.0, detections=110):
    candidates = model([image])[0]["boxes"].to(lab.device())  # (110, 4), by falling score
table = overlap_matrix(candidates, 0.5)
words = words_of(table)
pictures.one_word(table[0, :64].tolist(), row=0, word=0)

# %% [markdown]
# Make such a number yourself, in Python first.

# %% exercise="pack"

# %%
print(f"row 0, word 0: {pack(table[0, :64].tolist()):#018x} ({lab.whose(pack)})")

# %% [markdown]
# Now all rows of all 110 boxes, bit by bit. Each row is two words; the second has bits for 18 boxes that do not exist.
# Black bits belong to boxes that are kept (green rows, numbered), grey ones to dropped boxes, whose bits nobody will
# ask for.

# %% tags=["cover"]
kept = scan_rows(table).tolist()
pictures.word_table(image, candidates, bits_of(words).cpu().numpy(), kept)

# %% [markdown]
# ### The bit loop
#
# One thread makes one whole word: it compares its box i with 64 boxes j. A block has 64 threads, for 64 rows, and all
# make word `w` of their row. So the grid is a grid of *tiles*, each 64 × 64 pairs. (`gridDim.x` says how many blocks
# stand side by side in it: as many as a row has words.) Blocks, x before y:
#
#                 word 0        word 1
#                 j = 0..63     j = 64..127
#     rows 0..63  block (0,0)   block (1,0)
#     64..127     block (0,1)   block (1,1)
#
# Careful: in C++ a plain `1` is a number of 32 bits, and `1 << 40` leaves it. `1ull` has 64, and its type is `unsigned long
# long`. Shift by 0 to 63 only: by 64 or more gives 0 on a GPU and something else on a CPU, so `check` may not see it.
# One thread, one word:

# %% language="cuda"
# __global__ void every_tenth(unsigned long long* words) {
#   unsigned long long word = 0;
#   for (int b = 0; b < 64; ++b)
#     if (b % 10 == 0) word |= 1ull << b;
#   words[0] = word;
# }

# %%
one = torch.zeros(1, dtype=torch.uint64, device=lab.device())
every_tenth[1, 1](one)
print(f"{one.item():#018x}, bits", [b for b in range(64) if one.item() >> b & 1])

# %% [markdown]
# Now with boxes.

# %% exercise="mask_words"

# %% [markdown]
# ### Shared memory
#
# All 64 threads of a block read the same 64 boxes j, each for itself: 64 × 64 reads for 64 boxes. A block has a
# small, fast memory of its own, **shared memory**. Let each thread fetch *one* box j into it, then wait until all
# have (`__syncthreads()`, a **barrier**), and only then read the others' boxes from there. In small: each thread
# fetches a number, and gives back one that another has fetched.

# %% language="cuda"
# __global__ void turn_round(const int* x, int* y) {
#   __shared__ int tile[8];
#   tile[threadIdx.x] = x[threadIdx.x];
#   __syncthreads();
#   y[threadIdx.x] = tile[7 - threadIdx.x];
# }

# %%
forth = torch.arange(8, dtype=torch.int32, device=lab.device())
back = torch.zeros_like(forth)
turn_round[1, 8](forth, back)
print(forth.tolist(), "→", back.tolist())

# %% [markdown]
# Two rules. Without the barrier a thread would read what nobody has fetched yet. And every thread of the block must
# come to the barrier, so nobody may return before it: not even a thread that has no box i. It may well have a box to
# fetch. The bit loop is written already; what comes before it is yours.

# %% exercise="mask_tiles"

# %% [markdown]
# ### The scan over words
#
# Box i is bit `i % 64` of word `i / 64` (between whole numbers, `/` leaves out the rest, and `%` is that rest). To read
# it, try row 0 of our table: threads t = 0 to 63 take the boxes t, t + 64, ... between them.

# %% language="cuda"
# __global__ void read_bits(const unsigned long long* words, unsigned char* bits, int n) {
#   for (int i = threadIdx.x; i < n; i += blockDim.x) bits[i] = words[i / 64] >> (i % 64) & 1;
# }

# %%
bits = torch.zeros(len(table), dtype=torch.uint8, device=lab.device())
read_bits[1, 64](words[0].view(torch.uint64), bits, len(table))
print("box 0 overlaps", bits.nonzero()[:, 0].tolist())

# %% [markdown]
# For the scan, one block of 64 threads goes down all rows together. The words of `dropped` lie in shared memory; thread
# t looks after words t, t + 64, ... For each row i:
#
# 1. all threads read bit i of `dropped`: word `i / 64`, bit `i % 64`;
# 2. a barrier: all have read before anyone writes;
# 3. if the box is kept, each thread adds row i's words to its own: `dropped[w] |= words[i * columns + w]`;
# 4. a barrier: all have written before anyone reads again.
#
# One thread, the first, writes `kept[i]`: 1 or 0. N steps one after the other remain, but each strikes out 64 boxes per
# instruction. The first eight boxes that are kept, for our scene:

# %%
pictures.scan_steps(bits_of(words).cpu().numpy(), kept)

# %% exercise="scan_words"

# %% [markdown]
# That is all of it. Sort, compare, scan:


# %%
def nms_by_words(boxes, scores, threshold):
    order = scores.sort(descending=True, stable=True).indices
    return order[scan_words(mask_tiles(boxes[order], threshold)).nonzero()[:, 0]]


same = torch.equal(nms_by_words(boxes, scores, 0.5), ops.nms(boxes, scores, 0.5))
whose = f"mask_tiles {lab.whose(mask_tiles)}, scan_words {lab.whose(scan_words)}"
print(f"rung 5 equals mrcnn.ops.nms: {same} ({whose})")

# %% [markdown]
# ## How fast is it
#
# Kernels that run thread by thread on the CPU have no time worth telling, so we count: how often do all threads together turn
# to the slow, global memory, for 64 boxes? By arithmetic: a pair reads two boxes, 16 bytes each, and there are 64 × 63 / 2 =
# 2,016 pairs. With a tile, each of the 64 threads fetches one box for all and its own. **Predict** both, in bytes.

# %%
few = crowd(64)
for each in (pair_matrix, mask_words, mask_tiles):
    counts = threads.count_accesses(each.trace(few, 0.5), in_bytes=True)
    result = counts["overlaps" if each is pair_matrix else "words"]
    read = counts["boxes"]["read"]
    print(f"{each.__name__:<12} ({lab.whose(each)}) reads {read:>7,} bytes of boxes, writes {result['write']:>6,}")

# %% [markdown]
# On a GPU the compare step shrinks with the number of threads. The scan does not: N rounds of two barriers. That is the law
# of Amdahl: what cannot be shared out decides in the end. In C++ on a CPU, and with a GPU also there:

# %%
many = crowd(1000)
many_scores = falling(many)
ways = {
    f"C++, {lab.whose(sorted_nms)}": lambda: sorted_nms(many, 0.5),
    "mrcnn.ops, the library's": lambda: ops.nms(many, many_scores, 0.5),
}
if lab.device() == "cuda":
    there = many.to("cuda"), many_scores.to("cuda")
    ways[f"CUDA, {lab.whose(scan_words)}"] = lambda: nms_by_words(*there, 0.5)
    ways["mrcnn.ops on the GPU"] = lambda: ops.nms(*there, 0.5)
milliseconds = lab.timed(ways)

# %% [markdown]
# ## Extra: in rounds, as the library's kernel does it
#
# There is a way to do the scan in parallel after all. Begin with *all* boxes in the set. In each round, every box
# asks at once whether a better box **in the set** overlaps it; those that are not overlapped make the next set. Go on
# until a round changes nothing. After round r the first r boxes are right for good, so it ends, and with the greedy
# answer.
#
# How many rounds does it take? For the chain of nine, and for the scene's candidates? Guess.

# %%
lab.show(exercises.in_rounds)

# %%
for name, some in {"chain": links, "scene": candidates, "1,000": many}.items():
    kept_flags, rounds = exercises.in_rounds(overlap_matrix(some, 0.4))
    print(f"{name}: {len(some)} boxes, {rounds} rounds")

# %% [markdown]
# Real boxes come in heaps, not in chains: a handful of rounds, whatever N is. The worst case is still the chain's.
# This is what `csrc/nms/nms.cu` does, in strips of 2,048 boxes, so that its table of bits never grows: 2,048² / 8
# bytes are half a MiB, for any N. Below is its loop over the rounds. `__syncthreads_or` is a barrier that also tells all
# threads whether any of them said yes: did anything change?

# %%
lab.show("nms/nms.cu", "while (__syncthreads_or(changed))", "int before = __popc")

# %% [markdown]
# ## Questions
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
# **c.** In `scan_words`, take out one barrier of the loop, then the other. `check` calls both a race. But only one of them
# can give wrong boxes. Which?
#
# <details><summary>Answer</summary>
#
# Without the last barrier a thread reads bit i + 1 of a word that its owner has not yet brought up to date: wrong
# boxes. Without the one between reading and writing, a thread may read a word while another changes it; but row i
# only changes bits *after* i, and bit i is all that is read. The answer stands, though by the rules of the language
# it is still a race.
#
# </details>

# %% [markdown]
# ## What we left out, and where to read on
#
# - **The wait.** How many boxes are kept is only known on the GPU; Python must wait for that number to make the result's shape.
#
# **Read on** `csrc/nms/nms.cu`, top to bottom: compare, resolve, suppress. `csrc/nms/nms_cpu.cpp`: many lanes at once, and no
# division unless it matters. Lesson 07k: memory that is read the right way round.
