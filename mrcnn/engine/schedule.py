"""How the learning rate moves over a run, and which parameters the optimiser gets.

The run is measured by its *progress*, the share of its budget that is used, so that the same schedule serves a run of
a number of steps and a run of a number of seconds.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from mrcnn.engine.muon import Muon, hidden_kernels
from mrcnn.engine.settings import TrainSettings


def learning_rate(progress: float, settings: TrainSettings) -> float:
    """The learning rate at ``progress`` in [0, 1].

    Warm-up is a straight line from nearly nothing to ``settings.lr`` over the first ``settings.warmup`` of the run
    (Goyal et al. 2017, section 2.2: at the full rate the first steps of a fresh network diverge). After it ``cosine``
    falls along half a cosine to ``settings.final_lr`` times the rate (Loshchilov & Hutter 2017, equation 5);
    ``steps`` multiplies by ``settings.gamma`` at each of ``settings.milestones`` (Mask R-CNN, section 4).
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < settings.warmup:
        return settings.lr * (0.001 + 0.999 * progress / settings.warmup)
    if settings.schedule == "steps":
        passed = sum(progress >= milestone for milestone in settings.milestones)
        return settings.lr * settings.gamma**passed
    share = (progress - settings.warmup) / max(1.0 - settings.warmup, 1e-9)
    falling = 0.5 * (1.0 + math.cos(math.pi * share))
    return settings.lr * (settings.final_lr + (1.0 - settings.final_lr) * falling)


def make_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """SGD with momentum, AdamW or Muon over the parameters that are trained.

    Weight decay is for weights only: pulling a bias or the scale of a normalisation towards zero has no reason.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError("nothing to train: every parameter of the model is frozen")
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)
    betas = (settings.momentum, 0.999)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr, betas=betas, fused=True)
    hidden = {id(kernel) for kernel in hidden_kernels(model)}
    kernels = [p for p in trained if id(p) in hidden]
    groups[0]["params"] = [p for p in groups[0]["params"] if id(p) not in hidden]
    groups = [group | {"orthogonal": False} for group in groups]
    groups.append({"params": kernels, "weight_decay": settings.weight_decay, "orthogonal": True})
    return Muon(groups, lr=settings.lr, betas=betas, fused=True)
