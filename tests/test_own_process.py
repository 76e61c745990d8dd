"""The package and its command in a process of their own: what is loaded at the start, and how Ctrl-C ends it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import mrcnn
from mrcnn.zoo import load_model

ROOT = Path(mrcnn.__file__).parent.parent


@pytest.mark.parametrize("question", [["--help"], ["--version"], ["train", "--help"], ["predict"], ["--stpes"]])
def test_what_the_command_is_answers_without_torch(question):
    """A question of the command line, and a slip of the fingers, need not wait for it."""
    command = [sys.executable, "-X", "importtime", "-m", "mrcnn", *question]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == (0 if question[-1] in ("--help", "--version") else 2)
    lines = done.stderr.splitlines()
    imported = {line.rsplit("|", 1)[-1].strip() for line in lines if line.startswith("import time:")}
    assert "click" in imported
    assert not imported & {"torch", "numpy", "matplotlib"}


def test_the_package_has_its_names_though_it_imports_them_late():
    """In a fresh process: what the README uses, every name by `*` and by `dir`, a module of the package, no others."""
    code = """
import mrcnn
before = set(dir(mrcnn))
assert mrcnn.__version__ and set(mrcnn.__all__) <= before
from mrcnn import *
for name in mrcnn.__all__:
    assert globals()[name] is getattr(mrcnn, name)
assert mrcnn.playground_rcnn is mrcnn.zoo.playground_rcnn and mrcnn.MaskRCNN is mrcnn.model.MaskRCNN
assert mrcnn.ops.nms and mrcnn.data.Playground and mrcnn.load_torchvision is mrcnn.weights.load_torchvision
assert before <= set(dir(mrcnn))
for name in ("masked_rcnn", "__wrapped__", "_nothing"):
    assert not hasattr(mrcnn, name), name
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("given", "spins"), [({}, "20000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)]
)
def test_waiting_threads_soon_give_way_unless_the_user_says_otherwise(given, spins):
    code = "import os, mrcnn, sys; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    own = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", "import sys; sys.argv = ['mrcnn']; " + code]
    done = subprocess.run(command, env=own | given, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == [str(spins), "False"]


def test_importing_the_package_registers_the_ops():
    code = "import mrcnn, torch; torch.ops.mrcnn.nms, torch.ops.mrcnn.roi_align, torch.ops.mrcnn.match_anchors"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_ctrl_c_leaves_a_usable_checkpoint(tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "mrcnn", "train", "--data", "playground", "--model", "playground"]
    command += ["--steps", "5000", "--batch-size", "2", "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    deadline = time.monotonic() + 100
    while not (out / "losses.csv").exists() and time.monotonic() < deadline:  # written to after the first step
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 130
    assert "Traceback" not in said
    [checkpoint] = out.glob("checkpoint-*.pt")
    assert str(checkpoint) in said
    with torch.no_grad():
        result = load_model(checkpoint)([torch.zeros(3, 64, 64)])[0]
    assert set(result) == {"boxes", "labels", "scores", "masks", "keypoints", "keypoints_scores"}
