"""The training loop: what it computes, what it leaves, and what it says when a step cannot be taken."""

import math
import os
from dataclasses import replace

import pytest
import torch
from fakes import HandMade, Interrupting, Noise, TinyModel
from run_tiny import same, tiny_model, tiny_settings

import mrcnn
from mrcnn.data import PictureError
from mrcnn.engine import checkpoint
from mrcnn.engine.csv_log import read_table
from mrcnn.engine.dataloader import Order
from mrcnn.engine.settings import TrainSettings
from mrcnn.engine.signals import Stopped
from mrcnn.engine.train import Run, train
from mrcnn.errors import CheckpointError, TrainingError


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
        if len(calls) > 4:  # file and folder of the settings, and of the first checkpoint
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


def test_weights_that_the_last_step_spoils_are_not_kept(tmp_path, monkeypatch):
    """Its losses were fine, and nobody looks at the next one's."""

    def spoil(optimizer, *_):
        optimizer.param_groups[0]["params"][0].data.fill_(torch.nan)

    monkeypatch.setattr(torch.optim.SGD, "step", spoil)
    with pytest.raises(TrainingError, match="after step 1 the weights are NaN or infinite"):
        train(tiny_model(), Noise(), tiny_settings(steps=1, average=0.0), out=tmp_path)
    assert not (tmp_path / "model.pt").exists()
