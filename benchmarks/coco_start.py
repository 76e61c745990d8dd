"""How long a data set of COCO's size takes to open, and how much memory: `python benchmarks/coco_start.py`.

Makes annotations as large as train2017's, 118,287 pictures with 860,001 objects, and a second file with the
keypoints of its 258,003 people, and opens them in a process of its own. The pictures are empty files: only that they
are there matters at that time.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import common

PICTURES, OBJECTS, CATEGORIES, PERSON_EVERY = 118_287, 860_001, 90, 10  # three of ten objects are people
OPEN = """
import resource, sys, time
from mrcnn.data import CocoDataset
begin = time.perf_counter()
dataset = CocoDataset(*sys.argv[1:])
print(len(dataset), time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        instances, people = make_files(Path(folder))
        size = (instances.stat().st_size + people.stat().st_size) / 1e6
        done = subprocess.run(
            [sys.executable, "-c", OPEN, f"{folder}/images", instances, people],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    pictures, seconds, gigabytes = done.stdout.split()
    about = common.machine()
    text = (
        f"# Opening a data set of COCO's size\n\n{int(pictures):,} pictures, {OBJECTS:,} objects, two files, together "
        f"{size:,.0f} MB:\n{float(seconds):.1f} s, and {float(gigabytes):.2f} GB at the most (PyTorch included).\n\n"
        f"{about['cpu']}, torch {about['torch']}, Python {about['python']}."
    )
    common.write("coco_start", {"machine": about, "seconds": float(seconds), "gigabytes": float(gigabytes)}, text)


def make_files(folder: Path) -> tuple[Path, Path]:
    draw = random.Random(0)
    outlines = [[round(draw.random() * 400, 2) for _ in range(2 * draw.randint(8, 45))] for _ in range(3000)]
    images = [
        {"id": i, "file_name": f"{i:012}.jpg", "width": 640, "height": 480, "license": 1, "date_captured": "2013-11-14"}
        for i in range(PICTURES)
    ]
    (folder / "images").mkdir()
    for image in images:
        (folder / "images" / image["file_name"]).touch()
    categories = [{"id": i, "name": f"category {i}", "supercategory": "thing"} for i in range(1, CATEGORIES + 1)]
    names = {"keypoints": [f"joint {i}" for i in range(17)], "skeleton": [[1, 2]]}
    objects, people = [], []
    for number in range(OBJECTS):
        person = number % PERSON_EVERY < 3
        corner = [round(draw.random() * 200, 2) for _ in range(2)]
        record = {"id": number, "image_id": draw.randrange(PICTURES), "iscrowd": 0, "area": 3040.5}
        record |= {"category_id": 1 if person else 2 + number % (CATEGORIES - 1), "bbox": [*corner, 50.25, 60.5]}
        record |= {"segmentation": [draw.choice(outlines)]}
        objects.append(record)
        if person:
            people.append(record | {"num_keypoints": 17, "keypoints": [number % 400, number % 300, 2] * 17})
    files = folder / "instances.json", folder / "person_keypoints.json"
    for file, annotations, kinds in (
        (files[0], objects, categories),
        (files[1], people, [categories[0] | names]),
    ):
        file.write_text(json.dumps({"info": {}, "images": images, "annotations": annotations, "categories": kinds}))
    return files


if __name__ == "__main__":
    main()
