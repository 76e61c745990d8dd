"""What `mrcnn predict` leaves in a folder: drawings, results in COCO's format, masks and crops."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.colors import to_rgb
from PIL import Image
from torch import Tensor, nn

from mrcnn import visualize
from mrcnn.engine.evaluate import in_one_entry, to_coco
from mrcnn.files import write_json, write_whole
from mrcnn.video import is_video, video_length, write_video

# What can be left, and where.
KINDS = {
    "pictures": "drawings NAME.png, of a film one for every frame; of a video NAME.mp4",
    "json": "results.json",
    "masks": "masks/NAME.png, where pixels of the picture's first object in results.json are 1, of the second 2, …",
    "crops": "crops/CATEGORY/NAME-1.png, …: the objects, cut out along their boxes",
}


@dataclass(frozen=True)
class Picture:
    """A photograph, or a frame of a film, which has its number in it. `number` counts all pictures; both are from 1."""

    file: Path
    number: int
    frame: int | None
    image: Tensor  # uint8 (3, H, W)

    @property
    def origin(self) -> tuple[Path, int]:
        """The same for all frames of a film; another one if its file is given twice."""
        return self.file, self.number - (self.frame or 0)


class ResultFolder:
    """A folder that fills, file by file; `results` and `pictures` (a count) say what has come so far.

    photographs: what it looks at, of which no file is ever written over, wherever it lies. Raises ValueError for a kind
    of results that there is not, or that the model does not give.
    """

    def __init__(self, path: str | Path, model: nn.Module, kinds: Sequence[str], photographs: Iterable[Path] = ()):
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or not kinds:
            raise ValueError(f"save must be some of {', '.join(KINDS)}; got {', '.join(unknown) or 'none'}")
        if "masks" in kinds and "mask" not in model.roi_heads.heads:
            raise ValueError(f"save: there are no masks to save, {model.builder} does not find any")
        self.path = Path(path)
        self.labels = model.labels
        self.kinds = set(kinds)
        self.results: list[dict[str, Any]] = []
        self.pictures = 0
        self.names: set[str] = set()
        self.photographs = {photograph.resolve() for photograph in photographs}
        crops = self.path.resolve() / "crops"  # in which it looks at "crops/CATEGORY/NAME-3.png", so NAME's cannot go
        self.names |= {photo.stem.rpartition("-")[0] for photo in self.photographs if crops in photo.parents}

    def add(self, file: Path, pairs: Iterable[tuple[Picture, dict[str, Tensor]]]) -> None:
        """What was found in the pictures of one file."""
        kept = self.keep(pairs)
        if not is_video(file):
            for picture, found, name in kept:
                if "pictures" in self.kinds:
                    visualize.save(self.drawing(picture, found), self.path / f"{name}.png")
        elif "pictures" in self.kinds:
            drawn = (visualize.pixels(self.drawing(picture, found)) for picture, found, _ in kept)
            write_video(self.path / f"{self.unused(file.stem)}.mp4", drawn, video_length(file)[1])
        else:
            for _ in kept:
                pass

    def keep(
        self, pairs: Iterable[tuple[Picture, dict[str, Tensor]]]
    ) -> Iterator[tuple[Picture, dict[str, Tensor], str]]:
        """Passes pictures and objects on, with a name for each picture, when everything but drawings is done."""
        for picture, found in pairs:
            self.pictures += 1
            self.results += result_entries(picture, found, self.labels)
            name = self.unused(
                picture.file.stem if picture.frame is None else f"{picture.file.stem}-{picture.frame:04}"
            )
            if "masks" in self.kinds:
                save_picture(number_image(found["masks"]), self.path / "masks" / f"{name}.png")
            if "crops" in self.kinds:
                for number, (category, crop) in enumerate(crops(picture.image, found, self.labels), start=1):
                    save_picture(crop, self.path / "crops" / category / f"{name}-{number}.png")
            yield picture, found, name

    def drawing(self, picture: Picture, found: dict[str, Tensor]) -> Any:
        return visualize.draw_photo(picture.image, found, self.labels, min_score=0.0)

    def unused(self, name: str) -> str:
        """The name, or one made of it that no picture has yet, and no photograph in the folder."""
        chosen, number = name, 1
        while chosen in self.names or self.is_photograph(chosen):
            number += 1
            chosen = f"{name}-{number}"
        self.names.add(chosen)
        return chosen

    def is_photograph(self, name: str) -> bool:
        files = (self.path / f"{name}.png", self.path / f"{name}.mp4", self.path / "masks" / f"{name}.png")
        return any(file.resolve() in self.photographs for file in files)

    def finish(self) -> None:
        if "json" in self.kinds:
            write_json(self.path / "results.json", self.results)


# ---- one picture


def result_entries(picture: Picture, found: dict[str, Tensor], labels: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Results in COCO's format, box, mask and keypoints of an object in one entry, and where it was found."""
    source = {"file_name": str(picture.file)} | ({} if picture.frame is None else {"frame": picture.frame})
    return [source | entry for entry in one_list(found, picture.number, labels or numbered_labels(found))]


def one_list(found: dict[str, Tensor], image_id: int, labels: dict[str, Any]) -> list[dict[str, Any]]:
    """Results in COCO's format, box, mask and keypoints of an object in one entry."""
    posed = {labels["category_ids"][label] for label in labels["keypoint_labels"]}
    entries = in_one_entry(to_coco(found, image_id, labels), posed)
    names = dict(zip(labels["category_ids"], labels["categories"], strict=False))
    return [entry | {"category_name": names[entry["category_id"]]} for entry in entries]


def numbered_labels(found: dict[str, Tensor]) -> dict[str, Any]:
    """For a model that does not say what its labels mean: the numbers themselves, and keypoints for all."""
    numbers = list(range(int(found["labels"].max()) + 1)) if len(found["labels"]) else [0]
    return {"category_ids": numbers, "categories": list(map(str, numbers)), "keypoint_labels": numbers}


def number_image(masks: Tensor) -> Image.Image:
    """Masks (K, 1, H, W) as one picture: object k, from 1, has the pixels of value k; the first lies on top. In colours
    up to 255 objects, in 16 bits of grey above."""
    numbers = torch.zeros(masks.shape[-2:], dtype=torch.int32)
    for number in range(len(masks), 0, -1):
        numbers[masks[number - 1, 0] > 0.5] = number
    if len(masks) > 255:
        return Image.fromarray(numbers.numpy().astype(np.uint16))
    picture = Image.fromarray(numbers.numpy().astype(np.uint8))
    colours = np.array([to_rgb(colour) for colour in visualize.COLOURS])
    palette = np.vstack([np.zeros((1, 3)), np.resize(colours, (255, 3))])
    picture.putpalette((255 * palette).round().astype(np.uint8).tobytes())
    return picture


def crops(image: Tensor, found: dict[str, Tensor], labels: dict[str, Any] | None) -> Iterator[tuple[str, Image.Image]]:
    """Each object of a picture (3, H, W) along its box, out to whole pixels, with its category as a folder's name."""
    height, width = image.shape[1:]
    for box, label in zip(found["boxes"], found["labels"].tolist(), strict=True):
        left, top = (int(corner) for corner in box[:2].floor())
        right, bottom = (
            max(int(corner), before + 1) for corner, before in zip(box[2:].ceil(), (left, top), strict=True)
        )
        pixels = image[:, top : min(bottom, height), left : min(right, width)].permute(1, 2, 0)
        yield folder_name(visualize.label_name(label, labels)), Image.fromarray(pixels.numpy())


def folder_name(category: str) -> str:
    """A category's name without what a folder's cannot have."""
    return re.sub(r"[^\w .()+-]", "_", category).strip(" .") or "_"


def save_picture(picture: Image.Image, path: Path) -> None:
    write_whole(path, lambda file: picture.save(file, format="PNG"))
