"""The same weights, pictures and targets: torchvision's losses and gradients."""

from dataclasses import replace

import pytest
import torch
import twins

import mrcnn
from mrcnn.data import Playground, collate
from mrcnn.images import ImageSettings
from mrcnn.roi_heads import RoIHeads

EVERYTHING = 10**6  # more samples than there are anchors: both samplers then take all, in whatever order they draw
PROPOSALS = 20  # per picture: enough for every head, and a backward pass of seconds
V1 = ("fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn", twins.JOINT)


def target(boxes: list, num_classes: int, size: tuple[int, int], seed: int) -> dict[str, torch.Tensor]:
    """A target with elliptic masks, and keypoints, some of them invisible, some outside the box, one on its edge."""
    random = torch.Generator().manual_seed(seed)
    boxes = torch.tensor(boxes).reshape(-1, 4)
    count, (height, width) = len(boxes), size
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    centre, radius = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    masks = torch.zeros(count, height, width, dtype=torch.uint8)
    keypoints = torch.zeros(count, 17, 3)
    for i in range(count):
        away = ((x - centre[i, 0]) / radius[i, 0]) ** 2 + ((y - centre[i, 1]) / radius[i, 1]) ** 2
        masks[i] = away <= 1
        keypoints[i, :, :2] = centre[i] + radius[i] * (torch.rand(17, 2, generator=random) * 2.4 - 1.2)
        keypoints[i, :, 2] = torch.randint(0, 3, (17,), generator=random)
        keypoints[i, 0] = torch.tensor([*boxes[i, 2:], 2])  # the corner: the last cell, not one past it
    keypoints[1:2] = 0  # an object whose keypoints nobody has marked
    labels = torch.randint(1, num_classes, (count,), generator=random)
    return {"boxes": boxes, "labels": labels, "masks": masks, "keypoints": keypoints}


def batch(num_classes: int) -> tuple[list, list]:
    """Pictures of three sizes; the last has no objects. Boxes from small to nearly all of the picture, overlapping."""
    pictures = [
        twins.photograph("coffee"),
        twins.photograph("chelsea")[:, 30:290, 100:340],
        twins.photograph("rocket")[:, :300, :280],
    ]
    objects = [
        [[170.5, 50.0, 480.25, 330.0], [20.0, 20.0, 80.0, 60.0], [300.0, 200.0, 590.0, 398.0], [90.0, 120.0, 130, 240]],
        [[30.0, 10.0, 200.0, 250.0], [100.0, 60.0, 140.0, 90.0]],
        [],
    ]
    sizes = [tuple(picture.shape[1:]) for picture in pictures]
    return pictures, [
        target(each, num_classes, size, seed) for seed, (each, size) in enumerate(zip(objects, sizes, strict=True))
    ]


def take_everything(theirs, ours) -> None:
    """Makes both samplers take all anchors and proposals, and both RPNs leave twenty proposals per picture."""
    theirs.rpn.fg_bg_sampler.batch_size_per_image = EVERYTHING
    theirs.roi_heads.fg_bg_sampler.batch_size_per_image = EVERYTHING
    theirs.rpn._post_nms_top_n["training"] = PROPOSALS
    ours.rpn.settings = replace(ours.rpn.settings, samples=EVERYTHING, post_nms_top_n_train=PROPOSALS)
    ours.roi_heads.box = replace(ours.roi_heads.box, samples=EVERYTHING)


def assert_same_losses(expected: dict, found: dict, rtol: float = 1e-4) -> None:
    assert expected.keys() == found.keys()
    for name, loss in expected.items():
        torch.testing.assert_close(
            found[name], loss, rtol=rtol, atol=1e-9, check_dtype=False, msg=lambda m, name=name: f"{name}: {m}"
        )


def assert_same_gradients(theirs, ours) -> None:
    """Every parameter's gradient, as a whole, within 2 % of torchvision's.

    A gradient is less exact than a loss: a ReLU whose input is within rounding of zero lets the gradient through in one
    model and not in the other, and there are fifty of them one behind the other.
    """
    own = dict(ours.named_parameters())
    compared = 0
    for name, parameter in theirs.named_parameters():
        if parameter.grad is not None and parameter.grad.norm() > 1e-5:
            difference = (own[name].grad - parameter.grad).norm() / parameter.grad.norm()
            assert difference < 2e-2, name
            compared += 1
    assert compared > 60


@pytest.fixture(scope="module", params=[*V1, "fasterrcnn_resnet50_fpn_v2", "maskrcnn_resnet50_fpn_v2"])
def trained(request):
    """Both models after one backward pass over the batch, and their losses.

    v1 models have frozen batch norm, as they are trained. v2 models have batch norm that takes the batch's statistics,
    over fifty layers and a few hundred numbers a channel, which makes 1e-4 of float32's rounding: they run in float64.
    """
    builder = request.param
    theirs, ours = twins.small_pair(builder, frozen=builder in V1, short_side=160)
    take_everything(theirs.train(), ours.train())
    pictures, targets = batch(ours.settings.num_classes)
    if builder not in V1:
        theirs.double(), ours.double()
        pictures = [picture.double() for picture in pictures]
        targets = [{**each, "boxes": each["boxes"].double()} for each in targets]
    expected, found = theirs(pictures, targets), ours(pictures, targets)
    sum(expected.values()).backward()
    sum(found.values()).backward()
    return theirs, ours, expected, found


def test_losses_are_torchvisions(trained):
    _, _, expected, found = trained
    assert all(loss > 1e-5 for loss in expected.values()), "a loss of about zero compares nothing"
    assert_same_losses(expected, found)


def test_gradients_are_torchvisions(trained):
    theirs, ours, _, _ = trained
    assert_same_gradients(theirs, ours)


def test_batch_norm_learns_the_same_statistics(trained):
    """In training a trainable batch norm remembers the batch; a frozen one does not move."""
    theirs, ours, _, _ = trained
    own = ours.state_dict()
    for name, tensor in theirs.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(own[name], tensor, rtol=1e-3, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


@pytest.fixture(scope="module")
def joint():
    """The joint model, frozen batch norm, and its counterpart put together from torchvision's parts."""
    theirs, ours = twins.small_pair(twins.JOINT, frozen=True)
    return theirs.train(), ours.train()


@torch.no_grad()
def test_the_same_samples_are_drawn(joint, monkeypatch):
    """256 anchors and 512 proposals, as the models come; what is drawn depends only on how many there are."""

    def permutation(n, **_):
        return torch.argsort(torch.rand(n, generator=torch.Generator().manual_seed(n)))

    monkeypatch.setattr(torch, "randperm", permutation)
    pictures, targets = batch(91)
    assert_same_losses(joint[0](pictures, targets), joint[1](pictures, targets))


@torch.no_grad()
def test_pictures_without_objects(joint):
    """All terms are defined: the two objectness terms are torchvision's, those with nothing to learn are zero."""
    pictures, _ = batch(91)
    nothing = [target([], 91, tuple(picture.shape[1:]), 0) for picture in pictures]
    expected, found = joint[0](pictures, nothing), joint[1](pictures, nothing)
    assert found["loss_mask"] == found["loss_keypoint"] == found["loss_box_reg"] == found["loss_rpn_box_reg"] == 0
    # The two draw different backgrounds here; the mean over hundreds of them is alike.
    assert_same_losses(expected, found, rtol=0.5)


@torch.no_grad()
def test_one_invisible_person_teaches_no_keypoints(joint):
    pictures, targets = batch(91)
    for each in targets:
        each["keypoints"][..., 2] = 0
    found = joint[1](pictures, targets)
    assert found["loss_keypoint"] == 0
    assert found["loss_mask"] > 0


def test_training_draws_a_size_and_evaluation_takes_the_last():
    settings = ImageSettings(min_size=(64, 96, 128), max_size=1000)
    picture = torch.rand(3, 50, 60)
    torch.manual_seed(0)
    drawn = {mrcnn.images.prepare([picture], None, settings, training=True)[0].sizes[0][0] for _ in range(40)}
    assert drawn == {64, 96, 128}
    assert mrcnn.images.prepare([picture], None, settings, training=False)[0].sizes == [(128, 153)]


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("optimiser", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("options", [{"foreach": True}, {"foreach": False}, {"fused": True}])
def test_evaluation_sees_every_training_step(optimiser, options, mode):
    """Weights folded for speed in evaluation must not outlive an optimiser's step: not one that was taken in evaluation
    mode either, and not a fused optimiser's, which writes without being noticed."""
    torch.manual_seed(0)
    backbone = mrcnn.playground_rcnn().backbone
    picture = torch.rand(1, 3, 64, 64)
    step = optimiser(backbone.parameters(), lr=0.01, **options)
    with torch.no_grad():
        before = backbone.eval()(picture)[0]
    backbone.train(mode)(picture)[0].square().mean().backward()
    step.step()
    fresh = mrcnn.playground_rcnn().backbone
    fresh.load_state_dict(backbone.state_dict())
    with torch.no_grad():
        after = backbone.eval()(picture)[0]
        torch.testing.assert_close(after, fresh.eval()(picture)[0])
    assert (after - before).abs().max() > 1e-3


def test_the_mask_head_learns_from_at_most_so_many_regions(monkeypatch):
    """With few regions its own loss is another; the other heads' losses are the same."""
    images, targets = collate([Playground(2, seed=5)[index] for index in range(2)])
    targets = [target | {"seed": 7} for target in targets]
    models = [mrcnn.playground_rcnn(mask={"samples": most}) for most in (None, 2)]
    models[1].load_state_dict(models[0].state_dict())
    regions, predict = [], RoIHeads.predict

    def spy(self, name, features, stride, boxes):
        if name == "mask":
            regions.append([len(each) for each in boxes])
        return predict(self, name, features, stride, boxes)

    monkeypatch.setattr(RoIHeads, "predict", spy)
    every, few = (model(images, targets) for model in models)
    assert min(regions[0]) > 2
    assert regions[1] == [2, 2]
    assert few.pop("loss_mask") != every.pop("loss_mask")
    torch.testing.assert_close(few, every)


def test_the_keypoint_loss_can_weigh_more():
    torch.manual_seed(0)
    images, targets = collate([Playground(2, seed=5)[index] for index in range(2)])
    targets = [target | {"seed": 7} for target in targets]
    weights = [1.0, 3.0]
    models = [mrcnn.playground_rcnn(keypoint={"loss_weight": weight}) for weight in weights]
    models[1].load_state_dict(models[0].state_dict())
    plain, heavy = (model(images, targets) for model in models)
    assert plain["loss_keypoint"] > 0
    torch.testing.assert_close(heavy, plain | {"loss_keypoint": 3 * plain["loss_keypoint"]})


def test_a_picture_with_a_seed_is_sampled_alike_in_every_batch():
    """Its random choices depend on neither the pictures beside it nor torch's generator; without a seed they do."""
    scenes = Playground(3, seed=5)
    model = mrcnn.playground_rcnn(pretrained=True).train()  # it matters to its losses which anchors are drawn
    for norm in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.eval()  # whose statistics are the batch's

    def losses(indices, seed):
        torch.manual_seed(len(indices))
        pictures = [(image, target | seed(index)) for index, (image, target) in ((i, scenes[i]) for i in indices)]
        images, targets = zip(*pictures, strict=True)
        with torch.no_grad():
            found = model(list(images), list(targets))
        return torch.stack([found["loss_objectness"], found["loss_rpn_box_reg"]]) * len(indices)

    def own(index):
        return {"seed": index}

    alone = sum(losses([index], own) for index in range(3))
    torch.testing.assert_close(losses([0, 1, 2], own), alone, rtol=1e-4, atol=1e-6)  # 128 samples of each picture
    unseeded = [losses([0, 1, 2], lambda _: {}) for _ in range(2)]
    torch.testing.assert_close(*unseeded)  # torch's generator was seeded alike
    assert not torch.allclose(unseeded[0], sum(losses([index], lambda _: {}) for index in range(3)), rtol=0.01)
