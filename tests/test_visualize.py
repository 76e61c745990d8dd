"""What can be said of pictures without looking at them: nothing is missing, nothing is drawn where it should not be."""

import numpy as np
import pytest
import torch
from fakes import HandMade, truth_as_results
from PIL import Image

from mrcnn import visualize
from mrcnn.data import labels_of
from mrcnn.errors import CheckpointError

DATASET = HandMade([[(1, [4, 4, 40, 60], 0), (2, [50, 10, 90, 50], 0)], []])
LABELS = labels_of(DATASET)


def pixels(figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)


def test_a_picture_is_enlarged_and_keeps_its_shape():
    image, target = DATASET[0]
    height, width, _ = pixels(visualize.draw_photo(image, truth_as_results(target), LABELS)).shape
    assert width >= 1000
    assert width / height == pytest.approx(96 / 64, rel=0.01)


def test_objects_below_the_score_are_not_drawn():
    image, target = DATASET[0]
    bare = pixels(visualize.draw_photo(image, {k: v[:0] for k, v in truth_as_results(target).items()}, LABELS))
    hidden = pixels(visualize.draw_photo(image, truth_as_results(target, score=0.3), LABELS))
    shown = pixels(visualize.draw_photo(image, truth_as_results(target, score=0.3), LABELS, min_score=0.2))
    assert np.array_equal(bare, hidden)
    assert not np.array_equal(bare, shown)


def test_each_thing_is_drawn_where_it_is():
    """On a plain picture: colour inside each mask, none in the empty parts."""
    image = torch.full((3, 64, 96), 128, dtype=torch.uint8)
    drawn = pixels(visualize.draw_photo(image, truth_as_results(DATASET[0][1]), LABELS))
    scale = drawn.shape[1] / 96
    painted = np.ptp(drawn, axis=2) > 20  # grey has no colour

    def share(x1, y1, x2, y2):
        return painted[int(y1 * scale) : int(y2 * scale), int(x1 * scale) : int(x2 * scale)].mean()

    assert share(52, 14, 88, 48) > 0.9
    assert share(43, 20, 47, 60) == 0
    assert share(52, 54, 95, 63) == 0


def test_keypoints_are_drawn_for_labels_that_have_them():
    image, target = DATASET[0]
    ball = {name: value[1:] for name, value in truth_as_results(target).items()}
    ball["keypoints"] = torch.full((1, 17, 3), 70.0)
    ball["keypoints"][..., 1] = 30.0
    without = {name: value for name, value in ball.items() if not name.startswith("keypoints")}
    as_ball, plain = (pixels(visualize.draw_photo(image, each, LABELS)) for each in (ball, without))
    assert np.array_equal(as_ball, plain)
    posed = pixels(visualize.draw_photo(image, ball, LABELS | {"keypoint_labels": [2]}))
    assert not np.array_equal(posed, plain)


def test_a_name_is_never_read_as_a_formula():
    image, target = DATASET[0]
    labels = LABELS | {"categories": ["background", r"$\no formula$", "ball"]}
    assert np.ptp(pixels(visualize.draw_photo(image, truth_as_results(target), labels)))


def test_neighbours_differ_in_colour():
    corners = torch.cartesian_prod(torch.arange(5.0), torch.arange(6.0)).numpy()
    chosen = visualize.choose_colours(np.concatenate([corners, corners + 1], 1))
    grid = np.array(chosen).reshape(5, 6)
    assert (grid[1:] != grid[:-1]).all()
    assert (grid[:, 1:] != grid[:, :-1]).all()


def test_colours_differ_for_colour_blind_readers():
    """Seen without red, or without green (Viénot et al. 1999, in linear RGB), any two of the colours stay apart."""
    hexes = [tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)) for colour in visualize.COLOURS]
    linear = np.array(hexes) ** 2.2
    protan = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
    deutan = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    for sight in (np.eye(3), protan, deutan):
        seen = np.clip(linear @ sight.T, 0, 1) ** (1 / 2.2)
        distances = np.linalg.norm(seen[:, None] - seen, axis=-1) + 9 * np.eye(len(seen))
        assert distances.min() > 0.1


def test_outlines_of_thin_masks_stay():
    line = np.zeros((9, 9), dtype=np.uint8)
    line[4, 1:8] = 1
    assert (visualize._softened(line)[4, 2:7] > 0.5).all()
    assert visualize._softened(np.ones((4, 4), dtype=np.uint8)).min() > 0.99


def test_pages_and_curves_are_written_whole(tmp_path, monkeypatch):
    images, targets = zip(*(DATASET[i] for i in range(2)), strict=True)
    results = [truth_as_results(target) for target in targets]
    visualize.save(visualize.draw_page(images, results, targets, LABELS, title="page"), tmp_path / "page.png")
    visualize.save(visualize.draw_samples(images, targets, LABELS), tmp_path / "samples.png")
    rows = [{"step": 1, "loss": 3.0, "loss_mask": 1.0}, {"step": 2, "loss": 2.0, "loss_mask": 0.0}]
    visualize.save(visualize.draw_curves(rows, {"bbox": {"AP": 0.5, "AP50": -1}}), tmp_path / "bars.png")
    visualize.save(
        visualize.draw_curves(rows[:1], [{"step": 1, "bbox/AP": 0.5, "segm/AP50": 0.1}]), tmp_path / "lines.png"
    )
    visualize.save(visualize.draw_curves([], {}), tmp_path / "nothing.png")
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            picture.load()
    before = (tmp_path / "page.png").read_bytes()
    monkeypatch.setattr("os.fsync", lambda _handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(CheckpointError, match=r"page\.png: No space left"):
        visualize.save(visualize.draw_samples(images, targets, LABELS), tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes() == before


def test_smoothing_is_a_mean_over_neighbours():
    values = np.random.default_rng(0).random(300)
    smooth = visualize.smoothed(values)
    for index in (0, 3, 100, 299):
        assert smooth[index] == pytest.approx(values[max(index - 5, 0) : index + 6].mean())
    assert visualize.smoothed(values[:3]).tolist() == pytest.approx(values[:3].tolist())
