"""The exercise of lesson 07 about RoIPool: RoIAlign's elder, with everything rounded."""

import math

import torch
from torch import Tensor

from ..check import Exercise, Wrong, close, same_shape
from . import pooling_library as library
from .pooling import BINS, compare

EMPTY = "a bin without cells is 0, and has no largest cell: ask first whether there are any (`cells.numel()`)"


def _judge_roi_pool(answer) -> None:
    """A box inside the map first, then over its borders, outside it, and one without columns."""
    feature_map = torch.randn(9, 12, generator=torch.Generator().manual_seed(7))
    _compare_inside(answer, feature_map, torch.tensor([1.75, 0.6, 8.25, 6.7]))
    feature_map = feature_map[:6, :6]
    top_left, bottom_right = torch.tensor([-3.0, -3, 3, 3]), torch.tensor([2.0, 2, 9, 9])
    top_left_outside, turned_around = torch.tensor([-9.0, -9, -5, -5]), torch.tensor([4.0, 1, 1, 4])
    for box, sentence in (
        (
            top_left,
            "right inside the map, wrong over its top left border: a slice from -1 begins at the LAST row. Clip each "
            "bin's first row and column, `max(top, 0)`",
        ),
        (bottom_right, "right inside the map, wrong over its bottom right border: cells outside the map do not count"),
        (
            top_left_outside,
            "wrong for a box that lies outside the map, above it and to its left: a slice up to -1 ends before the "
            "LAST row. Clip each bin's end too, `max(bottom, 0)`",
        ),
        (
            turned_around,
            "wrong for a box with x2 < x1: it still has one row and one column, `max(x2 - x1 + 1, 1)` of them",
        ),
    ):
        of_clipped_box = library.roi_pool(feature_map, box.clamp(0, 5), BINS)
        _compare_outside(answer, feature_map, box, sentence, of_clipped_box)


roi_pool_one = Exercise(judge=_judge_roi_pool, library=library.roi_pool)


def _compare_inside(answer, feature_map: Tensor, box: Tensor) -> None:
    want = library.roi_pool(feature_map, box, BINS)
    x1, y1, x2, y2 = box.round().int().tolist()
    cut = feature_map[y1 : y2 + 1, x1 : x2 + 1]
    compare(
        answer(feature_map, box, BINS),
        want,
        [
            ("rows and columns of the result are exchanged", want.T),
            (
                "each bin is the mean of its cells; RoIPool takes the largest",
                torch.nn.functional.adaptive_avg_pool2d(cut[None], BINS)[0],
            ),
            (
                "the last row and column are left out: cells are counted from round(x1) to round(x2), both included",
                library.roi_pool(feature_map, box, BINS, last=0),
            ),
            (
                "the box is cut off to whole cells (int or floor), not rounded to the nearest (or did you take the "
                "half pixel off? RoIPool does not)",
                library.roi_pool(feature_map, box, BINS, round=math.floor),
            ),
        ],
    )


def _compare_outside(answer, feature_map: Tensor, box: Tensor, sentence: str, of_clipped_box: Tensor) -> None:
    want = library.roi_pool(feature_map, box, BINS)
    try:
        got = answer(feature_map, box, BINS)
    except (IndexError, RuntimeError, ValueError) as problem:  # torch's and Python's word for the maximum of nothing
        beyond = "out of bounds" in str(problem)
        there_is_none = "it reads a cell that the map does not have: cells outside the map do not count"
        raise Wrong(there_is_none if beyond else EMPTY) from problem
    same_shape(got, want)
    if not got.isfinite().all():
        raise Wrong(EMPTY)
    if close(got, want):
        return
    if close(got, of_clipped_box):
        raise Wrong("the box is clipped to the map too early: cut all of it into bins first, then clip each bin")
    raise Wrong(sentence)
