"""A head and a body of one's own, put into the model as `roi_heads.Head` and `backbone.BODIES` say."""

from dataclasses import dataclass, fields, replace

import pytest
import torch
from torch import Tensor, nn

import mrcnn
from mrcnn import backbone
from mrcnn.data import Playground, collate
from mrcnn.model import MaskRCNN, ModelSettings
from mrcnn.model_file import save_model
from mrcnn.roi_heads import Head, HeadSettings
from mrcnn.sampling import mean_or_zero
from mrcnn.settings import Cells
from mrcnn.zoo import load_model

# ---- a head: is a person's nose left or right of the middle of its box?


@dataclass(frozen=True)
class FacingSettings(HeadSettings):
    resolution: Cells = 7

    def head(self) -> "FacingHead":
        return FacingHead(self)


class FacingHead(Head):
    name, target = "facing", "facing"  # int64 (K,): 0 left, 1 right, -1 not known

    def layers(self, channels, num_classes, norm):
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(32), nn.ReLU()), nn.Linear(32, 2)

    def learn_from(self, samples, target):
        return samples.positive(target["facing"] >= 0)

    def loss(self, logits, samples, targets):
        wanted = torch.cat([target["facing"][s.objects] for s, target in zip(samples, targets, strict=True)])
        return mean_or_zero(nn.functional.cross_entropy(logits, wanted, reduction="sum"), len(wanted))

    def results(self, logits, found):
        return {"facing": logits.argmax(1)}


@dataclass(frozen=True)
class WithFacing(ModelSettings):  # in the package: a line of ModelSettings
    facing: FacingSettings | None = None


def scenes_with_facing(count: int) -> tuple[list[Tensor], list[dict]]:
    images, targets = collate([Playground(count, seed=3)[index] for index in range(count)])
    for target in targets:
        nose, middle = target["keypoints"][:, 0], target["boxes"][:, [0, 2]].mean(1)
        target["facing"] = torch.where(nose[:, 2] > 0, (nose[:, 0] > middle).long(), -1)
    return images, targets


def test_a_head_of_ones_own_learns_and_answers():
    torch.manual_seed(0)
    plain = mrcnn.playground_rcnn().settings
    values = {field.name: getattr(plain, field.name) for field in fields(plain)}
    model = MaskRCNN("with_facing", WithFacing(**values, facing=FacingSettings()))
    images, targets = scenes_with_facing(8)
    optimizer = None
    losses = []
    for _ in range(12):
        found = model(images, targets)
        optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=2e-3)  # the lazy layer has its shape now
        optimizer.zero_grad()
        found["loss_facing"].backward()
        optimizer.step()
        losses.append(found["loss_facing"].item())
    assert list(found)[-3:] == ["loss_mask", "loss_keypoint", "loss_facing"]
    assert losses[-1] < 0.5 * losses[0]
    result = model.eval()(images[:1])[0]
    assert result["facing"].shape == result["labels"].shape
    assert WithFacing.from_dict(model.settings.to_dict()) == model.settings


def test_what_a_head_of_ones_own_learns_from_is_asked_for():
    plain = mrcnn.playground_rcnn().settings
    values = {field.name: getattr(plain, field.name) for field in fields(plain)}
    model = MaskRCNN("with_facing", WithFacing(**values, facing=FacingSettings()))
    images, targets = scenes_with_facing(1)
    del targets[0]["facing"]
    with pytest.raises(ValueError, match='targets\\[0\\] must have a tensor "facing"'):
        model(images, targets)


# ---- a body: torchvision's RegNet


class RegNet(nn.Module):
    """The smallest of Radosavovic et al. 2020, without its classifier."""

    def __init__(self):
        super().__init__()
        from torchvision.models import regnet_y_400mf

        whole = regnet_y_400mf()
        self.stem, self.blocks = whole.stem, whole.trunk_output
        self.channels = [block[-1].f.c[0].out_channels for block in self.blocks]

    @property
    def stages(self) -> list[nn.Module]:
        return [self.stem, *self.blocks]

    def forward(self, x: Tensor) -> list[Tensor]:
        x, maps = self.stem(x), []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps


@pytest.fixture
def regnet(monkeypatch):
    pytest.importorskip("torchvision", reason="torchvision, whose RegNet is the body, is not installed")
    monkeypatch.setitem(backbone.BODIES, "regnet", lambda norm: RegNet())


def test_a_body_of_ones_own_is_trained_saved_and_built_again(regnet, tmp_path):
    torch.manual_seed(0)
    images, targets = collate([Playground(2, seed=3)[index] for index in range(2)])
    model = mrcnn.playground_rcnn(backbone={"body": "regnet"})
    sum(model(images, targets).values()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.backbone.body.parameters())
    expected = model.eval()(images)
    save_model(model, tmp_path / "model.pt")
    again = load_model(tmp_path / "model.pt")
    assert again.settings == model.settings
    torch.testing.assert_close(again(images), expected, rtol=0, atol=0)


def test_its_first_stages_can_be_frozen(regnet):
    with pytest.warns(UserWarning, match="trainable_stages=3 without weights .* train all 5"):
        model = mrcnn.playground_rcnn(backbone={"body": "regnet"}, trainable_stages=3)
    body = model.backbone.body
    trained = [all(p.requires_grad for p in stage.parameters()) for stage in body.stages]
    assert trained == [False, False, True, True, True]
    assert not any(p.requires_grad for p in body.stem.parameters())


def test_a_body_that_does_not_say_enough(regnet, monkeypatch):
    monkeypatch.setitem(backbone.BODIES, "bare", lambda norm: nn.Conv2d(3, 8, 3))
    with pytest.raises(ValueError, match="'bare' must say the widths of its 4 maps"):
        mrcnn.playground_rcnn(backbone={"body": "bare"})
    monkeypatch.delattr(RegNet, "stages")
    with pytest.raises(ValueError, match="RegNet has no `stages`"):
        mrcnn.playground_rcnn(backbone={"body": "regnet"}, trainable_stages=3)
    settings = mrcnn.playground_rcnn().settings
    with pytest.raises(ValueError, match=r"one of mrcnn\.backbone\.BODIES \(resnet50"):
        replace(settings.backbone, body="convnext")
