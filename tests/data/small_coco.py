"""A small sound COCO-format data set, to be read or to be spoiled."""

import json

import numpy as np
from PIL import Image
from pycocotools import mask as rle

W, H = 40, 30
TRIANGLE = [4.0, 5.0, 20.5, 5.0, 12.0, 22.25]


def content(**changes) -> dict:
    """A small sound file: category ids with gaps, a polygon, both kinds of run lengths, a crowd, an empty picture."""
    block = np.zeros((H, W), dtype=np.uint8, order="F")
    block[3:9, 10:30] = 1
    packed = rle.encode(block)
    plain = {"size": [H, W], "counts": [10 * H + 3, 6, H * W - 10 * H - 9]}
    whole = {
        "images": [{"id": 7 + k, "file_name": f"{k}.png", "width": W, "height": H} for k in range(3)],
        "categories": [
            {"id": 18, "name": "dog"},
            {"id": 1, "name": "person", "keypoints": ["nose", "left_hand", "right_hand"], "skeleton": [[1, 2], [1, 3]]},
        ],
        "annotations": [
            {"id": 101, "image_id": 7, "category_id": 18, "bbox": [4, 5, 16.5, 17.25], "area": 150.5, "iscrowd": 0,
             "segmentation": [TRIANGLE, [30, 20, 38, 20, 38, 28, 30, 28]]},
            {"id": 102, "image_id": 7, "category_id": 1, "bbox": [10, 3, 20, 6], "area": 120, "iscrowd": 0,
             "segmentation": {"size": [H, W], "counts": packed["counts"].decode()},
             "keypoints": [12, 4, 2, 0, 0, 0, 20.5, 6.25, 1], "num_keypoints": 2},
            {"id": 103, "image_id": 9, "category_id": 1, "bbox": [10, 3, 1, 6], "area": 6, "iscrowd": 1,
             "segmentation": plain},
            {"id": 104, "image_id": 9, "category_id": 18, "bbox": [30, 20, 30, 30]},
        ],
    }  # fmt: skip
    return whole | changes


def write(folder, whole: dict | None = None, pictures: int = 3):
    """The file and its pictures in a folder; the arguments of CocoDataset."""
    for k in range(pictures):
        pixels = np.random.default_rng(k).integers(0, 256, (H, W, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")
    (folder / "a.json").write_text(json.dumps(whole or content()))
    return folder, folder / "a.json"


def changed(kind: str, place: int, **changes) -> dict:
    """The sound file with one record changed; a value of None takes the key away."""
    whole = content()
    whole[kind][place] = {k: v for k, v in (whole[kind][place] | changes).items() if v is not None}
    return whole
