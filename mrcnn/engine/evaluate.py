"""COCO's metrics for boxes, masks and keypoints, measured with pycocotools.

Average precision is averaged over ten IoU thresholds, 0.50 to 0.95, over 101 recall levels, and over categories
(https://cocodataset.org/#detection-eval). For keypoints IoU is replaced by OKS, the object keypoint similarity.
-1 means that there was nothing to measure: no ground truth of that size.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pycocotools import mask as mask_codec
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn
from tqdm import tqdm

from mrcnn.data import labels_of
from mrcnn.engine import distributed
from mrcnn.engine.dataloader import fetch
from mrcnn.model import evaluating
from mrcnn.settings import WORKERS

KINDS = ("bbox", "segm", "keypoints")

# The order in which pycocotools gives its summary.
BOX_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR", "ARs", "ARm", "ARl")
KEYPOINT_METRICS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")

# For keypoints that are not COCO's 17 there is no published spread; this is the mean of COCO's.
SPREAD = 0.067


def evaluate(
    model: nn.Module, dataset: Any, *, batch_size: int = 8, workers: int = 0, show_progress: bool = False
) -> dict[str, dict[str, float]]:
    """COCO metrics of a model on a data set: ``{"bbox": {"AP", "AP50", …}, "segm": {…}, "keypoints": {…}}``.

    Only what the model predicts and the data set annotates. A model's categories are the data set's of the same name;
    a model without labels has the data set's. With several processes each predicts its share of the batches; all get
    the metrics of the whole.
    """
    detections = gather_detections(model, dataset, batch_size, workers, show_progress)
    metrics = score(dataset.coco(), detections) if distributed.is_main() else None
    return distributed.from_main(metrics)


@torch.inference_mode()
def gather_detections(
    model: nn.Module, dataset: Any, batch_size: int = 8, workers: int = 0, show_progress: bool = False
) -> dict[str, list[dict]]:
    """What the model finds in every picture, in COCO's results format, by kind: "bbox", "segm", "keypoints"."""
    if not WORKERS.holds(workers):
        raise ValueError(f"workers must be {WORKERS.expected}, got {workers}")
    # Whole batches are dealt out: how pictures are batched, and so padded, does not depend on the processes.
    batches = [range(first, min(first + batch_size, len(dataset))) for first in range(0, len(dataset), batch_size)]
    mine = batches[distributed.rank() :: distributed.world_size()]
    device = next(model.parameters()).device
    labels = shared_labels(model.labels, dataset)
    found: dict[str, list[dict]] = {}
    hidden = None if show_progress and distributed.is_main() else True  # None: tqdm looks for a terminal
    with evaluating(model):
        fetched = fetch(dataset, mine, workers)
        for images, targets in tqdm(fetched, "evaluating", len(mine), unit=" batches", disable=hidden, leave=False):
            results = model([image.to(device) for image in images])
            for result, target in zip(results, targets, strict=True):
                for kind, entries in to_coco(result, target["image_id"], labels).items():
                    found.setdefault(kind, []).extend(entries)
    gathered = distributed.gather(found)
    kinds = {kind for part in gathered for kind in part}
    return {kind: [entry for part in gathered for entry in part.get(kind, [])] for kind in sorted(kinds)}


def shared_labels(labels: dict[str, list] | None, dataset: Any) -> dict[str, list]:
    """A model's labels with the category ids of a data set, matched by name; None for what the data set does not have.

    Raises ValueError when they have no category in common.
    """
    if labels is None:
        return labels_of(dataset)
    if labels["categories"] == list(dataset.categories):  # also where two have one name
        return labels | {"category_ids": [None, *dataset.category_ids[1:]]}
    ids = dict(zip(dataset.categories[1:], dataset.category_ids[1:], strict=True))
    shared = [None, *(ids.get(name) for name in labels["categories"][1:])]
    if ids and not any(number is not None for number in shared):
        known, there = ", ".join(labels["categories"][1:6]), ", ".join(list(ids)[:5])
        raise ValueError(f"the model knows {known}, …; the data set has {there}, …: they have no category in common")
    return labels | {"category_ids": shared}


def to_coco(result: dict[str, torch.Tensor], image_id: int, labels: dict[str, Any]) -> dict[str, list[dict]]:
    """One picture's results in COCO's results format, by kind.

    ``labels`` is a model's. Masks (K, 1, H, W) are cut at 0.5. Keypoints are kept for labels that have some: what the
    head says of a ball's knees means nothing. Labels whose category id is None are left out.
    """
    ids = labels["category_ids"]
    known = torch.tensor([ids[label] is not None for label in result["labels"].tolist()], dtype=torch.bool)
    result = {name: value.cpu() for name, value in chosen(result, known).items()}
    boxes = result["boxes"].double()
    corner_and_size = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).tolist()
    names = result["labels"].tolist()
    common = [
        {"image_id": image_id, "category_id": ids[label], "score": score}
        for label, score in zip(names, result["scores"].tolist(), strict=True)
    ]
    found = {"bbox": [entry | {"bbox": box} for entry, box in zip(common, corner_and_size, strict=True)]}
    if "masks" in result:
        # One after the other: all of a large photograph take gigabytes once more.
        codes = (encode_mask(mask[0] > 0.5) for mask in result["masks"])
        found["segm"] = [entry | {"segmentation": code} for entry, code in zip(common, codes, strict=True)]
    if "keypoints" in result:
        keypoints = result["keypoints"].double().flatten(1).tolist()
        found["keypoints"] = [
            entry | {"keypoints": row}
            for entry, row, label in zip(common, keypoints, names, strict=True)
            if label in labels["keypoint_labels"]
        ]
    return found


def in_one_entry(kinds: dict[str, list[dict]], posed: set[int]) -> list[dict]:
    """What `to_coco` tells of some objects, with box, mask and keypoints of an object in one entry. posed: the ids of
    the categories that have keypoints."""
    entries = kinds.get("bbox", [])
    if "segm" in kinds:
        entries = [box | mask for box, mask in zip(entries, kinds["segm"], strict=True)]
    if "keypoints" in kinds:
        keypoints = iter(kinds["keypoints"])
        entries = [entry | next(keypoints) if entry["category_id"] in posed else entry for entry in entries]
    return entries


def chosen(result: dict[str, torch.Tensor], rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """The objects of a result that `rows` (K,), bool, names; no copy where these are all, as masks may be large."""
    return result if rows.all() else {name: value[rows] for name, value in result.items()}


def encode_mask(mask: torch.Tensor) -> dict:
    """A binary mask (H, W) as run lengths, with the counts as a string, so that JSON can hold them."""
    code = mask_codec.encode(np.asfortranarray(mask.cpu().numpy().astype(np.uint8)))
    return {"size": code["size"], "counts": code["counts"].decode()}


def score(ground_truth: dict, detections: dict[str, list[dict]]) -> dict[str, dict[str, float]]:
    """COCO metrics of detections in COCO's results format against a ground truth in COCO's annotation format."""
    return {kind: one.metrics for kind, one in judge(ground_truth, detections).items()}


@dataclass(frozen=True)
class Judgement:
    """What pycocotools finds for one kind: its metrics, and what they are means of.

    precision (T, R, K): at T thresholds of IoU, or OKS, at R levels of recall, for K categories; for objects of every
    size and as many detections per picture as COCO allows. -1 for a category without ground truth. category_ids (K,).
    """

    metrics: dict[str, float]
    precision: np.ndarray
    category_ids: list[int]


def judge(ground_truth: dict, detections: dict[str, list[dict]]) -> dict[str, Judgement]:
    """`score`, and what is behind it, by kind; only what was both looked for and annotated."""
    judged = {}
    for kind in KINDS:
        truth = prepared(ground_truth, kind)
        if kind in detections and truth["annotations"]:
            judged[kind] = judge_kind(truth, detections[kind], kind)
    return judged


def prepared(ground_truth: dict, kind: str) -> dict:
    """The ground truth as pycocotools needs it for one kind; without annotations if it has none of that kind.

    pycocotools writes into what it is given, so it gets copies; numbered from 1, as it takes an object whose id is 0
    for one that nothing has found.
    """
    annotations = [
        annotation | {"id": number} for number, annotation in enumerate(ground_truth["annotations"], start=1)
    ]
    has = [_has(annotation, kind) for annotation in annotations]
    if not any(has):
        annotations = []
    elif kind == "keypoints":
        posed = {annotation["category_id"] for annotation, yes in zip(annotations, has, strict=True) if yes}
        keypoints = next(len(annotation["keypoints"]) for annotation, yes in zip(annotations, has, strict=True) if yes)
        annotations = [annotation for annotation in annotations if annotation["category_id"] in posed]
        for annotation in annotations:  # one without keypoints is neither found nor missed
            annotation.setdefault("keypoints", [0] * keypoints)
            annotation.setdefault("num_keypoints", 0)
    elif kind == "segm":
        for annotation, yes in zip(annotations, has, strict=True):
            if not yes:  # nobody drew this object's mask: masks found there count neither for nor against, as in crowds
                x, y, w, h = annotation["bbox"]
                annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
                annotation["iscrowd"] = 1
    return {"info": {}, **ground_truth, "annotations": annotations}


def _has(annotation: dict, kind: str) -> bool:
    if kind == "keypoints":
        return annotation.get("num_keypoints", 0) > 0
    return bool(annotation.get("bbox" if kind == "bbox" else "segmentation"))


def judge_kind(truth: dict, found: list[dict], kind: str) -> Judgement:
    """pycocotools' judgement of one kind, without its printing."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        # loadRes cannot take an empty list.
        results = coco.loadRes([dict(entry) for entry in found]) if found else _nothing(truth)
        judge = COCOeval(coco, results, kind)
        if kind == "keypoints":
            judge.params.catIds = sorted({annotation["category_id"] for annotation in truth["annotations"]})
            keypoints = len(truth["annotations"][0]["keypoints"]) // 3
            if keypoints != len(judge.params.kpt_oks_sigmas):
                judge.params.kpt_oks_sigmas = np.full(keypoints, SPREAD)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    names = KEYPOINT_METRICS if kind == "keypoints" else BOX_METRICS
    metrics = {name: float(value) for name, value in zip(names, judge.stats, strict=True)}
    return Judgement(metrics, judge.eval["precision"][:, :, :, 0, -1], [int(each) for each in judge.params.catIds])


def _nothing(truth: dict) -> COCO:
    empty = COCO()
    empty.dataset = {**truth, "annotations": []}
    empty.createIndex()
    return empty
