"""Muon: the orthogonal step against a singular value decomposition in float64, AdamW for the rest, and resuming."""

import pytest
import torch
from torch import nn

from mrcnn import playground_rcnn
from mrcnn.engine.muon import POLYNOMIAL, hidden_kernels, orthogonal
from mrcnn.engine.schedule import make_optimizer
from mrcnn.engine.settings import TrainSettings

SETTINGS = TrainSettings(steps=1, optimizer="muon", lr=0.01, weight_decay=0.1)


def by_singular_values(matrix: torch.Tensor) -> torch.Tensor:
    """What `orthogonal` is to give: each singular value sent five times through the polynomial."""
    u, s, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / s.norm()
    a, b, c = POLYNOMIAL
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    return u @ torch.diag(s) @ vt


@pytest.mark.parametrize("shape", [(8, 72), (64, 9), (16, 24), (1, 9)])
def test_the_step_is_nearly_orthogonal(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape) @ torch.diag(torch.logspace(0, -1, shape[1]))  # strong directions and weak ones
    found = orthogonal([torch.randn(shape), torch.randn(5, 5), matrix, torch.randn(8, 40)])[2]
    # float32: the rounds multiply rounding errors of weak directions by up to 3.4 each.
    torch.testing.assert_close(found.double(), by_singular_values(matrix), atol=1e-4, rtol=1e-3)
    values = torch.linalg.svdvals(found)
    assert values.max() < 1.25
    assert values.min() > 0.65


def small_model() -> nn.Module:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, bias=False)
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), conv, nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(96, 2))


def take_steps(model: nn.Module, optimizer: torch.optim.Optimizer, seeds: range) -> list[torch.Tensor]:
    """Steps on random pictures; the gradients of the second convolution."""
    gradients = []
    for seed in seeds:
        pictures = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        model(pictures).square().mean().backward()
        gradients.append(model[1].weight.grad.clone())
        optimizer.step()
    return gradients


def test_hidden_kernels_take_an_orthogonal_step_with_momentum():
    model = small_model()
    weight = model[1].weight.detach().double()
    momentum = torch.zeros_like(weight)
    for gradient in take_steps(model, make_optimizer(model, SETTINGS), range(3)):
        momentum = 0.95 * momentum + 0.05 * gradient.double()
        ahead = 0.95 * momentum + 0.05 * gradient.double()
        step = by_singular_values(ahead.flatten(1)).view_as(weight)  # 6 × 36: no taller than wide
        weight = weight * (1 - 0.1 * 0.1) - 0.1 * step  # ten times the rate of 0.01
    # float32 in the model: three steps of 0.1, each of it right to about 1e-4
    torch.testing.assert_close(model[1].weight.detach().double(), weight, atol=1e-4, rtol=1e-3)


def test_all_else_takes_the_steps_of_adamw():
    """The kernels held still, so that both see the same gradients."""
    one, other = small_model(), small_model()
    one[1].requires_grad_(False)
    other[1].requires_grad_(False)
    muon = make_optimizer(one, SETTINGS)
    groups = [
        {"params": [other[0].weight, other[4].weight]},
        {"params": [other[2].weight, other[2].bias, other[4].bias], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1)
    for seed in range(3):
        pictures = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        for model, optimizer in ((one, muon), (other, adamw)):
            optimizer.zero_grad()
            model(pictures).square().mean().backward()
            optimizer.step()
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)  # fused and not: float32's order of operations


def test_a_state_that_was_stored_goes_on_as_if_never_stopped(tmp_path):
    whole, stopped, resumed = small_model(), small_model(), small_model()
    take_steps(whole, make_optimizer(whole, SETTINGS), range(4))
    optimizer = make_optimizer(stopped, SETTINGS)
    take_steps(stopped, optimizer, range(2))
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(stopped.state_dict())
    optimizer = make_optimizer(resumed, SETTINGS)
    optimizer.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    take_steps(resumed, optimizer, range(2, 4))
    for mine, theirs in zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_frozen_or_unused_kernel_stays():
    model = small_model()
    optimizer = make_optimizer(model, SETTINGS)
    before = model[1].weight.clone()
    optimizer.step()  # no gradient anywhere
    assert torch.equal(model[1].weight, before)


def test_hidden_kernels_are_the_convolutions_between_the_first_and_the_last():
    model = playground_rcnn()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    hidden = {names[id(kernel)] for kernel in hidden_kernels(model)}
    assert {"backbone.body.layer1.0.conv1.weight", "roi_heads.mask_head.0.0.weight"} <= hidden
    assert not {"backbone.body.conv1.weight", "roi_heads.mask_predictor.mask_fcn_logits.weight"} & hidden
    assert not any("cls_logits" in name or "pred" in name or "fc" in name for name in hidden)
