"""Making it fast, and shipping an op: what the learner writes."""

import torch
from torch import Tensor

from mrcnn.lab.check import KernelExercise, Launch, Out, exercise


def some(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@exercise(
    cases=lambda: [
        ([some(2, 3, 5), some(3)],),
        ([some(4, 6).half(), some(4, 6).double(), torch.ones(7, dtype=torch.bool)],),
        ([some(6, 4).T, some(8, 4)[:3], torch.tensor(1.0)],),
    ],
    truth=lambda tensors: sum(len(bytes(each.contiguous().view(-1).view(torch.uint8).tolist())) for each in tensors),
    mistakes={
        "each.numel() * each.element_size() ⇒ 4 * each.numel()": "not every number has 4 bytes: float16 has 2, bool 1. "
        "`each.element_size()` tells",
        "each.numel() * each.element_size() ⇒ each.numel()": "a count, not bytes: times `each.element_size()`",
        "each.numel() * each.element_size() ⇒ each.numel() * each.element_size() * 8": "these are bits: a byte has "
        "eight of them, and `element_size()` is in bytes already",
        "each.numel() * each.element_size() ⇒ each.untyped_storage().nbytes()": "a slice such as x[:2] shares the "
        "memory of all of x: count its own numbers alone",
        "each.numel() * each.element_size() ⇒ len(each) * each.element_size()": "`len` is the first size alone: "
        "`numel()` counts all numbers, also those of a tensor without sizes",
        "each.numel() * each.element_size() ⇒ each.element_size()": "the bytes of one number of each tensor: times "
        "`each.numel()`",
        "sum(each.numel() * each.element_size() for each in tensors) ⇒ sum(each.numel() for each in tensors) * "
        "tensors[0].element_size()": "each tensor has a type of its own: ask each for its `element_size()`",
    },
    hints=[
        "How many numbers does a tensor hold, and how many bytes has each?",
        "`each.numel()` and `each.element_size()`",
        "`sum(each.numel() * each.element_size() for each in tensors)`",
    ],
)
def bytes_of(tensors):
    """How many bytes the numbers of these tensors take, together: an int. tensors: a list, of any shapes and types."""
    return sum(each.numel() * each.element_size() for each in tensors)


@exercise(
    cases=lambda: [(1e9, 8e9, 100e9, 20e9), (500e9, 1e9, 100e9, 20e9), (5e9, 1e9, 100e9, 20e9), (3.0, 8.0, 100.0, 4.0)],
    truth=lambda operations, moved, peak, bandwidth: operations / max(operations / peak, moved / bandwidth),
    tolerance=1e-9,
    mistakes={
        "min(peak, operations / moved * bandwidth) ⇒ max(peak, operations / moved * bandwidth)": "the lower of the two "
        "roofs is the limit: min",
        "operations / moved ⇒ moved / operations": "intensity is operations per byte; this is bytes per operation",
        "min(peak, operations / moved * bandwidth) ⇒ operations / moved * bandwidth": "with many operations per byte "
        "this passes what the core can calculate: it is never above `peak`",
        "min(peak, operations / moved * bandwidth) ⇒ min(peak, bandwidth)": "bytes a second are no operations a "
        "second: each byte brings `operations / moved` of them",
        "min(peak, operations / moved * bandwidth) ⇒ operations / (operations / peak + moved / bandwidth)": "the two "
        "times were added. Memory is read while others are multiplied: the longer of the two counts",
        "min(peak, operations / moved * bandwidth) ⇒ max(operations / peak, moved / bandwidth)": "these are the "
        "seconds; wanted are operations a second",
        "min(peak, operations / moved * bandwidth) ⇒ peak": "with few operations per byte the core waits: memory is a "
        "limit, too",
        "min(peak, operations / moved * bandwidth) ⇒ operations / moved": "this is the intensity, operations per byte: "
        "how many bytes come in a second?",
        "operations / moved ⇒ operations": "bandwidth is bytes a second: times the operations of one byte, not of all",
        "operations / moved ⇒ operations // moved": "`//` cuts the fraction off: an op with less than one operation "
        "per byte would do nothing",
    },
    hints=[
        "If the core could calculate without end, how many operations a second would the memory allow?",
        "A second brings `bandwidth` bytes, a byte `operations / moved` operations. But never more than `peak`.",
        "`min(peak, operations / moved * bandwidth)`",
    ],
)
def attainable(operations, moved, peak, bandwidth):
    """Operations a second at best. operations: of the op; moved: its bytes; peak: operations a second; bandwidth:
    bytes a second."""
    return min(peak, operations / moved * bandwidth)


def plain(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """The op in PyTorch: three passes over a map."""
    return torch.relu(x * scale[:, None, None] + shift[:, None, None])


def rows_of(rows: int, channels: int, nan: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    x = some(rows, channels, seed=1)
    if nan:
        x[1, 0] = torch.nan
    return x, some(channels, seed=2), some(channels, seed=3)


affine_relu = KernelExercise(
    """// y = max(0, x * scale + shift). x, y: `rows` rows of `channels` numbers, one row after the other;
// scale, shift: a number for each channel. What is NaN stays NaN.
void affine_relu(const float* x, const float* scale, const float* shift, float* y, int rows, int channels) {
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < channels; ++c) {
      «float value = x[r * channels + c] * scale[c] + shift[c];
      y[r * channels + c] = value < 0 ? 0 : value;»
    }
}""",
    launch=lambda x, scale, shift: Launch((x, scale, shift, Out(tuple(x.shape)), *x.shape)),
    cases=lambda: [rows_of(7, 5), rows_of(4, 6, nan=True), rows_of(3, 1)],
    truth=lambda x, scale, shift: plain(x.T[None, :, :, None], scale, shift)[0, :, :, 0].T,
    mistakes={
        "value < 0 ? 0 : value ⇒ value": "what is below 0 must become 0",
        "value < 0 ? 0 : value ⇒ value > 0 ? value : 0": "a NaN became 0, and nobody will see what went wrong: NaN > 0 "
        "is false. Ask `value < 0` instead",
        "float value ⇒ int value": "an `int` cuts the fraction off: `float value`",
        " + shift[c] ⇒ ": "shift is not added",
        "* scale[c] + shift[c] ⇒ * scale[0] + shift[0]": "each channel has its own scale and shift: [c]",
        "* scale[c] + shift[c] ⇒ * (scale[c] + shift[c])": "multiply first, then add: no brackets",
        "x[r * channels + c] * scale[c] + shift[c] ⇒ (x[r * channels + c] + shift[c]) * scale[c]": "shift is added "
        "last, and is not scaled: first times scale[c], then + shift[c]",
        "x[r * channels + c] ⇒ x[c]": "that reads row 0 again and again: row r begins at r * channels",
        "r * channels + c ⇒ c * rows + r": "a row's channels lie side by side: number c of row r is r * channels + c",
        "x[r * channels + c] * scale[c] + shift[c] ⇒ (x[r * channels + c] < 0 ? 0 : x[r * channels + c]) * scale[c] + "
        "shift[c]": "first scale and shift, then cut off at 0",
        "value < 0 ? 0 : value ⇒ x[r * channels + c] < 0 ? shift[c] : value": "x was cut off at 0 before scale and "
        "shift: what they make of it is to be cut off",
        "value < 0 ? 0 : value ⇒ value - shift[c] < 0 ? shift[c] : value": "it was cut off at 0 before shift was added",
    },
    hints=[
        "Where is number c of row r, if each row has `channels` numbers?",
        "float value = x[r * channels + c] * …; and then? `a ? b : c` is C++ for Python's `b if a else c`.",
        "y[r * channels + c] = value < 0 ? 0 : value;",
    ],
    language="cpp",
)


@exercise(
    cases=lambda: [(2, 3, 5, 7), (1, 64, 16, 8), (4, 2, 6, 3)],
    truth=lambda n, c, h, w: torch.empty(n, c, h, w, memory_format=torch.channels_last).stride(),
    mistakes={
        "h * w * c, 1, w * c, c ⇒ c * h * w, h * w, w, 1": "these are the strides of a map as PyTorch makes it: the "
        "columns lie side by side. Here the channels do",
        "h * w * c, 1, w * c, c ⇒ h * w * c, w * c, c, 1": "strides stand in the order of the sizes, N, C, H, W: the 1 "
        "belongs to the channel",
        "h * w * c, 1, w * c, c ⇒ n * h * w * c, 1, w * c, c": "to the next picture it is one picture, h * w * c",
        "h * w * c, 1, w * c, c ⇒ h * w * c, 1, h * c, c": "a row has w cells: to the next it is w * c",
        "h * w * c, 1, w * c, c ⇒ h * w * c, 1, w, c": "a row has w cells of c numbers each: to the next it is w * c",
        "h * w * c, 1, w * c, c ⇒ 4 * h * w * c, 4, 4 * w * c, 4 * c": "strides count numbers, not bytes",
        "h * w * c, 1, w * c, c ⇒ h * w * c, 1, c, w * c": "rows and columns are swapped: to the next row it is a "
        "whole row, w * c, to the next column one cell, c",
        "h * w * c, 1, w * c, c ⇒ h * w, 1, w * c, c": "a picture has h * w cells of c numbers each",
    },
    hints=[
        "The numbers lie as n, h, w, c: the last changes first. How far is it from one channel to the next?",
        "1 for a channel, c for a column. A row has w columns, a picture h rows.",
        "Picture, channel, row, column: `h * w * c, 1, …, c`",
    ],
)
def strides(n, c, h, w):
    """The four strides of a channels_last tensor of shape (n, c, h, w), in this order: a tuple."""
    return h * w * c, 1, w * c, c


def by_autograd(grad: Tensor, x: Tensor, scale: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """PyTorch's own gradient, with the shift that y must have had where it is not 0 (and none where all is)."""
    shift = torch.stack([
        (y[:, c] - x[:, c] * scale[c])[y[:, c] > 0].mean() if (y[:, c] > 0).any() else torch.tensor(-1e6)
        for c in range(len(scale))
    ])  # fmt: skip
    leaves = [each.detach().clone().requires_grad_() for each in (x, scale, shift)]
    return torch.autograd.grad(plain(*leaves), leaves, grad)


def backwards(*shape: int) -> tuple[Tensor, ...]:
    x, scale, shift = some(*shape, seed=4), some(shape[1], seed=5), some(shape[1], seed=6)
    return some(*shape, seed=7), x, scale, plain(x, scale, shift)


@exercise(
    cases=lambda: [backwards(2, 3, 4, 5), backwards(1, 4, 3, 3)],
    truth=by_autograd,
    tolerance=1e-3,
    mistakes={
        "passed = grad * (y > 0) ⇒ passed = grad": "where ReLU cut off, y does not change with x: no gradient passes",
        "(y > 0) ⇒ (x > 0)": "ReLU cut off where y is 0, which has nothing to do with x > 0",
        "passed = grad * (y > 0) ⇒ passed = grad * y": "the gate is open or shut, 1 or 0: y > 0, not y itself",
        "passed * scale[:, None, None] ⇒ passed": "x is multiplied by scale, and so is its gradient",
        "(passed * x).sum((0, 2, 3)) ⇒ passed.sum((0, 2, 3))": "by how much y changes with scale is x: sum passed * x",
        "(passed * x).sum((0, 2, 3)) ⇒ (passed * y).sum((0, 2, 3))": "by how much y changes with scale is x, not y",
        "(0, 2, 3) ⇒ (2, 3)": "all pictures share a channel's scale and shift: sum over pictures, rows and columns",
        ".sum((0, 2, 3)) ⇒ .mean((0, 2, 3))": "every place adds its share: the sum, not the mean",
        ".sum((0, 2, 3)) ⇒ .sum()": "each channel has a scale and a shift of its own, so keep the channels: sum over "
        "0, 2, 3",
        "(passed * x).sum((0, 2, 3)), passed ⇒ passed.sum((0, 2, 3)), (passed * x)": "the second is scale's and the "
        "third shift's: in the order of the arguments",
        "passed = grad * (y > 0) ⇒ passed = grad * (grad > 0)": "what ReLU cut off is seen in y; the sign of grad says "
        "nothing of it",
        "passed * scale[:, None, None] ⇒ grad * scale[:, None, None]": "the first: to x, too, only that gets back "
        "which ReLU let pass",
        "passed.sum((0, 2, 3)) ⇒ grad.sum((0, 2, 3))": "the third: to shift, too, only that gets back which ReLU let "
        "pass",
    },
    hints=[
        "Through which numbers does ReLU let a change pass? You can see it in y.",
        "`passed = grad * (y > 0)`. Then y = x * scale + shift: by how much does it change with each of the three?",
        "`passed * scale[:, None, None]`, `(passed * x).sum((0, 2, 3))`, `passed.sum((0, 2, 3))`",
    ],
)
def gradients(grad, x, scale, y):
    """The gradients of x (N, C, H, W), scale (C,) and shift (C,): a tuple.

    grad: that of y, which is relu(x * scale + shift), of the same shape as x.
    """
    passed = grad * (y > 0)
    return passed * scale[:, None, None], (passed * x).sum((0, 2, 3)), passed.sum((0, 2, 3))


# (threads, registers, shared bytes): blocks, as the calculator in CUDA's toolkit has it (cuda_occupancy.h, 9.0).
CALCULATED = {
    (128, 29, 4096): 16, (128, 71, 6144): 7, (256, 96, 20480): 2, (64, 72, 6144): 14, (32, 16, 0): 32,
    (1024, 72, 0): 0, (192, 40, 0): 8, (320, 56, 1000): 3, (256, 32, 49152): 4, (32, 32, 10240): 20,
    (100, 32, 0): 16, (64, 255, 0): 4, (160, 48, 0): 8, (128, 48, 20480): 10, (128, 81, 0): 5,
    (256, 16, 0): 8, (96, 96, 0): 6, (100, 16, 0): 16,
}  # fmt: skip


@exercise(
    cases=lambda: list(CALCULATED),
    truth=lambda *case: CALCULATED[case],
    mistakes={
        "-(-32 * registers // 256) * 256 ⇒ 32 * registers": "a warp's registers come in packs of 256: round up",
        "4 * (16384 // pack) // warps ⇒ 65536 // pack // warps": "a warp's registers lie in one quarter: what is left "
        "over in two of them makes no place for another warp. 4 * (16384 // pack) warps",
        "4 * (16384 // pack) // warps ⇒ 4 * (16384 // pack // warps)": "a block need not lie in one quarter, only "
        "each of its warps: count warps in all four, then divide by the warps of a block",
        "-(-threads // 32) ⇒ threads // 32": "a warp that is not full takes as much as a full one: round up",
        ", 233472 // (shared_bytes + 1024) ⇒ ": "shared memory is a limit too: 233,472 bytes, and each block takes "
        "1,024 more than it asks for",
        "(shared_bytes + 1024) ⇒ max(shared_bytes, 1)": "each block takes 1,024 bytes more of shared memory than it "
        "asks for",
        ", 64 // warps ⇒ ": "at most 64 warps, whatever they take",
        "return min(32, ⇒ return min(10**9,": "at most 32 blocks, however small they are",
        "4 * (16384 // pack) // warps, ⇒ ": "registers are a limit, too",
        "64 // warps ⇒ 2048 // threads": "a warp that is not full takes a whole place: count warps, not threads",
        "4 * (16384 // pack) // warps ⇒ 65536 // (threads * registers)": "registers are not given out one by one, but "
        "by the warp: 32 times those of a thread, rounded up to a multiple of 256",
        "(shared_bytes + 1024) ⇒ shared_bytes": "where a block asks for no shared memory this divides by 0; but each "
        "takes 1,024 bytes more than it asks for",
        "min( ⇒ max(": "whatever runs out first is the limit: the smallest of these numbers",
    },
    hints=[
        "How many blocks would each of the four limits allow, if it were alone?",
        "Round up: `-(-threads // 32)` warps; a warp takes `-(-32 * registers // 256) * 256` registers. A quarter has "
        "room for `16384 // pack` warps.",
        "`min(32, 64 // warps, 4 * (16384 // pack) // warps, 233472 // (shared_bytes + 1024))`",
    ],
)  # fmt: skip
def blocks_at_once(threads, registers, shared_bytes):
    """How many blocks one multiprocessor of an H100 holds at a time.

    threads: of a block; registers: of a thread; shared_bytes: of a block.
    """
    warps = -(-threads // 32)
    pack = -(-32 * registers // 256) * 256
    return min(32, 4 * (16384 // pack) // warps, 233472 // (shared_bytes + 1024), 64 // warps)
