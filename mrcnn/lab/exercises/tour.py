"""The exercises of lesson 00: small pieces of the whole model, held against the library and against torchvision."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mrcnn import keypoint_head, mask_head, roi_heads
from mrcnn.anchors import AnchorSettings, make_anchors

from ..check import Exercise, Wrong, close, first_difference, same_shape
from ..walk import count_multiply_adds


def _likely_mistake(got, want, mistakes: list[tuple[str, object]]) -> None:
    """Raise Wrong with the sentence of the first mistake that would give `got`; none that changes nothing."""
    for sentence, result in mistakes:
        if got == result and result != want:
            raise Wrong(sentence)


# ---- how many anchors ------------------------------------------------------------------------------------------------

SIZES = [(128, 128), (96, 160), (100, 120), (800, 1333)]
STRIDES = (4, 8, 16, 32, 64)


def _count(height: int, width: int, strides=STRIDES, per_cell=3, padded=True, up=True) -> int:
    if padded:
        height, width = (math.ceil(side / 32) * 32 for side in (height, width))
    cells = [math.ceil(height / s) * math.ceil(width / s) if up else (height // s) * (width // s) for s in strides]
    return per_cell * sum(cells)


def _count_anchors(height: int, width: int) -> int:
    padded = tuple(math.ceil(side / 32) * 32 for side in (height, width))
    levels = [(math.ceil(padded[0] / s), math.ceil(padded[1] / s)) for s in STRIDES]
    return sum(map(len, make_anchors(AnchorSettings(), padded, levels)))


def _judge_count(answer) -> None:
    got = [answer(*size) for size in SIZES]
    if any(not isinstance(each, int | float) for each in got):
        raise Wrong(f"expected a number, got {type(got[0]).__name__}")
    want = [_count_anchors(*size) for size in SIZES]
    variants = [
        ("these are the cells; at each of them stand three anchors", {"per_cell": 1}),
        ("the anchors of P6 are missing: there are five levels, the last with stride 64", {"strides": STRIDES[:-1]}),
        ("these are the anchors of P2 alone: the other levels have theirs too", {"strides": STRIDES[:1]}),
        ("right for pictures that need no padding; a batch is padded to a multiple of 32 first", {"padded": False}),
        (
            "right where every stride divides the picture. P6 has every second cell of P5: of three cells it keeps "
            "two, so round up",
            {"up": False},
        ),
        ("two things are missing: pad to a multiple of 32 first, and round up", {"padded": False, "up": False}),
    ]
    _likely_mistake(got, want, [(text, [_count(*size, **change) for size in SIZES]) for text, change in variants])
    for size, ours, theirs in zip(SIZES, got, want, strict=True):
        if ours != theirs:
            raise Wrong(f"a picture of {size[0]} by {size[1]} pixels has {theirs:,} anchors, not {ours:,}")


count_anchors = Exercise(judge=_judge_count, library=_count_anchors)

# ---- which level -----------------------------------------------------------------------------------------------------

# Width and height of RoIs: well inside a level, just at its border, long, tiny, huge.
SIDES = torch.tensor([[150.0, 150], [224, 224], [223, 223], [112, 112], [111, 111], [448, 448], [100, 420], [9, 9]])
HUGE = torch.tensor([[1200.0, 1200]])
CORNER = torch.tensor([300.0, 400])
ROIS = torch.cat((CORNER.expand(9, 2), CORNER + torch.cat((SIDES, HUGE))), dim=1)


def _choose_level(boxes: Tensor, canonical_size: float) -> Tensor:
    return roi_heads.choose_levels(boxes, 4, 4, canonical_size) + 2


def _levels_of_torchvision(boxes: Tensor, canonical_size: float) -> Tensor:
    """Or of the library, where there is no torchvision."""
    try:
        from torchvision.ops.poolers import LevelMapper
    except ImportError:
        return _choose_level(boxes, canonical_size)
    return LevelMapper(2, 5, canonical_scale=canonical_size)([boxes]) + 2


def _judge_level(answer) -> None:
    for size in (224.0, 56.0):
        boxes = ROIS * (size / 224)
        got, want = answer(boxes, size), _levels_of_torchvision(boxes, size)
        same_shape(got, want)
        if close(got, want):
            continue
        extent = boxes[:, 2:] - boxes[:, :2]
        side, longest = extent.prod(1).sqrt(), extent.amax(1)
        level = 4 + torch.log2(side / size)
        variants = [
            (
                "right for all but the smallest and the largest: there is no level below 2 and none above 5",
                level.floor(),
            ),
            ("the levels are not whole numbers yet: round down", level.clamp(2, 5)),
            ("it rounds to the nearest level; equation 1 rounds down", level.round().clamp(2, 5)),
            ("levels counted from 0: the finest is P2, so say 2", want - 2),
            ("take the square root of the area first: the rule is about a side", _rule(side * side, size, torch.log2)),
            ("that is the natural logarithm; levels go by powers of two", _rule(side, size, torch.log)),
            (
                "it goes by the longest side; the rule takes the square root of the area",
                _rule(longest, size, torch.log2),
            ),
            ("it goes by the corner x2, y2 instead of by width and height", _corner_rule(boxes, size)),
        ]
        for sentence, result in variants:
            if close(got, result):
                raise Wrong(sentence)
        if size != 224:
            raise Wrong(f"right for a canonical size of 224, but not for one of {size:g}: use the argument")
        raise Wrong(f"{first_difference(got, want)} (a RoI with a side of {side[(got != want).nonzero()[0, 0]]:.0f})")


def _rule(side: Tensor, canonical_size: float, log) -> Tensor:
    return (4 + log(side / canonical_size)).floor().clamp(2, 5)


def _corner_rule(boxes: Tensor, canonical_size: float) -> Tensor:
    return _rule((boxes[:, 2] * boxes[:, 3]).sqrt(), canonical_size, torch.log2)


choose_level = Exercise(judge=_judge_level, library=_choose_level)

# ---- what a convolution costs ----------------------------------------------------------------------------------------

CONVOLUTIONS = [(64, 64, 3, 32, 32), (3, 32, 7, 64, 48), (128, 64, 1, 5, 9)]


def _multiply_adds(channels_in: int, channels_out: int, kernel: int, height: int, width: int) -> int:
    """Counted while a convolution runs, on tensors that have shapes but no numbers."""
    x = torch.empty(1, channels_in, height, width, device="meta")
    weight = torch.empty(channels_out, channels_in, kernel, kernel, device="meta")
    return count_multiply_adds(lambda: F.conv2d(x, weight, padding=kernel // 2))


def _judge_multiply_adds(answer) -> None:
    got = [answer(*each) for each in CONVOLUTIONS]
    want = [_multiply_adds(*each) for each in CONVOLUTIONS]
    i, o, k, h, w = map(torch.tensor, zip(*CONVOLUTIONS, strict=True))
    variants = [
        ("twice as many: a multiplication and its addition count as one", 2 * i * o * k * k * h * w),
        ("the kernel is a square: it covers kernel by kernel inputs", i * o * k * h * w),
        ("that is for one output channel; each of them has a kernel of its own", i * k * k * h * w),
        ("that is for one input channel; each output number is a sum over all of them", o * k * k * h * w),
        ("that is what one place of the map costs; there are height times width of them", i * o * k * k),
    ]
    _likely_mistake(got, want, [(sentence, result.tolist()) for sentence, result in variants])
    for each, ours, theirs in zip(CONVOLUTIONS, got, want, strict=True):
        if ours != theirs:
            raise Wrong(f"the convolution {each} makes {theirs:,} multiply-adds, not {ours:,}")


multiply_adds = Exercise(judge=_judge_multiply_adds, library=_multiply_adds)

# ---- paste a mask ----------------------------------------------------------------------------------------------------

MASK = torch.rand(28, 28, generator=torch.Generator().manual_seed(0))
INSIDE, ACROSS = torch.tensor([20.3, 12.6, 61.4, 74.8]), torch.tensor([-9.4, 55.2, 40.7, 118.9])
PICTURE = (96, 80)


def _paste_mask(mask: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    return mask_head.paste_masks(mask[None, None], box[None], size)[0, 0]


def _paste_of_torchvision(mask: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    """Or of the library, where there is no torchvision."""
    try:
        from torchvision.models.detection.roi_heads import paste_masks_in_image
    except ImportError:
        return _paste_mask(mask, box, size)
    return paste_masks_in_image(mask[None, None], box[None], size)[0, 0]


def _paste(mask, box, size, rim=1, grown=True, last=1, align=False) -> Tensor:
    """With the usual mistakes, for a box inside the picture."""
    rimmed = F.pad(mask, (rim,) * 4)
    factor = len(rimmed) / len(mask) if grown else 1.0
    x1, y1, x2, y2 = mask_head.grow_boxes(box[None], factor)[0].to(torch.int64).tolist()
    h, w = y2 - y1 + last, x2 - x1 + last
    picture = torch.zeros(size)
    large = F.interpolate(rimmed[None, None], size=(h, w), mode="bilinear", align_corners=align)[0, 0]
    picture[y1 : y1 + h, x1 : x1 + w] = large
    return picture


def _judge_paste(answer) -> None:
    got, want = answer(MASK, INSIDE, PICTURE), _paste_of_torchvision(MASK, INSIDE, PICTURE)
    if isinstance(got, Tensor) and got.shape == (PICTURE[1], PICTURE[0]):
        raise Wrong("rows and columns are swapped: the size is (height, width), a row is a y")
    same_shape(got, want)
    if not close(got, want):
        variants = [
            (
                "the rim is missing: the mask gets one row or column of zeros on each side first",
                {"rim": 0, "grown": False},
            ),
            ("the rim is there, but the box did not grow with it", {"grown": False}),
            ("the last pixel is missing: from x1 to x2, both included, there are x2 - x1 + 1 of them", {"last": 0}),
            ("it stretches the centres of the corner cells to the corners: align_corners=False", {"align": True}),
        ]
        for sentence, change in variants:
            if close(got, _paste(MASK, INSIDE, PICTURE, **change)):
                raise Wrong(sentence)
        if close(got, (want > 0.5).float()):
            raise Wrong("keep the probabilities: the threshold comes later, when something is drawn or measured")
        raise Wrong(first_difference(got, want))
    beyond = "right for a box inside the picture. Where a box reaches beyond its border"
    try:
        got = answer(MASK, ACROSS, PICTURE)
    except (RuntimeError, IndexError) as problem:
        raise Wrong(
            f"{beyond}, it raises {type(problem).__name__}: lay in only what the picture has room for"
        ) from None
    want = _paste_of_torchvision(MASK, ACROSS, PICTURE)
    if not close(got, want):
        raise Wrong(f"{beyond}, the wrong part of the mask is laid in: cut off what lies before row 0 and column 0")


paste_mask = Exercise(judge=_judge_paste, library=_paste_mask)

# ---- read a joint ----------------------------------------------------------------------------------------------------

BOX = torch.tensor([31.25, 14.5, 70.0, 99.75])


def _peak(row: float, column: float) -> Tensor:
    """A heatmap (56, 56) with one smooth peak, a little longer than wide."""
    y, x = torch.meshgrid(torch.arange(56.0), torch.arange(56.0), indexing="ij")
    return 9 * torch.exp(-((y - row) ** 2) / 18 - (x - column) ** 2 / 8) - 4


HEATMAPS = [_peak(40.3, 11.6), _peak(5.2, 47.7), _peak(29.8, 30.1)]


def _read_keypoint(heatmap: Tensor, box: Tensor) -> Tensor:
    return keypoint_head.heatmaps_to_keypoints(heatmap[None, None], box[None])[0][0, 0, :2]


def _keypoint_of_torchvision(heatmap: Tensor, box: Tensor) -> Tensor:
    """Or of the library, where there is no torchvision."""
    try:
        from torchvision.models.detection.roi_heads import heatmaps_to_keypoints
    except ImportError:
        return _read_keypoint(heatmap, box)
    return heatmaps_to_keypoints(heatmap[None, None], box[None])[0][0, 0, :2]


def _read(heatmap, box, half=0.5, corner=1.0, by_height=False, enlarged=True) -> Tensor:
    """With the usual mistakes."""
    size = box[2:] - box[:2]
    width, height = (size.ceil().int().tolist()) if enlarged else (56, 56)
    large = F.interpolate(heatmap[None, None], size=(height, width), mode="bicubic", align_corners=False)[0, 0]
    y, x = divmod(int(large.argmax()), height if by_height else width)
    cell = torch.tensor([x, y]) + half
    return cell * size / torch.tensor([width, height]) + corner * box[:2]


def _judge_keypoint(answer) -> None:
    want = torch.stack([_keypoint_of_torchvision(heatmap, BOX) for heatmap in HEATMAPS])
    got = [answer(heatmap, BOX) for heatmap in HEATMAPS]
    try:
        got = torch.stack([torch.stack([torch.as_tensor(v, dtype=torch.float32) for v in each]) for each in got])
    except (TypeError, RuntimeError):
        raise Wrong("expected two numbers, x and y") from None
    same_shape(got[0], want[0])
    if close(got, want, 1e-3):
        return
    variants = [
        ("x and y are swapped: x is the column", {}),
        ("half a pixel is missing: a cell's middle is at its number + 0.5", {"half": 0.0}),
        ("that is the place inside the box; the picture's corner is not the box's", {"corner": 0.0}),
        ("one row of the enlarged map is as long as it is wide: divide by the width", {"by_height": True}),
        ("that is the peak among the 56 by 56 cells; enlarge the map to the box's size first", {"enlarged": False}),
    ]
    for sentence, change in variants:
        result = torch.stack([_read(heatmap, BOX, **change) for heatmap in HEATMAPS])
        if close(got, result if change else result.flip(1), 1e-3):
            raise Wrong(sentence)
    raise Wrong(first_difference(got, want, 1e-3))


read_keypoint = Exercise(judge=_judge_keypoint, library=_read_keypoint)
