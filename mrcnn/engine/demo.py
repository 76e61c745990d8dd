"""The demo: train the small joint model on the playground, measure it, draw what it sees, try it on a photograph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrcnn import visualize, zoo
from mrcnn.boxes import iou
from mrcnn.data import InMemory, Playground
from mrcnn.data.playground.people import SHOULDER
from mrcnn.engine import checkpoint
from mrcnn.engine.csv_log import read_table
from mrcnn.engine.evaluate import evaluate
from mrcnn.engine.predict import detect
from mrcnn.engine.settings import TrainSettings
from mrcnn.engine.train import train
from mrcnn.files import write_json
from mrcnn.processor import multiplies_bfloat16

SCENES = 1_000_000  # of a run of any length: more than it sees, so that every scene is new
DEMO_SCENES = 3000  # of the demo: drawn beforehand, and mirrored at random, so that both cores train
# One person in ten walks away, and a model that has seen few of these takes their left for their right. So scenes with
# one come up more often (repeat factor sampling, as LVIS does it for rare classes: Gupta et al. 2019).
TIMES_FROM_BEHIND = 3
TEST_SEED = 20_000_000  # scenes of a seed that no training uses
SHOWN = 9

# What is tuned for this size of model, picture and budget: a fixed number of small steps, so that a slow machine takes
# longer and learns the same.
SETTINGS = TrainSettings(
    steps=2000,
    batch_size=4,
    optimizer="muon",
    lr=0.002,
    weight_decay=0.01,
    average=0.99,
    bfloat16=multiplies_bfloat16(),
    augment="flip_paste",
    tensorboard=False,
)


# So small a batch has few objects: half of what the box head sees may be of them. Some of these are enough for the mask
# head, whose map per class costs the most; where a keypoint is, is the hardest to learn.
HEADS = {
    "box": {"samples": 20, "positive_fraction": 0.5},
    "mask": {"samples": 4},
    "keypoint": {"loss_weight": 2.0},
}


def demo(out: Path, settings: TrainSettings = SETTINGS, test_scenes: int = 200) -> dict[str, Any]:
    """Trains, evaluates and draws; leaves metrics.json, predictions.png, curves.png, coins.png and model.pt in ``out``.

    Returns the metrics.
    """
    with checkpoint.hold(out):  # unless another demo is at work there
        forget_checkpoints(out)  # each one starts anew
    test = Playground(test_scenes, seed=TEST_SEED)
    torch.manual_seed(settings.seed)
    model = zoo.build("playground", **HEADS)
    report = train(model, training_scenes(settings.seed), settings, out=out)
    metrics: dict[str, Any] = evaluate(model, test, show_progress=True)
    metrics |= {"train_seconds": round(report.seconds, 1), "train_steps": report.steps}
    draw(model, test, metrics, out)
    coins = try_coins(model, out / "coins.png")
    if coins is not None:
        metrics["coins"] = coins
    write_json(out / "metrics.json", metrics)
    forget_checkpoints(out)  # model.pt is what is left
    return metrics


def training_scenes(seed: int) -> InMemory:
    """`DEMO_SCENES` scenes, those with somebody seen from behind `TIMES_FROM_BEHIND` times."""
    scenes = InMemory(Playground(DEMO_SCENES, seed))
    rare = [record for record in scenes.records if from_behind(record[1])]
    scenes.records += (TIMES_FROM_BEHIND - 1) * rare
    return scenes


def from_behind(target: dict[str, Any]) -> bool:
    """Whether a scene shows somebody from behind: both shoulders are there, the left one at the smaller x."""
    left, right = target["keypoints"][:, SHOULDER], target["keypoints"][:, SHOULDER + 1]  # (K, 3) [x, y, v]
    return bool(((left[:, 2] > 0) & (right[:, 2] > 0) & (left[:, 0] < right[:, 0])).any())


def forget_checkpoints(out: Path) -> None:
    for path in checkpoint.checkpoints(out):
        path.unlink()


def draw(model: torch.nn.Module, test: Playground, metrics: dict[str, Any], out: Path) -> None:
    scenes = [test[index] for index in range(min(SHOWN, len(test)))]
    images, targets = zip(*scenes, strict=True)
    results = [detect(model, image) for image in images]
    title = f"Scenes never seen in training, after {metrics['train_steps']} steps"
    visualize.save(visualize.draw_page(images, results, targets, model.labels, title=title), out / "predictions.png")
    losses = read_table(out / "losses.csv")
    title = f"playground_rcnn, {metrics['train_steps']} steps in {metrics['train_seconds']:.0f} s"
    visualize.save(visualize.draw_curves(losses, metrics, title), out / "curves.png")


def try_coins(model: torch.nn.Module, path: Path, min_score: float = 0.5) -> dict[str, int] | None:
    """How many of the coins on scikit-image's photograph the model sees; None if scikit-image is not installed."""
    photo = coins_photo()
    if photo is None:
        return None
    image, truth = photo
    result = detect(model, image)
    sure = result["scores"] >= min_score
    visualize.save(visualize.draw_photo(image, result, model.labels, min_score=min_score), path)
    return {"coins": len(truth), "found": count_found(result["boxes"][sure], truth), "detections": int(sure.sum())}


def coins_photo() -> tuple[torch.Tensor, torch.Tensor] | None:
    """The photograph (3, H, W) of coins on a table, and a box around each of the 24 coins.

    The boxes come from the picture itself: flood its gradient from what is surely coin and what is surely table
    (the watershed), and what is connected is a coin.
    """
    try:
        from scipy import ndimage
        from skimage import data, filters, segmentation
    except ImportError:
        return None
    grey = data.coins()
    sure = np.zeros(grey.shape, dtype=np.int32)
    sure[grey < 30], sure[grey > 150] = 1, 2  # table, coin
    coin = segmentation.watershed(filters.sobel(grey), sure) == 2
    parts, _ = ndimage.label(ndimage.binary_fill_holes(coin))
    boxes = [
        [columns.start, rows.start, columns.stop, rows.stop]
        for number, (rows, columns) in enumerate(ndimage.find_objects(parts), start=1)
        if (parts == number).sum() > 100  # one speck of two pixels is no coin
    ]
    return torch.from_numpy(grey).expand(3, -1, -1).contiguous(), torch.tensor(boxes, dtype=torch.float32)


def count_found(boxes: torch.Tensor, truth: torch.Tensor, threshold: float = 0.5) -> int:
    """How many of the true boxes (G, 4) are found: each of the boxes (K, 4), the surest first, can claim one."""
    overlaps = iou(truth, boxes)  # (G, K)
    found = 0
    for column in overlaps.unbind(1):
        if len(column) and column.max() >= threshold:
            found += 1
            overlaps[column.argmax()] = 0
    return found
