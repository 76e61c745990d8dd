"""Makes the notebooks from their sources, executes them, and writes the index, README.md.

    python lessons/build.py                  all of them      (make lessons-build)
    python lessons/build.py 04 07k           these
    python lessons/build.py --copies DIR     none: copies for a learner, without results   (make lessons)

A lesson is a folder: `lesson.py`, its text and cells in jupytext's percent format, and what it imports, `exercises.py`
and `pictures.py`. `lesson.ipynb` is made from them, so edit these. What the cells of lesson.py mean:

- An empty cell marked `exercise="name"` stands for that record of exercises.py. It becomes the stub, the check, and a
  folded cell with the hints and the solution.
- A cell of CUDA or C++ is a comment under its marker; in the notebook it begins with the magic %%cuda or %%cpp:

      # %% language="cuda"
      # __global__ void double_it(const float* x, float* y, int n) {

- `tags=["cover"]` marks the cell whose picture the index shows.
- The title is the first heading, and what the index says of the lesson is the first sentence under it.
- A term of glossary.md stands in bold where it is explained, and no lesson uses it before; but its first cell, which
  says what is to come, its last, which points to other lessons, and headings may.

A notebook is the same from build to build where its results are: cells are named by what is in them, and no times or
versions are kept.
"""

import argparse
import base64
import hashlib
import importlib.util
import json
import re
import sys
import time
from pathlib import Path
from types import ModuleType

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

LESSONS = Path(__file__).resolve().parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KEPT = ("exercise", "solution", "tags")  # of a cell's metadata
BESIDE = ("exercises.py", "pictures.py")  # what a notebook imports
SECONDS = 120  # what a run may take on a laptop
INDEX = """# The lessons

Mask R-CNN from the whole picture down to the single CUDA thread, one notebook per part. You need Python, a little
PyTorch, and no GPU: kernels that you write run thread by thread on the CPU where there is none.

    make lessons        sets everything up, and opens copies for you to write in, in my_lessons/

The numbers alone are the model track. Those with a k are the kernel track: the same part in C++ and CUDA. Either can be
followed without the other.

Each lesson runs from top to bottom as it is. Cells with `your code` in them, or `...`, wait for your answer; `check`
says how it fares, and until it is right the lesson goes on with its own version. Hints and solutions are folded below.
[The words of the course](glossary.md), each in a line.

"""


def number(folder: Path) -> str:
    """A lesson's: "04" or "04k"."""
    return folder.name.partition("_")[0]


def lessons(numbers: list[str] = (), folder: Path = LESSONS) -> list[Path]:
    """The lessons' folders, or those of these numbers."""
    found = sorted(source.parent for source in folder.glob("[0-9]*_*/lesson.py"))
    return [lesson for lesson in found if not numbers or number(lesson) in numbers]


def load(folder: Path, name: str = "exercises") -> ModuleType:
    """A file of a lesson, as a module."""
    spec = importlib.util.spec_from_file_location(f"{name}_{folder.name}", folder / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- a notebook ------------------------------------------------------------------------------------------------------


def notebook(folder: Path) -> NotebookNode:
    """The notebook of a lesson, not executed."""
    made = jupytext.read(folder / "lesson.py")
    made.metadata = nbformat.from_dict(METADATA)
    exercises = load(folder)
    cells = []
    for cell in made.cells:
        cell.metadata = nbformat.from_dict({key: cell.metadata[key] for key in KEPT if key in cell.metadata})
        cells += exercise_cells(getattr(exercises, cell.metadata.exercise)) if "exercise" in cell.metadata else [cell]
    made.cells = cells
    seen: dict[str, int] = {}
    for cell in made.cells:
        name = hashlib.sha256(cell.source.encode()).hexdigest()[:8]
        seen[name] = seen.get(name, 0) + 1
        cell.id = f"{name}-{seen[name]}"
    return made


def exercise_cells(record) -> list[NotebookNode]:
    """The stub, the check, and what is folded."""
    stub = nbformat.v4.new_code_cell(magic(record) + record.stub, metadata={"exercise": record.name})
    check = nbformat.v4.new_code_cell(f"{record.name} = check(exercises.{record.name}, {record.name})")
    return [stub, check, nbformat.v4.new_markdown_cell(folded(record), metadata={"solution": record.name})]


def magic(record) -> str:
    """The first line of a cell of CUDA or C++."""
    return "" if record.language == "python" else f"%%{record.language}\n"


def folded(record) -> str:
    """Hints and solution, as Markdown."""
    parts = [
        f"<details><summary>Hint {i} of {len(record.hints)}</summary>\n\n{hint}\n\n</details>"
        for i, hint in enumerate(record.hints, 1)
    ]
    lines = f"{record.lines} line{'s' * (record.lines > 1)}"
    fence = f"```{'python' if record.language == 'python' else 'cpp'}\n{magic(record)}{record.solution}\n```"
    parts.append(f"<details><summary>Solution, {lines}</summary>\n\n{fence}\n\n</details>")
    return "\n\n".join(parts)


def execute(made: NotebookNode, folder: Path) -> None:
    """Run all its cells. Raises CellExecutionError at the first that fails."""
    client = NotebookClient(
        made, timeout=600, record_timing=False, coalesce_streams=True, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    made.metadata = nbformat.from_dict(METADATA)


def cover(made: NotebookNode) -> tuple[str, bytes] | None:
    """The picture of the cell that is marked as the cover, after its kind: "png" or "svg"."""
    for cell in made.cells:
        if "cover" in cell.metadata.get("tags", []):
            for output in cell.outputs:
                html = output.get("data", {}).get("text/html", "")
                if found := re.search(r"data:image/(png|svg)(?:\+xml)?;base64,([\w+/=]+)", html):
                    return found[1], base64.b64decode(found[2])
    return None


def build(folder: Path) -> None:
    """The notebook of a lesson, executed, and its picture for the index. Nothing is written when a cell fails."""
    made = notebook(folder)
    execute(made, folder)
    nbformat.write(made, folder / "lesson.ipynb")
    if found := cover(made):
        kind, picture = found
        file = folder.parent / "pictures" / f"{number(folder)}.{kind}"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(picture)


# ---- the index -------------------------------------------------------------------------------------------------------


def heading(folder: Path) -> tuple[str, str, str]:
    """A lesson's title, without its number, the first sentence under it, and how long it takes ("60 minutes")."""
    text = next(cell.source for cell in jupytext.read(folder / "lesson.py").cells if cell.cell_type == "markdown")
    title, below = re.match(r"#\s+(?:\d+k?\W+)?(.+)\n\s*\n((?:.+\n?)+)", text).groups()
    line = re.match(r"(?:\*\*\w+[.:]?\*\*[.:]?\s*)?(.+?\.)(?:\s|$)", " ".join(below.split()))[1]
    return title, line, re.search(r"\*\*Time\*\* about (\d+ minutes)", text)[1]


def index(folder: Path = LESSONS) -> str:
    """README.md: a row per lesson."""
    rows = ["| | |", "|---|---|"]
    for lesson in lessons(folder=folder):
        title, line, minutes = heading(lesson)
        file, pictures = f"{lesson.name}/lesson.ipynb", (folder / "pictures").glob(f"{number(lesson)}.*")
        shown = "".join(f'[<img src="pictures/{each.name}" width="240" alt="{title}">]({file})' for each in pictures)
        rows.append(f"| {shown} | **[{number(lesson)} · {title}]({file})**, {minutes}<br>{line} |")
    return INDEX + "\n".join(rows) + "\n"


# ---- the glossary ----------------------------------------------------------------------------------------------------


def glossary(file: Path = LESSONS / "glossary.md") -> dict[str, str]:
    """The terms, each with its other names after commas as in "non-maximum suppression, NMS": the lesson's folder."""
    rows = re.findall(r"^\| ([^|]+?) \| [^|]+ \| \[\w+\]\((\w+)/lesson\.ipynb\) \|$", file.read_text(), re.MULTILINE)
    return dict(rows)


def prose(folder: Path) -> str:
    """What a lesson says between its first cell and its last, without headings and code."""
    _, *cells, _ = (cell.source for cell in jupytext.read(folder / "lesson.py").cells if cell.cell_type == "markdown")
    return re.sub(r"(?s:```.*?```)|`[^`]*`|^#.*$", " ", "\n\n".join(cells), flags=re.MULTILINE)


def pattern(term: str) -> str:
    """A regular expression for a term's names, in the singular and the plural."""
    return "|".join(r"\s+".join(map(re.escape, name.split())) + "(?:e?s)?" for name in term.split(", "))


def misplaced(terms: dict[str, str], folder: Path = LESSONS) -> list[str]:
    """What is wrong with the places where the terms are explained, a sentence each.

    A longer term does not use a shorter one: "residual block" stands for itself, and not for "block".
    """
    texts = {lesson.name: prose(lesson) for lesson in lessons(folder=folder)}
    problems = []
    for term, where in terms.items():
        if where not in texts:
            problems.append(f"{term}: there is no lesson {where}")
            continue
        names = pattern(term)
        longer = [pattern(other) for other in terms if other != term and re.search(rf"\b(?:{names})\b", other)]
        explained = re.search(rf"\*\*(?:{names})\*\*", texts[where], re.IGNORECASE)
        if not explained:
            problems.append(f"{term}: not in bold in {where}, which should explain it")
        for name, text in texts.items():
            before = text if name < where else ""
            if explained and name == where:  # a longer term in bold, "keypoint head", does not use "keypoint"
                before = re.sub(r"\*\*[^*]+\*\*", " ", text[: explained.start()])
            for other in longer:
                before = re.sub(rf"\b(?:{other})\b", " ", before, flags=re.IGNORECASE)
            if used := re.search(rf"[^.]*\b(?:{names})\b[^.]*", before, re.IGNORECASE):
                problems.append(f"{term}: {name} uses it before {where} explains it: {' '.join(used[0].split())}")
    return problems


# ---- copies for a learner --------------------------------------------------------------------------------------------


def copy_all(to: Path, folder: Path = LESSONS) -> list[Path]:
    """Copies of all lessons to write in: no results, so that no guess is spoiled.

    A file that the learner has changed stays as it is. Returns these, where there was something new for them.
    """
    to.mkdir(exist_ok=True)
    kept, record = [], to / ".copied.json"  # of each file as it was copied, a hash
    copied = json.loads(record.read_text()) if record.exists() else {}
    for lesson in lessons(folder=folder):
        texts = {name: (lesson / name).read_text() for name in BESIDE if (lesson / name).exists()}
        texts["lesson.ipynb"] = nbformat.writes(notebook(lesson)) + "\n"
        for name, text in texts.items():
            file = to / lesson.name / name
            key, now = f"{lesson.name}/{name}", digest(text)
            if file.exists() and digest(file.read_text()) not in (now, copied.get(key)):
                kept += [file] if copied.get(key) != now else []
                continue
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
            copied[key] = now
    record.write_text(json.dumps(copied, indent=1) + "\n")
    return kept


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description="Make and execute the notebooks of the lessons.")
    parser.add_argument("numbers", nargs="*", metavar="NN", help="which lessons; all by default")
    parser.add_argument("--copies", type=Path, metavar="DIR", help="only copy the lessons, without results, to here")
    options = parser.parse_args()
    if options.copies:
        for file in copy_all(options.copies):
            print(f"{file}: you have changed it, so the newer version was not copied over it")
        return
    if unknown := set(options.numbers) - {number(folder) for folder in lessons()}:
        parser.error(f"there is no lesson {', '.join(sorted(unknown))}")
    if problems := misplaced(glossary()):
        raise SystemExit("glossary.md:\n" + "\n".join(problems))
    for folder in lessons(options.numbers):
        start = time.perf_counter()
        try:
            build(folder)
        except CellExecutionError as error:
            raise SystemExit(f"{folder.name}: a cell fails\n\n{error}") from None
        size, seconds = (folder / "lesson.ipynb").stat().st_size / 1e6, time.perf_counter() - start
        print(f"{folder.name}: {seconds:.1f} s{' (too long)' if seconds > SECONDS else ''}, {size:.2f} MB")
    (LESSONS / "README.md").write_text(index())


if __name__ == "__main__":
    main()
