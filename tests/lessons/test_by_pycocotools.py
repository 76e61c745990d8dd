"""pycocotools asked for one step at a time says what it says of a whole data set; and the curve that lessons draw."""

import numpy as np
import pytest
import torch

from mrcnn import boxes as box_maths
from mrcnn.engine.evaluate import score
from mrcnn.lab import by_pycocotools
from mrcnn.lab.cases import crowd
from mrcnn.lab.views.pictures import page
from mrcnn.lab.views.precision_recall import draw_precision_recall

POINTS = torch.from_numpy(np.linspace(0, 1, 101))


def record(picture, box, **more):
    x1, y1, x2, y2 = box.tolist()
    return {"image_id": picture, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": 1000.0} | more


@pytest.fixture
def pictures():
    """Of three pictures, true boxes (5, 4) and found ones (8, 4), heaps with much overlap; and scores."""
    random = torch.Generator().manual_seed(0)
    made = []
    for seed in range(3):
        boxes = crowd(13, seed).double()
        made.append((boxes[:5], boxes[5:], torch.rand(8, generator=random).sort(descending=True).values.double()))
    return made


def test_precisions_are_those_of_the_whole(pictures):
    tables = [(scores, box_maths.iou(found, truth)) for truth, found, scores in pictures]
    annotations = [record(p, box, iscrowd=0) for p, (truth, *_) in enumerate(pictures) for box in truth]
    ground_truth = {
        "images": [{"id": p} for p in range(3)],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [each | {"id": i} for i, each in enumerate(annotations, 1)],
    }
    found = [
        record(p, box, score=at)
        for p, (_, boxes, scores) in enumerate(pictures)
        for box, at in zip(boxes, scores.tolist(), strict=True)
    ]
    whole = score(ground_truth, {"bbox": found})["bbox"]
    assert 0 < whole["AP50"] < 1
    assert by_pycocotools.precisions(tables, 0.5, POINTS).numpy().mean() == whole["AP50"]
    assert by_pycocotools.precisions([], 0.5, POINTS).tolist() == [-1] * 101


def test_one_picture():
    ious = torch.tensor([[0.75, 0.5], [0.875, 0.25], [0.0, 0.6]])
    assert by_pycocotools.matches(ious, 0.5) == [0, -1, 1]
    assert by_pycocotools.matches(ious[:0], 0.5) == []
    assert by_pycocotools.fates(ious, 0.5, [False, False], [False, False]) == [1, 0, 1]
    assert by_pycocotools.fates(ious, 0.5, [True, False], [True, False]) == [1, -1, 0]  # 0 takes the one that counts


def test_mask_ious():
    masks = torch.zeros(3, 4, 6, dtype=torch.bool)
    masks[0, :, :3] = True
    masks[1, :, 1:4] = True
    assert by_pycocotools.mask_ious(masks, masks[:2]).tolist() == [[1, 0.5], [0.5, 1], [0, 0]]


def test_draw_precision_recall():
    axes = page(3, 3).subplots()
    draw_precision_recall(axes, [1, 0.5, 2 / 3], [0.5, 0.5, 1], [True, False, True], (POINTS, POINTS))
    assert [text.get_text() for text in axes.texts] == ["1", "2", "3"]
    assert [line.get_marker() for line in axes.lines[2:]] == ["o", "X", "o"]
