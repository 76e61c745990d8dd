"""Makes the notebooks from their sources, executes them, and writes the index, README.md.

    python lessons/build.py            all of them      (make lessons-build)
    python lessons/build.py 04 07      these

A lesson's source is `NN_name.py` in jupytext's percent format. `NN_name.ipynb` beside it is made from it, so
edit the source. What its cells mean:

- A cell of CUDA or C++ is a comment under its marker; in the notebook it begins with the magic %%cuda or %%cpp:

      # %% exercise="double_it" language="cuda"
      # __global__ void double_it(const float* x, float* y, int n) {
      #   // your code
      # }

- `exercise="name"` marks the cell that the learner fills in, `solution="name"` the folded answer to it: the code of its
  first fence takes the cell's place when the tests run a lesson solved. Such a fence begins with %%cuda too.
- `tags=["cover"]` marks the cell whose picture the index shows.
- The title is the first heading, and what the index says of the lesson is the first sentence under it.

A notebook is the same from build to build where its results are: cells are named by what is in them, and no times or
versions are kept.
"""

import argparse
import base64
import hashlib
import re
import time
from pathlib import Path

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
INDEX = """# The lessons

Mask R-CNN from the whole picture down to the single CUDA thread, one notebook per part. You need Python, a little
PyTorch, and no GPU: kernels that you write run thread by thread on the CPU where there is none.

    make lessons        sets everything up and opens JupyterLab at lesson 00

Each lesson runs from top to bottom as it is. Cells with `your code` in them, or `...`, wait for your answer; `check`
says how it fares, and until it is right the lesson goes on with the library's version. Solutions are folded below.

"""


def sources(numbers: list[str] = ()) -> list[Path]:
    """The lessons' sources, or those of these numbers."""
    found = sorted(LESSONS.glob("[0-9][0-9]_*.py"))
    return [file for file in found if not numbers or file.name[:2] in numbers]


def notebook(source: Path) -> NotebookNode:
    """The notebook of a source, not executed."""
    made = jupytext.read(source)
    made.metadata = nbformat.from_dict(METADATA)
    seen: dict[str, int] = {}
    for cell in made.cells:
        cell.metadata = nbformat.from_dict({key: cell.metadata[key] for key in KEPT if key in cell.metadata})
        name = hashlib.sha256(cell.source.encode()).hexdigest()[:8]
        seen[name] = seen.get(name, 0) + 1
        cell.id = f"{name}-{seen[name]}"
    return made


def execute(made: NotebookNode, folder: Path = LESSONS) -> None:
    """Run all its cells. Raises CellExecutionError at the first that fails."""
    client = NotebookClient(
        made, timeout=600, record_timing=False, coalesce_streams=True, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    made.metadata = nbformat.from_dict(METADATA)


def cover(made: NotebookNode) -> bytes | None:
    """The picture, a PNG, of the cell that is marked as the cover."""
    for cell in made.cells:
        if "cover" in cell.metadata.get("tags", []):
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    return base64.b64decode(output["data"]["image/png"])
    return None


def title_and_line(source: Path) -> tuple[str, str]:
    """A lesson's heading, without its number, and the first sentence under it."""
    text = next(cell.source for cell in jupytext.read(source).cells if cell.cell_type == "markdown")
    title, below = re.match(r"#\s+(?:\d+\W+)?(.+)\n\s*\n((?:.+\n?)+)", text).groups()
    return title, re.match(r"(?:\*\*\w+[.:]?\*\*[.:]?\s*)?(.+?\.)(?:\s|$)", " ".join(below.split()))[1]


def index(folder: Path = LESSONS) -> str:
    """README.md: a row per lesson."""
    rows = ["| | |", "|---|---|"]
    for source in sorted(folder.glob("[0-9][0-9]_*.py")):
        title, line = title_and_line(source)
        number, file = source.name[:2], f"{source.stem}.ipynb"
        picture = folder / "pictures" / f"{number}.png"
        link = f'<a href="{file}"><img src="pictures/{picture.name}" width="240" alt=""></a>'
        rows.append(f"| {link if picture.exists() else ''} | **[{number} · {title}]({file})**<br>{line} |")
    return INDEX + "\n".join(rows) + "\n"


def build(source: Path) -> None:
    """The notebook of a source, executed, and its picture for the index. Nothing is written when a cell fails."""
    made = notebook(source)
    execute(made, source.parent)
    nbformat.write(made, source.with_suffix(".ipynb"))
    if picture := cover(made):
        file = source.parent / "pictures" / f"{source.name[:2]}.png"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(picture)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make and execute the notebooks of the lessons.")
    parser.add_argument("numbers", nargs="*", metavar="NN", help="which lessons; all by default")
    numbers = parser.parse_args().numbers
    if unknown := set(numbers) - {file.name[:2] for file in sources()}:
        parser.error(f"there is no lesson {', '.join(sorted(unknown))}")
    for source in sources(numbers):
        start = time.perf_counter()
        try:
            build(source)
        except CellExecutionError as error:
            raise SystemExit(f"{source.name}: a cell fails\n\n{error}") from None
        size = source.with_suffix(".ipynb").stat().st_size / 1e6
        print(f"{source.stem}: {time.perf_counter() - start:.1f} s, {size:.2f} MB")
    (LESSONS / "README.md").write_text(index())


if __name__ == "__main__":
    main()
