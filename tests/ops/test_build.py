"""setup.py's choice: where the CUDA toolkit is, whether to build with it; what it says of it, packs and builds anew."""

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from builds import ROOT, load_setup

import mrcnn


@pytest.fixture
def build(monkeypatch, tmp_path):
    """setup.py as a module, on a machine with an empty PATH and nothing in the usual places, with torch for CUDA 13."""
    module = load_setup()
    for variable in ("CUDA_HOME", "CUDA_PATH", "MRCNN_CUDA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(module, "USUAL_PLACES", ())
    (tmp_path / "bin").mkdir()
    return module


def make_program(path: Path, text: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{os.path.realpath('/bin/sh')}\n{text}\n")
    path.chmod(0o755)


def make_toolkit(root: Path, version: int) -> Path:
    (root / "include").mkdir(parents=True)
    (root / "include" / "cuda_runtime_api.h").write_text(f"#define CUDART_VERSION  {version}\n")
    make_program(root / "bin" / "nvcc", f'echo "#$ TOP={root}/bin/.." >&2')
    return root


def test_no_toolkit(build):
    root, version, reason = build.decide_cuda()
    assert (root, version) == (None, None)
    assert reason == f"no CUDA 13.x toolkit, as torch {torch.__version__} needs, was found"


def test_without_cuda_in_torch_no_toolkit_serves(build, tmp_path, monkeypatch):
    """Torch for the CPU alone beside a toolkit: there is none of its version, for whoever asks."""
    monkeypatch.setenv("CUDA_HOME", str(make_toolkit(tmp_path / "cuda", 13020)))
    assert build.find_toolkit() is not None
    monkeypatch.setattr(torch.version, "cuda", None)
    assert build.find_toolkit() is None


def test_wrapper_on_the_path_is_followed(build, tmp_path):
    """The nvcc on the PATH is a script elsewhere; the toolkit is where the compiler it calls says."""
    toolkit = make_toolkit(tmp_path / "far" / "cuda-13.0", 13000)
    make_program(tmp_path / "bin" / "nvcc", f'exec {toolkit}/bin/nvcc "$@"')
    assert build.decide_cuda() == (toolkit, "13.0", f"toolkit 13.0 at {toolkit}, torch's CUDA is 13.2")


def test_another_major_version_is_passed_over(build, tmp_path, monkeypatch):
    older = make_toolkit(tmp_path / "cuda-12.9", 12090)
    monkeypatch.setenv("CUDA_HOME", str(older))
    assert build.decide_cuda()[0] is None
    fitting = make_toolkit(tmp_path / "cuda-13.1", 13010)
    monkeypatch.setenv("CUDA_PATH", str(fitting))
    assert build.decide_cuda()[:2] == (fitting, "13.1")


@pytest.mark.parametrize(("toolkit", "newest"), [("12.6", "9.0"), ("12.8", "12.0"), ("13.0", "12.0")])
def test_a_toolkit_is_asked_for_what_it_knows(build, toolkit, newest):
    """nvcc knows Blackwell (compute_100, compute_120) from 12.8 on."""
    archs = build.archs_of(toolkit).split(";")
    assert archs[0] == "7.5"
    assert archs[-1] == f"{newest}+PTX"
    assert len(archs) == (6 if newest == "12.0" else 4)


def test_usual_places_are_looked_at_newest_first(build, tmp_path, monkeypatch):
    for version in (13000, 13010):
        make_toolkit(tmp_path / "local" / f"cuda-13.{version % 1000 // 10}", version)
    monkeypatch.setattr(build, "USUAL_PLACES", (str(tmp_path / "local" / "cuda-*"),))
    assert build.decide_cuda()[1] == "13.1"


def test_torch_without_cuda(build, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", str(make_toolkit(tmp_path / "cuda", 13000)))
    monkeypatch.setattr(torch.version, "cuda", None)
    root, _, reason = build.decide_cuda()
    assert root is None
    assert reason == f"torch {torch.__version__} was built without CUDA"


def test_the_user_decides(build, tmp_path, monkeypatch):
    monkeypatch.setenv("MRCNN_CUDA", "1")
    with pytest.raises(SystemExit, match=r"MRCNN_CUDA=1, but no CUDA 13\.x toolkit"):
        build.decide_cuda()
    monkeypatch.setenv("CUDA_HOME", str(make_toolkit(tmp_path / "cuda", 13000)))
    assert build.decide_cuda()[1] == "13.0"
    monkeypatch.setenv("MRCNN_CUDA", "0")
    assert build.decide_cuda() == (None, None, "MRCNN_CUDA=0")
    monkeypatch.setenv("MRCNN_CUDA", "yes")
    with pytest.raises(SystemExit, match=r"MRCNN_CUDA must be 0 or 1; got 'yes'"):
        build.decide_cuda()


def test_the_version_tells_what_was_built(build):
    assert build.package_version() == mrcnn.__version__
    assert build.label(None) == "+cpu"
    assert build.label("13.0") == "+cu130"


def test_the_packed_sources_are_all_there(tmp_path):
    """All of csrc/ and of the package, but nothing that was built."""
    command = ["setup.py", "-q", "egg_info", "--egg-base", tmp_path, "sdist", "--dist-dir", tmp_path]
    subprocess.run([sys.executable, *command], check=True, capture_output=True, cwd=ROOT)
    with tarfile.open(tmp_path / f"mrcnn-{mrcnn.__version__}.tar.gz") as packed:
        names = {member.name.partition("/")[2] for member in packed if member.isfile()}
    made = ("__pycache__", "_build.json", ".so", ".pyc")
    kept = {
        str(path.relative_to(ROOT))
        for folder in ("csrc", "mrcnn")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not any(part in str(path) for part in made)
    }
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE", "mrcnn/pretrained/playground_rcnn.pt"} <= names
    assert {name for name in names if name.startswith(("csrc/", "mrcnn/"))} == kept


def included(file: Path) -> set[Path]:
    """`file` and all of csrc/ that it includes, directly or by way of others."""
    names = re.findall(r'^#include "(.+)"', file.read_text(), re.MULTILINE)
    places = [(folder / name).resolve() for name in names for folder in (file.parent, ROOT / "csrc")]
    return {file}.union(*(included(place) for place in places if place.is_file()))


def test_libraries_are_built_anew_when_any_of_their_files_changes(build):
    """The sources of the emulated library include .cu and .cpp files of csrc/, and these its headers."""
    emulated = set.union(*map(included, ROOT.glob("csrc/cuda_on_cpu/*.cpp")))
    assert {"library.cpp", "nms_cuda.cpp", "checks.h", "limits.h", "roi_align.cu"} <= {file.name for file in emulated}
    native = set.union(*map(included, ROOT.glob("csrc/**/*_c*.cpp")))
    assert emulated | native <= {ROOT / name for name in build.code()}
