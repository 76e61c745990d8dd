"""The playground: scenes drawn from a seed, with boxes, masks and keypoints known exactly; no download.

A scene is made in this order: choose the things, draw each on a layer of its own, decide from front to back which stay
(one that is nearly covered is left out of the picture, not only of the record), paint the backdrop and what is left,
then do to it what a camera does. The masks are cut from the same map of owners that the painting follows.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageFilter

from mrcnn.coco_names import KEYPOINT_NAMES, SKELETON
from mrcnn.settings import whole

from ..masks import tight_boxes
from ..write import coco_json
from . import ink
from .canvas import Light, noise, random_colour, random_light
from .people import KEYPOINT_FLIP, draw_person, person_palette
from .scene import Thing, camera, place, resolve
from .shapes import DRAW, RADIUS, backdrop, draw_coin

CATEGORIES = ["background", "person", "ball", "box", "triangle", "star", "ring"]
PERSON, BALL = 1, 2
COUNT, SEED, SIZE = whole(0, 10**7), whole(0, 2**63 - 1), whole(32, 16384)  # of scenes; any; of a side, in pixels
COIN_TABLES = 0.12  # the share of scenes with many discs on a table


def choose_things(rng: np.random.Generator, size: int, light: Light, grey: bool, behind: list) -> list[Thing]:
    """One to six things, the first the furthest back; their colours unlike the backdrop's and each other's."""
    things, taken, colours = [], [], list(behind)
    for _ in range(1 + int(rng.random() * 6)):
        if rng.random() < 0.55:
            height = (48 + 62 * rng.random() ** 1.3) * size / 128
            x, y = place(rng, size, taken, 0.12)
            palette = person_palette(rng, grey, colours)
            layer, keypoints, sight = draw_person(rng, size, height, x, y, light)
            things.append(Thing(PERSON, layer, palette, keypoints, sight))
            colours.append(palette[2])
        else:
            label = 2 + int(rng.random() * 5)
            low, high = RADIUS[label]
            radius = (low + (high - low) * rng.random()) * size / 128
            x, y = place(rng, size, taken, 0.06)
            draw = draw_coin if label == BALL and rng.random() < 0.25 else DRAW[label]
            colour = random_colour(rng, grey, colours)
            things.append(Thing(label, draw(rng, size, radius, x, y, light), colour[None]))
            colours.append(colour)
        taken.append((x, y))
    return things


def coin_table(rng: np.random.Generator, size: int, light: Light, grey: bool, behind: list) -> list[Thing]:
    """Up to six discs of about one size in a loose block of rows, perhaps with gaps, unlike the table in brightness."""
    u = rng.random(6).tolist()
    radius = size * (0.055 + 0.045 * u[0])
    pitch = radius * (2.3 + 1.0 * u[1])
    rows, columns = [(2, 3), (3, 2), (1, 4), (2, 2), (1, 5), (1, 3)][int(rng.random() * 6)]
    metal = random_colour(rng, grey or u[2] < 0.7, behind)
    metal = metal + 0.5 * rng.random() * (behind[0] - metal)  # old coins on a table of about their own colour
    draw = draw_coin if u[3] < 0.75 else DRAW[BALL]
    spots = [(i, j) for i in range(rows) for j in range(columns) if rng.random() < 0.92]
    top, left = ((0.5 + 0.9 * (rng.random() - 0.5)) * (size - pitch * (count - 1)) for count in (rows, columns))
    things = []
    for i, j in spots:
        dx, dy, grow, tone = (rng.random(4) - 0.5).tolist()
        r = radius * (1 + 0.5 * grow * u[4])
        x, y = left + pitch * j + dx * radius * 0.5, top + pitch * i + dy * radius * 0.5
        palette = (metal * (1 + 0.5 * tone * u[5]))[None]
        things.append(Thing(BALL, draw(rng, size, r, x, y, light), palette))
    return things


def cast_shadow(rng: np.random.Generator, picture: np.ndarray, solid: np.ndarray, light: Light) -> None:
    """Darken the backdrop where the things, `solid` (H, W) bool, keep the lamp from it: away from it and soft."""
    depth, length = 0.3 + 0.4 * rng.random(), len(picture) / 128 * (1 + 3 * rng.random())
    shadow = Image.new("L", solid.shape[::-1])
    away = round(-length * light[0]), round(-length * light[1])
    shadow.paste(Image.fromarray(solid.view(np.uint8) * np.uint8(255)), away)
    shadow = np.asarray(shadow.filter(ImageFilter.BoxBlur(0.8 * length)), dtype=np.float32)
    picture *= (1 - depth / 255 * shadow)[:, :, None]


def make_scene(seed: int, index: int, size: int = 128) -> tuple[np.ndarray, list[Thing], np.ndarray]:
    """Scene number `index` of `seed`: the picture (size, size, 3) uint8, its things, and the map of their owners."""
    rng = np.random.default_rng([seed, index])
    things: list[Thing] = []
    while not things:  # everything may have landed outside the picture
        u = rng.random(4).tolist()
        table = u[0] < COIN_TABLES
        grey = u[1] < (0.7 if table else 0.25)
        light = random_light(rng)
        first = random_colour(rng, grey, [])
        second = first + (0.15 + 0.35 * u[2]) * (random_colour(rng, grey, [first]) - first)
        if u[3] < 0.3:  # a dark or a bright room
            first, second = (first * 0.4, second * 0.4) if u[3] < 0.2 else (0.6 + first * 0.4, 0.6 + second * 0.4)
        choose = coin_table if table else choose_things
        things, owner = resolve(choose(rng, size, light, grey, [first, second]), size)
    picture = backdrop(rng, size, (first, second))
    if rng.random() < 0.6:
        cast_shadow(rng, picture, owner >= 0, light)
    for k, thing in enumerate(things):
        layer = thing.layer
        colours = layer.colours(thing.palette)
        colours *= 1 + 0.06 * noise(rng, "gravel", layer.height, layer.width)[:, :, None]
        np.copyto(picture[layer.window], colours, where=(owner[layer.window] == k)[:, :, None])
    return camera(rng, picture, grey), things, owner


class Style(NamedTuple):
    """What a playground draws: its categories, how a scene of them is made, and which label is a person's, if any."""

    categories: list[str]
    make_scene: Callable[[int, int, int], tuple[np.ndarray, list[Thing], np.ndarray]]
    person: int | None


STYLES = {"photo": Style(CATEGORIES, make_scene, PERSON), "ink": Style(ink.CATEGORIES, ink.make_scene, None)}


def record_keypoints(thing: Thing, index: int, owner: np.ndarray) -> np.ndarray:
    """Keypoints (17, 3) as COCO has them: v = 2 in sight, 1 hidden, 0 (and 0, 0) outside the picture."""
    keypoints = np.zeros((len(KEYPOINT_NAMES), 3), dtype=np.float32)
    if thing.keypoints is None:
        return keypoints
    size = len(owner)
    for row, (x, y), sight in zip(keypoints, np.round(thing.keypoints, 2).tolist(), thing.sight, strict=True):
        if 0 <= x < size and 0 <= y < size:
            row[:] = x, y, 2 if sight and owner[int(y), int(x)] == index else 1
    return keypoints


class Playground(torch.utils.data.Dataset):
    """`num_images` scenes of size × size pixels, each made afresh, always the same, from (seed, its index).

    style "photo" are scenes of people and solid things, "ink" are drawings of other things, without keypoints.

    `playground[i]` is (image uint8 (3, size, size), target), the target a dict of boxes float32 (K, 4), labels int64
    (K,), masks uint8 (K, size, size), keypoints float32 (K, 17, 3), area float32 (K,) in pixels of the mask,
    iscrowd int64 (K,), image_id int.
    """

    def __init__(self, num_images: int, seed: int = 0, size: int = 128, style: str = "photo"):
        for name, value, rule in (("num_images", num_images, COUNT), ("seed", seed, SEED), ("size", size, SIZE)):
            if not rule.holds(value):
                raise ValueError(f"{name} must be {rule.expected}; got {value}")
        if style not in STYLES:
            raise ValueError(f"style must be one of {', '.join(STYLES)}; got {style!r}")
        self.num_images, self.seed, self.size, self.style = num_images, seed, size, style
        categories, _, person = STYLES[style]
        self.categories, self.category_ids = list(categories), list(range(len(categories)))
        self.keypoint_names = list(KEYPOINT_NAMES) if person else []
        self.keypoint_flip = list(KEYPOINT_FLIP) if person else []
        self.skeleton = list(SKELETON) if person else []
        self.keypoint_labels = {person} if person else set()

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict]:
        if not 0 <= index < self.num_images:
            raise IndexError(f"scene {index} of a playground of {self.num_images}")
        picture, things, owner = STYLES[self.style].make_scene(self.seed, index, self.size)
        masks = owner == np.arange(len(things), dtype=np.int8)[:, None, None]
        target = {
            "boxes": torch.from_numpy(tight_boxes(masks)),
            "labels": torch.tensor([thing.label for thing in things]),
            "masks": torch.from_numpy(masks.view(np.uint8)),
            "area": torch.from_numpy(masks.sum((1, 2)).astype(np.float32)),
            "iscrowd": torch.zeros(len(things), dtype=torch.int64),
            "image_id": index,
        }
        if self.keypoint_names:
            rows = [record_keypoints(thing, k, owner) for k, thing in enumerate(things)]
            target["keypoints"] = torch.from_numpy(np.stack(rows))
        return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))), target

    def sizes(self) -> list[tuple[int, int]]:
        """(width, height) of each picture."""
        return [(self.size, self.size)] * self.num_images

    def coco(self) -> dict:
        """The ground truth as COCO's JSON has it, for pycocotools. Makes every scene once."""
        return coco_json(self)
