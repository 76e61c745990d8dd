"""Builds csrc/ into mrcnn/_native (CPU, and CUDA where there is a toolkit) and mrcnn/_emulated (CUDA run on the CPU).

MRCNN_CUDA=0 leaves CUDA out, MRCNN_CUDA=1 insists on it; TORCH_CUDA_ARCH_LIST chooses the GPU architectures. What is
built says so in its version, 0.1.0+cpu or 0.1.0+cu130: a library with CUDA loads only beside a torch with CUDA.
"""

import glob
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from setuptools import setup

ROOT = Path(__file__).parent
TURING_TO_HOPPER, BLACKWELL = "7.5;8.0;8.6;9.0", ";10.0;12.0"
USUAL_PLACES = ("/usr/local/cuda", "/usr/local/cuda-*", "/opt/cuda")
TARGET = "0x020b000000000000"  # the oldest PyTorch whose stable ABI serves: 2.11


def toolkit_candidates():
    """Folders that may be the root of a CUDA toolkit, likeliest first."""
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(variable):
            yield Path(os.environ[variable])
    if nvcc := shutil.which("nvcc"):
        # nvcc may be a wrapper that lives elsewhere; asked for a dry run, the real one names its root as TOP.
        dry_run = subprocess.run([nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True)
        if top := re.search(r"^#\$ TOP=(.+)$", dry_run.stderr, re.MULTILINE):
            yield Path(top[1])
        yield Path(nvcc).resolve().parent.parent
    for pattern in USUAL_PLACES:
        yield from map(Path, sorted(glob.glob(pattern), reverse=True))


def find_toolkit() -> tuple[Path, str] | None:
    """The first candidate that holds nvcc and the runtime's headers, of torch's major version, and its version."""
    if torch.version.cuda is None:
        return None
    for root in toolkit_candidates():
        header = root / "include" / "cuda_runtime_api.h"
        if not header.exists() or not (root / "bin" / "nvcc").exists():
            continue
        number = int(re.search(r"#define\s+CUDART_VERSION\s+(\d+)", header.read_text())[1])  # 13020 is 13.2
        if str(number // 1000) == torch.version.cuda.split(".")[0]:
            return root.resolve(), f"{number // 1000}.{number % 1000 // 10}"
    return None


def decide_cuda() -> tuple[Path | None, str | None, str]:
    """The toolkit to build with and its version, or None; and why."""
    wish = os.environ.get("MRCNN_CUDA", "")
    if wish not in ("", "0", "1"):
        raise SystemExit(f"MRCNN_CUDA must be 0 or 1; got {wish!r}")
    if wish == "0":
        return None, None, "MRCNN_CUDA=0"
    if torch.version.cuda is None:
        reason, found = f"torch {torch.__version__} was built without CUDA", None
    else:
        found = find_toolkit()
        reason = f"no CUDA {torch.version.cuda.split('.')[0]}.x toolkit, as torch {torch.__version__} needs, was found"
    if found:
        return *found, f"toolkit {found[1]} at {found[0]}, torch's CUDA is {torch.version.cuda}"
    if wish == "1":
        raise SystemExit(f"MRCNN_CUDA=1, but {reason}")
    return None, None, reason


def sources(*patterns: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in (ROOT / "csrc").glob(pattern))


def code() -> list[str]:
    """What either library may be made from: the sources of the emulated one include those of the native one."""
    return sources(*(folder + ending for folder in ("", "*/") for ending in ("*.h", "*.cuh", "*.cu", "*.cpp")))


# -ffp-contract=off: a multiply and an add stay two roundings, so results are the same on every processor.
CXX_FLAGS = [
    "-O3",
    "-std=c++17",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-Wall",
    f"-DTORCH_TARGET_VERSION={TARGET}",
]
# The CUDA kernels as ordinary C++, answering for CPU tensors.
EMULATED_FLAGS = ["-DMRCNN_LIBRARY=mrcnn_emulated", "-DMRCNN_CUDA_KEY=CPU", "-DMRCNN_CUDA_ON_CPU"]
NVCC_FLAGS = ["-O3", "-std=c++17", "-lineinfo", f"-DTORCH_TARGET_VERSION={TARGET}", "-DUSE_CUDA"]


def native_extension(with_cuda: bool, depends: list[str]):
    """CPU kernels, and the CUDA ones: torch.ops.mrcnn."""
    from torch.utils.cpp_extension import CppExtension, CUDAExtension

    patterns = ["*.cpp", "*/*.cpp"] + ["*/*.cu"] * with_cuda
    files = [file for file in sources(*patterns) if not file.startswith("csrc/cuda_on_cpu")]
    files = [file for file in files if with_cuda or not file.endswith("_cuda.cpp")]
    return (CUDAExtension if with_cuda else CppExtension)(
        "mrcnn._native",
        files,
        include_dirs=[str(ROOT / "csrc")],
        extra_compile_args={"cxx": CXX_FLAGS + ["-DUSE_CUDA"] * with_cuda, "nvcc": NVCC_FLAGS},
        depends=depends,
        py_limited_api=True,
    )


def emulated_extension(depends: list[str]):
    """The CUDA kernels, run on the CPU: torch.ops.mrcnn_emulated.

    csrc/cuda_on_cpu/*.cpp include the .cu files and library.cpp, so that each is compiled once more, by the host
    compiler, into an object of its own.
    """
    from torch.utils.cpp_extension import CppExtension

    return CppExtension(
        "mrcnn._emulated",
        sources("cuda_on_cpu/*.cpp"),
        include_dirs=[str(ROOT / "csrc")],
        extra_compile_args={"cxx": CXX_FLAGS + EMULATED_FLAGS},
        depends=depends,
        py_limited_api=True,
    )


def package_version() -> str:
    """mrcnn.__version__, read without importing what is not built yet."""
    return re.search(r'^__version__ = "(.+)"$', (ROOT / "mrcnn" / "__init__.py").read_text(), re.MULTILINE)[1]


def label(cuda_toolkit: str | None) -> str:
    """What is built, as a part of the version: +cpu, or +cu130 for CUDA 13.0."""
    return f"+cu{cuda_toolkit.replace('.', '')}" if cuda_toolkit else "+cpu"


def archs_of(toolkit: str) -> str:
    """The architectures to build for with a toolkit, "12.8"; before that one none knows Blackwell. +PTX lets later GPUs
    compile it for themselves."""
    knows_blackwell = tuple(map(int, toolkit.split("."))) >= (12, 8)
    return TURING_TO_HOPPER + BLACKWELL * knows_blackwell + "+PTX"


def extensions(root: Path | None, version: str | None, reason: str) -> list:
    """What to compile, with what `decide_cuda` found."""
    if root:  # both are read when torch.utils.cpp_extension is imported
        os.environ["CUDA_HOME"] = str(root)
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", archs_of(version))
    archs = os.environ["TORCH_CUDA_ARCH_LIST"] if root else None
    print(f"mrcnn: building the CPU ops {'and CUDA ops for ' + archs if root else 'only'} ({reason})")
    record = {"torch": torch.__version__, "cuda_toolkit": version, "cuda_archs": archs, "reason": reason}
    # Part of what everything depends on: the libraries are built again when it changes.
    path, text = ROOT / "mrcnn" / "_build.json", json.dumps(record, indent=1)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    depends = [*code(), "mrcnn/_build.json", "setup.py"]
    return [native_extension(root is not None, depends), emulated_extension(depends)]


def build_command():
    """PyTorch's build_ext, which would link anew each time; here only when something that it depends on has changed."""
    from torch.utils.cpp_extension import BuildExtension

    class BuildChanged(BuildExtension):
        def finalize_options(self):
            super().finalize_options()
            self.force = False

    return BuildChanged


if __name__ == "__main__":
    if "sdist" in sys.argv:  # the sources, which may become either
        setup(version=package_version())
    else:
        toolkit = decide_cuda()
        setup(
            version=package_version() + label(toolkit[1]),
            ext_modules=extensions(*toolkit),
            cmdclass={"build_ext": build_command()},
            options={"bdist_wheel": {"py_limited_api": "cp311"}},
        )
