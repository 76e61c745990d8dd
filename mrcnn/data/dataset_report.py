"""What is in a COCO-format data set, and what is wrong with it."""

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pycocotools import mask as rle

from .annotations import Object, Picture, clipped_box
from .coco import CocoDataset, encode_mask, quote

SMALL, LARGE = 32**2, 96**2  # COCO's limits of area, in pixels
FITS, FAR_OFF = 0.8, 0.7  # IoU of a box with its mask's own: at least, and less than


@dataclass
class Report:
    """Counts, and a line for each fault. `dataset` has what is sound, to draw samples from."""

    dataset: CocoDataset
    pictures: int = 0
    empty_pictures: int = 0
    objects: dict[str, int] = field(default_factory=dict)  # by category, the frequent first
    crowds: int = 0
    without_mask: int = 0
    with_keypoints: int = 0
    no_size: int = 0
    small: int = 0
    medium: int = 0
    large: int = 0
    sizes: list[tuple[int, int]] = field(default_factory=list)  # width, height of each picture
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        total = sum(self.objects.values())
        lines = [f"{self.pictures} pictures, {self.empty_pictures} of them without objects"]
        if self.sizes:
            width, height = np.array(self.sizes).T
            lines[0] += f"; width {width.min()} to {width.max()}, height {height.min()} to {height.max()} pixels"
        lines.append(
            f"{total} objects: {self.small} small, {self.medium} medium, {self.large} large (32² and 96² pixels)"
        )
        lines.append(
            f"{self.crowds} crowds, {self.without_mask} objects without a mask, {self.with_keypoints} with keypoints"
        )
        lines.append(f"{self.no_size} boxes of no size inside their picture were dropped")
        if self.no_size:
            lines[-1] += f": annotation {quote([str(number) for number in self.dataset.annotations.no_size], ', ')}"
        widest = max(map(len, self.objects), default=0)
        lines += [f"  {name:{widest}}  {count:8d}" for name, count in self.objects.items()]
        lines.append(f"{len(self.problems)} problems" + (":" if self.problems else ""))
        lines += [f"  {problem}" for problem in self.problems]
        return "\n".join(lines)


def report(
    image_dir: str | Path,
    annotation_file: str | Path,
    keypoint_file: str | Path | None = None,
    *,
    read_pictures: bool = True,
    on_picture: Callable[[int], None] = lambda index: None,
) -> Report:
    """Read a data set and say what is in it and what is wrong with it; every faulty record and picture is named.

    read_pictures=False looks only whether the pictures are there. on_picture(i) is called after picture i was read.
    ValueError only when the annotation file is not JSON or not of COCO's form at all.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say is in `problems`
        dataset = CocoDataset(image_dir, annotation_file, keypoint_file, on_error="skip")
        missing = list(dataset.missing)
        broken = dataset.drop_unreadable(on_picture) if read_pictures else []
    found = dataset.annotations
    result = Report(dataset, pictures=len(found.pictures), no_size=dataset.no_size)
    result.problems = [*found.problems, *missing, *broken]
    result.sizes = [(picture.width, picture.height) for picture in found.pictures]
    counts = Counter({name: 0 for name in dataset.categories[1:]})
    corners = []
    for index, picture in enumerate(found.pictures):
        objects = found.objects(index)
        corners += [str(one.id) for one in objects if has_corners(one, picture)]
        result.empty_pictures += not objects
        for one in objects:
            counts[dataset.categories[one.label]] += 1
            result.crowds += one.iscrowd
            result.without_mask += one.segmentation is None
            result.with_keypoints += bool(one.keypoints and any(one.keypoints[2::3]))
            area = one.area if one.area is not None else one.bbox[2] * one.bbox[3]
            result.small += area < SMALL
            result.medium += SMALL <= area < LARGE
            result.large += area >= LARGE
    result.objects = dict(counts.most_common())
    if corners:
        result.problems.append(
            f"annotation {quote(corners, ', ')}: the box is far from its mask, and would fit it if read as "
            "x1, y1, x2, y2; COCO wants x, y, width, height"
        )
    return result


def has_corners(one: Object, picture: Picture) -> bool:
    """Whether the mask says that the box was written as x1, y1, x2, y2, where x, y, width, height is wanted."""
    x1, y1, x2, y2 = one.bbox
    as_corners = clipped_box((x1, y1, x2 - x1, y2 - y1), picture)
    if one.segmentation is None or as_corners is None:  # hardly any sound box comes further: no mask is drawn for it
        return False
    x, y, width, height = rle.toBbox(encode_mask(one, picture)).tolist()
    around = (x, y, x + width, y + height)
    return iou(as_corners, around) >= FITS and iou(clipped_box(one.bbox, picture), around) < FAR_OFF


def iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Of two boxes x1, y1, x2, y2, at least one of them with a size."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0.0) * max(height, 0.0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
