"""The settings of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, get_args, get_origin, get_type_hints

from mrcnn.settings import BATCH, STEPS, WORKERS

# What the names of `augment` stand for: options of `mrcnn.data.augment.make_augment`. "flip" alone is how the published
# models were trained; "turn" is for pictures without an up and a down, as those taken from above.
AUGMENTATIONS: dict[str, dict | None] = {
    "none": None,
    "flip": {"flip": 0.5, "scale": None, "colour": 0.0},
    "flip_paste": {"flip": 0.5, "scale": None, "colour": 0.0, "copy_paste": 1.0},
    "full": {"flip": 0.5, "scale": (0.7, 1.4), "colour": 0.3},
    "turn": {"flip": 0.5, "turn": 0.75, "scale": (0.7, 1.4), "colour": 0.3},
    "paste": {"flip": 0.5, "scale": (0.7, 1.4), "colour": 0.3, "copy_paste": 0.5},
}


@dataclass(frozen=True)
class TrainSettings:
    """How to train. The defaults are for `playground_rcnn`; the published R50-FPN schedule is in the README.

    The run ends after ``steps`` or after ``seconds`` of wall time, whichever comes first; one of them may be None.
    Everything that happens "at a share of the run" is counted in the one of them that is nearer to its end.
    """

    steps: int | None = None
    seconds: float | None = None
    batch_size: int = 8  # pictures per step, of all processes together
    optimizer: str = "sgd"  # or "adamw"; or "muon": AdamW, and Muon for the kernels of hidden convolutions
    lr: float = 0.02
    momentum: float = 0.9  # AdamW, and Muon where it uses AdamW: beta 1
    weight_decay: float = 1e-4  # Mask R-CNN, section 3.1
    schedule: str = "cosine"  # or "steps"
    warmup: float = 0.05  # share of the run
    final_lr: float = 0.0  # cosine: where it ends, as a share of lr
    milestones: tuple[float, ...] = (2 / 3, 8 / 9)  # steps: shares of the run; 60k and 80k of the paper's 90k
    gamma: float = 0.1  # steps: what each milestone multiplies the rate by
    clip: float | None = 10.0  # the longest gradient; None: any
    average: float = 0.0  # decay per step of the averaged weights; 0: no average
    bfloat16: bool = False  # forward pass under autocast
    frozen_stages: int = 0  # of the backbone's stages (a ResNet: stem, layer1 … layer4), from the picture on
    last_layers_only: bool = False  # of each head; everything before them stays as it was
    teacher: str = (
        "average"  # of pictures without labels, if there are any; or "start": the weights training began with
    )
    pseudo_score: float = 0.7  # what the teacher must be sure of (Unbiased Teacher, section 4.1)
    group_shapes: bool = False  # upright with upright, wide with wide: less padding
    augment: str = "none"  # or another of AUGMENTATIONS
    workers: int = 0  # processes that fetch pictures; 0: the training process does
    seed: int = 0
    checkpoint_every: int = 1000  # steps; 0: only when the run ends, fails or is stopped
    evaluate_every: int = 0  # steps; 0: never
    patience: int = 0  # the run ends after so many evaluations without a better AP; 0: it does not
    tensorboard: bool = True  # if TensorBoard is installed

    # Those that a resumed run may change without becoming another run. If its length is changed, the learning rate
    # follows the schedule of the new length from there on.
    FREE = frozenset({"steps", "seconds", "workers", "checkpoint_every", "evaluate_every", "patience", "tensorboard"})

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            if not fits(getattr(self, name), hint):
                kind = hint.__name__ if isinstance(hint, type) and not get_args(hint) else hint
                raise ValueError(f"{name} must be of type {kind}, got {getattr(self, name)!r}")
        if self.steps is None and self.seconds is None:
            raise ValueError("give steps, seconds or both, got neither: how long is the run?")
        rules = [
            ("steps", self.steps is None or STEPS.holds(self.steps), STEPS.expected),
            ("seconds", self.seconds is None or self.seconds > 0, "more than 0"),
            ("batch_size", BATCH.holds(self.batch_size), BATCH.expected),
            ("optimizer", self.optimizer in ("sgd", "adamw", "muon"), "'sgd', 'adamw' or 'muon'"),
            ("schedule", self.schedule in ("cosine", "steps"), "'cosine' or 'steps'"),
            ("augment", self.augment in AUGMENTATIONS, "one of " + ", ".join(AUGMENTATIONS)),
            ("lr", 0 < self.lr <= 1e6, "more than 0 and at most 1e6"),
            ("momentum", 0 <= self.momentum < 1, "from 0 to below 1"),
            ("weight_decay", 0 <= self.weight_decay <= 1e6, "from 0 to 1e6"),
            ("final_lr", 0 <= self.final_lr <= 1, "a share of lr, from 0 to 1"),
            ("gamma", 0 < self.gamma < math.inf, "more than 0"),
            ("warmup", 0 <= self.warmup < 1, "a share of the run, from 0 to below 1"),
            ("milestones", all(0 < m < 1 for m in self.milestones), "shares of the run, between 0 and 1"),
            ("average", 0 <= self.average < 1, "a decay from 0 to below 1"),
            ("clip", self.clip is None or self.clip > 0, "more than 0, or None"),
            ("frozen_stages", 0 <= self.frozen_stages <= 5, "0 to 5 (the stem and four layers)"),
            ("teacher", self.teacher in ("average", "start"), "'average' or 'start'"),
            ("pseudo_score", 0 <= self.pseudo_score <= 1, "a score from 0 to 1"),
            ("workers", WORKERS.holds(self.workers), WORKERS.expected),
            ("checkpoint_every", self.checkpoint_every >= 0, "0 or more"),
            ("evaluate_every", self.evaluate_every >= 0, "0 or more"),
            ("patience", self.patience >= 0, "0 or more"),
            ("patience", not self.patience or self.evaluate_every, "0 without evaluate_every: it counts evaluations"),
        ]
        for name, holds, expected in rules:
            if not holds:
                raise ValueError(f"{name} must be {expected}, got {getattr(self, name)!r}")

    def differences(self, stored: dict) -> list[str]:
        """The settings in which a run that was stored differs from this one, so that resuming would mix two runs."""
        return [
            f"{field.name} (stored {stored.get(field.name)!r}, now {_plain(getattr(self, field.name))!r})"
            for field in fields(self)
            if field.name not in self.FREE and _plain(getattr(self, field.name)) != stored.get(field.name)
        ]

    def plain(self) -> dict:
        """As a dict of numbers, strings and lists, for JSON and checkpoints."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def fits(value: object, hint: Any) -> bool:
    """Whether a value is of an annotated type: whole numbers are floats too, True and False are no numbers."""
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(fits(each, get_args(hint)[0]) for each in value)
    if get_args(hint):
        return any(fits(value, each) for each in get_args(hint))
    return isinstance(value, int | float if hint is float else hint) and (hint is bool or not isinstance(value, bool))
