"""COCO-format files: what is read is what was written."""

import json
import warnings

import numpy as np
import pytest
import torch
from pycocotools import mask as rle
from pycocotools.coco import COCO
from small_coco import H, W, content, write

import mrcnn
from mrcnn.data import CocoDataset, Playground, report, write_coco
from mrcnn.data.annotations import run_lengths


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("playground")
    dataset = Playground(30, seed=2)
    seen = []
    write_coco(dataset, folder, on_picture=seen.append)
    assert seen == list(range(30))
    return dataset, folder


def test_round_trip_is_exact(written):
    playground, folder = written
    dataset = CocoDataset(folder / "images", folder / "instances.json", folder / "person_keypoints.json")
    for name in ("categories", "category_ids", "keypoint_names", "keypoint_flip", "skeleton", "keypoint_labels"):
        assert getattr(dataset, name) == getattr(playground, name), name
    assert dataset.sizes() == playground.sizes()
    for index in range(30):
        (image, target), (image2, target2) = playground[index], dataset[index]
        assert torch.equal(image, image2)
        assert target.keys() == target2.keys()
        assert target.pop("image_id") == target2.pop("image_id")
        for key, value in target.items():
            assert value.dtype == target2[key].dtype
            assert torch.equal(value, target2[key]), key


def test_pycocotools_reads_what_was_written(written, capsys):
    playground, folder = written
    instances, people = COCO(str(folder / "instances.json")), COCO(str(folder / "person_keypoints.json"))
    assert instances.getCatIds() == [1, 2, 3, 4, 5, 6]
    assert people.getCatIds() == [1]
    for index in range(30):
        _, target = playground[index]
        annotations = instances.loadAnns(instances.getAnnIds(index))
        assert [a["category_id"] for a in annotations] == target["labels"].tolist()
        for k, annotation in enumerate(annotations):
            assert np.array_equal(instances.annToMask(annotation), target["masks"][k].numpy())
            x, y, w, h = annotation["bbox"]
            assert [x, y, x + w, y + h] == target["boxes"][k].tolist()
            assert annotation["area"] == target["area"][k]
            if annotation["category_id"] == 1:
                keypoints = np.float32(people.anns[annotation["id"]]["keypoints"]).reshape(17, 3)
                assert np.array_equal(keypoints, target["keypoints"][k].numpy())
                assert people.anns[annotation["id"]]["num_keypoints"] == (keypoints[:, 2] > 0).sum()
    assert set(people.anns) == {i for i, a in instances.anns.items() if a["category_id"] == 1}


def test_ground_truth_for_evaluation(written):
    playground, folder = written
    dataset = CocoDataset(folder / "images", folder / "instances.json", folder / "person_keypoints.json")
    ours, theirs = playground.coco(), dataset.coco()
    assert ours["annotations"] == theirs["annotations"]
    assert ours["images"] == theirs["images"]
    assert ours["categories"] == theirs["categories"]


def test_masks_are_those_of_pycocotools(tmp_path, capsys):
    dataset, judge = CocoDataset(*write(tmp_path)), COCO(str(tmp_path / "a.json"))
    for index, ids in ((0, (101, 102)), (2, (103,))):
        masks = dataset[index][1]["masks"].numpy()
        for mask, number in zip(masks, ids, strict=False):
            assert np.array_equal(mask, judge.annToMask(judge.anns[number]))


def test_labels_boxes_and_what_is_missing(tmp_path):
    dataset = CocoDataset(*write(tmp_path))
    assert dataset.categories == ["background", "person", "dog"]
    assert dataset.category_ids == [0, 1, 18]
    assert dataset.keypoint_names == ["nose", "left_hand", "right_hand"]
    assert dataset.keypoint_flip == [0, 2, 1]
    assert dataset.skeleton == [(0, 1), (0, 2)]
    assert dataset.keypoint_labels == {1}
    assert dataset.sizes() == [(W, H)] * 3
    _, target = dataset[0]
    assert target["labels"].tolist() == [2, 1]
    assert target["boxes"].tolist() == [[4, 5, 20.5, 22.25], [10, 3, 30, 9]]
    assert target["area"].tolist() == [150.5, 120]
    assert target["keypoints"][0].tolist() == [[0, 0, 0]] * 3
    assert target["keypoints"][1].tolist() == [[12, 4, 2], [0, 0, 0], [20.5, 6.25, 1]]
    _, empty = dataset[1]
    assert empty["image_id"] == 8
    assert [tuple(empty[key].shape) for key in ("boxes", "labels", "masks", "keypoints", "area", "iscrowd")] == [
        (0, 4), (0,), (0, H, W), (0, 3, 3), (0,), (0,)
    ]  # fmt: skip
    _, target = dataset[2]
    assert target["iscrowd"].tolist() == [1, 0]
    assert target["boxes"][1].tolist() == [30, 20, 40, 30]  # clipped to the picture
    assert not target["masks"][1].any()  # no mask in the file
    assert target["area"].tolist() == [6, 900]
    truth = dataset.coco()["annotations"][3]
    assert truth["bbox"] == [30, 20, 30, 30]
    assert "segmentation" not in truth
    assert "keypoints" not in truth


def test_without_keypoints_there_is_no_such_key(tmp_path):
    whole = content(categories=[{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}])
    dataset = CocoDataset(*write(tmp_path, whole))
    assert (dataset.keypoint_names, dataset.keypoint_labels) == ([], set())
    assert "keypoints" not in dataset[0][1]


def test_keypoints_of_a_second_file(tmp_path):
    whole = content()
    keypoints = {key: json.loads(json.dumps(value)) for key, value in whole.items()}
    keypoints["annotations"] = [keypoints["annotations"][1]]
    keypoints["categories"] = [keypoints["categories"][1]]
    whole["categories"][1] = {"id": 1, "name": "person"}
    del whole["annotations"][1]["keypoints"]
    arguments = write(tmp_path, whole)
    (tmp_path / "k.json").write_text(json.dumps(keypoints))
    dataset = CocoDataset(*arguments, tmp_path / "k.json")
    assert dataset.keypoint_labels == {1}
    assert dataset[0][1]["keypoints"][1].tolist() == [[12, 4, 2], [0, 0, 0], [20.5, 6.25, 1]]
    assert dataset.coco()["categories"][0]["keypoints"] == dataset.keypoint_names
    faults = [
        ("annotations", {"id": 999}, "annotation 999: it is in the keypoint file only"),
        ("annotations", {"image_id": 8}, "annotation 102: the keypoint file has it in another"),
        ("annotations", {"id": [1]}, "in the keypoint file, annotation record number 0: it must have a whole number"),
        ("categories", {"id": {}}, "in the keypoint file, category record number 0: it must have a whole number"),
        ("categories", {"skeleton": 5}, "category 1: its skeleton must be pairs of keypoints from 1 to 3"),
    ]
    for kind, change, message in faults:
        (tmp_path / "k.json").write_text(json.dumps(keypoints | {kind: [keypoints[kind][0] | change]}))
        with pytest.raises(ValueError, match=message):
            CocoDataset(*arguments, tmp_path / "k.json")
    (tmp_path / "k.json").write_text(json.dumps(keypoints | {"annotations": keypoints["annotations"] * 2}))
    with pytest.raises(ValueError, match="in the keypoint file, annotation 102: there are two with this id"):
        CocoDataset(*arguments, tmp_path / "k.json")


def test_boxes_of_no_size_are_dropped_and_counted(tmp_path):
    whole = content()
    for k, bbox in enumerate(([5, 5, 0, 4], [5, 5, 4, 0], [50, 5, 5, 5], [5, 5, -3, 4])):
        whole["annotations"].append({"id": 200 + k, "image_id": 8, "category_id": 1, "bbox": bbox})
    with pytest.warns(UserWarning, match="no size are dropped: annotation 200, 201, 202, 203$"):
        dataset = CocoDataset(*write(tmp_path, whole))
    assert dataset.no_size == 4
    assert len(dataset[1][1]["labels"]) == 0
    assert len(dataset.coco()["annotations"]) == 4


@pytest.mark.parametrize("place", [(5, 5), (39.9, 29.9), (0, 0), (39.99999999, 5)])
@pytest.mark.parametrize("side", [1e-9, 1e-6, 1e-5, 1e-4, 1e-3])
def test_a_box_that_is_kept_has_a_size_in_float32(tmp_path, place, side):
    """However small it is and wherever it lies; also mirrored, and scaled as the model scales pictures."""
    whole = content()
    whole["annotations"].append({"id": 200, "image_id": 8, "category_id": 1, "bbox": [*place, side, side]})
    with warnings.catch_warnings(record=True) as said:
        dataset = CocoDataset(*write(tmp_path, whole))
    boxes = dataset[1][1]["boxes"]
    if not len(boxes):
        assert side < 1e-4 or place[0] > W - 1e-4
        assert "annotation 200" in str(said[0].message)
        return
    mirrored = W - boxes[:, [2, 1, 0, 3]] * torch.tensor([1, -1, 1, -1]) - torch.tensor([0, W, 0, W])
    for scale in (1.0, 0.3, 1 / 3, 17.77):
        for each in (boxes * scale, mirrored * scale):
            assert (each[:, 2:] > each[:, :2]).all()


def test_a_box_that_float32_rounds_to_none_does_not_stop_a_run(tmp_path):
    whole = content()
    for record in whole["annotations"]:
        record["bbox"][2:] = [1e-9, 1e-9]
    with pytest.warns(UserWarning, match="annotation 101, 102, 103, 104"):
        dataset = CocoDataset(*write(tmp_path, whole))
    model = mrcnn.playground_rcnn(num_classes=3, num_keypoints=3)
    images, targets = zip(*(dataset[k] for k in range(3)), strict=True)
    assert all(torch.isfinite(loss) for loss in model(list(images), list(targets)).values())


def test_category_zero_named_background_is_the_background(tmp_path):
    whole = content()
    whole["categories"].append({"id": 0, "name": "Background"})
    assert CocoDataset(*write(tmp_path, whole)).category_ids == [0, 1, 18]
    whole["annotations"][0]["category_id"] = 0
    with pytest.raises(ValueError, match="annotation 101: there is no category 0"):
        CocoDataset(*write(tmp_path, whole))
    whole = content()
    whole["categories"].append({"id": 0, "name": "cat"})  # an ordinary one that happens to be counted from 0
    assert CocoDataset(*write(tmp_path, whole)).categories == ["background", "cat", "person", "dog"]


def test_compressed_run_lengths():
    rng = np.random.default_rng(0)
    for density in (0.01, 0.3, 0.9):
        mask = np.asfortranarray(rng.random((37, 53)) < density).astype(np.uint8)
        flat = mask.flatten(order="F")
        changes = [0, *(np.flatnonzero(np.diff(flat)) + 1), len(flat)]
        expected = ([0] if flat[0] else []) + np.diff(changes).tolist()
        assert run_lengths(rle.encode(mask)["counts"].decode()) == expected


def test_report(tmp_path):
    whole = content()
    whole["annotations"].append({"id": 5, "image_id": 8, "category_id": 1, "bbox": [0, 0, 0, 0]})
    whole["annotations"].append({"id": 6, "image_id": 8, "category_id": 99, "bbox": [0, 0, 1, 1]})
    arguments = write(tmp_path, whole, pictures=2)
    found = report(*arguments)
    assert found.objects == {"person": 2, "dog": 2}
    assert (found.pictures, found.empty_pictures, found.crowds, found.without_mask) == (3, 1, 1, 1)
    assert (found.with_keypoints, found.no_size, found.small, found.medium, found.large) == (1, 1, 4, 0, 0)
    assert len(found.problems) == 2
    text = str(found)
    assert "annotation 6: there is no category 99" in text
    assert "image 9: " in text
    assert "1 boxes of no size inside their picture were dropped: annotation 5" in text
    assert len(found.dataset) == 2
