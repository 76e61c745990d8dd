"""What the lessons import: checks, kernels in notebook cells, pictures, and CUDA kernels run on the CPU.

from mrcnn import lab
from mrcnn.lab import check
%load_ext mrcnn.lab           the cell magics %%cuda and %%cpp
"""

from .check import check, whose
from .cuda import cpp, cuda, device, schedule
from .notebook import load_ipython_extension, show, timed
from .views.ap_slider import ap_slider
from .views.box_dragger import box_dragger
from .views.keypoint_dragger import keypoint_dragger
from .views.matching_dragger import matching_dragger
from .views.memory_slider import memory_slider
from .views.nms_dragger import nms_dragger
from .views.polygon_drawer import polygon_drawer
from .views.roi_dragger import roi_dragger
from .views.stepper import stepper

__all__ = [
    "ap_slider", "box_dragger", "check", "cpp", "cuda", "device", "keypoint_dragger", "load_ipython_extension",
    "matching_dragger", "memory_slider", "nms_dragger", "polygon_drawer", "roi_dragger", "schedule", "show",
    "stepper", "timed", "whose",
]  # fmt: skip
