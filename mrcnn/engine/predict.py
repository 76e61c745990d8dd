"""A model on photographs: drawn pictures, and results in COCO's format."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mrcnn.data import PictureError, PictureFolder
from mrcnn.engine.evaluate import to_coco
from mrcnn.files import write_json
from mrcnn.pictures import read_frames
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
    of the model; the drawings those from ``min_score`` on. A result's ``image_id`` counts the pictures from 1, and
    ``file_name`` says which it was; of a film every frame is a picture, and ``frame`` its number.
    """
    from mrcnn import visualize

    checked_state(model.state_dict(), "the model")
    out = Path(out)
    names = drawing_names(photos)
    results: list[dict[str, Any]] = []
    complaints: list[str] = []
    number, used = 0, set()
    for photo, name in zip(tqdm(photos, desc="predicting", disable=None, leave=False), names, strict=True):
        try:
            for frame, image in read_frames(photo):
                number += 1
                found = detect(model, image)
                entries = one_list(found, number, model.labels or numbered_labels(found))
                source = {"file_name": str(photo)} | ({} if frame is None else {"frame": frame})
                results += [source | entry for entry in entries]
                drawing = visualize.draw_photo(image, found, model.labels, min_score=min_score)
                wanted = name if frame is None else f"{Path(name).stem}-{frame:04}.png"
                visualize.save(drawing, out / unused(wanted, used))
        except PictureError as error:
            number += 1
            complaints.append(str(error))
    write_json(out / "results.json", results)
    return results, complaints


def find_photographs(places: Sequence[str | Path]) -> list[Path]:
    """The files of places: a file is itself, a folder its pictures, a pattern (`*.jpg`, `**/*.png`) what it matches.

    Raises ValueError for a folder without pictures or a pattern that matches nothing.
    """
    files: list[Path] = []
    for place in map(Path, places):
        if place.is_dir():
            files += PictureFolder(place).files
        elif glob.has_magic(str(place)) and not place.exists():
            matches = sorted(Path(match) for match in glob.glob(str(place), recursive=True) if Path(match).is_file())
            if not matches:
                raise ValueError(f"nothing matches {place}")
            files += matches
        else:
            files.append(place)
    return files


def found_table(results: Sequence[dict[str, Any]], min_score: float) -> str:
    """How many objects of each category have at least this score, the most frequent first, and their mean score."""
    scores: dict[str, list[float]] = {}
    for entry in results:
        if entry["score"] >= min_score:
            scores.setdefault(entry["category_name"], []).append(entry["score"])
    rows = sorted(scores.items(), key=lambda item: (-len(item[1]), item[0]))
    width = max((len(name) for name in scores), default=0)
    return "\n".join(f"  {name:{width}}  {len(each):5}  mean score {sum(each) / len(each):.2f}" for name, each in rows)


def drawing_names(photos: Sequence[str | Path]) -> list[str]:
    """A file name for each drawing: the photograph's, with its number where two would be the same."""
    stems = [Path(photo).stem for photo in photos]
    return [
        f"{stem}.png" if stems.count(stem) == 1 else f"{stem}-{number}.png"
        for number, stem in enumerate(stems, start=1)
    ]


def unused(name: str, used: set[str]) -> str:
    """The name, or one made of it that is not used yet; it is then."""
    while name in used:
        name = f"{Path(name).stem}_.png"
    used.add(name)
    return name


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
    names = dict(zip(labels["category_ids"], labels["categories"], strict=False))
    return [entry | {"category_name": names[entry["category_id"]]} for entry in entries]


def numbered_labels(found: dict[str, Tensor]) -> dict[str, Any]:
    """For a model that does not say what its labels mean: the numbers themselves, and keypoints for all."""
    numbers = list(range(int(found["labels"].max()) + 1)) if len(found["labels"]) else [0]
    return {"category_ids": numbers, "categories": list(map(str, numbers)), "keypoint_labels": numbers}
