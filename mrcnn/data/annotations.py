"""COCO's JSON: read, checked record by record, packed small.

The format is https://cocodataset.org/#format-data. COCO's own training file is 118k pictures, 860k objects and 45M
polygon coordinates, which as Python lists would fill gigabytes. So each segmentation is packed while the file is being
parsed, and each picture's objects are kept as one run of bytes in one array, which worker processes share untouched.
"""

import contextlib
import gc
import json
import math
import os
import pickle
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

# What no honest record comes near. pycocotools, which draws the masks, takes memory by the length of a polygon's
# outline, time by that times the number of polygons, and counts pixels in 32 bits.
FAR = 1e6  # pixels: no picture is so wide
LONGEST_OUTLINE = 1_000_000  # pixels, of all polygons of an object
MOST_POLYGONS = 10_000  # of an object
MOST_PIXELS = 2**31  # of a picture
LONGEST_RUN = 7  # characters of 5 bits each: 2**34 pixels and a sign

LARGEST_ID = 2**63  # numpy, in which pycocotools keeps them, has 64 bits and a sign
TINY = 1e-6  # of a picture's longer side: a thinner box may be rounded to none by float32, here or when it is scaled


class Picture(NamedTuple):
    """One entry of "images"; sizes in pixels."""

    id: int
    file_name: str
    width: int
    height: int


class Object(NamedTuple):
    """One entry of "annotations" that passed its checks. label counts the categories from 1, in the order of ids."""

    id: int
    label: int
    bbox: tuple[float, float, float, float]  # x, y, width, height, as in the file
    area: float | None
    iscrowd: int
    segmentation: bytes | dict | None  # pickled polygons, or run lengths as in the file
    keypoints: tuple[float, ...] | None  # x, y, v for each keypoint


@dataclass
class Annotations:
    """What a file says, and what is wrong with it: a line for each faulty record, which is then left out."""

    pictures: list[Picture] = field(default_factory=list)
    categories: list[dict] = field(default_factory=list)  # by id, without a category 0 named background
    keypoint_names: list[str] = field(default_factory=list)
    skeleton: list[tuple[int, int]] = field(default_factory=list)  # counted from 0
    keypoint_labels: set[int] = field(default_factory=set)  # labels whose category, or any object, has keypoints
    packed: np.ndarray = field(
        default_factory=lambda: np.zeros(0, np.uint8)
    )  # all pictures' objects, one after another
    ends: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (pictures,) where each one's bytes end
    no_size: list[int] = field(default_factory=list)  # ids of objects dropped, as their boxes have no size
    problems: list[str] = field(default_factory=list)

    def objects(self, index: int) -> list[Object]:
        """The objects of picture number `index`, in the file's order."""
        start = int(self.ends[index - 1]) if index else 0
        return [Object(*row) for row in pickle.loads(self.packed[start : int(self.ends[index])])]


def load(file: str | Path, pack_segmentation: bool = True) -> dict:
    """The parsed file, its segmentations pickled (or thrown away). ValueError when it is not of COCO's form."""

    def shrink(record: dict) -> dict:  # called by the parser for each {...} as it ends
        if "segmentation" in record:
            segmentation = record["segmentation"]
            if not pack_segmentation or not segmentation:
                del record["segmentation"]
            elif isinstance(segmentation, list):
                problem = polygons_problem(segmentation)
                record["segmentation"] = ValueError(problem) if problem else pickle.dumps(segmentation)
        return record

    try:
        with open(file, encoding="utf-8") as stream:
            content = json.load(stream, object_hook=shrink)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f'{file} is not a COCO file: it has no list "{key}"')
    return content


def are_coordinates(values: list) -> bool:
    """Whether they are all finite numbers within reason: three quick looks at all of them, not a slow one at each."""
    try:  # NaN survives addition, but not every comparison
        return sum(values) < math.inf and -FAR < min(values) and max(values) < FAR
    except (TypeError, OverflowError):  # a whole number may be larger than any float
        return False


def polygons_problem(polygons: list) -> str | None:
    """What is wrong with a list of polygons [[x1, y1, x2, y2, ...], ...], if anything."""
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            return "a polygon must be a flat list of at least three points x, y"
        if not are_coordinates(polygon):
            return "a polygon must have finite numbers only, none beyond a million pixels"
    if len(polygons) > MOST_POLYGONS:
        return f"an object must have at most {MOST_POLYGONS} polygons; got {len(polygons)}"
    # A side is no longer than all the numbers are apart: enough to know of nearly every object.
    if sum(len(polygon) * (max(polygon) - min(polygon) + 1) for polygon in polygons) / 2 > LONGEST_OUTLINE:
        length = sum(map(outline, polygons))
        if length > LONGEST_OUTLINE:
            return f"the outline of its polygons must be at most {LONGEST_OUTLINE} pixels long; it is {length:.0f}"
    return None


def outline(polygon: list) -> float:
    """The length of a polygon's sides as they are drawn: in steps along x or y, at least one for each side."""
    points = np.array(polygon, dtype=np.float64).reshape(-1, 2)  # (P, 2)
    sides = np.abs(points - np.roll(points, 1, axis=0)).max(1)  # (P,)
    return float(np.maximum(sides, 1).sum())


def rle_problem(rle: dict, picture: Picture) -> str | None:
    """What is wrong with run lengths {"size": [h, w], "counts": list or string}, if anything."""
    size, counts = rle.get("size"), rle.get("counts")
    if size != [picture.height, picture.width] or any(type(side) is not int for side in size):
        return f"the run lengths are of size {size}, the picture of [{picture.height}, {picture.width}]"
    if isinstance(counts, str):
        longest = LONGEST_RUN * (picture.height * picture.width + 1)  # the first run may be of no pixels
        if len(counts) > longest:
            return f"the run lengths must be a string of at most {longest} characters; it has {len(counts)}"
        try:
            counts = run_lengths(counts)
        except ValueError as error:
            return str(error)
    if not isinstance(counts, list) or any(type(count) is not int or count < 0 for count in counts):
        return "the run lengths must be whole numbers, or COCO's string of them"
    if sum(counts) != picture.height * picture.width:
        return f"the run lengths add up to {sum(counts)} pixels, not to {picture.height} x {picture.width}"
    return None


def run_lengths(text: str) -> list[int]:
    """Compressed run lengths as numbers: five bits a character; from the fourth on, the change from two before."""
    counts, value, shift = [], 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"the run lengths contain the character {character!r}")
        if shift == 5 * LONGEST_RUN:
            raise ValueError(f"the run lengths contain a number of more than {LONGEST_RUN} characters")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:  # the last character of this number; bit 16 is its sign
            if bits & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value, shift = 0, 0
    if shift:
        raise ValueError("the run lengths are cut short")
    return counts


def read_annotations(file: str | Path, keypoint_file: str | Path | None = None) -> Annotations:
    """Read instances, and keypoints of the same objects from a second file; faulty records become `problems`."""
    with garbage_collection_paused():
        return read_both(file, keypoint_file)


@contextlib.contextmanager
def garbage_collection_paused():
    """Millions of new objects and no cycles: the collector's rounds find nothing, and take a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_both(file: str | Path, keypoint_file: str | Path | None) -> Annotations:
    content = load(file)
    found = Annotations()
    read_categories(content["categories"], found)
    read_pictures(content["images"], found)
    keypoints = {}
    if keypoint_file is not None:
        more, faults = load(keypoint_file, pack_segmentation=False), []
        read_keypoint_names(unique(more["categories"], "category", faults), found)
        keypoints = dict(unique(more["annotations"], "annotation", faults))
        found.problems += [f"in the keypoint file, {fault}" for fault in faults]
    else:
        read_keypoint_names(unique(content["categories"], "category", []), found)
    read_objects(content["annotations"], keypoints, found)
    return found


def unique(records: list, kind: str, problems: list[str]):
    """The records that are objects with an id of their own."""
    seen = set()
    for place, record in enumerate(records):
        number = record.get("id") if isinstance(record, dict) else None
        if type(number) is not int or abs(number) >= LARGEST_ID:
            problems.append(
                f"{kind} record number {place}: it must have a whole number as its id, of 64 bits; got {number!r:.40}"
            )
        elif number in seen:
            problems.append(f"{kind} {number}: there are two with this id")
        else:
            seen.add(number)
            yield number, record


def is_name(value: object) -> bool:
    """Whether it is a text, and one that can be written down: JSON can hold half of a character."""
    return isinstance(value, str) and value != "" and value == value.encode(errors="ignore").decode()


def read_categories(records: list, found: Annotations) -> None:
    for number, record in unique(records, "category", found.problems):
        name = record.get("name")
        if not is_name(name):
            found.problems.append(f"category {number}: it must have a name; got {name!r}")
        elif not (number == 0 and name.lower() == "background"):  # some tools list what COCO leaves unsaid
            found.categories.append(record)
    found.categories.sort(key=lambda record: record["id"])


def read_keypoint_names(records: Iterable[tuple[int, dict]], found: Annotations) -> None:
    """The keypoints that the categories name. All categories with some must have the same ones: there is one head."""
    for number, record in records:
        names, skeleton = record.get("keypoints"), record.get("skeleton") or []
        if not names:
            continue
        if not isinstance(names, list) or not all(map(is_name, names)):
            found.problems.append(f"category {number}: its keypoints must be a list of names; got {names!r}")
        elif found.keypoint_names and found.keypoint_names != names:
            found.problems.append(f"category {number}: its keypoints differ from those of the category before it")
        elif not is_skeleton(skeleton, len(names)):
            found.problems.append(f"category {number}: its skeleton must be pairs of keypoints from 1 to {len(names)}")
        else:
            found.keypoint_names = names
            found.skeleton = [(a - 1, b - 1) for a, b in skeleton]
            for label, category in enumerate(found.categories, start=1):
                if category["id"] == number:
                    category |= {"keypoints": names, "skeleton": skeleton}
                    found.keypoint_labels.add(label)


def is_skeleton(pairs: object, count: int) -> bool:
    """Whether it is a list of pairs of keypoints, counted from 1 to `count`."""
    return isinstance(pairs, list) and all(
        isinstance(pair, list)
        and len(pair) == 2
        and all(type(keypoint) is int and 1 <= keypoint <= count for keypoint in pair)
        for pair in pairs
    )


def read_pictures(records: list, found: Annotations) -> None:
    for number, record in unique(records, "image", found.problems):
        name, width, height = record.get("file_name"), record.get("width"), record.get("height")
        if not isinstance(name, str) or not name:
            found.problems.append(f"image {number}: it must have a file_name; got {name!r}")
        elif leaves_folder(name):
            found.problems.append(f"image {number}: its file_name {name!r} leaves the data folder")
        elif type(width) is not int or type(height) is not int or width < 1 or height < 1:
            found.problems.append(f"image {number}: width and height must be positive; got {width!r} and {height!r}")
        elif width * height >= MOST_PIXELS:
            found.problems.append(f"image {number}: it must have fewer than 2³¹ pixels; got {width} x {height}")
        else:
            found.pictures.append(Picture(number, name, width, height))


def leaves_folder(name: str) -> bool:
    """Whether a file name could lead out of the folder it is looked up in."""
    parts = os.path.normpath(name.replace("\\", "/")).split("/")
    return os.path.isabs(name) or parts[0] in ("", "..") or parts[0].endswith(":") or "\0" in name


def read_objects(records: list, poses: dict, found: Annotations) -> None:
    """Check all annotations, and pack them by picture. Empties `records`: memory falls as the packed form grows."""
    place = {picture.id: k for k, picture in enumerate(found.pictures)}
    labels = {category["id"]: label for label, category in enumerate(found.categories, start=1)}
    rows: list[list[tuple]] = [[] for _ in found.pictures]
    for number, record in unique(records, "annotation", found.problems):
        extra = poses.pop(number, None)
        where, label = look_up(place, record.get("image_id")), look_up(labels, record.get("category_id"))
        if where is None:
            problem = f"there is no (sound) image {record.get('image_id')!r}"
        elif label is None:
            problem = f"there is no category {record.get('category_id')!r}"
        else:
            problem = object_problem(record, extra, found.pictures[where], len(found.keypoint_names))
        if problem:
            found.problems.append(f"annotation {number}: {problem}")
        elif clipped_box(record["bbox"], found.pictures[where]) is None:
            found.no_size.append(number)
        else:
            keypoints = (extra or record).get("keypoints") if found.keypoint_names else None
            row = Object(
                number, label, tuple(record["bbox"]), record.get("area"), int(record.get("iscrowd", 0)),
                record.get("segmentation"), tuple(keypoints) if keypoints else None,
            )  # fmt: skip
            rows[where].append(tuple(row))
            if keypoints:
                found.keypoint_labels.add(label)
    found.problems += [f"annotation {number!r}: it is in the keypoint file only" for number in poses]
    records.clear()
    packed = []
    for k, row in enumerate(rows):
        packed.append(pickle.dumps(row))
        rows[k] = []
    found.ends = np.cumsum([len(one) for one in packed], dtype=np.int64)
    found.packed = np.frombuffer(b"".join(packed), dtype=np.uint8)


def look_up(table: dict[int, int], key: object) -> int | None:
    return table.get(key) if type(key) is int else None


def object_problem(record: dict, extra: dict | None, picture: Picture, num_keypoints: int) -> str | None:
    """What is wrong with an annotation (extra: its namesake in the keypoint file), if anything."""
    bbox, area, crowd = record.get("bbox"), record.get("area"), record.get("iscrowd", 0)
    if not isinstance(bbox, list) or len(bbox) != 4 or not are_coordinates(bbox):
        return f"bbox must be four finite numbers x, y, width, height; got {bbox!r}"
    if area is not None and not (type(area) in (int, float) and 0 <= area < FAR**2):
        return f"area must be a number, not negative; got {area!r}"
    if crowd not in (0, 1):
        return f"iscrowd must be 0 or 1; got {crowd!r}"
    segmentation = record.get("segmentation")
    if isinstance(segmentation, dict):
        problem = rle_problem(segmentation, picture)
    elif isinstance(segmentation, ValueError):  # found while the file was parsed
        problem = str(segmentation)
    else:
        known = segmentation is None or isinstance(segmentation, bytes)
        problem = None if known else "segmentation must be polygons or run lengths"
    if problem:
        return problem
    if extra and any(extra.get(key) != record.get(key) for key in ("image_id", "category_id")):
        return "the keypoint file has it in another image or category"
    return keypoints_problem((extra or record).get("keypoints"), num_keypoints)


def keypoints_problem(keypoints: object, num_keypoints: int) -> str | None:
    """What is wrong with an annotation's keypoints [x, y, v, ...], if anything. None of them is sound."""
    if not keypoints or not num_keypoints:
        return None
    if not isinstance(keypoints, list) or len(keypoints) != 3 * num_keypoints:
        count = len(keypoints) if isinstance(keypoints, list) else repr(keypoints)
        return f"keypoints must be {num_keypoints} times x, y, v, which is {3 * num_keypoints} numbers; got {count}"
    if not are_coordinates(keypoints) or not set(keypoints[2::3]) <= {0, 1, 2}:
        return "keypoints must be finite, and each v 0, 1 or 2"
    return None


def clipped_box(bbox: list | tuple, picture: Picture) -> tuple[float, float, float, float] | None:
    """x1, y1, x2, y2 of the box's part inside the picture; None where it has no size that float32 can tell."""
    x, y, w, h = bbox
    x1, y1 = max(x, 0.0), max(y, 0.0)
    x2, y2 = min(x + w, picture.width), min(y + h, picture.height)
    least = TINY * max(picture.width, picture.height)
    return (x1, y1, x2, y2) if x2 - x1 > least and y2 - y1 > least else None
