"""The work that gpu_check.py gives to a GPU, one kind per process, so that a crash of one leaves the others alone.

    python benchmarks/gpu_work.py exercise     every CUDA kernel once, small, for compute-sanitizer
    python benchmarks/gpu_work.py repeats      what promises the same bits gives them
    python benchmarks/gpu_work.py ops          each op against torchvision: milliseconds, bandwidth, memory
    python benchmarks/gpu_work.py model        Mask R-CNN against torchvision's

The last line printed is the result as JSON.
"""

import json
import statistics
import sys
import traceback

import torch

from mrcnn import ops

GIGA = 1e9
POOLED = {"boxes 7x7": (7, 1000), "masks 14x14": (14, 256)}  # bins a side, RoIs per picture


def boxes(count: int, width: float = 1344, height: float = 800, seed: int = 0) -> torch.Tensor:
    """(count, 4) of many sizes, side by side and over each other, on a picture."""
    random = torch.Generator("cuda").manual_seed(seed)

    def draw() -> torch.Tensor:
        return torch.rand(count, generator=random, device="cuda")

    side = 16 * 2 ** (draw() * 4.5)
    stretch = 2 ** (draw() - 0.5)
    x, y, w, h = draw() * width, draw() * height, side * stretch, side / stretch
    return torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], dim=1).clamp(min=0)


def rois(per_picture: int, pictures: int = 2) -> torch.Tensor:
    image = torch.arange(pictures, device="cuda").repeat_interleave(per_picture)[:, None]
    return torch.cat([image.float(), boxes(per_picture * pictures)], dim=1)


def features(dtype, channels_last: bool, channels: int = 256, height: int = 200, width: int = 336) -> torch.Tensor:
    x = torch.randn(2, channels, height, width, device="cuda", generator=torch.Generator("cuda").manual_seed(1)).to(
        dtype
    )
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


# ---- every kernel once ----------------------------------------------------------------------------


def exercise() -> dict:
    done = []
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        for channels, channels_last in ((12, False), (32, True), (13, True)):
            x = features(dtype, channels_last, channels, 19, 23).requires_grad_()
            for deterministic in (False, True):
                torch.use_deterministic_algorithms(deterministic)
                ops.roi_align(x, rois(9), (3, 4), 1 / 64, 2).sum().backward()
            torch.use_deterministic_algorithms(False)
            done.append(f"roi_align {dtype} channels={channels} channels_last={channels_last}")
    for dtype in (torch.float32, torch.float64):
        many = boxes(4500).to(dtype)
        scores = torch.rand(len(many), device="cuda")
        ops.nms(many, scores, 0.5)
        ops.batched_nms(many, scores, torch.randint(5, (len(many),), device="cuda"), 0.5)
        ops.match_anchors(many, boxes(300, seed=1).to(dtype), 0.7, 0.3, True)
        done.append(f"nms, match_anchors {dtype}")
    torch.cuda.synchronize()
    return {"exercised": done}


# ---- the same bits --------------------------------------------------------------------------------


def repeats(times: int = 20) -> dict:
    x, where = features(torch.float32, True), rois(300)
    many, scores = boxes(20_000), torch.rand(20_000, device="cuda")
    anchors, gt_boxes = boxes(100_000), boxes(60, seed=1)
    grad = torch.randn(len(where), 256, 7, 7, device="cuda")

    def gradient(deterministic: bool) -> torch.Tensor:
        torch.use_deterministic_algorithms(deterministic)
        leaf = x.detach().requires_grad_()
        (result,) = torch.autograd.grad(ops.roi_align(leaf, where, 7, 0.25, 2), leaf, grad)
        torch.use_deterministic_algorithms(False)
        return result

    promised = {
        "roi_align forward": lambda: ops.roi_align(x, where, 7, 0.25, 2),
        "roi_align backward, deterministic": lambda: gradient(True),
        "nms": lambda: ops.nms(many, scores, 0.5),
        "match_anchors": lambda: ops.match_anchors(anchors, gt_boxes, 0.7, 0.3, True)[0],
    }
    result = {}
    for name, compute in promised.items():
        first = compute()
        result[name] = all(torch.equal(first, compute()) for _ in range(times))
    scattered, gathered = gradient(False), gradient(True)
    result["both gradients agree"] = bool(torch.allclose(scattered, gathered, rtol=1e-4, atol=1e-3))
    return {"times": times, "same_bits": result, "ok": all(result.values())}


# ---- speed ----------------------------------------------------------------------------------------


def milliseconds(run, times: int = 20) -> float:
    """Median of single runs, each after the caches have been overwritten."""
    flush = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    spans = []
    for i in range(times + 3):
        flush.zero_()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        if i >= 3:
            spans.append(begin.elapsed_time(end))
    return statistics.median(spans)


def peak_megabytes(run) -> float:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def copy_bandwidth() -> float:
    """Gigabytes a second, read and written, of a device-to-device copy: what memory can do."""
    a = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    b = torch.empty_like(a)
    return 2 * a.numel() / milliseconds(lambda: b.copy_(a)) / 1e6


def row(name: str, ours, theirs, moved: int | None = None, times: int = 20) -> dict:
    """One comparison; `moved` bytes are the least that must be read and written."""
    result = {"op": name, "ms": milliseconds(ours, times), "megabytes": peak_megabytes(ours)}
    if theirs is not None:
        result |= {"torchvision_ms": milliseconds(theirs, times), "torchvision_megabytes": peak_megabytes(theirs)}
        result["times_faster"] = result["torchvision_ms"] / result["ms"]
        result["memory_ratio"] = result["megabytes"] / max(result["torchvision_megabytes"], 1e-9)
    if moved is not None:
        result["gigabytes_per_second"] = moved / result["ms"] / 1e6
    return result


def guarded(rows: list, make) -> None:
    """One row that fails is told, and leaves the others alone."""
    try:
        rows.append(make())
    except Exception as error:  # whatever it is, it belongs into the report
        traceback.print_exc()
        rows.append({"op": "failed", "error": f"{type(error).__name__}: {error}"})
        torch.cuda.empty_cache()


def pooling_rows(rows: list, vision, dtype, channels_last: bool, name: str) -> None:
    """RoIAlign forward, and backward in both ways, on the map of an 800 x 1344 picture's finest level."""
    x = features(dtype, channels_last)
    bins, count = POOLED[name]
    where = rois(count)
    theirs = where.to(dtype)  # torchvision wants one dtype
    pooled = ops.roi_align(x, where, bins, 0.25, 2)
    grad = torch.randn_like(pooled)
    moved = (x.numel() + pooled.numel()) * x.element_size()
    sizes = (0.25, bins, bins, *x.shape, 2, False)
    title = f"{name}, {str(dtype).removeprefix('torch.')}, {'channels_last' if channels_last else 'contiguous'}"

    def forward():
        return ops.roi_align(x, where, bins, 0.25, 2)

    def torchvision_forward():
        return vision.roi_align(x, theirs, bins, 0.25, 2)

    def torchvision_backward():
        return torch.ops.torchvision._roi_align_backward(grad, theirs, *sizes)

    guarded(rows, lambda: row(f"roi_align {title}", forward, torchvision_forward, moved))
    for deterministic, how in ((False, "atomics"), (True, "deterministic")):
        tail = (channels_last, deterministic)

        def backward(tail=tail):
            return torch.ops.mrcnn.roi_align_backward(grad, where, *sizes, *tail)

        called = f"roi_align backward ({how}) {title}"
        guarded(rows, lambda called=called, run=backward: row(called, run, torchvision_backward, moved))


def ops_rows() -> dict:
    from torchvision import ops as vision
    from torchvision.models.detection._utils import Matcher

    bandwidth = copy_bandwidth()
    rows: list[dict] = []
    for dtype in (torch.float32, torch.float16):
        for channels_last in (False, True):
            for name in POOLED:
                pooling_rows(rows, vision, dtype, channels_last, name)
    for count in (1000, 10_000, 100_000):
        many, scores = boxes(count), torch.randperm(count, device="cuda").float()

        def compare(many=many, scores=scores, count=count):
            same = torch.equal(ops.nms(many, scores, 0.7), vision.nms(many, scores, 0.7))
            times = 20 if count <= 10_000 else 5
            result = row(
                f"nms {count:,} boxes",
                lambda: ops.nms(many, scores, 0.7),
                lambda: vision.nms(many, scores, 0.7),
                None,
                times,
            )
            return result | {"same_result": same}

        guarded(rows, compare)
    million, scores = boxes(1_000_000, 40_000, 40_000), torch.randperm(1_000_000, device="cuda").float()
    guarded(rows, lambda: row("nms 1,000,000 boxes", lambda: ops.nms(million, scores, 0.7), None, None, 3))

    anchors, gt_boxes = boxes(268_569), boxes(50, seed=1)
    matcher = Matcher(0.7, 0.3, allow_low_quality_matches=True)
    guarded(
        rows,
        lambda: row(
            "match_anchors 268,569 x 50",
            lambda: ops.match_anchors(anchors, gt_boxes, 0.7, 0.3, True),
            lambda: matcher(vision.box_iou(gt_boxes, anchors)),
        ),
    )
    for result in rows:
        if "gigabytes_per_second" in result:
            result["share_of_copy"] = result["gigabytes_per_second"] / bandwidth
    return {"copy_gigabytes_per_second": bandwidth, "rows": rows}


def model() -> dict:
    import torchvision

    import mrcnn

    theirs = torchvision.models.detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).cuda()
    ours = mrcnn.maskrcnn_resnet50_fpn(num_classes=91)
    mrcnn.load_torchvision(ours, theirs.state_dict())
    ours = ours.cuda()
    pictures = [torch.rand(3, 800, 1216, device="cuda") for _ in range(2)]
    target = {
        "boxes": boxes(12, 1100, 700).clamp(max=700) + torch.tensor([0, 0, 40, 40], device="cuda"),
        "labels": torch.arange(1, 13, device="cuda"),
        "masks": (torch.rand(12, 800, 1216, device="cuda") > 0.5).to(torch.uint8),
    }
    targets = [target, target]
    rows: list[dict] = []
    with torch.no_grad():
        ours.eval(), theirs.eval()
        guarded(
            rows,
            lambda: row(
                "Mask R-CNN, inference, 2 pictures", lambda: ours(pictures), lambda: theirs(pictures), None, 10
            ),
        )

    def step(network):
        sum(network(pictures, targets).values()).backward()
        network.zero_grad()

    ours.train(), theirs.train()
    guarded(
        rows, lambda: row("Mask R-CNN, training step, 2 pictures", lambda: step(ours), lambda: step(theirs), None, 10)
    )
    return {"rows": rows}


if __name__ == "__main__":
    work = {"exercise": exercise, "repeats": repeats, "ops": ops_rows, "model": model}
    print(json.dumps(work[sys.argv[1]]()))
