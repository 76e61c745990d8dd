"""Settings for all tests."""

import os
import sys

# Tests share the machine: a thread that waits for another must not keep a core busy. Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import matplotlib
import torch

LONG = ("test_export.py", "test_lesson_runs.py")

matplotlib.use("Agg")
torch.manual_seed(0)

try:
    import torchvision  # noqa: F401
except ImportError:
    pass  # pytest.importorskip says so where it is needed
except RuntimeError:
    # Installed, but its compiled ops do not fit this torch (a CPU-only one, say): as good as not installed.
    sys.modules["torchvision"] = None


def pytest_collection_modifyitems(items):
    """Files that take minutes are begun first: of processes that share the tests none is left with one at the end."""
    items.sort(key=lambda item: item.path.name not in LONG)
