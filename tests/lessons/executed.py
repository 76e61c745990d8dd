"""A lesson's notebook, executed, and what a reader must not meet in one."""

import re

from lesson_folders import build

SAYS = {False: "not written yet", True: ": right."}  # of a stub, of a solution


def run(folder):
    """The lesson's notebook, executed. At each exercise the solution is checked, then the stub: the lesson goes on as
    where nothing is written."""
    made, exercises, cells = build.notebook(folder), build.load(folder), []
    for cell in made.cells:
        if "exercise" in cell.metadata:
            record = getattr(exercises, cell.metadata.exercise)
            answer, check, _ = build.exercise_cells(record)
            answer.source = build.magic(record) + record.solution
            check.metadata.solved = True
            cells += [answer, check]
        cells.append(cell)
    made.cells = cells
    build.execute(made, folder)
    return made


def problems_of(made):
    """What a reader must not meet in an executed notebook; every check must say what is true."""
    problems = []
    for cell in made.cells:
        if cell.cell_type != "code":
            continue
        told = "".join(output.text for output in cell.outputs if output.output_type == "stream")
        checks, says = len(re.findall(r"(?<![.\w])check\(", cell.source)), SAYS["solved" in cell.metadata]
        if told.count(says) != checks:
            problems.append(f"{checks} checks should say {says!r}:\n{cell.source}\n{told}")
        if any(output.get("name") == "stderr" for output in cell.outputs) or "Traceback" in told:
            problems.append(f"a warning or an error:\n{cell.source}\n{told}")
        for output in cell.outputs:
            shown = output.get("data", {})
            if "image/png" in shown or re.search(r"<img (?![^>]*alt=\"[^\"]{20})", shown.get("text/html", "")):
                problems.append(f"a picture without a description:\n{cell.source}")
    return problems
