"""Drawings in ink: other things than the playground's, in another style; what a model of its scenes has to learn anew.

Nothing is filled: the inside of a thing looks like the paper around it, so that neither colour nor shade tells where it
is. Only thin lines do, among the lines of the paper and stray strokes of the same pen. Where one thing covers another,
the lines of the one behind end. The mask is everything within the outline.
"""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .canvas import Layer, noise
from .scene import Thing, camera, place, resolve
from .shapes import square, turned

CATEGORIES = ["background", "house", "fish", "bottle", "leaf", "moon", "arrow"]
PAPER, INK = 0, 1  # parts of a layer
RADIUS = 14, 32  # in a picture of 128 × 128

Drawing = tuple[np.ndarray, list[np.ndarray]]  # the outline (P, 2), closed, and lines (Q, 2) within; all within [-1, 1]


def arc(
    centre: tuple[float, float], radii: tuple[float, float], begin: float, end: float, count: int = 16
) -> np.ndarray:
    """Points (count, 2) along an ellipse, between two angles in parts of a full turn."""
    angles = 2 * math.pi * np.linspace(begin, end, count)
    return np.stack([np.cos(angles) * radii[0], np.sin(angles) * radii[1]], 1) + centre


def house(rng: np.random.Generator) -> Drawing:
    """Walls, a roof, a door, perhaps a window."""
    wide, eaves, door = 0.55 + 0.3 * rng.random(), 0.3 * rng.random() - 0.25, 0.5 * rng.random() - 0.4
    outline = [(-wide, 0.8), (-wide, eaves), (0, -0.9), (wide, eaves), (wide, 0.8)]
    lines = [[(-wide, eaves), (wide, eaves)], [(door, 0.8), (door, 0.3), (door + 0.25, 0.3), (door + 0.25, 0.8)]]
    if rng.random() < 0.5:
        lines.append([(0.3, 0.2), (0.5, 0.2), (0.5, 0.4), (0.3, 0.4), (0.3, 0.2)])
    return np.array(outline), [np.array(line) for line in lines]


def fish(rng: np.random.Generator) -> Drawing:
    """A body, a tail, an eye, a gill."""
    high, tail = 0.3 + 0.2 * rng.random(), 0.3 + 0.2 * rng.random()
    body = arc((-0.25, 0), (0.7, high), 0.06, 0.94, 28)
    outline = np.concatenate([body, [(0.95, -tail), (0.75, 0), (0.95, tail)]])
    return outline, [arc((-0.65, -0.1), (0.07, 0.07), 0, 1, 8), arc((-0.65, 0), (0.25, high * 0.8), -0.2, 0.2, 8)]


def bottle(rng: np.random.Generator) -> Drawing:
    """A neck, shoulders, a body with a label."""
    neck, wide, shoulder = 0.12 + 0.08 * rng.random(), 0.32 + 0.2 * rng.random(), 0.3 * rng.random() - 0.35
    right = np.array([(neck, -0.95), (neck, shoulder - 0.25), (wide, shoulder + 0.1), (wide, 0.9)])
    outline = np.concatenate([right, right[::-1] * (-1, 1)])
    return outline, [np.array([(-wide, y), (wide, y)]) for y in (shoulder + 0.35, shoulder + 0.8)]


def leaf(rng: np.random.Generator) -> Drawing:
    """Two bent sides that meet in a point, a midrib and veins."""
    high, along = 0.3 + 0.25 * rng.random(), np.linspace(-0.95, 0.95, 16)
    side = high * np.cos(along / 0.95 * math.pi / 2) ** 0.8
    outline = np.concatenate([np.stack([along, side], 1), np.stack([along, -side], 1)[::-1]])
    veins = [np.array([(x, 0), (x + 0.2, way * 0.6 * high)]) for x in (-0.4, 0.0, 0.4) for way in (-1, 1)]
    return outline, [np.array([(-0.95, 0), (0.95, 0)]), *veins]


def moon(rng: np.random.Generator) -> Drawing:
    """A crescent."""
    hollow = 0.25 + 0.35 * rng.random()
    inner = arc((0, 0), (hollow, 0.9), 0.25, -0.25)
    return np.concatenate([arc((0, 0), (0.9, 0.9), -0.25, 0.25, 20), inner]) - (0.45, 0), []


def arrow(rng: np.random.Generator) -> Drawing:
    """A thick arrow."""
    shaft, head, barb = 0.12 + 0.15 * rng.random(), 0.4 * rng.random(), 0.45 + 0.3 * rng.random()
    upper = np.array([(-0.95, shaft), (head, shaft), (head, barb), (0.95, 0)])
    return np.concatenate([upper, upper[-2::-1] * (1, -1)]), []


DRAW: dict[int, Callable[[np.random.Generator], Drawing]] = dict(enumerate((house, fish, bottle, leaf, moon, arrow), 1))


def by_hand(rng: np.random.Generator, points: np.ndarray, reach: float) -> np.ndarray:
    """A line (P, 2) as an unsteady hand draws it: points in between, each off by up to some share of `reach`."""
    steps = np.linspace(0, len(points) - 1, 6 * len(points))
    line = np.stack([np.interp(steps, np.arange(len(points)), points[:, axis]) for axis in (0, 1)], 1)
    walk = np.cumsum(rng.standard_normal(line.shape), 0) / math.sqrt(len(line))
    drift = np.linspace(0, 1, len(line))[:, None] * walk[-1]  # so that a closed line closes
    return line + 0.05 * reach * (walk - drift)


def draw_thing(rng: np.random.Generator, size: int, label: int, radius: float, x: float, y: float, pen: int) -> Layer:
    """A thing's layer: paper within its outline, ink along it and along its inner lines, perhaps hatched."""
    outline, lines = DRAW[label](rng)
    angle = rng.random() * 2 * math.pi if label in (4, 5, 6) else 0.7 * (rng.random() - 0.5)
    squash = np.array([1 if rng.random() < 0.5 else -1, 1]) * (0.8 + 0.2 * rng.random(2))
    layer = Layer(square(x, y, radius * 1.5), size)  # an unsteady hand goes beyond the radius

    def place_line(points: np.ndarray) -> list[tuple[float, float]]:
        return [tuple(point) for point in by_hand(rng, turned(points * squash * radius, angle, x, y), radius).tolist()]

    layer.polygons([(place_line(np.concatenate([outline, outline[:1]])), 1.0)])
    inside = layer.part >= 0
    strokes = [place_line(line) for line in lines]
    if rng.random() < 0.3:
        strokes += [place_line(np.array([(at - 0.6, 1), (at + 0.6, -1)])) for at in np.arange(-1.5, 1.6, 0.3)]
    inked = border(inside, pen) | ink_lines(inside.shape, strokes, pen, (layer.left, layer.top))
    layer.part[inside & inked] = INK
    return layer


def border(inside: np.ndarray, width: int) -> np.ndarray:
    """The pixels of `inside` (h, w) bool that have one outside of it within `width` pixels, in a square around them."""
    smaller = Image.fromarray(inside.view(np.uint8)).filter(ImageFilter.MinFilter(2 * width + 1))
    return inside & ~np.asarray(smaller, dtype=bool)


def ink_lines(shape: tuple[int, int], lines: list, pen: int, corner: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Where lines [[(x, y), ...], ...] of the picture leave ink in a window (h, w) of it, bool."""
    canvas = Image.new("L", shape[::-1])
    draw = ImageDraw.Draw(canvas)
    for line in lines:
        draw.line([(x - corner[0] - 0.5, y - corner[1] - 0.5) for x, y in line], fill=1, width=pen, joint="curve")
    return np.asarray(canvas, dtype=bool)


def choose_things(rng: np.random.Generator, size: int, pen: int) -> list[Thing]:
    """One to five things, the first the furthest back."""
    things, taken = [], []
    for _ in range(1 + int(rng.random() * 5)):
        label = 1 + int(rng.random() * len(DRAW))
        radius = (RADIUS[0] + (RADIUS[1] - RADIUS[0]) * rng.random()) * size / 128
        x, y = place(rng, size, taken, 0.1)
        things.append(Thing(label, draw_thing(rng, size, label, radius, x, y, pen), np.zeros((2, 3))))
        taken.append((x, y))
    return things


def paper(rng: np.random.Generator, size: int) -> np.ndarray:
    """Where the paper's own lines are, (size, size) float32 from 0 to 1: plain, ruled, squared or dotted."""
    kind, pitch, start = int(rng.random() * 4), size * (0.06 + 0.08 * rng.random()), rng.random() * size
    near = np.abs((np.arange(size) - start + pitch / 2) % pitch - pitch / 2) < 0.5  # a line's pixels
    rows, columns = near[:, None], near[None]
    ruled, squared, dotted = (kind == each for each in (1, 2, 3))
    lines = rows & (ruled or squared) | columns & squared | rows & columns & dotted
    return lines.astype(np.float32) * (0.3 + 0.5 * rng.random())


def stray_strokes(rng: np.random.Generator, size: int, pen: int) -> np.ndarray:
    """Where up to three short strokes that mean nothing leave ink, (size, size) bool."""
    strokes = []
    for _ in range(int(rng.random() * 4)):
        corners = rng.random((1, 2)) + 0.4 * (rng.random((3, 2)) - 0.5)
        strokes.append(by_hand(rng, corners * size, size).tolist())
    return ink_lines((size, size), strokes, pen)


def make_scene(seed: int, index: int, size: int = 128) -> tuple[np.ndarray, list[Thing], np.ndarray]:
    """Drawing number `index` of `seed`: the picture (size, size, 3) uint8, its things, and the map of their owners."""
    rng = np.random.default_rng([seed, index, len(CATEGORIES)])
    pen = max(1, round(size / 128 * (1 + rng.random())))
    things: list[Thing] = []
    while not things:
        things, owner = resolve(choose_things(rng, size, pen), size)
    sheet = 0.7 + 0.3 * rng.random(3)
    ink = 0.5 * rng.random(3) * rng.random()
    if rng.random() < 0.3:  # chalk on a board
        sheet, ink = 1 - sheet, 1 - ink
    amount = paper(rng, size)  # of ink
    amount[stray_strokes(rng, size, pen) & (owner < 0)] = 1
    for k, thing in enumerate(things):
        inked = (owner[thing.layer.window] == k) & (thing.layer.part == INK)
        amount[thing.layer.window][inked] = 1
    amount *= 0.75 + 0.25 * rng.random()
    picture = sheet + amount[:, :, None] * (ink - sheet) + 0.02 * noise(rng, "gravel", size, size)[:, :, None]
    return camera(rng, picture.astype(np.float32), grey=False), things, owner
