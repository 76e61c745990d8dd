"""A data set drawn or read once, and kept in memory."""

from typing import Any

import torch
from tqdm import tqdm


class InMemory(torch.utils.data.Dataset):
    """The records of another data set, all made at the start, so that training never waits for them.

    Everything else (categories, names of keypoints, coco()) is the other's. Progress is shown on a terminal.
    """

    def __init__(self, dataset: Any):
        self.dataset = dataset
        self.records = [
            dataset[index]
            for index in tqdm(range(len(dataset)), desc="drawing", unit=" scenes", disable=None, leave=False)
        ]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict]:
        image, target = self.records[index]
        return image, dict(target)

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":  # not there yet: while a copy is made for a worker, say
            raise AttributeError(name)
        return getattr(self.dataset, name)
