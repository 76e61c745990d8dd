"""Curves over one another: a measure against steps, numbers or thresholds. Their values are told in the description."""

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mrcnn.visualize import INK

from .pictures import BLUE, GREEN, GREY, LETTERS, ORANGE, PINK, RED, page
from .view import View

LOOKS = (  # told apart by dashes and markers too
    (BLUE, "-", "o"), (RED, "--", "s"), (GREEN, "-.", "^"), (PINK, ":", "D"), (ORANGE, (0, (4, 1, 1, 1, 1, 1)), "v"),
)  # fmt: skip
TOLD = 6  # points of each curve, at most, in the description


@dataclasses.dataclass(frozen=True)
class Panel:
    """One pair of axes: curves by their names, each as its x and its y, and what they are.

    y may have several runs (R, N): drawn is their mean, with bars of one standard deviation to both sides.
    """

    title: str
    across: str  # what x is
    lines: Mapping[str, tuple[Sequence[float], Sequence[float] | Tensor]]  # one alone may have "" for a name
    log: bool = False  # x by powers of ten
    limits: tuple[float, float] | None = None  # of y
    level: float | None = None  # of y, to compare with

    def in_words(self) -> str:
        told = []
        for name, (xs, runs) in self.lines.items():
            ys, bars = mean_and_spread(runs)
            values = [f"{y:.3g}" for y in ys.tolist()]
            if bars is not None:
                values = [f"{value} ± {bar:.2g}" for value, bar in zip(values, bars.tolist(), strict=True)]
            step = max(-(-(len(xs) - 1) // (TOLD - 1)), 1) if len(xs) > 1 else 1
            rows = sorted({*range(0, len(xs), step), len(xs) - 1})
            told.append(f"{name}: " * bool(name) + ", ".join(f"{values[row]} at {float(xs[row]):.3g}" for row in rows))
        return f"{self.title}, against {self.across}. {'; '.join(told)}."


def mean_and_spread(runs: Sequence[float] | Tensor) -> tuple[Tensor, Tensor | None]:
    """Of several runs (R, N), or of one (N,), which has no spread."""
    values = torch.as_tensor(runs, dtype=torch.float64)
    return (values, None) if values.dim() < 2 else (values.mean(0), values.std(0))


def curves(*panels: Panel, width: float = 10.8, height: float = 3.4) -> View:
    """Panels beside one another, each with its curves and their names. At most five curves can be told apart."""
    if max(len(panel.lines) for panel in panels) > len(LOOKS):
        raise ValueError(f"a panel can have {len(LOOKS)} curves, got {[len(panel.lines) for panel in panels]}")
    figure = page(width, height)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for where, panel in zip(axes, panels, strict=True):
        if panel.level is not None:
            where.axhline(panel.level, color=GREY, linewidth=1)
        for (name, (xs, runs)), (colour, dashes, marker) in zip(panel.lines.items(), LOOKS, strict=False):
            every = max(len(xs) // 10, 1)
            ys, bars = mean_and_spread(runs)
            where.errorbar(xs, ys, bars, color=colour, linestyle=dashes, linewidth=1.8, marker=marker, markersize=4.5,
                           markevery=every, label=name, capsize=3)  # fmt: skip
        if panel.log:
            where.set_xscale("log")
            every = [x for xs, _ in panel.lines.values() for x in xs]
            marks = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
            ticks = [n for n in marks if min(every) <= n <= max(every)]
            where.set_xticks(ticks, [str(n) for n in ticks])
            where.minorticks_off()
        where.set_title(panel.title, fontsize=LETTERS + 1, loc="left", color=INK, weight="bold")
        where.set_xlabel(panel.across, fontsize=LETTERS, color=INK)
        where.set_ylim(panel.limits)
        where.tick_params(labelsize=LETTERS)
        where.grid(color="#e2e2e2", linewidth=0.6)
        where.spines[["top", "right"]].set_visible(False)
        where.spines[["left", "bottom"]].set_color(GREY)
        if any(panel.lines):
            where.legend(fontsize=LETTERS, frameon=False)
    figure.tight_layout()
    return View.of(figure, " ".join(panel.in_words() for panel in panels), lines=True)
