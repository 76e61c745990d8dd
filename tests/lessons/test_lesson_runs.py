"""The lessons run from top to bottom."""

import pytest

pytest.importorskip("jupytext", reason="jupytext, which reads the lessons' sources, is not installed")
pytest.importorskip("nbclient")

from executed import problems_of, run
from lesson_folders import build

FOLDERS = build.lessons()


@pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])
def test_lesson_runs(folder, monkeypatch):
    """On two cores and without a network."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert problems_of(run(folder)) == []
