"""The exercises of lesson 07 about RoIAlign's gradient: scattered with atomics, or gathered cell by cell."""

import math

import torch
from torch import Tensor

from ..check import Exercise, NotWritten, Wrong, close
from ..cuda import device
from . import pooling_library as library
from .pooling import BINS, ROIS, SAMPLES, SCALE, THREADS, blocks, compare, mistaken


def _gradient_of(kernel, prepare):
    """The function (grad, rois, shape, samples, scale) that launches a kernel; `prepare` gives its count and sizes."""

    def launch(run, grad: Tensor, rois: Tensor, shape, samples: int, scale: float):
        out = torch.zeros(shape, device=grad.device)
        count, sizes = prepare(grad, rois, shape)
        return out, run[blocks(count), THREADS](grad, rois, out, count, *sizes, grad.shape[-1], samples, scale)

    def gradient(*arguments) -> Tensor:
        out, _ = launch(kernel, *arguments)
        if not out.any():
            raise NotWritten
        return out

    gradient.trace = lambda *arguments: launch(kernel.trace, *arguments)[1]
    return gradient


def _launch_scatter(kernel):  # a thread per output
    return _gradient_of(kernel, lambda grad, rois, shape: (grad.numel(), shape[1:]))


def _launch_gather(kernel):  # a thread per cell
    return _gradient_of(kernel, lambda grad, rois, shape: (math.prod(shape), (len(rois), *shape[1:])))


def _judge_gradient(answer) -> None:
    shape = (2, 3, 9, 12)
    grad = torch.randn(len(ROIS), 3, BINS, BINS, generator=torch.Generator().manual_seed(5))

    def pull(rois, scale, aligned):
        return library.gradient(grad, rois, shape, SAMPLES, scale, aligned)

    want = pull(ROIS, SCALE, True)
    here = device()
    arguments = (grad.to(here), ROIS.to(here), shape, SAMPLES, SCALE)
    faults = answer.trace(*arguments).findings  # before it runs untraced: it may leave its tensors
    if faults and "a race" in faults[0]:
        raise Wrong(f"the sums may look right here, but two threads can lose each other's. {faults[0]}")
    if faults:
        raise Wrong(faults[0])
    got = answer(*arguments).cpu()
    if close(got.sum(), 4 * want.sum()) and not close(got, want * SAMPLES**2):  # too large, but not evenly
        raise Wrong("each of a sample's four cells gets all of it: multiply by the cell's weight")
    both = want.sum(0, keepdim=True).expand(shape)
    share = "the output is a mean, so each sample gets 1 / (samples * samples) of its gradient; here it gets all"
    compare(
        got,
        want,
        [
            (share, want * SAMPLES**2),
            ("each cell gets its sums twice", want * 2),
            ("each image gets the RoIs of all images: leave out those with another roi[0]", both),
            *mistaken(pull, ROIS, BINS, SAMPLES, SCALE),
        ],
    )


scatter = Exercise(judge=_judge_gradient, library=library.gradient, wrap=_launch_scatter)
gather = Exercise(judge=_judge_gradient, library=library.gradient, wrap=_launch_gather)
