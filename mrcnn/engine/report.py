"""What `mrcnn eval` tells beyond the metrics: AP of each category, what is taken for what, curves, the worst pictures.

COCO's metrics go through all scores and overlaps. Who uses a model chooses one: what is counted here, the confusion
matrix and the F1 of a picture, is of boxes with a score of at least 0.5 that overlap by an IoU of at least 0.5.
"""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from pycocotools import mask as mask_codec
from torch import Tensor, nn

from mrcnn import visualize, visualize_evaluation
from mrcnn.data import labels_of
from mrcnn.engine.evaluate import KINDS, Judgement, in_one_entry, shared_labels
from mrcnn.engine.predict import detect
from mrcnn.files import write_json, write_whole

SCORE, IOU = visualize.SCORE, 0.5
RULE = f"boxes, IoU ≥ {IOU}, score ≥ {SCORE}"
WORST = 9  # pictures that are drawn
LISTED = 20  # categories that are printed

# (true label, found label) of each object and each detection of a picture; 0, the background, where there is none.
Pairs = list[tuple[int, int]]


def write_report(
    folder: Path,
    model: nn.Module,
    dataset: Any,
    truth: dict,
    detections: dict[str, list[dict]],
    judged: dict[str, Judgement],
) -> None:
    """Leaves metrics.json, categories.csv, confusion.png, precision_recall.png, worst.png and results in ``folder``.

    truth: the data set's, in COCO's form; detections: all of the model's in it, by kind; judged: by `evaluate.judge`.
    Everything is made before the first file is written.
    """
    pairs = pair_pictures(dataset, truth, detections.get("bbox", []))
    figures = {
        "confusion.png": draw_confusion(dataset, pairs),
        "precision_recall.png": draw_precision_recall(dataset, judged),
        "worst.png": draw_worst(model, dataset, truth, pairs),
    }
    rows = csv_text(category_rows(dataset, truth, judged))
    labels = shared_labels(model.labels, dataset)
    posed = {labels["category_ids"][label] for label in labels["keypoint_labels"]}
    write_json(folder / "metrics.json", {kind: one.metrics for kind, one in judged.items()})
    write_whole(folder / "categories.csv", lambda file: file.write(rows.encode()))
    for name, figure in figures.items():
        visualize.save(figure, folder / name)
    write_results(folder, detections, posed)


def write_results(folder: Path, detections: dict[str, list[dict]], posed: set[int]) -> None:
    """results.json has each object in one entry. pycocotools takes an object's area from the first of box, mask and
    keypoints that its entry has; so masks and keypoints are also there alone, in results_segm.json and
    results_keypoints.json, for the same metrics by size."""
    write_json(folder / "results.json", in_one_entry(detections, posed))
    for kind in KINDS[1:]:
        path = folder / f"results_{kind}.json"
        if kind in detections:
            write_json(path, detections[kind])
        else:
            path.unlink(missing_ok=True)  # an earlier report's, of a model with that head


# ---- average precision of each category -----------------------------------------------------------------------------


def category_rows(dataset: Any, truth: dict, judged: dict[str, Judgement]) -> list[dict[str, Any]]:
    """For each category its name, how many objects there are (crowds are none), and "bbox/AP", "bbox/AP50", … of each
    kind that was judged: None where a category has no ground truth."""
    counts = Counter(each["category_id"] for each in truth["annotations"] if not each["iscrowd"])
    rows = []
    for name, number in zip(dataset.categories[1:], dataset.category_ids[1:], strict=True):
        row = {"category": name, "objects": counts[number]}
        for kind, one in judged.items():
            row[f"{kind}/AP"] = average_precision(one, number, slice(None))
            row[f"{kind}/AP50"] = average_precision(one, number, slice(1))
        rows.append(row)
    return rows


def average_precision(one: Judgement, category_id: int, thresholds: slice) -> float | None:
    """A category's mean precision over some of the thresholds of IoU and all levels of recall."""
    if category_id not in one.category_ids:
        return None
    precision = one.precision[thresholds, :, one.category_ids.index(category_id)]
    return None if (precision < 0).any() else float(precision.mean())


def csv_text(rows: list[dict[str, Any]]) -> str:
    """A table as a CSV file has it; None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def category_lines(rows: list[dict[str, Any]]) -> list[str]:
    """AP of each category as a table to print, the lowest first, those without ground truth last; of many categories
    the first `LISTED`. None of a single category, whose AP is the whole's."""
    kinds = [name.removesuffix("/AP") for name in rows[0] if name.endswith("/AP")]
    if len(rows) == 1 or not kinds:
        return []
    rows = sorted(rows, key=lambda row: (row[f"{kinds[0]}/AP"] is None, row[f"{kinds[0]}/AP"] or 0.0))
    width = max(len(row["category"]) for row in rows[:LISTED])
    lines = [f"{'':{width}}  objects" + "".join(f"{visualize.PARTS[kind][0] + ' AP':>14}   AP50" for kind in kinds)]
    for row in rows[:LISTED]:
        values = [f"{decimals(row[f'{kind}/AP']):>14}{decimals(row[f'{kind}/AP50']):>7}" for kind in kinds]
        lines.append(f"{row['category']:{width}}  {row['objects']:7}" + "".join(values))
    if len(rows) > LISTED:
        lines.append(f"… and {len(rows) - LISTED} categories with higher AP, or without objects")
    return lines


def decimals(value: float | None) -> str:
    """A metric as it is printed: a dash where there was nothing to measure, which pycocotools says by -1."""
    return "\N{EN DASH}" if value is None or value < 0 else f"{value:.3f}"


def draw_precision_recall(dataset: Any, judged: dict[str, Judgement]) -> Figure:
    names = dict(zip(dataset.category_ids, dataset.categories, strict=True))
    precision = {kind: one.precision for kind, one in judged.items()}
    categories = {kind: [names[number] for number in one.category_ids] for kind, one in judged.items()}
    return visualize_evaluation.draw_precision_recall(precision, categories)


# ---- what is taken for what ------------------------------------------------------------------------------------------


def pair_pictures(dataset: Any, truth: dict, found: list[dict]) -> list[Pairs]:
    """The pairs of every picture, in the data set's order. found: boxes in COCO's results format."""
    labels = {number: label for label, number in enumerate(dataset.category_ids) if label}
    there: dict[int, list[dict]] = defaultdict(list)
    sure: dict[int, list[dict]] = defaultdict(list)
    for each in truth["annotations"]:
        there[each["image_id"]].append(each)
    for each in found:
        if each["score"] >= SCORE:
            sure[each["image_id"]].append(each)
    return [pair_up(there[image["id"]], sure[image["id"]], labels) for image in truth["images"]]


def pair_up(there: list[dict], found: list[dict], labels: dict[int, int]) -> Pairs:
    """Pairs the objects and the detections of one picture, each with one other at most.

    Only those that overlap enough: first what is of the same category, the closest first, so that a right detection is
    right whatever lies beside it; then the rest, the closest first. A detection that is left inside a crowd of its
    category counts neither way, as in COCO's metrics. labels: by category id.
    """
    true = [labels[each["category_id"]] for each in there]
    told = [labels[each["category_id"]] for each in found]
    crowd = np.array([each["iscrowd"] for each in there], dtype=bool)
    overlaps = mask_codec.iou([each["bbox"] for each in found], [each["bbox"] for each in there], crowd.tolist())
    overlaps = np.reshape(overlaps, (len(found), len(there)))  # (D, G); of a crowd: the share of the detection in it
    same = np.equal.outer(told, true)
    in_crowd = (same & crowd & (overlaps >= IOU)).any(1)

    pairs: Pairs = []
    free, missed = set(range(len(found))), set(np.flatnonzero(~crowd).tolist())
    candidates = np.argwhere(overlaps >= IOU).tolist()
    for row, column in sorted(candidates, key=lambda pair: (not same[*pair], -overlaps[*pair])):
        if row in free and column in missed:
            free.remove(row)
            missed.remove(column)
            pairs.append((true[column], told[row]))
    pairs += [(true[column], 0) for column in sorted(missed)]
    return pairs + [(0, told[row]) for row in sorted(free) if not in_crowd[row]]


def draw_confusion(dataset: Any, pairs: list[Pairs]) -> Figure:
    counts = confusion(pairs, len(dataset.categories) - 1)
    return visualize_evaluation.draw_confusion(counts, dataset.categories[1:], f"What was found as what: {RULE}")


def confusion(pairs: list[Pairs], categories: int) -> np.ndarray:
    """How often each category (row) was found as which (column), (C + 1, C + 1); the last row is of detections where
    nothing is, the last column of objects that were missed."""
    counts = np.zeros((categories + 1, categories + 1), dtype=np.int64)
    for picture in pairs:
        for true, told in picture:
            counts[true - 1, told - 1] += 1  # the background's 0 becomes -1, the last
    return counts


# ---- the worst pictures ----------------------------------------------------------------------------------------------


def draw_worst(model: nn.Module, dataset: Any, truth: dict, pairs: list[Pairs]) -> Figure:
    """The pictures with the lowest F1, with what the model, in evaluation mode, finds in them, and what is there; none
    in which all is right."""
    chosen = [place for place in worst_first(pairs)[:WORST] if f1(pairs[place]) < 1]
    records = [dataset[index] for index in chosen]
    images, targets = [image for image, _ in records], [target for _, target in records]
    ids = shared_labels(model.labels, dataset)["category_ids"]
    results = [in_labels_of(dataset, detect(model, image), ids) for image in images]
    title = f"{'The lowest F1 of' if chosen else 'No mistake in'} {len(pairs)} pictures ({RULE})"
    figure = visualize.draw_page(images, results, targets, labels_of(dataset), title=title)
    for index, axes in zip(chosen, figure.axes[::2], strict=True):  # the left one of each pair
        name = truth["images"][index]["file_name"]
        told = f"{name if len(name) <= 50 else f'…{name[-49:]}'}: {describe(pairs[index])}"
        axes.text(0, -0.015, told, transform=axes.transAxes, va="top", fontsize=5.5, parse_math=False)
    return figure


def worst_first(pairs: list[Pairs]) -> list[int]:
    """The places of the pictures by rising F1; where it is the same, those with more mistakes first."""
    mistakes = [sum(true != told for true, told in picture) for picture in pairs]
    return sorted(range(len(pairs)), key=lambda place: (f1(pairs[place]), -mistakes[place]))


def f1(picture: Pairs) -> float:
    """2 · right / (objects + detections); 1 where there is nothing and nothing was found."""
    right, objects, detections = count(picture)
    return 2 * right / (objects + detections) if picture else 1.0


def count(picture: Pairs) -> tuple[int, int, int]:
    """How many detections are right, how many objects there are, how many detections."""
    right = sum(true == told for true, told in picture)
    return right, sum(true > 0 for true, _ in picture), sum(told > 0 for _, told in picture)


def describe(picture: Pairs) -> str:
    right, objects, detections = count(picture)
    return f"F1 {f1(picture):.2f}: {detections} found, {right} of them right, {objects} there"


def in_labels_of(dataset: Any, result: dict[str, Tensor], ids: list[int | None]) -> dict[str, Tensor]:
    """A model's result in one picture, with the labels of a data set; without what the data set does not have.

    ids: the data set's category id for each label of the model, or None.
    """
    labels = {number: label for label, number in enumerate(dataset.category_ids) if label}
    kept = [row for row, label in enumerate(result["labels"].tolist()) if ids[label] is not None]
    result = {name: value[kept] for name, value in result.items()}
    return result | {"labels": torch.tensor([labels[ids[label]] for label in result["labels"].tolist()])}
