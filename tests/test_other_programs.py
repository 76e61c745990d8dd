"""What README says of other programs: their own converters bring labels to COCO's format, and read our results."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as mask_codec
from test_cli import run

import mrcnn
from mrcnn.data import CocoDataset, Playground

POLYGON = [(10, 20), (50, 20), (50, 60), (10, 60)]  # a square of 40 pixels in a picture of 100 × 80


@pytest.fixture
def folder(tmp_path):
    """Two pictures; the first will have the polygon as its only label."""
    (tmp_path / "images").mkdir()
    for name in ("first", "second"):
        Image.new("RGB", (100, 80)).save(tmp_path / "images" / f"{name}.jpg")
    return tmp_path


def assert_the_square_is_there(images, annotations):
    dataset = CocoDataset(images, annotations)
    targets = [dataset[place][1] for place in range(len(dataset))]
    (target,) = [each for each in targets if len(each["boxes"])]
    torch.testing.assert_close(target["boxes"], torch.tensor([[10.0, 20, 50, 60]]), rtol=0, atol=1)
    assert target["masks"].sum().item() == pytest.approx(1600, abs=90)  # a rim of a pixel is a matter of taste
    assert dataset.categories[int(target["labels"][0])] == "square"


def test_yolo_by_supervision(folder):
    sv = pytest.importorskip("supervision", reason="supervision is not installed")
    (folder / "labels").mkdir()
    corners = " ".join(f"{x / 100} {y / 80}" for x, y in POLYGON)
    (folder / "labels" / "first.txt").write_text(f"0 {corners}\n")
    (folder / "labels" / "second.txt").write_text("")
    (folder / "data.yaml").write_text("names: [square]\nnc: 1\n")
    dataset = sv.DetectionDataset.from_yolo(
        str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml"), force_masks=True
    )
    dataset.as_coco(annotations_path=str(folder / "instances.json"))
    assert_the_square_is_there(folder / "images", folder / "instances.json")


def test_labelme_by_labelme2coco(folder, monkeypatch):
    """Called in the folder above the pictures, for it writes their paths as it was given them."""
    convert = pytest.importorskip("labelme2coco", reason="labelme2coco is not installed").convert
    for name in ("first", "second"):
        shapes = [{"label": "square", "points": POLYGON, "shape_type": "polygon"}] if name == "first" else []
        record = {
            "version": "5.0.1",
            "imagePath": f"{name}.jpg",
            "imageHeight": 80,
            "imageWidth": 100,
            "shapes": shapes,
        }
        (folder / "images" / f"{name}.json").write_text(json.dumps(record | {"flags": {}, "imageData": None}))
    monkeypatch.chdir(folder)
    convert("images", "out")
    assert_the_square_is_there(folder, folder / "out" / "dataset.json")


def test_results_go_to_supervision():
    sv = pytest.importorskip("supervision", reason="supervision is not installed")
    model = mrcnn.playground_rcnn(pretrained=True)
    image, _ = Playground(1, seed=5)[0]
    with torch.inference_mode():
        found = model([image])[0]
    names = dict(enumerate(model.labels["categories"]))
    read = sv.Detections.from_transformers(found | {"masks": found["masks"] > 0.5}, names)
    assert len(read) == len(found["boxes"]) > 3
    assert torch.equal(torch.from_numpy(read.xyxy), found["boxes"])
    assert torch.equal(torch.from_numpy(read.mask), found["masks"][:, 0] > 0.5)
    assert list(read.data["class_name"]) == [names[label] for label in found["labels"].tolist()]


class Samples:
    """As much of a FiftyOne data set as `add_coco_labels` asks of one: a real one needs a MongoDB server."""

    def __init__(self, read):
        metadata = {"metadata.width": "width", "metadata.height": "height"}
        self.columns = {field: [sample[1][name] for sample in read] for field, name in metadata.items()}
        self.columns |= {"coco_id": [sample[2]["coco_id"] for sample in read], "id": list(range(len(read)))}

    def values(self, fields):
        return [self.columns[field] for field in fields]

    def select(self, ids, ordered):
        assert ordered
        assert ids == self.columns["id"], "something is found in every scene"
        return self

    def compute_metadata(self):
        pass

    def set_values(self, field, labels):
        self.columns[field] = labels


def test_results_of_eval_go_to_fiftyone(tmp_path, monkeypatch):
    monkeypatch.setenv("FIFTYONE_DO_NOT_TRACK", "true")
    coco = pytest.importorskip("fiftyone.utils.coco", reason="fiftyone is not installed")
    assert run("playground", "--out", tmp_path, "--images", 3, "--seed", 5) == 0
    data = ["--data", tmp_path / "images", "--annotations", tmp_path / "instances.json"]
    assert run("eval", "--weights", "playground", *data, "--report", tmp_path / "report") == 0
    results = json.loads((tmp_path / "report" / "results.json").read_text())

    importer = coco.COCODetectionDatasetImporter(
        data_path=str(tmp_path / "images"), labels_path=str(tmp_path / "instances.json"), include_id=True
    )
    with importer:
        samples, categories = Samples(list(importer)), importer.get_dataset_info()["categories"]
    for kind in ("detections", "segmentations", "keypoints"):
        path = str(tmp_path / "report" / "results.json")
        coco.add_coco_labels(samples, kind, path, categories, label_type=kind, coco_id_field="coco_id")

    names = {category["id"]: category["name"] for category in categories}
    assert len(samples.columns["coco_id"]) == 3
    for place, number in enumerate(samples.columns["coco_id"]):
        ours = [entry for entry in results if entry["image_id"] == number]
        boxes = samples.columns["detections"][place].detections
        assert [box.label for box in boxes] == [names[entry["category_id"]] for entry in ours]
        assert [box.confidence for box in boxes] == [entry["score"] for entry in ours]
        assert np.multiply([box.bounding_box for box in boxes], 128) == pytest.approx(
            np.array([entry["bbox"] for entry in ours])
        )
        for mask, entry in zip(samples.columns["segmentations"][place].detections, ours, strict=True):
            x, y, width, height = entry["bbox"]
            whole = mask_codec.decode(entry["segmentation"])
            inside = whole[round(y) : round(y + height), round(x) : round(x + width)]
            assert np.array_equal(mask.mask, inside.astype(bool))
        posed = [entry["keypoints"] for entry in ours if "keypoints" in entry]
        points = [pose.points for pose in samples.columns["keypoints"][place].keypoints]
        assert np.multiply(points, 128) == pytest.approx(np.reshape(posed, (-1, 17, 3))[..., :2])
