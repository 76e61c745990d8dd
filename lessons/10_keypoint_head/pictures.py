"""A person and some heatmaps; where in its cell a keypoint is put back."""

from collections.abc import Mapping

import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from mrcnn.lab.views.maps import draw_bins, row_of_axes
from mrcnn.lab.views.pictures import BLUE, INK, LETTERS, ORANGE, PAPER, RED, caption, panels
from mrcnn.lab.views.poses import around, draw_heatmap, draw_sides
from mrcnn.lab.views.view import View
from mrcnn.visualize import draw_image


def opening(image, box, keypoints, names, skeleton, maps: Mapping[str, Tensor], marks: Tensor) -> View:
    """A person with its pose (J, 3), and heatmaps (M, M) over its box, each with a ring around its mark (x, y)."""
    figure, axes = panels(1 + len(maps), side=2.05)
    draw_image(axes[0], image)
    draw_sides(axes[0], keypoints, names, skeleton)
    around(axes[0], image, box, 0.08)
    caption(axes[0], "a pose; L: its own left")
    for (name, heatmap), mark, where in zip(maps.items(), marks, axes[1:], strict=True):
        draw_heatmap(where, image, box, heatmap, name, mark)
    told = "; ".join(f"{name} at ({x:.0f}, {y:.0f})" for name, (x, y) in zip(maps, marks.tolist(), strict=True))
    return View.of(figure, f"A person, its left and right limbs marked L and R, and heatmaps with their peaks: {told}.")


def half_cell(box: Tensor, point: Tensor, cell: Tensor, corner: Tensor, middle: Tensor, cells: int) -> View:
    """A box cut into cells; a keypoint (x, y), its cell (column, row), and two ways of putting it back."""
    figure, (axes,) = row_of_axes(1, 3.8)
    size = (box[2:] - box[:2]) / cells
    axes.add_patch(Rectangle((box[:2] + cell * size).tolist(), *size.tolist(), facecolor=ORANGE + "66"))
    draw_bins(axes, box, cells, colour=INK)
    for name, at, shape, colour in (
        ("true", point, "*", BLUE), ("corner", corner, "s", RED), ("middle", middle, "o", ORANGE),
    ):  # fmt: skip
        axes.plot(*at.tolist(), shape, color=colour, markersize=11, markeredgecolor=PAPER, label=name, linestyle="")
    axes.legend(fontsize=LETTERS + 1, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    axes.set(xlim=(box[0] - 1, box[2] + 1), ylim=(box[3] + 1, box[1] - 1), aspect="equal")
    axes.tick_params(labelsize=LETTERS)
    axes.spines[:].set_visible(False)
    figure.tight_layout()
    off = [float(torch.linalg.vector_norm(at - point)) for at in (corner, middle)]
    words = f"A box cut into {cells} by {cells} cells and a keypoint in one of them: put back at the cell's corner it "
    return View.of(figure, words + f"is {off[0]:.2f} pixels off, at its middle {off[1]:.2f}.", lines=True)
