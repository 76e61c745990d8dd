"""Trains the tiny model in a process of its own, to be stopped, killed, or run beside another (torchrun).

python run_tiny.py OUT STEPS [option=value …]; writes OUT/end-RANK.pt with the weights at the end.
"""

import sys
import time
from pathlib import Path

import torch
from fakes import Noise, TinyModel

from mrcnn.engine import distributed
from mrcnn.engine.train import TrainSettings, train


def tiny_settings(**options) -> TrainSettings:
    return TrainSettings(**{"batch_size": 4, "lr": 0.05, "average": 0.9, "tensorboard": False, "seed": 3, **options})


def tiny_model(**options) -> TinyModel:
    torch.manual_seed(1)
    return TinyModel(**options)


class Slow(Noise):
    """Takes a little time over each picture, so that there is time to interrupt."""

    def __getitem__(self, index):
        time.sleep(0.002)
        return super().__getitem__(index)


if __name__ == "__main__":
    out = Path(sys.argv[1])
    options = {name: eval(value) for name, value in (each.split("=") for each in sys.argv[3:])}
    resume, plain = options.pop("resume", False), options.pop("plain", False)
    model = tiny_model(dropout=0.0, norm=False) if plain else tiny_model()
    with distributed.processes("cpu"):
        train(model, Slow(), tiny_settings(steps=int(sys.argv[2]), **options), out=out, resume=resume)
        torch.save(model.state_dict(), out / f"end-{distributed.rank()}.pt")
