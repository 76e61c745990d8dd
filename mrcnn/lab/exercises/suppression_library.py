"""Non-maximum suppression, rung by rung: what the answers of its lesson are held against, and boxes to try them on.

Boxes come sorted, the best first, unless there are scores. A word is 64 bits of a row of the table "box i overlaps the
later box j", in an int64: bit b of word w is for j = 64 w + b.
"""

import torch
from torch import Tensor

from mrcnn import boxes as box_maths
from mrcnn import ops
from mrcnn.lab.cuda import device

WORD = 64


def overlap(a: list[float], b: list[float]) -> float:
    """IoU of two boxes [x1, y1, x2, y2], in plain numbers."""
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union else 0.0


def crowd(n: int, seed: int = 0) -> Tensor:
    """n boxes (n, 4) in heaps of about six, in no order of place. Boxes 0 and 1 have an IoU of exactly 0.5."""
    random = torch.Generator().manual_seed(seed)
    heaps = 60 + 200 * torch.rand(n // 6 + 1, 2, generator=random)
    centres = heaps[torch.randint(len(heaps), (n,), generator=random)] + 4 * torch.randn(n, 2, generator=random)
    halves = 12 + 6 * torch.rand(n, 2, generator=random)
    boxes = torch.cat([centres - halves, centres + halves], dim=1)
    boxes[:2] = torch.tensor([[0.0, 0, 20, 10], [0, 0, 10, 10]])[:n]
    return boxes.to(device())


def greedy(boxes: list[list[float]], scores: list[float], threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(overlap(boxes[k], boxes[i]) <= threshold for k in kept):
            kept.append(i)
    return kept


def overlap_matrix(boxes: Tensor, threshold: float) -> Tensor:
    return (box_maths.iou(boxes, boxes) > threshold).triu(1)


def scan_rows(overlaps: Tensor) -> Tensor:
    overlaps = overlaps.bool()
    dropped, kept = torch.zeros_like(overlaps[0]), []
    for i in range(len(overlaps)):
        if not dropped[i]:
            kept.append(i)
            dropped |= overlaps[i]
    return torch.tensor(kept, device=overlaps.device)


def sorted_nms(boxes: Tensor, threshold: float) -> Tensor:
    return ops.nms(boxes, falling(boxes), threshold)


def falling(boxes: Tensor) -> Tensor:
    """Scores for boxes that are sorted already."""
    return -torch.arange(len(boxes), device=boxes.device, dtype=torch.float64)


def pack(bits: list[bool]) -> int:
    return sum(1 << b for b, bit in enumerate(bits) if bit)


def words_of(overlaps: Tensor) -> Tensor:
    """A table (n, m) of bits as words: int64 (n, m / 64, rounded up)."""
    n, m = overlaps.shape
    bits = overlaps.new_zeros(n, -(-m // WORD) * WORD, dtype=torch.int64)
    bits[:, :m] = overlaps
    return (bits.view(n, -1, WORD) << torch.arange(WORD, device=bits.device)).sum(2)


def bits_of(words: Tensor) -> Tensor:
    """And back: bool (n, 64 times the words)."""
    return (words[:, :, None] >> torch.arange(WORD, device=words.device) & 1).bool().flatten(1)


def mask_words(boxes: Tensor, threshold: float) -> Tensor:
    return words_of(overlap_matrix(boxes, threshold))


def scan_words(words: Tensor) -> Tensor:
    return scan_rows(bits_of(words)[:, : len(words)])


def resolve(overlaps: Tensor) -> tuple[Tensor, int]:
    kept = torch.ones_like(overlaps[0])
    rounds = 0
    while not torch.equal(asked := ~(overlaps & kept[:, None]).any(0), kept):
        kept, rounds = asked, rounds + 1
    return kept, rounds


def soft_nms(boxes: Tensor, scores: Tensor, sigma: float) -> Tensor:
    scores, left = scores.clone(), torch.ones_like(scores, dtype=torch.bool)
    for _ in range(len(scores)):
        best = scores.where(left, -torch.inf).argmax()
        left[best] = False
        decay = torch.exp(-(box_maths.iou(boxes[best : best + 1], boxes)[0] ** 2) / sigma)
        scores = torch.where(left, scores * decay, scores)
    return scores


def mask_iou(masks: Tensor) -> Tensor:
    flat = masks.flatten(1).float()
    inter = flat @ flat.T
    area = flat.sum(1)
    return inter / (area[:, None] + area[None, :] - inter)
