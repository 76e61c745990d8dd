"""Puts together the page on which the model runs in the reader's browser.

    python docs/try/build.py build/try       then: python -m http.server --directory build/try

Makes try/ in that folder: the page's own files, which lie beside this one; the shipped model as an ONNX file; pictures
to choose from; onnxruntime-web from npm. The site shows `page.html` inside a page of its own, and has try/ beside it;
try/index.html is the same without the site around it. Nothing is written if something cannot be had.
"""

import argparse
import base64
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import skimage.data
import torch
from film import Film
from PIL import Image

import mrcnn
from mrcnn import export, visualize
from mrcnn.data import Playground
from mrcnn.errors import CheckpointError
from mrcnn.files import write_whole
from mrcnn.lab.views.pictures import VALUES

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / "build" / "npm"
OWN_FILES = ("*.css", "*.js")

# The program that computes the file in a browser: its version, what npm says of its contents, and what of it is needed.
RUNTIME = "onnxruntime-web-1.30.0.tgz"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
SCRIPT, PROGRAM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
MODEL = "model.onnx"

SCENES = {"size": 128, "seed": 7, "rows": (116, 4, 14, 23, 31, 40)}
# Of scikit-image: free of copyright, by their docstrings (CC0, public domain, no known restrictions).
PHOTOGRAPHS = {
    "coins": "Greek coins from Pompeii (photograph: Brooklyn Museum)",
    "coffee": "a cup of coffee (photograph: Rachel Michetti)",
    "astronaut": "an astronaut, Eileen Collins (photograph: NASA)",
    "chelsea": "a cat, Chelsea (photograph: Stefan van der Walt)",
}
LONGEST = 640  # pixels: a larger picture is reduced before the model sees it, which reduces it further anyway

ALONE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<base href="../">
<title>Try the model</title>
<style>
html {{ background: Canvas; color: CanvasText; font: 16px/1.5 system-ui, sans-serif; }}
body {{ max-width: 60rem; margin: 0 auto; padding: 0 12px 24px; }}
</style>
<main>
<h1>Try the model</h1>
{page}</main>
</html>
"""


class RuntimeMissing(Exception):
    """A package of npm is not to be had; the message is a sentence for the user."""


def build(folder: Path) -> None:
    """Writes try/ into the folder. Raises RuntimeMissing, mrcnn.export.ExportError or CheckpointError."""
    model = mrcnn.playground_rcnn(pretrained=True)
    contents = runtime_files() | {MODEL: model_file(model)} | own_files()
    pictures, shown = sample_pictures(model)
    contents |= pictures | {"still.jpg": still_picture(model)}
    loaded = {"program": PROGRAM, "model": MODEL}
    page = facts(model) | {
        "pictures": shown,
        "load": {what: {"file": file, "bytes": len(contents[file])} for what, file in loaded.items()},
    }
    contents["page.json"] = json.dumps(page).encode()
    for name, value in contents.items():
        write_whole(folder / "try" / name, lambda file, value=value: file.write(value))


def facts(model: mrcnn.MaskRCNN) -> dict[str, Any]:
    """What the page's scripts have from Python, so that it is written down once."""
    return {
        "categories": model.labels["categories"],
        "keypoint_names": model.labels["keypoint_names"],
        "keypoint_labels": sorted(model.labels["keypoint_labels"]),
        "skeleton": model.labels["skeleton"],
        "colours": visualize.COLOURS,
        "ink": visualize.INK,
        "paper": visualize.PAPER,
        "score": visualize.SCORE,
        "keypoint_score": visualize.KEYPOINT_SCORE,
        "longest": LONGEST,
        "map": matplotlib.colormaps[VALUES](np.arange(0, 256, 4), bytes=True)[:, :3].tolist(),
    }


def own_files() -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for pattern in OWN_FILES for path in HERE.glob(pattern)}
    page = (HERE / "page.html").read_text()
    return files | {"index.html": ALONE.format(page=page).encode()}


def model_file(model: mrcnn.MaskRCNN) -> bytes:
    """The ONNX file of the model with the film's outputs; ExportError unless it gives the model's answers."""
    model = export.exportable(model, paste=True, float16=False)
    contents = export.converted(Film(model), None, False, export.OPSETS[0])
    for each in export.compare(model, contents, export.scenes(None)):
        if not each.equal():
            raise export.ExportError(f"the page's file would not give the model's answers: {each}")
    return contents


# ---- onnxruntime-web


def runtime_files() -> dict[str, bytes]:
    """Those files of the npm package that the page needs, by name."""
    with npm_package(RUNTIME, INTEGRITY) as package:
        return {name: package.extractfile(f"package/dist/{name}").read() for name in (SCRIPT, PROGRAM)}


def npm_package(file: str, integrity: str) -> tarfile.TarFile:
    """A package of npm, by the name that `npm pack` gives it, downloaded once.

    Raises RuntimeMissing where it is not to be had, or has another hash than is expected.
    """
    contents = fetched(file)
    digest = "sha512-" + base64.b64encode(hashlib.sha512(contents).digest()).decode()
    if digest != integrity:
        raise RuntimeMissing(f"{CACHE / file} must have the hash {integrity}, got {digest}: delete it, and try again")
    return tarfile.open(fileobj=io.BytesIO(contents))


def fetched(file: str) -> bytes:
    kept = CACHE / file
    if not kept.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise RuntimeMissing(f"npm must be installed to fetch {file}, and is not (apt-get install npm)")
        CACHE.mkdir(parents=True, exist_ok=True)
        name, version = file.removesuffix(".tgz").rsplit("-", 1)
        command = [npm, "pack", "--silent", "--pack-destination", str(CACHE), f"{name}@{version}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not kept.exists():
            raise RuntimeMissing(f"npm could not fetch {name} {version}: {done.stderr.strip()}")
    return kept.read_bytes()


# ---- Pictures


def sample_pictures(model: mrcnn.MaskRCNN) -> tuple[dict[str, bytes], list[dict[str, str]]]:
    """The files to choose from, and for each its name and what is in it, for the page."""
    files, shown = {}, []
    for number, (scene, target) in enumerate(scenes(), start=1):
        name = f"scene{number}.png"
        things = ", ".join(model.labels["categories"][label] for label in target["labels"].tolist())
        files[name] = encoded(scene, "PNG")
        shown.append({"file": name, "says": f"a drawn scene: {things}"})
    for name, says in PHOTOGRAPHS.items():
        photograph = torch.from_numpy(np.atleast_3d(getattr(skimage.data, name)())).permute(2, 0, 1)
        files[f"{name}.jpg"] = encoded(photograph.expand(3, -1, -1), "JPEG", quality=90)
        shown.append({"file": f"{name}.jpg", "says": says})
    return files, shown


def scenes() -> list[tuple[torch.Tensor, dict]]:
    playground = Playground(max(SCENES["rows"]) + 1, SCENES["seed"], SCENES["size"])
    return [playground[row] for row in SCENES["rows"]]


def still_picture(model: mrcnn.MaskRCNN) -> bytes:
    """What the page draws, for readers without scripts: the first scene with what the model finds in it."""
    scene, _ = scenes()[0]
    drawn = visualize.pixels(visualize.draw_photo(scene, model.predict(scene), model.labels))
    return encoded(torch.from_numpy(drawn.copy()).permute(2, 0, 1), "JPEG", quality=90)


def encoded(picture: torch.Tensor, form: str, **options: Any) -> bytes:
    """The picture uint8 (3, H, W) as a file."""
    file = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(file, form, **options)
    return file.getvalue()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where try/ is made")
    try:
        build(parser.parse_args().folder)
    except (RuntimeMissing, export.ExportError, CheckpointError) as error:
        raise SystemExit(f"build.py: {error}") from error
