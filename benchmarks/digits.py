"""A small data set of real things, made on the spot: handwritten digits on photographs, in COCO's format.

The digits are scikit-learn's 1,797 scans of 8 × 8 pixels, the photographs scikit-image's. Both lie in the installed
packages (`pip install scikit-learn scikit-image`): nothing is downloaded. Training and validation share no photograph
and no scan: the first half of the scans is for training, the second for validation.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image

from mrcnn.data import write_coco
from mrcnn.data.masks import tight_boxes

SIDE = 160  # of a picture, in pixels
MOST = 5  # digits in a picture
ENLARGED = 36, 64  # sides to which the 8 × 8 pixels of a scan are brought; the ink is a little narrower
TRIES = 20  # to find a place for a digit, before it is left out
PHOTOS = {
    "train": ("astronaut.png", "coffee.png", "rocket.jpg", "brick.png", "gravel.png"),
    "val": ("chelsea.png", "motorcycle_left.png", "camera.png", "grass.png", "coins.png"),
}
PICTURES = {"train": 60, "val": 150}


def write_digits(out: Path) -> None:
    """Leaves out/train and out/val, each with images/ and instances.json."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    middle = len(digits.images) // 2
    for seed, (part, scans) in enumerate({"train": slice(None, middle), "val": slice(middle, None)}.items()):
        pictures = Digits(PICTURES[part], seed, read_photos(part), digits.images[scans], digits.target[scans])
        write_coco(pictures, out / part)


def read_photos(part: str) -> list[Image.Image]:
    folder = Path(skimage.data.__file__).parent
    return [Image.open(folder / name).convert("RGB") for name in PHOTOS[part]]


@dataclass
class Digits:
    """`count` pictures of digits, each made afresh, always the same, from (seed, its index).

    scans: (K, 8, 8), ink from 0 to 16; values: (K,), what they show. `digits[i]` is (image uint8 (3, SIDE, SIDE),
    target), as `mrcnn.data.write_coco` wants it; label 1 is the digit 0, and so on.
    """

    count: int
    seed: int
    photos: list[Image.Image]
    scans: np.ndarray
    values: np.ndarray

    categories = ("background", *"0123456789")
    category_ids = tuple(range(11))
    keypoint_labels = frozenset()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict]:
        rng = np.random.default_rng([self.seed, index])
        chosen = rng.choice(len(self.scans), 1 + rng.integers(MOST), replace=False)
        picture = patch(rng, self.photos[rng.integers(len(self.photos))])
        masks = np.zeros((len(chosen), SIDE, SIDE), dtype=bool)
        for mask, scan in zip(masks, self.scans[chosen], strict=True):
            write_on(rng, picture, mask, masks.any(0), enlarged(rng, scan))
        kept = masks.any((1, 2))
        masks = masks[kept]
        target = {
            "boxes": torch.from_numpy(tight_boxes(masks)),
            "labels": torch.from_numpy(self.values[chosen[kept]] + 1),
            "masks": torch.from_numpy(masks.astype(np.uint8)),
            "area": torch.from_numpy(masks.sum((1, 2))),
            "iscrowd": torch.zeros(len(masks), dtype=torch.int64),
            "image_id": index,
        }
        return torch.from_numpy(picture.transpose(2, 0, 1).round().astype(np.uint8)), target


def patch(rng: np.random.Generator, photo: Image.Image) -> np.ndarray:
    """A square of a photograph, at half to full scale: (SIDE, SIDE, 3) float64, 0 to 255."""
    side = int(rng.integers(SIDE, min(2 * SIDE, *photo.size) + 1))
    left, top = (int(rng.integers(length - side + 1)) for length in photo.size)
    return np.asarray(photo.resize((SIDE, SIDE), Image.Resampling.BOX, (left, top, left + side, top + side)), float)


def enlarged(rng: np.random.Generator, scan: np.ndarray) -> np.ndarray:
    """The ink of a scan (8, 8), 0 to 16, in a frame that just holds what is inked: (h, w), 0 to 1, a little turned."""
    side = int(rng.integers(*ENLARGED))
    small = Image.fromarray((scan * (255 / 16)).round().astype(np.uint8))
    large = small.resize((side, side), Image.Resampling.BICUBIC)
    turned = large.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC, expand=True)
    ink = np.clip((np.asarray(turned) / 255 - 0.3) / 0.3, 0, 1)  # the edge of a stroke is sharper than the scan's
    rows, columns = (np.flatnonzero((ink > 0.5).any(axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def write_on(
    rng: np.random.Generator, picture: np.ndarray, mask: np.ndarray, taken: np.ndarray, ink: np.ndarray
) -> None:
    """Inks the picture (SIDE, SIDE, 3), dark where it is bright and bright where it is dark, and notes the ink in the
    empty mask (SIDE, SIDE). Both stay as they are where no place is found clear of `taken`."""
    height, width = ink.shape
    for _ in range(TRIES):
        top, left = rng.integers(SIDE - height + 1), rng.integers(SIDE - width + 1)
        window = np.s_[top : top + height, left : left + width]
        if not taken[window].any():
            break
    else:
        return
    colour = 90 * rng.random(3)
    if picture[window].mean() < 128:
        colour = 255 - colour
    picture[window] += 0.9 * ink[:, :, None] * (colour - picture[window])
    mask[window] = ink > 0.5
