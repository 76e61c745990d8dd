"""Absurd whole numbers are refused in a sentence, before any work: no traceback, no memory filled."""

import pytest
from test_cli import run

from mrcnn.engine.evaluate import gather_detections

HUGE = 10**24


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("num_images must be a whole number from 0 to 10000000", ["playground", "--images", HUGE]),
        ("size must be a whole number from 32 to 16384", ["playground", "--images", 1, "--size", HUGE]),
        (
            "size must be None or (height, width), each a whole number from 1 to 16384",
            ["export", "--weights", "playground", "--size", HUGE, 64],
        ),
        (
            "batch_size must be a whole number from 1 to 65536",
            ["predict", "photo.png", "--weights", "playground", "--batch-size", HUGE],
        ),
        ("num_images must be a whole number from 0 to 10000000", ["demo", "--scenes", HUGE]),
    ],
)
def test_an_absurd_number_is_refused(message, words, tmp_path, capsys):
    assert run(*words, "--out", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert said.startswith(f"mrcnn: {message}")
    assert str(HUGE) in said
    assert not list(tmp_path.rglob("*.*"))


def test_so_many_processes_are_not_started():
    """Without a model or data: what would start them must not be reached."""
    for workers in (-1, 1025, HUGE):
        with pytest.raises(ValueError, match=f"workers must be a whole number from 0 to 1024, got {workers}"):
            gather_detections(None, None, workers=workers)
