"""The keypoint head: what the learner writes."""

import math

import torch
import torch.nn.functional as F
from pycocotools.cocoeval import COCOeval, Params
from torch import Tensor

from mrcnn.lab.check import exercise

SIGMAS = torch.tensor(Params("keypoints").kpt_oks_sigmas, dtype=torch.float32)  # (17,), COCO's

BOXES = torch.tensor([[8.0, 16, 24, 48], [-4, 2, 12, 10]])  # neither is a square
# Inside, hidden, not labelled, on the right and lower edges, just off the left and upper ones, just off the others.
POINTS = torch.tensor([
    [[13.0, 45, 2], [21, 19, 1], [12, 20, 0], [24, 48, 2], [8, 16, 2], [7.5, 30, 2], [10, 15, 2], [24.5, 30, 1]],
    [[-3.5, 9.5, 2], [4, 3, 1], [0, 0, 0], [12, 4, 2], [3, 10, 1], [2, 1.5, 2], [12.5, 4, 2], [11.5, 2.5, 2]],
])  # fmt: skip
POSES = POINTS * (POINTS[..., 2:] > 0)  # as data sets have it: what is not labelled is 0, 0, 0


def searched_for(keypoints: Tensor, boxes: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """Of every cell it is asked whether the keypoint lies in it."""
    cells, counts = torch.zeros(keypoints.shape[:2], dtype=torch.int64), torch.zeros(keypoints.shape[:2]).bool()
    for k, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        xs, ys = ([a + i * (b - a) / resolution for i in range(resolution + 1)] for a, b in ((x1, x2), (y1, y2)))
        for j, (x, y, v) in enumerate(keypoints[k].tolist()):
            for row in range(resolution):
                for column in range(resolution):
                    across = xs[column] <= x < xs[column + 1] or (x == x2 and column == resolution - 1)
                    down = ys[row] <= y < ys[row + 1] or (y == y2 and row == resolution - 1)
                    if v > 0 and across and down:
                        cells[k, j], counts[k, j] = row * resolution + column, True
    return cells, counts


@exercise(
    cases=lambda: [(POINTS, BOXES, 4), (POINTS, BOXES, 8)],
    truth=searched_for,
    mistakes={
        ".floor().long() ⇒ .round().long()": "rounded to the nearest line. The cell it lies in comes by rounding down",
        ".floor().long() ⇒ .long()": "right inside the box. `.long()` cuts towards 0, so that a keypoint just outside, "
        "at -0.25 cells, falls into cell 0: take `.floor()` first",
        "1] * resolution + cell[..., 0] ⇒ 0] * resolution + cell[..., 1]": "rows and columns are exchanged: places are "
        "numbered row by row, and the row comes from y",
        "2] > 0) ⇒ 2] == 2)": "hidden keypoints (v = 1) are left out: somebody knew where they are, so they count",
        "inside.all(-1) & (keypoints[..., 2] > 0) ⇒ inside.all(-1)": "v = 0 counts, though nobody said where it is",
        "torch.where(point == high, resolution - 1, cell) ⇒ cell": "right but for a keypoint just on the right or "
        "lower edge: it belongs to the last cell",
        "inside.all(-1) &  ⇒ ": "keypoints outside the box count: there is no cell for them",
        "where(point == high, resolution - 1, cell) ⇒ clamp(cell, 0, resolution - 1)": "keypoints outside the box are "
        "moved into it. There is no cell for them: they do not count",
        "/ (high - low) ⇒ / (high - low)[..., :1]": "width and height are each cut into `resolution` "
        "parts, also where the box is no square",
        "(point - low) ⇒ point": "a place in the box begins at the box's corner: take its x1 and y1 off first",
        "* resolution).floor ⇒ * (resolution - 1)).floor": "the box is `resolution` cells wide, not one fewer",
        ".where(counts, 0), ⇒ ,": "right where keypoints count; the cell of one that does not should be 0",
    },
    hints=[
        "How far into the box is the keypoint, as a part of its width? And in cells?",
        "`((point - low) / (high - low) * resolution).floor().long()`, with low and high (K, 1, 2). Which of these are "
        "outside 0 … resolution - 1? What about a keypoint that is exactly at `high`?",
        "`counts = inside.all(-1) & (keypoints[..., 2] > 0)`; the number is `row * resolution + column`.",
    ],
)
def heatmap_targets(keypoints, boxes, resolution):
    """Keypoints (K, J, 3) [x, y, v] in boxes (K, 4) -> the number of each one's cell, int64 (K, J), and whether it
    counts, bool (K, J). The cell of one that does not count is 0."""
    low, high = boxes[:, None, :2], boxes[:, None, 2:]  # (K, 1, 2)
    point = keypoints[..., :2]
    cell = ((point - low) / (high - low) * resolution).floor().long()  # (K, J, 2): column, row
    cell = torch.where(point == high, resolution - 1, cell)
    inside = (cell >= 0) & (cell < resolution)
    counts = inside.all(-1) & (keypoints[..., 2] > 0)
    return (cell[..., 1] * resolution + cell[..., 0]).where(counts, 0), counts


def random_heatmaps(people: int, joints: int, side: int, seed: int = 0) -> Tensor:
    return torch.randn(people, joints, side, side, generator=torch.Generator().manual_seed(seed))


def loss_cases() -> list[tuple]:
    cells = torch.tensor([[3, 0, 12], [0, 15, 7]])
    some, none = torch.tensor([[True, False, True], [False, True, False]]), torch.zeros(2, 3).bool()
    logits = random_heatmaps(2, 3, 4)
    return [(logits, cells, some), (300 * logits, cells, some), (logits, cells, none)]


def loss_in_numbers(logits: Tensor, cells: Tensor, counts: Tensor) -> float:
    found = []
    for heatmap, cell, yes in zip(logits.flatten(0, 1), cells.flatten(), counts.flatten(), strict=True):
        values = heatmap.flatten().tolist()
        most = max(values)
        if yes:
            found.append(most + math.log(sum(math.exp(value - most) for value in values)) - values[cell])
    return sum(found) / max(len(found), 1)


@exercise(
    cases=loss_cases,
    truth=loss_in_numbers,
    mistakes={
        (
            "[counts] ⇒ .flatten(0, 1)",
            "cells.flatten(0, 1) ⇒ cells.flatten()",
            "counts.sum() ⇒ torch.tensor(counts.numel())",
        ): "all keypoints have a part in it: pick those that count, `logits.flatten(2)[counts]`",
        "counts.sum() ⇒ torch.tensor(counts.numel())": "divided by the number of all keypoints, not of those counted",
        ".clamp(min=1) ⇒ ": "right, but for people of whom no keypoint counts: 0 / 0 is NaN, and NaN spoils the whole "
        "network at the next step",
        " / counts.sum().clamp(min=1) ⇒ ": "that is the sum: divide by how many count",
        "counts.sum() ⇒ torch.tensor(len(counts))": "divided by the number of people: by how many keypoints count",
        "logits.flatten(2)[counts], ⇒ logits.flatten(2).softmax(-1)[counts],": "softmax twice: `F.cross_entropy` takes "
        "logits, and does it itself",
        ("F.cross_entropy ⇒ F.nll_loss", "flatten(2)[counts], ⇒ flatten(2).softmax(-1).log()[counts],"): "right for "
        "tame logits. A very small probability is rounded to 0, and its log is infinite: leave both to "
        "`F.cross_entropy`",
    },
    hints=[
        "It is a classification. How many classes are there, and how many things to classify?",
        "`logits.flatten(2)` is (K, J, M · M); indexing it with `counts` leaves a row for each keypoint that counts.",
        '`F.cross_entropy(logits.flatten(2)[counts], cells[counts], reduction="sum")`, divided by how many; mind 0.',
    ],
)
def keypoint_loss(logits, cells, counts):
    """Heatmaps (K, J, M, M), the right cells, int64 (K, J), and which of them count, bool (K, J) -> the mean loss of
    those that count; 0 if none does."""
    total = F.cross_entropy(logits.flatten(2)[counts], cells[counts], reduction="sum")
    return total / counts.sum().clamp(min=1)


def largest_of_all(heatmaps: Tensor, boxes: Tensor, quarter: float = 0.0) -> Tensor:
    """Cell by cell; with `quarter`, moved towards the higher neighbour by so much of a cell."""
    found = torch.zeros(*heatmaps.shape[:2], 2)
    for k, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        for j, heatmap in enumerate(heatmaps[k].tolist()):
            side = len(heatmap)
            _, row, column = max((heatmap[r][c], r, c) for r in range(side) for c in range(side))
            x, y = column + 0.5, row + 0.5
            if 0 < column < side - 1:
                x += quarter if heatmap[row][column + 1] > heatmap[row][column - 1] else -quarter
            if 0 < row < side - 1:
                y += quarter if heatmap[row + 1][column] > heatmap[row - 1][column] else -quarter
            found[k, j] = torch.tensor([x1 + x * (x2 - x1) / side, y1 + y * (y2 - y1) / side])
    return found


@exercise(
    cases=lambda: [(random_heatmaps(2, 6, 5), BOXES), (random_heatmaps(2, 3, 8, seed=1), BOXES)],
    truth=largest_of_all,
    mistakes={
        "(cell + 0.5) ⇒ cell": "that is each cell's upper left corner: say its middle, half a cell further",
        "(cell + 0.5) * size / side ⇒ cell * size / side + 0.5": "half a pixel was added; it is half a cell",
        "[best % side, best // side] ⇒ [best // side, best % side]": "x and y are exchanged: the row, `best // side`, "
        "makes y",
        "best // side] ⇒ best / side]": "a row is a whole number: divide by `//`",
        "boxes[:, None, :2] + (cell ⇒ (cell": "that is counted from the box's corner: add it",
        "size / side ⇒ size / (side - 1)": "the box is as wide as all cells, `side` of them, not one fewer",
        "size / side ⇒ size[..., :1] / side": "a cell is as wide as the box's width says, and as high as its height",
    },
    hints=[
        "In which row and column is the largest value? Where is that cell's middle, counted in cells?",
        "`heatmaps.flatten(2).argmax(-1)` is (K, J): divide by the side for the row; the rest is the column.",
        "`boxes[:, None, :2] + (cell + 0.5) * size / side`, with cell (K, J, 2) as column and row, size (K, 1, 2).",
    ],
)
def peaks(heatmaps, boxes):
    """Heatmaps (K, J, M, M) over boxes (K, 4) -> the middle of each one's highest cell, in pixels (K, J, 2) [x, y]."""
    side = heatmaps.shape[-1]
    best = heatmaps.flatten(2).argmax(-1)  # (K, J)
    cell = torch.stack([best % side, best // side], dim=-1)
    size = boxes[:, None, 2:] - boxes[:, None, :2]  # (K, 1, 2)
    return boxes[:, None, :2] + (cell + 0.5) * size / side


@exercise(
    cases=lambda: [(random_heatmaps(2, 9, 5), BOXES), (random_heatmaps(2, 9, 4, seed=1), BOXES)],
    truth=lambda heatmaps, boxes: largest_of_all(heatmaps, boxes, 0.25),
    mistakes={
        " * inside ⇒ ": "right inside the map. A peak at its border has a neighbour on one side only, and stays there",
        "0.25 * ⇒ 0.5 *": "half a cell is too far: a quarter",
        ".sign() ⇒ ": "always by a quarter, however much higher the neighbour is: only the sign counts",
        "0.25 * ⇒ -0.25 *": "away from the higher neighbour",
        "+ 0.25 * towards * inside) * size / side ⇒ ) * size / side + 0.25 * towards * inside": "a quarter of a cell, "
        "not of a pixel",
        ".sign()\n ⇒ .sign().flip(-1)\n": "x goes by the neighbours above and below, and y by those beside",
    },
    hints=[
        "Of the cells left and right of the peak, which is higher? Then where is the keypoint, probably?",
        "Pick the neighbours' values as you pick the peak's: by number, row · side + column, with `gather`.",
        "`(cell + 0.5 + 0.25 * (right - left).sign())`, and where the peak is in the first or last column, no move.",
    ],
    extra=True,
)
def refined_peaks(heatmaps, boxes):
    """As `peaks`, but moved by a quarter of a cell towards the higher of the two neighbours, along x and along y.

    Along an axis on which the peak is in the map's first or last cell it does not move."""
    side, flat = heatmaps.shape[-1], heatmaps.flatten(2)
    best = flat.argmax(-1)  # (K, J)
    cell = torch.stack([best % side, best // side], dim=-1)

    def value(dx, dy):
        x, y = (cell + torch.tensor([dx, dy])).clamp(0, side - 1).unbind(-1)
        return flat.gather(-1, (y * side + x)[..., None])[..., 0]

    towards = torch.stack([value(1, 0) - value(-1, 0), value(0, 1) - value(0, -1)], dim=-1).sign()
    inside = (cell > 0) & (cell < side - 1)
    size = boxes[:, None, 2:] - boxes[:, None, :2]
    return boxes[:, None, :2] + (cell + 0.5 + 0.25 * towards * inside) * size / side


def by_pycocotools(found: Tensor, truth: Tensor, areas: Tensor, sigmas: Tensor) -> Tensor:
    """OKS of each pair, by COCOeval's own function."""
    judge = COCOeval(iouType="keypoints")
    judge.params.kpt_oks_sigmas = sigmas.numpy().astype(float)
    scores = []
    for mine, true, area in zip(found, truth, areas.tolist(), strict=True):
        one = {"area": area, "bbox": [0, 0, 1, 1], "score": 1.0}
        judge._gts = {(0, 1): [one | {"keypoints": true.flatten().tolist()}]}
        judge._dts = {(0, 1): [one | {"keypoints": mine.flatten().tolist()}]}
        scores.append(judge.computeOks(0, 1)[0, 0])
    return torch.tensor(scores, dtype=torch.float32)


def oks_cases() -> list[tuple]:
    random = torch.Generator().manual_seed(0)
    truth = F.pad(40 * torch.rand(4, 17, 2, generator=random), (0, 1), value=2.0)
    truth[1, 3:9, 2] = 1  # hidden
    truth[2, 5:], truth[3, :16] = 0, 0  # not labelled
    found = F.pad(truth[..., :2] + 2 * torch.randn(4, 17, 2, generator=random), (0, 1), value=1.0)
    found[2, 5:, :2] = 20.0  # found all the same
    return [(found, truth, torch.tensor([900.0, 350, 2000, 120]), SIGMAS)]


@exercise(
    cases=oks_cases,
    truth=by_pycocotools,
    mistakes={
        "(2 * sigmas) ⇒ sigmas": "the tolerance k is twice COCO's sigma",
        "exp(-squared ⇒ exp(-squared.sqrt()": "the distance stands in it squared, as in a bell curve",
        "(2 * areas ⇒ (areas": "a factor 2 is missing: d² / (2 · area · k²), and k² has a 4 in it",
        "areas[:, None] * ⇒ 1 * ": "no areas: two pixels off are much for a small person, little for a large one",
        "areas[:, None] ⇒ areas[:, None].sqrt()": "the area itself belongs there, not its root",
        "counts = truth ⇒ counts = found": "all keypoints count: only those with v > 0 in the truth do",
        "truth[..., 2] > 0 ⇒ truth[..., 2] > 1": "hidden keypoints (v = 1) count too: somebody labelled them",
        "/ counts.sum(1) ⇒ / counts.shape[1]": "divided by the number of all keypoints, not of those counted",
        "[..., :2] - truth[..., :2]) ⇒ - truth)": "v is no place: the distance is that of x and y alone",
        "/ (2 * areas[:, None] * (2 * sigmas) ** 2)) ⇒ / 2 * areas[:, None] * (2 * sigmas) ** 2)": "a / b * c is "
        "(a / b) * c: what stands below the line needs brackets",
        "2] > 0 ⇒ 2]": "hidden keypoints (v = 1) count as much as those in sight (v = 2): v is no weight",
    },
    hints=[
        "How far is each keypoint off? In which unit should that be, to be fair to small people and to eyes and hips?",
        "`torch.exp(-squared / (2 * areas[:, None] * (2 * sigmas) ** 2))` is (K, J). Over which of them is the mean?",
        "`(alike * counts).sum(1) / counts.sum(1)` with `counts = truth[..., 2] > 0`",
    ],
)
def oks(found, truth, areas, sigmas):
    """Keypoints found (K, J, 3) and true (K, J, 3) [x, y, v], people's areas (K,), COCO's sigmas (J,) -> OKS (K,).

    Each person has at least one keypoint with v > 0."""
    squared = (found[..., :2] - truth[..., :2]).square().sum(-1)  # (K, J)
    alike = torch.exp(-squared / (2 * areas[:, None] * (2 * sigmas) ** 2))
    counts = truth[..., 2] > 0
    return (alike * counts).sum(1) / counts.sum(1)


def one_by_one(keypoints: Tensor, width: float, partner: list[int]) -> Tensor:
    out = torch.zeros_like(keypoints)
    for k in range(len(keypoints)):
        for j, (x, y, v) in enumerate(keypoints[k].tolist()):
            if v > 0:
                out[k, partner[j]] = torch.tensor([width - x, y, v])
    return out


@exercise(
    cases=lambda: [(POSES, 30, [0, 2, 1, 4, 3, 5, 7, 6]), (POSES[:, :3], 64, [2, 1, 0])],
    truth=one_by_one,
    mistakes={
        "keypoints[:, partner] ⇒ keypoints": "the picture is mirrored and the names are not: what was the left hand is "
        "now a right hand, in row `partner[j]`",
        "width - x ⇒ width - 1 - x": "that is for pixel numbers. These are places: x = 0, the left edge, goes to x = "
        "`width`, the right edge",
        "torch.where(v > 0, width - x, 0.0) ⇒ width - x": "right where it is labelled; one with v = 0 stays 0, 0, 0",
        "width - x ⇒ x": "the names are exchanged, but the places are not mirrored: x becomes `width - x`",
        "v > 0 ⇒ v > 1": "hidden keypoints (v = 1) are mirrored too",
        "y, v] ⇒ y, keypoints[..., 2]]": "v goes with its keypoint: a hidden left hand becomes a hidden right hand",
        "width - x, 0.0), y ⇒ x, 0.0), width - y": "that turns it upside down: x is mirrored, y stays",
    },
    hints=[
        "A mirror does two things to a left hand: where is it then, and what is it called?",
        "`keypoints[:, partner]` puts every keypoint into its partner's row. Then mirror x.",
        "`x, y, v = keypoints[:, partner].unbind(-1)`; stack them again, with `torch.where(v > 0, width - x, 0.0)`.",
    ],
)
def mirrored(keypoints, width, partner):
    """Keypoints (K, J, 3) [x, y, v] of a picture of this width -> those of the picture in a mirror.

    partner: a list of J; what was keypoint j is keypoint partner[j] in the mirror. What has v = 0 stays 0, 0, 0."""
    x, y, v = keypoints[:, partner].unbind(-1)  # (K, J) each
    return torch.stack([torch.where(v > 0, width - x, 0.0), y, v], dim=-1)
