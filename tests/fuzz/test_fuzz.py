"""The first cases of every kind; `make fuzz` goes on from there."""

import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parent / "fuzz.py"
sys.path.insert(0, str(FUZZ.parent))


def fuzz(*arguments: object) -> subprocess.CompletedProcess:
    # In a program of its own: a process whose threads have worked cannot be forked.
    return subprocess.run([sys.executable, FUZZ, *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("kinds", "cases"), [("roi_align nms match_anchors", 80), ("annotations pictures weights options", 5)]
)
def test_nothing_is_found(kinds, cases):
    done = fuzz("--kinds", *kinds.split(), "--cases", cases)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_goes_wrong_is_found(tmp_path):
    """A case that raises, one that crashes, two that never end, one that asks for all memory; and one that is well."""
    code = f"""
import sys; sys.path.insert(0, {str(FUZZ.parent)!r})
import ctypes, time
from fuzz import isolated
print(isolated(lambda: None, limit=5))
print("---", isolated(lambda: 1 // 0, limit=5))
print("---", isolated(lambda: ctypes.string_at(0), limit=5))
print("---", isolated(lambda: time.sleep(60), limit=0.1))
print("---", isolated(lambda: sum(iter(lambda: 1, 2)), limit=1))
print("---", isolated(lambda: bytearray(1 << 40), limit=5))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    words = ("ZeroDivisionError", "ended by SIGSEGV", "no end after 0.1 s", "no end after 1 s", "MemoryError")
    well, *found = done.stdout.split("---")
    assert well == "None\n"
    for what, word in zip(found, words, strict=True):
        assert word in what


@pytest.mark.parametrize("wrong", ["value", "order", "refusal"])
def test_an_op_that_answers_otherwise_is_found(wrong, monkeypatch):
    import op_inputs
    import torch

    from mrcnn import ops

    nms = ops.nms

    def other(boxes, scores, iou_threshold):
        if ops.backend.current() != "native":
            return nms(boxes, scores, iou_threshold)
        if wrong == "refusal":
            raise ValueError("no")
        kept = nms(boxes, scores, iou_threshold)
        return kept.flip(0) if wrong == "order" else kept[:-1]

    monkeypatch.setattr(ops, "nms", other)
    case = {"boxes": torch.rand(2, 4).sort(dim=1).values, "scores": torch.rand(2), "iou_threshold": 1.0}
    with pytest.raises(AssertionError, match="native"):
        op_inputs.run(lambda: ("nms", case), seed=1, _room=None)


@pytest.mark.parametrize(
    ("name", "content"),
    [("m.json", '{"AP": NaN}'), ("m.json", '{"AP"'), ("p.png", "\x89PNG"), ("l.csv", "a,b\n1\n"), (".m.7.part", "")],
)
def test_a_half_written_file_is_found(name, content, tmp_path):
    import command_cases

    (tmp_path / name).write_text(content)
    with pytest.raises((AssertionError, ValueError, OSError)):
        command_cases.command("--version", out=tmp_path)
    (tmp_path / name).unlink()
    command_cases.command("--version", out=tmp_path)
