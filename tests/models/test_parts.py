"""The parts of the model, each against torchvision's, and against closed forms and plain loops."""

import math

import pytest
import torch
import torch.nn.functional as F
import twins
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection import _utils as theirs
from torchvision.models.detection import roi_heads as their_heads
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops import boxes as their_boxes

from mrcnn import box_head, images, keypoint_head, mask_head, roi_heads, sampling
from mrcnn import boxes as box_maths
from mrcnn.anchors import AnchorSettings, cell_anchors, make_anchors

COCO_SIZES = ((32,), (64,), (128,), (256,), (512,))
WEIGHTS = [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)]


def random_boxes(count: int, seed: int = 0, extent: float = 300.0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=random) * extent
    size = torch.rand(count, 2, generator=random) * extent / 2 + 0.5
    return torch.cat((corner, corner + size), 1)


# Boxes


@pytest.mark.parametrize("weights", WEIGHTS)
def test_deltas_are_torchvisions(weights):
    boxes, goals = random_boxes(200, 1), random_boxes(200, 2)
    coder = theirs.BoxCoder(weights)
    deltas = box_maths.encode(goals, boxes, weights)
    torch.testing.assert_close(deltas, coder.encode_single(goals, boxes))
    shaken = deltas * 3  # some now beyond the clamp
    torch.testing.assert_close(box_maths.decode(shaken, boxes, weights), coder.decode_single(shaken, boxes))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_deltas_undo_themselves(weights):
    """decode(encode(goal)) is the goal, where the goal is at most 62.5 times the box; in float64 to rounding."""
    boxes, goals = random_boxes(500, 3).double(), random_boxes(500, 4).double()
    ratio = (goals[:, 2:] - goals[:, :2]) / (boxes[:, 2:] - boxes[:, :2])
    boxes, goals = boxes[(ratio < 60).all(1)], goals[(ratio < 60).all(1)]
    back = box_maths.decode(box_maths.encode(goals, boxes, weights), boxes, weights)
    torch.testing.assert_close(back, goals, rtol=0, atol=1e-9)


def test_growth_is_limited():
    """However large the delta, a box of 16 pixels becomes 1000 at most, and stays finite."""
    grown = box_maths.decode(torch.tensor([[0.0, 0, 1e4, 1e4]]), torch.tensor([[0.0, 0, 16, 16]]), WEIGHTS[0])
    torch.testing.assert_close(grown, torch.tensor([[-492.0, -492, 508, 508]]), rtol=1e-5, atol=0)


def test_clip_and_size_and_iou_are_torchvisions():
    boxes = random_boxes(300, 5) - 60
    assert torch.equal(box_maths.clip(boxes, (120, 170)), their_boxes.clip_boxes_to_image(boxes, (120, 170)))
    kept = box_maths.large_enough(boxes, 40.0).nonzero()[:, 0]
    assert torch.equal(kept, their_boxes.remove_small_boxes(boxes, 40.0))
    torch.testing.assert_close(box_maths.area(boxes), their_boxes.box_area(boxes))
    torch.testing.assert_close(box_maths.iou(boxes[:50], boxes), their_boxes.box_iou(boxes[:50], boxes))


def test_iou_of_empty_boxes_is_zero():
    empty = torch.tensor([[3.0, 3, 3, 3], [1, 1, 1, 9]])
    assert torch.equal(box_maths.iou(empty, empty), torch.zeros(2, 2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int16, torch.int32])
def test_areas_do_not_overflow(dtype):
    """In whole pixels, with areas beyond what the type can count: those of Python's own numbers, torchvision's IoU."""
    low, high = (-30000, 30000) if dtype in (torch.int32, torch.int16) else (-128, 127)
    low = 0 if dtype == torch.uint8 else low
    scale = 2 if dtype.is_floating_point else 1  # 254 and 256: both have a float16, and a bfloat16, of their own
    rows = [[low, low, high, high], [low, 0, high - 1, 2], [3, 3, 15, 17], [9, 9, 9, 9]]
    rows = [[scale * value for value in row] for row in rows]
    boxes = torch.tensor(rows, dtype=dtype)
    exact = [int(value) for value in boxes.double().flatten()]
    exact = [exact[i : i + 4] for i in range(0, len(exact), 4)]
    assert box_maths.area(boxes).tolist() == [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in exact]
    right = their_boxes.box_iou(boxes.double(), boxes.double()).nan_to_num(0.0)
    torch.testing.assert_close(box_maths.iou(boxes, boxes).double(), right, rtol=1e-6, atol=0)
    sizes = torch.tensor([min(x2 - x1, y2 - y1) for x1, y1, x2, y2 in exact])
    assert torch.equal(box_maths.large_enough(boxes, 12.0), sizes >= 12)


# Anchors


@pytest.mark.parametrize("size", [(800, 1344), (256, 384), (64, 32)])
def test_anchors_are_torchvisions(size):
    levels = [(math.ceil(size[0] / s), math.ceil(size[1] / s)) for s in (4, 8, 16, 32, 64)]
    found = make_anchors(AnchorSettings(), size, levels)
    generator = AnchorGenerator(COCO_SIZES, ((0.5, 1.0, 2.0),) * 5)
    expected = generator(ImageList(torch.zeros(1, 3, *size), [size]), [torch.zeros(1, 1, *level) for level in levels])
    assert torch.equal(torch.cat(found), expected[0])


def test_as_many_anchors_as_published():
    levels = [(200, 336), (100, 168), (50, 84), (25, 42), (13, 21)]
    assert sum(map(len, make_anchors(AnchorSettings(), (800, 1344), levels))) == 268_569


def test_the_cell_of_the_finest_level():
    expected = torch.tensor([[-23.0, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]])
    assert torch.equal(cell_anchors((32,), (0.5, 1.0, 2.0)), expected)


def test_sizes_for_other_levels_than_there_are():
    with pytest.raises(ValueError, match=r"5 levels.*2"):
        make_anchors(AnchorSettings(), (64, 64), [(16, 16), (8, 8)])


# Sampling


def test_samples_are_balanced():
    """Half positives at most, the rest filled with negatives, none twice, none of those left out."""
    positive, negative = torch.zeros(1000, dtype=torch.bool), torch.zeros(1000, dtype=torch.bool)
    positive[:300], negative[400:] = True, True
    drawn, others = sampling.sample(positive, negative, 256, 0.5)
    assert (len(drawn), len(others)) == (128, 128)
    assert positive[drawn].all()
    assert negative[others].all()
    assert len(torch.cat((drawn, others)).unique()) == 256
    drawn, others = sampling.sample(positive & (torch.arange(1000) < 10), negative, 256, 0.5)
    assert (len(drawn), len(others)) == (10, 246)
    drawn, others = sampling.sample(positive, negative & (torch.arange(1000) > 950), 256, 0.25)
    assert (len(drawn), len(others)) == (64, 49)


def test_every_sample_is_as_likely():
    """Drawing 10 of 40 many times: each row about a quarter of the time (within five standard deviations)."""
    torch.manual_seed(0)
    mask, none = torch.ones(40, dtype=torch.bool), torch.zeros(40, dtype=torch.bool)
    counts = sum(torch.bincount(sampling.sample(none, mask, 10, 0.5)[1], minlength=40) for _ in range(2000))
    assert (counts - 500).abs().max() < 5 * math.sqrt(2000 * 0.25 * 0.75)


# Pictures


@pytest.mark.parametrize(("short", "long"), [(256, 400), (100, 1000), (333, 334)])
def test_pictures_and_targets_are_prepared_as_torchvision_does(short, long):
    pictures = [twins.photograph("chelsea"), twins.photograph("rocket")[:, ::2, 7:200], twins.photograph("coffee")]
    targets = [
        {
            "boxes": random_boxes(4, i, 100),
            "labels": torch.ones(4, dtype=torch.int64),
            "masks": (torch.rand(4, *p.shape[1:], generator=torch.Generator().manual_seed(i)) > 0.5).to(torch.uint8),
            "keypoints": torch.rand(4, 17, 3, generator=torch.Generator().manual_seed(i)) * 100,
        }
        for i, p in enumerate(pictures)
    ]
    their = GeneralizedRCNNTransform(short, long, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    expected, expected_targets = their(pictures, targets)
    found, found_targets = images.prepare(pictures, targets, images.ImageSettings((short,), long), training=True)
    assert found.sizes == [tuple(size) for size in expected.image_sizes]
    torch.testing.assert_close(found.pixels, expected.tensors, rtol=0, atol=1e-5)
    for ours, right in zip(found_targets, expected_targets, strict=True):
        torch.testing.assert_close(ours["boxes"], right["boxes"])
        torch.testing.assert_close(ours["keypoints"], right["keypoints"])
        assert torch.equal(ours["masks"], right["masks"])
        assert torch.equal(ours["labels"], right["labels"])


@given(st.integers(1, 2500), st.integers(1, 2500), st.integers(16, 1000))
@settings(deadline=None, max_examples=60)
def test_every_size_is_torchvisions(height, width, short):
    """The resized size, for any picture. torchvision's own way: the interpolation of one row or column of zeros."""
    long = short * 5 // 3
    scale = min(short / min(height, width), long / max(height, width))
    expected = (math.floor(height * scale), math.floor(width * scale))
    if min(expected) > 0:  # torchvision stops at a side of less than a pixel; ours keeps one
        assert images.resized_size((height, width), short, long) == expected
    assert min(images.resized_size((height, width), short, long)) >= 1
    assert max(images.resized_size((height, width), short, long)) <= max(long, 1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((40, 60), (80, 120)),
        ((36, 24), (120, 80)),
        ((200, 600), (444, 1333)),
        ((301, 97), (256, 82)),
        ((1, 7), (9, 64)),
    ],
)
def test_a_picture_resized_along_one_axis_and_the_other_is_interpolates(old, new):
    """To 5e-7, a few steps of float32 at 1: places that are rounded twice are 3e-5 off."""
    picture = torch.rand(3, *old, generator=torch.Generator().manual_seed(0))
    found = images.resized_along(images.resized_along(picture, 1, new[0]), 2, new[1])
    expected = torch.nn.functional.interpolate(picture[None], new, mode="bilinear")[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-7)


@pytest.mark.parametrize(("short", "longest"), [(800, 1333), (128, 256)])
def test_a_free_size_is_resized_as_a_known_one(short, longest):
    """To the pixel, also where a side comes out whole but for rounding: 240 × 360 to 800 × 1200."""
    random = torch.Generator().manual_seed(0)
    sizes = [*torch.randint(1, 700, (3000, 2), generator=random).tolist(), [240, 360], [360, 240], [1, 1], [5000, 3]]
    for size in sizes:
        assert images.free_resized_size(size, short, longest) == images.resized_size(size, short, longest), size


# Masks


def brute_force_paste(mask: torch.Tensor, box: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Pasting pixel by pixel: each looks up where it lies in the rimmed mask, and mixes the four cells around."""
    side = mask.shape[-1] + 2
    rimmed = torch.zeros(side, side, dtype=torch.float64)
    rimmed[1:-1, 1:-1] = mask
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * (side / (side - 2))
    x1, y1 = (int(v) for v in centre - half)
    x2, y2 = (int(v) for v in centre + half)
    width, height = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
    canvas = torch.zeros(size, dtype=torch.float64)
    for y in range(max(y1, 0), min(y1 + height, size[0])):
        for x in range(max(x1, 0), min(x1 + width, size[1])):
            u = min(max((x - x1 + 0.5) * side / width - 0.5, 0), side - 1)
            v = min(max((y - y1 + 0.5) * side / height - 0.5, 0), side - 1)
            i, j = int(v), int(u)
            down, right = min(i + 1, side - 1), min(j + 1, side - 1)
            above = rimmed[i, j] * (1 - u + j) + rimmed[i, right] * (u - j)
            below = rimmed[down, j] * (1 - u + j) + rimmed[down, right] * (u - j)
            canvas[y, x] = above * (1 - v + i) + below * (v - i)
    return canvas


# Inside, over each edge, a sliver, a single point, larger than the picture, and wholly outside.
PASTED = torch.tensor(
    [
        [10.2, 5.7, 40.9, 30.1],
        [-8.5, -3.2, 12.4, 20.0],
        [45.0, 25.0, 75.3, 52.8],
        [20.0, 10.0, 20.6, 38.0],
        [15.0, 15.0, 15.0, 15.0],
        [-30.0, -40.0, 90.0, 95.0],
        [200.0, 200.0, 240.0, 230.0],
    ]
)


@pytest.mark.parametrize("paste", [mask_head.paste_masks, mask_head.paste_masks_at_once])
def test_pasted_masks_are_torchvisions_and_a_loops(paste):
    masks = torch.rand(len(PASTED), 1, 28, 28, generator=torch.Generator().manual_seed(0))
    found = paste(masks, PASTED, (48, 64))
    assert found.shape == (7, 1, 48, 64)
    for mask, box, canvas in zip(masks, PASTED, found, strict=True):
        loop = brute_force_paste(mask[0], box.double(), (48, 64))
        torch.testing.assert_close(canvas[0].double(), loop, rtol=0, atol=1e-4)
    inside = PASTED[:6]  # torchvision cannot paste what lies wholly outside
    expected = their_heads.paste_masks_in_image(masks[:6], inside, (48, 64))
    torch.testing.assert_close(found[:6], expected, rtol=0, atol=1e-5)
    assert found[6].sum() == 0


@pytest.mark.parametrize("paste", [mask_head.paste_masks, mask_head.paste_masks_at_once])
def test_no_masks_to_paste(paste):
    assert paste(torch.zeros(0, 1, 28, 28), torch.zeros(0, 4), (48, 64)).shape == (0, 1, 48, 64)


# Regions from the pyramid


@pytest.mark.parametrize("resolution", [7, 14])
def test_regions_are_pooled_as_torchvision_does(resolution):
    """Boxes from a few pixels to the whole batch, so that all four levels are used; two pictures, one without boxes."""
    random = torch.Generator().manual_seed(0)
    features = [torch.randn(3, 8, 512 // s, 640 // s, generator=random) for s in (4, 8, 16, 32)]
    sides = torch.tensor([3.0, 20, 60, 111.9, 112, 113, 180, 223.9, 224, 225, 300, 447.9, 448, 500])
    boxes = torch.stack((sides * 0.1, sides * 0.05, sides * 1.1, sides * 1.05), 1)
    boxes = [boxes, torch.zeros(0, 4), boxes + 5.3]
    pooler = MultiScaleRoIAlign(["0", "1", "2", "3"], resolution, 2)
    expected = pooler(dict(zip("0123", features, strict=True)), boxes, [(512, 640)] * 3)
    torch.testing.assert_close(
        roi_heads.multiscale_roi_align(features, 4, boxes, resolution, 224.0), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(("side", "level"), [(10, 0), (111, 0), (112, 1), (223, 1), (224, 2), (448, 3), (5000, 3)])
def test_the_level_of_a_box(side, level):
    """FPN, equation 1: 224 pixels go to P4, half of it to P3, with the ends clamped to the levels there are."""
    assert roi_heads.choose_levels(torch.tensor([[0.0, 0, side, side]]), 4, 4, 224.0).tolist() == [level]


@pytest.mark.parametrize("border", [112, 224, 448])
def test_the_level_of_a_box_just_below_a_border(border):
    """Sides 0 to 24 float32 steps below it: the nearest count as on the border, as in torchvision."""
    poolers = pytest.importorskip("torchvision.ops.poolers")
    sides = torch.tensor([border * (1 - step * 2.0**-24) for step in range(0, 48, 2)])
    boxes = torch.stack((sides * 0, sides * 0, sides, sides), 1)
    expected = poolers.LevelMapper(2, 5, 224, 4)([boxes])
    assert len(expected.unique()) == 2
    assert torch.equal(roi_heads.choose_levels(boxes, 4, 4, 224.0), expected)


# Keypoints


def keypoints_and_boxes():
    random = torch.Generator().manual_seed(3)
    boxes = random_boxes(20, 6)
    size = boxes[:, None, 2:] - boxes[:, None, :2]
    points = boxes[:, None, :2] + size * (torch.rand(20, 17, 2, generator=random) * 1.4 - 0.2)
    points[:, 0] = boxes[:, 2:]  # on the far corner
    points[:, 1] = boxes[:, :2]  # on the near one
    points[:, 2, 0] = boxes[:, 2]  # on the right edge, and the height of the middle
    visible = torch.randint(0, 3, (20, 17, 1), generator=random).float()
    return torch.cat((points, visible), 2), boxes


def test_joint_cells_are_torchvisions():
    keypoints, boxes = keypoints_and_boxes()
    cells, valid = keypoint_head.keypoints_to_heatmap(keypoints, boxes, 56)
    expected, expected_valid = their_heads.keypoints_to_heatmap(keypoints, boxes, 56)
    assert torch.equal(valid, expected_valid.bool())
    assert torch.equal(cells[valid], expected[valid])
    assert valid[:, 0][keypoints[:, 0, 2] > 0].all()
    assert (cells[:, 0] == 56 * 56 - 1).all()


def test_keypoints_are_found_as_torchvision_finds_them():
    random = torch.Generator().manual_seed(0)
    boxes = torch.cat((random_boxes(12, 7), torch.tensor([[5.0, 5, 5.3, 60], [0, 0, 1, 1], [3, 3, 3, 3]])))
    coarse = torch.randn(len(boxes), 17, 14, 14, generator=random)
    heatmaps = F.interpolate(coarse, scale_factor=4.0, mode="bilinear", align_corners=False)
    found, scores = keypoint_head.heatmaps_to_keypoints(heatmaps, boxes)
    expected, expected_scores = their_heads.heatmaps_to_keypoints(heatmaps, boxes)
    torch.testing.assert_close(scores, expected_scores, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-2)


def test_a_joint_is_found_where_it_was_put():
    """Joint -> cell -> a hill with its top in that cell -> joint: half a cell and a pixel off at most, in any box."""
    keypoints, boxes = keypoints_and_boxes()
    cells, valid = keypoint_head.keypoints_to_heatmap(keypoints, boxes, 56)
    axis = torch.arange(56)
    row, column = cells[..., None] // 56, cells[..., None] % 56
    heatmaps = -((axis - row) ** 2)[..., :, None].float() - ((axis - column) ** 2)[..., None, :]
    found, _ = keypoint_head.heatmaps_to_keypoints(heatmaps, boxes)
    cell = (boxes[:, None, 2:] - boxes[:, None, :2]) / 56
    away = (found - keypoints)[..., :2].abs()[valid]
    assert (away <= cell.expand(-1, 17, -1)[valid] * 0.5 + 1.0).all()


# Choosing detections


def test_detections_are_torchvisions():
    """From scores and deltas to the final boxes: thresholds, clipping, small boxes, NMS per class, the best 100."""
    random = torch.Generator().manual_seed(0)
    proposals = random_boxes(400, 8, 250)
    logits = torch.randn(400, 7, generator=random) * 2
    deltas = torch.randn(400, 7, 4, generator=random) * 2
    deltas[:20, :, 2:] = -60  # shrunk to nothing: to be dropped
    model = twins.detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=7)
    (boxes,), (scores,), (labels,) = model.roi_heads.postprocess_detections(
        logits, deltas.flatten(1), [proposals], [(280, 300)]
    )
    found = box_head.postprocess_detections(logits.softmax(-1), deltas, proposals, (280, 300), box_head.BoxSettings())
    assert len(found["boxes"]) == len(boxes) == 100
    torch.testing.assert_close(found["scores"], scores)
    torch.testing.assert_close(found["boxes"], boxes, rtol=0, atol=1e-3)
    assert torch.equal(found["labels"], labels)
