"""The bits of floats."""

from collections.abc import Sequence

import numpy as np
from matplotlib.patches import Rectangle

from mrcnn.lab.views.pictures import page
from mrcnn.lab.views.view import View
from mrcnn.visualize import COLOURS, INK, PAPER


def bits(values: Sequence[float]) -> View:
    """The 32 bits of some floats, one row each: sign, exponent, fraction; and the integer that they also are."""
    numbers = np.array(values, dtype=np.float32)
    figure = page(10.5, 0.32 * len(numbers) + 0.55)
    axes = figure.add_axes((0, 0, 1, 1))
    parts = [("sign", 0, 1, COLOURS[2]), ("exponent", 1, 9, COLOURS[1]), ("fraction", 9, 32, COLOURS[4])]
    for row, (value, whole) in enumerate(zip(numbers, numbers.view(np.int32), strict=True)):
        axes.text(-0.6, row + 0.5, f"{value:.4g}", ha="right", va="center", fontsize=10, color=INK)
        axes.text(32.6, row + 0.5, f"{whole:,}", ha="left", va="center", fontsize=9, color=INK)
        for name, first, end, colour in parts:
            if row == 0:
                axes.text(first, -0.3, name, fontsize=9, color=INK, ha="right" if name == "sign" else "left")
            for place in range(first, end):
                on = whole >> (31 - place) & 1
                face = colour if on else PAPER
                axes.add_patch(
                    Rectangle((place, row + 0.08), 1, 0.84, facecolor=face, edgecolor="#aaaaaa", linewidth=0.5)
                )
                axes.text(place + 0.5, row + 0.5, str(on), ha="center", va="center", fontsize=9, color=INK)
    axes.text(32.6, -0.3, "read as an int", fontsize=9, color=INK)
    axes.set(xlim=(-5, 40), ylim=(len(numbers) + 0.1, -1))
    axes.set_axis_off()
    rows = "; ".join(f"{v:.4g} is {w:,}" for v, w in zip(numbers, numbers.view(np.int32).tolist(), strict=True))
    return View.of(
        figure, f"The 32 bits of floats, read as whole numbers: {rows}. They are in the same order.", lines=True
    )
