"""benchmarks/gpu_check.py where there is no GPU: it says so and exits with 2."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_says_that_there_is_no_gpu():
    done = subprocess.run([sys.executable, ROOT / "benchmarks/gpu_check.py"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no NVIDIA GPU" in done.stdout
