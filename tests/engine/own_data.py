"""Somebody's own data, made on the spot: pictures of 128 × 128 cut from scikit-image's photograph of coins, with the
coins outlined by the photograph itself. The right third of it is held out. What shows too little of its coin, or is
part of one whose middle lies on the other side, is marked as a crowd: neither taught nor asked for.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as rle
from scipy import ndimage
from skimage import data, filters, segmentation

SIDE = 128
TABLE, COIN = 30, 150  # darker is surely table, brighter surely coin
BORDER = 236  # columns left of it are for training, those right of it for validation
LEAST_SHARE = 0.3  # of a coin that a picture must show


def write_own_data(out: Path, pictures: int = 36, held_out: int = 12, seed: int = 0) -> None:
    """Leaves out/train and out/val, folders of PNG files, with out/train.json and out/val.json in COCO's format."""
    grey, coins = outlined_coins()
    numbers = np.unique(coins)[1:]
    middles = ndimage.center_of_mass(coins > 0, coins, numbers)
    left = {int(number) for number, (_, column) in zip(numbers, middles, strict=True) if column < BORDER}
    rng = np.random.default_rng(seed)
    for name, count, columns, own in (
        ("train", pictures, np.s_[:BORDER], left),
        ("val", held_out, np.s_[BORDER:], set(numbers.tolist()) - left),
    ):
        write_part(out, name, count, grey[:, columns], coins[:, columns], own, rng)


def outlined_coins() -> tuple[np.ndarray, np.ndarray]:
    """The photograph (H, W) uint8, and for each pixel the number of its coin, 0 on the table."""
    grey = data.coins()
    sure = np.where(grey < TABLE, 1, 0) + np.where(grey > COIN, 2, 0)
    coin = ndimage.binary_fill_holes(segmentation.watershed(filters.sobel(grey), sure) == 2)
    numbered, _ = ndimage.label(ndimage.binary_opening(coin, iterations=2))
    return grey, numbered


def write_part(
    out: Path, name: str, count: int, grey: np.ndarray, coins: np.ndarray, own: set[int], rng: np.random.Generator
) -> None:
    (out / name).mkdir(parents=True, exist_ok=True)
    record = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "coin"}]}
    sizes = np.bincount(coins.ravel())
    for image in range(1, count + 1):
        top, left = (int(rng.integers(0, length - SIDE + 1)) for length in grey.shape)
        window = np.s_[top : top + SIDE, left : left + SIDE]
        file = f"{image:03}.png"
        Image.fromarray(grey[window]).save(out / name / file)
        record["images"].append({"id": image, "file_name": file, "width": SIDE, "height": SIDE})
        for coin in np.unique(coins[window])[1:].tolist():
            mask = coins[window] == coin
            crowd = coin not in own or mask.sum() < LEAST_SHARE * sizes[coin]
            record["annotations"].append(annotation(len(record["annotations"]) + 1, image, mask, crowd))
    (out / f"{name}.json").write_text(json.dumps(record))


def annotation(number: int, image: int, mask: np.ndarray, crowd: bool) -> dict:
    encoded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": [float(value) for value in rle.toBbox(encoded)],
        "area": float(mask.sum()),
        "iscrowd": int(crowd),
        "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()},
    }
