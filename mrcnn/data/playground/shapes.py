"""The playground's shapes and what is behind them: balls, coins, boxes, triangles, stars, rings, and backdrops."""

import math

import numpy as np

from .canvas import Layer, Light, noise


def square(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    """The bounds of a circle, with a pixel to spare."""
    return x - radius - 1, y - radius - 1, x + radius + 1, y + radius + 1


def draw_ball(rng: np.random.Generator, size: int, radius: float, x: float, y: float, light: Light) -> Layer:
    """A lit ball with a highlight, or, one time in four, a flat disc."""
    layer = Layer(square(x, y, radius), size)
    layer.capsule((x, y), (x, y), radius, radius, 0, light, ambient=0.25 if rng.random() < 0.75 else 0.9)
    if rng.random() < 0.5:
        shine = (x + 0.5 * radius * light[0], y + 0.5 * radius * light[1])
        spot = (layer.x - shine[0]) ** 2 + (layer.y - shine[1]) ** 2
        layer.shade += 0.5 * np.exp(-spot / (0.12 * radius * radius))
    return layer


def draw_coin(rng: np.random.Generator, size: int, radius: float, x: float, y: float, light: Light) -> Layer:
    """A worn coin, not quite round: a raised rim, a struck relief, both lit from one side."""
    layer = Layer(square(x, y, radius * 1.1), size)
    u = rng.random(6).tolist()
    dx, dy = (layer.x - x) / radius, (layer.y - y) / radius
    angle = np.arctan2(dy, dx)
    edge = 1 + 0.05 * u[0] * np.cos(2 * angle + 6 * u[1]) + 0.03 * u[2] * np.cos(3 * angle + 6 * u[3])
    d = np.sqrt(dx * dx + dy * dy) / edge  # 0 in the middle, 1 at the edge
    slope = dx * light[0] + dy * light[1]
    rim = np.exp(-(((d - 0.88) / 0.09) ** 2))
    relief = noise(rng, "relief", layer.height, layer.width) * np.clip(1.1 - d, 0, 1)
    shade = 0.95 + (0.2 + 0.3 * u[4]) * relief * 0.6 + 0.35 * rim * slope - 0.25 * np.clip(d - 0.9, 0, 1)
    layer.fill(d <= 1, shade)
    return layer


def facets(corners: np.ndarray, centre: tuple[float, float], light: Light, height: float, flat: bool) -> list:
    """The polygons of a solid over `corners` (P, 2) that rises to a point over its centre; or one flat polygon."""
    outline = [tuple(corner) for corner in corners.tolist()]
    polygons = [(outline, 1.0)]
    if flat:
        return polygons
    for k, (ax, ay) in enumerate(outline):
        bx, by = outline[(k + 1) % len(outline)]
        # normal of the triangle (a, b, centre raised by height)
        ux, uy, vx, vy = bx - ax, by - ay, centre[0] - ax, centre[1] - ay
        nx, ny, nz = uy * height, -ux * height, ux * vy - uy * vx
        length = math.copysign(math.hypot(nx, ny, nz), nz) or 1.0
        lit = max(0.0, (nx * light[0] + ny * light[1] + nz * light[2]) / length)
        polygons.append(([(ax, ay), (bx, by), centre], 0.45 + 0.7 * lit))
    return polygons


def turned(points: np.ndarray, angle: float, x: float, y: float) -> np.ndarray:
    """Points (P, 2) turned by an angle and moved to (x, y)."""
    c, s = math.cos(angle), math.sin(angle)
    return points @ np.array([[c, s], [-s, c]]) + (x, y)


def draw_box(rng: np.random.Generator, size: int, radius: float, x: float, y: float, light: Light) -> Layer:
    """A rectangle at any angle: flat, or with a bevelled lid."""
    layer = Layer(square(x, y, radius), size)
    u = rng.random(4).tolist()
    half = radius * np.array([math.cos(0.35 + 0.6 * u[0]), math.sin(0.35 + 0.6 * u[0])])
    corners = turned(np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half, u[1] * math.pi, x, y)
    polygons = facets(corners, (x, y), light, 0.5 * radius, flat=u[2] < 0.35)
    if u[2] >= 0.35:
        lid = (corners - (x, y)) * (0.55 + 0.25 * u[3]) + (x, y)
        polygons.append(([tuple(corner) for corner in lid.tolist()], 0.5 + 0.7 * light[2]))
    layer.polygons(polygons)
    return layer


def draw_triangle(rng: np.random.Generator, size: int, radius: float, x: float, y: float, light: Light) -> Layer:
    """A triangle, near to equal sides: flat, or a pyramid seen from above."""
    layer = Layer(square(x, y, radius), size)
    u = rng.random(5).tolist()
    angles = 2 * math.pi * (np.arange(3) / 3 + u[0]) + 0.5 * (np.array(u[1:4]) - 0.5)
    corners = np.stack([np.cos(angles), np.sin(angles)], 1) * radius + (x, y)
    layer.polygons(facets(corners, (x, y), light, 0.5 * radius, flat=u[4] < 0.5))
    return layer


def draw_star(rng: np.random.Generator, size: int, radius: float, x: float, y: float, light: Light) -> Layer:
    """A star of five or six points: flat, or folded along its ridges."""
    layer = Layer(square(x, y, radius), size)
    u = rng.random(4).tolist()
    points = 5 if u[0] < 0.7 else 6
    angles = math.pi * (np.arange(2 * points) / points + 2 * u[1])
    reach = radius * np.where(np.arange(2 * points) % 2 == 0, 1, 0.42 + 0.1 * u[2])
    corners = np.stack([np.cos(angles), np.sin(angles)], 1) * reach[:, None] + (x, y)
    layer.polygons(facets(corners, (x, y), light, 0.4 * radius, flat=u[3] < 0.5))
    return layer


def draw_ring(rng: np.random.Generator, size: int, radius: float, x: float, y: float, light: Light) -> Layer:
    """A round tube, seen from the front or a little from the side, with a hole to look through."""
    layer = Layer(square(x, y, radius), size)
    u = rng.random(3).tolist()
    tube = radius * (0.14 + 0.06 * u[0])  # the tube's own radius
    squash, c, s = 1 if u[1] < 0.4 else 0.65 + 0.35 * u[1], math.cos(u[2] * math.pi), math.sin(u[2] * math.pi)
    dx, dy = layer.x - x, layer.y - y
    along, aside = dx * c + dy * s, (dy * c - dx * s) / squash
    d = np.sqrt(along * along + aside * aside) + 1e-6
    off = (d - (radius - tube)) / tube  # -1 at the inner edge, 1 at the outer
    up = np.sqrt(np.clip(1 - off * off, 0, 1))
    lit = np.clip(up * light[2] + off * (dx * light[0] + dy * light[1]) / d, 0, 1)
    layer.fill(np.abs(off) <= 1, 0.5 + 0.6 * lit)
    return layer


DRAW = {2: draw_ball, 3: draw_box, 4: draw_triangle, 5: draw_star, 6: draw_ring}  # by label
RADIUS = {2: (6, 21), 3: (8, 25), 4: (8, 25), 5: (9, 25), 6: (8, 24)}  # in a picture of 128 × 128


def backdrop(rng: np.random.Generator, size: int, colours: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """What is behind the things, (size, size, 3) float32: two colours (3,) mixed by a texture, in uneven light."""
    u = rng.random(8).tolist()
    i, j = np.arange(size, dtype=np.float32)[:, None] / size, np.arange(size, dtype=np.float32) / size
    c, s = math.cos(u[0] * 2 * math.pi), math.sin(u[0] * 2 * math.pi)
    ramp = 0.5 + (c * (j - 0.5) + s * (i - 0.5))  # (size, size), about 0 to 1
    kind = int(u[1] * 7)
    if kind == 0:
        mix = ramp
    elif kind == 1:  # stripes, bent a little
        wave = ramp + 0.03 * noise(rng, "clouds", size, size)
        mix = 0.5 + 0.5 * np.clip(3 * np.sin(wave * (25 + 50 * u[2])), -1, 1)
    elif kind == 2:  # tiles
        waves = np.sin(ramp * (15 + 20 * u[2])) * np.sin((c * i - s * j) * (15 + 20 * u[2]))
        mix = 0.5 + 0.5 * np.clip(6 * waves, -1, 1)
    elif kind == 3:  # ground and sky
        horizon = 0.3 + 0.4 * u[2]
        edge = np.clip((i - horizon + 0.04 * noise(rng, "clouds", size, size)) * size / 4, 0, 1)
        mix = 0.8 * edge + 0.2 * ramp
    else:
        name = ("clouds", "marble", "gravel")[kind - 4]
        mix = np.clip(0.5 + 0.25 * noise(rng, name, size, size), 0, 1)
    mix = mix + (0.04 + 0.1 * u[3]) * noise(rng, "marble" if u[4] < 0.5 else "gravel", size, size)
    # light falls off from a point, as in a photograph
    fall = 1.1 - (0.2 + 0.4 * u[5]) * ((i - u[6]) ** 2 + (j - u[7]) ** 2)
    picture = (mix * fall)[:, :, None] * (colours[1] - colours[0])  # (1 - mix) first + mix second, in the light
    picture += fall[:, :, None] * colours[0]
    return picture
