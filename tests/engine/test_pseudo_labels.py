"""Learning from pictures without labels: who teaches, what becomes a target, and that it moves with its picture."""

from contextlib import nullcontext

import pytest
import torch
from fakes import HandMade
from PIL import Image
from torch import nn

import mrcnn
from mrcnn import boxes as box_maths
from mrcnn.box_head import BoxSettings, box_losses
from mrcnn.data import PictureError, PictureFolder
from mrcnn.data.augment import PADDING
from mrcnn.data.folder import WithoutObjects
from mrcnn.engine.pseudo_labels import Teacher, pseudo_target
from mrcnn.engine.settings import TrainSettings
from mrcnn.engine.train import train
from mrcnn.rpn import RegionProposalNetwork, RPNSettings
from mrcnn.sampling import Samples


class Seen:
    """What the models of a run were asked, teacher and student alike."""

    def __init__(self):
        self.teacher, self.student, self.targets = [], [], []

    def __deepcopy__(self, _memo):
        return self  # the teacher is a copy of the student


class Dark(nn.Module):
    """A detector that knows one thing: what is dark is an object of label 1. Its loss teaches its weight to be 3."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen = Seen()

    def forward(self, images, targets=None):
        if targets is None:
            self.seen.teacher.append(self.weight.item())
            return [self.find(image) for image in images]
        self.seen.student.append(self.weight.item())
        self.seen.targets.append(targets)
        return {"loss": (self.weight - 3) ** 2}

    @staticmethod
    def find(image):
        mask = image[0] < 50
        rows, columns = mask.nonzero().T
        box = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
        return {
            "boxes": box[None],
            "labels": torch.tensor([1]),
            "scores": torch.tensor([0.9]),
            "masks": mask[None, None].float(),
        }


def spots(count: int) -> list[torch.Tensor]:
    """Grey pictures, as what augmentation pads with, with a black rectangle each, at another place."""
    pictures = torch.full((count, 3, 60, 80), PADDING, dtype=torch.uint8)
    for number, picture in enumerate(pictures):
        picture[:, 15 + number : 40, 20 + 2 * number : 55] = 0
    return list(pictures)


def settings(**changes) -> TrainSettings:
    return TrainSettings(**{"steps": 5, "batch_size": 4, "average": 0.5, "warmup": 0.0, "tensorboard": False} | changes)


def labelled() -> HandMade:
    return HandMade([[(2, [10, 20, 30, 40], 0)]] * 3, (60, 80))


def test_a_detection_becomes_a_target_from_its_score_on():
    found = {
        "boxes": torch.tensor([[3.0, 2, 7, 5], [0, 1, 12, 2], [0, 1, 12, 2]]),
        "labels": torch.tensor([4, 6, 7]),
        "scores": torch.tensor([0.75, 0.7, 0.69]),
        "masks": torch.ones(3, 1, 10, 12),
        "keypoints": torch.ones(3, 17, 3),
        "keypoints_scores": torch.ones(3, 17),
    }
    target = pseudo_target(found, 0.7, (10, 12))
    assert target["labels"].tolist() == [4, 6]
    assert target["boxes"].tolist() == [[3, 2, 7, 5], [0, 1, 12, 2]]
    assert target["area"].tolist() == [12, 12]
    assert target["iscrowd"].tolist() == [0, 0]
    assert target["exact"].tolist() == [False, False]
    for key, shape in (("masks", (2, 10, 12)), ("keypoints", (2, 17, 3))):  # neither teaches its head
        assert target[key].shape == shape
        assert not target[key].any()
    assert "keypoints" not in pseudo_target({key: found[key] for key in ("boxes", "labels", "scores")}, 0.7, (10, 12))


def test_what_is_there_is_taught_and_not_where_exactly():
    """Trained on nothing but what a teacher found, what says where (boxes, masks, keypoints) gets no gradient."""
    torch.manual_seed(0)
    model = mrcnn.playground_rcnn(num_classes=3)
    found = {"boxes": torch.tensor([[10.0, 10, 40, 50]]), "labels": torch.tensor([1]), "scores": torch.tensor([0.9])}
    target = pseudo_target(found | {"keypoints": torch.ones(1, 17, 3)}, 0.7, (60, 80))
    sum(model([spots(1)[0]], [target]).values()).backward()
    learns = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    for layer in ("rpn.head.cls_logits", "roi_heads.box_predictor.cls_score"):
        assert f"{layer}.weight" in learns
    for layer in ("rpn.head.bbox_pred", "roi_heads.box_predictor.bbox_pred", "roi_heads.mask_", "roi_heads.keypoint_"):
        assert not any(name.startswith(layer) for name in learns)


def test_a_box_that_is_not_exact_costs_nothing():
    """Of two objects one is not exact. The losses of boxes are as if the model were right about that one."""
    torch.manual_seed(0)
    target = {"boxes": torch.tensor([[0.0, 0, 30, 40], [50, 20, 90, 60]]), "labels": torch.tensor([1, 2])}
    rough = target | {"exact": torch.tensor([True, False])}

    boxes = target["boxes"].repeat(4, 1) + torch.rand(8, 1)
    samples = Samples(boxes, torch.tensor([1, 2] * 3 + [0, 0]), torch.tensor([0, 1] * 3 + [0, 0]))
    logits, deltas, settings = torch.randn(8, 3), torch.randn(8, 3, 4), BoxSettings()
    right = deltas.clone()
    right[1:6:2, 2] = box_maths.encode(target["boxes"][[1, 1, 1]], boxes[1:6:2], settings.delta_weights)
    found = box_losses(logits, deltas, [samples], [rough], settings)
    torch.testing.assert_close(found, box_losses(logits, right, [samples], [target], settings))
    assert found["loss_box_reg"] < box_losses(logits, deltas, [samples], [target], settings)["loss_box_reg"]

    rpn = RegionProposalNetwork(8, RPNSettings())
    anchors = target["boxes"].repeat(5, 1) + torch.randn(10, 1)
    logits, deltas = torch.randn(1, 10), torch.randn(1, 10, 4)
    right = deltas.clone()
    right[0, 1::2] = box_maths.encode(target["boxes"][[1] * 5], anchors[1::2], (1.0, 1.0, 1.0, 1.0))
    found = rpn.losses(anchors, logits, deltas, [rough])
    torch.testing.assert_close(found, rpn.losses(anchors, logits, right, [target]))
    assert found["loss_rpn_box_reg"] < rpn.losses(anchors, logits, deltas, [target])["loss_rpn_box_reg"]


@pytest.mark.parametrize("exact", [torch.ones(2, dtype=torch.bool), torch.ones(1), [True]])
def test_what_exact_must_be(exact):
    target = {"boxes": torch.tensor([[10.0, 10, 40, 50]]), "labels": torch.tensor([1])}
    with pytest.raises((TypeError, ValueError), match=r'targets\[0\]\["exact"\]'):
        mrcnn.fasterrcnn_resnet50_fpn(num_classes=3)([torch.rand(3, 60, 80)], [target | {"exact": exact}])


def test_what_the_teacher_found_moves_with_the_picture():
    """The student's picture is scaled, cut and recoloured: the box is still around its dark pixels."""
    model = Dark()
    teacher = Teacher(model, None, settings(teacher="start"))
    pictures = spots(8)
    images, targets = zip(*[WithoutObjects(pictures)[index] for index in range(8)], strict=True)
    moved = 0
    for step in range(4):
        for before, image, target in zip(pictures, *teacher.teach(list(images), list(targets), step), strict=True):
            if not len(target["boxes"]):  # cut away altogether
                continue
            light = image > (int(image.amin()) + int(image.amax())) / 2
            found = Dark.find(255 * light)["boxes"]
            assert (found - target["boxes"]).abs().max() <= 2  # the border is smooth
            moved += not torch.equal(before, image)
    assert moved > 20
    first, second = (teacher.teach(list(images), list(targets), step)[0][0] for step in (0, 1))
    assert not torch.equal(first, second)  # in another way each time


def test_the_start_teaches_as_it_was():
    model = Dark()
    train(model, labelled(), settings(teacher="start"), unlabelled=spots(6))
    assert model.seen.teacher == [0] * 5
    assert model.seen.student[-1] > 0.1


def test_the_average_teaches_and_learns():
    """The first average is the weight itself; then it moves by what the run's setting says."""
    model = Dark()
    train(model, labelled(), settings(average=0.15), unlabelled=spots(6))
    before, *after = model.seen.student
    expected = [before, after[0]]
    for weight in after[1:]:
        expected.append(0.15 * expected[-1] + 0.85 * weight)
    assert model.seen.teacher == pytest.approx(expected, rel=1e-5)  # float32
    assert model.seen.teacher[-1] < model.seen.student[-1]


def test_half_of_each_batch_has_no_labels():
    model = Dark()
    train(model, labelled(), settings(), unlabelled=spots(6))
    assert len(model.seen.targets) == 5
    for targets in model.seen.targets:
        assert [target["labels"].tolist() for target in targets] == [[2], [2], [1], [1]]
        assert [str(target["image_id"]).startswith("unlabelled") for target in targets] == [False, False, True, True]
    assert len({target["image_id"] for targets in model.seen.targets for target in targets[2:]}) == 6


def test_a_picture_is_made_harder_in_another_way_at_each_step():
    model = Dark()
    train(model, labelled(), settings(batch_size=2), unlabelled=spots(1))
    boxes = {tuple(targets[1]["boxes"].flatten().tolist()) for targets in model.seen.targets}
    assert len(boxes) > 2


def test_a_run_with_a_teacher_is_stopped_and_resumed_to_the_bit(tmp_path):
    """The real model, which samples at random: two and two steps are as good as four."""

    def run(steps: int, out, resume=False) -> dict:
        torch.manual_seed(0)
        model = mrcnn.playground_rcnn(num_classes=3)
        options = settings(steps=4, pseudo_score=0.0, average=0.9, lr=0.001, seed=3)
        evaluate = None
        if steps < 4:  # what ends the run in between
            options = settings(steps=4, pseudo_score=0.0, average=0.9, lr=0.001, seed=3, evaluate_every=steps)

            def evaluate(_model, _step):
                raise RuntimeError("the power is gone")

        with pytest.raises(RuntimeError, match="power") if evaluate else nullcontext():
            train(model, labelled(), options, unlabelled=spots(6), out=out, evaluate=evaluate, resume=resume)
        return model.state_dict()

    whole = run(4, tmp_path / "whole")
    run(2, tmp_path / "parts")
    resumed = run(4, tmp_path / "parts", resume=True)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_what_cannot_be_is_told():
    with pytest.raises(ValueError, match=r"multiple of 2 .*with and without labels.*got 3"):
        train(Dark(), labelled(), settings(batch_size=3), unlabelled=spots(6))
    with pytest.raises(ValueError, match="give average"):
        train(Dark(), labelled(), settings(average=0.0), unlabelled=spots(6))


def test_a_folder_of_pictures(tmp_path):
    for number, name in enumerate(("b.png", "deep/a.jpg", "C.PNG")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4 + number, 3), (200, 10, 10)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    pictures = PictureFolder(tmp_path)
    assert [tuple(picture.shape) for picture in pictures] == [(3, 3, 6), (3, 3, 4), (3, 3, 5)]  # by name
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="has no pictures"):
        PictureFolder(empty)
    with pytest.raises(ValueError, match="there is no folder"):
        PictureFolder(tmp_path / "none")


def test_a_broken_picture_of_a_folder_is_passed_over_where_asked_for(tmp_path):
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        Image.new("RGB", (4 + number, 3)).save(tmp_path / name)
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:40])
    with pytest.raises(PictureError, match=r"b\.png cannot be read"):
        PictureFolder(tmp_path)[1]
    with pytest.warns(UserWarning, match=r"skipped: .*b\.png cannot be read"):
        assert PictureFolder(tmp_path, "skip")[1].shape == (3, 3, 6), "the next one"
    for name in ("a.png", "c.png"):
        (tmp_path / name).write_text("no picture")
    with (
        pytest.warns(UserWarning, match="skipped"),
        pytest.raises(PictureError, match="none of the 3 pictures can be read"),
    ):
        PictureFolder(tmp_path, "skip")[2]
