"""Random damage to what the command reads: it must end with a result or a sentence, and leave nothing half written."""

import contextlib
import csv
import io
import json
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import damage
import matplotlib
import torch
from PIL import Image

from mrcnn.cli import main
from mrcnn.engine.settings import AUGMENTATIONS
from mrcnn.model_file import SHIPPED

matplotlib.use("Agg")
TRAIN = ["--model", "playground", "--steps", 1, "--batch-size", 2]


def prepare(room: Path) -> None:
    """What the cases damage copies of: three scenes, a trained model, a run of one step."""
    command("playground", "--out", room / "sound", "--images", 3, "--size", 64, "--seed", 3, out=room / "sound")
    command("train", *data(room / "sound"), *TRAIN, "--out", room / "sound" / "run", out=room / "sound")
    command("doctor", *data(room / "sound"), "--out", room / "sound" / "page.png", out=room / "sound")
    shutil.copy(SHIPPED["playground"], room / "sound" / "model.pt")
    (room / "modules.json").write_text(json.dumps(sorted(sys.modules)))


def data(folder: Path, prefix: str = "") -> list:
    return [
        *(f"--{prefix}data", folder / "images"),
        *(f"--{prefix}annotations", folder / "instances.json"),
        *(f"--{prefix}keypoints", folder / "person_keypoints.json"),
    ]


# ---- what is asked of the command


def command(*arguments, out: Path) -> None:
    """Runs `mrcnn ARGUMENTS`. Whatever it raises but the end of the program goes through: that is a traceback."""
    print("mrcnn", *arguments, flush=True)
    said = io.StringIO()
    status = 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code
    print(said.getvalue()[-2000:], flush=True)
    assert status in (0, 1, 2), f"it ended with {status}"
    assert status == 0 or said.getvalue().strip(), "it failed without a word"
    assert "Traceback" not in said.getvalue()
    for file in out.rglob("*"):
        assert file.suffix != ".part", f"{file} is left"
        if file.suffix in READERS and file.is_file():
            READERS[file.suffix](file)


def read_strictly(file: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{file} holds {constant}, which is not JSON")

    json.loads(file.read_text(), parse_constant=refuse)


def read_picture(file: Path) -> None:
    with Image.open(file) as picture:
        picture.load()


def read_table(file: Path) -> None:
    with file.open(newline="") as stream:
        assert len({len(row) for row in csv.reader(stream)}) == 1, f"{file}: its rows differ in length"


READERS: dict[str, Callable[[Path], object]] = {
    ".json": read_strictly,
    ".png": read_picture,
    ".csv": read_table,
    ".pt": lambda file: torch.load(file, weights_only=True),
}


# ---- cases


def use_data(folder: Path, out: Path) -> None:
    """One of the commands that read a data set."""
    keypoints = random.random() < 0.7
    which = data(folder) if keypoints else data(folder)[:4]
    on_error = ["--on-error", random.choice(["raise", "skip"])]
    what = random.choice(["doctor", "eval", "train", "train", "validation"])
    if what == "doctor":
        command("doctor", *which, "--out", out / "page.png", out=out)
    elif what == "eval":
        command("eval", *which, *on_error, "--weights", folder / "model.pt", "--out", out / "metrics.json", out=out)
    elif what == "train":
        augment = ["--augment", random.choice(list(AUGMENTATIONS))]
        command("train", *which, *on_error, *TRAIN, *augment, "--out", out, out=out)
    else:
        sound = data(folder.parent / "sound")
        command("train", *sound, *data(folder, "val-"), *on_error, *TRAIN, "--evaluate-every", 1, "--out", out, out=out)


def annotations(folder: Path, out: Path) -> None:
    damage.damage_json(folder / random.choice(["instances.json", "person_keypoints.json"]))
    use_data(folder, out)


def pictures(folder: Path, out: Path) -> None:
    files = sorted((folder / "images").iterdir())
    for file in files[: random.choice([1, 1, 3])]:
        damage.damage_picture(file)
    if random.random() < 0.5:
        command("predict", *files, "--weights", folder / "model.pt", "--out", out, out=out)
    else:
        use_data(folder, out)


def weights(folder: Path, out: Path) -> None:
    checkpoint = next((folder / "run").glob("checkpoint-*.pt"))
    what = random.choice(["predict", "predict", "torchvision", "eval", "train", "resume"])
    file = checkpoint if what == "resume" else random.choice([folder / "model.pt", checkpoint])
    damage.damage_weights(file)
    photo = next((folder / "images").iterdir())
    if what == "predict":
        command("predict", photo, "--weights", file, "--out", out, out=out)
    elif what == "torchvision":
        command("predict", photo, "--weights", file, "--model", "playground", "--out", out, out=out)
    elif what == "eval":
        command("eval", *data(folder), "--weights", file, "--out", out / "metrics.json", out=out)
    elif what == "train":
        command("train", *data(folder), "--weights", file, *TRAIN[2:], "--out", out, out=out)
    else:
        again = ["--resume", "--steps", 2, "--out", folder / "run"]  # of the options given twice the last counts
        command("train", *data(folder), *TRAIN, *again, out=out)


def options(folder: Path, out: Path) -> None:
    """Numbers, words and paths that no option expects."""
    names = """steps seconds batch-size lr optimizer weight-decay schedule warmup clip average frozen-stages augment
    seed checkpoint-every evaluate-every device model weights backbone-weights data annotations keypoints""".split()
    values = "-1 0 1 3 0.5 1e-30 1e30 nan inf -inf x cuda cpu sgd steps playground maskrcnn /dev/null".split()
    values += ["", folder, folder / "instances.json", folder / "model.pt"]
    chosen = [word for name in random.sample(names, 2) for word in (f"--{name}", random.choice(values))]
    command("train", *data(folder), *TRAIN, "--out", out, *chosen, out=out)


def kind(name: str, case: Callable[[Path, Path], None]) -> Callable[[int, Path], None]:
    def run(seed: int, room: Path) -> None:
        random.seed(seed)
        torch.manual_seed(seed)
        torch.set_num_threads(1)  # so small a model only waits for a second one
        folder = room / f"{name}-{seed}"
        shutil.copytree(room / "sound", folder)
        (folder / "out").mkdir()
        try:
            case(folder, folder / "out")
        finally:
            shutil.rmtree(folder)

    return run


KINDS = {case.__name__: kind(case.__name__, case) for case in (annotations, pictures, weights, options)}
