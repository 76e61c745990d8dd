"""`mrcnn eval --report`: what it leaves and prints, alone and by two processes, and what it says to bad input."""

import json
import os
import subprocess
import sys

import pytest
from test_cli import _one_thread, data, run, scenes  # noqa: F401  # two are fixtures

FILES = {
    "metrics.json", "categories.csv", "confusion.png", "precision_recall.png", "worst.png",
    "results.json", "results_segm.json", "results_keypoints.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def reported(scenes, tmp_path_factory):  # noqa: F811
    """The report on the eight scenes, and the metrics of --out."""
    out = tmp_path_factory.mktemp("report")
    options = ["--report", out / "report", "--out", out / "metrics.json"]
    assert run("eval", "--weights", "playground", *data(scenes), *options) == 0
    return out


def test_eval_leaves_a_report(reported):
    assert {path.name for path in (reported / "report").iterdir()} == FILES
    metrics = (reported / "metrics.json").read_text()
    assert (reported / "report" / "metrics.json").read_text() == metrics
    assert set(json.loads(metrics)) == {"bbox", "segm", "keypoints"}
    assert len((reported / "report" / "categories.csv").read_text().splitlines()) == 7


def test_eval_prints_each_category(scenes, capsys):  # noqa: F811
    assert run("eval", "--weights", "playground", *data(scenes)) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines[1:4]] == ["boxes", "masks", "keypoints"]
    assert lines[4] == ["objects", "boxes", "AP", "AP50", "masks", "AP", "AP50", "keypoints", "AP", "AP50"]
    assert {line[0] for line in lines[5:]} == {"person", "ball", "box", "triangle", "star", "ring"}
    for line in lines[5:]:
        assert ("\N{EN DASH}" in line[-2:]) == (line[0] != "person"), "keypoints are a person's"


def test_two_processes_leave_the_report_of_one(reported, scenes, tmp_path):  # noqa: F811
    arguments = ["eval", "--weights", "playground", *data(scenes), "--device", "cpu", "--report", tmp_path / "two"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "mrcnn"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=200, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("AP75") == 1, "one process speaks"
    assert {path.name for path in (tmp_path / "two").iterdir()} == FILES
    for name in FILES:
        assert (tmp_path / "two" / name).read_bytes() == (reported / "report" / name).read_bytes(), name


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--weights", "playground", "--report", "{tmp}/file"], 2, "file' is a file"),
        (["--weights", "playground", "--report", "{tmp}/file/a"], 2, "{tmp}/file is no folder to write in"),
        (["--weights", "{tmp}/none.pt", "--report", "{tmp}/a"], 1, "none.pt: there is no such file"),
        (["--weights", "{tmp}/file", "--report", "{tmp}/a"], 1, "{tmp}/file"),
    ],
)
def test_bad_input_is_told_and_leaves_nothing(options, status, message, scenes, tmp_path, capsys):  # noqa: F811
    (tmp_path / "file").write_text("")
    options = [option.format(tmp=tmp_path) for option in options]
    assert run("eval", *data(scenes), *options) == status
    said = capsys.readouterr().err
    assert message.format(tmp=tmp_path) in said
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
