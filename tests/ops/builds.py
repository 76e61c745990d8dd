"""What tests need in order to build the ops themselves: setup.py as a module, and the files of each library."""

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


def load_setup() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mrcnn_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cpu_kernels() -> list[str]:
    return [str(path) for path in (ROOT / "csrc" / "cpu.cpp", *sorted(ROOT.glob("csrc/*/*_cpu.cpp")))]


def emulated_kernels() -> list[str]:
    return [str(path) for path in sorted(ROOT.glob("csrc/cuda_on_cpu/*.cpp"))]
