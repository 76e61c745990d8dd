"""A COCO-format file of a few dozen real pictures, trained on with the command, from the weights in the package."""

import json
import subprocess
import sys

import pytest


def test_a_few_steps_from_the_shipped_weights_find_coins(tmp_path):
    pytest.importorskip("skimage")
    from own_data import write_own_data

    write_own_data(tmp_path)
    command = [sys.executable, "-m", "mrcnn", "train", "--model", "playground", "--weights", "playground"]
    command += ["--data", tmp_path / "train", "--annotations", tmp_path / "train.json"]
    command += ["--val-data", tmp_path / "val", "--val-annotations", tmp_path / "val.json"]
    command += ["--steps", "60", "--batch-size", "8", "--out", tmp_path / "run"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["segm"]["AP50"] > 0.6
