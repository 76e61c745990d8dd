"""Every term of the glossary is explained where it says, and not used before."""

import re

import pytest

pytest.importorskip("jupytext", reason="jupytext, which reads the lessons' sources, is not installed")

from lesson_folders import LESSONS, build


def test_the_glossary_holds():
    terms = build.glossary()
    assert build.misplaced(terms) == []
    rows = re.findall(r"^\| (?!term|---)(.+?) \|", (LESSONS / "glossary.md").read_text(), re.MULTILINE)
    assert list(terms) == rows  # each row has its three parts, and no term stands twice
    assert rows == sorted(rows, key=str.lower)


@pytest.fixture
def course(tmp_path):
    """Two lessons; what they say between their first cells and their last is given."""

    def write(*texts):
        for number, text in zip(("01", "02"), texts, strict=True):
            folder = tmp_path / f"{number}_lesson"
            folder.mkdir(exist_ok=True)
            cells = ["# # Title\n#\n# The stride.", *(f"# {text}",), "# Lesson 02: the stride."]
            (folder / "lesson.py").write_text("\n\n".join(f"# %% [markdown]\n{cell}" for cell in cells) + "\n")
        return tmp_path

    return write


TERM = {"stride, step width": "02_lesson"}


def test_a_term_in_its_place(course):
    assert build.misplaced(TERM, course("Nothing. `stride`", "The **stride** is new. Strides!")) == []
    assert build.misplaced(TERM, course("An outstride.", "The **step\n# width** is new.")) == []
    longer = {"block": "02_lesson", "residual block, residual net": "01_lesson"}
    assert build.misplaced(longer, course("A **residual\n# block**. Residual blocks.", "The **block** is new.")) == []
    assert len(build.misplaced(longer, course("A **residual block**. A block.", "The **block** is new."))) == 1
    assert build.misplaced({"stride": "02_lesson", "stride length": "02_lesson"},
                           course("-", "A **stride length**. The **stride** is new.")) == []  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        (
            "Two Strides here.",
            "The **stride** is new.",
            "01_lesson uses it before 02_lesson explains it: Two Strides here",
        ),
        ("It is the\n# step width.", "The **stride** is new.", "01_lesson uses it before"),
        ("-", "A stride? The **stride** is new.", "02_lesson uses it before 02_lesson explains it: A stride?"),
        ("-", "The stride is new.", "not in bold in 02_lesson, which should explain it"),
    ],
)
def test_a_term_out_of_its_place(course, first, second, problem):
    (told,) = build.misplaced(TERM, course(first, second))
    assert told.startswith("stride, step width: ")
    assert problem in told


def test_a_lesson_that_is_not_there(course):
    assert build.misplaced({"stride": "09_lesson"}, course("-", "-")) == ["stride: there is no lesson 09_lesson"]
