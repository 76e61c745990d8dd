"""Our kernels as a program without libtorch, for another processor or a sanitizer: see small_libtorch.cpp."""

import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from builds import ROOT, load_setup
from torch.utils import cpp_extension

SCALAR_TYPES = {torch.int64: 4, torch.float16: 5, torch.float32: 6, torch.float64: 7, torch.bfloat16: 15}


def build(compiler: str, program: Path, sources: list[str], *flags: str) -> None:
    """Compile kernels into `program`, two files at a time. `flags` come after setup.py's, and so win over them."""
    includes = [f"-I{path}" for path in (ROOT / "csrc", *cpp_extension.include_paths())]
    flags = (*load_setup().CXX_FLAGS, "-Werror", *flags)

    def compiled(source: str) -> Path:
        made = program.with_name(f"{Path(source).stem}.o")
        subprocess.run([compiler, *flags, *includes, "-c", source, "-o", made], check=True)
        return made

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compiled, [*sources, str(ROOT / "tests" / "ops" / "small_libtorch.cpp")]))
    # -z now: a symbol that is not there is zero, where a lazy one would be an entry that the loader refuses.
    linking = ["-Wl,--unresolved-symbols=ignore-all", "-Wl,-z,now"]
    subprocess.run([compiler, *flags, *objects, *linking, "-o", program], check=True)


def pack(argument) -> bytes:
    """An argument as small_libtorch.cpp reads it: a letter, and the number or the tensor."""
    if isinstance(argument, float):
        return struct.pack("<cd", b"d", argument)
    if not isinstance(argument, torch.Tensor):
        return struct.pack("<cq", b"i", argument)
    memory = torch.empty(0, dtype=torch.uint8).set_(argument.untyped_storage()).numpy().tobytes()
    memory = memory[argument.storage_offset() * argument.element_size() :]
    head = (SCALAR_TYPES[argument.dtype], argument.dim(), len(memory), *argument.shape, *argument.stride())
    return b"t" + struct.pack(f"<{len(head)}q", *head) + memory


def unpack(results: bytes) -> list[torch.Tensor]:
    tensors = []
    while results:
        dtype, dim, size = struct.unpack_from("<3q", results)
        shape_and_strides = struct.unpack_from(f"<{2 * dim}q", results, 24)
        memory, results = np.frombuffer(results[24 + 16 * dim :][:size], np.uint8), results[24 + 16 * dim + size :]
        numbers = torch.from_numpy(memory.copy()).view({value: key for key, value in SCALAR_TYPES.items()}[dtype])
        tensors.append(numbers.as_strided(shape_and_strides[:dim], shape_and_strides[dim:]))
    return tensors


class Kernels:
    """The registered ops, each call of them a run of the program. RuntimeError: it failed, with what it said."""

    def __init__(self, *command: str | Path):
        self.command = command

    def _call(self, op: str, results: int, *arguments) -> list[torch.Tensor]:
        packed = struct.pack("<q", len(arguments)) + b"".join(map(pack, arguments))
        done = subprocess.run([*self.command, op, str(results)], input=packed, capture_output=True)
        if done.returncode:
            raise RuntimeError(f"{op} ended with {done.returncode}:\n{done.stderr.decode()}")
        return unpack(done.stdout)

    def roi_align(self, *arguments):
        return self._call("roi_align", 1, *arguments)[0]

    def roi_align_backward(self, *arguments):
        return self._call("roi_align_backward", 1, *arguments)[0]

    def nms(self, *arguments):
        return self._call("nms", 1, *arguments, 0)[0]  # without groups

    def match_anchors(self, *arguments):
        return self._call("match_anchors", 2, *arguments)
