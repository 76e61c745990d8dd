"""A model on photographs: drawn pictures, and results in COCO's format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mrcnn.data import PictureError, read_picture
from mrcnn.engine.evaluate import to_coco
from mrcnn.files import write_json
from mrcnn.weights import checked_state


@torch.inference_mode()
def detect(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """What a model in evaluation mode finds in one picture (3, H, W), on the CPU."""
    device = next(model.parameters()).device
    return {name: value.cpu() for name, value in model([image.to(device)])[0].items()}


def predict(
    model: nn.Module, photos: Sequence[str | Path], out: str | Path, min_score: float = 0.5
) -> tuple[list[dict[str, Any]], list[str]]:
    """Draws what the model finds in each photograph into the folder ``out``, and writes results.json there.

    Returns the results, and a sentence about each photograph that could not be read. The results have every detection
    of the model; the drawings those from ``min_score`` on. A result's ``image_id`` is the place of its photograph in
    the list, from 1, and ``file_name`` says which it was.
    """
    from mrcnn import visualize

    checked_state(model.state_dict(), "the model")
    out = Path(out)
    names = drawing_names(photos)
    results: list[dict[str, Any]] = []
    complaints: list[str] = []
    for number, photo in enumerate(tqdm(photos, desc="predicting", disable=None, leave=False), start=1):
        try:
            image = read_picture(photo)
        except PictureError as error:
            complaints.append(str(error))
            continue
        found = detect(model, image)
        entries = one_list(found, number, model.labels or numbered_labels(found))
        results += [{"file_name": str(photo), **entry} for entry in entries]
        visualize.save(visualize.draw_photo(image, found, model.labels, min_score=min_score), out / names[number - 1])
    write_json(out / "results.json", results)
    return results, complaints


def drawing_names(photos: Sequence[str | Path]) -> list[str]:
    """A file name for each drawing: the photograph's, with its number where two would be the same."""
    stems = [Path(photo).stem for photo in photos]
    return [
        f"{stem}.png" if stems.count(stem) == 1 else f"{stem}-{number}.png"
        for number, stem in enumerate(stems, start=1)
    ]


def one_list(found: dict[str, Tensor], image_id: int, labels: dict[str, Any]) -> list[dict[str, Any]]:
    """Results in COCO's format, box, mask and keypoints of an object in one entry."""
    kinds = to_coco(found, image_id, labels)
    entries = kinds["bbox"]
    if "segm" in kinds:
        entries = [box | mask for box, mask in zip(entries, kinds["segm"], strict=True)]
    if "keypoints" in kinds:
        keypoints = iter(kinds["keypoints"])
        posed = {labels["category_ids"][label] for label in labels["keypoint_labels"]}
        entries = [entry | next(keypoints) if entry["category_id"] in posed else entry for entry in entries]
    return entries


def numbered_labels(found: dict[str, Tensor]) -> dict[str, Any]:
    """For a model that does not say what its labels mean: the numbers themselves, and keypoints for all."""
    numbers = list(range(int(found["labels"].max()) + 1)) if len(found["labels"]) else [0]
    return {"category_ids": numbers, "keypoint_labels": numbers}
