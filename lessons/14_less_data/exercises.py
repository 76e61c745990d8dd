"""Learning with less data: what the learner writes."""

import statistics

import numpy as np
import torch
from torch import Tensor, nn

from mrcnn.data import Playground
from mrcnn.lab.check import exercise

DRAWINGS = Playground(20, seed=5, style="ink")


def two(first: int, second: int, dropped: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two drawings and their masks; `dropped` of the first one's objects are left out."""
    (image, target), (source, objects) = DRAWINGS[first], DRAWINGS[second]
    return image, target["masks"][dropped:].bool(), source, objects["masks"].bool()


def pixel_by_pixel(image: Tensor, masks: Tensor, source: Tensor, source_masks: Tensor) -> tuple[Tensor, Tensor]:
    """Each pixel is given to an owner: -1 nobody, then the old things, then the new ones over them."""
    picture, count = image.clone(), len(masks)
    owner = np.full(image.shape[1:], -1)
    for number, mask in enumerate([*masks.numpy(), *source_masks.numpy()]):
        for y, x in np.argwhere(mask):
            owner[y, x] = number
            if number >= count:
                picture[:, y, x] = source[:, y, x]
    kept = [number for number in range(count + len(source_masks)) if number >= count or (owner == number).any()]
    made = [torch.from_numpy(owner == number) for number in kept]
    return picture, torch.stack(made) if made else torch.zeros(0, *image.shape[1:], dtype=torch.bool)


@exercise(
    cases=lambda: [two(0, 1), two(3, 3), two(2, 9, dropped=99), two(4, 7)],
    truth=pixel_by_pixel,
    mistakes={
        "left = masks & ~cover ⇒ left = masks": "what lies beneath loses what is covered: no pixel has two owners",
        "left = masks & ~cover ⇒ left = masks & cover": "cut AWAY what is covered: `~cover` is what is still seen",
        "    left = left[left.flatten(1).any(1)]\n ⇒ ": "a thing that is covered altogether is gone: leave its empty "
        "mask out",
        "torch.where(cover, source, image) ⇒ torch.where(cover, image, source)": "the two pictures are swapped",
        "torch.where(cover, source, image) ⇒ image": "the picture has not changed: paste the pixels, too",
        "torch.cat([left, source_masks]) ⇒ torch.cat([source_masks, left])": "first what was there, then what came",
        "left = left[left.flatten(1).any(1)] ⇒ left = left[(left == masks).flatten(1).all(1)]": "what is seen in part "
        "stays, with that part for its mask",
        "torch.cat([left, source_masks]) ⇒ left": "what is pasted is an object as well, and needs its mask",
    },
    hints=[
        "Which pixels get something new? Which things lose pixels by it, and can one lose all of them?",
        "`cover = source_masks.any(0)`. `torch.where` makes the picture; `masks & ~cover` is what is left.",
        "`left = left[left.flatten(1).any(1)]` drops what is covered; then `torch.cat([left, source_masks])`",
    ],
)
def paste(image, masks, source, source_masks):
    """Lay all things of one drawing over another: the new picture (3, H, W), and its masks, bool (K, H, W).

    image, source: uint8 (3, H, W). masks, source_masks: bool (K, H, W), of each thing. First what was there and can
    still be seen, then what was pasted.
    """
    cover = source_masks.any(0)
    left = masks & ~cover
    left = left[left.flatten(1).any(1)]
    return torch.where(cover, source, image), torch.cat([left, source_masks])


def small_model(learning: bool = True) -> nn.Module:
    """A body, an RPN, and two predictors, with a batch norm each; one name holds another."""
    part = lambda: nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))  # noqa: E731
    names = ("body", "rpn", "predictor", "mask_predictor")
    return nn.ModuleDict({name: part() for name in names}).requires_grad_(learning).eval()


def by_names(model: nn.Module, parts: tuple[str, ...]) -> dict:
    """Part by part; each is a Sequential."""
    ours = [module for name, module in model.items() if name in parts]
    for name, module in model.items():
        module.requires_grad_(name in parts).train(name in parts)
    return left_behind((sum(weight.numel() for module in ours for weight in module.parameters()), len(ours)), model)


def left_behind(result: tuple[int, int], model: nn.Module, _: tuple[str, ...] = ()) -> dict:
    """What is returned, and what has become of each weight and each batch norm."""
    learn = {f"requires_grad of {name}": int(weight.requires_grad) for name, weight in model.named_parameters()}
    norms = {name: each for name, each in model.named_modules() if isinstance(each, nn.BatchNorm2d)}
    return learn | {f"training of {n}": int(each.training) for n, each in norms.items()} | {"what is returned": result}


@exercise(
    cases=lambda: [
        (small_model(), ("predictor",)), (small_model(), ("rpn", "predictor")), (small_model(False), ("body",)),
        (small_model(), ()),
    ],
    truth=by_names,
    seen=left_behind,
    mistakes={
        "learns = name.startswith(parts) ⇒ learns = any(part in name for part in parts)": "a name must BEGIN with a "
        "part: `mask_predictor` does not begin with `predictor`",
        "w.numel() for w in ⇒ 1 for w in": "count the numbers in each weight, `numel()`, not the weights",
        "module.train(learns) ⇒ module.train()": "the frozen batch norms still follow the pictures: evaluation mode",
        "module.train(learns) ⇒ pass": "what learns must be put into training mode: the model came in the other",
        "requires_grad_(learns) ⇒ requires_grad_(learns and weight.requires_grad)": "the parts that are named must "
        "learn, also if somebody froze them before: requires_grad_(True)",
        "learns = name.startswith ⇒ learns = not name.startswith": "the wrong half is frozen: `parts` learn",
        "  weight.requires_grad_(learns) ⇒   pass": "no weight is frozen: set `requires_grad`",
    },
    hints=[
        "`model.named_modules()` gives every layer with its name. What must be said to each, and to its weights?",
        "A name `startswith` a tuple of beginnings, or not. Its own weights are `module.parameters(recurse=False)`.",
        "`learns = name.startswith(parts)`, `module.train(learns)`, `weight.requires_grad_(learns)` for each weight",
    ],
)  # fmt: skip
def train_only(model, parts):
    """Freeze all but the layers whose names begin with one of `parts`, a tuple; those learn, whatever they did before.

    A batch norm that is frozen goes into evaluation mode, one that learns into training mode. Returns how many numbers
    learn (those in all weights that do), and how many batch norms (nn.BatchNorm2d) are in training mode.
    """
    for name, module in model.named_modules():
        learns = name.startswith(parts)
        module.train(learns)
        for weight in module.parameters(recurse=False):
            weight.requires_grad_(learns)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    return sum(w.numel() for w in model.parameters() if w.requires_grad), sum(norm.training for norm in norms)


FOUND = {
    "boxes": torch.tensor([[3.0, 2, 7, 5], [0, 1, 12, 2], [1, 1, 9, 9], [2, 2, 5, 8]]),
    "labels": torch.tensor([4, 6, 6, 1]),
    "scores": torch.tensor([0.9, 0.75, 0.5, 0.125]),
    "masks": torch.ones(4, 1, 10, 12),
}


def one_at_a_time(found: dict, threshold: float, size: tuple[int, int]) -> dict[str, Tensor]:
    sure = [k for k, score in enumerate(found["scores"].tolist()) if not score < threshold]
    return {
        "boxes": torch.tensor([found["boxes"][k].tolist() for k in sure]).view(-1, 4),
        "labels": torch.tensor([found["labels"][k].item() for k in sure], dtype=torch.int64),
        "masks": torch.zeros(len(sure), *size, dtype=torch.uint8),
        "exact": torch.tensor([False] * len(sure), dtype=torch.bool),
    }


@exercise(
    cases=lambda: [(FOUND, 0.75, (10, 12)), (FOUND, 0.0, (10, 12)), (FOUND, 0.95, (10, 12)), (FOUND, 0.5, (10, 12))],
    truth=one_at_a_time,
    mistakes={
        ">= threshold ⇒ > threshold": "a score of exactly the threshold is enough: >=",
        ">= threshold ⇒ < threshold": "those that the teacher is NOT sure of were kept",
        'torch.zeros(len(labels), *size, dtype=torch.uint8) ⇒ (found["masks"][sure, 0] >= 0.5).to(torch.uint8)': "the "
        "masks must be all zero: the mask head is not to learn from them",
        "torch.zeros_like(labels, dtype=torch.bool) ⇒ torch.ones_like(labels, dtype=torch.bool)": "`exact` is False: "
        "the student must not learn these boxes to the pixel",
        'found["labels"][sure] ⇒ found["labels"]': "boxes and labels go together: leave the same ones out of both",
    },
    hints=[
        "Of which detections is the teacher sure? What of them is to be learned, and what not?",
        '`sure = found["scores"] >= threshold` picks rows: `found["boxes"][sure]`.',
        "masks `torch.zeros(K, *size, dtype=torch.uint8)`, and exact `torch.zeros(K, dtype=torch.bool)`",
    ],
)
def pseudo_target(found, threshold, size):
    """What a teacher found, as a target: boxes (K, 4), labels (K,), masks uint8 (K, H, W), and exact, bool (K,).

    found: boxes, labels, scores, masks. Only scores from the threshold on. No mask is taught, so they are all 0, and no
    box is exact. size: (H, W).
    """
    sure = found["scores"] >= threshold
    labels = found["labels"][sure]
    return {
        "boxes": found["boxes"][sure],
        "labels": labels,
        "masks": torch.zeros(len(labels), *size, dtype=torch.uint8),
        "exact": torch.zeros_like(labels, dtype=torch.bool),
    }


@exercise(
    cases=lambda: [
        ([0.5, 0.55, 0.45], [0.4, 0.5, 0.375]), ([0.3, 0.25], [0.35, 0.4]),
        ([0.1, 0.3, 0.2, 0.6], [0.0, 0.25, 0.1, 0.5]),
    ],
    truth=lambda ours, theirs: (
        float(np.mean(np.subtract(ours, theirs))),
        float(np.std(np.subtract(ours, theirs), ddof=1) / np.sqrt(len(ours))),
    ),
    tolerance=1e-6,
    mistakes={
        "a - b for a, b ⇒ b - a for a, b": "the sign is turned round: what is gained is method - baseline",
        " / len(method) ** 0.5 ⇒ ": "that is how far one seed lies from another. The MEAN of n of them is steadier: "
        "divide by the root of n",
        "statistics.stdev(gains) ⇒ statistics.pstdev(gains)": "divide by n - 1, as `statistics.stdev` does",
        "statistics.stdev(gains) ⇒ (statistics.variance(method) + statistics.variance(baseline)) ** 0.5": "each seed "
        "chose the same pictures for both: subtract seed by seed first, and then look at the spread",
        "statistics.stdev(gains) / len(method) ** 0.5 ⇒ statistics.variance(gains) / len(method) ** 0.5": "that is "
        "the variance; its root is wanted",
        "statistics.stdev(gains) / len(method) ** 0.5 ⇒ statistics.stdev(gains) / len(method)": "divide by the ROOT of "
        "the number of seeds",
    },
    hints=[
        "Seed 0 of both learned from the same pictures. Which number says what the method gained there?",
        "A list of differences, one per seed; `statistics.mean` and `statistics.stdev` of it.",
        "`statistics.stdev(gains) / len(gains) ** 0.5` is the error of their mean",
    ],
)  # fmt: skip
def gain(method, baseline):
    """What a method gains over another, seed by seed: the mean of the gains, and its standard error.

    method, baseline: AP of each seed, lists of equal length; the same seed has the same labelled pictures.
    """
    gains = [a - b for a, b in zip(method, baseline, strict=True)]
    return statistics.mean(gains), statistics.stdev(gains) / len(method) ** 0.5


SIZES, CURVE = [10, 30, 100, 300], [0.125, 0.25, 0.375, 0.5]


@exercise(
    cases=lambda: [(SIZES, CURVE, ap) for ap in (0.25, 0.2, 0.3125, 0.45, 0.05, 0.8)],
    truth=lambda sizes, aps, wanted: float(np.exp(np.interp(wanted, aps, np.log(sizes)))),
    mistakes={
        "n * (more / n) ** part ⇒ n + (more - n) * part": "between 10 and 1000 the middle is 100, not 505: go along "
        "the LOGARITHM of the numbers",
        "if low <= wanted <= high: ⇒ if wanted <= high or more == sizes[-1]:": "beyond the curve the answer is its "
        "first or its last size",
        "    return sizes[0] if wanted < aps[0] else sizes[-1] ⇒     return sizes[0]": "above the whole curve the "
        "answer is the last size",
        "    return sizes[0] if wanted < aps[0] else sizes[-1] ⇒     return sizes[-1]": "below the whole curve the "
        "answer is the first size",
        "(wanted - low) / (high - low) ⇒ (high - wanted) / (high - low)": "the part is counted from the lower end",
        "n * (more / n) ** part ⇒ torch.tensor(n * (more / n) ** part).log()": "that is the logarithm: go back "
        "from it to a number of pictures",
        "n * (more / n) ** part ⇒ more": "that is the next size. How far between the two does the curve reach the AP?",
        "n * (more / n) ** part ⇒ n": "that is only the point before: how far is it to the next one?",
    },
    hints=[
        "Between which two points of the curve is the wanted AP? How far between, from 0 to 1?",
        "`part = (wanted - low) / (high - low)`. On an axis of logarithms, half way from 10 to 1000 is 100.",
        "`n * (more / n) ** part`, for the pair of points with low <= wanted <= high",
    ],
)
def worth(sizes, aps, wanted):
    """With how many pictures, not rounded, the curve reaches the AP `wanted`; beyond its ends, the first or last size.

    sizes, aps: lists, both rising. Between two points go along the logarithm of the size, as the picture does.
    """
    for n, more, low, high in zip(sizes, sizes[1:], aps, aps[1:], strict=False):
        if low <= wanted <= high:
            part = (wanted - low) / (high - low)
            return n * (more / n) ** part
    return sizes[0] if wanted < aps[0] else sizes[-1]


@exercise(
    cases=lambda: [(torch.tensor([0.5, 0.9]),), (torch.tensor([0.05, 0.99, 0.3]),), (torch.zeros(0),)],
    truth=lambda scores: float(torch.distributions.Bernoulli(probs=scores.double()).entropy().sum()),
    tolerance=1e-5,
    extra=True,
    mistakes={
        ".sum() ⇒ .mean()": "the sum over the picture's detections is asked for",
        " - (1 - scores) * (1 - scores).log() ⇒ ": "a score of 0.3 is also 0.7 for nothing: both parts count",
        "-scores * scores.log() ⇒ scores * scores.log()": "logarithms of scores are negative: mind the sign",
        "(-scores * scores.log() - (1 - scores) * (1 - scores).log()) ⇒ (scores * scores.log() + (1 - scores) * "
        "(1 - scores).log())": "mind the minus before the whole",
        ("scores.log() - (1 ⇒ scores.log2() - (1", "(1 - scores).log() ⇒ (1 - scores).log2()"): "take the natural "
        "logarithm, `log()`",
        "-scores * scores.log() - (1 - scores) * (1 - scores).log() ⇒ (1 - scores)": "an answer of 0.01 is nearly "
        "sure, too: nothing is there. The least sure is 0.5",
    },
    hints=[
        "When is a score of no help? At which one is it of most?",
        "The entropy of a yes-or-no answer: minus s log s, minus (1 - s) log (1 - s).",
        "`(-scores * scores.log() - (1 - scores) * (1 - scores).log()).sum()`",
    ],
)
def uncertainty(scores):
    """How unsure a model is of a picture: the sum of its scores' entropies, a number. scores: (K,), between 0 and 1.

    The entropy of a score s is -s log s - (1 - s) log (1 - s), with natural logarithms.
    """
    return float((-scores * scores.log() - (1 - scores) * (1 - scores).log()).sum())
