"""Which pictures each step sees, and the workers that fetch them.

Nothing here has a state. The order of the pictures is a function of (seed, epoch), a picture's random choices are a
function of (seed, step, picture). So a run that is stopped and resumed, with another number of workers or spread over
other processes, sees the same pictures with the same augmentation at each step.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from mrcnn.data import collate
from mrcnn.data.augment import Augment, make_augment, select
from mrcnn.engine import distributed
from mrcnn.engine.settings import AUGMENTATIONS
from mrcnn.pictures import PictureError


def mixed_seed(*parts: int | str) -> int:
    """A seed of 32 bits that depends on every part; neighbouring parts give unrelated seeds."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=4).digest(), "little")


class Order:
    """The order in which a run sees ``length`` pictures: a new permutation for each epoch.

    With ``groups`` (length,) the pictures of a batch come from one group where possible (landscape with landscape:
    less padding). Then an epoch is a whole number of batches, and the few pictures left over, others each time, wait
    for the next epoch.
    """

    def __init__(self, length: int, batch_size: int, seed: int, groups: torch.Tensor | None = None):
        if length == 0:
            raise ValueError("the training data set has no pictures")
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.groups = groups if groups is not None and length >= batch_size else None
        self.epoch_length = length if self.groups is None else length - length % batch_size
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def batch(self, step: int) -> list[int]:
        """The pictures of a step, counted from 0."""
        return [self.picture(step * self.batch_size + place) for place in range(self.batch_size)]

    def picture(self, position: int) -> int:
        epoch, place = divmod(position, self.epoch_length)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self.permutation(epoch)
        return int(self._order[place])

    def permutation(self, epoch: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(mixed_seed("epoch", self.seed, epoch))
        order = torch.randperm(self.length, generator=generator)
        if self.groups is None:
            return order
        order = order[torch.argsort(self.groups[order], stable=True)][: self.epoch_length]
        batches = order.view(-1, self.batch_size)  # (epoch's steps, batch size); few rows hold two groups
        return batches[torch.randperm(len(batches), generator=generator)].flatten()


class Steps(Sampler):
    """For each step from ``first`` on, the (step, picture) pairs of this process's share of the batch."""

    def __init__(self, order: Order, first: int, last: int | None):
        self.order, self.first, self.last = order, first, last

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        step, share, rank = self.first, self.order.batch_size // distributed.world_size(), distributed.rank()
        while self.last is None or step < self.last:
            mine = self.order.batch(step)[rank * share : (rank + 1) * share]
            yield [(step, picture) for picture in mine]
            step += 1


class SeededPictures(Dataset):
    """A data set that is asked for (step, picture), and makes its random choices from (seed, step, picture) alone.

    ``augment(image, target, generator)`` draws from the generator. What draws from torch's global one instead
    (torchvision's transforms) is held to the same rule: it is seeded for the picture, and afterwards put back.
    """

    def __init__(self, dataset: Any, seed: int, augment: Augment | None = None):
        self.dataset, self.seed, self.augment = dataset, seed, augment

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, dict]:
        step, picture = key
        seed = mixed_seed("picture", self.seed, step, picture)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            image, target = self.dataset[picture]
            if self.augment is not None:
                image, target = self.augment(image, target, torch.Generator().manual_seed(seed))
        # A crowd's one box around many teaches neither what an object nor what background is.
        return image, select(target, target["iscrowd"] == 0) | {"seed": seed}


def augmentation(name: str, dataset: Any) -> Augment | None:
    options = AUGMENTATIONS[name]
    return None if options is None else make_augment(dataset, **options)


def start_worker(_worker: int) -> None:
    """A worker leaves Ctrl-C and SIGTERM, which often come to all processes of a run (from a terminal, `timeout` or a
    cluster's scheduler), to the process that trains, and gives way to it where cores are few."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=obey_the_parent, daemon=True).start()
    os.nice(5)


def obey_the_parent() -> None:
    """Ends this process at a SIGTERM from the one that started it: so torch stops a worker that has not stopped."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


class Telling(Dataset):
    """A data set that gives a picture's error in its place. Raised in a worker, torch would put the worker's whole
    traceback into the error's sentence."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.dataset[key]
        except PictureError as error:
            return error


def collate_or_tell(batch: list) -> Any:
    return next((each for each in batch if isinstance(each, PictureError)), None) or collate(batch)


def fetch(dataset: Any, batches: Iterable, workers: int, pin: bool = False) -> Iterator[tuple[list, list]]:
    """The pictures and targets of each batch of keys. A picture's error is raised here, as it was told."""
    loader = DataLoader(
        Telling(dataset),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate_or_tell,
        pin_memory=pin,
        worker_init_fn=start_worker if workers else None,
        prefetch_factor=3 if workers else None,
    )
    for batch in loader:
        if isinstance(batch, PictureError):
            raise batch
        yield batch


def shape_groups(dataset: Any) -> torch.Tensor | None:
    """0 for an upright picture, 1 for one at least as wide as high; from the annotations, without opening pictures.

    None for a data set that does not tell sizes, as the playground, whose scenes are all square.
    """
    if not hasattr(dataset, "sizes"):
        return None
    return torch.tensor([int(width >= height) for width, height in dataset.sizes()])
