"""Drawn people: a pose with COCO's 17 keypoints, and the limbs, clothes and face around it.

Left and right are the person's own. Somebody who faces the camera has the left shoulder at the larger x; somebody who
walks away has it at the smaller x, and joins the crowd with hair where the face would be.
"""

import math

import numpy as np

from .canvas import Layer, Light, random_colour

# what each keypoint becomes when the picture is mirrored
KEYPOINT_FLIP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]

NOSE, EYE, EAR, SHOULDER, ELBOW, WRIST, HIP, KNEE, ANKLE = 0, 1, 3, 5, 7, 9, 11, 13, 15  # left ones; the right is + 1

# parts of the drawing, by the colour they take
SKIN, HAIR, SHIRT, TROUSERS, SHOES, FACE, FEATURE = range(7)

SKIN_TONES = (
    np.array([[255, 219, 190], [236, 188, 154], [205, 150, 112], [160, 108, 74], [112, 72, 50]], np.float32) / 255
)
HAIR_TONES = np.array([[35, 28, 25], [75, 48, 30], [150, 110, 60], [215, 190, 130], [150, 150, 150]], np.float32) / 255

# lengths and thicknesses as parts of the person's height
HEAD, NECK, TORSO, UPPER_ARM, FOREARM, THIGH, SHIN = 0.085, 0.12, 0.29, 0.155, 0.145, 0.23, 0.225
SHOULDERS, HIPS = 0.105, 0.062  # half widths
STOUT = 1.4  # limbs are thicker than life, so that a few pixels show where they bend


def random_pose(rng: np.random.Generator, height: float, x: float, y: float) -> tuple[np.ndarray, dict]:
    """Keypoints (17, 2) of a person `height` pixels tall whose hips' middle is (x, y), and how the body is turned.

    yaw is the turn about the vertical: 0 faces the camera, ±90° is a profile, 180° walks away.
    """
    u = iter(rng.random(48).tolist())
    spread = lambda width: (next(u) + next(u) - 1) * width  # triangular, within ± width  # noqa: E731
    yaw = math.radians((0, 0, 0, 0, 0, 30, 30, -30, -30, 180)[int(next(u) * 10)] + spread(20))
    lean = math.radians(90 * (1 if next(u) < 0.5 else -1) + spread(20) if next(u) < 0.02 else spread(22))
    stride, crouch, swing = spread(35), (next(u) * 70 if next(u) < 0.2 else 0), spread(40)
    legs_lean = lean if abs(lean) > 1 else 0.4 * lean  # who stands bends at the hips, who lies does not
    front = 1 if math.sin(yaw) >= 0 else -1  # where a profile looks: knees bend towards it, elbows too
    profile = abs(math.sin(yaw))

    keypoints = np.zeros((17, 2))
    up = lambda a: np.array([math.sin(a), -math.cos(a)])  # tilted by a to the right  # noqa: E731
    hang = lambda a, tilt: np.array([math.sin(a - tilt), math.cos(a - tilt)])  # swung by a to the right  # noqa: E731
    spine, across = up(lean), np.array([math.cos(lean), math.sin(lean)])
    neck = np.array([x, y]) + TORSO * height * spine
    head = neck + NECK * height * up(lean + math.radians(spread(20)))
    for side, sign in ((0, 1), (1, -1)):  # left, right
        width = sign * math.cos(yaw)
        keypoints[SHOULDER + side] = neck + width * SHOULDERS * height * across
        keypoints[HIP + side] = (x, y) + width * HIPS * height * across
        outward = 1 if width >= 0 else -1
        # arms hang, swing, reach sideways or go up; angle 0 hangs along the body
        raise_arm = (12, 12, 45, 100, 150)[int(next(u) * 5)] + spread(30)
        bend = next(u) * 110 if next(u) < 0.7 else 5
        upper = math.radians(raise_arm * outward * (1 - 0.6 * profile) + sign * swing * profile)
        lower = upper + math.radians(bend * (front if profile > 0.7 else outward * (1 if raise_arm > 40 else -0.6)))
        keypoints[ELBOW + side] = keypoints[SHOULDER + side] + UPPER_ARM * height * hang(upper, lean)
        keypoints[WRIST + side] = keypoints[ELBOW + side] + FOREARM * height * hang(lower, lean)
        open_leg = 6 + abs(stride) * 0.5
        thigh = math.radians(open_leg * outward * (1 - profile) + sign * stride * profile + crouch * front * profile)
        shin = thigh - math.radians((crouch + 12 + abs(stride) * 0.4) * front * profile + spread(8))
        keypoints[KNEE + side] = keypoints[HIP + side] + THIGH * height * hang(thigh, legs_lean)
        keypoints[ANKLE + side] = keypoints[KNEE + side] + SHIN * height * hang(shin, legs_lean)
    face_yaw = yaw + math.radians(spread(30))
    r = HEAD * height
    down = -up(lean)
    aside = lambda angle: r * math.sin(face_yaw + math.radians(angle)) * across  # on the head's sphere  # noqa: E731
    keypoints[NOSE] = head + aside(0) * 0.9 + 0.25 * r * down
    for side, sign in ((0, 1), (1, -1)):
        keypoints[EYE + side] = head + aside(sign * 32) * 0.85 - 0.08 * r * down
        keypoints[EAR + side] = head + aside(sign * 90) + 0.08 * r * down
    return keypoints, {"yaw": yaw, "face_yaw": face_yaw, "head": head, "neck": neck, "down": down, "across": across}


def draw_person(
    rng: np.random.Generator, size: int, height: float, x: float, y: float, light: Light
) -> tuple[Layer, np.ndarray, np.ndarray]:
    """A person on a layer, its keypoints (17, 2), and which of them its own body leaves in sight, (17,) bool."""
    keypoints, turn = random_pose(rng, height, x, y)
    margin = 0.13 * height
    low, high = keypoints.min(0) - margin, keypoints.max(0) + margin
    layer = Layer((low[0], low[1], high[0], high[1]), size)
    points = [tuple(point) for point in keypoints.tolist()]
    limb = lambda a, b, ra, rb, part: layer.capsule(  # noqa: E731
        a, b, max(0.9, STOUT * ra * height), max(0.8, STOUT * rb * height), part, light
    )
    sleeves, legs = (SHIRT if rng.random() < 0.5 else SKIN), (TROUSERS if rng.random() < 0.75 else SKIN)
    front = math.sin(turn["yaw"])

    def arm(side):
        shoulder, elbow, wrist = (points[keypoint + side] for keypoint in (SHOULDER, ELBOW, WRIST))
        limb(elbow, wrist, 0.028, 0.022, sleeves)
        limb(shoulder, elbow, 0.036, 0.03, SHIRT)
        limb(wrist, wrist, 0.028, 0.028, SKIN)

    def leg(side):
        hip, knee, ankle = (points[keypoint + side] for keypoint in (HIP, KNEE, ANKLE))
        toe = (ankle[0] + 0.06 * height * front, ankle[1] + 0.012 * height)
        limb(ankle, toe, 0.03, 0.025, SHOES)
        limb(knee, ankle, 0.038, 0.027, legs)
        limb(hip, knee, 0.052, 0.04, TROUSERS)

    near = 0 if math.sin(turn["yaw"]) < 0 else 1  # the side of the body towards the camera
    behind_back = abs(front) > 0.4
    leg(1 - near)
    if behind_back:
        arm(1 - near)
    leg(near)
    middle = (x, y)
    chest = (turn["neck"] + 0.05 * height * turn["down"]).tolist()
    limb(points[HIP], points[HIP + 1], 0.055, 0.055, TROUSERS)
    limb(chest, middle, 0.085, 0.06, SHIRT)
    limb(points[SHOULDER], points[SHOULDER + 1], 0.042, 0.042, SHIRT)
    head_parts(layer, height, points, turn, light)
    if not behind_back:
        arm(1 - near)
    arm(near)
    return layer, keypoints, own_sight(layer, keypoints, turn, sleeves, legs)


def head_parts(layer: Layer, height: float, points: list[tuple], turn: dict, light: Light) -> None:
    """Neck, ears, hair, and as much of a face as is turned to the camera."""
    head, down, across, yaw = turn["head"], turn["down"], turn["across"], turn["face_yaw"]
    r = HEAD * height
    dot = lambda centre, radius, part: layer.capsule(  # noqa: E731
        centre, centre, max(0.7, radius), max(0.7, radius), part, light
    )
    layer.capsule(turn["neck"].tolist(), head.tolist(), 0.035 * height + 0.3, 0.035 * height + 0.3, SKIN, light)
    dot((head - 0.1 * r * down).tolist(), r * 1.08, HAIR)
    if math.cos(yaw) > -0.5:  # at an angle from behind a cheek still shows
        centre = head + 0.42 * r * math.sin(yaw) * across + 0.22 * r * down
        brow, chin = (centre - 0.1 * r * down).tolist(), (centre + 0.12 * r * down).tolist()
        layer.capsule(brow, chin, r * 0.8, r * 0.72, FACE, light)
    for side, sign in ((0, 1), (1, -1)):
        if math.cos(yaw + sign * math.radians(90)) > -0.5:
            dot(points[EAR + side], 0.2 * r, FACE)
    for side, sign in ((0, 1), (1, -1)):
        if math.cos(yaw + sign * math.radians(32)) > 0:
            dot(points[EYE + side], 0.15 * r, FEATURE)
    if math.cos(yaw) > -0.2:
        dot(points[NOSE], 0.15 * r, SKIN)
        mouth = head + 0.35 * r * math.sin(yaw) * across + 0.65 * r * down
        ends = (mouth - 0.2 * r * across).tolist(), (mouth + 0.2 * r * across).tolist()
        layer.capsule(*ends, 0.5, 0.5, FEATURE, light)


def own_sight(layer: Layer, keypoints: np.ndarray, turn: dict, sleeves: int, legs: int) -> np.ndarray:
    """Keypoints that the body itself leaves in sight, (17,) bool: the part on top there is one that it belongs to."""
    sight = np.ones(17, dtype=bool)
    yaw = turn["face_yaw"]
    sight[NOSE] = math.cos(yaw) > -0.2
    for side, sign in ((0, 1), (1, -1)):
        sight[EYE + side] = math.cos(yaw + sign * math.radians(32)) > 0
        sight[EAR + side] = math.cos(yaw + sign * math.radians(90)) > -0.5
        allowed = {
            ELBOW: {SHIRT, sleeves}, WRIST: {SKIN, sleeves}, KNEE: {TROUSERS, legs}, ANKLE: {SHOES, legs},
        }  # fmt: skip
        for keypoint, parts in allowed.items():
            sight[keypoint + side] = layer.part_at(*keypoints[keypoint + side]) in parts
    return sight


def person_palette(rng: np.random.Generator, grey: bool, unlike: list[np.ndarray]) -> np.ndarray:
    """Colours (7, 3) of a person's parts, the clothes unlike the colours given."""
    skin = SKIN_TONES[int(rng.random() * len(SKIN_TONES))]
    hair = HAIR_TONES[int(rng.random() * len(HAIR_TONES))]
    if np.abs(hair - skin).sum() < 0.45:  # the back of the head must not pass for a face
        hair = HAIR_TONES[0] if skin.sum() > 1 else HAIR_TONES[3]
    if grey:
        skin, hair = (np.full(3, tone.mean(), np.float32) for tone in (skin, hair))
    shirt = random_colour(rng, grey, [*unlike, skin])
    trousers = random_colour(rng, grey, [*unlike, skin, shirt])
    shoes = np.full(3, 0.12 + 0.5 * rng.random(), np.float32)
    return np.stack([skin, hair, shirt, trousers, shoes, skin * 1.05, skin * 0.2])
