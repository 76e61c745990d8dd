"""docs/try/build.py as a module, `build`; film.py beside it can be imported then.

Who imports this is skipped where something is missing.
"""

import importlib.util
import sys
from pathlib import Path

import pytest

for module in ("onnx", "onnxruntime", "onnxscript", "selenium", "skimage"):
    pytest.importorskip(module, reason=f"{module} is not installed")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "try"


def load_build():
    sys.path.insert(0, str(PAGE))  # for film.py beside it
    spec = importlib.util.spec_from_file_location("build_try", PAGE / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = load_build()
