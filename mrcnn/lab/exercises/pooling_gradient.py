"""The exercises of lesson 07 about RoIAlign's gradient: scattered with atomics, or gathered cell by cell."""

import math

import torch
from torch import Tensor

from mrcnn import ops

from ..check import Exercise, NotWritten, Wrong
from ..kernels import device
from .pooling import BINS, ROIS, SAMPLES, SCALE, THREADS, blocks, compare, mistaken


def _gradient(grad: Tensor, rois: Tensor, shape, samples: int, scale: float, aligned: bool = True) -> Tensor:
    """The gradient of RoIAlign for the features of `shape` (N, C, H, W), from that of its output (K, C, bins, bins)."""
    features = torch.zeros(shape, device=grad.device, requires_grad=True)
    ops.roi_align(features, rois, grad.shape[-1], scale, samples, aligned).backward(grad)
    return features.grad


def _launch_gradient(threads_for):
    """A kernel (grad, rois, grad_features, count, rois or channels ...); threads_for(grad, shape): how many threads."""

    def wrap(kernel):
        def launch(run, grad: Tensor, rois: Tensor, shape, samples: int, scale: float):
            bins, (_, channels, height, width) = grad.shape[-1], shape
            out = torch.zeros(shape, device=grad.device)
            count = threads_for(grad, shape)
            sizes = (count, len(rois), channels, height, width, bins, samples, scale)
            return out, run[blocks(count), THREADS](grad, rois, out, *sizes)

        def gradient(*arguments) -> Tensor:
            out, _ = launch(kernel, *arguments)
            if not out.any():
                raise NotWritten
            return out

        gradient.trace = lambda *arguments: launch(kernel.trace, *arguments)[1]
        return gradient

    return wrap


def _judge_gradient(answer) -> None:
    shape = (2, 3, 9, 12)
    grad = torch.randn(len(ROIS), 3, BINS, BINS, generator=torch.Generator().manual_seed(5))

    def pull(rois, scale, aligned):
        return _gradient(grad, rois, shape, SAMPLES, scale, aligned)

    want = pull(ROIS, SCALE, True)
    here = device()
    arguments = (grad.to(here), ROIS.to(here), shape, SAMPLES, SCALE)
    got = answer(*arguments).cpu()
    races = [finding for finding in answer.trace(*arguments).findings if "a race" in finding]
    if races:
        raise Wrong(f"the values may look right here, but two threads can lose each other's sums. {races[0]}")
    compare(
        got,
        want,
        [
            (
                "too large by samples * samples: the output is a mean, so each sample gets only that share of its "
                "gradient",
                want * SAMPLES**2,
            ),
            ("each cell gets its sums twice", want * 2),
            *mistaken(pull, ROIS, BINS, SAMPLES, SCALE),
            (
                "what lies outside the map is lost: a sample less than a cell outside is moved to the border cell",
                _without_border(grad, shape),
            ),
        ],
    )


def _without_border(grad: Tensor, shape) -> Tensor:
    """As if the map went on with zeros beyond its edge."""
    margin, (n, c, height, width) = 4, shape
    shift = torch.tensor([0.0] + 4 * [margin / SCALE])
    larger = _gradient(grad, ROIS + shift, (n, c, height + 2 * margin, width + 2 * margin), SAMPLES, SCALE)
    return larger[:, :, margin:-margin, margin:-margin]


scatter = Exercise(_judge_gradient, _gradient, _launch_gradient(lambda grad, shape: grad.numel()))
gather = Exercise(_judge_gradient, _gradient, _launch_gradient(lambda grad, shape: math.prod(shape)))
