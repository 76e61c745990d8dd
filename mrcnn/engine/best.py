"""Which evaluation of a run was the best so far, and for how many there has been no better one."""


def mean_ap(row: dict[str, float]) -> float:
    """The mean AP of the kinds (boxes, masks, keypoints) in a row of metrics.csv; -1 if nothing could be measured."""
    measured = [value for name, value in row.items() if name.endswith("/AP") and value >= 0]
    return sum(measured) / len(measured) if measured else -1.0


class Best:
    """The best of the rows of metrics.csv by mean AP, of equals the first: its `step` (None: there is none yet) and its
    `score`; `since` counts the measured rows after it. `last`: the step of the latest row, 0 before any."""

    def __init__(self) -> None:
        self.step: int | None = None
        self.score, self.since, self.last = -1.0, 0, 0

    def add(self, row: dict[str, float]) -> bool:
        """Whether this next row is better than all before."""
        better, self.last = mean_ap(row) > self.score, int(row["step"])
        if better:
            self.step, self.score, self.since = int(row["step"]), mean_ap(row), 0
        elif mean_ap(row) >= 0:
            self.since += 1
        return better
