"""Which anchors and proposals the losses see: a few at random, half or a quarter of them on objects.

Nearly all of a picture is background; a loss over all of it would learn little else (Faster R-CNN, section 3.1; Fast
R-CNN, section 2.3).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mrcnn import ops


def sample(
    positive: Tensor,
    negative: Tensor,
    count: int,
    positive_fraction: float,
    random: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Draws at most `count` rows at random, at most `positive_fraction` of them positive (Faster R-CNN, section 3.1).

    positive, negative: bool (A,). Returns the rows drawn of each, int64, in no order.
    """
    positive, negative = positive.nonzero()[:, 0], negative.nonzero()[:, 0]
    num_positive = min(len(positive), int(count * positive_fraction))
    num_negative = min(len(negative), count - num_positive)
    positive = positive[torch.randperm(len(positive), generator=random, device=positive.device)[:num_positive]]
    negative = negative[torch.randperm(len(negative), generator=random, device=negative.device)[:num_negative]]
    return positive, negative


def seeded(target: dict, device: torch.device) -> torch.Generator | None:
    """What a picture's random choices are drawn from: its own generator if the target has a "seed" (training gives one
    to each picture, so that its samples do not depend on the pictures beside it); otherwise torch's global one."""
    return torch.Generator(device).manual_seed(target["seed"]) if "seed" in target else None


@dataclass
class Samples:
    """A picture's sampled proposals: boxes (S, 4); labels (S,), 0 for background; objects (S,), rows of its target."""

    boxes: Tensor
    labels: Tensor
    objects: Tensor

    def positive(self, usable: Tensor | None = None, most: int | None = None) -> "Samples":
        """Those that hold an object; of these, only the objects that are `usable` (bool, one per object), and at most
        `most`. Samples stand in no order, so the first ones are any."""
        keep = self.labels > 0
        if usable is not None and len(usable):
            keep &= usable[self.objects]
        keep = keep.nonzero()[:most, 0]
        return Samples(self.boxes[keep], self.labels[keep], self.objects[keep])


@torch.no_grad()
def label_and_sample(
    proposals: Tensor, target: dict[str, Tensor], positive_iou: float, count: int, positive_fraction: float
) -> Samples:
    """Labels a picture's proposals (P, 4) by the objects they cover, and draws those that the losses see.

    The true boxes are proposals too: at the start of training hardly another would be positive.
    """
    proposals = torch.cat((proposals, target["boxes"]))
    objects, _ = ops.match_anchors(proposals, target["boxes"], positive_iou, positive_iou)
    random = seeded(target, proposals.device)
    rows = torch.cat(sample(objects >= 0, objects < 0, count, positive_fraction, random))
    objects = objects[rows]
    if len(target["labels"]) == 0:
        return Samples(proposals[rows], torch.zeros_like(objects), objects.clamp(min=0))
    labels = torch.where(objects >= 0, target["labels"][objects.clamp(min=0)], 0)
    return Samples(proposals[rows], labels, objects.clamp(min=0))


def exact(target: dict[str, Tensor]) -> Tensor:
    """Of which objects the box is known to the pixel, bool (K,): all, unless the target says otherwise by "exact"."""
    return target["exact"] if "exact" in target else torch.ones_like(target["labels"], dtype=torch.bool)


def mean_or_zero(total: Tensor, count: int) -> Tensor:
    """total / count, and 0 (not NaN) where nothing was counted."""
    return total / max(count, 1)
