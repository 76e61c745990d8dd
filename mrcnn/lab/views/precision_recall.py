"""The curve of precision over recall, with the rank of each detection at its place."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from mrcnn.visualize import INK

from .pictures import BLUE, GREEN, GREY, LETTERS, RED

__all__ = ["draw_precision_recall"]


def draw_precision_recall(
    axes: Axes,
    precision: Sequence[float],
    recall: Sequence[float],
    hits: Sequence[bool],
    read: tuple[Sequence[float], Sequence[float]] | None = None,
) -> None:
    """A list of N detections cut after each one: a dot with its rank for a hit, a cross for a false one.

    read: points of recall and the precision that is read there, drawn as small dots.
    """
    axes.plot(recall, precision, color=GREY, linewidth=1, zorder=1)
    if read is not None:
        axes.plot(*read, ".", color=BLUE, markersize=3.5, zorder=2)
    for rank, (p, r, hit) in enumerate(zip(precision, recall, hits, strict=True), start=1):
        colour, marker = (GREEN, "o") if hit else (RED, "X")
        axes.plot(r, p, marker, color=colour, markersize=8, markeredgecolor=INK, zorder=3)
        axes.annotate(
            str(rank), (r, p), (7, 2 if hit else -11), textcoords="offset points", fontsize=LETTERS, color=INK, zorder=4
        )
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.1))
    axes.set_xlabel("recall: objects found", fontsize=LETTERS, color=INK)
    axes.set_ylabel("precision: detections right", fontsize=LETTERS, color=INK)
    axes.tick_params(labelsize=LETTERS)
    axes.grid(color="#e2e2e2", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
