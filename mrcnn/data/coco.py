"""A data set of pictures in a folder and annotations in a COCO-format file."""

import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as rle

from mrcnn.pictures import PictureError, check_is_file, read_picture

from .annotations import Annotations, Object, Picture, clipped_box, read_annotations

SHOWN = 5  # problems that an error message quotes


class CocoDataset(torch.utils.data.Dataset):
    """Records from COCO-format files.

    `dataset[i]` is (image uint8 (3, H, W), target), the target a dict of boxes float32 (K, 4), x1 y1 x2 y2 clipped to
    the picture; labels int64 (K,), counted from 1 in the order of the category ids; masks uint8 (K, H, W), all zero for
    an object without one; keypoints float32 (K, J, 3) if the files name keypoints, all zero for an object without them;
    area float32 (K,), the file's, else the mask's, else the box's; iscrowd int64 (K,); image_id int.

    A box with no size inside its picture is dropped, with its object; a warning names them, `no_size` counts them.

    Args:
        image_dir: folder that the file names start from; a file name that leads out of it is refused.
        annotation_file: instances_*.json, or any file of COCO's form.
        keypoint_file: person_keypoints_*.json with the keypoints of the same objects, under the same ids.
        on_error: what a faulty annotation or a missing or broken picture does. "raise" stops. "skip" names it in a
            warning and goes on without it; a picture that turns out to be broken when it is asked for has the next one
            put in its place (`drop_unreadable` reads them all beforehand).

    Raises:
        ValueError: the file is not JSON or not of COCO's form; or records in it are malformed or contradict each other,
            and on_error is "raise". The message names them by their ids. Or there is no category at all.
        PictureError: a picture is missing (from the start) or broken (when it is asked for), and on_error is "raise".
    """

    def __init__(
        self,
        image_dir: str | Path,
        annotation_file: str | Path,
        keypoint_file: str | Path | None = None,
        *,
        on_error: str = "raise",
    ):
        if on_error not in ("raise", "skip"):
            raise ValueError(f'on_error must be "raise" or "skip"; got {on_error!r}')
        self.image_dir, self.on_error = Path(image_dir), on_error
        self.annotations: Annotations = read_annotations(annotation_file, keypoint_file)
        if self.annotations.problems:
            message = f"{annotation_file}: {quote(self.annotations.problems)}"
            if on_error == "raise":
                raise ValueError(message)
            warnings.warn(f"{len(self.annotations.problems)} records are left out: {message}", stacklevel=2)
        found = self.annotations
        if not found.categories:
            raise ValueError(f"{annotation_file} has no categories: there must be at least one to learn or to measure")
        if found.no_size:
            gone = quote([str(number) for number in found.no_size], ", ")
            warnings.warn(f"{annotation_file}: boxes of no size are dropped: annotation {gone}", stacklevel=2)
        names = [category["name"] for category in found.categories]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            ids = [f"{one['name']} ({one['id']})" for one in found.categories if one["name"] in twice]
            warnings.warn(
                f"{annotation_file}: categories of one name, {quote(ids, ', ')}; a model knows them by their names",
                stacklevel=2,
            )
        self.categories = ["background", *names]
        self.category_ids = [0] + [category["id"] for category in found.categories]
        self.keypoint_names, self.skeleton = list(found.keypoint_names), list(found.skeleton)
        self.keypoint_flip = mirrored(self.keypoint_names)
        self.no_size = len(found.no_size)
        self.keypoint_labels = set(found.keypoint_labels)
        self._kept = list(range(len(found.pictures)))  # numbers of the pictures that are there
        missing = [(k, f"image {found.pictures[k].id}: {wrong}") for k in self._kept if (wrong := self._missing(k))]
        self.missing = [problem for _, problem in missing]
        self._leave_out(missing)

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict]:
        if not 0 <= index < len(self):
            raise IndexError(f"picture {index} of {len(self)}")
        for place in range(index, index + len(self)):  # once around: the next readable picture, when skipping
            number = self._kept[place % len(self)]
            picture = self.annotations.pictures[number]
            try:
                image = read_picture(self._file(number), (picture.width, picture.height))
            except PictureError as error:
                if self.on_error == "raise":
                    raise PictureError(f"image {picture.id}: {error}") from error
                warnings.warn(f"skipped image {picture.id}: {error}", stacklevel=2)
                continue
            return image, make_target(picture, self.annotations.objects(number), len(self.keypoint_names))
        raise PictureError(f"none of the {len(self)} pictures in {self.image_dir} can be read")

    def sizes(self) -> list[tuple[int, int]]:
        """(width, height) of each picture, from the annotations: no picture is opened."""
        return [self.annotations.pictures[number][2:] for number in self._kept]

    def drop_unreadable(self, on_picture: Callable[[int], None] = lambda index: None) -> list[str]:
        """Read every picture; leave out those that cannot be read (or raise, as on_error says). Returns what was wrong.

        on_picture(i) is called after picture i, for a progress bar.
        """
        broken = []
        for index, number in enumerate(self._kept):
            picture = self.annotations.pictures[number]
            try:
                read_picture(self._file(number), (picture.width, picture.height))
            except PictureError as error:
                broken.append((number, f"image {picture.id}: {error}"))
            on_picture(index)
        self._leave_out(broken)
        return [problem for _, problem in broken]

    def coco(self) -> dict:
        """The ground truth in COCO's JSON form, for pycocotools: the file's own boxes, masks, areas and keypoints.

        Objects without a mask have no "segmentation", those without keypoints no "keypoints".
        """
        images, annotations = [], []
        for number in self._kept:
            picture = self.annotations.pictures[number]
            images.append(picture._asdict())
            for one in self.annotations.objects(number):
                annotations.append(coco_annotation(one, picture, self.category_ids))
        return {"info": {}, "images": images, "annotations": annotations, "categories": self.annotations.categories}

    def _file(self, number: int) -> str:
        return os.path.join(self.image_dir, self.annotations.pictures[number].file_name)

    def _missing(self, number: int) -> str | None:
        try:
            check_is_file(self._file(number))
        except PictureError as error:
            return str(error)
        return None

    def _leave_out(self, faulty: list[tuple[int, str]]) -> None:
        if not faulty:
            return
        message = quote([problem for _, problem in faulty])
        if self.on_error == "raise":
            raise PictureError(message)
        warnings.warn(f"{len(faulty)} pictures are left out: {message}", stacklevel=3)
        gone = {number for number, _ in faulty}
        self._kept = [number for number in self._kept if number not in gone]


def quote(problems: list[str], between: str = "; ") -> str:
    """The first few problems, and how many more there are."""
    more = f"{between}and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return between.join(problems[:SHOWN]) + more


def mirrored(names: list[str]) -> list[int]:
    """For each keypoint the one that it becomes in a mirror: left_x and right_x change places, others stay."""
    swapped = {"left": "right", "right": "left"}
    partners = []
    for k, name in enumerate(names):
        side, _, rest = name.partition("_")
        partner = f"{swapped[side]}_{rest}" if side in swapped else name
        partners.append(names.index(partner) if partner in names else k)
    return partners


def make_target(picture: Picture, objects: list[Object], num_keypoints: int) -> dict:
    """The target of a picture, as in CocoDataset's docstring."""
    boxes = np.array([clipped_box(one.bbox, picture) for one in objects], dtype=np.float32).reshape(-1, 4)
    masks = np.zeros((len(objects), picture.height, picture.width), dtype=np.uint8)
    areas = np.zeros(len(objects), dtype=np.float32)
    for k, one in enumerate(objects):
        if one.segmentation is not None:
            masks[k] = decode_mask(one, picture)
        if one.area is not None:
            areas[k] = one.area
        else:
            areas[k] = masks[k].sum() if one.segmentation is not None else one.bbox[2] * one.bbox[3]
    target = {
        "boxes": torch.from_numpy(boxes),
        "labels": torch.tensor([one.label for one in objects], dtype=torch.int64),
        "masks": torch.from_numpy(masks),
        "area": torch.from_numpy(areas),
        "iscrowd": torch.tensor([one.iscrowd for one in objects], dtype=torch.int64),
        "image_id": picture.id,
    }
    if num_keypoints:
        rows = [one.keypoints or (0.0,) * (3 * num_keypoints) for one in objects]
        target["keypoints"] = torch.tensor(rows, dtype=torch.float32).reshape(-1, num_keypoints, 3)
    return target


def segmentation_of(one: Object) -> list | dict | None:
    """An object's segmentation as it was in the file."""
    return pickle.loads(one.segmentation) if isinstance(one.segmentation, bytes) else one.segmentation


def encode_mask(one: Object, picture: Picture) -> dict:
    """An object's mask, polygons or run lengths, as compressed run lengths."""
    segmentation = segmentation_of(one)
    if isinstance(segmentation, list):
        return rle.merge(rle.frPyObjects(segmentation, picture.height, picture.width))
    if isinstance(segmentation["counts"], list):
        return rle.frPyObjects(segmentation, picture.height, picture.width)
    return segmentation


def decode_mask(one: Object, picture: Picture) -> np.ndarray:
    """An object's mask, uint8 (H, W)."""
    return rle.decode(encode_mask(one, picture))


def coco_annotation(one: Object, picture: Picture, category_ids: list[int]) -> dict:
    """An object as COCO's JSON has it."""
    annotation = {
        "id": one.id,
        "image_id": picture.id,
        "category_id": category_ids[one.label],
        "bbox": list(one.bbox),
        "iscrowd": one.iscrowd,
    }
    if one.segmentation is not None:
        annotation["segmentation"] = segmentation_of(one)
    if one.area is not None:
        annotation["area"] = one.area
    elif one.segmentation is not None:
        annotation["area"] = float(rle.area(encode_mask(one, picture)))
    else:
        annotation["area"] = one.bbox[2] * one.bbox[3]
    if one.keypoints:
        annotation["keypoints"] = list(one.keypoints)
        annotation["num_keypoints"] = sum(v > 0 for v in one.keypoints[2::3])
    return annotation
