"""Lesson 06's exercises, each judged three ways: the stub is no answer, the solution is right, mistakes are named."""

import pytest
import torch
from lesson_cells import answer, solution, stub, verdict

from mrcnn import boxes as box_maths
from mrcnn.lab.exercises import suppression
from mrcnn.lab.exercises.suppression_library import overlap

NAMES = {"box_maths": box_maths, "overlap": overlap}
EXERCISES = [
    "greedy", "overlap_matrix", "scan_rows", "sorted_nms", "pair_matrix", "pack", "mask_words", "mask_tiles",
    "scan_words", "resolve", "soft_nms", "mask_iou",
]  # fmt: skip

# Of each exercise: what is replaced in the solution, by what, and a part of the message that then comes.
MISTAKES = {
    "greedy": [
        ("-scores[i]", "scores[i]", "FALLING score"),
        ("sorted(range(len(boxes)), key=lambda i: -scores[i])", "range(len(boxes))", "sort by score first"),
        ("> threshold", ">= threshold", "Compare with >, not >="),
        ("for k in kept)", "for k in range(len(boxes)) if (-scores[k], k) < (-scores[i], i))", "only kept"),
        ("-scores[i]", "(-scores[i], -i)", "the lower row should be"),
        ("not any", "any", "no box was kept"),
        ("return kept", "return torch.tensor(kept)", "a list of row numbers"),
        ("> threshold", "> 0.5", "other boxes. Is the threshold used?"),
        ("key=lambda i: -scores[i])", "key=lambda i: -scores[j])", "raised NameError at your line 6"),
    ],
    "overlap_matrix": [
        (".triu(1)", "", "only pairs with i < j count"),
        (".triu(1)", ".triu()", "i < j, not i <= j"),
        (".triu(1)", ".tril(-1)", "the lower triangle"),
        ("> threshold", ">= threshold", "Compare with >, not >="),
        ("> threshold", "< threshold", "do NOT overlap"),
        ("> threshold", "+ 0", "these are IoUs"),
        ("return (box_maths.iou(boxes, boxes)", "return (box_maths.iou(boxes, boxes[:9])", "expected shape (40, 40)"),
    ],
    "scan_rows": [
        ("if not dropped[i]:", "if True:", "every box was kept"),
        (
            "            dropped |= overlaps[i].bool()",
            "        dropped |= overlaps[i].bool()",
            "only kept boxes strike",
        ),
        ("return torch.tensor(kept, device=overlaps.device)", "return dropped", "yes and no"),
        ("return torch.tensor(kept, device=overlaps.device)", "return dropped.nonzero()[:, 0]", "the dropped boxes"),
        ("dropped |= overlaps[i]", "dropped = overlaps[i]", "though the kept box"),
        ("overlaps[i].bool()", "overlaps[:, i].bool()", "every box was kept"),
        ("return torch.tensor(kept, device=overlaps.device)", "return kept", "got a list"),
    ],
    "sorted_nms": [
        ("if (!kept[i]) continue;", "", "only kept boxes strike others out"),
        ("> threshold", ">= threshold", "Compare with >, not >="),
        ("j = i + 1", "j = 0", "no box was kept. A box has IoU 1 with itself"),
        ("kept[j] = 0", "kept[i] = 0", "box 2 was dropped, though no kept box before it overlaps it"),
        ("j < n", "j < n / 2", "Does every kept box strike out all it overlaps?"),
        ("for (int i = 0; i < n; ++i) kept[i] = 1;", "for (int i = 0; i < n; ++i) kept[i] = 0;", "no box was kept"),
        ("for (int i = 0; i < n; ++i) kept[i] = 1;", "", "were never written"),
    ],
    "pair_matrix": [
        ("if (i >= n || j >= n) return;", "", "whose pair does not exist"),
        ("if (i >= n || j >= n) return;", "if (i >= n) return;", "whose pair does not exist"),
        ("i < j && ", "", "only pairs with i < j count"),
        ("i < j && ", "i <= j && ", "i < j, not i <= j"),
        ("i < j && ", "i > j && ", "the lower triangle"),
        ("> threshold", ">= threshold", "Compare with >, not >="),
        ("i * n + j", "j * n + i", "the lower triangle"),
        ("i >= n || j >= n", "i >= n || j >= n || i >= j", "cells were never written"),
    ],
    "pack": [
        ("1 << b", "2 << b", "twice too large"),
        ("1 << b", "1 << len(bits) - 1 - b", "the wrong way round"),
        ("word |= 1 << b", "word += 1", "counts the true bits"),
        ("word |= 1 << b", "word = 1 << b", "should give"),
        ("return word", "return bin(word)", "expected a whole number"),
    ],
    "mask_words": [
        ("1ull << b", "1 << b", "Write 1ull << b"),
        ("i < j && ", "", "only pairs with i < j count"),
        ("j < n && ", "", "the last word has room for more"),
        ("> threshold", ">= threshold", "Compare with >, not >="),
        ("if (i >= n) return;", "", "whose box does not exist"),
        ("int j = 64 * w + b", "int j = b", "bit b of word w is box j = 64 * w + b"),
        ("1ull << b", "1ull << (63 - b)", "the wrong way round"),
        ("words[i * gridDim.x + w]", "if (word) words[i * gridDim.x + w]", "were never written"),
    ],
    "mask_tiles": [
        ("  __syncthreads();\n", "", "Is a __syncthreads() missing?"),
        ("  if (i >= n) return;\n", "", "whose box does not exist"),
        (
            "  __shared__",
            "  if (blockIdx.y * 64 + threadIdx.x >= n) return;\n  __shared__",
            "not all threads come to the bar",
        ),
        (
            "tile[threadIdx.x] = boxes[first + threadIdx.x]",
            "tile[threadIdx.x] = boxes[threadIdx.x]",
            "others are not: bit b of word w",
        ),
        ("i < first + b && ", "", "only pairs with i < j count"),
        ("> threshold", ">= threshold", "Compare with >, not >="),
        ("if (first + threadIdx.x < n) tile", "if (threadIdx.x < 32) tile", "no thread of the block has written"),
    ],
    "scan_words": [
        ("    __syncthreads();\n  }", "  }", "Is a __syncthreads() missing?"),
        ("keep && w", "w", "only kept boxes strike others out"),
        ("!(dropped", "(dropped", "no box was kept"),
        ("kept[i] = keep", "kept[i] = !keep", "these are the dropped boxes"),
        ("[w] |= words", "[w] = words", "though the kept box"),
        ("if (threadIdx.x == 0) kept[i]", "if (threadIdx.x == 0 && keep) kept[i]", "were never written"),
    ],
    "resolve": [
        (
            "struck = (overlaps & kept[:, None]).any(0)",
            "struck = (overlaps & kept[:, None]).any(0) | ~kept",
            "may come back",
        ),
        ("return kept, rounds", "return kept, rounds + 1", "the last, which changes nothing, is none"),
        ("return kept, rounds", "return kept", "expected two things"),
        (
            "        if torch.equal(~struck, kept):\n            return kept",
            "        return ~struck",
            "the first round's answer",
        ),
    ],
    "soft_nms": [
        ("where(~in_play, ", "where(~in_play & (torch.arange(len(scores)) != best), ", "lowered its own score"),
        ("where(~in_play, scores", "where(in_play & ~in_play, scores", "out of play were lowered"),
        (
            "for _ in range(len(scores)):\n        best = scores.where(in_play, -1.0).argmax()",
            "for best in scores.argsort(descending=True):",
            "first scores",
        ),
        ("iou**2", "iou", "with the square?"),
        ("exp(-(iou", "exp((iou", "a score rose"),
        ("return scores", "return scores.flip(0).minimum(scores)", "values differ"),
        ("return scores", "return scores.argsort()", "a score rose"),
    ],
    "mask_iou": [
        (".float()", "", "wrap round at 256"),
        (" - intersection)", ")", "counted twice"),
        (
            "return intersection / (area[:, None] + area[None, :] - intersection)",
            "return intersection",
            "divide by the un",
        ),
        ("area[None, :]", "area[:, None]", "values differ"),
    ],
}


@pytest.mark.parametrize("name", EXERCISES)
def test_the_stub_is_no_answer(name):
    status, message = verdict(getattr(suppression, name), answer(stub("06", name), **NAMES))
    assert (status, message) == ("not written", "not written yet.")


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_is_right(name):
    assert verdict(getattr(suppression, name), answer(solution("06", name), **NAMES)) == ("right", "")


@pytest.mark.parametrize(("name", "before", "after", "part"), [(n, *m) for n, each in MISTAKES.items() for m in each])
def test_mistakes_are_named(name, before, after, part):
    source = solution("06", name)
    assert before in source
    status, message = verdict(getattr(suppression, name), answer(source.replace(before, after), **NAMES))
    assert status == "wrong"
    assert part in message, message


def test_every_exercise_has_mistakes_that_are_told_apart():
    assert set(MISTAKES) == set(EXERCISES)
    for mistakes in MISTAKES.values():
        assert len({part for *_, part in mistakes}) >= 2


@pytest.mark.parametrize("name", EXERCISES)
def test_the_library_s_version_passes_its_own_judge(name):
    """It is what the lesson goes on with: a kernel's stands without the kernel."""
    exercise = getattr(suppression, name)
    if name not in ("mask_tiles", "scan_words"):  # whose judges trace the kernel
        exercise.judge(exercise.library)


def test_words_and_bits_are_each_other_s_inverse():
    from mrcnn.lab.exercises.suppression_library import bits_of, pack, words_of

    bits = torch.rand(70, 130, generator=torch.Generator().manual_seed(0)) < 0.5
    words = words_of(bits)
    assert words.shape == (70, 3)
    assert torch.equal(bits_of(words)[:, :130], bits)
    assert words[3, 1].item() & (1 << 64) - 1 == pack(bits[3, 64:128].tolist())
