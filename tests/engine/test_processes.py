"""Runs in processes of their own: interrupted, killed, and two beside each other."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fakes import Noise, TinyModel
from run_tiny import shaky_metrics, tiny_model, tiny_settings

from mrcnn.engine import checkpoint
from mrcnn.engine.csv_log import read_table
from mrcnn.engine.demo import demo
from mrcnn.engine.train import train
from mrcnn.errors import CheckpointError

HERE = Path(__file__).parent


@pytest.fixture
def start():
    """start(out, steps, *options) starts a run; one that the test leaves behind, by failing say, is killed."""
    runs = []

    def begin(out: Path, steps: int, *options: str) -> subprocess.Popen:
        command = [sys.executable, str(HERE / "run_tiny.py"), str(out), str(steps), *options]
        runs.append(
            subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=HERE.parent.parent, start_new_session=True)
        )
        return runs[-1]

    yield begin
    for run in runs:
        run.kill()
        run.wait(30)
        run.stderr.close()


def wait_for_checkpoint(run: subprocess.Popen, out: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while run.poll() is None and time.monotonic() < deadline:
        if any(int(path.stem.split("-")[1]) >= step for path in checkpoint.checkpoints(out)):
            return
        time.sleep(0.002)
    pytest.fail(f"no checkpoint of step {step} came: {run.stderr.read() if run.poll() is not None else 'time is up'}")


def test_killed_and_resumed_has_the_same_bits(start, tmp_path):
    """kill -9 wherever the run happens to be, ten times in a row; then the rest in one go."""
    whole = tiny_model()
    train(whole, Noise(), tiny_settings(steps=400, checkpoint_every=3), out=tmp_path / "whole")
    out = tmp_path / "killed"
    moments = random.Random(0)
    for number in range(1, 11):
        run = start(out, 400, "checkpoint_every=3", "resume=True", f"workers={number % 2}")
        wait_for_checkpoint(run, out, 20 * number)
        time.sleep(moments.uniform(0, 0.1))  # a few steps, or in the middle of one
        run.kill()
        assert run.wait(30) == -signal.SIGKILL
    model = TinyModel()
    train(model, Noise(), tiny_settings(steps=400, checkpoint_every=3), out=out, resume=True)
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in model.state_dict().items())
    losses = [[row["loss"] for row in read_table(folder / "losses.csv")] for folder in (tmp_path / "whole", out)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_process_leaves_a_checkpoint(start, tmp_path, number):
    run = start(tmp_path, 100_000, "checkpoint_every=2", "workers=1")
    wait_for_checkpoint(run, tmp_path, 4)
    run.send_signal(number)
    said = run.stderr.read()
    assert run.wait(60) != 0
    assert "can be used as --weights, and --resume goes on from it" in said
    contents, complaints = checkpoint.last_checkpoint(tmp_path)
    assert complaints == {}
    rows = read_table(tmp_path / "losses.csv")
    assert contents["training"]["step"] == len(rows) == rows[-1]["step"]


def test_a_signal_to_the_whole_group_stops_the_run_alone(start, tmp_path):
    """As `timeout` sends it: the workers go on until the run has no use for them any more."""
    run = start(tmp_path, 100_000, "checkpoint_every=2", "workers=2")
    wait_for_checkpoint(run, tmp_path, 4)
    os.killpg(run.pid, signal.SIGTERM)
    said = run.stderr.read()
    assert run.wait(60) != 0
    assert "Stopped: stopped after step" in said
    assert "worker" not in said
    with pytest.raises(ProcessLookupError):  # nobody is left in the group
        os.killpg(run.pid, 0)


def test_a_worker_that_is_killed_costs_no_step(start, tmp_path):
    """The run fails, and its last good step is there, though the death of the second worker comes while it is saved."""
    run = start(tmp_path, 100_000, "checkpoint_every=100_000", "workers=2")
    while not (workers := Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()) or len(workers) < 2:
        time.sleep(0.01)
    while not len(read_table(tmp_path / "losses.csv")):
        time.sleep(0.01)
    for worker in workers:
        os.kill(int(worker), signal.SIGKILL)
    said = run.stderr.read()
    assert run.wait(60) != 0
    assert "the last good checkpoint is" in said
    contents, complaints = checkpoint.last_checkpoint(tmp_path)
    assert contents["training"]["step"] > 0
    assert complaints == {}


def test_a_second_run_in_the_folder_is_refused(start, tmp_path):
    """Whether it would resume or not; and no lock is in the way once the first one is gone, by kill -9 as well."""
    run = start(tmp_path, 100_000, "checkpoint_every=2", "workers=1")
    wait_for_checkpoint(run, tmp_path, 2)
    for resume in (False, True):
        with pytest.raises(CheckpointError, match=f"another run is at work in {tmp_path}: wait for its end"):
            train(tiny_model(), Noise(), tiny_settings(steps=4), out=tmp_path, resume=resume)
    run.send_signal(signal.SIGSTOP)  # still there, and writes no more
    held = checkpoint.checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match="another run is at work"):
        demo(tmp_path)  # which begins by removing what an earlier one left
    assert checkpoint.checkpoints(tmp_path) == held
    run.kill()
    run.wait(30)
    steps = int(checkpoint.checkpoints(tmp_path)[-1].stem.split("-")[1]) + 1
    report = train(tiny_model(), Noise(), tiny_settings(steps=steps), out=tmp_path, resume=True)
    assert report.steps == steps


def run_two(out: Path, *options: str) -> list[dict]:
    """Two gloo processes, each with half of every batch, and what each has at the end."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(HERE / "run_tiny.py"), str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=HERE.parent.parent, check=False)
    assert done.returncode == 0, done.stderr
    return [torch.load(out / f"end-{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_two_processes_share_the_statistics_of_batch_norm(tmp_path, average):
    """Each process normalises its own pictures, and all evaluate the one model that is kept."""
    first, second = (end["weights"] for end in run_two(tmp_path, "5", f"average={average}"))
    assert any("running_mean" in name for name in first)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_two_processes_are_one(tmp_path):
    """Two gloo processes with half of each batch: both end with the same weights, those of one process with all of it.

    The losses are means over the batch, and each picture's own; what differs is the order of float32 sums.
    """
    ends = run_two(tmp_path / "two", "30", "plain=True", "checkpoint_every=10")
    assert ends[0]["metrics"] == ends[1]["metrics"] == shaky_metrics(), "shards of an evaluation make the whole"
    assert 0 < ends[0]["metrics"]["bbox"]["AP"] < 1
    first, second = (end["weights"] for end in ends)
    assert all(torch.equal(first[name], second[name]) for name in first)

    model = tiny_model(dropout=0.0, norm=False)
    train(model, Noise(), tiny_settings(steps=30), out=tmp_path / "one")
    for name, value in model.state_dict().items():
        assert torch.allclose(value, first[name], atol=1e-6), name
    one, two = (read_table(tmp_path / name / "losses.csv") for name in ("one", "two"))
    assert [row["step"] for row in two] == list(range(1, 31)), "one process writes, and once"
    assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in one], rel=1e-5)
    assert [path.name for path in checkpoint.checkpoints(tmp_path / "two")] == [
        "checkpoint-00000020.pt",
        "checkpoint-00000030.pt",
    ]
