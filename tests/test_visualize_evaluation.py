"""What the pictures of an evaluation show, read back from their axes and pixels."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from mrcnn.visualize import COLOURS
from mrcnn.visualize_evaluation import draw_confusion, draw_precision_recall

COUNTS = np.array([[6, 0, 2], [0, 0, 0], [1, 3, 0]])  # a and b; the last row: nothing; the last column: missed


def colour_of_cell(figure, row: int, column: int) -> np.ndarray:
    """The colour in [0, 1] near a cell's upper left corner, where no number is."""
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255
    x, y = figure.axes[0].transData.transform((column - 0.4, row - 0.4))
    return pixels[int(len(pixels) - y), int(x)]


def test_a_confusion_matrix_shows_counts_and_shares():
    figure = draw_confusion(COUNTS, ["a", "b"], "title")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b", "nothing"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a", "b", "missed"]
    written = {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert written == {place: str(count) for place, count in np.ndenumerate(COUNTS) if place != (2, 2)}
    full, empty = np.array(to_rgb(COLOURS[6])), np.ones(3)
    shares = {(0, 0): 0.75, (0, 1): 0, (0, 2): 0.25, (1, 0): 0, (1, 1): 0, (2, 0): 0.25, (2, 1): 0.75}
    depths = {place: share**0.5 for place, share in shares.items()}
    for (row, column), depth in depths.items():
        assert colour_of_cell(figure, row, column) == pytest.approx(depth * full + (1 - depth) * empty, abs=0.02)
    assert np.ptp(colour_of_cell(figure, 2, 2)) == 0, "grey"
    assert colour_of_cell(figure, 2, 2)[0] < 0.9


@pytest.mark.parametrize("categories", [1, 80, 300])
def test_a_confusion_matrix_of_any_size_fits(categories):
    names = [rf"category $\no formula$ {k}" for k in range(categories)]
    counts = np.eye(categories + 1, dtype=int)
    figure = draw_confusion(counts, names)
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    assert 500 < width < 4000
    assert 500 < height < 4000
    assert len(figure.axes[0].texts) == (3 if categories == 1 else 0)
    left, bottom, *_ = figure.axes[0].get_tightbbox().extents
    assert left >= 0, "no name is cut off"
    assert bottom >= 0


def test_curves_are_those_of_pycocotools():
    recall = np.linspace(0, 1, 101)
    precision = np.full((10, 101, 3), -1.0)
    precision[..., 0] = 1 - recall / 2
    precision[..., 2] = 0.5
    precision[5:, :, 2] = 0
    figure = draw_precision_recall({"segm": precision}, {"segm": ["a", "nothing there", r"$\no formula$"]})
    (axes,) = figure.axes
    assert figure.get_suptitle() == "Precision over recall"
    lines = {line.get_label(): line for line in axes.lines}
    assert set(lines) == {"a", r"$\no formula$", "mean, IoU 0.50", "mean, IoU 0.75"}
    for name, expected in {
        "a": 1 - recall / 2,
        r"$\no formula$": np.full(101, 0.5),
        "mean, IoU 0.50": (1.5 - recall / 2) / 2,
        "mean, IoU 0.75": (1 - recall / 2) / 2,
    }.items():
        assert lines[name].get_xdata() == pytest.approx(recall)
        assert lines[name].get_ydata() == pytest.approx(expected)
    figure.canvas.draw()  # would fail on a formula


def test_many_categories_share_a_name():
    precision = np.ones((10, 101, 80))
    figure = draw_precision_recall(
        {"bbox": precision, "keypoints": precision[..., :1]}, {"bbox": ["x"] * 80, "keypoints": ["p"]}
    )
    boxes, keypoints = ([text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes)
    assert boxes == ["each category", "mean, IoU 0.50", "mean, IoU 0.75"]
    assert keypoints == ["mean, OKS 0.50", "mean, OKS 0.75"]
    assert len(figure.axes[0].lines) == 82


def test_curves_of_nothing():
    figure = draw_precision_recall({}, {})
    assert figure.get_suptitle() == "Precision over recall: there was nothing to measure"
    crowds_alone = draw_precision_recall({"bbox": np.full((10, 101, 2), -1.0)}, {"bbox": ["a", "b"]})
    assert len(crowds_alone.axes[0].lines) == 0
