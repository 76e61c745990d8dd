"""Makes dist/: the sources, a wheel for the CPU, and one for CUDA where there is a toolkit (`make wheel`).

    python packaging/wheels.py torch==2.13.0        what to install as torch where the CPU wheel is tried

Both wheels are built from the unpacked sources, with the torch of this environment. The CPU wheel is then installed
into a fresh environment, and used there from outside this folder. TORCH_CUDA_ARCH_LIST is as in setup.py.
"""

import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from setuptools import build_meta

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"


def main(torch: list[str]) -> None:
    shutil.rmtree(DIST, ignore_errors=True)
    sources = make_sources()
    wheel = make_wheel(sources, "0")
    with tempfile.TemporaryDirectory() as room:
        try_out(wheel, torch, Path(room))
    toolkit = runpy.run_path(str(ROOT / "setup.py"))["decide_cuda"]()
    if toolkit[0]:
        make_wheel(sources, "1")
    else:
        print(f"no wheel for CUDA: {toolkit[2]}")
    for file in sorted(DIST.iterdir()):
        print(f"{file.stat().st_size / 1e6:6.1f} MB  {file.relative_to(ROOT)}")


def make_sources() -> Path:
    os.chdir(ROOT)  # setuptools packs the folder that it is in
    return DIST / build_meta.build_sdist(str(DIST))


def make_wheel(sources: Path, cuda: str) -> Path:
    """Builds in a folder of pip's own, into which the sources are unpacked; without isolation, for the torch here."""
    before = set(DIST.glob("*.whl"))
    pip = [sys.executable, "-m", "pip", "wheel", "--no-cache-dir", "--no-build-isolation"]
    pip += ["--no-deps", "--wheel-dir", DIST, sources]
    subprocess.run(pip, check=True, cwd=DIST, env=os.environ | {"MRCNN_CUDA": cuda})
    [wheel] = set(DIST.glob("*.whl")) - before
    return wheel


def try_out(wheel: Path, torch: list[str], room: Path) -> None:
    """A fresh environment, and in it what somebody would do first who has only the wheel."""
    venv.create(room / "env", with_pip=True)
    command = room / "env" / "bin"

    def run(*arguments: str | Path) -> None:
        alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run([command / arguments[0], *arguments[1:]], check=True, cwd=room, env=alone)

    run("python", "-m", "pip", "install", "--quiet", *torch)
    run("python", "-m", "pip", "install", "--quiet", wheel)
    run("mrcnn", "doctor")
    shutil.copy(ROOT / "packaging" / "first_steps.py", room)
    run("python", "first_steps.py")
    run("mrcnn", "playground", "--out", "scenes", "--images", "1")
    run("mrcnn", "predict", "scenes/images/000000.png", "--weights", "playground", "--out", "found")


if __name__ == "__main__":
    main(sys.argv[1:])
