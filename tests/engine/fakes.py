"""Small stand-ins: a data set whose ground truth is written by hand, and a model that learns in milliseconds."""

from __future__ import annotations

import os
import signal

import numpy as np
import torch
from pycocotools import mask as mask_codec
from torch import Tensor, nn


class HandMade:
    """Pictures with the objects given: per picture a list of (label, box, crowd); masks fill their boxes."""

    categories = ["background", "person", "ball"]  # noqa: RUF012
    category_ids = [0, 7, 12]  # noqa: RUF012  # with gaps, as COCO's
    keypoint_names = [f"joint {i}" for i in range(17)]  # noqa: RUF012
    keypoint_flip = list(range(17))  # noqa: RUF012
    skeleton = [(0, 1)]  # noqa: RUF012
    keypoint_labels = {1}  # noqa: RUF012

    def __init__(self, pictures: list[list[tuple[int, list[float], int]]], size: tuple[int, int] = (64, 96)):
        self.pictures, self.size = pictures, size

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, dict]:
        objects, (height, width) = self.pictures[index], self.size
        boxes = torch.tensor([box for _, box, _ in objects], dtype=torch.float32).reshape(-1, 4)
        masks = torch.zeros((len(objects), height, width), dtype=torch.uint8)
        keypoints = torch.zeros((len(objects), 17, 3))
        for row, (label, box, _) in enumerate(objects):
            x1, y1, x2, y2 = map(int, box)
            masks[row, y1:y2, x1:x2] = 1
            if label in self.keypoint_labels:
                keypoints[row] = torch.stack(
                    [torch.linspace(x1, x2, 17), torch.linspace(y1, y2, 17), torch.full((17,), 2.0)], 1
                )
        return torch.full((3, height, width), index % 256, dtype=torch.uint8), {
            "boxes": boxes,
            "labels": torch.tensor([label for label, _, _ in objects], dtype=torch.int64),
            "masks": masks,
            "keypoints": keypoints,
            "area": masks.flatten(1).sum(1).float(),
            "iscrowd": torch.tensor([crowd for _, _, crowd in objects], dtype=torch.int64),
            "image_id": 100 + index,
        }

    def coco(self) -> dict:
        images, annotations = [], []
        for index in range(len(self)):
            _, target = self[index]
            height, width = self.size
            images.append({"id": target["image_id"], "width": width, "height": height, "file_name": f"{index}.png"})
            for row, label in enumerate(target["labels"].tolist()):
                x1, y1, x2, y2 = target["boxes"][row].tolist()
                code = mask_codec.encode(np.asfortranarray(target["masks"][row].numpy()))
                annotation = {
                    "id": len(annotations) + 1,
                    "image_id": target["image_id"],
                    "category_id": self.category_ids[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(target["area"][row]),
                    "iscrowd": int(target["iscrowd"][row]),
                    "segmentation": {"size": code["size"], "counts": code["counts"].decode()},
                }
                if label in self.keypoint_labels:
                    annotation["keypoints"] = target["keypoints"][row].flatten().tolist()
                    annotation["num_keypoints"] = int((target["keypoints"][row, :, 2] > 0).sum())
                annotations.append(annotation)
        categories = [
            {"id": number, "name": name} for number, name in zip(self.category_ids, self.categories, strict=True)
        ][1:]
        return {"images": images, "annotations": annotations, "categories": categories}


class Oracle(nn.Module):
    """Answers with what it was told: results by the value of the picture's first pixel."""

    def __init__(self, answers: list[dict[str, Tensor]]):
        super().__init__()
        self.answers, self.labels = answers, None
        self.weight = nn.Parameter(torch.zeros(1))  # the engine asks a model for its device

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        return [self.answers[int(image[0, 0, 0])] for image in images]


def truth_as_results(target: dict, score: float = 0.9) -> dict[str, Tensor]:
    """A target in the form of a model's results."""
    count = len(target["labels"])
    return {
        "boxes": target["boxes"],
        "labels": target["labels"],
        "scores": torch.full((count,), score),
        "masks": target["masks"][:, None].float(),
        "keypoints": target["keypoints"],
        "keypoints_scores": torch.ones((count, 17)),
    }


class TinyModel(nn.Module):
    """Regresses the mean colour of a picture's patches; has dropout and batch norm, so that random state matters.

    Its losses are means over pictures, so that the mean over two processes is the mean over the whole batch; with
    ``norm=False`` a picture's loss is its own.
    """

    def __init__(self, dropout: float = 0.2, norm: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4, 2)
        self.config = {"builder": "tiny", "arguments": {"settings": {"dropout": dropout, "norm": norm}}}
        self.labels = None

    def forward(self, images: list[Tensor], targets: list[dict] | None = None) -> dict[str, Tensor]:
        pixels = torch.stack([image.float() / 255 for image in images])  # (N, 3, H, W)
        features = self.dropout(self.norm(self.conv(pixels)).relu().mean((2, 3)))  # (N, 4)
        found = self.head(features)  # (N, 2)
        wanted = torch.stack([target["boxes"].mean() / 64 for target in targets])
        return {"loss_a": (found[:, 0] - wanted).square().mean(), "loss_b": (found[:, 1] + 1).square().mean()}


class Noise:
    """Pictures of noise that depend on torch's global generator, as an augmentation's would."""

    categories = ["background", "thing"]  # noqa: RUF012
    category_ids = [0, 1]  # noqa: RUF012
    keypoint_names: list[str] = []  # noqa: RUF012
    skeleton: list[tuple[int, int]] = []  # noqa: RUF012
    keypoint_labels: set[int] = set()  # noqa: RUF012

    def __init__(self, length: int = 12):
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, dict]:
        image = (torch.rand(3, 16, 16) * 255).to(torch.uint8)
        x = float(index + 1)
        boxes, labels = torch.tensor([[x, x, x + 8, x + 8]]), torch.tensor([1])
        return image, {"boxes": boxes, "labels": labels, "iscrowd": torch.tensor([0]), "image_id": index}


class Interrupting(Noise):
    """Sends this process a signal when the first picture of a step is fetched."""

    def __init__(self, step: int, number: int = signal.SIGINT, start: int = 0):
        super().__init__()
        self.left, self.number = (step - start - 1) * 4, number

    def __getitem__(self, index):
        if self.left == 0:
            os.kill(os.getpid(), self.number)
        self.left -= 1
        return super().__getitem__(index)
