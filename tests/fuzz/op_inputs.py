"""Random inputs of the ops: native and emulated must answer as the reference does, or refuse in the same words."""

import math
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1] / "ops"))
from layouts import LAYOUTS, lay_out

from mrcnn import ops

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
SPOILT = (math.nan, math.inf, -math.inf, -1.0, 0.5, 1e30)
MANY_SAMPLES = 7  # per bin and axis
# RoIAlign sums in another order than its reference. How close it must come is for tests/ops to say.
CLOSE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}

torch.testing.assert_close(torch.zeros(1), torch.zeros(1))  # imports much at its first call: once, not in each case


# ---- numbers


def numbers(*shape: int) -> Tensor:
    """float64 of one random style: as in a picture, whole, all equal, near nothing, huge, of every size."""
    uniform = torch.rand(shape, dtype=torch.float64)
    sign = torch.randint(0, 2, shape) * 2.0 - 1
    style = random.choice(["picture", "picture", "whole", "whole", "equal", "tiny", "large", "huge", "every"])
    if style == "picture":
        return uniform * 80 - 10
    if style == "whole":
        return (uniform * 12 - 3).floor()
    if style == "equal":
        return torch.full(shape, random.choice([0.0, 1.0, -0.0, 7.5, 1e20]), dtype=torch.float64)
    lowest, highest = {"tiny": (-46, -36), "large": (3, 9), "huge": (9, 38), "every": (-46, 38)}[style]
    return sign * 10 ** (uniform * (highest - lowest) + lowest)


def boxes(count: int) -> Tensor:
    """(count, 4): mostly x1 <= x2 and y1 <= y2, some without size, some twice."""
    corner, size = numbers(count, 2), numbers(count, 2)
    if random.random() < 0.9:
        size = size.abs()
    result = torch.cat([corner, corner + size * (torch.rand(count, 1) > 0.1)], dim=1)
    return result[torch.randint(0, count, (count,))] if count and random.random() < 0.2 else result


def maybe_spoilt(values: Tensor) -> Tensor:
    """In one case of twenty with a number that is none, or none of those expected."""
    if values.numel() and random.random() < 0.05:
        values = values.clone()
        values.view(-1)[random.randrange(values.numel())] = random.choice(SPOILT)
    return values


def strided(values: Tensor) -> Tensor:
    """(N, …) or (N,): the same numbers, sometimes with gaps between the rows or turned in memory."""
    how = random.choice(["plain", "plain", "gaps", "turned"])
    if how == "gaps":
        return values.repeat_interleave(2, dim=0)[::2]
    return values.t().contiguous().t() if how == "turned" and values.dim() == 2 else values


# ---- cases: the op's name and its arguments


def roi_align_case() -> tuple[str, dict[str, Any]]:
    n, c, h, w = (
        random.randint(0, 3),
        random.choice([0, 1, 3, 8, 17, 33, 64]),
        random.randint(0, 14),
        random.randint(0, 14),
    )
    count = random.choice([0, 1, 2, 5, 12, 40])
    dtype = random.choice(FLOATS)
    features = torch.randn(n, c, h, w, dtype=torch.float64) * 10 ** random.uniform(-3, 3)
    image = torch.randint(0, max(n, 1), (count, 1)).double()
    rois = maybe_spoilt(torch.cat([image, boxes(count)], dim=1)).to(random.choice([torch.float32, dtype]))
    if random.random() < 0.1:
        rois = [strided(rois[rois[:, 0] == k, 1:]) for k in range(n + (random.random() < 0.1))]
    return "roi_align", {
        "features": lay_out(maybe_spoilt(features).to(dtype), random.choice(LAYOUTS)),
        "rois": rois if isinstance(rois, list) else strided(rois),
        "output_size": random.choice([1, 2, 7, (3, 5), (7, 1), 14, 0, (2, -1)]),
        "spatial_scale": random.choice([1.0, 1.0, 0.5, 0.25, 1 / 16, 3.7, 1e-30, 1e30, 0.0, math.nan]),
        "sampling_ratio": random.choice([-1, -1, 0, 1, 2, 3, 7, 100, 300, 4097, 10**9, 2**31, -(2**40)]),
        "aligned": random.random() < 0.5,
    }


def nms_case() -> tuple[str, dict[str, Any]]:
    count = random.choice([0, 1, 2, 3, 10, 64, 65, 200, 500])
    scores = random.choice(
        [torch.rand(count, dtype=torch.float64), torch.randint(0, 3, (count,)).double(), numbers(count)]
    )
    arguments = {
        "boxes": strided(maybe_spoilt(boxes(count)).to(random.choice(FLOATS))),
        "scores": strided(maybe_spoilt(scores).to(random.choice(FLOATS))),
        "iou_threshold": random.choice(
            [0.5, 0.7, 0.0, 1.0, -1.0, 1e-9, math.inf, -math.inf, math.nan, random.random()]
        ),
    }
    if random.random() < 0.5:
        return "nms", arguments
    kind = random.choice([torch.int64, torch.int32, torch.uint8, torch.int8])
    groups = random.choice(
        [torch.randint(0, 5, (count,)), torch.randint(-(2**62), 2**62, (count,)), torch.zeros(count)]
    )
    return "batched_nms", {**arguments, "groups": strided(groups.to(kind))}


def match_anchors_case() -> tuple[str, dict[str, Any]]:
    return "match_anchors", {
        "anchors": strided(maybe_spoilt(boxes(random.choice([0, 1, 7, 64, 300, 1500]))).to(random.choice(FLOATS))),
        "gt_boxes": strided(maybe_spoilt(boxes(random.choice([0, 1, 2, 5, 20, 130]))).to(random.choice(FLOATS))),
        "high_threshold": random.choice([0.7, 0.5, 1.0, 0.0, 2.0, math.inf, math.nan]),
        "low_threshold": random.choice([0.3, 0.5, 0.0, -1.0, -math.inf, math.nan]),
        "allow_low_quality_matches": random.random() < 0.5,
    }


def misfit(arguments: dict[str, Any]) -> None:
    """Puts an argument of a wrong kind, shape or dtype in the place of one."""
    name = random.choice(list(arguments))
    value = arguments[name]
    if not isinstance(value, Tensor):
        arguments[name] = random.choice([None, "7", [], (1, 2, 3), torch.zeros(2), 1e400, -(10**30), 3 + 4j])
        return
    arguments[name] = random.choice(
        [
            lambda: value.long(),
            lambda: value.to(torch.complex64),
            lambda: value.unsqueeze(0),
            lambda: value[..., :-1],
            lambda: value[:-1],
            lambda: value.to("meta"),
            lambda: value.to_sparse(),
            lambda: value.sum(),
            lambda: value.tolist(),
            lambda: None,
        ]
    )()


# ---- one case


def outcome(backend: str, op: str, arguments: dict[str, Any]) -> tuple:
    """("answered", tensors…) or ("refused", the error's kind and words). Any other error goes through."""
    arguments = dict(arguments)
    differentiable = (
        op == "roi_align" and isinstance(arguments["features"], Tensor) and arguments["features"].is_floating_point()
    )
    if differentiable:
        arguments["features"] = arguments["features"].detach().requires_grad_()
    with ops.use_backend(backend):
        try:
            answer = getattr(ops, op)(**arguments)
        except (ValueError, TypeError) as error:
            return "refused", type(error).__name__, str(error)
    answers = answer if isinstance(answer, tuple) else (answer,)
    # All terms of one sign, so that no sum hides what rounding did to them; and no millions of terms for one cell: a
    # kernel that adds them up one by one in float32 is then off by a hundredth.
    if differentiable and arguments["sampling_ratio"] <= MANY_SAMPLES:
        steps = torch.linspace(0.5, 1, answer.numel(), dtype=torch.float64).reshape(answer.shape).to(answer.dtype)
        answers += torch.autograd.grad(answer, arguments["features"], steps)
    return "answered", *(tensor.detach() for tensor in answers)


def compare(form: str, answer: tuple, expected: tuple, exact: bool) -> None:
    if "refused" in (answer[0], expected[0]):
        assert answer == expected, f"{form}: {answer}\nexpected: {expected}"
        return
    for k, (ours, right) in enumerate(zip(answer[1:], expected[1:], strict=True)):
        assert (ours.dtype, ours.shape) == (right.dtype, right.shape), f"{form}: {ours.dtype} {tuple(ours.shape)}"
        if not exact:  # infinity times a weight of 0 may be left out, or be NaN
            ours, right = (tensor.double().where(right.isfinite(), 0) for tensor in (ours, right))
        step = 0.0 if exact else CLOSE[expected[k + 1].dtype]
        scale = float(right.abs().max()) if not exact and right.numel() else 0.0
        torch.testing.assert_close(
            *(ours, right),
            rtol=step,
            atol=step * scale,
            equal_nan=True,
            msg=lambda text, k=k: f"{form}, result {k}: {text}",
        )


def describe(op: str, arguments: dict[str, Any]) -> str:
    def words(value: Any) -> str:
        if isinstance(value, Tensor) and value.layout == torch.strided:
            return f"{tuple(value.shape)} {value.dtype}, strides {value.stride()}"
        return str(value)[:300]

    return "\n".join([op, *(f"  {name}: {words(value)}" for name, value in arguments.items())])


def run(make: Callable[[], tuple[str, dict[str, Any]]], seed: int, _room: Path) -> None:
    random.seed(seed)
    torch.manual_seed(seed)
    op, arguments = make()
    if random.random() < 0.1:
        misfit(arguments)
    print(describe(op, arguments), flush=True)
    expected = outcome("reference", op, arguments)
    for form in ("native", "emulated"):
        print(f"{form} …", flush=True)  # what a hang or a crash leaves behind
        compare(form, outcome(form, op, arguments), expected, exact=op != "roi_align")


def kind(make: Callable) -> Callable[[int, Path], None]:
    return lambda seed, room: run(make, seed, room)


KINDS = {"roi_align": kind(roi_align_case), "nms": kind(nms_case), "match_anchors": kind(match_anchors_case)}
