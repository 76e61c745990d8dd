"""Trains the tiny model in a process of its own, to be stopped, killed, or run beside another (torchrun).

python run_tiny.py OUT STEPS [option=value …]; writes OUT/end-RANK.pt with the weights at the end, and
metrics that all processes measured together.
"""

import sys
import time
from pathlib import Path

import torch
from fakes import HandMade, Noise, Oracle, TinyModel, truth_as_results

from mrcnn.engine import distributed
from mrcnn.engine.evaluate import evaluate
from mrcnn.engine.settings import TrainSettings
from mrcnn.engine.train import train


def tiny_settings(**options) -> TrainSettings:
    return TrainSettings(**{"batch_size": 4, "lr": 0.05, "average": 0.9, "tensorboard": False, "seed": 3, **options})


def tiny_model(**options) -> TinyModel:
    torch.manual_seed(1)
    return TinyModel(**options)


def same(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class Slow(Noise):
    """Takes a little time over each picture, so that there is time to interrupt."""

    def __getitem__(self, index):
        time.sleep(0.002)
        return super().__getitem__(index)


def shaky_metrics() -> dict:
    """The metrics of an oracle whose boxes are a little off, on eleven pictures in batches of two."""
    dataset = HandMade([[(1 + i % 2, [4.0 + i, 4, 40, 60], 0), (2, [50, 10, 90 - i, 50], 0)] for i in range(11)])
    told = [truth_as_results(dataset[i][1]) for i in range(11)]
    for i, result in enumerate(told):
        result["boxes"] = result["boxes"] + i
        result["scores"] = result["scores"] - 0.01 * torch.tensor([i, 20 - i])
    return evaluate(Oracle(told), dataset, batch_size=2)


if __name__ == "__main__":
    out = Path(sys.argv[1])
    options = {name: eval(value) for name, value in (each.split("=") for each in sys.argv[3:])}
    resume, plain = options.pop("resume", False), options.pop("plain", False)
    model = tiny_model(dropout=0.0, norm=False) if plain else tiny_model()
    with distributed.processes("cpu"):
        train(model, Slow(), tiny_settings(steps=int(sys.argv[2]), **options), out=out, resume=resume)
        end = {"weights": model.state_dict(), "metrics": shaky_metrics()}
        torch.save(end, out / f"end-{distributed.rank()}.pt")
