"""Mask R-CNN from scratch: boxes, masks and keypoints in one forward pass, on hand-written C++ and CUDA ops."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

# OpenMP reads this when torch is imported, so import mrcnn before it: a thread that waits for another spins for some
# microseconds and then gives the processor up, so that on a busy machine the one that is waited for can have it.
# (Sleeping at once, as OMP_WAIT_POLICY=PASSIVE asks for, makes steps of training slower: there are thousands of such
# waits in one.)
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")

# Where each name comes from. Its module is imported when the name is first asked for.
_HOMES = {
    "MaskRCNN": "model",
    "ModelSettings": "model",
    "fasterrcnn_resnet50_fpn": "zoo",
    "fasterrcnn_resnet50_fpn_v2": "zoo",
    "jointrcnn_resnet50_fpn": "zoo",
    "keypointrcnn_resnet50_fpn": "zoo",
    "load_model": "zoo",
    "load_torchvision": "weights",
    "maskrcnn_resnet50_fpn": "zoo",
    "maskrcnn_resnet50_fpn_v2": "zoo",
    "maskrcnn_resnet101_fpn": "zoo",
    "playground_rcnn": "zoo",
    "to_torchvision": "weights",
}

__all__ = [*_HOMES, "ops"]


def __getattr__(name: str) -> Any:
    """Python asks here for what the package does not hold yet (PEP 562): one of the names above, or a module of its."""
    if name in _HOMES:
        value = globals()[name] = getattr(importlib.import_module(f"mrcnn.{_HOMES[name]}"), name)
        return value
    if not name.startswith("_") and importlib.util.find_spec(f"mrcnn.{name}"):
        return importlib.import_module(f"mrcnn.{name}")
    raise AttributeError(f"module 'mrcnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _is_the_command() -> bool:
    """Whether this program is `mrcnn` or `python -m mrcnn`, whose --help must not wait for torch."""
    return Path(sys.argv[0]).stem in ("mrcnn", "-m")  # Python calls a module "-m" until it has found it


if not _is_the_command():
    from mrcnn import ops  # registers torch.ops.mrcnn
