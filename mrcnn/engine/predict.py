"""A model on photographs, films and videos: what it finds, picture by picture."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mrcnn.data import PictureError
from mrcnn.data.folder import picture_files
from mrcnn.engine.evaluate import chosen
from mrcnn.engine.result_folder import Picture, ResultFolder
from mrcnn.pictures import read_frames
from mrcnn.settings import BATCH
from mrcnn.video import is_video, read_video, video_length
from mrcnn.weights import checked_state


@torch.inference_mode()
def detect(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """What a model in evaluation mode finds in one picture (3, H, W), on the CPU."""
    return detect_in(model, [image])[0]


@torch.inference_mode()
def detect_in(model: nn.Module, images: list[Tensor]) -> list[dict[str, Tensor]]:
    """What a model in evaluation mode finds in pictures (3, H, W) that it sees as one batch, on the CPU."""
    device = next(model.parameters()).device
    results = model([image.to(device) for image in images])
    return [{name: value.cpu() for name, value in result.items()} for result in results]


class Predicted(NamedTuple):
    """results: COCO's, one list. complaints: a sentence about each file that could not be read. pictures: how many were
    looked at."""

    results: list[dict[str, Any]]
    complaints: list[str]
    pictures: int


def predict(
    model: nn.Module,
    files: Sequence[str | Path],
    out: str | Path,
    min_score: float = 0.5,
    *,
    batch_size: int = 1,
    save: Sequence[str] = ("pictures", "json"),
) -> Predicted:
    """Looks at photographs, films (GIF …) and videos, and leaves in the folder `out` what `save` names
    (`mrcnn.engine.result_folder.KINDS`) of the objects that have at least `min_score`.

    A result's `image_id` counts the pictures from 1, and `file_name` says which it was; of a film or a video every
    frame is a picture, and `frame` its number. batch_size: pictures that the model sees at once.
    """
    if not 0 <= min_score <= 1:
        raise ValueError(f"min_score must be 0 to 1, got {min_score}")
    if not BATCH.holds(batch_size):
        raise ValueError(f"batch_size must be {BATCH.expected}, got {batch_size}")
    checked_state(model.state_dict(), "the model")
    files = list(map(Path, files))
    folder = ResultFolder(out, model, save, files)
    complaints: list[str] = []
    pictures = tqdm(
        read_all(files, complaints),
        total=count_pictures(files),
        desc="predicting",
        unit=" pictures",
        disable=None,
        leave=False,
    )
    found = find(model, pictures, min_score, batch_size)
    for (file, _), pairs in itertools.groupby(found, lambda pair: pair[0].origin):
        folder.add(file, pairs)
    folder.finish()
    return Predicted(folder.results, complaints, folder.pictures)


def read_all(files: Iterable[Path], complaints: list[str]) -> Iterator[Picture]:
    """The pictures of all files; of a file that cannot be read, or not to its end, a sentence is added to `complaints`
    and a number left out."""
    number = 0
    for file in files:
        try:
            for frame, image in enumerate(read_video(file), start=1) if is_video(file) else read_frames(file):
                number += 1
                yield Picture(file, number, frame, image)
        except PictureError as error:
            number += 1
            complaints.append(str(error))


def count_pictures(files: Sequence[str | Path]) -> int:
    """About how many pictures files hold: a photograph or a film one, a video what it says."""
    count = 0
    for file in files:
        try:
            count += video_length(file)[0] if is_video(file) else 1
        except PictureError:
            count += 1
    return count


def find(
    model: nn.Module, pictures: Iterable[Picture], min_score: float, batch_size: int
) -> Iterator[tuple[Picture, dict[str, Tensor]]]:
    """Each picture with its objects of at least `min_score`, on the CPU."""
    pictures = iter(pictures)
    while batch := list(itertools.islice(pictures, batch_size)):
        for picture, found in zip(batch, detect_in(model, [each.image for each in batch]), strict=True):
            yield picture, chosen(found, found["scores"] >= min_score)


def find_photographs(places: Sequence[str | Path]) -> list[Path]:
    """The files of places: a file is itself, a folder its pictures and videos, a pattern (`*.jpg`, `**/*.png`) what it
    matches.

    Raises ValueError for a folder without pictures, a pattern that matches nothing, or a name that is empty.
    """
    files: list[Path] = []
    if "" in places:
        raise ValueError("the name of a picture is empty")
    for place in map(Path, places):
        if place.is_dir():
            files += pictures_and_videos(place)
        elif glob.has_magic(str(place)) and not place.exists():
            matches = sorted(Path(match) for match in glob.glob(str(place), recursive=True) if Path(match).is_file())
            if not matches:
                raise ValueError(f"nothing matches {place}")
            files += matches
        else:
            files.append(place)
    return files


def pictures_and_videos(folder: Path) -> list[Path]:
    videos = {file for file in folder.rglob("*") if is_video(file) and file.is_file()}
    files = sorted(videos.union(picture_files(folder)))
    if not files:
        raise ValueError(f"{folder} has no pictures")
    return files


def found_table(results: Sequence[dict[str, Any]]) -> str:
    """How many objects of each category there are, the most frequent first, and their mean score."""
    scores: dict[str, list[float]] = {}
    for entry in results:
        scores.setdefault(entry["category_name"], []).append(entry["score"])
    rows = sorted(scores.items(), key=lambda item: (-len(item[1]), item[0]))
    width = max((len(name) for name in scores), default=0)
    return "\n".join(f"  {name:{width}}  {len(each):5}  mean score {sum(each) / len(each):.2f}" for name, each in rows)
