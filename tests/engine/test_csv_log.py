"""The tables of a run, also one that was killed while it wrote."""

import errno
import os

import pytest

from mrcnn.engine.csv_log import Table, read_table
from mrcnn.errors import CheckpointError


def test_rows_of_steps_that_will_come_again_are_taken_out(tmp_path):
    """A run was killed after step 5, in the middle of a row; its checkpoint is of step 3."""
    path = tmp_path / "losses.csv"
    path.write_text("step,loss\n1,0.5\n2,0.4\n3,0.3\n4,0.2\n5,0.1\n6,0.0".removesuffix(",0.0"))
    assert [row["step"] for row in read_table(path)] == [1, 2, 3, 4, 5], "half a row is none"
    table = Table(path, last_step=3)
    table.add({"step": 4, "loss": 0.25})
    table.close()
    assert read_table(path) == [{"step": s, "loss": v} for s, v in ((1, 0.5), (2, 0.4), (3, 0.3), (4, 0.25))]


def test_a_number_that_was_cut_short_is_none(tmp_path):
    """6.1 of 6.1e-05 reads well, and 6.1e- not at all: a row without its end is no row."""
    path = tmp_path / "losses.csv"
    for cut in ("6.1", "6.1e-", "6.1e-05\r"):
        path.write_bytes(f"step,loss\r\n1,0.5\r\n2,{cut}".encode())
        assert read_table(path) == [{"step": 1, "loss": 0.5}]
        table = Table(path, last_step=5)
        table.add({"step": 2, "loss": 6.1e-05})
        table.close()
        assert read_table(path) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 6.1e-05}]


def test_a_spreadsheets_mark_is_passed_over(tmp_path):
    (tmp_path / "losses.csv").write_bytes(b"\xef\xbb\xbfstep,loss\r\n1,0.5\r\n")
    assert read_table(tmp_path / "losses.csv") == [{"step": 1, "loss": 0.5}]


@pytest.mark.parametrize(
    "text", [b"step;loss\r\n1;0,5\r\n", b"step,loss\n1,abc\n", b"step,loss\n1,\xe9\n", bytes(40) + b"\n"]
)
def test_another_kind_of_file_is_told(text, tmp_path):
    (tmp_path / "losses.csv").write_bytes(text)
    with pytest.raises(CheckpointError, match=r"losses\.csv is not as a run writes it .*: put it right"):
        read_table(tmp_path / "losses.csv")


def test_taking_out_rows_loses_none_where_the_disk_is_full(tmp_path, monkeypatch):
    path = tmp_path / "metrics.csv"
    path.write_text("step,bbox/AP\n2,0.5\n4,0.6\n")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        Table(path, last_step=2)
    assert [row["step"] for row in read_table(path)] == [2, 4]


def test_a_new_run_begins_a_new_table(tmp_path):
    path = tmp_path / "losses.csv"
    path.write_text("step,loss\n1,0.5\n")
    table = Table(path, last_step=0)
    assert not path.exists(), "a table comes with its first row"
    table.add({"step": 1, "loss": 1 / 3})
    table.close()
    assert read_table(path) == [{"step": 1, "loss": 1 / 3}], "numbers read back as they were"
