"""Files written whole or not at all."""

import os
from pathlib import Path

import pytest

from mrcnn.errors import CheckpointError
from mrcnn.files import write_whole


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")

    def fails(file):
        file.write(b"half of ")
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match=r"could not write .*file: No space left on device"):
        write_whole(path, fails)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["file"]


def test_what_is_no_file_stays_what_it_is(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="pipe: it is a folder, a device or a pipe, and stays"):
        write_whole(tmp_path / "pipe", lambda file: file.write(b"all"))
    assert (tmp_path / "pipe").is_fifo()


def test_the_longest_name(tmp_path):
    path = tmp_path / ("n" * (os.pathconf(tmp_path, "PC_NAME_MAX") - 4) + ".png")
    write_whole(path, lambda file: file.write(b"all"))
    assert path.read_bytes() == b"all"
    assert os.listdir(tmp_path) == [path.name]


def test_an_interruption_while_writing_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")

    def interrupted(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, interrupted)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["file"]


def test_the_bytes_reach_the_disk_before_the_name(tmp_path, monkeypatch):
    """In the order: data synced, renamed, folder synced. A rename before the sync could survive a power cut alone."""
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (events.append("sync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (events.append("rename"), replace(*paths)))
    write_whole(tmp_path / "new" / "file", lambda file: file.write(b"all"))
    assert events == ["sync", "rename", "sync"]
    assert (tmp_path / "new" / "file").read_bytes() == b"all"


def test_a_folder_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    (tmp_path / "a file").write_text("")
    with pytest.raises(CheckpointError, match=r"could not write .*a file/model\.pt: (Not a directory|File exists)"):
        write_whole(tmp_path / "a file" / "model.pt", lambda file: None)

    def refuse(self, *_args, **_kwargs):  # the tests may run as root, whom no folder refuses
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CheckpointError, match=r"could not write .*model\.pt: Permission denied"):
        write_whole(tmp_path / "model.pt", lambda file: None)
