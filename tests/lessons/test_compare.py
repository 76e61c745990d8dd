"""Two results: whether they are the same, and the sentence about the first thing in which they differ."""

import numpy as np
import pytest
import torch

from mrcnn.lab.check import close, difference

X = torch.arange(6.0).view(2, 3)


@pytest.mark.parametrize(
    ("got", "want", "says"),
    [
        (X.int(), X.double() + 1e-6, None),
        (torch.tensor([torch.nan]), torch.tensor([torch.nan]), None),
        ([1, 2], [1, 2], None),
        ((1, 2.0), [1, 2], None),
        (3, 3.0, None),
        ([1], [1, 2], "expected 2 numbers, got a list of 1"),
        ([1, None], [1, 2], "expected 2 numbers, but [1] is None"),
        ([X, 1], [1, 2], "expected 2 numbers, but [0] is a tensor of shape (2, 3)"),
        (X[0], [0, 1, 2], "expected 3 numbers, got a tensor of shape (3,); `.tolist()` makes a list of it"),
        (np.arange(3), [0, 1, 2], "expected 3 numbers, got ndarray; `.tolist()` makes a list of it"),
        (4, 3, "it is 4, expected 3"),
        ("4", 3, "expected a number, got str"),
        (np.float32(3), 3.0, None),
        ((np.float32(4), np.int64(2)), [3.0, 2], "1 of 2 values differ; the first, at [0], is 4, expected 3"),
        ((np.float64(0.1), 3), [0.1, 3], None),
        ((torch.tensor(4.0), torch.tensor(2)), [4.0, 2], None),
        ([torch.ones(1), 1], [1, 1], "expected 2 numbers, but [0] is a tensor of shape (1,); `.item()` is its number"),
        (X, X + torch.eye(2, 3), "2 of 6 values differ; the first, at [0, 0], is 0, expected 1"),
        ((X, X + 1), (X + 1, X), "the two results are swapped"),
        ({"a": X, "b": 2}, {"b": 2, "a": X}, None),
        ({"a": X, "b": 3}, {"a": X, "b": 2}, "b: it is 3, expected 2"),
        ({"a": X}, {"a": X, "b": 2}, "expected a dict of a, b, got one of a"),
        ({"b": X}, {"a": X}, "expected a dict of a, got one of b"),
        (X, {"a": X}, "expected a dict of a, got a tensor of shape (2, 3)"),
        ((X, X), (X, X + 1), "result number 2 of 2: 6 of 6 values differ; the first, at [0, 0], is 0, expected 1"),
        (X, (X, X), "expected 2 results, got a tensor of shape (2, 3)"),
    ],
)
def test_differences(got, want, says):
    assert difference(got, want) == says
    assert close(got, want) == (says is None)


def test_numbers_of_python_are_not_rounded():
    assert close([np.float64(0.1), 3], [0.1, 3], tolerance=1e-12)
    assert not close(0.1 + 1e-9, 0.1, tolerance=1e-12)
