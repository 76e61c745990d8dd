"""What was built, what was found on this machine, and what each missing piece would give."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = {
    "torchvision": "the yardstick of the tests and benchmarks",
    "skimage": "photographs for the demo (coins), the tests and the lessons",
    "onnxruntime": "`mrcnn export`: the whole model as one ONNX file",
    "av": "`mrcnn predict` on videos",
    "tensorboard": "losses and metrics in TensorBoard; without it they are in CSV files",
    "pytest": "running the tests",
    "jupyterlab": "working through the lessons",
}
DISTRIBUTIONS = {"skimage": "scikit-image"}


def machine_report() -> list[tuple[bool, str]]:
    """One line per thing: whether it is there, and what it is or what it would give."""
    import torch

    from mrcnn import ops

    built = ops.built()
    lines = [
        (True, f"Python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} CPU cores"),
        (True, f"torch {torch.__version__}, {torch.get_num_threads()} threads"),
    ]
    reason = f" (built without: {built['reason']})" if built.get("reason") else ""
    pieces = [
        ("native", "the ops' C++ kernels", "the ops at full speed; run `make install`"),
        ("cuda", "the ops' CUDA kernels", f"the ops on a GPU{reason}; needs CUDA's toolkit and torch for CUDA"),
        ("emulated", "the CUDA kernels, running on the CPU", "testing and tracing CUDA kernels without a GPU"),
    ]
    for key, name, gives in pieces:
        problem = built["problems"].get(key)
        lines.append((built[key], name if built[key] else _missing(name, gives) + (f" [{problem}]" if problem else "")))
    if built["native"]:
        lines.append((True, f"vectors of {built['vector_bits']} bits in use by the C++ kernels"))
    lines += [_gpu(torch), _toolkit(built)]
    lines += [_package(name, gives) for name, gives in PACKAGES.items()]
    return lines


def _missing(name: str, gives: str) -> str:
    return f"{name}: not there; would give {gives}"


def _gpu(torch: Any) -> tuple[bool, str]:
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        return True, f"GPU: {', '.join(names)}"
    return False, _missing("an NVIDIA GPU", "training and prediction many times faster")


def _toolkit(built: dict[str, Any]) -> tuple[bool, str]:
    compiler = shutil.which("nvcc")
    if built.get("cuda_toolkit") or compiler:
        return True, f"CUDA's toolkit: {built.get('cuda_toolkit') or compiler}"
    return False, _missing("CUDA's toolkit (nvcc)", "compiling the CUDA kernels for a GPU")


def _package(name: str, gives: str) -> tuple[bool, str]:
    distribution = DISTRIBUTIONS.get(name, name)
    if importlib.util.find_spec(name) is None:
        return False, _missing(distribution, gives)
    return True, f"{distribution} {metadata.version(distribution)}"


def print_machine_report(echo: Callable[[str], None]) -> None:
    for there, text in machine_report():
        echo(f"  {'yes' if there else ' no'}  {text}")
    echo(f"  Python is {sys.executable}")


def data_report(data: str, annotations: str, keypoints: str | None, drawing: Path, echo: Callable[[str], None]) -> int:
    """Says what is in a data set and what is wrong with it, draws a page of it; returns how many problems there are."""
    from tqdm import tqdm

    from mrcnn import visualize
    from mrcnn.data import labels_of, report

    with tqdm(desc="reading pictures", unit="", disable=None, leave=False) as bar:
        found = report(data, annotations, keypoints, on_picture=lambda _index: bar.update())
    echo(str(found))
    dataset = found.dataset
    if len(dataset):
        count = min(12, len(dataset))
        samples = [dataset[place * len(dataset) // count] for place in range(count)]
        images, targets = zip(*samples, strict=True)
        visualize.save(visualize.draw_samples(images, targets, labels_of(dataset)), drawing)
        echo(f"samples drawn in {drawing}")
    return len(found.problems)
