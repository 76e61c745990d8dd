"""The ops: RoIAlign, non-maximum suppression, anchor matching.

Each exists as plain PyTorch (`reference.py`), as C++ for the CPU, as CUDA kernels, and as those same CUDA kernels run
on the CPU ("emulated"); all agree, and `use_backend` chooses. The kernels live in `csrc/`, one folder per op.
"""

from .backend import built, use_backend
from .matching import match_anchors
from .pooling import roi_align
from .suppression import batched_nms, nms

__all__ = ["batched_nms", "built", "match_anchors", "nms", "roi_align", "use_backend"]
