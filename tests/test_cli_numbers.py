"""Absurd whole numbers are refused in a sentence, before any work: no traceback, no memory filled."""

import pytest
from test_cli import run

HUGE = 10**24


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--images", ["playground", "--images", HUGE]),
        ("--size", ["playground", "--images", 1, "--size", HUGE]),
        ("--size", ["export", "--weights", "playground", "--size", HUGE, 64]),
        ("--batch-size", ["predict", "photo.png", "--weights", "playground", "--batch-size", HUGE]),
        ("--batch-size", ["train", "--model", "playground", "--data", "playground", "--batch-size", HUGE]),
    ],
)
def test_an_absurd_number_is_refused(option, words, tmp_path, capsys):
    assert run(*words, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert f"Invalid value for '{option}': {HUGE} is not in the range" in said
    assert not (tmp_path / "out").exists()
