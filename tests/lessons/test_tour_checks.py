"""The exercises of lesson 00: the stub, the solution, and mistakes, each told by a sentence of its own."""

import pytest
import torch
import torch.nn.functional as F
from lesson_cells import answer, solution, stub, verdict

from mrcnn import backbone, mask_head, zoo
from mrcnn.anchors import AnchorSettings
from mrcnn.lab.exercises import tour

EXERCISES = ("count_anchors", "choose_level", "paste_mask", "read_keypoint", "multiply_adds")
NAMES = {"F": F, "mask_head": mask_head}

# exercise, what the mistake replaces in the solution, by what, and a part of the sentence that it must get
MISTAKES = [
    ("count_anchors", "return 3 * cells", "return cells", "three anchors"),
    ("count_anchors", "(4, 8, 16, 32, 64)", "(4, 8, 16, 32)", "anchors of P6 are missing"),
    ("count_anchors", "(4, 8, 16, 32, 64)", "(4,)", "P2 alone"),
    ("count_anchors", "-(-height // 32) * 32, -(-width // 32) * 32", "height, width", "padded to a multiple of 32"),
    ("count_anchors", "-(-height // stride) * -(-width // stride)", "height // stride * (width // stride)", "round up"),
    ("count_anchors", "return 3 * cells", "return 9 * cells", "has 4,092 anchors, not 12,276"),
    ("count_anchors", "return 3 * cells", "return [3 * cells]", "expected a number, got list"),
    ("choose_level", ".clamp(2, 5)", "", "no level below 2"),
    ("choose_level", "torch.floor", "", "not whole numbers yet"),
    ("choose_level", "torch.floor", "torch.round", "rounds to the nearest"),
    ("choose_level", "return level.clamp(2, 5)", "return level.clamp(2, 5) - 2", "counted from 0"),
    ("choose_level", ".sqrt()", "", "square root of the area"),
    ("choose_level", "torch.log2", "torch.log", "natural logarithm"),
    ("choose_level", "(width * height).sqrt()", "torch.maximum(width, height)", "longest side"),
    ("choose_level", "boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]", "boxes[:, 2], boxes[:, 3]", "corner"),
    ("choose_level", "side / canonical_size", "side / 224", "use the argument"),
    ("choose_level", "return level.clamp(2, 5)", "return level.clamp(2, 5)[0]", "expected shape (9,), got ()"),
    ("choose_level", "4 +", "5 +", "values differ"),
    ("paste_mask", "F.pad(mask, (1, 1, 1, 1))", "mask", "rim is missing"),
    ("paste_mask", "len(rimmed) / len(mask)", "1.0", "did not grow"),
    ("paste_mask", " + 1", "", "last pixel"),
    ("paste_mask", "align_corners=False", "align_corners=True", "align_corners=False"),
    ("paste_mask", "return picture", "return (picture > 0.5).float()", "keep the probabilities"),
    ("paste_mask", "return picture", "return picture.T", "rows and columns"),
    ("paste_mask", "large[top - y1 : bottom - y1, left - x1 : right - x1]", "large", "has room for"),
    ("paste_mask", "left - x1 : right - x1", ": right - left", "cut off what lies before"),
    ("paste_mask", 'mode="bilinear", align_corners=False', 'mode="nearest"', "values differ"),
    ("read_keypoint", "return x, y", "return y, x", "swapped"),
    ("read_keypoint", "0.5", "0.0", "half a pixel"),
    ("read_keypoint", " + box[0]", "", "values differ"),
    ("read_keypoint", "return x, y", "return x - box[0], y - box[1]", "inside the box"),
    ("read_keypoint", "large.argmax()), width", "large.argmax()), height", "divide by the width"),
    ("read_keypoint", "size.ceil().int().tolist()", "heatmap.shape", "enlarge the map"),
    ("read_keypoint", "return x, y", "return float(x)", "two numbers"),
    ("multiply_adds", "return ", "return 2 * ", "count as one"),
    ("multiply_adds", "kernel * kernel", "kernel", "kernel is a square"),
    ("multiply_adds", " * channels_out", "", "one output channel"),
    ("multiply_adds", "channels_in * ", "", "one input channel"),
    ("multiply_adds", " * height * width", "", "one place of the map"),
    ("multiply_adds", "height * width", "height", "multiply-adds, not"),
]  # fmt: skip


@pytest.mark.parametrize("name", EXERCISES)
def test_the_stub_is_not_written_yet(name):
    assert verdict(getattr(tour, name), answer(stub("00", name), **NAMES))[0] == "not written"


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_and_the_library_pass(name):
    exercise = getattr(tour, name)
    assert verdict(exercise, answer(solution("00", name), **NAMES)) == ("right", "")
    assert verdict(exercise, exercise.library) == ("right", "")


@pytest.mark.parametrize(("name", "right", "wrong", "sentence"), MISTAKES)
def test_each_mistake_gets_its_own_sentence(name, right, wrong, sentence):
    source = solution("00", name)
    assert right in source
    status, message = verdict(getattr(tour, name), answer(source.replace(right, wrong), **NAMES))
    assert status == "wrong"
    assert sentence in message


def test_messages_differ():
    messages = {}
    for name, right, wrong, _ in MISTAKES:
        source = solution("00", name).replace(right, wrong)
        messages.setdefault(name, []).append(verdict(getattr(tour, name), answer(source, **NAMES))[1])
    for each in messages.values():
        assert len(set(each)) == len(each) >= 2


@pytest.mark.parametrize("size", tour.SIZES)
def test_anchors_are_counted_as_the_backbone_and_torchvision_make_them(size):
    generator = pytest.importorskip("torchvision.models.detection.anchor_utils").AnchorGenerator
    image_list = pytest.importorskip("torchvision.models.detection.image_list").ImageList
    height, width = (-(-side // 32) * 32 for side in size)
    with torch.device("meta"):
        maps = backbone.make_backbone(backbone.BackboneSettings())(torch.empty(1, 3, height, width))
    maps = [torch.empty(each.shape) for each in maps]
    settings = AnchorSettings()
    anchors = generator(settings.sizes, (settings.ratios,) * 5)
    (made,) = anchors(image_list(torch.empty(1, 3, height, width), [size]), maps)
    assert tour._count_anchors(*size) == len(made)


def test_the_libraries_agree_with_torchvision():
    pytest.importorskip("torchvision")
    assert torch.equal(tour._choose_level(tour.ROIS, 224.0), tour._levels_of_torchvision(tour.ROIS, 224.0))
    for box in (tour.INSIDE, tour.ACROSS):
        ours, theirs = (f(tour.MASK, box, tour.PICTURE) for f in (tour._paste_mask, tour._paste_of_torchvision))
        torch.testing.assert_close(ours, theirs)
    for heatmap in tour.HEATMAPS:
        ours, theirs = (f(heatmap, tour.BOX) for f in (tour._read_keypoint, tour._keypoint_of_torchvision))
        torch.testing.assert_close(ours, theirs)


def test_the_stages_multiply_adds_are_those_of_the_formula():
    """Counted also where convolution, sum and ReLU are one call."""
    small = zoo.playground_rcnn().eval()
    maps = [torch.zeros(1, 64, 2**side, 2**side) for side in (5, 4, 3, 2, 1)]
    formula = answer(solution("00", "multiply_adds"))
    want = sum(formula(64, 64, 3, *m.shape[2:]) + formula(64, 15, 1, *m.shape[2:]) for m in maps)
    assert tour.count_multiply_adds(lambda: small.rpn.head(maps)) == want
    block = small.backbone.body.layer2[0]  # two convolutions and a shortcut, which is added
    want = formula(32, 64, 3, 16, 16) + formula(64, 64, 3, 16, 16) + formula(32, 64, 1, 16, 16)
    assert tour.count_multiply_adds(lambda: block(torch.zeros(1, 32, 32, 32))) == want
