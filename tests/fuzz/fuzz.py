"""Random cases, each in a process of its own under a time limit: `make fuzz`, or

    python tests/fuzz/fuzz.py --minutes 30 --seed 1000              all kinds in turn
    python tests/fuzz/fuzz.py --kinds pictures --seed 7 --cases 1   one case again, as a failure's line has it

A case fails when it raises, ends by a signal, or does not end. Case k of a run has seed `--seed` + k, and nothing else
is random: its seed alone makes it again.
"""

import argparse
import contextlib
import faulthandler
import importlib
import json
import math
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import command_cases
import op_inputs
import torch

KINDS: dict[str, Callable[[int, Path], None]] = {**op_inputs.KINDS, **command_cases.KINDS}
MEMORY = 6 << 30  # bytes that a case may ask for
SHOWN = 3000  # characters of a failure


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=", ".join(KINDS)
    )
    options.add_argument("--seed", type=int, default=0, help="of the first case")
    options.add_argument("--cases", type=int, help="how many of each kind")
    options.add_argument("--minutes", type=float, help="how long, instead; 10 if neither is given")
    options.add_argument("--limit", type=float, default=20, help="seconds that a case may compute")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as room:
        done, failures = run(chosen, Path(room))
    counts = ", ".join(f"{count} {kind}" for kind, count in done.items())
    print(f"from seed {chosen.seed} on: {done.total()} cases ({counts}), {failures} failures")
    return 1 if failures else 0


def run(chosen: argparse.Namespace, room: Path) -> tuple[Counter, int]:
    """How many cases of each kind were run, and how many failed."""
    minutes = chosen.minutes or (None if chosen.cases else 10)
    end = time.monotonic() + 60 * minutes if minutes else float("inf")
    if set(chosen.kinds) & command_cases.KINDS.keys():
        make_ready(room)
    done, failures, seed = Counter(), 0, chosen.seed
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C ends the run, not its count
        while time.monotonic() < end and (chosen.cases is None or seed < chosen.seed + chosen.cases):
            for kind in chosen.kinds:
                if what := isolated(KINDS[kind], seed, room, limit=chosen.limit):
                    failures += 1
                    print(f"FAILED  --kinds {kind} --seed {seed} --cases 1\n{what}\n", flush=True)
                done[kind] += 1
            seed += 1
    return done, failures


def make_ready(room: Path) -> None:
    """Makes what the commands' cases damage, and imports what they use, so that they need not each do it."""
    if what := isolated(command_cases.prepare, room, limit=300):
        raise SystemExit(f"what the cases damage could not be made:\n{what}")
    for name in json.loads((room / "modules.json").read_text()):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def isolated(case: Callable, *arguments, limit: float) -> str | None:
    """Runs a case in a process forked from this one, which has everything imported; what went wrong, if anything.

    limit: seconds of processor time, which other programs do not use up; of the clock it has ten times as many.
    """
    with tempfile.TemporaryFile() as said:
        process = multiprocessing.get_context("fork").Process(
            target=child, args=(case, arguments, limit, said.fileno())
        )
        process.start()
        process.join(10 * limit)
        ended = process.exitcode is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also what it started itself
        process.join()
        said.seek(0)
        text = said.read().decode(errors="replace")[-SHOWN:]
    if not ended or process.exitcode == -signal.SIGXCPU:
        return f"{text}\nno end after {limit} s"
    if process.exitcode < 0:
        return f"{text}\nended by {signal.Signals(-process.exitcode).name}"
    return text if process.exitcode else None


def child(case: Callable, arguments: tuple, limit: float, said: int) -> None:
    """What the forked process does: anything that a case raises is a failure."""
    os.setpgid(0, 0)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(said, stream.fileno())
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), math.ceil(limit) + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    torch.set_num_threads(2)
    try:
        case(*arguments)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
