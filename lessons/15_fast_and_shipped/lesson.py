# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # Making it fast, and shipping an op
#
# Where the milliseconds of a model go, what the machine could do at best, and an op of one's own, from a loop in C++ to a file
# that others can run.
#
# **You will** count bytes, draw a roofline, write an op with its gradient, make it known to PyTorch, test, compile and
# export it, and work out what a kernel takes of a GPU that you do not have.
#
# **Time** about 60 minutes. **Know first** RoIAlign (lesson 07), batch norm (02). The kernel track is not needed.
#
# **Files** `csrc/library.cpp`, `mrcnn/ops/pooling.py`, `benchmarks/`.

# %%
import functools
import io
import logging
import os
import re
import warnings

import exercises
import pictures
import torch
from exercises import plain
from torch.profiler import ProfilerActivity, profile, record_function

import mrcnn
from mrcnn import lab, ops
from mrcnn.data import Playground
from mrcnn.lab import check
from mrcnn.lab.cases import random_boxes
from mrcnn.lab.cuda import CSRC
from mrcnn.lab.views.curves import Panel, curves

# %load_ext mrcnn.lab
os.environ["KINETO_LOG_LEVEL"] = "99"  # that there may be no GPU, profiler and compiler need not remark
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
torch.manual_seed(0)
torch.set_num_threads(1)  # one core for all: our own loop will have one, and we want to compare

# %% [markdown]
# ## A picture first: where the milliseconds go
#
# To make a program faster, measure first. PyTorch's **profiler** writes down when each op began and ended. We
# give names to the parts of the small trained model, send eight scenes through it, and add up.


# %%
def named(name, function):
    """The function, under a name that the profiler writes down."""

    def call(*arguments):
        with record_function("part: " + name):
            return function(*arguments)

    return call


model = mrcnn.playground_rcnn(pretrained=True)
predict = model.roi_heads.predict
model.backbone.forward = named("backbone", model.backbone.forward)
model.rpn.forward = named("RPN", model.rpn.forward)
model.roi_heads.predict = lambda head, *rest: named(f"{head} head", predict)(head, *rest)
scenes = [Playground(8, seed=77)[i][0] for i in range(8)]

LETTERS = {"multiply-adds": "M", "ops of mrcnn": "O", "other ops": "S", "Python": "P"}


def kind(event):
    """What sort of work an event of the profiler is."""
    if event.startswith("mrcnn::"):
        return "ops of mrcnn"  # RoIAlign and NMS
    if any(word in event for word in ("conv", "::mm", "addmm", "bmm", "matmul")):
        return "multiply-adds"  # convolutions and matrix products
    # What is in a part, but in none of its ops, is Python.
    return "Python" if event.startswith("part: ") else "other ops"


def measured():
    """Milliseconds by part and kind, of one run."""
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU]) as seen:
        with record_function("part: all else"):
            model(scenes)
    names = ("backbone", "RPN", "box head", "mask head", "keypoint head", "all else")
    spent = {name: dict.fromkeys(LETTERS, 0.0) for name in names}
    for event in seen.events():
        around = event  # which part is it in? An event knows what called it
        while around is not None and not around.name.startswith("part: "):
            around = around.cpu_parent
        if around is not None:
            spent[around.name.removeprefix("part: ")][kind(event.name)] += event.self_cpu_time_total / 1000
    return spent


measured()  # the first run is always slow
spent = measured()
pictures.spent(spent)

# %% [markdown]
# ## Predict
#
# Four kinds of work: **M**ultiply-adds of convolutions and fully connected layers; our **O**ps, RoIAlign and NMS; other,
# **s**mall ops, such as sorting, gathering, decoding boxes; and **P**ython itself, between the ops. What share of the time does
# each have?

# %%
my_shares = {"multiply-adds": None, "ops of mrcnn": None, "other ops": None, "Python": None}

# %%
whole = sum(sum(each.values()) for each in spent.values())
for each in LETTERS:
    print(f"{each:<14}{sum(part[each] for part in spent.values()) / whole:6.1%}   you said {my_shares[each]}")
pictures.spent(spent, LETTERS)

# %% [markdown]
# (The profiler takes time at each op: many small ones look a little worse than they are.) "All else" is mostly the end:
# masks are pasted into the picture, heatmaps enlarged.
#
# This shows where work could pay, and how much at most: a part with a tenth of the time, made infinitely fast, brings a
# tenth. It does not show whether a part *could* be faster. For that: what can the machine do?
#
# ## Build it: two limits
#
# Every op reads numbers from memory, calculates, and writes numbers. Memory moves so many bytes a second, its **bandwidth**; a
# core does so many operations a second, its peak. Neither can be passed. (One multiply-add counts as two operations.)
#
# So count bytes. At the very least, an op reads each input once and writes each output once.

# %% exercise="bytes_of"

# %% [markdown]
# Bandwidth we take from a copy, which calculates nothing; the peak from the better of a product of matrices and a
# convolution, which do hardly anything else. Of nine runs the fastest counts: other programs only ever add time.

# %%
x = torch.randn(16, 64, 128, 128).contiguous(memory_format=torch.channels_last)
y = torch.empty_like(x)
few, kernel = x[:2], torch.randn(64, 64, 3, 3).contiguous(memory_format=torch.channels_last)
square = torch.randn(1024, 1024)
times = lab.timed(
    {
        "copy": lambda: y.copy_(x),
        "product of 1024 by 1024": lambda: square @ square,
        "convolution, 3 by 3": lambda: torch.conv2d(few, kernel, padding=1),
    },
    9,
    of=min,
)
copy_ms, product_ms, convolution_ms = times.values()
bandwidth = bytes_of([x, y]) / copy_ms * 1000
peak = max(2 * 1024**3 / product_ms, 2 * few.numel() * 64 * 9 / convolution_ms) * 1000
print(f"{bandwidth / 1e9:.1f} GB a second, {peak / 1e9:.0f} billion operations a second")
print(f"in the time of one byte: {peak / bandwidth:.1f} operations. bytes_of is {lab.whose(bytes_of)}")

# %% [markdown]
# An op's **arithmetic intensity** is the number of its operations for each byte that it must move. With few, the core waits for
# memory; with many, memory waits for the core. Both together give a roof that no op passes: the **roofline**.

# %% exercise="attainable"

# %% [markdown]
# **Predict**: which of these can come near the core's peak, and which never will?
#
# - A batch norm with constant statistics, `x * scale + shift`, and ReLU: three operations for each number.
# - A 3 × 3 convolution, 64 channels to 64.
# - The first fully connected layer of the large model's box head, 12,544 numbers to 1,024: for 100 RoIs, and for 1.
# - RoIAlign.

# %%
my_near_the_peak = []

# %%
scale, shift = torch.randn(64), torch.randn(64)
S, B = scale[:, None, None], shift[:, None, None]
weight = torch.randn(1024, 12544)
rows, row = torch.randn(100, 12544), torch.randn(1, 12544)
maps = torch.randn(1, 256, 100, 152).contiguous(memory_format=torch.channels_last)
rois = torch.cat([torch.zeros(100, 1), 5 * random_boxes(100, seed=0)], dim=1)
pooled = ops.roi_align(maps, rois, 7, 0.25, 2)

work = {  # how it is run; operations; what it must move
    "norm and ReLU": (lambda: torch.mul(x, S, out=y).add_(B).relu_(), 3 * x.numel(), [x, y]),
    "convolution, 3 by 3": (
        lambda: torch.conv2d(few, kernel, padding=1),
        2 * 9 * 64 * few.numel(),
        [few, few, kernel],  # the result is as large as `few`
    ),
    "100 RoIs, fully connected": (lambda: rows @ weight.T, 2 * 100 * weight.numel(), [rows, weight]),
    "1 RoI, fully connected": (lambda: row @ weight.T, 2 * weight.numel(), [row, weight]),
    "RoIAlign, 100 RoIs": (
        lambda: ops.roi_align(maps, rois, 7, 0.25, 2),
        2 * 4 * 4 * pooled.numel(),  # of each bin, 4 samples between 4 cells
        [maps, rois, pooled],
    ),
}
times = lab.timed({name: run for name, (run, _, _) in work.items()}, 9, of=min)

# %% tags=["cover"]
dots = {}
for name, (_, operations, moved) in work.items():
    dots[name] = operations / bytes_of(moved), operations / times[name] * 1000
    best = attainable(operations, bytes_of(moved), peak, bandwidth)
    print(f"{name:<26}{dots[name][0]:7.2f} operations per byte: at best {best / 1e9:5.1f} billion a second")
print(f"attainable is {lab.whose(attainable)}. You said: {my_near_the_peak}")
pictures.roofline(peak, bandwidth, dots)

# %% [markdown]
# Left of the dotted line memory is the limit: what stands there gets faster by moving less, not by calculating better. The same layer
# is on both sides: with 100 RoIs each weight that is read serves a hundred times, with one RoI once. That is why a batch is
# faster than its pictures one by one.
#
# A dot *on* the roof is done. One far below could be better. One above it reads more than it writes, which is cheaper, or
# found data in the processor's cache, a small fast memory.

# %% [markdown]
# ## Layout: the same bytes, in another order
#
# Memory comes in packs of neighbouring numbers: reading is cheap where all of a pack is used. RoIAlign reads *all channels* of
# a few cells. PyTorch's usual layout puts the cells of one channel side by side, `channels_last` all channels of one
# cell. And the plain PyTorch that the kernels are tested against has a loop over RoIs. **Predict** the order of the three, and the
# ratios.

# %%
my_order = None

# %%
apart = maps.contiguous()


def reference():
    with ops.use_backend("reference"):
        return ops.roi_align(maps, rois, 7, 0.25, 2)


times = lab.timed(
    {
        "plain PyTorch": reference,
        "the kernel, channels apart": lambda: ops.roi_align(apart, rois, 7, 0.25, 2),
        "the kernel, channels_last": lambda: ops.roi_align(maps, rois, 7, 0.25, 2),
    },
    3,
    of=min,
)
print(f"You said: {my_order}")

# %% [markdown]
# ## An op of one's own
#
# We saw that the norm with ReLU waits for memory. In PyTorch it is three ops, and each reads a whole map and writes one:

# %%
lab.show(plain)

# %% [markdown]
# One pass over the map that does all three is called **fused**. **Predict**: how many times as fast could it be? Count maps.

# %%
my_gain = None

# %%
three, one = bytes_of([x, y] * 3), bytes_of([x, y])
print(f"three passes: {three:,} bytes; one pass: {one:,}; {three / one:.0f} times as fast. You said: {my_gain}")

# %% [markdown]
# Write that pass in C++. The loops are there: with channels last, a map is rows of channels, one row for each cell. `float*` is the place
# where a tensor's numbers begin, `x[i]` is number `i` from there; a line ends with `;`. An `int` is a whole number, a `float` one
# with a fraction; what is `const` is only read. `a ? b : c` is Python's `b if a else c`.

# %% exercise="affine_relu"


# %%
def on_cpu(x, scale, shift):
    """Our function as PyTorch would call it: tensors (N, C, H, W), (C,), (C,) -> (N, C, H, W), channels_last."""
    x = x.contiguous(memory_format=torch.channels_last)  # a copy, if it is not
    y = torch.empty_like(x)
    into(x, scale, shift, y)
    return y


def into(x, scale, shift, y):
    """Memory only: (N, H, W, C) is how the numbers lie."""
    cells = x.numel() // len(scale)
    affine_relu.kernel(x.permute(0, 2, 3, 1), scale, shift, y.permute(0, 2, 3, 1), cells, len(scale))


print("equal:", torch.allclose(on_cpu(x, scale, shift), plain(x, scale, shift), atol=1e-5))
times = lab.timed(
    {
        "the copy": lambda: y.copy_(x),
        "three passes": lambda: torch.mul(x, S, out=y).add_(B).relu_(),
        f"one pass, {lab.whose(affine_relu)}": lambda: into(x, scale, shift, y),
    },
    9,
    of=min,
)
for (name, ms), count in zip(times.items(), (one, three, one), strict=True):
    print(f"{name:<26}{count / ms / 1e6:5.1f} GB a second")
print(f"You said, of three passes against one: {my_gain}")

# %% [markdown]
# What moves as many bytes as a copy cannot be much faster than the copy: if your pass is near it, you are done. (Three passes may cost
# less than three copies. They write to where they have just read; a copy writes to memory that the processor often has
# to fetch first, which nobody counted.)
#
# ### Break it: fresh memory
#
# All three wrote into a tensor that was there. **Predict** what it costs to ask for a new one each time.

# %%
my_fresh = None

# %%
times = lab.timed(
    {
        "copy to where memory is": lambda: y.copy_(x),
        "copy to fresh memory": lambda: x.clone(),
        "three passes, fresh memory": lambda: plain(x, scale, shift),
        "one pass, fresh memory": lambda: on_cpu(x, scale, shift),
    },
    of=min,
)
print(f"You said: {my_fresh}")

# %% [markdown]
# On most systems that costs more than all the arithmetic: the system hands out large memory page by page, as each is first touched, and clears
# it before. So a fused op saves twice, in passes and in maps. (On a GPU, PyTorch keeps freed memory for the next tensor.)
#
# ## From a function to an op
#
# PyTorch does not know our function: it has no gradient, and cannot be compiled or exported with a model. For that we tell
# PyTorch four things.
#
# 1. The **schema**: the op's name, the types of its arguments and results. It is a promise, too: no argument is
#    changed, unless it is marked, as in `Tensor(a!) x`.
# 2. The kernel: the function that runs for tensors on a device, here the CPU. There can be one per device.
# 3. The **fake function**. `torch.compile` and `torch.export` follow a model without its numbers, by shapes, types and strides
#    alone. The fake function says what these will be of the result.
# 4. The gradient.
#
# A stride says how far apart in memory two neighbours are, counted in numbers, along each dimension. Our op's result is
# always channels last.

# %% exercise="strides"

# %% [markdown]
# Now the gradient: backwards, the op gets the gradient of its result, and must give one for each argument.

# %% exercise="gradients"


# %%
libraries = {}


def register(name, kernel, fake=None, backward=None):
    """Makes torch.ops.course.<name>."""
    libraries.pop(name, None)  # where this cell is run a second time, the old one goes first
    library = libraries[name] = torch.library.Library("course", "FRAGMENT")  # names that begin with course::
    library.define(f"{name}(Tensor x, Tensor scale, Tensor shift) -> Tensor")
    library.impl(name, kernel, "CPU")
    if fake:
        torch.library.register_fake(f"course::{name}", fake, lib=library)
    if backward:
        torch.library.register_autograd(f"course::{name}", backward, setup_context=keep, lib=library)
    return getattr(torch.ops.course, name).default


def keep(ctx, inputs, output):
    """What the gradient will need is kept from the way there."""
    x, scale, _ = inputs
    ctx.save_for_backward(x, scale, output)


def backward(ctx, grad):
    return gradients(grad, *ctx.saved_tensors)


def fake(x, scale, shift):
    return x.new_empty_strided(x.shape, strides(*x.shape))  # the numbers in it are not looked at


op = register("affine_relu", on_cpu, fake, backward)
print(op._schema)

# %% [markdown]
# ### opcheck, and break it
#
# **opcheck** is PyTorch's judge for ops. It runs the op in four ways: does it keep what the schema promises; is the gradient registered
# where it should be; does the fake function tell the truth; is all the same when compiled, forward and backward?
#
# Here are our op and five broken ones. **Predict** which of them opcheck refuses.
#
# - `no_fake`, and `no_gradient`: that part is missing.
# - `other_strides`: its fake function says `torch.empty_like(x)`, which has the strides of x.
# - `in_place`: it saves memory by writing into x, and returns a copy of that.
# - `wrong_gradient`: it forgets ReLU.

# %%
my_refused = []


# %%
def in_place(x, scale, shift):
    with torch.no_grad():
        return x.copy_(on_cpu(x, scale, shift)).clone(memory_format=torch.channels_last)


def without_relu(ctx, grad):
    x, scale, _ = ctx.saved_tensors
    return gradients(grad, x, scale, torch.ones_like(x))


def some_input():
    """Small, and with the channels apart, as they may well come."""
    return [torch.randn(shape, requires_grad=True) for shape in ((2, 4, 6, 5), (4,), (4,))]


candidates = [
    op,
    register("no_fake", on_cpu, None, backward),
    register("no_gradient", on_cpu, fake, None),
    register("other_strides", on_cpu, lambda x, scale, shift: torch.empty_like(x), backward),
    register("in_place", in_place, fake, backward),
    register("wrong_gradient", on_cpu, fake, without_relu),
]
print(f"{'':<16}schema  gradient  fake  compiled   warnings")
for each in candidates:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        results = torch.library.opcheck(each, some_input(), raise_exception=False).values()
    name, ticks = each._schema.name.split("::")[1], ["✓" if result == "SUCCESS" else "✗" for result in results]
    print("{:<16}{:^6}  {:^8}  {:^4}  {:^8}   {}".format(name, *ticks, len(told) or ""))
print(f"You said: {my_refused}")

# %% [markdown]
# Two got through. `no_gradient` has at least a warning, which says that this "may lead to silently incorrect behavior".
# `wrong_gradient` has none: opcheck compares the op with itself, and does not know what it should calculate. So that needs a
# test of its own, against PyTorch's gradient or, with `torch.autograd.gradcheck`, against small steps.

# %%
for each in (op, candidates[2], candidates[5]):
    ours = some_input()
    theirs = [value.detach().clone().requires_grad_() for value in ours]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        each(*ours).sum().backward()
    plain(*theirs).sum().backward()
    pairs = zip(ours, theirs, strict=True)
    right = all(a.grad is not None and torch.allclose(a.grad, b.grad, atol=1e-3) for a, b in pairs)
    print(f"{each._schema.name:<24}{'as autograd has it' if right else 'WRONG, or none'}")
print(f"strides {lab.whose(strides)}, gradients {lab.whose(gradients)}")

# %% [markdown]
# ## Compiled
#
# `torch.compile` follows a function, and writes kernels of its own for it. Our op it takes as it is, a sealed box. The three plain ops it may
# fuse by itself. **Predict**: is our op faster than the compiled plain one?

# %%
my_winner = None

# %%
ways = {
    "plain": lambda: plain(x, scale, shift),
    f"our op, {lab.whose(affine_relu)}": lambda: op(x, scale, shift),
}
try:
    for name, function in (("plain, compiled", plain), ("our op, compiled", op)):
        compiled = torch.compile(function, fullgraph=True)
        compiled(x, scale, shift)  # it compiles when it is first run
        ways[name] = functools.partial(compiled, x, scale, shift)
except Exception as problem:
    print("It does not work here; it needs a C++ compiler and Python's headers:", type(problem).__name__)
times = lab.timed(ways, of=min)
print(f"You said: {my_winner}")

# %% [markdown]
# The compiler found the same pass, with no line of C++ from us. So write an op of your own for what a compiler
# cannot find: a loop whose end depends on the data, as in NMS; reads at places that are calculated, as in RoIAlign; a table
# that need not exist, as in matching. mrcnn has ops for these three only. And where gradients are off, its batch norms are no
# pass at all: they are in the convolution's weights (lesson 02).
#
# ## Exported
#
# `torch.export` makes a file of a model: its weights, and its graph, which is the ops and what flows between them. `Dim` says
# that the number of pictures may vary.


# %%
class Norm(torch.nn.Module):
    """A layer with our op in it."""

    def __init__(self):
        super().__init__()
        self.scale, self.shift = torch.nn.Parameter(scale.clone()), torch.nn.Parameter(shift.clone())

    def forward(self, x):
        return torch.ops.course.affine_relu(x, self.scale, self.shift)


layer, file = Norm(), io.BytesIO()
exported = torch.export.export(layer, (x[:2],), dynamic_shapes={"x": {0: torch.export.Dim("pictures")}})
torch.export.save(exported, file)
print([str(node.target) for node in exported.graph.nodes if node.op == "call_function"])
file.seek(0)
again = torch.export.load(file).module()
print("five pictures, the same result:", torch.equal(again(x[:5]), layer(x[:5])))

# %% [markdown]
# **Predict**: what does somebody get who has the file, but not our op: the right numbers, slowly; wrong ones; an error?

# %%
my_answer = None

# %%
libraries.pop("affine_relu")
file.seek(0)
logger, told = logging.getLogger("torch.export"), []
logger.addFilter(keeper := lambda record: told.append(str(record.exc_info)))  # pages of it: kept, not printed
try:
    torch.export.load(file)
    print("loaded")
except RuntimeError:
    found = re.search("We failed to resolve .*? to an operator", "".join(told))
    print(found[0] if found else "it cannot be loaded")
print(f"You said: {my_answer}")
logger.removeFilter(keeper)
op = register("affine_relu", on_cpu, fake, backward)  # back again

# %% [markdown]
# The file names the op; it does not hold it. So an op is shipped as a package: a compiled library, and Python that loads it
# and registers fake function and gradient. `import mrcnn` does that. Its library is built against PyTorch's stable interface, so that
# one file serves later versions of PyTorch and Python.
#
# ## What a kernel takes of a GPU, known without one
#
# A GPU runs a kernel in thousands of threads, which come in blocks (lesson 04k has the whole story). An H100 has over a hundred
# **multiprocessors**, and each takes as many blocks as it has room for. 32 threads go together as a warp. While one warp waits for
# memory another can calculate, so many warps hide the waiting. The share of the places for warps that are filled is called
# **occupancy**.
#
# Room for blocks is limited four times over. Each multiprocessor has:
#
# - places for 32 blocks;
# - places for 64 warps;
# - 65,536 registers, a thread's own memory, in four quarters of 16,384. A warp lies in one quarter (a block
#   in several), and takes 32 times the registers of a thread, rounded up to a multiple of 256;
# - 233,472 bytes of memory that a block's threads share. Each block takes 1,024 more than it asks for.
#
# A warp or a block that is not full takes a whole place.

# %% exercise="blocks_at_once"

# %% [markdown]
# How many registers, the compiler decides; it tells them, and the shared memory, without any GPU (`nvcc -Xptxas -v`).
# `benchmarks/kernel_report.py` asks it about every kernel and writes a table into `csrc/README.md`. Some of them:

# %%
rows = re.findall(r"^\| `(.+?)` \|(.*)\|$", (CSRC / "README.md").read_text(), re.MULTILINE)
h100 = {name: re.match(r" (\d+) / ([\d.]+) K", cells.split("|")[3]) for name, cells in rows}  # sm_90
takes = {}  # threads of a block, as csrc/ launches them; registers; shared bytes
for name, threads in {
    "match_anchors_best<float>": 256,
    "nms_compare<float>": 128,
    "nms_resolve": 1024,
    "roi_align_forward<float, 4, true>": 256,
    "roi_align_backward_gather<float>": 256,
}.items():
    takes[name] = threads, int(h100[name][1]), int(1024 * float(h100[name][2]))
    print("{:<34}{:5} threads, {:3} registers each, {:6,} bytes shared".format(name, *takes[name]))

# %% [markdown]
# **Predict** which of these fill all places for warps.

# %%
my_full = []

# %%
for name, (threads, registers, shared) in takes.items():
    blocks = blocks_at_once(threads, registers, shared)
    print(f"{name:<34}{blocks:3} blocks at once, occupancy {blocks * -(-threads // 32) / 64:.0%}")
print(f"blocks_at_once is {lab.whose(blocks_at_once)}. You said: {my_full}")

# %% [markdown]
# ### Break it: one register more
#
# Blocks of 256 threads, 64 registers each. You add a variable, and it becomes 65. **Predict** the occupancy before and after.

# %%
my_before, my_after = None, None

# %%
counts = list(range(24, 129))
warps = {f"blocks of {n}": (counts, [blocks_at_once(n, each, 0) * n // 32 for each in counts]) for n in (256, 1024)}
for each in (64, 65):
    print(f"{each} registers: {blocks_at_once(256, each, 0) * (256 // 32) / 64:.0%}")
print(f"You said: {my_before}, {my_after}")
curves(Panel("warps at once", "registers of a thread", warps, limits=(0, 68)), width=8, height=3.2)

# %% [markdown]
# It goes by steps, and large blocks take large ones: those of 1,024 cannot start with 65. But occupancy is no aim in
# itself: a kernel whose threads have several reads on their way at once needs fewer warps, so RoIAlign's threads take four
# channels each. And who *forces* the compiler to use fewer registers makes values **spill**: they go through memory.
#
# ## The same in Triton, in words
#
# Triton is a language within Python for such kernels. One writes for a whole block at a time: "take these 1,024
# numbers; multiply, add, cut off at 0; store them", and a mask says which of them exist. Threads, shared memory, barriers and
# registers are the compiler's business; the size of the block, the order of reading and the count of bytes stay yours.
#
# ## Now find it in the real file
#
# RoIAlign's schema (a `SymInt` may be unknown while a model is followed), its kernel for the CPU, its fake function and
# its gradient, with a `None` for each argument that has none. It keeps the layout that it is given.

# %%
lab.show("library.cpp", '"roi_align(Tensor', "bool aligned) -> Tensor")
lab.show("roi_align/roi_align_cpu.cpp", "STABLE_TORCH_LIBRARY_IMPL", "}")
lab.show(ops.pooling._register, "roi_align", "        )")
lab.show(ops.pooling._register, "def setup_context", "torch.library.register_autograd")

# %% [markdown]
# ## What we left out, and where to read on
#
# - **Numbers of 16 bits**: half the bytes for each number, and on GPUs units that multiply them faster.
# - **Figures for this library**: `make bench` compares with torchvision, in `benchmarks/results/`; `make gpu-check` does on a GPU.
# - S. Williams, A. Waterman, D. Patterson, *Roofline: An Insightful Visual Performance Model* (2009), sections 3 and 4.
# - V. Volkov, *Better Performance at Lower Occupancy* (2010).
# - P. Tillet, H. T. Kung, D. Cox, *Triton: An Intermediate Language and Compiler for Tiled Neural Network Computations* (2019),
#   section 2.
# - PyTorch's manual, *Custom Operators*; and the tests of an op, `tests/ops/test_roi_align.py`.
