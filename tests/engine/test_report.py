"""What `mrcnn eval --report` counts and leaves, against loops, pycocotools, supervision and small cases by hand."""

import contextlib
import csv
import io
import json
import random

import numpy as np
import pytest
import torch
from fakes import HandMade, Oracle, truth_as_results
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mrcnn.engine.evaluate import gather_detections, judge
from mrcnn.engine.report import (
    category_lines,
    category_rows,
    confusion,
    csv_text,
    draw_worst,
    f1,
    in_labels_of,
    pair_pictures,
    worst_first,
    write_report,
)

PERSON, BALL = 1, 2
DASH = "\N{EN DASH}"
FILES = {
    "metrics.json", "categories.csv", "confusion.png", "precision_recall.png", "worst.png",
    "results.json", "results_segm.json", "results_keypoints.json",
}  # fmt: skip


class ThreeKinds(HandMade):
    """Persons, balls, and a category of which there is nothing."""

    categories = ["background", "person", "ball", "kite"]  # noqa: RUF012
    category_ids = [0, 7, 12, 30]  # noqa: RUF012


def told(*detections: tuple[int, list[float], float]) -> dict[str, torch.Tensor]:
    """A model's answer from (label, box, score)."""
    return {
        "boxes": torch.tensor([box for _, box, _ in detections], dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor([label for label, _, _ in detections], dtype=torch.int64),
        "scores": torch.tensor([score for _, _, score in detections]),
    }


def pairs_of(dataset, answers):
    found = gather_detections(Oracle(answers), dataset)
    return pair_pictures(dataset, dataset.coco(), found["bbox"])


def random_scenes(seed: int, pictures: int = 30):
    """Objects on a coarse grid, some of them crowds, and detections near them of any category and score."""
    rng = random.Random(seed)
    scenes, answers = [], []
    for _ in range(pictures):
        boxes = []
        for _ in range(rng.randint(0, 6)):
            x, y = rng.randrange(0, 60, 4), rng.randrange(0, 40, 4)
            boxes.append([x, y, x + rng.randrange(8, 32, 4), y + rng.randrange(8, 24, 4)])
        scenes.append([(rng.randint(1, 3), box, int(rng.random() < 0.15)) for box in boxes])
        near = [[v + rng.uniform(-3, 3) for v in box] for box in boxes for _ in range(rng.randint(0, 3))]
        answers.append(told(*((rng.randint(1, 3), box, round(rng.random(), 3)) for box in near)))
    return ThreeKinds(scenes), answers


def shaky():
    """A data set, and answers that are a little off, with masks and keypoints."""
    scenes = [[(1 + i % 2, [4.0 + i, 4, 40, 60], 0), (2, [50, 10, 90 - i, 50], 0)] for i in range(11)]
    dataset = ThreeKinds(scenes)
    answers = [truth_as_results(dataset[i][1]) for i in range(11)]
    for i, result in enumerate(answers):
        result["boxes"] = result["boxes"] + i
        result["masks"] = result["masks"].roll(i // 2, -1)
        result["keypoints"] = result["keypoints"] + i / 2
        result["scores"] = result["scores"] - 0.01 * torch.tensor([i, 20 - i])
    return dataset, answers


def report_of(folder, dataset, answers):
    model = Oracle(answers)
    truth, detections = dataset.coco(), gather_detections(model, dataset)
    judged = judge(truth, detections)
    write_report(folder, model, dataset, truth, detections, judged)
    return judged


def by_hand(dataset, found, kind: str, category_ids: list[int]) -> list[float]:
    """pycocotools' summary of some categories. found: results in COCO's format, or a file of them."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {"info": {}, **dataset.coco()}
        truth.createIndex()
        judge_by_hand = COCOeval(truth, truth.loadRes(found), kind)
        judge_by_hand.params.catIds = category_ids
        judge_by_hand.evaluate()
        judge_by_hand.accumulate()
        judge_by_hand.summarize()
    return judge_by_hand.stats.tolist()


# ---- what is taken for what


def test_a_confusion_matrix_worked_out_by_hand():
    """A person found twice; a ball found as a person; a person missed; a kite out of nothing; one too unsure."""
    person, ball, other, far = [0, 0, 20, 20], [40, 0, 60, 20], [0, 40, 20, 60], [70, 40, 90, 60]
    dataset = ThreeKinds([[(1, person, 0), (2, ball, 0)], [(1, other, 0)]])
    answers = [
        told((1, person, 0.9), (1, [1, 0, 20, 20], 0.8), (1, ball, 0.7), (2, far, 0.49)),
        told((3, far, 0.5)),
    ]
    assert confusion(pairs_of(dataset, answers), 3).tolist() == [
        [1, 0, 0, 1],
        [1, 0, 0, 0],
        [0, 0, 0, 0],
        [1, 0, 1, 0],
    ]


def test_a_right_detection_is_right_whatever_lies_closer():
    """The ball lies exactly on the person, who is found a little off, with the smaller IoU and the lower score."""
    dataset = ThreeKinds([[(1, [0, 0, 40, 40], 0)]])
    answers = [told((2, [0, 0, 40, 40], 0.9), (1, [0, 4, 40, 40], 0.6))]
    assert sorted(pairs_of(dataset, answers)[0]) == [(0, 2), (1, 1)]


def test_an_overlap_of_a_half_is_enough():
    dataset = ThreeKinds([[(2, [0, 0, 40, 40], 0)], [(2, [0, 0, 40, 40], 0)]])
    pairs = pairs_of(dataset, [told((2, [0, 0, 40, 20], 0.9)), told((2, [0, 0, 40, 19.9], 0.9))])
    assert pairs == [[(2, 2)], [(2, 0), (0, 2)]]


def test_what_lies_in_a_crowd_counts_neither_way():
    """A crowd is not missed, and hides any number of its own category, but no other."""
    crowd, inside, beside = [0, 0, 60, 60], [5, 5, 20, 20], [50, 0, 90, 20]
    dataset = ThreeKinds([[(1, crowd, 1)]])
    answers = [told((1, inside, 0.9), (1, [30, 30, 50, 50], 0.8), (2, inside, 0.7), (1, beside, 0.6))]
    assert sorted(pairs_of(dataset, answers)[0]) == [(0, 1), (0, 2)]


def overlap(a, b, crowd):
    """IoU of two boxes x1, y1, x2, y2; of a crowd b, the share of a that lies in it."""
    both = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    area_a, area_b = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return both / (area_a if crowd else area_a + area_b - both)


def counted_by_loops(dataset, answers) -> list[list[int]]:
    """The confusion matrix by picking, again and again, the best pair that is left."""
    counts = [[0] * 4 for _ in range(4)]
    for objects, answer in zip(dataset.pictures, answers, strict=True):
        rows = zip(answer["labels"].tolist(), answer["boxes"].tolist(), answer["scores"].tolist(), strict=True)
        found = [(label, box) for label, box, score in rows if score >= 0.5]
        there = [(label, box) for label, box, crowd in objects if not crowd]
        while True:
            best = None
            for told_label, told_box in found:
                for label, box in there:
                    close = overlap(told_box, box, False)
                    rank = (told_label == label, close)
                    if close >= 0.5 and (best is None or rank > best[0]):
                        best = rank, (told_label, told_box), (label, box)
            if best is None:
                break
            found.remove(best[1])
            there.remove(best[2])
            counts[best[2][0] - 1][best[1][0] - 1] += 1
        for label, _ in there:
            counts[label - 1][3] += 1
        for told_label, told_box in found:
            crowds = [box for label, box, crowd in objects if crowd and label == told_label]
            if not any(overlap(told_box, box, True) >= 0.5 for box in crowds):
                counts[3][told_label - 1] += 1
    return counts


@pytest.mark.parametrize("seed", range(4))
def test_the_confusion_matrix_equals_one_by_loops(seed):
    dataset, answers = random_scenes(seed)
    counts = confusion(pairs_of(dataset, answers), 3)
    assert counts.tolist() == counted_by_loops(dataset, answers)
    assert np.trace(counts) > 5
    assert counts[:3, :3].sum() > np.trace(counts), "there are confusions to be counted"


def test_the_confusion_matrix_equals_supervisions():
    sv = pytest.importorskip("supervision", reason="supervision is not installed")
    dataset, answers = random_scenes(9)
    dataset.pictures = [
        [(label, box, 0) for label, box, _ in objects] for objects in dataset.pictures
    ]  # it has no crowds
    found = [torch.cat([a["boxes"], a["labels"][:, None] - 1, a["scores"][:, None]], 1).numpy() for a in answers]
    there = [
        np.array([[*box, label - 1] for label, box, _ in objects], dtype=np.float32).reshape(-1, 5)
        for objects in dataset.pictures
    ]
    theirs = sv.ConfusionMatrix.from_tensors(found, there, ["person", "ball", "kite"], 0.5, 0.5).matrix
    assert confusion(pairs_of(dataset, answers), 3).tolist() == theirs.tolist()


# ---- average precision of each category


def test_ap_of_a_category_is_pycocotools_judging_it_alone():
    dataset, answers = shaky()
    truth, detections = dataset.coco(), gather_detections(Oracle(answers), dataset)
    rows = category_rows(dataset, truth, judge(truth, detections))
    assert [row["category"] for row in rows] == ["person", "ball", "kite"]
    assert [row["objects"] for row in rows] == [6, 16, 0]
    for row, number in zip(rows, dataset.category_ids[1:], strict=True):
        for kind in ("bbox", "segm", "keypoints"):
            if kind == "keypoints" and number != 7:
                continue
            alone = by_hand(dataset, [dict(each) for each in detections[kind]], kind, [number])
            expected = [value if value >= 0 else None for value in alone[:2]]
            assert [row[f"{kind}/AP"], row[f"{kind}/AP50"]] == pytest.approx(expected), (row["category"], kind)
    assert rows[2] == {"category": "kite", "objects": 0} | dict.fromkeys(list(rows[0])[2:])
    assert rows[1]["keypoints/AP"] is None, "a ball has no keypoints"
    assert 0 < rows[0]["bbox/AP"] < rows[0]["bbox/AP50"]


def test_the_table_has_the_lowest_first_and_a_dash_for_nothing():
    rows = [
        {"category": "good", "objects": 3, "bbox/AP": 0.75, "bbox/AP50": 1.0},
        {"category": "unknown", "objects": 0, "bbox/AP": None, "bbox/AP50": None},
        {"category": "none", "objects": 0, "bbox/AP": None, "bbox/AP50": None},
        {"category": "bad", "objects": 4, "bbox/AP": 0.0, "bbox/AP50": 0.0},
    ]
    lines = category_lines(rows)
    assert [line.split() for line in lines] == [
        ["objects", "boxes", "AP", "AP50"],
        ["bad", "4", "0.000", "0.000"],
        ["good", "3", "0.750", "1.000"],
        ["unknown", "0", DASH, DASH],
        ["none", "0", DASH, DASH],
    ]
    assert len({len(line) for line in lines}) == 1, "the columns are straight"
    many = [{"category": f"c{k}", "objects": 1, "bbox/AP": k / 30, "bbox/AP50": 1.0} for k in range(30)]
    lines = category_lines(many[::-1])
    assert [line.split()[0] for line in lines[1:21]] == [f"c{k}" for k in range(20)]
    assert lines[21:] == ["… and 10 categories with higher AP, or without objects"]
    assert category_lines(rows[:1]) == []
    assert category_lines([{"category": "good", "objects": 3}, {"category": "bad", "objects": 3}]) == []


def test_a_csv_file_holds_any_name():
    rows = [
        {"category": 'a "b", c', "objects": 3, "bbox/AP": 0.1, "bbox/AP50": 1 / 3},
        {"category": "d\ne", "objects": 0, "bbox/AP": None, "bbox/AP50": None},
    ]
    read = list(csv.DictReader(io.StringIO(csv_text(rows), newline="")))
    assert [row["category"] for row in read] == ['a "b", c', "d\ne"]
    assert float(read[0]["bbox/AP50"]) == 1 / 3
    assert read[1]["bbox/AP"] == ""


# ---- the worst pictures


def test_f1_worked_out_by_hand():
    assert f1([(1, 1), (2, 2), (3, 0), (0, 3), (1, 2)]) == pytest.approx(2 * 2 / (4 + 4))
    assert f1([(1, 0)]) == f1([(0, 1)]) == f1([(1, 2)]) == 0
    assert f1([(2, 2)]) == f1([]) == 1


def test_the_worst_pictures_come_first():
    ball, other = [10, 20, 30, 40], [50, 10, 90, 50]
    dataset = ThreeKinds(
        [
            [(BALL, ball, 0)],  # found
            [(BALL, ball, 0)],  # missed: one mistake
            [],  # nothing there, nothing found
            [(BALL, ball, 0), (BALL, other, 0)],  # one of two: 2/3
            [(BALL, ball, 0), (PERSON, other, 0)],  # missed: two mistakes
            [(BALL, ball, 0), (BALL, other, 0)],  # both, and one too many: 4/5
        ]
    )
    right = (BALL, ball, 0.9)
    answers = [
        told(right),
        told((BALL, ball, 0.4)),
        told(),
        told(right),
        told(),
        told(right, (BALL, other, 0.8), (PERSON, [0, 0, 8, 8], 0.7)),
    ]
    pairs = pairs_of(dataset, answers)
    assert [f1(picture) for picture in pairs] == pytest.approx([1, 0, 1, 2 / 3, 0, 4 / 5])
    assert worst_first(pairs) == [4, 1, 3, 5, 0, 2]


def test_a_models_labels_become_the_data_sets():
    result = told((3, [0, 0, 1, 1], 0.5), (1, [0, 0, 2, 2], 0.6), (2, [0, 0, 3, 3], 0.7))
    renamed = in_labels_of(ThreeKinds([]), result, [None, 30, None, 7])
    assert renamed["labels"].tolist() == [1, 3]
    assert renamed["boxes"][:, 2].tolist() == [1, 2]
    assert in_labels_of(ThreeKinds([]), told(), [None])["labels"].shape == (0,)


def test_the_worst_are_drawn_beside_their_truth_by_the_data_sets_names():
    """By the data set's labels; kites, which only the model knows, are left out, and pictures in which all is right."""
    dataset = ThreeKinds([[(BALL, [10, 20, 30, 40], 0)], [(BALL, [10, 20, 30, 40], 0), (PERSON, [50, 10, 90, 50], 0)]])
    answers = [told((1, [10, 20, 30, 40], 0.9)), told((2, [10, 20, 30, 40], 0.8), (3, [0, 0, 9, 9], 0.7))]
    model = Oracle(answers)
    model.labels = {"categories": ["background", "ball", "person", "glider"], "keypoint_labels": []}
    truth = dataset.coco()
    pairs = pair_pictures(dataset, truth, gather_detections(model, dataset)["bbox"])
    figure = draw_worst(model, dataset, truth, pairs)
    written = [sorted(text.get_text() for text in axes.texts) for axes in figure.axes]
    assert written == [
        ["1.png: F1 0.00: 1 found, 0 of them right, 2 there", "person 80"],
        ["ball", "person"],
    ]
    assert figure.texts[0].get_text().startswith("The lowest F1 of 2 pictures")
    perfect = draw_worst(model, dataset, truth, [[(BALL, BALL)], []])
    assert perfect.axes == []
    assert perfect.texts[0].get_text().startswith("No mistake in 2 pictures")


# ---- the folder


def test_a_report_is_a_folder_of_whole_files(tmp_path):
    dataset, answers = shaky()
    judged = report_of(tmp_path / "new" / "report", dataset, answers)
    files = {path.name: path for path in (tmp_path / "new" / "report").iterdir()}
    assert set(files) == FILES
    metrics = json.loads(files["metrics.json"].read_text())
    assert metrics == {kind: one.metrics for kind, one in judged.items()}
    for name in ("confusion.png", "precision_recall.png", "worst.png"):
        with Image.open(files[name]) as picture:
            picture.load()
            assert min(picture.size) > 400, name
    table = files["categories.csv"].read_text()
    assert table.splitlines()[0] == "category,objects,bbox/AP,bbox/AP50,segm/AP,segm/AP50,keypoints/AP,keypoints/AP50"
    assert "-1" not in table
    measured = [float(row["bbox/AP"]) for row in csv.DictReader(io.StringIO(table)) if row["bbox/AP"]]
    assert np.mean(measured) == pytest.approx(metrics["bbox"]["AP"])


def test_results_give_pycocotools_the_same_metrics(tmp_path):
    """The files as they lie there, to the last bit and for every size."""
    dataset, answers = shaky()
    report_of(tmp_path, dataset, answers)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    for kind, name in (("bbox", "results"), ("segm", "results_segm"), ("keypoints", "results_keypoints")):
        numbers = [7] if kind == "keypoints" else dataset.category_ids[1:]
        assert list(metrics[kind].values()) == by_hand(dataset, str(tmp_path / f"{name}.json"), kind, numbers), kind
        assert 0 < metrics[kind]["AP"] < 1
    whole = json.loads((tmp_path / "results.json").read_text())
    assert len(whole) == 22
    assert all("segmentation" in entry and ("keypoints" in entry) == (entry["category_id"] == 7) for entry in whole)
    keypoints = json.loads((tmp_path / "results_keypoints.json").read_text())
    assert [entry["keypoints"] for entry in whole if "keypoints" in entry] == [each["keypoints"] for each in keypoints]


def test_an_earlier_reports_masks_do_not_stay(tmp_path):
    dataset, answers = shaky()
    report_of(tmp_path, dataset, answers)
    only_boxes = [{name: each[name] for name in ("boxes", "labels", "scores")} for each in answers]
    report_of(tmp_path, dataset, only_boxes)
    assert {path.name for path in tmp_path.iterdir()} == FILES - {"results_segm.json", "results_keypoints.json"}


@pytest.mark.parametrize("scenes", [[], [[]], [[(BALL, [10, 20, 30, 40], 1)]]])
def test_a_report_of_nothing(scenes, tmp_path):
    """No pictures; one without objects; one with a crowd alone."""
    dataset = ThreeKinds(scenes)
    report_of(tmp_path, dataset, [told()])
    assert FILES - {"results_segm.json", "results_keypoints.json"} <= {path.name for path in tmp_path.iterdir()}
    rows = (tmp_path / "categories.csv").read_text().splitlines()
    assert [row.rstrip(",") for row in rows[1:]] == ["person,0", "ball,0", "kite,0"], "a crowd is no object"


def test_an_error_leaves_no_file(tmp_path):
    dataset, answers = shaky()
    model = Oracle(answers)
    truth, detections = dataset.coco(), gather_detections(model, dataset)
    dataset.pictures = dataset.pictures[:3]  # the worst picture is the last one, which can no longer be read
    with pytest.raises(IndexError):
        write_report(tmp_path / "report", model, dataset, truth, detections, judge(truth, detections))
    assert not (tmp_path / "report").exists()
