"""What the model says to bad input: the argument, what was expected, what came. And what it takes without complaint."""

import pytest
import torch

import mrcnn
from mrcnn.images import ImageSettings


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return mrcnn.playground_rcnn(images=ImageSettings(min_size=(64,), max_size=128))


def picture() -> torch.Tensor:
    return torch.rand(3, 64, 80, generator=torch.Generator().manual_seed(0))


def target(**changes) -> dict[str, torch.Tensor]:
    """A valid target of two objects, with some tensors replaced; None leaves one out."""
    whole = {
        "boxes": torch.tensor([[5.0, 5, 30, 40], [20, 10, 70, 60]]),
        "labels": torch.tensor([1, 6]),
        "masks": torch.ones(2, 64, 80, dtype=torch.uint8),
        "keypoints": torch.full((2, 17, 3), 20.0),
        **changes,
    }
    return {key: value for key, value in whole.items() if value is not None}


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.rand(2, 3, 64, 64), TypeError, r"images must be a list"),
        ([], TypeError, r"images must be a list"),
        ([[1, 2]], TypeError, r"images\[0\] must be a tensor"),
        ([picture(), torch.rand(1, 64, 64)], ValueError, r"images\[1\].*\(3, H, W\).*\(1, 64, 64\)"),
        ([torch.rand(4, 64, 64)], ValueError, r"images\[0\].*\(4, 64, 64\)"),
        ([torch.rand(64, 64, 3)], ValueError, r"images\[0\].*\(64, 64, 3\)"),
        ([torch.rand(64, 64)], ValueError, r"images\[0\].*\(64, 64\)"),
        ([torch.rand(3, 0, 64)], ValueError, r"images\[0\].*\(3, 0, 64\)"),
        ([torch.zeros(3, 64, 64, dtype=torch.int64)], TypeError, r"images\[0\].*uint8.*int64"),
        ([torch.full((3, 64, 64), torch.nan)], ValueError, r"images\[0\].*finite"),
        ([torch.full((3, 64, 64), torch.inf)], ValueError, r"images\[0\].*finite"),
        ([torch.rand(3, 64, 64) * 255], ValueError, r"images\[0\].*in \[0, 1\].*mean of 12\d"),
        ([torch.full((3, 64, 64), 3e38)], ValueError, r"images\[0\].*in \[0, 1\].*mean"),
    ],
)
def test_bad_images_are_refused(model, images, error, message):
    with pytest.raises(error, match=message):
        model.eval()(images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": torch.tensor([[5.0, 5, 30, 40], [20, 10, 20, 60]])}, r"boxes.*x2 > x1.*row 1"),
        ({"boxes": torch.tensor([[5.0, 5, 30, 4], [20, 10, 30, 60]])}, r"boxes.*y2 > y1.*row 0"),
        ({"boxes": torch.tensor([[5.0, 5, 30, torch.nan], [20, 10, 30, 60]])}, r"boxes.*finite.*row 0"),
        ({"boxes": torch.tensor([[5.0, 5, torch.inf, 9], [20, 10, 30, 60]])}, r"boxes.*finite.*row 0"),
        ({"boxes": torch.tensor([[5, 5, 30, 40], [20, 10, 30, 60]])}, r"boxes.*float"),
        ({"boxes": torch.rand(2, 5)}, r"boxes.*\(K, 4\)"),
        ({"boxes": None}, r'"boxes"'),
        ({"labels": torch.tensor([1, 7])}, r"labels.*1 to 6.*7"),
        ({"labels": torch.tensor([0, 1])}, r"labels.*1 to 6.*0"),
        ({"labels": torch.tensor([1])}, r"labels.*\(2,\)"),
        ({"labels": torch.tensor([1.0, 2.0])}, r"labels.*int64"),
        ({"masks": None}, r'"masks"'),
        ({"masks": torch.ones(2, 64, 64, dtype=torch.uint8)}, r"masks.*\(2, 64, 80\)"),
        ({"masks": torch.ones(1, 64, 80, dtype=torch.uint8)}, r"masks.*\(2, 64, 80\)"),
        ({"masks": torch.full((2, 64, 80), 255, dtype=torch.uint8)}, r"masks.*0 or 1, got 255 to 255"),
        ({"masks": torch.full((2, 64, 80), torch.nan)}, r"masks.*0 or 1, got nan"),
        ({"boxes": torch.tensor(3.0)}, r"boxes.*\(K, 4\)"),
        ({"labels": torch.tensor(1)}, r"labels.*\(2,\)"),
        ({"labels": [1, 6]}, r'"labels"'),
        ({"keypoints": None}, r'"keypoints"'),
        ({"keypoints": torch.zeros(2, 16, 3)}, r"keypoints.*\(2, 17, 3\)"),
    ],
)
def test_bad_targets_are_refused(model, changes, message):
    with pytest.raises((ValueError, TypeError), match=rf"targets\[1\].*{message}"):
        model.train()([picture(), picture()], [target(), target(**changes)])


@pytest.mark.parametrize("targets", [None, [], [target()], "targets", [target(), 3]])
def test_targets_must_be_one_dict_per_picture(model, targets):
    with pytest.raises((ValueError, TypeError), match="targets"):
        model.train()([picture(), picture()], targets)


def test_a_refused_target_leaves_the_callers_alone(model):
    """Neither pictures nor targets are changed by a step: they are the caller's."""
    images, targets = [picture()], [target()]
    model.train()(images, targets)
    assert torch.equal(images[0], picture())
    assert all(torch.equal(targets[0][key], value) for key, value in target().items())


def test_a_picture_without_objects_is_valid(model):
    nothing = target(
        boxes=torch.zeros(0, 4),
        labels=torch.zeros(0, dtype=torch.int64),
        masks=torch.zeros(0, 64, 80, dtype=torch.uint8),
        keypoints=torch.zeros(0, 17, 3),
    )
    losses = model.train()([picture(), picture()], [nothing, nothing])
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    losses = model([picture(), picture()], [nothing, target()])
    assert all(torch.isfinite(loss) for loss in losses.values())


@torch.no_grad()
def test_one_huge_and_one_tiny_picture(model):
    """Results are in each picture's own pixels and inside it, be it 2000 pixels wide or a single one."""
    sizes = [(700, 2000), (1, 1), (3, 200), (64, 64)]
    results = model.eval()([torch.rand(3, *size) for size in sizes])
    for (height, width), found in zip(sizes, results, strict=True):
        assert found["masks"].shape[1:] == (1, height, width)
        assert (found["boxes"] >= 0).all()
        assert (found["boxes"] <= torch.tensor([width, height, width, height]) + 1e-3).all()
        assert all(torch.isfinite(value).all() for value in found.values())


@torch.no_grad()
def test_nothing_found_has_the_shapes_of_something(model):
    """A picture where no score passes gives empty tensors of the usual shapes."""
    bias = model.roi_heads.box_predictor.cls_score.bias
    before = bias.clone()
    bias[0] = 100.0
    try:
        (found,) = model.eval()([picture()])
    finally:
        bias.copy_(before)
    assert_nothing(found)


def assert_nothing(found: dict[str, torch.Tensor], masks: bool = True, keypoints: bool = True) -> None:
    """A result without objects: the tensors and types of any other, for a picture of 64 × 80."""
    shapes = {"boxes": (0, 4), "labels": (0,), "scores": (0,)}
    shapes |= {"masks": (0, 1, 64, 80)} if masks else {}
    shapes |= {"keypoints": (0, 17, 3), "keypoints_scores": (0, 17)} if keypoints else {}
    assert {key: tuple(value.shape) for key, value in found.items()} == shapes
    assert all(value.dtype == (torch.int64 if key == "labels" else torch.float32) for key, value in found.items())


@pytest.mark.parametrize(
    ("builder", "masks", "keypoints"),
    [
        ("playground_rcnn", True, True),
        ("maskrcnn_resnet50_fpn", True, False),
        ("keypointrcnn_resnet50_fpn", False, True),
        ("maskrcnn_resnet50_fpn_v2", True, False),
    ],
)
@pytest.mark.parametrize("context", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_no_proposal_survives(builder, masks, keypoints, context):
    """Boxes of pictures of 64 × 80 are smaller than the least size: no proposal, no detection, in two pictures."""
    images = {"min_size": (64,), "max_size": 128}
    model = getattr(mrcnn, builder)(images=images, rpn={"min_size": 1000.0}).eval()
    with context():
        results = model([picture(), picture()])
    for found in results:
        assert_nothing(found, masks, keypoints)


@torch.no_grad()
def test_no_proposal_survives_in_one_picture_of_two():
    """A picture of 64 × 64 beside one of 16 × 128, which is too flat for a proposal of 20 pixels."""
    torch.manual_seed(0)
    images = {"min_size": (64,), "max_size": 128}  # the flat one stays as it is
    model = mrcnn.playground_rcnn(images=images, rpn={"min_size": 20.0}, box={"min_score": 0.0}).eval()
    flat, square = torch.rand(3, 16, 128), torch.rand(3, 64, 64)
    nothing, found = model([flat, square])
    assert nothing["boxes"].shape == (0, 4)
    assert nothing["masks"].shape == (0, 1, 16, 128)
    assert nothing["keypoints"].shape == (0, 17, 3)
    assert found["masks"].shape == (len(found["boxes"]), 1, 64, 64)
    assert len(found["boxes"])


@torch.no_grad()
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize(
    ("name", "predicted"),
    [
        ("backbone.body.conv1.weight", "features"),
        ("backbone.body.layer3.0.bn2.bias", "features"),
        ("backbone.fpn.inner_blocks.0.0.weight", "features"),
        ("backbone.fpn.layer_blocks.1.0.weight", "features"),
        ("rpn.head.bbox_pred.bias", "region proposals"),
        ("rpn.head.cls_logits.weight", "region proposals"),
        ("roi_heads.box_head.fc6.weight", "boxes"),
        ("roi_heads.box_predictor.cls_score.bias", "boxes"),
        ("roi_heads.box_predictor.bbox_pred.weight", "boxes"),
        ("roi_heads.mask_head.0.0.weight", "masks"),
        ("roi_heads.mask_predictor.mask_fcn_logits.bias", "masks"),
        ("roi_heads.keypoint_predictor.kps_score_lowres.weight", "keypoints"),
    ],
)
def test_weights_that_are_not_finite_are_told(name, predicted, value):
    """Not a result of nothing, nor empty boxes: a sentence that names what came out wrong."""
    torch.manual_seed(0)
    model = mrcnn.playground_rcnn(images={"min_size": (64,), "max_size": 128}, box={"min_score": 0.0}).eval()
    assert len(model([picture()])[0]["boxes"])  # so that there are masks and keypoints to predict
    model.get_parameter(name).fill_(value)
    with pytest.raises(ValueError, match=f"(the {predicted} that the model computes|its norm) are NaN or infinite"):
        model([picture()])


@torch.no_grad()
def test_features_that_overflow_are_told(model):
    """Weights that are finite, but too large: with them the features are not."""
    weight = model.backbone.fpn.layer_blocks[0][0].weight
    before = weight.clone()
    weight.fill_(3e38)
    try:
        with pytest.raises(ValueError, match="the features that the model computes are NaN or infinite"):
            model.eval()([picture()])
    finally:
        weight.copy_(before)
