"""The training loop: what it computes, what it leaves, and what it says when a step cannot be taken."""

import math
import os
import signal
import threading
import time
from dataclasses import replace

import pytest
import torch
from fakes import HandMade, Noise, TinyModel
from run_tiny import tiny_model, tiny_settings

import mrcnn
from mrcnn import model_file
from mrcnn.data import PictureError
from mrcnn.engine import checkpoint
from mrcnn.engine.csv_log import read_table
from mrcnn.engine.dataloader import Order
from mrcnn.engine.settings import TrainSettings
from mrcnn.engine.signals import Stopped
from mrcnn.engine.train import Run, TrainingError, train
from mrcnn.files import CheckpointError


def same(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_losses_fall(tmp_path):
    report = train(tiny_model(dropout=0.0), Noise(), tiny_settings(steps=60, lr=0.1), out=tmp_path)
    rows = read_table(tmp_path / "losses.csv")
    assert [row["step"] for row in rows] == list(range(1, 61))
    assert [row["loss"] for row in rows] == [row["loss"] for row in report.losses]
    assert all(row["loss"] == pytest.approx(row["loss_a"] + row["loss_b"]) for row in rows)
    assert sum(row["loss"] for row in rows[-10:]) < 0.1 * sum(row["loss"] for row in rows[:10])
    assert all(row["lr"] > 0 and row["gradient"] > 0 and row["step_seconds"] > 0 for row in rows)


def test_a_step_is_plain_gradient_descent():
    """One step of SGD without momentum, decay, clipping or warm-up, against autograd written out."""
    settings = tiny_settings(
        steps=1, momentum=0.0, weight_decay=0.0, warmup=0.0, clip=None, average=0.0, optimizer="sgd", lr=0.3
    )
    model, twin = tiny_model(dropout=0.0), tiny_model(dropout=0.0)
    seen = []

    class Seen(Noise):
        def __getitem__(self, index):
            seen.append(super().__getitem__(index))
            return seen[-1]

    train(model, Seen(), settings)
    losses = twin([image for image, _ in seen], [target for _, target in seen])
    gradients = torch.autograd.grad(sum(losses.values()), list(twin.parameters()))
    for after, before, gradient in zip(model.parameters(), twin.parameters(), gradients, strict=True):
        assert torch.allclose(after, before - 0.3 * gradient, atol=1e-7)  # float32: one rounding more or less


def test_gradients_are_clipped():
    settings = dict(steps=1, momentum=0.0, weight_decay=0.0, warmup=0.0, average=0.0, lr=0.3)
    moves = []
    for clip in (None, 0.01):
        model, start = tiny_model(), tiny_model()
        report = train(model, Noise(), tiny_settings(clip=clip, **settings))
        change = [(a - b).flatten() for a, b in zip(model.parameters(), start.parameters(), strict=True)]
        moves.append(torch.cat(change).norm().item() / 0.3)
        assert report.losses[0]["gradient"] > 0.1, "the record has the length before clipping"
    assert moves[0] == pytest.approx(report.losses[0]["gradient"], rel=1e-5)
    assert moves[1] == pytest.approx(0.01, rel=1e-3)


def test_the_average_has_its_closed_form(monkeypatch):
    """a₁ = w₁; then aₙ₊₁ = d·aₙ + (1-d)·w with d = min(0.9, (1+n)/(10+n))."""
    weights = []
    take_step = Run.take_step

    def watched(run, *arguments):
        result = take_step(run, *arguments)
        weights.append(run.model.head.weight.detach().clone())
        return result

    monkeypatch.setattr(Run, "take_step", watched)
    model = tiny_model()
    train(model, Noise(), tiny_settings(steps=100, average=0.9))
    average = weights[0].double()
    for count, weight in enumerate(weights[1:], start=1):
        decay = min(0.9, (1 + count) / (10 + count))
        average = decay * average + (1 - decay) * weight.double()
    # float32 against float64, over 100 sums of weights below 1
    assert torch.allclose(model.head.weight.double(), average, atol=1e-5)
    assert not torch.allclose(model.head.weight, weights[-1], atol=1e-5)
    assert not model.training


def test_a_time_budget_ends_the_run_and_drives_the_schedule():
    report = train(tiny_model(), Noise(), tiny_settings(seconds=1.0, warmup=0.25))
    assert 1.0 <= report.seconds < 2.5
    assert report.steps > 10
    rates = [row["lr"] for row in report.losses]
    top = rates.index(max(rates))
    assert 0.15 < report.losses[top]["seconds"] < 0.5, "warm-up is a quarter of the time, not of some number of steps"
    assert max(rates) > 0.045
    assert rates[-1] < 0.1 * max(rates)


def test_a_run_ends_at_its_steps_or_its_seconds_whichever_comes_first():
    report = train(tiny_model(), Noise(), tiny_settings(steps=20, seconds=5.0))
    assert report.steps == 20
    assert report.losses[-1]["lr"] < 0.1 * max(row["lr"] for row in report.losses)
    report = train(tiny_model(), Noise(), tiny_settings(steps=3000, seconds=0.5))
    assert 0.5 <= report.seconds < 2.0
    assert report.losses[-1]["lr"] < 0.1 * max(row["lr"] for row in report.losses), "the rate falls with the time, too"


class Interrupting(Noise):
    """Sends this process a signal when the first picture of a step is fetched."""

    def __init__(self, step: int, number: int = signal.SIGINT, start: int = 0):
        super().__init__()
        self.left, self.number = (step - start - 1) * 4, number

    def __getitem__(self, index):
        if self.left == 0:
            os.kill(os.getpid(), self.number)
        self.left -= 1
        return super().__getitem__(index)


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


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    first, second = tiny_model(), TinyModel()
    train(first, Noise(), tiny_settings(steps=3), out=tmp_path)
    report = train(second, Noise(), tiny_settings(steps=3), out=tmp_path, resume=True)
    assert same(first.state_dict(), second.state_dict())
    assert report.steps == 3
    assert len(read_table(tmp_path / "losses.csv")) == 3


# ---- what cannot go on


class Breaks(TinyModel):
    """One of its losses, or of its gradients, is no number from the third step on."""

    def __init__(self, what: str, value: float):
        super().__init__()
        self.what, self.value, self.steps = what, value, 0

    def forward(self, images, targets=None):
        losses = super().forward(images, targets)
        self.steps += 1
        if self.steps >= 3 and self.what == "loss":
            losses["loss_b"] = losses["loss_b"] * self.value
        if self.steps >= 3 and self.what == "gradient":
            losses["loss_b"] = losses["loss_b"] + (self.head.bias[0] * 0).sqrt()  # 0, with an infinite slope
        if self.steps >= 3 and self.what == "refusal":
            raise ValueError("boxes must be finite, got nan in row 7")
        return losses


@pytest.mark.parametrize(
    ("what", "value", "message"),
    [
        ("loss", math.nan, "at step 3 loss_b is nan"),
        ("loss", math.inf, "at step 3 loss_b is inf"),
        ("gradient", 0, "at step 3 gradient is nan"),
        ("refusal", 0, "step 3 could not be taken"),
    ],
)
def test_a_number_that_is_none_ends_the_run(tmp_path, capfd, what, value, message):
    """With the default settings the last good step is kept, to the bit: the failed one is undone."""
    settings = tiny_settings(steps=9)
    order = Order(12, 4, settings.seed).batch(2)
    torch.manual_seed(1)  # as tiny_model
    with pytest.raises(TrainingError, match=message) as caught:
        train(Breaks(what, value), Noise(), settings, out=tmp_path)
    assert f"pictures {', '.join(map(str, order))}" in str(caught.value)
    assert "loss_a" not in str(caught.value)
    assert f"the last good checkpoint is {tmp_path}/checkpoint-00000002.pt" in capfd.readouterr().err
    contents, _ = checkpoint.last_checkpoint(tmp_path)
    assert contents["training"]["step"] == 2
    with pytest.raises(Stopped):
        train(tiny_model(), Interrupting(2), settings, out=tmp_path / "stopped")
    stopped, _ = checkpoint.last_checkpoint(tmp_path / "stopped")
    assert same(contents["training"]["weights"], stopped["training"]["weights"])
    assert all(torch.isfinite(value).all() for value in contents["state_dict"].values())
    assert not (tmp_path / "model.pt").exists()
    assert len(read_table(tmp_path / "losses.csv")) == 2


def test_a_broken_picture_ends_the_run_with_its_name(tmp_path):
    class Broken(Noise):
        def __getitem__(self, index):
            if index == Order(12, 4, tiny_settings(steps=9).seed).picture(5):  # in the second step
                raise PictureError("image 5: five.png cannot be read")
            return super().__getitem__(index)

    for workers in (0, 1):
        with pytest.raises(PictureError, match=r"five\.png cannot be read"):
            train(tiny_model(), Broken(), tiny_settings(steps=9, workers=workers), out=tmp_path / str(workers))
        report = train(tiny_model(), Noise(), tiny_settings(steps=9), out=tmp_path / str(workers), resume=True)
        assert len(report.losses) == 8, "it goes on from the step before"


def test_a_disk_that_fills_up_ends_the_run_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    fsync, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) > 2:  # file and folder of the first checkpoint
            raise OSError(28, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"could not write .*checkpoint-00000004.pt: No space left on device"):
        train(tiny_model(), Noise(), tiny_settings(steps=9, checkpoint_every=2), out=tmp_path)
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["checkpoint-00000002.pt"]
    assert checkpoint.last_checkpoint(tmp_path)[0]["training"]["step"] == 2


def test_a_folder_that_cannot_be_made_is_told_before_the_first_step(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        train(tiny_model(), Noise(), tiny_settings(steps=1), out=tmp_path / "file" / "run")


# ---- evaluation, freezing, precision


@pytest.mark.parametrize("average", [0.0, 0.9])  # the model itself is evaluated, or the averaged one
def test_evaluation_is_recorded_and_does_not_change_the_run(tmp_path, average):
    asked = []

    def evaluate(model, step):
        asked.append((step, model.training))
        torch.rand(7)
        return {"bbox/AP": step / 10}

    plain, evaluated = tiny_model(), tiny_model()
    settings = tiny_settings(steps=9, average=average)
    train(plain, Noise(), settings)
    train(evaluated, Noise(), replace(settings, evaluate_every=4), out=tmp_path, evaluate=evaluate)
    assert asked == [(4, False), (8, False)]
    assert read_table(tmp_path / "metrics.csv") == [{"step": 4, "bbox/AP": 0.4}, {"step": 8, "bbox/AP": 0.8}]
    assert same(plain.state_dict(), evaluated.state_dict())


def test_tensorboard_gets_what_the_csv_gets(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tiny_model(), Noise(), tiny_settings(steps=3, tensorboard=True), out=tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    rows = read_table(tmp_path / "losses.csv")
    for name in ("loss", "loss_a", "lr"):
        written = [(event.step, event.value) for event in events.Scalars(f"train/{name}")]
        assert written == [(row["step"], pytest.approx(row[name])) for row in rows]


def playground_like() -> HandMade:
    return HandMade([[(1, [4, 4, 40, 60], 0), (2, [50, 10, 90, 50], 0)], [(2, [10, 20, 30, 40], 0)], []], (64, 96))


@pytest.mark.parametrize("has", [True, False])
def test_bfloat16_is_used_where_it_helps_and_the_weights_stay_float32(has, monkeypatch, capsys):
    class Looks(TinyModel):
        def forward(self, images, targets=None):
            assert self.conv(images[0][None].float()).dtype == (torch.bfloat16 if has else torch.float32)
            return super().forward(images, targets)

    monkeypatch.setattr("mrcnn.engine.train.multiplies_bfloat16", lambda: has)
    model = Looks()
    report = train(model, Noise(), tiny_settings(steps=2, bfloat16=True))
    assert ("going on in float32" in capsys.readouterr().err) is not has
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert math.isfinite(report.losses[-1]["loss"])


def test_the_real_model_overfits_one_picture():
    """The whole way, with the real model: one picture of two things, learnt by heart in a few steps."""
    torch.manual_seed(0)
    dataset = HandMade([[(1, [4, 4, 40, 60], 0), (2, [50, 10, 90, 50], 0)]], (64, 96))
    model = mrcnn.playground_rcnn(num_classes=3)
    report = train(model, dataset, TrainSettings(steps=30, batch_size=2, lr=0.01, clip=5.0))
    first, last = report.losses[0], report.losses[-1]
    assert set(first) >= {
        "loss_objectness",
        "loss_rpn_box_reg",
        "loss_classifier",
        "loss_box_reg",
        "loss_mask",
        "loss_keypoint",
    }
    assert last["loss"] < 0.6 * first["loss"]
