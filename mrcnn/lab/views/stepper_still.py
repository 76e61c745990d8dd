"""A run as a picture that stands still: a table of its steps, time downwards, one column per thread."""

from .svg import COLOURS, GREY, INK, PAPER, RULE, Drawing, width_of

ROWS = 44  # more would be a long page
HEIGHT, LEFT = 22, 52  # pixels: a step's row, the numbers of the steps
ALARM = COLOURS[5]


def still(run: dict, rows: int = ROWS, title: str = "") -> str:
    """An SVG of a run's first steps; a step as stepper.js describes it. What is in a race has a frame and an X."""
    steps, threads = run["steps"][:rows], run["threads"]
    words = [_words(run, step) for step in steps]
    # A column is as wide as the widest step in it; who waits for whom, and who is not shown, is said across them.
    wide = max([90, *(width_of(each) for each, step in zip(words, steps, strict=True) if step[0] not in "MNO")]) + 18
    across = [width_of(each) for each, step in zip(words, steps, strict=True) if step[0] in "MNO"]
    title, left = title or run["name"], len(run["steps"]) - len(steps)
    foot = [f"… and {left} more steps"] if left else []
    drawing = Drawing(
        max(LEFT + wide * len(threads) + 8, width_of(title) + 16, *(LEFT + each + 90 for each in across), 200),
        HEIGHT * (len(steps) + 2.5 + len(foot)),
    )
    drawing.text(8, 0.7 * HEIGHT, title, bold=True)
    for column, thread in enumerate(threads):
        x = LEFT + wide * column
        drawing.line(x - 8, 1.2 * HEIGHT, x - 8, HEIGHT * (len(steps) + 2.2), RULE)
        drawing.text(x, 1.7 * HEIGHT, f"thread {thread}", bold=True)
    for number, (step, said) in enumerate(zip(steps, words, strict=True)):
        y = HEIGHT * (number + 2.7)
        drawing.text(LEFT - 16, y, str(number + 1), "end", fill=GREY)
        if step[0] in "MNO":
            room = width_of(said) + 8
            drawing.rect(LEFT, y - 9, room, 18, PAPER)  # no line goes through the letters
            drawing.text(LEFT, y, said, bold=step[0] != "O")
            if step[0] != "O":
                drawing.line(LEFT + room, y, drawing.width - 8, y, INK, stroke_dasharray="7 4", stroke_width=1.6)
            continue
        x = LEFT + wide * threads.index(step[1])
        if step[6]:
            drawing.rect(x - 5, y - 10, wide - 8, 20, stroke=ALARM, stroke_width=2)
        drawing.text(x, y, said)
    for words in foot:
        drawing.text(LEFT, HEIGHT * (len(steps) + 2.7), words)
    return str(drawing)


def _words(run: dict, step: list) -> str:
    kind, _, line, buffer, cells, values, race = step
    if kind in "MN":
        return f"{'all have met' if kind == 'M' else 'lanes have met'}, line {line}"
    if kind == "O":
        return "threads that are not shown"
    if kind in "BV":
        return f"waits, line {line}"
    span = str(cells[0]) if len(cells) == 1 else f"{cells[0]}-{cells[-1]}"
    value = f" {values[0]}{' …' if len(values) > 1 else ''}" if values else ""
    return f"{'X ' if race else ''}{kind} {run['memory'][buffer]['name']}[{span}]{value}"
