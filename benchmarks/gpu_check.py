"""One command for a machine with an NVIDIA GPU, no network needed: is everything right on it, and how fast?

    python3 benchmarks/gpu_check.py            (or: make gpu-check)

Builds the ops for this GPU, runs the op tests on it, runs compute-sanitizer over every kernel, checks that what
promises the same bits gives them, and measures against torchvision. Each step is told, also when it fails, and the
others go on.
Writes benchmarks/results/gpu_check_<name of the GPU>.json and .md. Takes less than eight minutes.

Exit status: 0 all is well, 1 something failed, 2 there is no GPU.
"""

import datetime
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "benchmarks" / "gpu_work.py"
BUDGET = 465  # seconds for everything
USEFUL = ("torchvision", "pytest", "hypothesis", "pycocotools", "matplotlib", "jupytext", "nbclient")
SANITIZERS = {  # what each looks for
    "memcheck": "accesses out of bounds or misaligned",
    "racecheck": "races in shared memory",
    "initcheck": "reads of memory that nobody wrote",
    "synccheck": "barriers and warp functions that not all threads reach",
}
began = time.monotonic()


def left() -> float:
    return max(BUDGET - (time.monotonic() - began), 1)


def run(command, limit: float, **environment) -> dict:
    """Run a command for `limit` seconds at most, and not beyond the budget; never raises."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment}
    start = time.monotonic()
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=min(limit, left()),
        )
        status, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        output = late.stdout or b""
        output = output.decode(errors="replace") if isinstance(output, bytes) else output
        status = "out of time"
    except OSError as error:
        status, output = str(error), ""
    return {"ok": status == 0, "status": status, "seconds": round(time.monotonic() - start, 1), "output": output}


def with_json(step: dict) -> dict:
    """The result that a step printed as its last line."""
    last = step["output"].strip().split("\n")[-1]
    try:
        return {**step, "result": json.loads(last), "output": step["output"][: -len(last)]}
    except ValueError:
        return {**step, "ok": False, "result": None}


# ---- steps ----------------------------------------------------------------------------------------


def build() -> dict:
    import torch

    arch = "{}.{}".format(*torch.cuda.get_device_capability())
    return run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        200,
        TORCH_CUDA_ARCH_LIST=arch,
        MRCNN_CUDA="1",
        MAX_JOBS="16",
    )


def tests() -> dict:
    if not importlib.util.find_spec("pytest"):
        return {"ok": False, "status": "pytest is not here", "seconds": 0, "output": ""}
    step = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/ops"], 150)
    summary = re.findall(r"^.*\b(?:passed|failed|error)\b.*$", step["output"], re.MULTILINE)
    return {**step, "result": summary[-1].strip("= ") if summary else None}


def sanitize(tool: str) -> dict:
    program = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(program).exists():
        return {"ok": False, "status": "compute-sanitizer is not here", "seconds": 0, "output": ""}
    command = [program, "--tool", tool, "--error-exitcode", "9"]
    if "--kernel-regex" in run([program, "--help"], 20)["output"]:
        command += ["--kernel-regex", "kns=mrcnn"]  # our kernels, by their namespace
    # Without PyTorch's cache every tensor is an allocation of its own, and a step outside it is seen.
    step = run([*command, sys.executable, WORK, "exercise"], 75, PYTORCH_NO_CUDA_MEMORY_CACHING="1")
    summary = re.findall(r"ERROR SUMMARY: (.*)|RACECHECK SUMMARY: (.*)", step["output"])
    return {**step, "result": " ".join(summary[-1]).strip() if summary else None}


def work(name: str, limit: float) -> dict:
    step = with_json(run([sys.executable, WORK, name], limit))
    if step["result"] is None:
        return step
    rows = step["result"].get("rows", [])
    fine = step["result"].get("ok", True) and all("error" not in row and row.get("same_result", True) for row in rows)
    return {**step, "ok": step["ok"] and fine}


# ---- report ---------------------------------------------------------------------------------------


def number(row: dict, key: str, form: str) -> str:
    return format(row[key], form) if key in row else ""


def table(rows: list[dict]) -> list[str]:
    lines = [
        "| | ms | torchvision ms | times faster | GB/s | of copy | MB | torchvision MB |",
        "|---" + "|---:" * 7 + "|",
    ]
    for row in rows:
        if "error" in row:
            lines.append(f"| failed: {row['error'].splitlines()[0]} |" + " |" * 7)
            continue
        cells = [
            row["op"] + ("" if row.get("same_result", True) else " (RESULTS DIFFER)"),
            number(row, "ms", ".3f"),
            number(row, "torchvision_ms", ".3f"),
            number(row, "times_faster", ".2f"),
            number(row, "gigabytes_per_second", ",.0f"),
            number(row, "share_of_copy", ".0%"),
            number(row, "megabytes", ",.1f"),
            number(row, "torchvision_megabytes", ",.1f"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def markdown(report: dict) -> str:
    machine = report["machine"]
    lines = [
        f"# GPU check: {machine['gpu']}",
        "",
        f"{machine['date']}, torch {machine['torch']}, CUDA {machine['cuda']}, torchvision {machine['torchvision']}. "
        "Medians of CUDA events, with caches overwritten between runs. GB/s counts the map and the pooled RoIs once "
        "each; `of copy` is the share of a device-to-device copy measured in the same run.",
        "",
        *([f"Not here, so left out: {', '.join(machine['missing'])}.", ""] if machine["missing"] else []),
        "| step | | seconds |",
        "|---|---|---:|",
    ]
    for name, step in report["steps"].items():
        told = step.get("result") if isinstance(step.get("result"), str) else None
        verdict = "ok" if step["ok"] else f"FAILED (status {step['status']})"
        lines.append(f"| {name} | {verdict}{': ' + told if told else ''} | {step['seconds']} |")
    repeats = report["steps"].get("repeats", {}).get("result")
    if repeats:
        lines += ["", f"The same bits {repeats['times']} times: "]
        lines[-1] += (
            "; ".join(f"{name}: {'yes' if same else 'NO'}" for name, same in repeats["same_bits"].items()) + "."
        )
    for name in ("ops", "model"):
        result = report["steps"].get(name, {}).get("result")
        if result:
            lines += ["", f"## {name}", ""]
            if "copy_gigabytes_per_second" in result:
                lines += [f"A copy moves {result['copy_gigabytes_per_second']:,.0f} GB/s, read and written.", ""]
            lines += table(result["rows"])
    return "\n".join(lines) + "\n"


def version(module: str) -> str:
    try:
        return __import__(module).__version__
    except Exception:  # missing, or not made for this torch
        return "none"


def main() -> int:
    try:
        import torch
    except ImportError:
        print("gpu-check: there is no torch in this Python")
        return 2
    if not torch.cuda.is_available():
        print("gpu-check: there is no NVIDIA GPU here that torch can use; nothing was checked")
        return 2
    machine = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "torchvision": version("torchvision"),
        "date": datetime.date.today().isoformat(),
        "missing": [name for name in USEFUL if not importlib.util.find_spec(name)],
    }
    steps = {"build": build, "repeats": lambda: work("repeats", 60), "ops": lambda: work("ops", 150)}
    steps |= {"tests": tests, "model": lambda: work("model", 90)}
    steps |= {tool: lambda tool=tool: sanitize(tool) for tool in SANITIZERS}
    report: dict = {"machine": machine, "steps": {}}
    name = re.sub(r"\W+", "_", machine["gpu"].lower()).strip("_")
    target = ROOT / "benchmarks" / "results" / f"gpu_check_{name}"
    target.parent.mkdir(parents=True, exist_ok=True)
    for step, do in steps.items():
        print(f"gpu-check: {step} ...", flush=True)
        result = do()
        print(f"gpu-check: {step}: {'ok' if result['ok'] else 'FAILED'} in {result['seconds']} s", flush=True)
        if not result["ok"]:
            print(result["output"][-4000:], flush=True)
        # The whole output only where it explains a failure; and after each step, so that nothing done is lost.
        result["output"] = "" if result["ok"] else result["output"][-20000:]
        report["steps"][step] = result
        target.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
        target.with_suffix(".md").write_text(markdown(report))
    print(target.with_suffix(".md").read_text())
    return 0 if all(step["ok"] for step in report["steps"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
