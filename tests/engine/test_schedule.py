"""The learning rate over a run, and what the optimiser is given."""

import itertools
import math

import pytest
import torch
from torch import nn

from mrcnn.engine.schedule import learning_rate, make_optimizer
from mrcnn.engine.settings import TrainSettings


def test_cosine_has_its_closed_form():
    settings = TrainSettings(steps=100, lr=0.4, warmup=0.2, final_lr=0.1)
    for progress in (0.2, 0.3, 0.6, 0.9, 1.0):
        angle = math.pi * (progress - 0.2) / 0.8
        assert learning_rate(progress, settings) == pytest.approx(0.4 * (0.1 + 0.9 * (1 + math.cos(angle)) / 2))
    assert learning_rate(0.6, settings) == pytest.approx(0.4 * 0.55), "half way, the mean of first and last"


def test_warm_up_is_a_line_that_meets_the_schedule():
    settings = TrainSettings(steps=100, lr=0.4, warmup=0.2)
    rates = [learning_rate(share, settings) for share in (0, 0.05, 0.1, 0.15, 0.19999999)]
    steps = [second - first for first, second in itertools.pairwise(rates)]
    assert steps == pytest.approx([0.0999] * 4, rel=1e-3)
    assert 0 < rates[0] < 0.001
    assert rates[-1] == pytest.approx(learning_rate(0.2, settings), rel=1e-6) == pytest.approx(0.4)


def test_steps_multiply_at_the_milestones():
    settings = TrainSettings(steps=90, lr=0.02, schedule="steps", warmup=0.0, gamma=0.1)
    at = {step: learning_rate(step / 90, settings) for step in (0, 59, 60, 79, 80, 89)}
    assert at == pytest.approx({0: 0.02, 59: 0.02, 60: 0.002, 79: 0.002, 80: 0.0002, 89: 0.0002})


def test_weights_decay_norms_and_biases_do_not():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    model[0].weight.requires_grad_(False)
    for name in ("sgd", "adamw"):
        optimizer = make_optimizer(model, TrainSettings(steps=1, optimizer=name, weight_decay=0.3))
        decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        assert decay == {
            id(model[2].weight): 0.3,
            **{id(p): 0.0 for p in (model[0].bias, model[1].weight, model[1].bias, model[2].bias)},
        }


def test_one_step_of_sgd_has_its_closed_form():
    model = nn.Linear(1, 1)
    weight, bias = model.weight.item(), model.bias.item()
    optimizer = make_optimizer(model, TrainSettings(steps=1, lr=0.1, momentum=0.9, weight_decay=0.5))
    model(torch.tensor([[2.0]])).sum().backward()  # gradient 2 for the weight, 1 for the bias
    optimizer.step()
    # float32, of numbers up to 1.3 that may nearly cancel
    assert model.weight.item() == pytest.approx(weight - 0.1 * (2 + 0.5 * weight), abs=1e-6)
    assert model.bias.item() == pytest.approx(bias - 0.1, abs=1e-6)


def test_a_model_without_anything_to_train_is_refused():
    with pytest.raises(ValueError, match="nothing to train"):
        make_optimizer(nn.Linear(2, 2).requires_grad_(False), TrainSettings(steps=1))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "give steps, seconds or both, got neither"),
        ({"steps": 0}, "steps must be a whole number from 1 to 1000000000, got 0"),
        ({"steps": 2.5}, r"steps must be of type int \| None, got 2.5"),
        ({"steps": 1, "lr": "fast"}, "lr must be of type float, got 'fast'"),
        ({"steps": 1, "lr": True}, "lr must be of type float, got True"),
        ({"steps": 1, "clip": "no"}, r"clip must be of type float \| None, got 'no'"),
        ({"steps": 1, "milestones": (0.5, "x")}, r"milestones must be of type tuple\[float, ...\], got \(0.5, 'x'\)"),
        ({"steps": 1, "bfloat16": 1}, "bfloat16 must be of type bool, got 1"),
        ({"seconds": -1.0}, "seconds must be more than 0, got -1.0"),
        ({"steps": 1, "lr": float("nan")}, "lr must be more than 0 and at most 1e6, got nan"),
        ({"steps": 1, "optimizer": "adam"}, "optimizer must be 'sgd', 'adamw' or 'muon', got 'adam'"),
        ({"steps": 1, "augment": "spin"}, "augment must be one of none, flip, flip_paste"),
        ({"steps": 1, "schedule": "line"}, "schedule must be"),
        ({"steps": 1, "warmup": 1.0}, "warmup must be a share"),
        ({"steps": 1, "milestones": (0.5, 60_000)}, "milestones must be shares of the run"),
        ({"steps": 1, "average": 1.0}, "average must be a decay"),
        ({"steps": 1, "frozen_stages": 6}, "frozen_stages must be 0 to 5"),
        ({"steps": 1, "batch_size": 0}, "batch_size must be a whole number from 1"),
        ({"steps": 1, "clip": 0.0}, "clip must be more than 0, or None"),
        ({"steps": 1, "workers": -1}, "workers must be a whole number from 0"),
        ({"steps": 1, "workers": 1025}, "workers must be a whole number from 0 to 1024, got 1025"),
        ({"steps": 1, "batch_size": 65537}, "batch_size must be a whole number from 1 to 65536, got 65537"),
        ({"steps": 1, "lr": 1e300}, "lr must be more than 0 and at most 1e6"),
        ({"steps": 1, "weight_decay": float("nan")}, "weight_decay must be from 0 to 1e6, got nan"),
        ({"steps": 1, "weight_decay": -1.0}, "weight_decay must be from 0"),
        ({"steps": 1, "momentum": 5.0}, "momentum must be from 0 to below 1"),
        ({"steps": 1, "gamma": -1.0}, "gamma must be more than 0"),
        ({"steps": 1, "final_lr": -3.0}, "final_lr must be a share of lr"),
    ],
)
def test_bad_settings_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        TrainSettings(**wrong)
