"""How many scenes of the playground, records included, one core makes in a second."""

import time

import numpy as np
import torch

from mrcnn.data import Playground

SCENES, ROUNDS = 200, 7


def main() -> None:
    torch.set_num_threads(1)
    for size in (128, 256):
        dataset = Playground(SCENES, size=size)
        dataset[0]  # makes the noise, once per process
        wall, cpu = [], []
        for _ in range(ROUNDS):
            start, busy = time.perf_counter(), time.process_time()
            for index in range(SCENES):
                dataset[index]
            wall.append(SCENES / (time.perf_counter() - start))
            cpu.append(SCENES / (time.process_time() - busy))
        print(
            f"{size} x {size}: {np.median(wall):.0f} scenes/s by the clock ({min(wall):.0f} to {max(wall):.0f}), "
            f"{np.median(cpu):.0f} per second of processor time"
        )


if __name__ == "__main__":
    main()
