"""What the playground draws with: noise, colours, and the layer that one thing is drawn on.

Pixel (row i, column j) covers the square [j, j+1) × [i, i+1), so its centre is (j + 0.5, i + 0.5); boxes and keypoints
use the same coordinates. Edges are hard on purpose: a pixel belongs to a thing or it does not, and the mask is
the drawing.
"""

import functools
import math

import numpy as np
from PIL import Image, ImageDraw

Light = tuple[float, float, float]  # unit vector from the thing to the lamp: x right, y down, z to the viewer


@functools.lru_cache(maxsize=4)
def noise_pool(side: int) -> dict[str, np.ndarray]:
    """Noise maps (side, side), float32, mean 0 and deviation 1, made once per process; scenes cut windows out of them.

    "clouds", "marble", "gravel" have spectra 1/f^p with p falling: ever finer grain. "grain" is white. "relief" is the
    slope of gravel: what a lamp at the upper left makes of a rough surface. The first three have no seam at the border.
    """
    rng = np.random.default_rng(20170320)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None] * side, np.fft.rfftfreq(side) * side)
    frequency[0, 0] = np.inf  # no constant term: mean 0
    pool = {"grain": rng.standard_normal((side, side), dtype=np.float32)}
    for name, power in (("clouds", 2.0), ("marble", 1.4), ("gravel", 0.9)):
        spectrum = np.fft.rfft2(rng.standard_normal((side, side))) / frequency**power
        field = np.fft.irfft2(spectrum, s=(side, side)).astype(np.float32)
        pool[name] = field / field.std()
    smooth = sum(np.roll(pool["gravel"], (i, j), (0, 1)) for i in range(2) for j in range(2))
    slope = smooth - np.roll(smooth, (2, 2), (0, 1))
    pool["relief"] = slope / slope.std()
    return pool


def noise(rng: np.random.Generator, name: str, height: int, width: int) -> np.ndarray:
    """A window (height, width) of a noise map, at a random place. Read-only: it is a view of the pool."""
    pool = noise_pool(512 if max(height, width) <= 256 else 2 * max(height, width))[name]
    top, left = int(rng.random() * (len(pool) - height)), int(rng.random() * (len(pool) - width))
    return pool[top : top + height, left : left + width]


def random_colour(rng: np.random.Generator, grey: bool, unlike: list[np.ndarray]) -> np.ndarray:
    """The one of six random colours (3,) in [0.1, 1] that is least like any of `unlike`."""
    candidates = 0.1 + 0.9 * rng.random((6, 1 if grey else 3), dtype=np.float32)
    candidates = np.broadcast_to(candidates, (6, 3))
    if not unlike:
        return candidates[0]
    gaps = np.abs(candidates[:, None] - np.stack(unlike)).sum(2)
    return candidates[gaps.min(1).argmax()]


def random_light(rng: np.random.Generator) -> Light:
    """A lamp somewhere above: 25 to 60 degrees off the viewer's axis, more often from the upper half."""
    angle, tilt = math.radians(rng.uniform(-170, -10)), math.radians(rng.uniform(25, 60))
    return math.cos(angle) * math.sin(tilt), math.sin(angle) * math.sin(tilt), math.cos(tilt)


class Layer:
    """One thing, before it is known what will cover it: a window of the picture with the parts and shades drawn so far.

    part (h, w) int16 is the index of the part on top, -1 where there is nothing; shade (h, w) float32 is how bright its
    colour is there (1 = as the palette has it). (left, top) is the window's place; all coordinates are the picture's.
    """

    def __init__(self, bounds: tuple[float, float, float, float], size: int):
        left, top = max(0, math.floor(bounds[0])), max(0, math.floor(bounds[1]))
        right, bottom = min(size, math.ceil(bounds[2])), min(size, math.ceil(bounds[3]))
        self.left, self.top = left, top
        self.width, self.height = max(0, right - left), max(0, bottom - top)
        self.x = np.arange(self.width, dtype=np.float32) + (left + 0.5)  # (w,)
        self.y = (np.arange(self.height, dtype=np.float32) + (top + 0.5))[:, None]  # (h, 1)
        self.part = np.full((self.height, self.width), -1, dtype=np.int16)
        self.shade = np.ones((self.height, self.width), dtype=np.float32)

    @property
    def window(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def part_at(self, x: float, y: float) -> int:
        """The part on top at a point of the picture; -1 where there is none."""
        row, column = math.floor(y) - self.top, math.floor(x) - self.left
        inside = 0 <= row < self.height and 0 <= column < self.width
        return int(self.part[row, column]) if inside else -1

    def capsule(self, a: tuple, b: tuple, ra: float, rb: float, part: int, light: Light, ambient: float = 0.5) -> None:
        """A limb: all points within ra of a, narrowing to rb at b, lit as a rounded surface. a == b draws a ball."""
        reach = max(ra, rb)
        (ax, ay), (bx, by) = a, b
        j0 = max(0, int(min(ax, bx) - reach) - self.left)
        i0 = max(0, int(min(ay, by) - reach) - self.top)
        j1 = min(self.width, int(max(ax, bx) + reach) + 1 - self.left)
        i1 = min(self.height, int(max(ay, by) + reach) + 1 - self.top)
        if j0 >= j1 or i0 >= i1:
            return
        x, y = self.x[j0:j1] - ax, self.y[i0:i1] - ay
        dx, dy = bx - ax, by - ay
        length2 = dx * dx + dy * dy
        if length2 > 1e-6:
            t = x * (dx / length2) + y * (dy / length2)
            np.clip(t, 0, 1, out=t)
            x, y, r = x - t * dx, y - t * dy, ra + t * (rb - ra)
            x, y = x / r, y / r
        else:
            x, y = x / ra, y / ra
        height2 = 1 - (x * x + y * y)  # of the rounded surface above the picture, squared; negative outside
        inside = height2 >= 0
        lit = np.sqrt(np.maximum(height2, 0)) * light[2] + (x * light[0] + y * light[1])
        np.maximum(lit, 0, out=lit)
        lit *= 1 - ambient
        lit += ambient + 0.15
        np.copyto(self.part[i0:i1, j0:j1], part, where=inside)
        np.copyto(self.shade[i0:i1, j0:j1], lit, where=inside)

    def polygons(self, polygons: list[tuple[list[tuple[float, float]], float]]) -> None:
        """Filled polygons [(corners, shade), ...], each over those before it; all of them part 0."""
        canvas = Image.new("L", (self.width, self.height))
        draw = ImageDraw.Draw(canvas)
        for k, (corners, _) in enumerate(polygons):  # Pillow's coordinates have pixel centres at whole numbers
            draw.polygon([(x - self.left - 0.5, y - self.top - 0.5) for x, y in corners], fill=k + 1)
        drawn = np.asarray(canvas)
        self.part[drawn > 0] = 0
        self.shade[:] = np.array([1.0] + [shade for _, shade in polygons], dtype=np.float32)[drawn]

    def fill(self, inside: np.ndarray, shade: np.ndarray) -> None:
        """The pixels of `inside` (h, w) bool become part 0, with the shades (h, w) given."""
        np.copyto(self.part, 0, where=inside)
        np.copyto(self.shade, shade, where=inside)

    def colours(self, palette: np.ndarray) -> np.ndarray:
        """The colour of each pixel, (h, w, 3), from the parts' colours (P, 3)."""
        return palette[self.part] * self.shade[:, :, None]
