"""Our CUDA kernels as programs for the CPU emulator, small enough to be compiled many times with one thing changed.

Each `*_program` appends to the op's .cu file a host function that Python can call; each `check_*` runs it, traced, and
raises AssertionError or KernelFault when the kernel is wrong in any way: races, bounds, barriers, or results other than
those of the plain PyTorch in mrcnn/ops/reference.py.
"""

import torch
from torch import Tensor

from mrcnn.lab.cuda import CSRC, Program
from mrcnn.ops import reference

ROI_ALIGN_FUNCTIONS = """
namespace mrcnn {
// sizes: images, channels, height, width, rois, ph, pw
PoolProblem pooling_of(const int64_t* s, bool channels_last, double scale, int sampling_ratio, bool aligned) {
  auto map = [&](int64_t channels, int64_t height, int64_t width) {
    Map m{channels, int(height), int(width), channels * height * width, height * width, width, 1};
    if (channels_last) m.stride_c = 1, m.stride_x = channels, m.stride_y = width * channels;
    return m;
  };
  return {map(s[1], s[2], s[3]), map(s[1], s[5], s[6]), s[0], s[4], scale, sampling_ratio, aligned};
}
void forward(const FLOAT* features, const float* rois, FLOAT* out, const int64_t* sizes, bool channels_last,
             double scale, int sampling_ratio, bool aligned) {
  const PoolProblem p = pooling_of(sizes, channels_last, scale, sampling_ratio, aligned);
  launch_roi_align(features, rois, out, p, nullptr);
}
void scatter(const FLOAT* grad, const float* rois, float* result, const int64_t* sizes, bool channels_last,
             double scale, int sampling_ratio, bool aligned) {
  const PoolProblem p = pooling_of(sizes, channels_last, scale, sampling_ratio, aligned);
  launch_roi_align_scatter(grad, rois, result, p, nullptr);
}
void gather(const FLOAT* grad, const float* rois, FLOAT* result, const int64_t* sizes, bool channels_last,
             double scale, int sampling_ratio, bool aligned) {
  const PoolProblem p = pooling_of(sizes, channels_last, scale, sampling_ratio, aligned);
  launch_roi_align_gather(grad, rois, result, p, nullptr);
}
// With so few blocks that each takes several RoIs, or tiles, in turn.
void few_blocks(const FLOAT* features, const float* rois, FLOAT* out, FLOAT* grad_features, const int64_t* sizes) {
  const PoolProblem p = pooling_of(sizes, false, 0.5, 2, false);
  CUDA_LAUNCH((roi_align_forward<FLOAT, 1, false>), 2, threads, 0, nullptr, features, rois, out, p);
  CUDA_LAUNCH((roi_align_backward_gather<FLOAT>), 2, threads, 0, nullptr, out, rois, grad_features, p);
}
}
"""

NMS_FUNCTIONS = """
namespace mrcnn {
void nms(const float* boxes, const int64_t* groups, int64_t n, float threshold, unsigned* dropped, unsigned* overlaps,
         int64_t* survivors, int* survivor_count, const int64_t* order, const int64_t* rank, bool* kept,
         int64_t* rows) {
  launch_nms<float>({boxes, groups, n, threshold}, {dropped, overlaps, survivors, survivor_count}, nullptr);
  launch_nms_collect(dropped, order, rank, n, kept, rows, nullptr);
}
}
"""

MATCH_FUNCTIONS = """
namespace mrcnn {
void match(const float* anchors, const float* gt_boxes, int64_t anchor_count, int64_t gt_count, float high, float low,
           int64_t* matches, float* ious, float* best_of_gt) {
  const MatchProblem<float> problem{anchors, gt_boxes, anchor_count, gt_count, high, low};
  launch_match_anchors(problem, matches, ious, best_of_gt, nullptr);
}
}
"""


def change(text: str, old: str, new: str, where: int = 0) -> str:
    """`text` with the occurrence number `where` of `old` replaced: a planted fault."""
    parts = text.split(old)
    assert len(parts) > where + 1, f"{old!r} is no longer in the source: plant the fault anew"
    return old.join(parts[: where + 1]) + new + old.join(parts[where + 1 :])


def _one_type(text: str, dtype: str) -> str:
    """Leave out the instances for other types, which take time to compile."""
    return "\n".join(line for line in text.split("\n") if not line.startswith("MRCNN_FOR(") or f"({dtype})" in line)


def roi_align_program(*changes, dtype: str = "float") -> Program:
    text = (CSRC / "roi_align/roi_align.cu").read_text()
    for each in changes:
        text = change(text, *each)
    functions = ["forward", "scatter", "gather", "few_blocks"]
    text = _one_type(text, dtype) + ROI_ALIGN_FUNCTIONS.replace("FLOAT", dtype)
    return Program(text, [], [f"mrcnn::{name}" for name in functions])


def nms_program(*changes, strip: int = 2048) -> Program:
    """`strip`: boxes per strip; with fewer, a small input has several strips."""
    text = (CSRC / "nms/nms.cu").read_text()
    header = (CSRC / "nms/launch.h").read_text().replace("#pragma once", "")
    text = change(text, '#include "nms/launch.h"', change(header, "nms_strip = 2048", f"nms_strip = {strip}"))
    text = change(text, "resolve_threads = 1024", f"resolve_threads = {strip // 2}")
    for each in changes:
        text = change(text, *each)
    text = "\n".join(
        line for line in text.split("\n") if not line.startswith("template void launch_nms(const NmsProblem<d")
    )
    return Program(text + NMS_FUNCTIONS, [], ["mrcnn::nms"])


def match_program(*changes, tile: int = 256) -> Program:
    text = (CSRC / "anchor_matching/anchor_matching.cu").read_text()
    text = change(text, "gt_tile = 256", f"gt_tile = {tile}")
    for each in changes:
        text = change(text, *each)
    return Program(text + MATCH_FUNCTIONS, [], ["mrcnn::match"])


# ---- running them ----------------------------------------------------------------------------------------------------


def run(program: Program, function: str, *arguments, traced: bool = True) -> None:
    if traced:
        program.trace_call(f"mrcnn::{function}", *arguments, max_events=0).check()
    else:
        program.call(f"mrcnn::{function}", *arguments)


def random_rois(count: int, images: int, size: float, seed: int = 0) -> Tensor:
    """(count, 5); some reach over the map's edges, the first over all of them, and the last is empty."""
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=random) * size - 2
    side = torch.rand(count, 2, generator=random) * size * 0.6 + 0.5
    side[-1:] = 0
    image = torch.randint(images, (count, 1), generator=random).float()
    image[0], corner[0], side[0] = images - 1, -4, size * 1.5
    return torch.cat([image, corner, corner + side], dim=1)


def random_boxes(count: int, size: float = 60, seed: int = 0) -> Tensor:
    return random_rois(count, 1, size, seed)[:, 1:].contiguous()


def pool(
    program: Program, features: Tensor, rois: Tensor, pooled, scale, sampling_ratio, aligned, traced=True
) -> Tensor:
    channels_last = not features.is_contiguous()
    format = torch.channels_last if channels_last else torch.contiguous_format
    out = torch.full((len(rois), features.shape[1], *pooled), -7.0, dtype=features.dtype)
    out = out.contiguous(memory_format=format)
    sizes = torch.tensor([*features.shape, len(rois), *pooled])
    settings = (sizes, channels_last, scale, sampling_ratio, aligned)
    run(program, "forward", features, rois, out, *settings, traced=traced)
    return out


def gradient(
    program: Program, way: str, grad: Tensor, rois: Tensor, shape, scale, sampling_ratio, aligned, traced=True
):
    """way: "scatter" or "gather"."""
    channels_last = not grad.is_contiguous()
    format = torch.channels_last if channels_last else torch.contiguous_format
    result = torch.zeros(shape) if way == "scatter" else torch.full(shape, -7.0)
    result = result.contiguous(memory_format=format)
    sizes = torch.tensor([*shape, len(rois), *grad.shape[2:]])
    run(program, way, grad, rois, result, sizes, channels_last, scale, sampling_ratio, aligned, traced=traced)
    return result


def suppress(
    program: Program, boxes: Tensor, groups: Tensor | None, threshold: float, strip: int, traced=True
) -> Tensor:
    """Boxes as the op's C++ brings them: by group, and within a group by falling score; here the lower row first."""
    n = len(boxes)
    rank = None
    order = torch.arange(n)
    if groups is not None:
        groups, rank = groups.sort(stable=True)
        order = rank
    dropped = torch.zeros(-(-n // 32), dtype=torch.int32)
    overlaps = torch.full((strip // 32 * strip,), -1, dtype=torch.int32)
    survivors, count = torch.full((strip,), -1), torch.full((1,), -1, dtype=torch.int32)
    kept, rows = torch.zeros(n, dtype=torch.bool), torch.full((n,), -1)
    work = (dropped, overlaps, survivors, count, order, rank, kept, rows)
    run(program, "nms", boxes[order].contiguous(), groups, n, threshold, *work, traced=traced)
    return rows[kept]


def match(program: Program, anchors: Tensor, gt_boxes: Tensor, low_quality: bool, traced: bool = True):
    matches, ious = torch.full((len(anchors),), -7), torch.full((len(anchors),), -7.0)
    best = torch.zeros(len(gt_boxes)) if low_quality else None
    sizes = (len(anchors), len(gt_boxes), 0.7, 0.3)
    run(program, "match", anchors, gt_boxes, *sizes, matches, ious, best, traced=traced)
    return matches, ious


# ---- checks ----------------------------------------------------------------------------------------------------------

# A sum of a few hundred float32 products, in another order: 1e-5 of numbers around 1 is many times their rounding.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def check_forward(program: Program) -> None:
    rois = random_rois(3, 2, 30)
    for channels_last in (False, True):
        for pooled, sampling_ratio, aligned in (((3, 2), 2, False), ((2, 3), -1, True)):
            features = torch.randn(2, 5 if pooled[0] == 3 else 8, 9, 11, generator=torch.Generator().manual_seed(1))
            if channels_last:
                features = features.contiguous(memory_format=torch.channels_last)
            expected = reference.roi_align(features, rois, pooled, 0.5, sampling_ratio, aligned)
            got = pool(program, features, rois, pooled, 0.5, sampling_ratio, aligned)
            torch.testing.assert_close(got, expected, **CLOSE)


def check_backward(program: Program, ways=("scatter", "gather")) -> None:
    rois = random_rois(5, 2, 60)
    for channels_last in (False, True):
        for sampling_ratio, aligned in ((2, False), (-1, True)):
            features = torch.randn(2, 3, 17, 19, requires_grad=True)
            pooled = reference.roi_align(features, rois, (3, 2), 0.5, sampling_ratio, aligned)
            grad = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(2))
            (expected,) = torch.autograd.grad(pooled, features, grad)
            if channels_last:
                grad = grad.contiguous(memory_format=torch.channels_last)
            for way in ways:
                got = gradient(program, way, grad, rois, features.shape, 0.5, sampling_ratio, aligned)
                torch.testing.assert_close(got, expected, **CLOSE)


def check_few_blocks(program: Program) -> None:
    rois, features = random_rois(5, 2, 60), torch.randn(2, 3, 33, 19)
    out, grad = torch.empty(5, 3, 3, 2), torch.empty(2, 3, 33, 19)
    run(program, "few_blocks", features, rois, out, grad, torch.tensor([2, 3, 33, 19, 5, 3, 2]))
    torch.testing.assert_close(out, reference.roi_align(features, rois, (3, 2), 0.5, 2, False), **CLOSE)


def check_nms(program: Program, strip: int = 256) -> None:
    crowded, sparse = random_boxes(300), random_boxes(700, 500)
    sparse[:, 2:] = sparse[:, :2] + 25  # most of a strip survives
    for boxes in (crowded, sparse):
        scores = -torch.arange(float(len(boxes)))
        for groups in (None, torch.randint(3, (len(boxes),), generator=torch.Generator().manual_seed(3))):
            expected = reference.nms(boxes, scores, 0.3, groups)
            assert torch.equal(suppress(program, boxes, groups, 0.3, strip), expected)


def check_match(program: Program) -> None:
    anchors = torch.cat([random_boxes(300), random_boxes(20)])  # 20 of them twice
    far = torch.full((1, 4), 900.0)
    gt_boxes = torch.cat([random_boxes(10, 80, seed=5), random_boxes(10, 80, seed=5), anchors[:2], anchors[:2], far])
    for low_quality in (False, True):
        expected = reference.match_anchors(anchors, gt_boxes, 0.7, 0.3, low_quality)
        matches, ious = match(program, anchors, gt_boxes, low_quality)
        assert torch.equal(matches, expected[0])
        assert torch.equal(ious, expected[1])
