"""What each CUDA kernel takes of a GPU: registers, shared memory, spills; per architecture, as ptxas tells it.

    python benchmarks/kernel_report.py            prints the table and puts it into csrc/README.md

Needs nvcc, no GPU. A spill is a value that found no register and goes through memory instead.
"""

import concurrent.futures
import dataclasses
import importlib.util
import os
import re
import subprocess
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- kernel report: written by benchmarks/kernel_report.py -->", "<!-- end of the kernel report -->"


@dataclasses.dataclass(frozen=True)
class Usage:
    registers: int
    shared_bytes: int
    spilled_bytes: int  # stored and loaded, per thread

    def __str__(self) -> str:
        spills = f", spills {self.spilled_bytes} B" if self.spilled_bytes else ""
        return f"{self.registers} / {self.shared_bytes / 1024:.1f} K{spills}"


def setup_module():
    """setup.py, for the flags and architectures that the ops are built with."""
    spec = importlib.util.spec_from_file_location("mrcnn_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def architectures() -> list[str]:
    """As setup.py builds for: "75", "80", ..."""
    setup = setup_module()
    _, toolkit = setup.find_toolkit()
    return [arch.removesuffix("+PTX").replace(".", "") for arch in setup.archs_of(toolkit).split(";")]


def compile_kernels(source: Path, arch: str, only_type: str | None = None) -> dict[str, Usage]:
    """The kernels of one .cu file on one architecture: name -> usage. `only_type` leaves out RoIAlign's other types."""
    setup = setup_module()
    root, _ = setup.find_toolkit()
    text = source.read_text()
    if only_type:
        lines = text.split("\n")
        text = "\n".join(line for line in lines if not line.startswith("MRCNN_FOR(") or f"({only_type})" in line)
    include = ["-I", str(ROOT / "csrc"), "-I", f"{torch.__path__[0]}/include"]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / source.name
        copy.write_text(text)
        target = ["-gencode", f"arch=compute_{arch},code=sm_{arch}"]
        command = [f"{root}/bin/nvcc", *setup.NVCC_FLAGS, *include, *target, "-Xptxas", "-v", "-cubin", str(copy)]
        done = subprocess.run([*command, "-o", f"{folder}/out.cubin"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{source.name} does not compile for sm_{arch}:\n{done.stderr}")
    return parse(done.stderr)


def parse(report: str) -> dict[str, Usage]:
    names = subprocess.run(["c++filt"], input=report, capture_output=True, text=True, check=True).stdout
    usage = {}
    for entry in names.split("Compiling entry function '")[1:]:
        name = entry.split("' for '")[0].replace("(anonymous namespace)::", "").replace("mrcnn::", "")
        name = name.removeprefix("void ").split("(")[0].replace("c10::", "")
        number = {
            key: int(found[1]) if (found := re.search(pattern, entry)) else 0
            for key, pattern in {
                "registers": r"Used (\d+) registers",
                "shared": r"(\d+) bytes smem",
                "stores": r"(\d+) bytes spill stores",
                "loads": r"(\d+) bytes spill loads",
            }.items()
        }
        usage[name] = Usage(number["registers"], number["shared"], number["stores"] + number["loads"])
    return usage


def report(only_type: str | None = None) -> dict[str, dict[str, Usage]]:
    """Kernel -> architecture -> usage, of all kernels."""
    jobs = [(source, arch) for source in sorted((ROOT / "csrc").glob("*/*.cu")) for arch in architectures()]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda job: compile_kernels(*job, only_type), jobs))
    table: dict[str, dict[str, Usage]] = {}
    for (_, arch), kernels in zip(jobs, results, strict=True):
        for name, usage in kernels.items():
            table.setdefault(name, {})[arch] = usage
    return table


def markdown(table: dict[str, dict[str, Usage]]) -> str:
    archs = architectures()
    lines = ["| kernel | " + " | ".join(f"sm_{arch}" for arch in archs) + " |", "|---" * (len(archs) + 1) + "|"]
    lines += [
        f"| `{name}` | " + " | ".join(str(row[arch]) for arch in archs) + " |" for name, row in sorted(table.items())
    ]
    return "\n".join(lines)


def write(table: str) -> None:
    path = ROOT / "csrc" / "README.md"
    text = path.read_text()
    if BEGIN not in text:
        text += "\n## What each kernel takes of a GPU\n\nRegisters per thread / shared memory per block.\n\n"
        text += f"{BEGIN}\n{END}\n"
    before, rest = text.split(BEGIN)
    path.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    if setup_module().find_toolkit() is None:
        raise SystemExit("no CUDA toolkit of torch's major version was found")
    table = markdown(report())
    print(table)
    write(table)
