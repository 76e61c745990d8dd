"""Stopped, killed, gone on: a resumed run has the bits of one that was never stopped, and nothing is lost or mixed."""

import math
import os
import signal
import threading
import time
from dataclasses import replace

import pytest
import torch
from fakes import Interrupting, Noise, TinyModel
from run_tiny import same, tiny_model, tiny_settings

from mrcnn import model_file
from mrcnn.engine import checkpoint
from mrcnn.engine.csv_log import read_table
from mrcnn.engine.signals import Stopped
from mrcnn.engine.train import train
from mrcnn.errors import CheckpointError


@pytest.mark.parametrize("options", [{"average": 0.0, "optimizer": "sgd"}, {"average": 0.9, "optimizer": "adamw"}])
def test_a_resumed_run_has_the_same_bits(tmp_path, options):
    """Stopped after 7 of 20 steps and again after 13: weights, running statistics, average and losses to the bit."""
    settings = tiny_settings(steps=20, **options)
    whole = tiny_model()
    train(whole, Noise(), settings, out=tmp_path / "whole")
    part = tiny_model()
    for start, stop in ((0, 7), (7, 13)):
        with pytest.raises(Stopped, match=rf"stopped after step {stop}; .*checkpoint-0*{stop}\.pt can be used"):
            train(part, Interrupting(stop, start=start), settings, out=tmp_path / "part", resume=start > 0)
        torch.manual_seed(stop)  # the next process knows nothing of this one
        part = TinyModel()
    train(part, Noise(), replace(settings, workers=1), out=tmp_path / "part", resume=True)
    assert "norm.running_mean" in whole.state_dict()
    assert same(part.state_dict(), whole.state_dict())
    columns = ["step", "loss", "loss_a", "loss_b", "lr", "gradient"]
    tables = [read_table(tmp_path / name / "losses.csv") for name in ("whole", "part")]
    assert [row["step"] for row in tables[1]] == list(range(1, 21))
    assert [[row[name] for name in columns] for row in tables[0]] == [
        [row[name] for name in columns] for row in tables[1]
    ]


def test_sigterm_is_obeyed_and_handlers_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(Stopped) as caught:
        train(tiny_model(), Interrupting(3, signal.SIGTERM), tiny_settings(steps=9), out=tmp_path)
    assert caught.value.signal == signal.SIGTERM
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["checkpoint-00000003.pt"]


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    class Impatient(Interrupting):
        def __getitem__(self, index):
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGINT)
            return super().__getitem__(index)

    with pytest.raises(KeyboardInterrupt) as caught:
        train(tiny_model(), Impatient(2), tiny_settings(steps=9), out=tmp_path)
    assert not isinstance(caught.value, Stopped)


def test_training_works_outside_the_main_thread():
    """Where Python handles no signals (a notebook's helper thread, say)."""
    reports = []
    thread = threading.Thread(target=lambda: reports.append(train(tiny_model(), Noise(), tiny_settings(steps=2))))
    thread.start()
    thread.join(60)
    assert reports[0].steps == 2


def test_a_resumed_run_may_be_made_longer(tmp_path):
    """The rate goes on from where the schedule of the new length is: 2 of 4 steps is half of the cosine."""
    settings = {"lr": 0.05, "warmup": 0.0, "schedule": "cosine"}
    train(tiny_model(), Noise(), tiny_settings(steps=2, **settings), out=tmp_path)
    report = train(tiny_model(), Noise(), tiny_settings(steps=4, **settings), out=tmp_path, resume=True)
    assert report.steps == 4
    assert [row["lr"] for row in report.losses] == pytest.approx([0.025, 0.05 * (1 + math.cos(0.75 * math.pi)) / 2])


def test_resuming_another_run_is_refused(tmp_path):
    train(tiny_model(), Noise(), tiny_settings(steps=2), out=tmp_path)
    with pytest.raises(CheckpointError, match=r"differs in lr \(stored 0.05, now 0.1\), clip \(stored 10.0, now 1.0\)"):
        train(tiny_model(), Noise(), tiny_settings(steps=2, clip=1.0, lr=0.1), out=tmp_path, resume=True)
    with pytest.raises(CheckpointError, match=r"differs in the model \(stored .*'norm': True.*, now .*'norm': False"):
        train(tiny_model(norm=False), Noise(), tiny_settings(steps=2), out=tmp_path, resume=True)
    with pytest.raises(ValueError, match="resume needs the folder"):
        train(tiny_model(), Noise(), tiny_settings(steps=2), resume=True)


def test_another_runs_checkpoints_are_not_mixed_in(tmp_path):
    train(tiny_model(), Noise(), tiny_settings(steps=2), out=tmp_path)
    with pytest.raises(CheckpointError, match="holds the checkpoints of an earlier run"):
        train(tiny_model(), Noise(), tiny_settings(steps=2), out=tmp_path)


def test_resuming_passes_over_a_damaged_checkpoint(tmp_path, capfd):
    settings = tiny_settings(steps=10, checkpoint_every=4)
    whole = tiny_model()
    train(whole, Noise(), settings, out=tmp_path)
    last = checkpoint.checkpoints(tmp_path)[-1]
    assert last.name == "checkpoint-00000010.pt"
    last.write_bytes(last.read_bytes()[:1000])
    again = TinyModel()
    train(again, Noise(), settings, out=tmp_path, resume=True)
    said = capfd.readouterr().err
    assert "passed over:" in said
    assert "checkpoint-00000010.pt: the file is damaged or was cut short" in said
    assert "going on after step 8" in said
    assert same(again.state_dict(), whole.state_dict())


def test_a_damaged_checkpoint_is_the_one_to_go(tmp_path):
    """Damaged at step 10, resumed from 8, ended at 9 or 12: two sound ones are left, whatever their numbers."""
    for end in (9, 12):
        out = tmp_path / str(end)
        train(tiny_model(), Noise(), tiny_settings(steps=10, checkpoint_every=4), out=out)
        checkpoint.checkpoint_path(out, 10).write_bytes(b"PK")
        train(TinyModel(), Noise(), tiny_settings(steps=end), out=out, resume=True)
        steps = [model_file.read(path)["training"]["step"] for path in checkpoint.checkpoints(out)]
        assert steps == [8, end]


def test_what_a_killed_run_left_half_written_is_cleared(tmp_path):
    for name in (".checkpoint-00000003.pt.99999.part", ".model.pt.7.part"):
        (tmp_path / name).write_text("half")
    (tmp_path / "my own.part").write_text("mine")
    train(tiny_model(), Noise(), tiny_settings(steps=1), out=tmp_path)
    assert [path.name for path in tmp_path.glob("*.part")] == ["my own.part"]
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize("at", [2, 4])  # in the middle, and in the last step
def test_a_request_to_stop_does_not_wait_for_an_evaluation(tmp_path, capfd, at):
    ended = []

    def evaluate(model, step):
        if step == at:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
        ended.append(step)
        return {"bbox/AP": 0.5}

    settings = tiny_settings(steps=4, evaluate_every=2)
    with pytest.raises(Stopped, match=rf"stopped after step {at}; .*checkpoint-0*{at}\.pt can be used") as caught:
        train(tiny_model(), Noise(), settings, out=tmp_path, evaluate=evaluate)
    assert caught.value.signal == signal.SIGTERM
    assert at not in ended
    again, whole = TinyModel(), tiny_model()
    train(again, Noise(), settings, out=tmp_path, evaluate=lambda model, step: {"bbox/AP": 1.0}, resume=True)
    train(whole, Noise(), settings)
    assert same(again.state_dict(), whole.state_dict())
    assert [row["step"] for row in read_table(tmp_path / "metrics.csv")] == [2, 4], "made up for, and none twice"


def test_an_evaluation_due_at_the_step_of_the_request_is_made_up_for(tmp_path):
    class Stopping(Noise):
        """A request to stop comes while the pictures of the first step are fetched."""

        asked = False

        def __getitem__(self, index):
            if not self.asked:
                self.asked = True
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.1)
            return super().__getitem__(index)

    measured = []

    def evaluate(model, step):
        measured.append(step)
        return {"bbox/AP": 0.5}

    settings = tiny_settings(steps=3, evaluate_every=1)
    with pytest.raises(Stopped, match="stopped after step 1"):
        train(tiny_model(), Stopping(), settings, out=tmp_path, evaluate=evaluate)
    assert measured == []
    train(tiny_model(), Noise(), settings, out=tmp_path, evaluate=evaluate, resume=True)
    assert measured == [1, 2, 3]
    train(tiny_model(), Noise(), settings, out=tmp_path, evaluate=evaluate, resume=True)
    assert measured == [1, 2, 3], "a finished run has nothing to make up for"


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    first, second = tiny_model(), TinyModel()
    train(first, Noise(), tiny_settings(steps=3), out=tmp_path)
    report = train(second, Noise(), tiny_settings(steps=3), out=tmp_path, resume=True)
    assert same(first.state_dict(), second.state_dict())
    assert report.steps == 3
    assert len(read_table(tmp_path / "losses.csv")) == 3


@pytest.mark.parametrize("optimizer", [{}, {"state": 5, "param_groups": []}, {"state": {}, "param_groups": [{}]}])
def test_an_optimizers_state_of_another_kind_is_told(optimizer, tmp_path):
    train(tiny_model(), Noise(), tiny_settings(steps=1), out=tmp_path)
    path = tmp_path / "checkpoint-00000001.pt"
    contents = torch.load(path, weights_only=True)
    contents["training"]["optimizer"] = optimizer
    torch.save(contents, path)
    with pytest.raises(CheckpointError, match="the optimizer's state is not as a run writes it"):
        train(tiny_model(), Noise(), tiny_settings(steps=2), out=tmp_path, resume=True)
