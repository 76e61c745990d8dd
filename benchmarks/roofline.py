"""The roofline: what memory and arithmetic allow, and where each op lies under it (Williams et al. 2009)."""

import statistics
from pathlib import Path

import common
import matplotlib
import torch

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def measure_roofs(repeats: int = 9) -> dict:
    """Bytes per second of a copy far larger than the caches, and float32 operations per second of the better of a
    large matrix product and a large convolution: what the libraries under PyTorch make of the multiply-add units."""
    source = torch.ones(64 * 2**20)  # 256 MiB
    target = torch.empty_like(source)
    square = torch.randn(2048, 2048)
    maps = torch.randn(1, 256, 100, 100).contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(256, 256, 3, 3).contiguous(memory_format=torch.channels_last)

    def median(call) -> float:
        call()
        return statistics.median(common.time_once(call) for _ in range(repeats))

    product = 2 * 2048**3 / median(lambda: square @ square)
    convolution = 2 * 256 * 256 * 9 * 100 * 100 / median(lambda: torch.conv2d(maps, kernel, padding=1))
    copied = 2 * 4 * source.numel() / median(lambda: target.copy_(source))
    return {"bytes_per_s": copied, "flops_per_s": max(product, convolution)}


def draw(rows: list, roofs: dict, path: Path) -> None:
    """Each op of ours as a dot, torchvision's as a ring below it."""
    figure, axes = plt.subplots(figsize=(12, 5.5), layout="constrained")
    intensity = [0.3, 1e4]
    roof = [min(roofs["flops_per_s"], roofs["bytes_per_s"] * x) / 1e9 for x in intensity]
    ridge = roofs["flops_per_s"] / roofs["bytes_per_s"]
    axes.plot([intensity[0], ridge, intensity[1]], [roof[0], roofs["flops_per_s"] / 1e9, roof[1]], "k-", lw=1.5)
    axes.text(0.35, roof[1] * 0.8, f"copying memory: {roofs['bytes_per_s'] / 1e9:.0f} GB/s")
    axes.text(ridge * 2, roof[1] * 1.15, f"multiply-adds, float32: {roofs['flops_per_s'] / 1e9:.0f} GFLOP/s")
    markers = {"RoIAlign forward": ("o", "#0072B2"), "RoIAlign backward": ("s", "#D55E00")}
    markers |= {"NMS": ("^", "#009E73"), "matching": ("D", "#CC79A7")}
    for number, row in enumerate(rows, start=1):
        marker, colour = next(style for start, style in markers.items() if row.name.startswith(start))
        x = row.flops / row.bytes
        ours, theirs = (row.flops / row.measured[key] / 1e6 for key in ("ours_ms", "theirs_ms"))
        axes.plot([x, x], [theirs, ours], "-", color=colour, lw=0.8, alpha=0.6)
        axes.plot(x, theirs, marker, color=colour, fillstyle="none")
        axes.plot(x, ours, marker, color=colour, label=f"{number}  {row.name}")
        beside = (6, 4) if number % 2 else (-12, -8)  # neighbours in the list often lie close together
        axes.annotate(str(number), (x, ours), textcoords="offset points", xytext=beside, fontsize=8)
    axes.set(xscale="log", yscale="log", xlim=intensity, ylim=(0.1, roofs["flops_per_s"] / 1e9 * 3))
    axes.set(xlabel="operations per byte that must be moved", ylabel="GFLOP/s (operations of the plain definition)")
    machine = common.machine()
    axes.set_title(
        f"{machine['cpu']}, {machine['vectors']}, {machine['threads']} threads; filled: ours, hollow: torchvision",
        fontsize=10,
    )
    figure.legend(fontsize=8, loc="outside right center")
    figure.savefig(path, dpi=110)
