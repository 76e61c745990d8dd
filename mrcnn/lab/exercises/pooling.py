"""The exercises of lesson 07: RoIAlign, in Python and as kernels."""

import math

import torch
from torch import Tensor

from mrcnn import ops

from ..check import Exercise, NotWritten, Wrong, close, first_difference, same_shape
from ..cuda import device
from . import pooling_library as library

THREADS = 64  # per block, where the exercise does not say otherwise


def compare(got, want: Tensor, mistakes) -> None:
    """Raise Wrong unless got is `want`; mistakes: (sentence, what one would get with it), the likeliest first."""
    same_shape(got, want)
    if close(got, want):
        return
    for sentence, result in mistakes:
        if close(got, result):
            raise Wrong(sentence)
    if got.isnan().any() and not want.isnan().any():
        raise Wrong(
            f"{int(got.isnan().sum())} of {got.numel()} values are not a number: either nobody wrote them, or what was "
            "read lies outside the map"
        )
    raise Wrong(first_difference(got, want))


# ---- one sample ------------------------------------------------------------------------------------------------------

MAP = torch.tensor([[0.0, 3, 1, 8, 2], [7, 4, 9, 5, 6], [2, 6, 3, 1, 9], [8, 1, 7, 4, 5]])
INSIDE = torch.tensor([[0.25, 1.75], [1.5, 2.0], [2.875, 0.375], [1.625, 3.25]])  # y, x
EDGE = torch.tensor([[3.0, 4.0], [-0.5, 2.25], [3.75, 1.5], [1.5, -0.75], [0.25, 4.5]])
OUTSIDE = torch.tensor([[-1.25, 2.0], [1.0, -3.0], [4.5, 1.0], [2.0, 5.25]])


UNSET = "some or all of `out` was never set: each thread must assign its output (=, not +=), also where the value is 0"
ONE_CELL = "this is one cell's value, the nearest or the top left one. A sample lies between four cells"


def _judge_samples(sample) -> None:
    """`sample(feature_map, points)` -> (P,): inside the map first, then at its edges, then beyond."""
    corner = INSIDE.floor()
    compare(
        sample(MAP, INSIDE),
        library.sample(MAP, INSIDE),
        [
            ("x and y are exchanged: the row comes first, feature_map[y, x]", library.sample(MAP, INSIDE.flip(1))),
            (ONE_CELL, library.sample(MAP, INSIDE.round())),
            (ONE_CELL, library.sample(MAP, corner)),
            (
                "the weights are turned around: the nearer a cell, the MORE it counts. A sample 0.25 below row 0 reads "
                "0.75 of row 0",
                library.sample(MAP, 2 * corner + 1 - INSIDE),
            ),
        ],
    )
    if not close(sample(MAP, EDGE), library.sample(MAP, EDGE)):
        raise Wrong(
            "right inside the map, wrong at its edge: a sample within one cell outside reads the border cell. After "
            "the test for more than one cell outside (step 1), move y and x into the map (step 2), and never read "
            "below the last row or right of the last column (step 3)"
        )
    try:
        outside = sample(MAP, OUTSIDE)
    except NotWritten as problem:  # a bare `return` there; inside the map it did write
        raise Wrong(UNSET) from problem
    if outside.isnan().any():
        raise Wrong(UNSET)
    if not close(outside, library.sample(MAP, OUTSIDE)):
        raise Wrong(
            "right on the map, wrong far from it: a sample more than one cell outside counts as 0, and is not moved to "
            "the border"
        )


def _judge_bilinear(answer) -> None:
    def sample(feature_map, points):
        try:
            return torch.stack([torch.as_tensor(answer(feature_map, y, x)).float() for y, x in points.tolist()])
        except IndexError as problem:
            raise Wrong(
                "it reads a row or column that the map does not have: in the last row the cell below is that row itself"
            ) from problem

    if answer(MAP, 1.5, 1.5) is None:
        raise NotWritten
    _judge_samples(sample)


bilinear = Exercise(judge=_judge_bilinear, library=library.bilinear)


# ---- a whole RoI -----------------------------------------------------------------------------------------------------

ROIS = torch.tensor([[0.0, 5, 2, 38, 30], [1, 12, 8, 44, 28], [0, -3, 14, 30, 35]])
SCALE, BINS, SAMPLES = 0.25, 3, 2
HALF_PIXEL = "right shape, wrong values: did you leave out the half pixel? A coordinate in cells is x * scale - 0.5"


def _features(images: int = 2, channels: int = 5, height: int = 9, width: int = 12) -> Tensor:
    return torch.randn(images, channels, height, width, generator=torch.Generator().manual_seed(7))


def mistaken(pool, rois: Tensor, bins: int, samples: int, scale: float):
    """Likely mistakes, each with what `pool(rois, scale, aligned)` gives with it."""
    boxes = rois[:, 1:]
    size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)  # (K, 4): width, height, width, height

    def moved(by):
        return torch.cat([rois[:, :1], boxes + by], dim=1)

    yield HALF_PIXEL, pool(rois, scale, False)
    yield "the half pixel is taken off twice: once is enough", pool(moved(-0.5 / scale), scale, True)
    yield (
        "x and y are exchanged: a box is x1, y1, x2, y2, and rows go with y",
        pool(rois[:, [0, 2, 1, 4, 3]], scale, True),
    )
    corners = "the samples lie at the corners of their parts of the bin; they belong in the middle, at i + 0.5"
    yield corners, pool(moved(-size / (2 * bins * samples)), scale, True)
    longer = torch.cat([rois[:, :3], boxes[:, :2] + samples * size[:, :2]], dim=1)
    yield "a sample's part is 1 / (bins * samples) of the box's side, not 1 / bins", pool(longer, scale, True)
    if scale != 1:
        yield (
            "the half pixel is one of the map: take it off after multiplying by scale",
            pool(moved(0.5 / scale - 0.5), scale, True),
        )
        yield "box and map are not in the same units: multiply the coordinates by scale", pool(rois, 1.0, True)
    if rois[:, 0].any():
        first_image = torch.cat([torch.zeros_like(rois[:, :1]), boxes], dim=1)
        yield "every RoI is read from image 0: its own image's number is roi[0]", pool(first_image, scale, True)


def _judge_pool_one(answer) -> None:
    feature_map, box = _features()[0, 0], torch.tensor([1.5, 0.75, 8.25, 6.0])

    def pool(rois, scale, aligned):
        return ops.roi_align(feature_map[None, None], rois, BINS, scale, SAMPLES, aligned)[0, 0]

    rois = torch.cat([torch.zeros(1), box])[None]
    want = pool(rois, 1.0, True)
    each_sample = ops.roi_align(feature_map[None, None], rois, BINS * SAMPLES, 1.0, 1, True)[0, 0]
    dealt_out = each_sample.view(SAMPLES, BINS, SAMPLES, BINS).mean((0, 2))
    compare(
        answer(feature_map, box, BINS, SAMPLES),
        want,
        [
            ("each bin is the sum of its samples: divide by how many there are", want * SAMPLES**2),
            ("rows and columns of the result are exchanged", want.T),
            ("samples that follow one another belong to one bin: sample i is in bin i // samples", dealt_out),
            *mistaken(pool, rois, BINS, SAMPLES, 1.0),
        ],
    )


pool_one = Exercise(judge=_judge_pool_one, library=library.pool_one)


def _judge_roi_align(answer) -> None:
    features = _features()

    def pool(rois, scale, aligned):
        return ops.roi_align(features, rois, BINS, scale, SAMPLES, aligned)

    want = pool(ROIS, SCALE, True)
    here = device()
    got = answer(features.to(here), ROIS.to(here), BINS, SAMPLES, SCALE).cpu()
    same_shape(got, want)
    last = want.permute(0, 2, 3, 1)  # (K, bins, bins, C)
    misplaced = "right numbers in the wrong places: look again at the number that an output has in memory"
    turned = features.permute(0, 2, 3, 1).reshape(features.shape)
    nearest = (got[:, :, None] - want[:, None]).abs().argmin(2)  # (K, C, bins, bins): the channel that it looks like
    side_by_side = torch.nn.functional.pad(features.permute(0, 2, 3, 1).flatten(1), (0, features.shape[1]))
    one_apart = side_by_side.unfold(1, features[0, 0].numel(), 1)[:, : features.shape[1]].view(features.shape)
    compare(
        got,
        want,
        [
            ("each output is the sum of its samples: divide by how many there are", want * SAMPLES**2),
            ("rows and columns of the bins are exchanged", want.transpose(2, 3)),
            (misplaced, last.reshape(want.shape)),
            (misplaced, want.reshape(last.shape).permute(0, 3, 1, 2)),
            *mistaken(pool, ROIS, BINS, SAMPLES, SCALE),
            (
                "every channel holds channel 0: the map of channel c begins c maps further on",
                want[:, :1].expand_as(want),
            ),
            (
                "read as if each channel had a map of its own. With channels last, channel c of a cell is number "
                "cell * channels + c",
                ops.roi_align(turned, ROIS, BINS, SCALE, SAMPLES, True),
            ),
            (
                "the cells are read as if they had one channel: with channels last, channel c of a cell is number "
                "cell * channels + c, not cell + c",
                ops.roi_align(one_apart, ROIS, BINS, SCALE, SAMPLES, True),
            ),
            (
                "each bin also has the sum of the bins before it: begin each with sum = 0",
                want.flatten(2).cumsum(2).view(want.shape),
            ),
            ("right values, but some of another channel: look again at how c follows from n", want.gather(1, nearest)),
        ],
    )


# ---- kernels ---------------------------------------------------------------------------------------------------------

GUARD = 1 << 14  # values before and after a tensor, so that a step outside it harms nobody


def _guarded(values: Tensor, around: float = math.nan) -> tuple[Tensor, Tensor]:
    """A copy with a guard before and after it: all of it, and the middle."""
    whole = torch.full((values.numel() + 2 * GUARD,), around, dtype=values.dtype, device=values.device)
    middle = whole[GUARD:-GUARD].view(values.shape)
    middle.copy_(values)
    return whole, middle


def _written(launch, *shape: int) -> Tensor:
    """What `launch(out)` writes into `out` of this shape, if it does, and nowhere else."""
    whole, out = _guarded(torch.full(shape, math.nan, device=device()))
    launch(out)
    beyond = int((~whole[-GUARD:].isnan()).sum() + (~whole[:GUARD].isnan()).sum())
    if beyond:
        who = "1 thread too many writes" if beyond == 1 else f"{beyond} threads too many write"
        raise Wrong(f"{who}, past the end of the output: that is what the guard is for, `if (i >= n) return;`")
    if out.isnan().all():  # nothing was written, or added to what was there
        launch(out.zero_())
        raise Wrong(UNSET) if out.any() else NotWritten
    return out.clone()


def blocks(items: int) -> int:
    return -(-items // THREADS)


def _launch_to_cells(kernel):
    def to_cells(pixels: Tensor, scale: float) -> Tensor:
        run = kernel[blocks(len(pixels)), THREADS]
        return _written(lambda cells: run(pixels, cells, scale, len(pixels)), len(pixels))

    return to_cells


def _judge_to_cells(answer) -> None:
    pixels = torch.arange(150, device=device()) * 1.5
    want = pixels * 0.25 - 0.5
    got = answer(pixels, 0.25)
    written = ~got.isnan()
    if written[:THREADS].all() and not written[THREADS:].any():
        raise Wrong(
            "only the first block's cells are written: the threads of every block are numbered from 0. Add "
            "blockIdx.x * blockDim.x"
        )
    if written[-1] == 0 and written[:-1].all():
        raise Wrong("the last cell is not written: the guard leaves one thread too many out")
    compare(
        got,
        want,
        [
            ("did you leave out the half pixel? It is pixels[i] * scale - 0.5f", pixels * 0.25),
            ("the half pixel is one of the map: multiply by scale first, then take off 0.5f", (pixels - 0.5) * 0.25),
        ],
    )


to_cells = Exercise(judge=_judge_to_cells, library=lambda pixels, scale: pixels * scale - 0.5, wrap=_launch_to_cells)


def _launch_sample_points(kernel):
    def sample_points(feature_map: Tensor, points: Tensor) -> Tensor:
        _, guarded = _guarded(feature_map)
        points, run = points.contiguous(), kernel[blocks(len(points)), THREADS]
        return _written(lambda out: run(guarded, points, out, len(points), *feature_map.shape), len(points))

    return sample_points


def _judge_sample_points(answer) -> None:
    here = device()
    _judge_samples(lambda feature_map, points: answer(feature_map.to(here), points.to(here)).cpu())


sample_points = Exercise(judge=_judge_sample_points, library=library.sample, wrap=_launch_sample_points)


def _launch_roi_align_first(kernel):
    def roi_align_first(features: Tensor, rois: Tensor, bins: int, samples: int, scale: float) -> Tensor:
        channels, height, width = features.shape[1:]
        _, guarded = _guarded(features)
        shape = (len(rois), channels, bins, bins)
        arguments = (math.prod(shape), channels, height, width, bins, samples, scale)
        _, guarded_rois = _guarded(rois, 0)  # threads without a guard read on: image 0, and not a wild one
        run = kernel[blocks(math.prod(shape)), THREADS]
        return _written(lambda out: run(guarded, guarded_rois, out, *arguments), *shape)

    return roi_align_first


roi_align_first = Exercise(judge=_judge_roi_align, library=library.roi_align, wrap=_launch_roi_align_first)


def _launch_roi_align_better(kernel):
    """One block per RoI, a thread per channel; the kernel's map is (N, H, W, C) and its output (K, bins, bins, C)."""

    def roi_align_better(features: Tensor, rois: Tensor, bins: int, samples: int, scale: float) -> Tensor:
        channels, height, width = features.shape[1:]
        _, guarded = _guarded(features.permute(0, 2, 3, 1))
        run = kernel[len(rois), channels]
        last = _written(
            lambda out: run(guarded, rois, out, height, width, bins, samples, scale), len(rois), bins, bins, channels
        )
        return last.permute(0, 3, 1, 2)

    return roi_align_better


roi_align_better = Exercise(judge=_judge_roi_align, library=library.roi_align, wrap=_launch_roi_align_better)


# ---- rows and columns apart ------------------------------------------------------------------------------------------


def _judge_axis_weights(answer) -> None:
    for start, length in ((1.25, 5.5), (-2.5, 6.0), (5.0, 4.5)):
        want = library.axis_weights(start, length, BINS, SAMPLES, 8)
        at = start + (torch.arange(BINS * SAMPLES) + 0.5) * length / (BINS * SAMPLES)
        tent = (1 - (at[:, None] - torch.arange(8)).abs()).clamp(min=0)
        clamped = (1 - (at.clamp(0, 7)[:, None] - torch.arange(8)).abs()).clamp(min=0)
        compare(
            answer(start, length, BINS, SAMPLES, 8),
            want,
            [
                ("each bin is the mean of its samples' weights: divide by how many there are", want * SAMPLES),
                ("it has no edge: move a sample to the map first, with at.clamp(0, cells - 1)", _bin_means(tent)),
                ("samples more than a cell outside the map count as 0, not as the border cell", _bin_means(clamped)),
                (
                    "the samples lie at the corners of their parts of the bin; they belong in the middle, at i + 0.5",
                    library.axis_weights(start - length / (2 * BINS * SAMPLES), length, BINS, SAMPLES, 8),
                ),
            ],
        )


def _bin_means(weights: Tensor) -> Tensor:
    return weights.view(BINS, SAMPLES, -1).mean(1)


axis_weights = Exercise(judge=_judge_axis_weights, library=library.axis_weights)
