"""COCO metrics, against numbers worked out by hand and against pycocotools used by hand."""

import contextlib
import io

import numpy as np
import pytest
import torch
from fakes import HandMade, Oracle, truth_as_results
from pycocotools import mask as mask_codec
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mrcnn.data import labels_of
from mrcnn.engine.evaluate import encode_mask, evaluate, gather_detections, score, to_coco

PERSON, BALL = 1, 2
SCENES = [
    [(PERSON, [4, 4, 40, 60], 0), (BALL, [50, 10, 90, 50], 0)],
    [(BALL, [10, 20, 30, 40], 0)],
    [],
    [(PERSON, [0, 0, 50, 50], 0), (PERSON, [52, 2, 90, 60], 0)],
]


def some(result: dict, rows: list[int]) -> dict:
    return {name: value[rows] for name, value in result.items()}


@pytest.fixture
def dataset():
    return HandMade(SCENES)


def answers(dataset):
    return [truth_as_results(dataset[i][1]) for i in range(len(dataset))]


def test_perfect_predictions_have_an_ap_of_one(dataset, capfd):
    metrics = evaluate(Oracle(answers(dataset)), dataset, batch_size=3)
    assert set(metrics) == {"bbox", "segm", "keypoints"}
    for kind in metrics:
        assert metrics[kind]["AP"] == metrics[kind]["AP50"] == metrics[kind]["AR"] == pytest.approx(1.0), kind
    assert capfd.readouterr() == ("", ""), "pycocotools must not print"


@pytest.mark.parametrize("first", [0, -3, 2**62])
def test_ids_of_objects_are_names_only(first, dataset, monkeypatch):
    """pycocotools takes an object with the id 0 for none; many programs count from 0."""
    truth = dataset.coco()
    truth["annotations"] = [one | {"id": first + place} for place, one in enumerate(truth["annotations"])]
    monkeypatch.setattr(dataset, "coco", lambda: truth)
    metrics = evaluate(Oracle(answers(dataset)), dataset, batch_size=3)
    for kind in metrics:
        assert metrics[kind]["AP"] == metrics[kind]["AR"] == pytest.approx(1.0), kind


def test_a_precision_worked_out_by_hand():
    """Two balls. Found in the order of scores: one right, one wrong, one right.

    Precision is 1 up to recall 1/2 and 2/3 up to recall 1. COCO reads it at 101 recalls, 0, 0.01, …, 1: 51 of them
    are at most 1/2. So AP = (51 · 1 + 50 · 2/3) / 101, at every IoU threshold, as both boxes fit exactly.
    """
    dataset = HandMade([[(BALL, [0, 0, 40, 40], 0), (BALL, [50, 0, 90, 40], 0)]])
    right = truth_as_results(dataset[0][1])
    result = {
        "boxes": torch.cat([right["boxes"], torch.tensor([[0.0, 45.0, 20.0, 60.0]])]),
        "labels": torch.tensor([BALL] * 3),
        "scores": torch.tensor([0.9, 0.5, 0.7]),
    }
    metrics = evaluate(Oracle([result]), dataset)
    assert set(metrics) == {"bbox"}, "only what the model predicts"
    assert metrics["bbox"]["AP"] == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-9)


def test_iou_thresholds_worked_out_by_hand():
    """The box found covers 72 of the ball's 100 columns and nothing else: IoU 0.72 passes 0.50, 0.55, …, 0.70."""
    dataset = HandMade([[(BALL, [0, 0, 100, 50], 0)]], size=(64, 128))
    result = {"boxes": torch.tensor([[0.0, 0, 72, 50]]), "labels": torch.tensor([BALL]), "scores": torch.tensor([0.8])}
    metrics = evaluate(Oracle([result]), dataset)["bbox"]
    assert metrics["AP"] == pytest.approx(0.5)
    assert metrics["AP50"] == pytest.approx(1.0)
    assert metrics["AP75"] == pytest.approx(0.0)
    assert metrics["APs"] == -1, "there is no small ground truth"


def test_equals_pycocotools_used_by_hand(dataset):
    """Shifted, dropped and doubled predictions, once through evaluate, once written out for pycocotools."""
    generator = torch.Generator().manual_seed(3)
    told = []
    for result in answers(dataset):
        rows = [0, 0, *range(len(result["labels"]))] if len(result["labels"]) else []
        result = some(result, rows)
        result["boxes"] = result["boxes"] + torch.rand(result["boxes"].shape, generator=generator) * 6
        result["scores"] = torch.rand(len(rows), generator=generator)
        result["masks"] = result["masks"].roll(3, -1)
        result["keypoints"] = result["keypoints"] + torch.rand(result["keypoints"].shape, generator=generator) * 6
        told.append(result)
    metrics = evaluate(Oracle(told), dataset, batch_size=2)

    entries = {"bbox": [], "segm": [], "keypoints": []}
    for index, result in enumerate(told):
        for row in range(len(result["labels"])):
            label = int(result["labels"][row])
            entry = {
                "image_id": 100 + index,
                "category_id": {1: 7, 2: 12}[label],
                "score": float(result["scores"][row]),
            }
            x1, y1, x2, y2 = (float(v) for v in result["boxes"][row])
            entries["bbox"].append({**entry, "bbox": [x1, y1, x2 - x1, y2 - y1]})
            mask = np.asfortranarray((result["masks"][row, 0] > 0.5).numpy().astype(np.uint8))
            entries["segm"].append({**entry, "segmentation": mask_codec.encode(mask)})
            if label == PERSON:
                keypoints = [float(v) for v in result["keypoints"][row].flatten()]
                entries["keypoints"].append({**entry, "keypoints": keypoints})
    for kind, found in entries.items():
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = {"info": {}, **dataset.coco()}
            truth.createIndex()
            judge = COCOeval(truth, truth.loadRes(found), kind)
            if kind == "keypoints":
                judge.params.catIds = [7]
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        assert 0 < metrics[kind]["AP"] < 1
        # Boxes go through float32 on both sides: no difference is allowed.
        assert list(metrics[kind].values()) == judge.stats.tolist(), kind


def test_a_crowd_is_neither_found_nor_missed():
    dataset = HandMade([[(BALL, [0, 0, 20, 20], 0), (BALL, [30, 0, 90, 60], 1)]])
    result = truth_as_results(dataset[0][1])
    only_ball = some(result, [0])
    inside_crowd = {name: value[[0, 0, 0]].clone() for name, value in result.items()}
    inside_crowd["boxes"][1:] = torch.tensor([[32.0, 2, 50, 20], [60, 30, 80, 50]])
    inside_crowd["masks"][1:] = 0
    inside_crowd["masks"][1, :, 2:20, 32:50] = 1
    inside_crowd["masks"][2, :, 30:50, 60:80] = 1
    inside_crowd["scores"] = torch.tensor([0.5, 0.9, 0.8])
    for told in (only_ball, inside_crowd):
        metrics = evaluate(Oracle([told]), dataset)
        assert metrics["bbox"]["AP"] == metrics["segm"]["AP"] == pytest.approx(1.0)


def test_keypoints_are_kept_for_labels_that_have_them(dataset):
    found = gather_detections(Oracle(answers(dataset)), dataset)
    assert len(found["bbox"]) == 5
    assert len(found["keypoints"]) == 3
    assert {entry["category_id"] for entry in found["keypoints"]} == {7}


def test_only_what_is_annotated_is_measured(dataset):
    truth = dataset.coco()
    for annotation in truth["annotations"]:
        for name in ("segmentation", "keypoints", "num_keypoints"):
            annotation.pop(name, None)
    assert set(score(truth, gather_detections(Oracle(answers(dataset)), dataset))) == {"bbox"}


def test_an_object_without_a_mask_counts_neither_way(dataset):
    truth = dataset.coco()
    del truth["annotations"][0]["segmentation"]
    before = repr(truth)
    found = gather_detections(Oracle(answers(dataset)), dataset)
    assert score(truth, found)["segm"]["AP"] == pytest.approx(1.0)
    found["segm"] = found["segm"][1:]  # not finding it is no miss
    assert score(truth, found)["segm"]["AP"] == pytest.approx(1.0)
    assert repr(truth) == before, "the caller's ground truth must not be written into"


def test_a_person_without_keypoints_counts_neither_way(dataset):
    truth = dataset.coco()
    del truth["annotations"][0]["keypoints"], truth["annotations"][0]["num_keypoints"]
    assert score(truth, gather_detections(Oracle(answers(dataset)), dataset))["keypoints"]["AP"] == pytest.approx(1.0)


def test_other_numbers_of_keypoints():
    """Five keypoints instead of COCO's 17: pycocotools alone would fail on the shapes."""

    class Five(HandMade):
        def __getitem__(self, index):
            image, target = super().__getitem__(index)
            return image, target | {"keypoints": target["keypoints"][:, :5]}

    dataset = Five(SCENES)
    assert evaluate(Oracle(answers(dataset)), dataset)["keypoints"]["AP"] == pytest.approx(1.0)


def test_nothing_found_scores_zero(dataset):
    nothing = [some(result, []) for result in answers(dataset)]
    metrics = evaluate(Oracle(nothing), dataset)
    assert {kind: values["AP"] for kind, values in metrics.items()} == {"bbox": 0.0, "segm": 0.0, "keypoints": 0.0}


def test_pictures_without_ground_truth_have_no_metrics():
    assert (
        evaluate(Oracle([{k: v[:0] for k, v in truth_as_results(HandMade(SCENES)[0][1]).items()}]), HandMade([[]]))
        == {}
    )


def test_masks_survive_their_encoding():
    masks = torch.rand(3, 17, 23, generator=torch.Generator().manual_seed(0)) > 0.6
    codes = [encode_mask(mask) for mask in masks]
    assert all(isinstance(code["counts"], str) for code in codes)
    decoded = mask_codec.decode([{**code, "counts": code["counts"].encode()} for code in codes])
    assert torch.equal(torch.from_numpy(decoded).permute(2, 0, 1).bool(), masks)


def test_masks_are_cut_above_a_half(dataset):
    """What is more likely than not belongs to the object: a half does not."""
    result = truth_as_results(dataset[0][1])
    row = torch.tensor([0.0, 0.4, 0.5, 0.501, 0.6, 1.0])
    result["masks"] = row.expand(len(result["labels"]), 1, 2, 6)
    for entry in to_coco(result, 0, labels_of(dataset))["segm"]:
        code = entry["segmentation"]
        assert mask_codec.decode({**code, "counts": code["counts"].encode()}).tolist() == [[0, 0, 0, 1, 1, 1]] * 2


def test_model_keeps_its_mode(dataset):
    model = Oracle(answers(dataset)).train()
    evaluate(model, dataset)
    assert model.training


def test_each_part_of_a_model_keeps_its_mode(dataset):
    """A batch norm that is frozen is in evaluation mode while the rest trains; an evaluation leaves it so."""
    model = Oracle(answers(dataset)).train()
    model.norm = torch.nn.BatchNorm2d(3).eval()
    evaluate(model, dataset)
    assert (model.training, model.norm.training) == (True, False)
    model.forward = None
    with pytest.raises(TypeError):
        evaluate(model, dataset)
    assert (model.training, model.norm.training) == (True, False), "also where it fails"


def test_boxes_become_corner_and_size(dataset):
    entry = to_coco(truth_as_results(dataset[0][1]), 5, labels_of(dataset))["bbox"][1]
    assert entry == {"image_id": 5, "category_id": 12, "score": pytest.approx(0.9), "bbox": [50.0, 10.0, 40.0, 40.0]}


def test_categories_are_matched_by_name(dataset):
    """A model that counts its labels in another way, and knows a category that the data set does not have."""
    told = answers(dataset)
    for result in told:
        result["labels"] = 3 - result["labels"]  # 1 is the ball, 2 the person
    told[2] = {name: value[:1].clone() for name, value in told[0].items()}
    told[2]["labels"][:] = 3  # a kite where there is nothing
    model = Oracle(told)
    model.labels = {"categories": ["background", "ball", "person", "kite"], "keypoint_labels": [2]}
    metrics = evaluate(model, dataset)
    assert {kind: values["AP"] for kind, values in metrics.items()} == pytest.approx(
        {"bbox": 1.0, "segm": 1.0, "keypoints": 1.0}
    )
    found = gather_detections(model, dataset)
    assert {entry["category_id"] for entry in found["bbox"]} == {7, 12}, "the kite has no number here"
    model.labels = {"categories": ["background", "kite"], "keypoint_labels": []}
    with pytest.raises(ValueError, match=r"knows kite.*has person, ball.*no category in common"):
        evaluate(model, dataset)
