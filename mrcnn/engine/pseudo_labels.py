"""Learning from pictures without labels: what a teacher is sure of is what a student learns, from a harder picture.

Pseudo-labels (Lee 2013), for detection as in Unbiased Teacher (Liu et al. 2021, https://arxiv.org/abs/2102.09480,
section 3): the teacher sees the picture as it is, at most mirrored; its detections from a threshold on become targets;
then picture and targets are scaled, cut and recoloured, and the student learns from them. The teacher is either the
model that training began with, or the running average of the student's own weights, a mean teacher (Tarvainen & Valpola
2017, https://arxiv.org/abs/1703.01780), which gets better as the student does.

Half of each batch are such pictures, and both halves count alike (Unbiased Teacher weighs them). They teach what is an
object and of which class. Where exactly it is they do not: a score says that something is there, and not how well its
box, its mask or its keypoints lie; so Unbiased Teacher too leaves out the regression of boxes (section 3.2).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mrcnn.data import collate
from mrcnn.data.augment import ColourJitter, Compose, Flip, ScaleJitter
from mrcnn.data.folder import WithoutObjects
from mrcnn.engine.dataloader import SeededPictures, mixed_seed
from mrcnn.engine.settings import AUGMENTATIONS, TrainSettings

HARDER = Compose([ScaleJitter(0.7, 1.4), ColourJitter(0.5)])  # what the student sees and the teacher does not


def easy_pictures(pictures: Sequence[Tensor], settings: TrainSettings) -> SeededPictures:
    """The pictures as the teacher sees them: mirrored as often as the labelled ones."""
    mirrored = (AUGMENTATIONS[settings.augment] or {}).get("flip", 0.0)
    return SeededPictures(WithoutObjects(pictures), settings.seed, Flip(probability=mirrored))


class Teacher:
    """Gives pictures without labels their targets. `average` is the running average of the student, if there is one."""

    def __init__(self, student: nn.Module, average: nn.Module | None, settings: TrainSettings):
        if settings.teacher == "average" and average is None:
            raise ValueError("the teacher is the average of the student's weights: give average, a decay such as 0.99")
        self.model = (average if settings.teacher == "average" else copy.deepcopy(student)).eval()
        self.settings = settings

    @torch.no_grad()
    def teach(self, images: list[Tensor], targets: list[dict], step: int) -> tuple[list[Tensor], list[dict]]:
        """Pictures uint8 (3, H, W), whose targets know no objects; returns them harder, with the teacher's objects."""
        device = next(self.model.parameters()).device
        taught = []
        for image, target, found in zip(images, targets, self.model([i.to(device) for i in images]), strict=True):
            found = {name: value.cpu() for name, value in found.items()}
            known = pseudo_target(found, self.settings.pseudo_score, image.shape[-2:])
            seed = mixed_seed("harder", self.settings.seed, step, target["image_id"])
            taught.append(HARDER(image, target | known, torch.Generator().manual_seed(seed)))
        return collate(taught)


def pseudo_target(found: dict[str, Tensor], min_score: float, size: tuple[int, int]) -> dict[str, Tensor]:
    """A model's detections (boxes (K, 4), labels, scores) from a score on, as a target of a picture of size (H, W).

    Boxes are marked as not exact, masks (K, H, W) are empty and keypoints marked as not there: what regresses them does
    not learn from these objects.
    """
    chosen = found["scores"] >= min_score
    boxes, labels = found["boxes"][chosen], found["labels"][chosen]
    target = {
        "boxes": boxes,
        "labels": labels,
        "masks": torch.zeros((len(boxes), *size), dtype=torch.uint8),
        "area": (boxes[:, 2:] - boxes[:, :2]).prod(1),
        "iscrowd": torch.zeros_like(labels),
        "exact": torch.zeros_like(labels, dtype=torch.bool),
    }
    if "keypoints" in found:
        target["keypoints"] = torch.zeros_like(found["keypoints"][chosen])
    return target
