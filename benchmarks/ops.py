"""The ops on the CPU against torchvision's, in one process, in turn: `python benchmarks/ops.py`.

With `ATEN_CPU_CAPABILITY=avx2` in the environment it is as on a processor without AVX-512; with
`MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX2` as well, so is the peak that the roofline shows.
The sizes are those of Mask R-CNN on an 800x1216 picture: 1000 RoIs on the stride-4 map of 256 channels, the anchors of
five pyramid levels of an 800x1344 one. torchvision always gets the layout it likes best, contiguous.
"""

import argparse
import statistics
from dataclasses import dataclass, field
from functools import partial

import common
import torch
import torchvision
from torchvision.models.detection._utils import Matcher

from mrcnn import ops


@dataclass
class Row:
    """One comparison, and what the roofline needs: the work of the definition, and the least that must be moved."""

    name: str
    ours: object
    theirs: object
    flops: float
    bytes: float
    wanted: float | None = None  # the ratio we aim at
    measured: dict = field(default_factory=dict)


def make_rois(count: int) -> torch.Tensor:
    """Boxes of 50 to 250 pixels, as the stride-4 map gets them, on an 800x1216 picture."""
    corner = torch.rand(count, 2) * torch.tensor([1100.0, 700.0])
    sides = torch.exp(torch.rand(count, 2) * 1.6 + 3.9)
    rois = torch.cat([torch.zeros(count, 1), corner, corner + sides], dim=1)
    rois[:, 3].clamp_(max=1215)
    rois[:, 4].clamp_(max=799)
    return rois


def roi_align_rows() -> list[Row]:
    rois = make_rois(1000)
    contiguous = torch.randn(1, 256, 200, 304)
    pooled_numbers = 1000 * 256 * 49
    flops = pooled_numbers * 4 * 4 * 2  # four samples, each a product and a sum of four cells
    moved = 4 * (contiguous.numel() + pooled_numbers)
    rows = []
    for name, format, dtype, wanted_forward in (
        ("channels_last", torch.channels_last, torch.float32, 8),
        ("contiguous", torch.contiguous_format, torch.float32, 4),
        ("channels_last, bfloat16 (torchvision: float32)", torch.channels_last, torch.bfloat16, None),
    ):
        features = contiguous.to(dtype).contiguous(memory_format=format)
        bytes_moved = moved * features.element_size() / 4
        ours, theirs = (
            partial(op, x, rois, 7, 0.25, 2)
            for op, x in ((ops.roi_align, features), (torchvision.ops.roi_align, contiguous))
        )
        rows.append(Row(f"RoIAlign forward, {name}", ours, theirs, flops, bytes_moved, wanted_forward))
        gradients = []
        for op, x in ((ops.roi_align, features), (torchvision.ops.roi_align, contiguous)):
            x = x.detach().requires_grad_()
            pooled = op(x, rois, 7, 0.25, 2)
            grad = torch.randn(pooled.shape, dtype=pooled.dtype)  # contiguous, as a box head's first layer gives it
            gradients.append(partial(torch.autograd.grad, pooled, x, grad, retain_graph=True))
        wanted = 10 if dtype == torch.float32 else None
        rows.append(Row(f"RoIAlign backward, {name}", *gradients, flops, bytes_moved, wanted))
    return rows


def make_boxes(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    boxes = torch.rand(count, 4) * torch.tensor([1000.0, 700, 200, 200])
    boxes[:, 2:] += boxes[:, :2]
    return boxes, torch.rand(count)


def nms_rows() -> list[Row]:
    rows = []
    for count, wanted in ((1000, 15), (4000, 40), (10_000, 40)):
        boxes, scores = make_boxes(count)
        order = scores.argsort(descending=True).argsort()
        kept = ops.nms(boxes, scores, 0.7)
        pairs = (count - 1 - order[kept]).sum().item()  # each kept box with all worse ones
        ours, theirs = (partial(op, boxes, scores, 0.7) for op in (ops.nms, torchvision.ops.nms))
        rows.append(Row(f"NMS, {count:,} boxes ({len(kept):,} kept)", ours, theirs, pairs * 13.0, count * 28.0, wanted))
    boxes, scores = make_boxes(5000)
    levels = torch.arange(5).repeat_interleave(1000)
    ours, theirs = (partial(op, boxes, scores, levels, 0.7) for op in (ops.batched_nms, torchvision.ops.batched_nms))
    rows.append(Row("NMS within each of 5 levels of 1,000 boxes", ours, theirs, 5 * 1000 * 999 / 2 * 13.0, 5000 * 36.0))
    return rows


def make_anchors() -> torch.Tensor:
    """The 268,569 anchors of an 800x1344 picture (Faster R-CNN's, on five levels)."""
    anchors = []
    for size, stride, rows, columns in (
        *((32, 4, 200, 336), (64, 8, 100, 168), (128, 16, 50, 84), (256, 32, 25, 42), (512, 64, 13, 21)),
    ):
        y, x = torch.meshgrid(torch.arange(rows) * stride, torch.arange(columns) * stride, indexing="ij")
        height = size * torch.tensor([0.5, 1.0, 2.0]).sqrt()
        half = torch.stack([size * size / height, height], dim=1) / 2  # (3, 2)
        cell = torch.cat([-half, half], dim=1).round()
        anchors.append((torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4) + cell).reshape(-1, 4))
    return torch.cat(anchors)


def torchvision_match(gt_boxes, anchors):
    return Matcher(0.7, 0.3, allow_low_quality_matches=True)(torchvision.ops.box_iou(gt_boxes, anchors))


def match_rows() -> list[Row]:
    anchors = make_anchors()
    rows = []
    for count in (20, 200):
        gt_boxes = torch.rand(count, 4) * torch.tensor([1000.0, 600, 300, 200])
        gt_boxes[:, 2:] += gt_boxes[:, :2]
        ours = partial(ops.match_anchors, anchors, gt_boxes, 0.7, 0.3, True)
        theirs = partial(torchvision_match, gt_boxes, anchors)
        name = f"matching {len(anchors):,} anchors to {count} boxes"
        rows.append(Row(name, ours, theirs, 13.0 * len(anchors) * count, len(anchors) * 28.0, 60))
    return rows


def read_and_write(repeats: int = 9) -> float:
    """Milliseconds to read the anchors once and to write as much as a result into fresh memory, after others have used
    the caches: what a matching cannot go below."""
    anchors = make_anchors()
    others = torch.ones(2**24)  # 64 MiB

    def least():
        total = anchors.sum()
        return total, torch.full((len(anchors),), -1), torch.zeros(len(anchors))

    times = []
    for _ in range(repeats):
        others.add_(1)
        times.append(common.time_once(least))
    return 1e3 * statistics.median(times)


def measure(row: Row, repeats: int) -> None:
    row.measured = common.interleaved(row.ours, row.theirs, repeats)
    if row.name.startswith("matching"):
        row.measured["least_ms"] = read_and_write()
        row.measured["ours_extra_mb"] = common.extra_memory(row.ours)
        row.measured["theirs_extra_mb"] = common.extra_memory(row.theirs)
    print(f"{row.name}: {row.measured['ratio']:.1f}x", flush=True)


def report(rows: list[Row], roofs: dict, drawing: str) -> tuple[dict, str]:
    table = []
    for row in rows:
        got = row.measured
        low, high = got["ratio_quartiles"]
        memory = [
            f"{got[key]:,.0f}" if got.get(key) is not None else "" for key in ("ours_extra_mb", "theirs_extra_mb")
        ]
        table.append(
            [
                *(row.name, f"{got['theirs_ms']:.2f}", f"{got['ours_ms']:.2f}", f"**{got['ratio']:.1f}**"),
                *(f"{low:.1f} to {high:.1f}", f"{row.wanted:g}" if row.wanted else "", *memory),
            ]
        )
    header = [
        "op",
        "torchvision, ms",
        "ours, ms",
        "ratio",
        "middle half of ratios",
        "aim",
        "our extra MB",
        "its extra MB",
    ]
    about = common.machine() | {"torchvision": torchvision.__version__}
    least = next(row.measured["least_ms"] for row in rows if "least_ms" in row.measured)
    text = "\n".join(
        [
            f"# The ops on the CPU with {about['vectors']}, against torchvision",
            "",
            ", ".join(f"{name}: {value}" for name, value in about.items()) + ".",
            f"Copying memory: {roofs['bytes_per_s'] / 1e9:.1f} GB/s; multiply-add peak (the better of a float32 "
            f"matrix product and convolution): "
            f"{roofs['flops_per_s'] / 1e9:.0f} GFLOP/s; both in this run.",
            "",
            common.markdown_table(header, table),
            "",
            f"To read the anchors once and to write results of that size into fresh memory takes {least:.2f} ms here:",
            "the bound of matching to few boxes.",
            "",
            "Medians of calls made in turn in one process; torchvision always gets contiguous features. Extra memory:",
            "by how much one call raises the process's memory at its highest, results included.",
            "",
            f"![roofline]({drawing})",
        ]
    )
    record = {"machine": about, "roofs": roofs, "rows": {row.name: row.measured | {"aim": row.wanted} for row in rows}}
    return record, text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    torch.manual_seed(0)
    import roofline

    roofs = roofline.measure_roofs()
    rows = []
    for make in (roi_align_rows, nms_rows, match_rows):  # one group at a time: the maps are large
        group = make()
        for row in group:
            measure(row, repeats)
            row.ours = row.theirs = None
        rows += group
    name = f"cpu_{torch.backends.cpu.get_cpu_capability().lower()}"  # as cpu_avx512
    common.write(f"ops_{name}", *report(rows, roofs, f"roofline_{name}.png"))
    roofline.draw(rows, roofs, common.RESULTS / f"roofline_{name}.png")


if __name__ == "__main__":
    main()
