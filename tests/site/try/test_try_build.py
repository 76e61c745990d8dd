"""Putting the page together: what it says where something cannot be had, and that it then writes nothing."""

import json

import pytest
from built import build


def test_another_package_than_the_pinned_one_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "INTEGRITY", "sha512-another")
    with pytest.raises(
        build.RuntimeMissing, match=r"onnxruntime-web-.*\.tgz must have the hash sha512-another, got sha512-"
    ):
        build.build(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_npm_a_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "CACHE", tmp_path / "npm")
    monkeypatch.setattr(build.shutil, "which", lambda _: None)
    with pytest.raises(build.RuntimeMissing, match="npm must be installed to fetch onnxruntime-web-"):
        build.build(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_version_that_npm_does_not_have(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "CACHE", tmp_path / "npm")
    monkeypatch.setattr(build, "RUNTIME", "onnxruntime-web-0.0.999.tgz")
    with pytest.raises(build.RuntimeMissing, match=r"npm (could not fetch onnxruntime-web 0.0.999|must be installed)"):
        build.build(tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_the_page_is_whole_and_small(folder):
    """All that it names is there; with the model and the program it leaves the site room within its 40 MiB."""
    made = {path.name: path.stat().st_size for path in (folder / "try").iterdir()}
    assert sum(made.values()) < 24 * 2**20
    assert all(made.values())
    loaded = json.loads((folder / "try" / "page.json").read_text())["load"].values()
    assert all(made[each["file"]] == each["bytes"] for each in loaded)
    assert f"({sum(each['bytes'] for each in loaded) / 1e6:.0f} MB, once" in (folder / "try" / "index.html").read_text()
    for name in ("index.html", "page.json", "app.js"):
        text = (folder / "try" / name).read_text()
        assert "://" not in text
    assert len([name for name in made if name.endswith((".png", ".jpg"))]) == 11
