"""Boxes for exercises to be tried on, how much two of them overlap said in the plainest way, and tables as bits."""

import torch
from torch import Tensor

__all__ = ["bits_of", "crowd", "falling", "overlap", "random_boxes", "words_of"]


def overlap(a: list[float], b: list[float]) -> float:
    """IoU of two boxes [x1, y1, x2, y2], in plain numbers."""
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union else 0.0


def random_boxes(n: int, seed: int, side: float = 100.0) -> Tensor:
    """n boxes (n, 4) of all sizes and shapes in a square picture."""
    random = torch.Generator().manual_seed(seed)
    centres = side * torch.rand(n, 2, generator=random)
    halves = side * (0.03 + 0.15 * torch.rand(n, 2, generator=random))
    return torch.cat([centres - halves, centres + halves], dim=1)


def crowd(n: int, seed: int = 0) -> Tensor:
    """n boxes (n, 4) in heaps of about six, in no order of place. Boxes 0 and 1 have an IoU of exactly 0.5."""
    random = torch.Generator().manual_seed(seed)
    heaps = 60 + 200 * torch.rand(n // 6 + 1, 2, generator=random)
    centres = heaps[torch.randint(len(heaps), (n,), generator=random)] + 4 * torch.randn(n, 2, generator=random)
    halves = 12 + 6 * torch.rand(n, 2, generator=random)
    boxes = torch.cat([centres - halves, centres + halves], dim=1)
    boxes[:2] = torch.tensor([[0.0, 0, 20, 10], [0, 0, 10, 10]])[:n]
    return boxes


def falling(boxes: Tensor) -> Tensor:
    """Scores for boxes that are sorted already."""
    return -torch.arange(len(boxes), device=boxes.device, dtype=torch.float64)


def words_of(overlaps: Tensor) -> Tensor:
    """A table (n, m) of bits as words: int64 (n, m / 64, rounded up). Bit b of word w is for column 64 w + b."""
    n, m = overlaps.shape
    bits = overlaps.new_zeros(n, -(-m // 64) * 64, dtype=torch.int64)
    bits[:, :m] = overlaps
    return (bits.view(n, -1, 64) << torch.arange(64, device=bits.device)).sum(2)


def bits_of(words: Tensor) -> Tensor:
    """And back: bool (n, 64 times the words)."""
    return (words[:, :, None] >> torch.arange(64, device=words.device) & 1).bool().flatten(1)
