"""What a run leaves to look at: losses.csv and metrics.csv, the same for TensorBoard, and the progress bar."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mrcnn.errors import CheckpointError
from mrcnn.files import write_whole


class Table:
    """A CSV file with one row per step, made when the first row comes.

    Rows after step ``last_step``, left by a run that was killed, are taken out.
    """

    def __init__(self, path: Path, last_step: int):
        self.path, self.columns, self.file = path, [], None
        kept = [row for row in read_table(path) if row["step"] <= last_step] if last_step else []
        if not kept:
            path.unlink(missing_ok=True)
            return
        self.columns = list(kept[0])
        text = "".join(",".join(map(str, line)) + "\r\n" for line in [self.columns, *map(self._line, kept)])
        write_whole(path, lambda file: file.write(text.encode()))
        self.file = path.open("a", newline="")

    def add(self, row: dict[str, float]) -> None:
        if self.file is None:
            self.file = self.path.open("w", newline="")
            self.columns = list(row)
            csv.writer(self.file).writerow(self.columns)
        csv.writer(self.file).writerow(self._line(row))

    def _line(self, row: dict[str, float]) -> list:
        return [row.get(column, "") for column in self.columns]

    def flush(self) -> None:
        if self.file is not None:
            self.file.flush()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


def read_table(path: str | Path) -> list[dict[str, float]]:
    """The rows of a table; a last row that was cut short is left out. Raises CheckpointError for another kind of file,
    as one that a spreadsheet has written with semicolons."""
    path = Path(path)
    if not path.exists():
        return []
    try:
        text = path.read_bytes().decode("utf-8-sig")  # as it is: half an end of a line is none
        rows = list(csv.reader(text[: text.rfind("\n") + 1].splitlines()))
        if rows and "step" not in rows[0]:
            raise ValueError("it has no column step")
        whole = [row for row in rows[1:] if len(row) == len(rows[0])]
        return [{name: float(value) for name, value in zip(rows[0], row, strict=True) if value} for row in whole]
    except (ValueError, csv.Error) as error:
        raise CheckpointError(f"{path} is not as a run writes it ({error}): put it right, or out of the way") from error


class CsvLog:
    """Writes the losses and metrics of a run into a folder, for TensorBoard too; does nothing without one."""

    def __init__(self, folder: Path | None, last_step: int, tensorboard: bool):
        self.losses = self.metrics = self.board = None
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.losses = Table(folder / "losses.csv", last_step)
        self.metrics = Table(folder / "metrics.csv", last_step)
        if tensorboard:
            self.board = _summary_writer(folder, last_step + 1)

    def add_losses(self, row: dict[str, float]) -> None:
        if self.losses is not None:
            self.losses.add(row)
        self._add_to_board("train", row)

    def add_metrics(self, row: dict[str, float]) -> None:
        if self.metrics is not None:
            self.metrics.add(row)
            self.metrics.flush()
        self._add_to_board("evaluation", row)

    def flush(self) -> None:
        for part in (self.losses, self.metrics, self.board):
            if part is not None:
                part.flush()

    def close(self) -> None:
        for part in (self.losses, self.metrics, self.board):
            if part is not None:
                part.close()

    def _add_to_board(self, group: str, row: dict[str, float]) -> None:
        if self.board is not None:
            for name, value in row.items():
                if name != "step":
                    self.board.add_scalar(f"{group}/{name}", value, int(row["step"]))


def _summary_writer(folder: Path, first_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # the CSV files have it all
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)


class Progress:
    """A bar over the share of a run that is done, with the time left, the step and the loss; silent when the output is
    no terminal."""

    def __init__(self, shown: bool):
        self.bar = tqdm(
            total=100,
            desc="training",
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left{postfix}",
            dynamic_ncols=True,
            disable=None if shown else True,
        )

    def update(self, share: float, row: dict[str, float]) -> None:
        if self.bar.disable:
            return
        self.bar.set_postfix(step=row["step"], loss=f"{row['loss']:.3f}", refresh=False)
        self.bar.update(100 * min(share, 1.0) - self.bar.n)

    def close(self) -> None:
        self.bar.close()
