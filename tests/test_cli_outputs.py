"""An --out that could not be written after the work is refused before it."""

import os

import pytest
from test_cli import run

COMMANDS = {
    "demo": ["demo"],
    "train": ["train", "--data", "playground", "--steps", 1],
    "eval": ["eval", "--weights", "playground", "--data", "playground"],
    "predict": ["predict", "photo.png", "--weights", "playground"],
    "export": ["export", "--weights", "playground"],
    "playground": ["playground", "--images", 1],
    "doctor": ["doctor"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_is_no_folder(command, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("mine")
    file.chmod(0o755)  # "may be entered", as far as a folder goes
    assert run(*COMMANDS[command], "--out", file / "out") == 2
    assert f"{file / 'out'} cannot be written: {file} is no folder to write in" in capsys.readouterr().err
    assert file.read_text() == "mine"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_must_not_be_written_in(command, tmp_path, capsys, monkeypatch):
    """Who is root may write everywhere, so the question is answered here."""
    forbidden, allowed = tmp_path / "forbidden", os.access
    forbidden.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: os.fspath(path) != str(forbidden) and allowed(path, mode))
    out = forbidden / "new" / "out"
    assert run(*COMMANDS[command], "--out", out) == 2
    assert f"{out} cannot be written: {forbidden} is no folder to write in" in capsys.readouterr().err
    assert not list(forbidden.iterdir())


@pytest.mark.parametrize("command", ["eval", "export"])
def test_a_pipe_stays_a_pipe(command, tmp_path, capsys):
    """As does a device: who asks for /dev/null must not find a file there."""
    os.mkfifo(tmp_path / "pipe")
    assert run(*COMMANDS[command], "--out", tmp_path / "pipe") == 2
    assert f"{tmp_path / 'pipe'} is a device or a pipe: name a file" in capsys.readouterr().err
    assert (tmp_path / "pipe").is_fifo()


def test_a_file_in_a_forbidden_folder(tmp_path, capsys, monkeypatch):
    """A file is written under another name first, so that its being there is no help."""
    allowed, file = os.access, tmp_path / "metrics.json"
    file.write_text("{}")
    monkeypatch.setattr(os, "access", lambda path, mode: os.fspath(path) != str(tmp_path) and allowed(path, mode))
    assert run(*COMMANDS["eval"], "--out", file) == 2
    assert f"{tmp_path} is no folder to write in" in capsys.readouterr().err


def test_a_folder_in_a_forbidden_folder(tmp_path, capsys, monkeypatch):
    """It is there, and one may write in it: the command goes on to what is wrong with its input."""
    allowed, folder = os.access, tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: os.fspath(path) != str(tmp_path) and allowed(path, mode))
    assert run(*COMMANDS["predict"], "--out", folder) == 1
    assert "photo.png" in capsys.readouterr().err
