"""The whole model as one ONNX file: a picture of any size goes in, boxes, masks and keypoints in its pixels come out.

    mrcnn.export.to_onnx(model, "model.onnx")

`torch.export` captures the model's own forward pass, and torch.onnx writes it with operators that every runtime has.
Three ops of ours it does not know: what they are in ONNX stands below. Then both compute the same pictures, and the
file is kept if they agree.
"""

from __future__ import annotations

import copy
import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrcnn import boxes as box_maths
from mrcnn.data import Playground
from mrcnn.files import write_whole
from mrcnn.mask_head import MaskHead
from mrcnn.model import MaskRCNN
from mrcnn.settings import SIDE
from mrcnn.validation import check_images, describe

try:
    import onnx_ir
    import onnxruntime
    import onnxscript
    from onnxscript import FLOAT
    from onnxscript import opset18 as onnx
except ImportError as error:
    raise ImportError(
        f"export needs onnx, onnxscript and onnxruntime ({error}): pip install 'mrcnn[export]'"
    ) from error

OPSETS = range(18, 22)
EXAMPLE = (3, 150, 213)  # a picture of no special size
CHECKED_SIZES = ((128, 128), (180, 250), (301, 97))  # height, width
# How far apart an object's numbers may be: pixels of the picture, and shares.
LIMITS = {"boxes": 0.05, "scores": 1e-3, "masks": 1e-2, "keypoints": 0.5}


class ExportError(ValueError):
    """The file would not give the model's answers."""


def to_onnx(
    model: MaskRCNN,
    path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    paste: bool = True,
    float16: bool = False,
    opset: int = 18,
    pictures: Sequence[Tensor] | None = None,
) -> list[Comparison]:
    """Writes a model, as it is in evaluation, to one ONNX file, if onnxruntime then finds with it what the model finds.

    The file's input is `image`, float32 (3, H, W), RGB in [0, 1]; its outputs are `boxes` (K, 4) [x1, y1, x2, y2] in
    that picture's pixels, `labels` int64 (K,), `scores` (K,) falling and, by the model's heads, `masks` (K, 1, H, W) in
    [0, 1], `keypoints` (K, J, 3) [x, y, 1] and `keypoints_scores` (K, J). Its metadata has, as JSON, the `settings` and
    the `labels` (category and keypoint names) of the model, and the name of its `builder`.

    size: (H, W) of all pictures that the file will be given; None for pictures of any size. paste: whether masks are
    laid into the picture; without it they stay (K, 1, M, M), as large as their boxes: for small machines. float16: the
    file keeps matrices and kernels in half the bytes, rounded; what is computed with them stays float32. opset: version
    of ONNX's operators. pictures: (3, H, W) each, to compare with, where there is something in them to be found; by
    default three scenes of the playground.

    Returns how model and file compare on each picture. Raises ExportError, and writes nothing, where they differ by
    more than `LIMITS`; ValueError or TypeError for what cannot be exported; CheckpointError where the file cannot be
    written.
    """
    check_request(model, size, opset)
    pictures = scenes(size) if pictures is None else pictures
    check_pictures(pictures, size)
    model = exportable(model, paste, float16)
    contents = converted(OnePicture(model), size, float16, opset)
    comparisons = compare(model, contents, pictures)
    for each in comparisons:
        if not each.equal():
            raise ExportError(f"the file would not give the model's answers: {each}")
    write_whole(path, lambda file: file.write(contents))
    return comparisons


def check_request(model: MaskRCNN, size: tuple[int, int] | None, opset: int) -> None:
    if not isinstance(model, MaskRCNN):
        raise TypeError(f"model must be a MaskRCNN, got {describe(model)}")
    if size is not None and not (len(size) == 2 and all(map(SIDE.holds, size))):
        raise ValueError(f"size must be None or (height, width), each {SIDE.expected}, got {size}")
    if opset not in OPSETS:
        raise ValueError(f"opset must be {OPSETS[0]} to {OPSETS[-1]}, got {opset}")


def check_pictures(pictures: Sequence[Tensor], size: tuple[int, int] | None) -> None:
    check_images(pictures)
    for picture in pictures:
        if size is not None and tuple(picture.shape[1:]) != tuple(size):
            raise ValueError(f"pictures must be of the size {tuple(size)}, got one of {tuple(picture.shape[1:])}")


# ---- From the model to the file


def exportable(model: MaskRCNN, paste: bool, float16: bool) -> MaskRCNN:
    """A copy of the model in evaluation mode, on the CPU, that computes what the file will."""
    model = copy.deepcopy(model).cpu().float().eval()
    if float16:
        for tensor in model.state_dict().values():  # matrices and kernels, not the few numbers beside them
            if tensor.dim() > 1:
                tensor.copy_(tensor.half())
    heads = model.roi_heads.heads
    if not paste and "mask" in heads:
        heads["mask"] = UnpastedMaskHead(heads["mask"].settings)
    return model


class UnpastedMaskHead(MaskHead):
    """Masks (K, 1, M, M) that stay as large as their boxes."""

    def restore(self, *_: Any) -> None:
        pass


class OnePicture(nn.Module):
    """A model of one picture, instead of a list of them: image (3, H, W) -> its dict of results."""

    def __init__(self, model: MaskRCNN):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return self.model([image])[0]


@torch.no_grad()
def converted(one: OnePicture, size: tuple[int, int] | None, float16: bool, opset: int) -> bytes:
    """The contents of the file, whose outputs are those of `one`."""
    example = torch.zeros(EXAMPLE if size is None else (3, *size))
    free = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.onnx's, about its own insides
        program = torch.onnx.export(
            one,
            (example,),
            dynamo=True,
            verbose=False,
            dynamic_shapes=None if size else {"image": {1: free, 2: free}},
            input_names=["image"],
            output_names=list(one(example)),
            opset_version=opset,
            custom_translation_table=TRANSLATIONS,
        )
    if float16:
        keep_in_float16(program.model)
    forget_the_sources(program.model)
    program.model.metadata_props.update(
        builder=one.model.builder,
        settings=json.dumps(one.model.settings.to_dict()),
        labels=json.dumps(one.model.labels),
    )
    return program.model_proto.SerializeToString()


def forget_the_sources(model: onnx_ir.Model) -> None:
    """Takes out the lines of Python, with the paths of this machine, that torch.onnx notes at every node and value."""
    for node in model.graph.all_nodes():
        for each in (node, *node.outputs):
            each.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def keep_in_float16(model: onnx_ir.Model) -> None:
    """Constants that float16 holds exactly are kept in it, and made float32 again where they are used."""
    graph = model.graph
    for name, value in list(graph.initializers.items()):
        numbers = value.const_value.numpy()
        if numbers.dtype != "float32" or numbers.ndim < 2 or (numbers.astype("float16") != numbers).any():
            continue
        half = onnx_ir.val(f"{name}.float16", const_value=onnx_ir.tensor(numbers.astype("float16")))
        cast = onnx_ir.node("Cast", [half], {"to": onnx_ir.DataType.FLOAT})
        cast.outputs[0].name = f"{name}.float32"
        value.replace_all_uses_with(cast.outputs[0])
        del graph.initializers[name]
        graph.register_initializer(half)
        graph.insert_before(graph[0], cast)


# ---- What our ops are in ONNX. Their arguments are values of the graph; numbers and flags are Python's.


def onnx_roi_align(features, rois, spatial_scale, height, width, sampling_ratio, aligned):
    picture = onnx.Cast(onnx.Gather(rois, onnx.Constant(value_int=0), axis=1), to=onnx_ir.DataType.INT64)
    return onnx.RoiAlign(
        features,
        onnx.Gather(rois, onnx.Constant(value_ints=[1, 2, 3, 4]), axis=1),
        picture,
        coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
        output_height=height,
        output_width=width,
        sampling_ratio=max(sampling_ratio, 0),
        spatial_scale=spatial_scale,
    )


def onnx_sigmoid(x):
    """As torch computes it. onnxruntime approximates ONNX's Sigmoid by a quotient of polynomials that does not always
    rise: near 1, where the best scores crowd, it puts them into another order, and NMS goes by the order."""
    return onnx.Reciprocal(onnx.Add(onnx.Exp(onnx.Neg(x)), onnx.Constant(value_float=1.0)))


def onnx_nms(boxes, scores, iou_threshold, groups):
    """ONNX suppresses within each class of a table of scores (classes, N): here a group is a class, and a box has a
    score in its own alone. It gives class after class, so the rows are sorted once more: by score, then by row."""
    first = onnx.Constant(value_ints=[0])
    count = onnx.Add(onnx.ReduceMax(onnx.Concat(groups, first, axis=0), keepdims=0), onnx.Constant(value_int=1))
    classes = onnx.Range(onnx.Constant(value_int=0), count, onnx.Constant(value_int=1))
    own = onnx.Equal(onnx.Unsqueeze(classes, onnx.Constant(value_ints=[1])), groups)  # (classes, N)
    table = onnx.Where(own, scores, onnx.Constant(value_float=-float("inf")))
    found = onnx.NonMaxSuppression(
        onnx.Unsqueeze(boxes, first),
        onnx.Unsqueeze(table, first),
        onnx.Shape(scores),
        onnx.Constant(value_floats=[iou_threshold]),
        onnx.Constant(value_floats=[torch.finfo(torch.float32).min]),
    )  # (M, 3) [0, class, row]
    rows = onnx.Gather(found, onnx.Constant(value_int=2), axis=1)
    rows, _ = onnx.TopK(rows, onnx.Shape(rows), largest=0)
    _, order = onnx.TopK(onnx.Gather(scores, rows), onnx.Shape(rows))
    return onnx.Gather(rows, order)


@onnxscript.script(default_opset=onnx)
def onnx_heatmaps_to_keypoints(heatmaps: FLOAT, boxes: FLOAT) -> tuple[FLOAT, FLOAT]:
    """As in `mrcnn.keypoint_head`: box by box, enlarged by two matrix products, and the place of the largest number."""
    sizes = onnx.Max(boxes[:, 2:4] - boxes[:, 0:2], 1.0)  # (K, 2)
    pixels = onnx.Ceil(sizes)
    steps = sizes / pixels
    corners = boxes[:, 0:2]
    side = onnx.Shape(heatmaps, start=3)
    square = onnx.Concat(side, side, axis=0)
    unit = onnx.Reshape(onnx.EyeLike(onnx.ConstantOfShape(square)), onnx.Concat([1, 1], square, axis=0))
    joints = onnx.Shape(heatmaps, start=1, end=2)
    places = onnx.ConstantOfShape(onnx.Concat([0], joints, [2], axis=0))
    heights = onnx.ConstantOfShape(onnx.Concat([0], joints, axis=0))
    count = onnx.Squeeze(onnx.Shape(heatmaps, start=0, end=1))
    for k in range(count):
        each = onnx.Reshape(k, [1])
        size = onnx.Cast(onnx.Squeeze(onnx.Gather(pixels, each), [0]), to=7)  # (2,): width, height
        width = size[0:1]
        height = size[1:2]
        rows = onnx.Resize(
            unit, None, None, onnx.Concat([1, 1], height, side, axis=0), mode="cubic", cubic_coeff_a=-0.75
        )
        columns = onnx.Resize(
            unit, None, None, onnx.Concat([1, 1], side, width, axis=0), mode="cubic", cubic_coeff_a=-0.75
        )
        enlarged = onnx.MatMul(onnx.MatMul(rows, onnx.Gather(heatmaps, each)), columns)  # (1, J, height, width)
        flat = onnx.Reshape(enlarged, onnx.Concat(joints, [-1], axis=0))  # (J, pixels)
        peak = onnx.ArgMax(flat, axis=1)  # (J, 1)
        cell = onnx.Cast(onnx.Concat(peak % width, peak / width, axis=1), to=1)  # (J, 2): column, row
        place = (cell + 0.5) * onnx.Gather(steps, each) + onnx.Gather(corners, each)
        places = onnx.Concat(places, onnx.Unsqueeze(place, [0]), axis=0)
        heights = onnx.Concat(heights, onnx.Transpose(onnx.ReduceMax(flat, [1])), axis=0)
    visible = onnx.Expand(1.0, onnx.Concat(onnx.Shape(heatmaps, start=0, end=2), [1], axis=0))
    return onnx.Concat(places, visible, axis=2), heights


TRANSLATIONS = {
    torch.ops.aten.sigmoid.default: onnx_sigmoid,
    torch.ops.mrcnn.roi_align.default: onnx_roi_align,
    torch.ops.mrcnn.nms.default: onnx_nms,
    torch.ops.mrcnn.heatmaps_to_keypoints.default: onnx_heatmaps_to_keypoints,
}


# ---- Does it give the model's answers?


@dataclass(frozen=True)
class Comparison:
    """What a model and its file found in one picture of `size` (height, width).

    objects: how many both found. missing: how many only one of them did. differences: the largest of all objects, under
    the names of `LIMITS`. seconds: what the model and what onnxruntime took.
    """

    size: tuple[int, int]
    objects: int
    missing: int
    differences: dict[str, float]
    seconds: tuple[float, float]

    def equal(self) -> bool:
        return self.missing == 0 and all(found <= LIMITS[name] for name, found in self.differences.items())

    def __str__(self) -> str:
        found = ", ".join(f"{name} {each:.2g}" for name, each in self.differences.items())
        return (
            f"{self.size[0]} x {self.size[1]} pixels: {self.objects} objects, {self.missing} that only one of them "
            f"found; largest differences: {found or 'none'}"
        )


def summary(comparisons: Sequence[Comparison]) -> str:
    """A table of what was compared, in lines of text."""
    names = [name for name in LIMITS if any(name in each.differences for each in comparisons)]
    header = ["picture", "objects", *names, "model ms", "onnxruntime ms"]
    rows = [
        [
            f"{each.size[0]} x {each.size[1]}",
            str(each.objects),
            *(f"{each.differences[name]:.1e}" if name in each.differences else "" for name in names),
            *(f"{1000 * seconds:.0f}" for seconds in each.seconds),
        ]
        for each in comparisons
    ]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = ["  ".join(map(str.rjust, row, widths)) for row in (header, *rows)]
    if not any(each.objects for each in comparisons):
        lines.append("Nothing was found in any of them, so little was compared: give pictures with objects in them.")
    return "\n".join(["Largest differences (boxes and keypoints in pixels):", *lines])


def scenes(size: tuple[int, int] | None) -> list[Tensor]:
    """Scenes of the playground to compare with, of different sizes or all of one."""
    sizes = CHECKED_SIZES if size is None else (size,) * len(CHECKED_SIZES)
    drawn = [image for image, _ in Playground(len(sizes), seed=0)]
    return [
        F.interpolate(as_float(image)[None], each, mode="bilinear")[0] for image, each in zip(drawn, sizes, strict=True)
    ]


def as_float(picture: Tensor) -> Tensor:
    """The picture in float32, in [0, 1]."""
    return picture.float() / 255 if picture.dtype == torch.uint8 else picture.float()


@torch.no_grad()
def compare(model: MaskRCNN, contents: bytes, pictures: Sequence[Tensor]) -> list[Comparison]:
    """Both on the same pictures, (3, H, W) each."""
    session = onnxruntime.InferenceSession(contents, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    rows = []
    for picture in pictures:
        picture = as_float(picture)
        given = {"image": picture.numpy()}
        model([picture]), session.run(None, given)  # what is slow only once
        begin = time.perf_counter()
        ours = model([picture])[0]
        middle = time.perf_counter()
        found = session.run(None, given)
        end = time.perf_counter()
        theirs = dict(zip(names, map(torch.from_numpy, found), strict=True))
        limit = lowest_kept(model, ours["scores"])
        size = (picture.shape[1], picture.shape[2])
        rows.append(Comparison(size, *agreement(ours, theirs, limit), (middle - begin, end - middle)))
    return rows


def lowest_kept(model: MaskRCNN, scores: Tensor) -> float:
    """The score below which a detection is dropped: a rounding error decides about those that are just there."""
    settings = model.settings.box
    return max(settings.min_score, float(scores[-1]) if len(scores) == settings.detections else 0.0)


def agreement(ours: dict[str, Tensor], theirs: dict[str, Tensor], limit: float) -> tuple[int, int, dict[str, float]]:
    """How many objects are in both results, how many in one alone, and the largest differences of those in both.

    Of objects with nearly the same score the order may differ: each is compared with the one of its class that covers
    it best. limit: objects that are hardly above this score may be in one alone.
    """
    overlap = box_maths.iou(ours["boxes"], theirs["boxes"])  # (K, K')
    overlap[ours["labels"][:, None] != theirs["labels"]] = 0
    if overlap.numel():
        best, partner = overlap.max(1)
        mine = (best > 0.5).nonzero()[:, 0]
        other = partner[mine]
    else:
        mine = other = torch.empty(0, dtype=torch.int64)
    missing = sum(
        int((found["scores"][~torch.isin(torch.arange(len(found["scores"])), rows)] > limit + LIMITS["scores"]).sum())
        for found, rows in ((ours, mine), (theirs, other))
    )
    differences = (
        {name: float((ours[name][mine] - theirs[name][other]).abs().max()) for name in LIMITS if name in ours}
        if len(mine)
        else {}
    )
    return len(mine), missing, differences
