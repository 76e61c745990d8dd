"""What scenes of every style share: things on their layers, where they go, which of them are seen, and the camera."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from .canvas import Layer, noise

MIN_PIXELS, MIN_SHARE = 40, 0.35  # what must be in sight of a thing: pixels (of 128 × 128), and part of what is drawn


class Thing(NamedTuple):
    """A thing on its layer. palette (P, 3) are its parts' colours; keypoints and sight are None but for people."""

    label: int
    layer: Layer
    palette: np.ndarray
    keypoints: np.ndarray | None = None
    sight: np.ndarray | None = None


def place(rng: np.random.Generator, size: int, taken: list[tuple[float, float]], margin: float) -> tuple[float, float]:
    """A centre for a thing: of two random places the one further from the things that are there."""
    spots = (margin + (1 - 2 * margin) * rng.random((2, 2))) * size
    if not taken:
        return tuple(spots[0].tolist())
    gaps = np.hypot(*(spots[:, None] - np.array(taken)).transpose(2, 0, 1)).min(1)
    return tuple(spots[gaps.argmax()].tolist())


def resolve(things: list[Thing], size: int) -> tuple[list[Thing], np.ndarray]:
    """Who stays, and the map of owners (size, size): the index of the thing seen at each pixel, -1 for the backdrop.

    From front to back: a thing with too little left in sight is dropped, and so does not cover what is behind it.
    """
    least = MIN_PIXELS * (size / 128) ** 2
    free = np.ones((size, size), dtype=bool)
    kept: list[tuple[Thing, np.ndarray]] = []
    for thing in reversed(things):
        drawn = thing.layer.part >= 0
        seen = drawn & free[thing.layer.window]
        if seen.sum() >= max(least, MIN_SHARE * drawn.sum()):
            free[thing.layer.window] &= ~drawn
            kept.append((thing, seen))
    kept.reverse()
    owner = np.full((size, size), -1, dtype=np.int8)
    for k, (thing, seen) in enumerate(kept):
        owner[thing.layer.window][seen] = k
    return [thing for thing, _ in kept], owner


def camera(rng: np.random.Generator, picture: np.ndarray, grey: bool) -> np.ndarray:
    """What a camera does: contrast, exposure, a little blur, grain. (H, W, 3) float32 to uint8."""
    u = rng.random(5).tolist()
    contrast, exposure = 0.7 + 0.4 * u[0], 0.15 * (u[1] - 0.5)
    height, width, _ = picture.shape
    strength = 255 * (0.005 + 0.035 * u[2] * u[2])
    picture = picture * (255 * contrast)
    level = 255 * (0.5 + exposure - 0.5 * contrast)
    picture += level + strength * noise(rng, "grain", height, width)[:, :, None]
    if not grey:  # a part of the grain has a colour
        for channel in range(3):
            picture[:, :, channel] += 0.5 * strength * noise(rng, "grain", height, width)
    picture = np.clip(picture, 0, 255, out=picture).astype(np.uint8)
    if u[3] < 0.7:
        picture = np.asarray(Image.fromarray(picture).filter(ImageFilter.BoxBlur(0.3 + 0.5 * u[4])))
    return picture
