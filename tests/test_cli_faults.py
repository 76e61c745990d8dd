"""Faults that reach a command from far below come out as one sentence."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from PIL import Image
from test_cli import data, run, scenes  # noqa: F401

from mrcnn.engine.runs import earlier_metrics
from mrcnn.errors import sentence

HUGE = 10**400


@pytest.mark.parametrize(("name", "expected"), [("MRCNN_BACKEND", "one of native,"), ("MRCNN_FUSED_CONV", "0 or 1")])
def test_a_wrong_word_in_the_environment(name, expected, tmp_path):
    """It is found on the way to torch, and the search for what to say must not go that way again."""
    words = ["predict", "photo.png", "--weights", "playground", "--out", str(tmp_path / "out")]
    told = subprocess.run(
        [sys.executable, "-m", "mrcnn", *words], env=os.environ | {name: "x"}, capture_output=True, text=True
    )
    assert told.returncode == 1
    (line,) = told.stderr.splitlines()
    assert line.startswith(f"mrcnn: {name} in the environment must be {expected}")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("command", ["eval", "train"])
def test_a_broken_picture(command, workers, scenes, tmp_path, capfd):  # noqa: F811
    for file in (scenes / "images").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[:-200])
    words = ["--weights", "playground", "--data", tmp_path, "--annotations", scenes / "instances.json"]
    words += ["--steps", 2, "--out", tmp_path / "out"] if command == "train" else []
    words += ["--keypoints", scenes / "person_keypoints.json"]
    assert run(command, *words, "--workers", workers) == 1
    said = capfd.readouterr().err
    assert "mrcnn: image " in said
    assert "image file is truncated" in said
    assert "Traceback" not in said


def test_too_little_memory_is_told():
    """torch's own error, and Python's."""
    with pytest.raises(RuntimeError) as too_much:
        torch.empty(2**60)
    assert sentence(too_much.value).startswith("the memory is not enough")
    assert sentence(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate …")).startswith("the memory")
    assert sentence(MemoryError()).startswith("the memory is not enough")
    assert sentence(RuntimeError("a bug")) is None


def test_the_end_of_another_process_is_told():
    """As torch says it."""
    assert "fewer --workers" in sentence(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "))
    assert sentence(RuntimeError("[pair.cc:553] Connection closed by peer [::1]:43")).startswith(
        "another process of this"
    )


def test_endless_epochs(scenes, tmp_path, capsys):  # noqa: F811
    words = ["--model", "playground", "--epochs", HUGE, "--out", tmp_path / "out"]
    assert run("train", *data(scenes), *words) == 1
    assert "epochs must be a whole number from 1 to" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["eval", "--data", "playground"], ["export"], ["predict", "x.png"]])
def test_an_output_without_a_name(command, capsys):
    assert run(*command, "--weights", "playground", "--out", "") == 2
    assert "'--out': it is empty" in capsys.readouterr().err


def test_a_film_that_was_cut(tmp_path, capsys):
    """Everywhere, among it where Pillow stumbles with an IndexError. All that is before the cut is told or drawn."""
    first, *others = [Image.effect_noise((40, 30), each).convert("P") for each in (20, 60, 100)]
    first.save(tmp_path / "film.gif", save_all=True, append_images=others)
    whole = (tmp_path / "film.gif").read_bytes()
    frames = [place for place in range(len(whole)) if whole[place : place + 3] == b"\x21\xf9\x04"]
    cuts = [place + more for place in frames for more in range(1, 18)]
    for cut in cuts:
        (tmp_path / f"{cut}.gif").write_bytes(whole[:cut])
    words = ["--weights", "playground", "--out", tmp_path / "out", "--save", "json"]
    assert run("predict", *(tmp_path / f"{cut}.gif" for cut in cuts), *words) == 1
    told = capsys.readouterr().err.splitlines()
    assert all(line.startswith("mrcnn: ") for line in told)
    assert (tmp_path / "out" / "results.json").exists()


def test_a_large_photograph_takes_memory_only_for_what_is_kept(tmp_path, monkeypatch):
    """A mask takes 4 bytes for each pixel of the picture; the model is told what will be kept."""
    told = []

    def predict(model, *_arguments, **_options):
        told.append(model.settings.box.min_score)
        torch.empty(2**60)  # more than there is

    monkeypatch.setattr("mrcnn.engine.predict.predict", predict)
    words = ["predict", "photo.png", "--weights", "playground", "--out", tmp_path]
    assert run(*words, "--min-score", 0.75) == 1
    assert told == [pytest.approx(0.75)]


def test_a_request_to_stop_leaves_nothing_half_written(tmp_path, monkeypatch, capsys):
    """SIGTERM in the middle of the third picture."""
    synced, fsync = [], os.fsync

    def asked(handle):
        synced.append(handle)
        if len(synced) == 5:  # a file and its folder each
            os.kill(os.getpid(), signal.SIGTERM)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", asked)
    before = signal.getsignal(signal.SIGTERM)
    assert run("playground", "--images", 9, "--out", tmp_path) == 128 + signal.SIGTERM
    assert "stopped" in capsys.readouterr().err
    assert [file.name for file in sorted(tmp_path.rglob("*.*"))] == ["000000.png", "000001.png"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_closed_outputs(tmp_path):
    """Under `>&- 2>&-` Python has no sys.stdout and no sys.stderr."""
    Image.effect_noise((40, 30), 50).save(tmp_path / "photo.png")
    words = f"predict {tmp_path}/photo.png --weights playground --out {tmp_path}/out"
    assert subprocess.run(f"'{sys.executable}' -m mrcnn {words} >&- 2>&-", shell=True).returncode == 0
    assert (tmp_path / "out" / "results.json").exists()


@pytest.mark.parametrize("stored", ["[]", "5", "null", '{"train_steps": 3}', "{"])
def test_metrics_of_another_kind(stored, tmp_path):
    (tmp_path / "metrics.json").write_text(stored)
    assert earlier_metrics(tmp_path, 2) == {}
