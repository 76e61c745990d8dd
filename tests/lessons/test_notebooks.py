"""The lessons run, as they are and with the solutions in; their notebooks are made from their sources.

And the tools that make them, tried on a tiny lesson: what is wrong with a lesson must be found.
"""

import copy
import importlib.util
import re
import resource

import pytest
from lesson_cells import LESSONS, answer, cells, solution, solutions, stub, verdict
from tiny_lesson import SOURCE

from mrcnn.lab.check import Exercise, Wrong

nbformat = pytest.importorskip("nbformat")
CellExecutionError = pytest.importorskip("nbclient.exceptions").CellExecutionError

spec = importlib.util.spec_from_file_location("lessons_build", LESSONS / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)

SOURCES = build.sources()
MEGABYTES, SECONDS, LINES = 1.5, 120, 15  # what a notebook, a run and a solution may take
every_lesson = pytest.mark.parametrize("source", SOURCES, ids=[source.stem for source in SOURCES])


# ---- what is asked of a lesson ---------------------------------------------------------------------------------------


def pair(source):
    """The cells that the source makes, and those of the notebook beside it."""
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    return [
        [(cell.id, cell.cell_type, cell.source, cell.metadata) for cell in made.cells]
        for made in (build.notebook(source), notebook)
    ]


def unfit_exercises(source):
    """Exercises without a solution, solutions without an exercise, and solutions that are too long."""
    stubs = [(cell.metadata.exercise, cell.source) for cell in cells(source) if "exercise" in cell.metadata]
    found = solutions(source)
    problems = [f"{name}: one exercise and one solution" for name in {name for name, _ in stubs} ^ {*found}]
    problems += [f"{name}: given twice" for name in found if [given for given, _ in stubs].count(name) > 1]
    for name, given in stubs:
        lines = [line for line in found.get(name, "").split("\n") if line.strip() and line not in given.split("\n")]
        if len(lines) > LINES:
            problems.append(f"{name}: the solution has {len(lines)} lines that are not in the stub")
    return problems


def run(source, solved):
    """The lesson's notebook, executed with stubs as they are or with the solutions in their place."""
    made = build.notebook(source)
    found = solutions(source)
    for cell in made.cells:
        if solved and "exercise" in cell.metadata:
            cell.source = found[cell.metadata.exercise]
    build.execute(made, source.parent)
    return made


def problems_of(made, says):
    """What a reader must not meet in an executed notebook; every check must say `says`."""
    problems = []
    for cell in made.cells:
        if cell.cell_type != "code":
            continue
        told = "".join(output.text for output in cell.outputs if output.output_type == "stream")
        checks = len(re.findall(r"(?<![.\w])check\(", cell.source))
        if told.count(says) != checks:
            problems.append(f"{checks} checks should say {says!r}:\n{cell.source}\n{told}")
        if any(output.get("name") == "stderr" for output in cell.outputs) or "Traceback" in told:
            problems.append(f"a warning or an error:\n{cell.source}\n{told}")
    return problems


SAYS = {False: "not written yet", True: ": right."}  # with stubs, with solutions
as_met = pytest.mark.parametrize("solved", SAYS, ids=["stubs", "solved"])


# ---- the lessons -----------------------------------------------------------------------------------------------------


@every_lesson
def test_the_notebook_is_the_sources(source):
    made, kept = pair(source)
    assert made == kept, "run: make lessons-build"


@every_lesson
def test_exercises(source):
    assert unfit_exercises(source) == []


@every_lesson
def test_notebook_is_small_and_has_a_cover(source):
    file = source.with_suffix(".ipynb")
    assert file.stat().st_size < MEGABYTES * 1e6
    kept = nbformat.read(file, as_version=4)
    assert problems_of(kept, SAYS[False]) == []
    assert build.cover(kept) == (LESSONS / "pictures" / f"{source.name[:2]}.png").read_bytes()


def test_the_index_is_up_to_date():
    assert (LESSONS / "README.md").read_text() == build.index(), "run: make lessons-build"


@every_lesson
@as_met
def test_lesson_runs(source, solved, monkeypatch):
    """On two cores and without a network. The time is the processor's, which other work does not lengthen."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert problems_of(run(source, solved), SAYS[solved]) == []
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < SECONDS


# ---- the tools -------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path):
    """Writes the tiny lesson with (old, new) changes."""

    def write(*changes):
        text = SOURCE
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / "90_twice.py"
        file.write_text(text)
        return file

    return write


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    source = tmp_path_factory.mktemp("lessons") / "90_twice.py"
    source.write_text(SOURCE)
    build.build(source)
    return source


def test_build(built):
    files = {file.name for file in built.parent.rglob("*")}
    assert files == {"90_twice.py", "90_twice.ipynb", "pictures", "90.png"}
    made = nbformat.read(built.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(made)
    assert made.metadata == build.METADATA  # and so no versions
    assert problems_of(made, SAYS[False]) == []
    assert build.cover(made).startswith(b"\x89PNG")
    assert (built.parent / "pictures" / "90.png").read_bytes() == build.cover(made)
    kernel, shown = (cell for cell in made.cells if cell.source.startswith(("%%cuda", "double_it =")))
    assert kernel.metadata == {"exercise": "double_it"}
    assert shown.outputs[1].data["text/markdown"].startswith("csrc/nms/nms.cu\n\n```c++\n__global__")


def test_a_second_build_is_the_same(built, tiny):
    again = tiny()
    build.build(again)
    assert again.with_suffix(".ipynb").read_bytes() == built.with_suffix(".ipynb").read_bytes()


def test_index(built):
    line = "**[90 · Twice](90_twice.ipynb)**<br>Double numbers, by two means. |"
    picture = '<a href="90_twice.ipynb"><img src="pictures/90.png" width="240" alt=""></a>'
    assert build.index(built.parent).split("\n")[-2] == f"| {picture} | {line}"


def test_the_source_survives_the_way_to_the_notebook_and_back(tiny):
    import jupytext

    source = tiny()
    assert jupytext.writes(jupytext.read(source), fmt="py:percent").split("# %%", 1)[1] == SOURCE.split("# %%", 1)[1]


def test_tiny_lesson_solved(built):
    assert problems_of(run(built, solved=True), SAYS[True]) == []


CHANGES = [
    ("Ten seconds.", "Nine seconds."),
    ('exercise="twice"', 'exercise="thrice"'),
    ("# %% [markdown]\n# # 90", "# %%\n# # 90"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_pair_that_drifted_apart_is_noticed(built, tiny, change):
    source = tiny()
    source.with_suffix(".ipynb").write_bytes(built.with_suffix(".ipynb").read_bytes())
    made, kept = pair(source)
    assert made == kept
    made, kept = pair(tiny(change))
    assert made != kept


LONG = "\n".join(f"#     x = x + {i}" for i in range(LINES))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (('solution="twice"', 'solution="thrice"'), "one exercise and one solution"),
        (('exercise="double_it"', 'exercise="twice"'), "twice: given twice"),
        (("#     return x + x", f"{LONG}\n#     return x"), "twice: the solution has 16 lines that"),
    ],
)
def test_unfit_exercises_are_noticed(tiny, change, problem):
    assert unfit_exercises(tiny()) == []
    assert any(problem in each for each in unfit_exercises(tiny(change)))


def test_what_a_reader_must_not_meet_is_noticed(built):
    sound = nbformat.read(built.with_suffix(".ipynb"), as_version=4)
    assert problems_of(sound, SAYS[False]) == []
    assert len(problems_of(sound, SAYS[True])) == 2
    cell = next(i for i, cell in enumerate(sound.cells) if cell.source.startswith("twice = check"))
    for more, problem in (
        ({"name": "stderr", "text": "UserWarning"}, "a warning or an error"),
        ({"text": "Traceback (most recent call last)"}, "a warning or an error"),
        ({"text": "not written yet"}, "1 checks should say"),
    ):
        spoilt = copy.deepcopy(sound)
        spoilt.cells[cell].outputs.append(nbformat.v4.new_output("stream", **more))
        (told,) = problems_of(spoilt, SAYS[False])
        assert told.startswith(problem)


def test_a_failing_cell_stops_the_build(tiny):
    source = tiny(("axes.plot([1, 2])", "axes.plot([1, 2], [1])"))
    with pytest.raises(CellExecutionError, match="must have same first dimension"):
        build.build(source)
    assert not source.with_suffix(".ipynb").exists()


def test_a_compile_error_in_a_lesson_shows_no_python(tiny):
    with pytest.raises(CellExecutionError) as error:
        build.build(tiny(("#   // your code", "#   y[i] = two * x[i];")))
    assert "It does not compile.\nline 5: " in str(error.value)  # where the editor shows it, the magic's line included
    assert "Traceback" not in str(error.value)


# ---- what the tests of a lesson's checks use -------------------------------------------------------------------------


def test_cells_as_answers(built):
    def judge(answer):
        if answer(3) != 6:
            raise Wrong("not twice")

    exercise = Exercise(judge, lambda x: 2 * x)
    assert verdict(exercise, answer(stub(built, "twice"))) == ("not written", "not written yet.")
    assert verdict(exercise, answer(solution(built, "twice"))) == ("right", "")
    source = "def helper(x):\n    return extra\n\n\ndef twice(x):\n    return x + helper(x)"
    assert answer(source, extra=3)(3) == 6
    assert verdict(exercise, answer(source)) == (
        "wrong",
        "it raised NameError at your line 2: name 'extra' is not defined",
    )
    assert answer(solution(built, "double_it")).__name__ == "double_it"
    assert answer("%%cpp\nvoid helper(int n) {}\nvoid last(int n) { helper(n); }").__name__ == "last"
