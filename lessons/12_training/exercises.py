"""Training: what the learner writes, and the small model that everything is tried on."""

import itertools
import math
import warnings

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_avg_fn

from mrcnn import zoo
from mrcnn.data import Playground
from mrcnn.lab.check import exercise

SIZE = 64  # pixels: scenes half as large as the playground's, and anchors half as large
SMALL = {
    "images": {"min_size": (SIZE,)},
    "rpn": {"anchors": {"sizes": ((8,), (16,), (24,), (40,), (64,))},
            "samples": 64, "pre_nms_top_n_train": 128, "post_nms_top_n_train": 64},
    "box": {"samples": 20, "positive_fraction": 0.5}, "mask": {"samples": 8}, "keypoint": None,
}  # fmt: skip
CONSTANT_NORM = {"backbone": {"frozen_norm": True, "head_norm": False}}  # as the published models have it
RAW = {"images": {"min_size": (SIZE,), "mean": (0.0,) * 3, "std": (1 / 255,) * 3}}  # pixels stay 0 to 255


def small_model(seed: int = 0, **changes) -> nn.Module:
    """Boxes and masks, random weights, in training mode. changes: of the settings."""
    torch.manual_seed(seed)
    return zoo.playground_rcnn(**SMALL | changes).train()


def ten_pictures() -> list[tuple[Tensor, dict]]:
    play = Playground(10, seed=3, size=SIZE)
    return [play[i] for i in range(10)]


class Line(nn.Module):
    """y = a · x1 + b · x2 with two losses: how far from the target, and how large a and b are."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(-2.0))

    def forward(self, images: list[Tensor], targets: list[dict]) -> dict[str, Tensor]:
        x, y = torch.stack(images), torch.tensor([target["y"] for target in targets])
        off = self.a * x[:, 0] + self.b * x[:, 1] - y
        return {"loss_far": (off**2).mean(), "loss_large": 0.3 * (self.a**2 + self.b**2)}


def start_line() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Line()
    return model, torch.optim.SGD([{"params": [model.a]}, {"params": [model.b]}], lr=0.5, momentum=0.5)


POINTS = [((1.0, 0.5), 3.0), ((-1.0, 2.0), 1.0), ((0.5, 1.0), -2.0), ((2.0, -1.0), 0.5)]


def line_batches(*rows: tuple[int, int]) -> list[tuple[list[Tensor], list[dict]]]:
    return [([torch.tensor(POINTS[i][0]) for i in row], [{"y": POINTS[i][1]} for i in row]) for row in rows]


def by_hand(_start, batches: list, rates: list[float]) -> list[list[float]]:
    """The derivatives of both losses are worked out on paper; no autograd, no optimiser."""
    w, speed, found = [1.0, -2.0], [0.0, 0.0], []
    for (images, targets), rate in zip(batches, rates, strict=True):
        xs, ys = [image.tolist() for image in images], [target["y"] for target in targets]
        offs = [w[0] * x[0] + w[1] * x[1] - y for x, y in zip(xs, ys, strict=True)]
        found.append([sum(off**2 for off in offs) / len(offs), 0.3 * (w[0] ** 2 + w[1] ** 2)])
        slopes = [sum(2 * off * x[i] for off, x in zip(offs, xs, strict=True)) / len(offs) + 0.6 * w[i] for i in (0, 1)]
        speed = [0.5 * v + slope for v, slope in zip(speed, slopes, strict=True)]
        w = [each - rate * v for each, v in zip(w, speed, strict=True)]
    return found


@exercise(
    cases=lambda: [
        (start_line, line_batches((0, 1), (2, 3), (1, 2), (0, 3)), [0.1, 0.2, 0.05, 0.1]),
        (start_line, line_batches((0,), (1,), (0,)), [0.02, 0.02, 0.02]),
    ],
    truth=by_hand,
    mistakes={
        "optimizer.zero_grad() ⇒ pass": "gradients add up from step to step: `optimizer.zero_grad()` before backward",
        "        optimizer.step()\n ⇒ ": "the weights never move. Is there no `optimizer.step()`, or were the "
        "gradients cleared just before it, or does every step `start()` anew?",
        "optimizer.step() ⇒ [p.data.sub_(rate * p.grad) for p in model.parameters()]": "the weights were moved without "
        "the optimiser, so its momentum is lost: `optimizer.step()`",
        'group["lr"] = rate ⇒ pass': "the rates are not used: set `group[\"lr\"]` before each step",
        ('group["lr"] = rate ⇒ pass', "optimizer.step() ⇒ optimizer.step(); [g.update(lr=rate) for g in "
         "optimizer.param_groups]"): "each rate came a step too late: set `group[\"lr\"]` before `step()`",
        "param_groups: ⇒ param_groups[:1]:": "the rate went to the first group alone: an optimiser may have several",
        "sum(losses.values()).backward() ⇒ next(iter(losses.values())).backward()": "only the first loss is learned: "
        "all of them, added up, go backward",
        "sum(losses.values()).backward() ⇒ (sum(losses.values()) / len(losses)).backward()": "the mean of the losses "
        "went backward: it is their sum that is minimised",
        "[loss.item() for loss in losses.values()] ⇒ [sum(losses.values()).item()]": "the losses are asked for one by "
        "one, a list per step; their sum hides which of them is ill",
        "in losses.values()] ⇒ in model(images, targets).values()]": "these are the losses after the step, not before",
    },
    hints=[
        "Of one step: what must be known before the weights can move, and what must be forgotten first?",
        "For each batch: set the rate in every group, `model(images, targets)`, clear, sum the losses, backward, step.",
        '`for group in optimizer.param_groups: group["lr"] = rate`; `sum(losses.values()).backward()`; '
        "`[loss.item() for loss in losses.values()]`",
    ],
)  # fmt: skip
def fit(start, batches, rates):
    """Train: for each step a list of its losses, as numbers, before the weights moved.

    start() gives a new model and its optimizer. batches: for each step (images, targets). rates: for each step the
    learning rate. model(images, targets) gives a dict of losses; their sum is to go down.
    """
    model, optimizer = start()
    history = []
    for (images, targets), rate in zip(batches, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        losses = model(images, targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append([loss.item() for loss in losses.values()])
    return history


def by_schedulers(progress: float, peak: float, warmup: float, steps: int = 200) -> float:
    """torch's schedulers, stepped to there."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    first, schedulers = round(warmup * steps), torch.optim.lr_scheduler
    schedule = schedulers.CosineAnnealingLR(optimizer, steps - first)
    if first:
        warm = schedulers.LinearLR(optimizer, 0.001, total_iters=first)
        schedule = schedulers.SequentialLR(optimizer, [warm, schedule], [first])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(round(progress * steps)):
            optimizer.step()
            schedule.step()
    return optimizer.param_groups[0]["lr"]


@exercise(
    cases=lambda: [
        *((progress, 2.0, 0.1) for progress in (0.0, 0.05, 0.095, 0.1, 0.3, 0.55, 0.9, 1.0)),
        (0.25, 4.0, 0.5), (0.75, 4.0, 0.5), (0.0, 2.0, 0.0), (0.5, 2.0, 0.0),
    ],
    truth=by_schedulers,
    tolerance=1e-6,
    mistakes={
        "(0.001 + 0.999 * progress / warmup) ⇒ progress / warmup": "right but for the first steps: the line starts at "
        "a thousandth, not at 0, or the first step is wasted",
        "(0.001 + 0.999 * progress / warmup) ⇒ (0.001 + 0.999 * progress)": "the line must reach the peak where the "
        "warm-up ends: progress / warmup goes from 0 to 1",
        ("peak * (0.001 ⇒ (0.001", "peak * 0.5 ⇒ 0.5"): "the peak is missing: what you have is a share of it",
        "if progress < warmup: ⇒ if False:": "there is no warm-up: while progress < warmup the rate rises",
        "(progress - warmup) / (1 - warmup) ⇒ progress": "the cosine must begin at the peak, where the warm-up ends",
        "(progress - warmup) / (1 - warmup) ⇒ progress - warmup": "it must end at progress 1: divide by what is left",
        "0.999 * progress ⇒ progress": "the line ends above the peak: from 0.001 of it to all of it is a way of 0.999",
        "0.5 * (1 + math ⇒ (1 + math": "it falls from twice the peak: 1 plus a cosine is 2 at first, so halve it",
        "(1 + math.cos ⇒ (1 - math.cos": "1 minus a cosine rises from 0; 1 plus a cosine falls",
        "0.5 * (1 + math.cos(math.pi * share)) ⇒ (1 - share)": "that is a straight line down; half a cosine is wanted",
        "0.5 * (1 + math.cos(math.pi * share)) ⇒ math.cos(math.pi * share)": "a cosine ends at -1, and a negative rate "
        "climbs: add 1, and halve",
        "0.5 * (1 + math.cos(math.pi * share)) ⇒ math.cos(math.pi * share / 2)": "a quarter turn; a half is wanted",
        "math.pi * share ⇒ 180 * share": "Python's cosine wants radians: half a turn is pi",
    },
    hints=[
        "Two pieces. Where does the first end, and what is the rate there?",
        "First `progress / warmup` goes from 0 to 1, and then `share = (progress - warmup) / (1 - warmup)`.",
        "`peak * (0.001 + 0.999 * progress / warmup)`, and then `peak * 0.5 * (1 + math.cos(math.pi * share))`",
    ],
)  # fmt: skip
def rate_at(progress, peak, warmup):
    """The learning rate when a share `progress` of the run is done, 0 to 1.

    Up to `warmup` a straight line from peak / 1000 to peak; after it half a cosine, from peak to 0 at progress 1.
    """
    if progress < warmup:
        return peak * (0.001 + 0.999 * progress / warmup)
    share = (progress - warmup) / (1 - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * share))


def clipped_by_torch(gradients: list[Tensor], limit: float) -> list[Tensor]:
    parameters = [nn.Parameter(torch.zeros_like(each)) for each in gradients]
    for parameter, each in zip(parameters, gradients, strict=True):
        parameter.grad = each.clone()
    nn.utils.clip_grad_norm_(parameters, limit)
    return [parameter.grad for parameter in parameters]


SLOPES = [torch.tensor([3.0, 0.0]), torch.tensor([[0.0, -4.0], [0.0, 12.0]])]  # of lengths 3 and 12.6; together 13
ALL = "torch.cat([each.flatten() for each in gradients])"
BY_NUMBER = "(limit / total).clamp(max=1) ⇒ min(1, limit / total.item())"  # it stumbles over zeros, too
WRONG_LENGTHS = {
    "sum(each.norm() for each in gradients)": "lengths do not add up: the squares do, and the root comes last",
    f"{ALL}.square().sum()": "the root of the sum of squares is the length; the root is missing",
    f"{ALL}.abs().sum()": "the sum of all numbers is not the length: the root of the sum of all squares",
    f"{ALL}.abs().max()": "the largest number is not the length: the root of the sum of all squares",
}


@exercise(
    cases=lambda: [(SLOPES, 6.5), (SLOPES, 13.5), (SLOPES, 1.0), (SLOPES[::-1], 2.0), ([torch.zeros(3)] * 2, 1.0)],
    truth=clipped_by_torch,
    mistakes={
        "each * factor for ⇒ each * (limit / each.norm()).clamp(max=1) for": "each tensor was shortened on its own, "
        "which turns the step another way: ONE length, of all numbers together",
        "each * factor for ⇒ each for": "nothing was shortened",
        "each * factor for ⇒ each.clamp(-limit, limit) for": "each number was cut off: one factor for all of them",
        ".clamp(max=1) ⇒ ": "short gradients were made longer: the factor is at most 1",
        BY_NUMBER: "right, but for a gradient of zeros, which has no length to divide by",
        **{f"{ALL}.norm() ⇒ {wrong}": told for wrong, told in WRONG_LENGTHS.items()},
        **{(f"{ALL}.norm() ⇒ {wrong}", BY_NUMBER): f"{told}. Mind zeros, too" for wrong, told in WRONG_LENGTHS.items()},
    },
    hints=[
        "If all gradients were one long row of numbers, how long would that arrow be?",
        "`torch.cat([each.flatten() for each in gradients]).norm()`. By which factor does it come down to the limit? "
        "And if it is short enough already?",
        "`factor = (limit / total).clamp(max=1)`, the same for all",
    ],
)  # fmt: skip
def clipped(gradients, limit):
    """The gradients, tensors of any shapes, as new ones: if all together are longer than `limit`, shortened to it."""
    total = torch.cat([each.flatten() for each in gradients]).norm()
    factor = (limit / total).clamp(max=1)
    return [each * factor for each in gradients]


def by_torch(old: Tensor, new: Tensor, count: int, decay: float) -> Tensor:
    early = {1: 2 / 11, 20: 0.7, 80: 0.9, 1000: 0.99109}[count]
    return get_ema_avg_fn(decay if decay < early else early)(old, new, count)


OLD, NEW = torch.tensor([1.0, 2.0, -4.0]), torch.tensor([2.0, 0.0, -4.0])


@exercise(
    cases=lambda: [(OLD, NEW, 1, 0.9), (OLD, NEW, 20, 0.9), (OLD, NEW, 80, 0.9), (OLD, NEW, 1000, 0.5)],
    truth=by_torch,
    mistakes={
        "decay * old + (1 - decay) * new ⇒ decay * new + (1 - decay) * old": "old and new are exchanged",
        "    decay = min(decay, (1 + count) / (10 + count))\n ⇒ ": "right later on; while the average is young it must "
        "forget faster, or it keeps the random start: the smaller of the two decays (is each sum in brackets?)",
        "min(decay ⇒ max(decay": "the larger of the two decays was taken: the smaller",
        "min(decay, ⇒ max(0,": "right at first; later `decay` is the smaller",
        "min(decay, (1 + count) / (10 + count)) ⇒ count / (count + 1)": "this plain mean keeps the random start",
        ("decay = min ⇒ kept = min", "decay * old ⇒ kept * old"): "the new one's share is of the smaller decay, too",
        "decay * old + (1 - decay) * new ⇒ decay * old + new": "the two shares must add to 1, or the weights grow",
    },
    hints=[
        "Later on: how much of the old average is kept? How much of the new comes in? And early on?",
        "`decay` of the old and `1 - decay` of the new, where decay is the smaller of two numbers.",
        "`decay = min(decay, (1 + count) / (10 + count))`, then `decay * old + (1 - decay) * new`",
    ],
)  # fmt: skip
def averaged(old, new, count, decay):
    """The next average of a weight: of the average so far, `old`, a share of decay is kept; the rest is `new`.

    While it is young the decay is smaller: no more than (1 + count) / (10 + count), with `count` weights in it so far.
    """
    decay = min(decay, (1 + count) / (10 + count))
    return decay * old + (1 - decay) * new


SIGNS = {
    "rate too high": "its first losses are healthy, and then nothing is learned",
    "labels off by one": "as much is found as in health, and nothing is named right",
    "boxes swapped": "its mask loss is lower than healthy, as an empty mask is easily learned",
    "normalisation forgotten": "its losses are far too high before the first step, where no rate can have spoiled them",
    "backbone frozen": "its backbone went no way",
}
PLANTED = ("labels off by one", "normalisation forgotten", "backbone frozen", "rate too high", "boxes swapped")


def doubt(order: tuple[int, ...]) -> str:
    """Of the first fault that is not where it belongs."""
    fault, run = next((fault, run) for fault, run in zip(SIGNS, order, strict=True) if PLANTED[run - 1] != fault)
    return f"{list(order)}: run {run} is not the one with {fault}. Of that one, {SIGNS[fault]}"


@exercise(
    cases=lambda: [()],
    truth=lambda: [1 + PLANTED.index(fault) for fault in SIGNS],
    mistakes={f"[4, 1, 5, 2, 3] ⇒ {list(order)}": doubt(order)
              for order in itertools.permutations(range(1, 6)) if order != (4, 1, 5, 2, 3)},
    hints=[
        "Which two start or go where no healthy loss is? Which loss is better than healthy, and is that good news?",
        "Those two differ in their first value. For the two that look healthy, read the table: moved, and named.",
        "The backbone of run 3 has not moved. Run 1 finds as much as healthy, and names nothing right.",
    ],
)  # fmt: skip
def diagnose():
    """The number of the run, 1 to 5, that has each fault, as a list in this order:

    rate too high, labels off by one, boxes swapped, normalisation forgotten, backbone frozen.
    """
    return [4, 1, 5, 2, 3]
