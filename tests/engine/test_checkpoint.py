"""The checkpoints of a run: two are kept, and the newest whole one is used."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fakes import TinyModel
from torch import nn

from mrcnn.engine import checkpoint
from mrcnn.errors import CheckpointError

# What a run without an average writes beside its step.
TRAINING = {"settings": {}, "seconds": 1.5, "optimizer": {}, "weights": None, "averaged": None}


def test_two_checkpoints_are_kept_and_the_newest_whole_one_is_used(tmp_path):
    model = TinyModel()
    for step in (3, 10, 7, 20):
        nn.init.constant_(model.head.bias, step)
        checkpoint.save_checkpoint(tmp_path, step, model, TRAINING | {"note": step})
    names = [path.name for path in checkpoint.checkpoints(tmp_path)]
    assert names == ["checkpoint-00000010.pt", "checkpoint-00000020.pt"]
    newest = tmp_path / names[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    contents, complaints = checkpoint.last_checkpoint(tmp_path)
    assert contents["training"] == TRAINING | {"note": 10, "step": 10}
    assert contents["state_dict"]["head.bias"].tolist() == [10, 10]
    assert list(complaints) == [newest]
    assert "checkpoint-00000020.pt: the file is damaged or was cut short" in complaints[newest]
    (tmp_path / names[0]).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be used: .*cut short.*empty"):
        checkpoint.last_checkpoint(tmp_path)


@pytest.mark.parametrize("training", [5, {}, {"step": "x"}, {"step": -5}, {"seconds": None}, {"optimizer": None}])
def test_a_checkpoint_whose_run_is_of_another_kind_is_passed_over(training, tmp_path):
    model = TinyModel()
    checkpoint.save_checkpoint(tmp_path, 1, model, TRAINING)
    checkpoint.save_checkpoint(tmp_path, 2, model, TRAINING)
    newest = tmp_path / "checkpoint-00000002.pt"
    contents = torch.load(newest, weights_only=True)
    contents["training"] = contents["training"] | training if training and training != 5 else training
    torch.save(contents, newest)
    contents, complaints = checkpoint.last_checkpoint(tmp_path)
    assert contents["training"]["step"] == 1
    assert complaints == {newest: f"{newest}: the state of its run is not as a run writes it"}


def test_no_checkpoint_at_all_is_no_error(tmp_path):
    assert checkpoint.last_checkpoint(tmp_path / "nowhere") == (None, {})
    (tmp_path / "checkpoint-notes.pt").write_text("mine")
    assert checkpoint.last_checkpoint(tmp_path) == (None, {})


FULL_DISK = """
import resource, sys, torch
sys.path.insert(0, sys.argv[2])
from fakes import TinyModel
from test_checkpoint import TRAINING
from mrcnn.engine.checkpoint import save_checkpoint
from mrcnn.errors import CheckpointError
model = TinyModel()
save_checkpoint(sys.argv[1], 5, model, TRAINING)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))  # from here on the disk is "full"
try:
    save_checkpoint(sys.argv[1], 6, model, {})
except CheckpointError as error:
    print(error)
"""


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path):
    """The operating system refuses to let files grow past 2,000 bytes: what torch.save meets on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert soft == hard == resource.RLIM_INFINITY
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith(f"could not write {tmp_path}/checkpoint-00000006.pt: File too large"), done
    assert os.listdir(tmp_path) == ["checkpoint-00000005.pt"]
    contents, complaints = checkpoint.last_checkpoint(tmp_path)
    assert contents["training"]["step"] == 5
    assert complaints == {}
