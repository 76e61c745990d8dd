"""What the demo trains on."""

import math
from collections import Counter

import numpy as np
import torch

from mrcnn.data import Playground
from mrcnn.data.playground.people import random_pose
from mrcnn.engine import demo


def posed(*people: np.ndarray) -> dict[str, torch.Tensor]:
    """A target of people with these keypoints (17, 2), all of them in sight."""
    points = torch.tensor(np.stack(people))  # (K, 17, 2)
    return {"keypoints": torch.cat([points, torch.full((*points.shape[:2], 1), 2.0)], 2)}


def test_from_behind_is_who_turned_more_than_a_quarter():
    rng = np.random.default_rng(0)
    seen = Counter()
    for _ in range(1000):
        pose, turn = random_pose(rng, height=50, x=64, y=64)
        if turn["across"][0] < 0.5:
            continue  # lies
        away = math.cos(turn["yaw"]) < 0
        assert demo.from_behind(posed(pose)) == away
        seen[away] += 1
    assert seen[False] > 800
    assert seen[True] > 50


def test_one_from_behind_is_enough_and_hidden_shoulders_tell_nothing():
    back, front = np.zeros((17, 2)), np.zeros((17, 2))
    back[5, 0], back[6, 0] = 10, 20
    front[5, 0], front[6, 0] = 20, 10
    assert demo.from_behind(posed(front, back))
    assert not demo.from_behind(posed(front, front))
    for shoulder in (5, 6):
        hidden = posed(back)
        hidden["keypoints"][0, shoulder, 2] = 0
        assert not demo.from_behind(hidden)
    assert not demo.from_behind({"keypoints": torch.zeros(0, 17, 3)})


def test_scenes_with_somebody_from_behind_come_three_times(monkeypatch):
    monkeypatch.setattr(demo, "DEMO_SCENES", 60)
    times = Counter(target["image_id"] for _, target in demo.training_scenes(seed=7).records)
    scenes = Playground(60, seed=7)
    expected = {}
    for index in range(60):
        people = scenes[index][1]["keypoints"].tolist()
        behind = any(left[2] and right[2] and left[0] < right[0] for left, right in (one[5:7] for one in people))
        expected[scenes[index][1]["image_id"]] = 3 if behind else 1
    assert times == expected
    assert set(times.values()) == {1, 3}
