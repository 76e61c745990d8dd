"""The walk that keeps every tensor, the changes of a scene, and the pages drawn from them."""

import contextlib
import io

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("jupytext", reason="jupytext, which reads the lessons' sources, is not installed")

from lesson_folders import LESSONS, build

from mrcnn import boxes, zoo
from mrcnn.data import Playground
from mrcnn.lab.views import pictures, poses
from mrcnn.lab.walk import changed, count_multiply_adds, erase, move, walk

FLOW = build.load(LESSONS / "00_the_whole_model", "pictures").flow
LABELS = {
    "categories": Playground(0).categories,
    "keypoint_names": Playground(0).keypoint_names,
    "skeleton": Playground(0).skeleton,
    "keypoint_labels": [1],
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return zoo.playground_rcnn().eval()


@pytest.fixture(scope="module")
def scene():
    return Playground(117, seed=7)[116]


@pytest.fixture(scope="module")
def walked(model, scene):
    return walk(model, scene[0])


@pytest.mark.parametrize("size", [(128, 128), (90, 200), (300, 240)])
def test_a_walk_ends_where_the_model_ends(model, size):
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    with torch.inference_mode():
        (want,) = model([image])
    got = walk(model, image).result
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], want[name]) for name in want)


def test_a_walk_keeps_what_goes_into_nms_and_what_comes_out(walked):
    # All candidates of the levels that have fewer than 256, and 256 of the others.
    assert len(walked.candidates) <= 2 * 256 + 192 + 48 + 12
    assert len(walked.proposals) <= min(128, len(walked.candidates))
    overlap = boxes.iou(walked.proposals, walked.candidates).amax(1)
    assert torch.allclose(overlap, torch.ones_like(overlap))  # every proposal was a candidate


def test_the_batch_as_a_picture_again(walked, scene):
    assert (walked.seen.int() - scene[0].int()).abs().max() <= 1


def test_changed_settings_come_back(model):
    before = model.rpn.settings
    with contextlib.suppress(KeyError), changed(model.rpn, "settings", nms_iou=0.1):
        assert model.rpn.settings.nms_iou == 0.1
        raise KeyError
    assert model.rpn.settings is before


def test_multiply_adds_of_a_matrix_product():
    assert count_multiply_adds(lambda: torch.zeros(3, 5) @ torch.zeros(5, 7)) == 3 * 5 * 7


def test_erase_fills_the_hole_from_around_and_leaves_the_rest():
    image = torch.full((3, 40, 50), 90, dtype=torch.uint8)
    mask = torch.zeros(40, 50, dtype=torch.uint8)
    mask[10:25, 20:30] = 1
    image[:, 10:25, 20:30] = 250
    image[0, 0, 0] = 7
    erased = erase(image, mask)
    assert erased[0, 0, 0] == 7
    erased[0, 0, 0] = 90
    assert (erased == 90).all()
    assert torch.equal(erase(image, torch.zeros_like(mask)), image)


def test_erase_ends_when_there_is_nothing_to_fill_from():
    image = torch.full((3, 8, 8), 90, dtype=torch.uint8)
    assert erase(image, torch.ones(8, 8)).shape == image.shape


def test_move_puts_the_thing_elsewhere(scene):
    image, target = scene
    mask = target["masks"][1].bool()
    moved = move(image, mask, right=10, down=-5)
    there = torch.roll(mask, (-5, 10), (0, 1))
    assert torch.equal(moved[:, there], torch.roll(image, (-5, 10), (1, 2))[:, there])


def png(figure) -> Image.Image:
    picture = Image.open(io.BytesIO(figure._repr_png_()))
    assert np.asarray(picture.convert("L")).std() > 5, "an empty page"
    assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    return picture


def test_the_flow_of_a_scene_is_small_enough_for_a_notebook(walked):
    view = FLOW(walked, LABELS)
    picture = Image.open(io.BytesIO(view.picture))
    assert np.asarray(picture.convert("L")).std() > 5
    assert picture.width > 900
    assert len(view.picture) < 350_000
    assert len(view.description) > 50


@pytest.mark.parametrize("size", [(60, 200), (300, 130)])
def test_the_flow_of_any_picture_and_of_nothing_found(model, size):
    with changed(model.roi_heads, "box", min_score=1.0):  # no probability is above it
        empty = walk(model, torch.zeros(3, *size, dtype=torch.uint8))
    assert len(empty.found["boxes"]) == 0
    assert Image.open(io.BytesIO(FLOW(empty, LABELS).picture)).width > 900


def test_pages_have_a_panel_for_each_part(walked, scene):
    image, target = scene
    size = walked.batch.sizes[0]
    names = {"nose": 0, "left_wrist": 9}
    box, points = torch.tensor([10.0, 10, 60, 90]), torch.full((17, 3), 30.0)
    pages = {
        pictures.normalisation(image, walked.batch.pixels[0]): 5,
        pictures.pyramid(walked.features, size): 15,
        pictures.anchor_levels(walked.seen, walked.anchors, walked.cells): 5,
        pictures.objectness_levels([each[0] for each in walked.logits], walked.cells, size): 5,
        pictures.level_table(torch.rand(4, 5), list("abcd"), list("vwxyz")): 1,
        pictures.box_pages(image, {"some": target["boxes"], "none": target["boxes"][:0]}): 2,
        pictures.moves(image, target["boxes"], target["boxes"] + 5): 4,
        pictures.roi_levels(walked.features[:4], target["boxes"], torch.tensor([0, 1, 1, 3]), size): 4,
        pictures.regions(image, target["boxes"], walked.pooled[:4]): 8,
        pictures.keypoints(image, box, torch.randn(17, 56, 56), points, names): 2,
        pictures.shares({"a": {"x": 1.0, "y": 2.0}, "b": {"x": 3.0, "y": 0.0}}, {"a": "{:.1f}", "b": "{:.0f}"}): 2,
    }
    for page, count in pages.items():
        assert len(page.axes) == count
        png(page)


def test_maps_lie_over_the_pixels_that_they_describe():
    _, (axes,) = pictures.panels(1)
    pictures.draw_map(axes, torch.arange(6.0).view(2, 3), (64, 96))
    (drawn,) = axes.images
    assert drawn.get_extent() == [0, 96, 64, 0]
    assert drawn.get_array().shape == (2, 3)


def test_the_middle_cells_anchors_are_drawn(walked):
    _, (axes,) = pictures.panels(1)
    pictures.draw_anchors(axes, walked.anchors[2], (8, 8), (128, 128))
    drawn = [np.array(lines.get_segments()[0]) for lines in axes.collections[1:]]
    middle = walked.anchors[2].view(8, 8, 3, 4)[4, 4]
    for corners, anchor in zip(drawn, middle.numpy(), strict=True):
        assert (corners.min(0) == anchor[:2]).all()
        assert (corners.max(0) == anchor[2:]).all()


def test_a_pose_has_its_letters_where_its_keypoints_are():
    names, skeleton = LABELS["keypoint_names"], LABELS["skeleton"]
    image = torch.zeros(3, 128, 96, dtype=torch.uint8)
    pose = torch.cat([torch.arange(34.0).view(17, 2) + 30, torch.full((17, 1), 2.0)], dim=1)
    pose[names.index("left_wrist")] = 0  # not labelled
    _, (axes,) = pictures.panels(1)
    poses.draw_sides(axes, pose, names, skeleton)
    letters = {(text.get_text(), *text.get_position()) for text in axes.texts}
    ends = [("R", "right_wrist"), ("L", "left_ankle"), ("R", "right_ankle")]
    assert letters == {(letter, *pose[names.index(name), :2].tolist()) for letter, name in ends}
    poses.around(axes, image, torch.tensor([60.0, 0, 96, 40]), 0.1)
    assert axes.get_xlim() == (48, 96)  # a square, within the picture
    assert axes.get_ylim() == (48, 0)
    view = poses.sides([(image, torch.tensor([10.0, 10, 60, 90]), pose)], names, skeleton, ["A"])
    assert "A: right wrist at x 50, left ankle at x 60, right ankle at x 62" in view.description
    heatmaps = {"nose": torch.randn(56, 56)}
    view = poses.heatmaps_over(image, torch.tensor([10.0, 10, 60, 90]), heatmaps, pose[:1, :2])
    assert "nose: a ring at (30, 31)" in view.description
