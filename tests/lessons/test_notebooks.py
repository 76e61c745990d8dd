"""The lessons' notebooks are made from their sources, and have what is asked of a lesson.

And the tools that make them, tried on a tiny lesson: what is wrong with a lesson must be found.
"""

import copy
import re

import pytest
from tiny_lesson import write

from mrcnn.lab.check import Exercise, KernelExercise

pytest.importorskip("jupytext", reason="jupytext, which reads the lessons' sources, is not installed")
nbformat = pytest.importorskip("nbformat")
CellExecutionError = pytest.importorskip("nbclient.exceptions").CellExecutionError

from executed import problems_of, run  # noqa: E402
from lesson_folders import LESSONS, build  # noqa: E402

FOLDERS = build.lessons()
MEGABYTES = 1.5  # what a notebook may take
WORDS, REQUIRED, LINES = 2000, 6, 350  # of prose; exercises but the extra; of exercises.py and pictures.py
every_lesson = pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])


# ---- what is asked of a lesson ---------------------------------------------------------------------------------------


def pair(folder):
    """The cells that the source makes, and those of the notebook beside it."""
    notebook = nbformat.read(folder / "lesson.ipynb", as_version=4)
    return [
        [(cell.id, cell.cell_type, cell.source, cell.metadata) for cell in made.cells]
        for made in (build.notebook(folder), notebook)
    ]


def records_of(folder):
    return [each for each in vars(build.load(folder)).values() if isinstance(each, Exercise | KernelExercise)]


# ---- the lessons -----------------------------------------------------------------------------------------------------


@every_lesson
def test_the_notebook_is_the_sources(folder):
    made, kept = pair(folder)
    assert made == kept, "run: make lessons-build"


@every_lesson
def test_every_exercise_has_its_place(folder):
    records = [each.name for each in records_of(folder)]
    placed = [cell.metadata.exercise for cell in build.notebook(folder).cells if "exercise" in cell.metadata]
    assert sorted(placed) == sorted(records)


@every_lesson
def test_what_is_to_come_is_what_is_not_written(folder):
    """A reader is not sent to a lesson that is not there, nor told that one is to come which is."""
    written = {build.number(each) for each in FOLDERS}
    prose = "\n".join(cell.source for cell in build.notebook(folder).cells if cell.cell_type == "markdown")
    named = re.findall(r"[Ll]esson\s+(\d\dk?)(,?\s+\(?to\s+come)?", prose)
    assert [number for number, to_come in named if (number in written) == bool(to_come)] == []


@every_lesson
def test_the_size_of_a_lesson(folder):
    assert sum(len((folder / name).read_text().splitlines()) for name in build.BESIDE) <= LINES
    prose = [cell.source for cell in build.notebook(folder).cells if cell.cell_type == "markdown"]
    words = re.findall(r"\w+", " ".join(re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL) for text in prose))
    assert len(words) <= WORDS
    assert sum(not each.extra for each in records_of(folder)) <= REQUIRED


@every_lesson
def test_notebook_is_small_and_has_a_cover(folder):
    file = folder / "lesson.ipynb"
    assert file.stat().st_size < MEGABYTES * 1e6
    kept = nbformat.read(file, as_version=4)
    assert problems_of(kept) == []
    kind, picture = build.cover(kept)
    assert picture == (LESSONS / "pictures" / f"{build.number(folder)}.{kind}").read_bytes()


def test_the_index_is_up_to_date():
    assert (LESSONS / "README.md").read_text() == build.index(), "run: make lessons-build"


# ---- the tools -------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path):
    """Writes the tiny lesson with (old, new) changes."""
    return lambda *changes: write(tmp_path, *changes)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("lessons"))
    build.build(folder)
    return folder


def read(folder):
    return nbformat.read(folder / "lesson.ipynb", as_version=4)


def test_build(built):
    files = {file.name for file in built.rglob("*.*")} - {file.name for file in built.rglob("*.pyc")}
    assert files == {"lesson.py", "exercises.py", "pictures.py", "lesson.ipynb"}
    made = read(built)
    nbformat.validate(made)
    assert made.metadata == build.METADATA  # and so no versions
    assert problems_of(made) == []
    kind, picture = build.cover(made)
    assert kind == "png"
    assert picture.startswith(b"\x89PNG")
    assert (built.parent / "pictures" / "90k.png").read_bytes() == picture
    stub = next(i for i, cell in enumerate(made.cells) if cell.metadata.get("exercise") == "double_it")
    assert made.cells[stub].source.startswith("%%cuda\n__global__ void double_it(")
    assert made.cells[stub + 1].source == "double_it = check(exercises.double_it, double_it)"
    assert made.cells[stub + 2].source.count("<details><summary>Hint") == 3
    assert "Solution, 1 line</summary>\n\n```cpp\n%%cuda\n" in made.cells[stub + 2].source
    shown = next(cell for cell in made.cells if cell.source.startswith("lab.show"))
    assert shown.outputs[0].data["text/markdown"].startswith("csrc/nms/nms.cu\n\n```c++\n__global__")


def test_a_second_build_is_the_same(built, tiny):
    again = tiny()
    build.build(again)
    assert (again / "lesson.ipynb").read_bytes() == (built / "lesson.ipynb").read_bytes()


def test_index(built):
    line = "**[90k · Twice](90k_twice/lesson.ipynb)**, 10 minutes<br>Double numbers, by two means. |"
    picture = '[<img src="pictures/90k.png" width="240" alt="Twice">](90k_twice/lesson.ipynb)'
    assert build.index(built.parent).split("\n")[-2] == f"| {picture} | {line}"


def test_tiny_lesson_solved(built):
    made = run(built)
    assert problems_of(made) == []
    assert sum("solved" in cell.metadata for cell in made.cells) == 2, "both solutions are checked"


def test_copies_for_a_learner(tiny, tmp_path):
    folder, to = tiny(), tmp_path / "my_lessons"
    assert build.copy_all(to, tmp_path) == []
    mine = to / folder.name / "lesson.ipynb"
    cells = nbformat.read(mine, as_version=4).cells
    assert cells
    assert not any(cell.get("outputs") for cell in cells)
    assert (to / folder.name / "exercises.py").exists()

    newer = tiny(("Ten seconds.", "Nine seconds."))  # nothing of the learner's yet: the newer version comes
    assert build.copy_all(to, tmp_path) == []
    assert "Nine seconds." in mine.read_text()

    mine.write_text(mine.read_text().replace("Nine seconds.", "Mine."))
    assert build.copy_all(to, tmp_path) == []  # nothing new
    (newer / "lesson.py").write_text((newer / "lesson.py").read_text().replace("Nine seconds.", "Eight seconds."))
    assert build.copy_all(to, tmp_path) == [mine]
    assert "Mine." in mine.read_text()


CHANGES = [
    ("Ten seconds.", "Nine seconds."),
    ("# %% [markdown]\n# # 90", "# %%\n# # 90"),
    ("return x + x", "return 2 * x"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_pair_that_drifted_apart_is_noticed(built, tiny, change):
    folder = tiny()
    (folder / "lesson.ipynb").write_bytes((built / "lesson.ipynb").read_bytes())
    made, kept = pair(folder)
    assert made == kept
    made, kept = pair(tiny(change))
    assert made != kept


def test_what_a_reader_must_not_meet_is_noticed(built):
    sound = read(built)
    assert problems_of(sound) == []
    solved = copy.deepcopy(sound)
    for each in solved.cells:
        each.metadata.solved = True
    assert len(problems_of(solved)) == 2
    cell = next(i for i, cell in enumerate(sound.cells) if cell.source.startswith("twice = check"))
    for more, problem in (
        ({"name": "stderr", "text": "UserWarning"}, "a warning or an error"),
        ({"text": "Traceback (most recent call last)"}, "a warning or an error"),
        ({"text": "not written yet"}, "1 checks should say"),
    ):
        spoilt = copy.deepcopy(sound)
        spoilt.cells[cell].outputs.append(nbformat.v4.new_output("stream", **more))
        (told,) = problems_of(spoilt)
        assert told.startswith(problem)
    for data in ({"text/html": '<img src="x">'}, {"text/html": '<img alt="short">'}, {"image/png": ""}):
        spoilt = copy.deepcopy(sound)
        spoilt.cells[cell].outputs.append(nbformat.v4.new_output("display_data", data))
        (told,) = problems_of(spoilt)
        assert told.startswith("a picture without a description")


def test_a_failing_cell_stops_the_build(tiny):
    folder = tiny(("pictures.line([1, 2])", "pictures.line([1, 2], 3)"))
    with pytest.raises(CellExecutionError, match="takes 1 positional argument"):
        build.build(folder)
    assert not (folder / "lesson.ipynb").exists()


def test_a_compile_error_in_a_lesson_shows_no_python(tiny):
    wrong = '# %% language="cuda"\n# __global__ void f(float* y) {\n#   y[i] = 1;\n# }\n\n'
    with pytest.raises(CellExecutionError) as error:
        build.build(tiny(("# %%\nlab.show", f"{wrong}# %%\nlab.show")))
    assert "It does not compile.\nline 3: " in str(error.value)  # where the editor shows it, the magic's line included
    assert "Traceback" not in str(error.value)
