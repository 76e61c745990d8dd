"""The mask head: what the learner writes. Pixel (x, y) covers the square from (x, y) to (x + 1, y + 1)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mrcnn import mask_head, ops
from mrcnn.lab.check import exercise


def some(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers, always the same."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def discs() -> Tensor:
    """Three masks (3, 20, 26) of discs: one in the middle, one over the left border, a small one."""
    y, x = torch.arange(20)[:, None] + 0.5, torch.arange(26) + 0.5
    places = ((13, 9, 6), (1, 12, 5), (21, 4, 2.5))
    return torch.stack([((x - a) ** 2 + (y - b) ** 2 <= r**2).to(torch.uint8) for a, b, r in places])


def between(values: Tensor, y: float, x: float) -> float:
    """A sample of a map (H, W) between its cells, of which cell 0 has its middle at 0; beyond the map it is 0."""
    height, width = values.shape
    top, left, total = math.floor(y), math.floor(x), 0.0
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < height and 0 <= column < width:
                total += float(values[row, column]) * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def kept_inside(place: float, cells: int) -> float:
    return min(max(place, 0.0), cells - 1.0)


def cropped_by_loop(masks: Tensor, boxes: Tensor, objects: Tensor, cells: int, aligned: bool) -> Tensor:
    out = torch.zeros(len(boxes), cells, cells)
    for k, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        mask, off = masks[int(objects[k])], 0.5 if aligned else 0.0
        down, across = ((b - a) / cells for a, b in ((y1, y2), (x1, x2)))
        n, m = math.ceil(down), math.ceil(across)
        for p, q, i, j in torch.ones(cells, cells, n, m).nonzero().tolist():
            y, x = y1 - off + (p + (i + 0.5) / n) * down, x1 - off + (q + (j + 0.5) / m) * across
            if -1 <= y <= mask.shape[0] and -1 <= x <= mask.shape[1]:
                y, x = kept_inside(y, mask.shape[0]), kept_inside(x, mask.shape[1])
                out[k, p, q] += between(mask, y, x) / (n * m)
    return out


CROPS = torch.tensor([[18.0, 1, 24.5, 7.5], [6.5, 2, 20, 16], [9, -2, 17.25, 12]])  # (S, 4)


@exercise(
    cases=lambda: [
        (discs(), CROPS, torch.tensor([2, 0, 0]), 5, False),
        (discs(), CROPS.flip(0), torch.tensor([0, 0, 2]), 6, True),
        (discs(), CROPS[:1], torch.tensor([2]), 4, True),  # one box alone
    ],
    truth=cropped_by_loop,
    mistakes={
        "objects[:, None].float() ⇒ torch.zeros(len(boxes), 1)": "every box was cut out of mask 0: box k needs mask "
        "objects[k]",
        "objects[:, None].float() ⇒ torch.arange(len(boxes))[:, None].float()": "box k was cut out of mask k: "
        "two boxes may have the same object, `objects` says which",
        "aligned=aligned ⇒ aligned=False": "hand `aligned` on to RoIAlign; it was left at False",
        "aligned=aligned ⇒ aligned=True": "hand `aligned` on to RoIAlign; it was always True",
        ")[:, 0] ⇒ )[:, 0].round()": "the target stays soft: a bin that is half covered is 0.5",
        "boxes), dim=1 ⇒ boxes[:, [1, 0, 3, 2]]), dim=1": "x and y are exchanged: a row is mask, x1, y1, x2, y2",
        "aligned)[:, 0] ⇒ aligned).squeeze()": "where there is one box, `.squeeze()` takes that dimension too: [:, 0]",
        "boxes), dim=1 ⇒ boxes - 0.5), dim=1": "the half pixel is RoIAlign's affair: hand it the boxes as they are",
        "[:, 0] ⇒ ": "the one channel is left over: the result is (S, cells, cells)",
    },
    hints=[
        "RoIAlign takes a batch of maps (N, C, H, W). What is N here, and what is C?",
        "The masks are a batch of G pictures with one channel. A RoI is a row: which picture, x1, y1, x2, y2.",
        "ops.roi_align(masks.float()[:, None], torch.cat((objects[:, None].float(), boxes), dim=1), cells, aligned=…)",
    ],
)
def crop_targets(masks, boxes, objects, cells, aligned):
    """What each of S boxes should predict: its object's mask, cut out and brought to (S, cells, cells), soft.

    masks (G, H, W) of 0 and 1; boxes (S, 4); objects (S,), rows of masks. `ops.roi_align(maps, rois, cells,
    aligned=…)`: maps (N, C, H, W), rois (S, 5) with the map's number first.
    """
    rois = torch.cat((objects[:, None].float(), boxes), dim=1)
    return ops.roi_align(masks.float()[:, None], rois, cells, aligned=aligned)[:, 0]


def loss_by_loop(logits: Tensor, targets: Tensor, labels: Tensor) -> float:
    total = 0.0
    for k, y, x in torch.ones_like(targets).nonzero().tolist():
        p = 1 / (1 + math.exp(-float(logits[k, int(labels[k]), y, x])))
        total -= float(targets[k, y, x]) * math.log(p) + (1 - float(targets[k, y, x])) * math.log(1 - p)
    return total / targets.numel()


@exercise(
    cases=lambda: [(2 * some(4, 5, 6, 6), some(4, 6, 6, seed=1).sigmoid(), torch.tensor([3, 1, 4, 1]))],
    truth=loss_by_loop,
    mistakes={
        "labels] ⇒ labels - 1]": "that is the map of the class before: class c has map c",
        "logits[torch.arange(len(labels)), labels] ⇒ logits[:, 1]": "each box has a class of its own, not class 1",
        "chosen = logits[torch.arange(len(labels)), labels] ⇒ chosen, targets = logits, "
        "F.one_hot(labels, logits.shape[1])[:, :, None, None] * targets[:, None]": "the other classes' maps were "
        "taught to be empty: only the true class's map enters the loss",
        "logits[torch ⇒ logits.softmax(1).logit()[torch": "there is a softmax over the classes: they must not compete",
        "(chosen, targets) ⇒ (chosen.sigmoid(), targets)": "`…_with_logits` takes the sigmoid itself: hand it logits",
        "(chosen, targets) ⇒ (chosen, targets.round())": "targets stay soft: do not round them",
        '(chosen, targets) ⇒ (chosen, targets, reduction="sum")': "a mean over all cells of all boxes, not a sum",
        '(chosen, targets) ⇒ (chosen, targets, reduction="sum") / len(labels)': "divide by the number of all cells, "
        "not of the boxes alone",
        "(chosen, targets) ⇒ (logits, targets[:, None].expand_as(logits))": "every class's map was held against the "
        "target: only the true class's is",
        "F.binary_cross_entropy_with_logits(chosen, targets) ⇒ -(targets * F.logsigmoid(chosen)).mean()": "half of it "
        "is missing: what is not the object counts too, (1 - target) times -log(1 - p)",
    },
    hints=[
        "Which of a box's C maps is held against its target?",
        "`logits[torch.arange(S), labels]` takes of each box the map of its class: (S, M, M).",
        "F.binary_cross_entropy_with_logits(chosen, targets)",
    ],
)
def mask_loss(logits, targets, labels):
    """Mean binary cross entropy between each box's map of its true class and its target.

    logits (S, C, M, M); targets (S, M, M) from 0 to 1; labels (S,), from 1 on.
    """
    chosen = logits[torch.arange(len(labels)), labels]
    return F.binary_cross_entropy_with_logits(chosen, targets)


def pasted_by_loop(mask: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    cells, (height, width) = len(mask), size
    rimmed = torch.zeros(cells + 2, cells + 2)
    rimmed[1:-1, 1:-1] = mask
    spans = []
    for a, b in ((float(box[1]), float(box[3])), (float(box[0]), float(box[2]))):
        more = (b - a) / cells
        first, last = math.trunc(a - more), math.trunc(b + more)
        spans.append((first, max(last - first + 1, 1)))
    (y1, h), (x1, w) = spans
    out = torch.zeros(size)
    for y in range(max(y1, 0), min(y1 + h, height)):
        for x in range(max(x1, 0), min(x1 + w, width)):
            v, u = ((p - a + 0.5) / n * (cells + 2) - 0.5 for p, a, n in ((y, y1, h), (x, x1, w)))
            out[y, x] = between(rimmed, kept_inside(v, cells + 2), kept_inside(u, cells + 2))
    return out


PLACES = [[5.25, 3.5, 19.75, 15.5], [-4.5, -3.75, 9.5, 8.5], [17.25, 9.75, 33, 26], [40.0, 3, 50, 9], [8.0, 9, 5, 9]]


@exercise(
    cases=lambda: [
        (some(4 + k, 4 + k, seed=k).sigmoid(), torch.tensor(box), (18, 24)) for k, box in enumerate(PLACES)
    ],
    truth=pasted_by_loop,
    mistakes={
        "F.pad(mask, (1, 1, 1, 1)) ⇒ mask": "the rim of one zero cell is missing: the mask cannot fade out",
        "(cells + 2) / cells ⇒ 1.0": "the box must grow with the rim, by (cells + 2) / cells",
        ("x2 - x1 + 1 ⇒ x2 - x1", "y2 - y1 + 1 ⇒ y2 - y1"): "the last row and column count too: w = x2 - x1 + 1",
        'mode="bilinear" ⇒ mode="nearest"': "between the cells it goes in steps: enlarge bilinearly",
        'mode="bilinear" ⇒ mode="bilinear", align_corners=True': "the middles of the outer cells were put onto the "
        "outer pixels: leave `align_corners` at False",
        "grow_boxes(box[None] ⇒ grow_boxes(box[None].int().float()": "the box was cut too early: grow it first",
        "if right > left ⇒ if x2 >= x1 and y2 >= y1 and right > left": "where x2 < x1 nothing came: it gets one column",
        "0].int() ⇒ 0].round().int()": "corners are cut to whole numbers by `.int()`, not rounded",
        "0].int() ⇒ 0].floor().int()": "wrong over the top left border only: `.int()` makes -2 of -2.4, floor -3",
        "[top - y1 : bottom - y1, left - x1 : right - x1] ⇒ [: bottom - top, : right - left]": "where the box begins "
        "outside the picture, the mask's first rows and columns fall away, not its last",
        ("F.pad(mask, (1, 1, 1, 1)) ⇒ mask", "(cells + 2) / cells ⇒ 1.0"): "two steps are missing: the rim of one zero "
        "cell, and the growing of the box by as much",
        "0].int() ⇒ 0].clamp(min=0).minimum(torch.tensor(size * 2).flip(0)).int()": "the box was clipped first, and "
        "the mask squeezed into what was left: enlarge it to the whole box, then copy the part inside",
        "return out ⇒ return (out >= 0.5).float()": "paste the probabilities as they are: the 0.5 comes later",
        "max(x2 - x1 + 1, 1) ⇒ x2 - x1 + 1": "a box with x2 < x1 has no width: it still gets one column",
    },
    hints=[
        "A rim of zeros, a box that grows with it, whole numbers: how many pixels does the mask then cover?",
        "Enlarge the rimmed mask to (h, w) with F.interpolate; then copy only the part that lies in the picture.",
        "out[top:bottom, left:right] = large[top - y1 : bottom - y1, left - x1 : right - x1], if any is left",
    ],
)  # fmt: skip
def paste(mask, box, size):
    """A mask (M, M) of probabilities, put into an empty picture of `size` (height, width): (height, width).

    box (4,). mask_head.grow_boxes(boxes, factor) grows boxes (K, 4) about their centres. F.interpolate(maps, (h, w),
    mode="bilinear") enlarges maps (N, C, M, M).
    """
    cells = len(mask)
    x1, y1, x2, y2 = mask_head.grow_boxes(box[None], (cells + 2) / cells)[0].int().tolist()
    w, h = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
    large = F.interpolate(F.pad(mask, (1, 1, 1, 1))[None, None], (h, w), mode="bilinear")[0, 0]
    left, top, right, bottom = max(x1, 0), max(y1, 0), min(x1 + w, size[1]), min(y1 + h, size[0])
    out = torch.zeros(size)
    if right > left and bottom > top:
        out[top:bottom, left:right] = large[top - y1 : bottom - y1, left - x1 : right - x1]
    return out


def there_and_back_by_loop(mask: Tensor, box: Tensor, cells: int, aligned: bool) -> float:
    small = cropped_by_loop(mask[None], box[None], torch.zeros(1), cells, aligned)[0]
    back = pasted_by_loop(small, box, tuple(mask.shape)).tolist()
    pairs = [(back[y][x] >= 0.5, bool(mask[y, x])) for y, x in torch.ones_like(mask).nonzero().tolist()]
    return sum(a and b for a, b in pairs) / sum(a or b for a, b in pairs)


@exercise(
    cases=lambda: [
        (discs()[0], torch.tensor([6.9, 3.2, 19.3, 15.1]), 7, True),
        (discs()[1], torch.tensor([0.3, 6.8, 6.1, 17.4]), 5, False),
        (discs()[2], torch.tensor([18.2, 1.1, 24.4, 6.9]), 4, True),
        (discs()[0], torch.tensor([7.5, 7.5, 9.75, 9.75]), 6, True),  # some pixels come back as exactly 0.5
    ],
    truth=there_and_back_by_loop,
    mistakes={
        ">= 0.5 ⇒ > 0": "every pixel with any probability was taken: a pixel belongs to the mask from 0.5 on",
        "(back | truth).sum() ⇒ truth.sum()": "that is the share of the true mask that came back: divide by the union",
        "(back | truth).sum() ⇒ back.sum()": "that is the share of what came back that is right: divide by the union",
        "(back | truth).sum() ⇒ (back.sum() + truth.sum()) * 2": "both masks' areas count the shared pixels twice, and "
        "twice the shared ones is Dice: IoU divides by the union",
        "cells, aligned)[0] ⇒ 28, aligned)[0]": "it always goes through 28 x 28: use `cells`",
        "cells, aligned)[0] ⇒ cells, True)[0]": "`aligned` is not handed on: it was always True",
        "cells, aligned)[0] ⇒ cells, False)[0]": "`aligned` is not handed on: it was always False",
        ">= 0.5 ⇒ > 0.5": "a pixel with exactly 0.5 belongs to the mask: compare with >=",
        (" >= 0.5, mask.bool() ⇒ , mask.float()", "(back & truth).sum() / (back | truth).sum() ⇒ "
         "torch.minimum(back, truth).sum() / torch.maximum(back, truth).sum()"):
        "the pasted mask is still soft: keep the pixels from 0.5 on, then take the IoU",
        "paste(small, ⇒ paste((small >= 0.5).float(),": "the cells were cut at 0.5 before the pasting: paste first",
        "(back & truth).sum() / (back | truth).sum() ⇒ (back == truth).float().mean()": "that is the share of pixels "
        "that agree, those outside both masks among them: IoU does not look at these",
    },
    hints=[
        "Which two functions of yours take a mask to cells x cells, and back?",
        "small = crop_targets(mask[None], box[None], torch.tensor([0]), cells, aligned)[0]; paste it, cut at 0.5.",
        "float((back & truth).sum() / (back | truth).sum()), both of them torch.bool",
    ],
)  # fmt: skip
def there_and_back(mask, box, cells, aligned):
    """IoU of a mask (H, W) with what comes back: cropped to (cells, cells), pasted, and kept from 0.5 on.

    box (4,); use crop_targets and paste. The mask is not empty.
    """
    small = crop_targets(mask[None], box[None], torch.tensor([0]), cells, aligned)[0]
    back, truth = paste(small, box, tuple(mask.shape)) >= 0.5, mask.bool()
    return float((back & truth).sum() / (back | truth).sum())


def read_by_loop(mask: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    x1, y1, x2, y2 = box.tolist()
    out = torch.zeros(size)
    for y, x in torch.ones(size).nonzero().tolist():
        v, u = ((p + 0.5 - a) / (b - a) * len(mask) - 0.5 for p, a, b in ((y, y1, y2), (x, x1, x2)))
        out[y, x] = between(mask, v, u)
    return out


@exercise(
    cases=lambda: [
        (some(4 + k, 4 + k, seed=k).sigmoid(), torch.tensor(box), (18, 24)) for k, box in enumerate(PLACES[:4])
    ],
    truth=read_by_loop,
    mistakes={
        "+ 0.5 ⇒ + 0.0": "a pixel's middle is half a pixel from its corner: + 0.5",
        "align_corners=False ⇒ align_corners=True": "-1 and 1 are the box's edges, not middles: align_corners=False",
        "align_corners=False ⇒ align_corners=False, padding_mode='border'": "outside the box the mask is 0",
        'indexing="xy"), -1) ⇒ indexing="xy")[::-1], -1)': "grid_sample wants x first, then y",
        "align_corners=False ⇒ align_corners=False, mode='nearest'": "read bilinearly, not the nearest cell",
        ("False) ⇒ False, padding_mode='border')", "return ⇒ return (grid.abs() <= 1).all(-1) *"): "the outer cells' "
        "values go on to the box's edge: cells of 0 lie beyond them, so the mask fades out",
        "return ⇒ return (grid.abs() <= 1).all(-1) *": "the fading ends at the box's edge: it goes half a cell beyond",
    },
    hints=[
        "Pasting asks where each cell goes. Ask the other way round: where in the box does each pixel's middle lie?",
        "F.grid_sample reads a map at places (H, W, 2), x first, with the map's edges at -1 and 1.",
        'grid = torch.stack(torch.meshgrid(u, v, indexing="xy"), -1); x: (torch.arange(w) + 0.5 - x1) / (x2 - x1)',
    ],
    extra=True,
)  # fmt: skip
def paste_exact(mask, box, size):
    """As `paste`, with nothing rounded: the mask (M, M), read bilinearly at the middle of every pixel.

    Beyond the mask lie cells of 0, so it fades out as with a rim. box (4,) with an area; size (height, width).
    F.grid_sample reads maps at any places.
    """
    x1, y1, x2, y2 = box.tolist()
    u = (torch.arange(size[1]) + 0.5 - x1) / (x2 - x1) * 2 - 1
    v = (torch.arange(size[0]) + 0.5 - y1) / (y2 - y1) * 2 - 1
    grid = torch.stack(torch.meshgrid(u, v, indexing="xy"), -1)
    return F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0]
