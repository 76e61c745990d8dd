"""What the benchmarks share: fair timing, the machine's description, tables."""

import ctypes
import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


def machine() -> dict:
    """What the figures depend on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def time_once(call: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def turns(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each call, in turns, each after one that does not count: while it runs the threads of the side before
    it, which wait for more work for a while, come to rest."""
    seconds = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            call()
            seconds[name].append(time_once(call))
    return seconds


def interleaved(ours: Callable[[], object], theirs: Callable[[], object], repeats: int) -> dict:
    """Time two calls in turn, so that whatever slows the machine down slows both.

    Returns medians in milliseconds, and of the ratio theirs / ours of each turn the median and the quartiles.
    """
    ours(), theirs()  # memory touched, threads started
    gc.collect()
    times = [(time_once(ours), time_once(theirs)) for _ in range(repeats)]
    ratios = [their / our for our, their in times]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return {
        "ours_ms": 1e3 * statistics.median(our for our, _ in times),
        "theirs_ms": 1e3 * statistics.median(their for _, their in times),
        "ratio": middle,
        "ratio_quartiles": [low, high],
        "repeats": repeats,
    }


def extra_memory(call: Callable[[], object]) -> float | None:
    """Megabytes by which one call raises the process's memory at its highest, results included (None: not on Linux)."""
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not reset.exists():
        return None
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # memory freed earlier and kept by the process would hide what the call takes
    reset.write_text("5")  # forget the highest so far

    def kilobytes(name: str) -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))

    before = kilobytes("VmRSS:")
    result = call()
    highest = kilobytes("VmHWM:")
    del result
    return (highest - before) / 1e3


def average_precisions(metrics: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Of `mrcnn.engine.evaluate`'s metrics those that a study of many trainings keeps, by kind."""
    kept = ("AP", "AP50", "AP75")
    return {kind: {name: round(values[name], 4) for name in kept} for kind, values in metrics.items()}


def over_seeds(values: list[float], sign: str = "") -> str:
    """Mean ± one standard deviation. One seed alone has no spread, and says so."""
    if len(values) < 2:
        return f"{values[0]:{sign}.3f} (one seed)" if values else ""
    return f"{statistics.mean(values):{sign}.3f} ± {statistics.stdev(values):.3f}"


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(name: str, record: dict, text: str) -> None:
    """Show the text, and keep it and the record as benchmarks/results/NAME.md and .json."""
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text + "\n")
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
