"""Mask R-CNN from scratch: boxes, masks and keypoints in one forward pass, on hand-written C++ and CUDA ops."""
