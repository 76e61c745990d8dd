"""Settings for all tests."""

import sys

import matplotlib
import torch

matplotlib.use("Agg")
torch.manual_seed(0)

try:
    import torchvision  # noqa: F401
except ImportError:
    pass  # pytest.importorskip says so where it is needed
except RuntimeError:
    # Installed, but its compiled ops do not fit this torch (a CPU-only one, say): as good as not installed.
    sys.modules["torchvision"] = None
