"""pycocotools' own answers to one step of an evaluation at a time. Its judge is given IoUs in place of boxes."""

import contextlib
import io
from collections.abc import Sequence

import numpy as np
import torch
from pycocotools import mask as rle
from pycocotools.cocoeval import COCOeval
from torch import Tensor

Pictures = Sequence[tuple[Tensor, Tensor]]  # of each: scores (D,), falling, and IoUs (D, G)


def judged(
    pictures: Pictures, threshold: float, crowd: Sequence | None = None, ignored: Sequence | None = None
) -> COCOeval:
    """pycocotools at work on pictures at one threshold of IoU. crowd, ignored: G times yes or no, for each picture."""
    judge = COCOeval()
    judge.params.iouThrs, judge.params.areaRng, judge.params.maxDets = np.array([threshold]), [[0, 1e10]], [100]
    judge.params.imgIds, judge.params.catIds = list(range(len(pictures))), [1]
    for image, (scores, ious) in enumerate(pictures):
        no = [0] * ious.shape[1]
        kinds = enumerate(zip(crowd or no, ignored or no, strict=True))
        judge._gts[image, 1] = [{"id": g + 1, "area": 1, "iscrowd": c, "ignore": i} for g, (c, i) in kinds]
        judge._dts[image, 1] = [{"id": d + 1, "area": 1, "score": score} for d, score in enumerate(scores.tolist())]
        judge.ious[image, 1] = ious.double().numpy()
    judge.evalImgs = [judge.evaluateImg(image, 1, [0, 1e10], 100) for image in judge.params.imgIds]
    judge._paramsEval = judge.params
    return judge


def fates(ious: Tensor, threshold: float, *flags: Sequence) -> list[int]:
    """Of each detection of one picture, from IoUs (D, G), the best score first: 1 a hit, 0 false, -1 not counted.

    flags: crowd and ignored, as `judged` takes them.
    """
    found = _one_picture(ious, threshold, *flags)
    return [-1 if skip else int(yes > 0) for yes, skip in zip(found["dtMatches"][0], found["dtIgnore"][0], strict=True)]


def matches(ious: Tensor, threshold: float) -> list[int]:
    """Which object each detection of one picture finds, from IoUs (D, G), the best score first; -1: none."""
    found = _one_picture(ious, threshold)
    return [int(number) - 1 for number in found["dtMatches"][0]] if found else []


def _one_picture(ious: Tensor, threshold: float, *flags: Sequence) -> dict | None:
    scores = torch.arange(len(ious), 0, -1).double()
    return judged([(scores, ious)], threshold, *flags).evalImgs[0]


def precisions(pictures: Pictures, threshold: float, points: Tensor) -> Tensor:
    """Its precisions at `points` (P,) of recall, over all pictures: float64 (P,)."""
    if not pictures:
        return torch.full_like(points, -1)
    judge = judged(pictures, threshold)
    judge.params.recThrs = points.numpy()
    with contextlib.redirect_stdout(io.StringIO()):
        judge.accumulate()
    return torch.from_numpy(judge.eval["precision"][0, :, 0, 0, 0].copy())


def mask_ious(found: Tensor, truth: Tensor) -> Tensor:
    """IoUs (D, G) of masks (D, H, W) and (G, H, W), by their run lengths."""
    codes = [rle.encode(np.asfortranarray(each.numpy().astype(np.uint8).transpose(1, 2, 0))) for each in (found, truth)]
    return torch.from_numpy(np.asarray(rle.iou(*codes, [0] * len(truth)))).view(len(found), len(truth))
