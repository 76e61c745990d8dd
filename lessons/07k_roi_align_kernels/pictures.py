"""How many outputs lean on a cell."""

from torch import Tensor

from mrcnn.lab.views.maps import draw_bins, draw_map, row_of_axes
from mrcnn.lab.views.view import View
from mrcnn.visualize import COLOURS


def fan_in(counts: Tensor, boxes: Tensor) -> View:
    """How many outputs add to each cell's gradient, with the boxes (in cells) that they come from."""
    figure, (axes,) = row_of_axes(1, 4.4)
    draw_map(axes, counts, "how many outputs add to each cell", numbers=True)
    for box, colour in zip(boxes, COLOURS[5:] + COLOURS[:4], strict=False):
        draw_bins(axes, box, 1, colour=colour)
    figure.tight_layout()
    words = f"{len(boxes)} boxes on {counts.numel()} cells: up to {int(counts.max())} outputs add to one of them."
    return View.of(figure, words, lines=True)
