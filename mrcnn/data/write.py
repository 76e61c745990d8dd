"""Data sets written out as COCO files: images/, instances.json and, with keypoints, person_keypoints.json."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as rle

from mrcnn.files import write_whole

PERSON_KEYS = ("keypoints", "num_keypoints")


def short(numbers: torch.Tensor) -> list[float]:
    """float32 numbers as the shortest decimals that read back as the same float32."""
    return [float(str(number)) for number in numbers.numpy()]


def annotations_of(target: dict, dataset, first_id: int) -> list[dict]:
    """The target's objects as COCO annotations, numbered from first_id; those of `keypoint_labels` with keypoints."""
    annotations = []
    masks = np.asfortranarray(target["masks"].numpy().transpose(1, 2, 0))  # (H, W, K), as pycocotools wants it
    for k, (encoded, label) in enumerate(zip(rle.encode(masks), target["labels"].tolist(), strict=True)):
        x1, y1, x2, y2 = short(target["boxes"][k])
        annotation = {
            "id": first_id + k,
            "image_id": target["image_id"],
            "category_id": dataset.category_ids[label],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": float(target["area"][k]),
            "iscrowd": int(target["iscrowd"][k]),
            "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()},
        }
        if label in dataset.keypoint_labels:
            keypoints = target["keypoints"][k]
            annotation["keypoints"] = short(keypoints.flatten())
            annotation["keypoints"][2::3] = [int(v) for v in keypoints[:, 2]]
            annotation["num_keypoints"] = int((keypoints[:, 2] > 0).sum())
        annotations.append(annotation)
    return annotations


def coco_json(dataset, on_record: Callable[[torch.Tensor, dict], None] = lambda image, target: None) -> dict:
    """COCO's JSON of a data set of records: info, images, annotations (ids from 1), categories.

    on_record(image, target) is called for each record, in order.
    """
    images, annotations = [], []
    for index in range(len(dataset)):
        image, target = dataset[index]
        on_record(image, target)
        _, height, width = image.shape
        number = target["image_id"]
        images.append({"id": number, "file_name": f"{number:06d}.png", "width": width, "height": height})
        annotations += annotations_of(target, dataset, len(annotations) + 1)
    categories = []
    for label, name in enumerate(dataset.categories[1:], start=1):
        category = {"id": dataset.category_ids[label], "name": name, "supercategory": name}
        if label in dataset.keypoint_labels:
            category["keypoints"] = list(dataset.keypoint_names)
            category["skeleton"] = [[a + 1, b + 1] for a, b in dataset.skeleton]  # COCO counts keypoints from 1
        categories.append(category)
    info = {"description": f"{len(images)} pictures written by mrcnn"}
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}


def write_coco(dataset, out_dir: str | Path, on_picture: Callable[[int], None] = lambda number: None) -> None:
    """Write a data set as out_dir/images/*.png, instances.json and, if it has keypoints, person_keypoints.json.

    The first file has every object, without keypoints; the second the objects of `keypoint_labels` under the same ids,
    with keypoints. Masks, boxes and keypoints read back exactly. on_picture(i) is called after picture i, for a
    progress bar.
    """
    out_dir = Path(out_dir)
    (out_dir / "images").mkdir(parents=True, exist_ok=True)
    written = 0

    def save(image: torch.Tensor, target: dict) -> None:
        nonlocal written
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        write_whole(out_dir / "images" / f"{target['image_id']:06d}.png", lambda file: picture.save(file, format="PNG"))
        on_picture(written)
        written += 1

    full = coco_json(dataset, save)
    ids = {dataset.category_ids[label] for label in dataset.keypoint_labels}
    people = full | {
        "annotations": [a for a in full["annotations"] if a["category_id"] in ids],
        "categories": [c for c in full["categories"] if c["id"] in ids],
    }
    instances = full | {
        "annotations": [{k: v for k, v in a.items() if k not in PERSON_KEYS} for a in full["annotations"]],
        "categories": [{k: c[k] for k in ("id", "name", "supercategory")} for c in full["categories"]],
    }
    files = {"instances.json": instances} | ({"person_keypoints.json": people} if ids else {})
    for name, content in files.items():
        text = json.dumps(content)
        write_whole(out_dir / name, lambda file, text=text: file.write(text.encode()))
