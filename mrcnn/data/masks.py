"""What follows from a mask."""

import numpy as np


def tight_boxes(masks: np.ndarray) -> np.ndarray:
    """Boxes (K, 4) float32 around masks (K, H, W): x1 y1 of the first pixel, x2 y2 one past the last. Empty: zeros."""
    boxes = np.zeros((len(masks), 4), dtype=np.float32)
    for axis, line in ((0, masks.any(1)), (1, masks.any(2))):  # columns (K, W), rows (K, H)
        boxes[:, axis] = line.argmax(1)
        boxes[:, axis + 2] = line.shape[1] - line[:, ::-1].argmax(1)
    boxes[~masks.any((1, 2))] = 0
    return boxes
