"""The picture that stands in the stepper's place where no script runs: a run as a table, time downwards."""

from html import escape

ROWS = 44  # more would be a long page
WIDTH, HEIGHT, LEFT = 150, 20, 56  # pixels: a thread's column, a step's row, the numbers of the steps
INK, PAPER, ALARM = "#222222", "#ffffff", "#d55e00"


def still(run: dict) -> str:
    """An SVG of a run's first steps, one column per thread. Letters are 13 px high."""
    steps, threads = run["steps"][:ROWS], run["threads"]
    width, height = LEFT + WIDTH * len(threads) + 8, HEIGHT * (len(steps) + 3)
    left = len(run["steps"]) - len(steps)
    parts = [_text(6, 1, run["name"], weight="bold")]
    parts += [_text(LEFT + WIDTH * i, 2, f"thread {thread}", weight="bold") for i, thread in enumerate(threads)]
    bottom = HEIGHT * (len(steps) + 2) + 6
    parts += [f'<path d="M{LEFT + WIDTH * i - 8} 30V{bottom}" stroke="#cccccc"/>' for i in range(len(threads))]
    for number, step in enumerate(steps, 1):
        parts += [_text(6, number + 2, str(number)), *_row(run, step, number + 2, width)]
    if left:
        parts.append(_text(LEFT, len(steps) + 3, f"… and {left} more steps"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="monospace" '
        f'font-size="13"><rect width="100%" height="100%" fill="{PAPER}"/>{"".join(parts)}</svg>'
    )


def _row(run: dict, step: list, row: int, width: int) -> list[str]:
    kind, thread, line, buffer, cells, values, race = step
    if kind in "MN":
        y = row * HEIGHT + 5 - HEIGHT // 2
        words = "all have met" if kind == "M" else "lanes have met"
        dashes = f'<path d="M{LEFT} {y}H{width - 150}" stroke="{INK}" stroke-dasharray="6 4"/>'
        return [dashes, _text(width - 144, row, f"{words}, {line}")]
    if kind == "O":
        return [_text(LEFT, row, "threads that are not shown")]
    x = LEFT + WIDTH * run["threads"].index(thread)
    if kind in "BV":
        return [_text(x, row, f"waits, line {line}")]
    span = str(cells[0]) if len(cells) == 1 else f"{cells[0]}-{cells[-1]}"
    words = f"{kind} {run['memory'][buffer]['name']}[{span}] {values[0]}{' …' if len(values) > 1 else ''}"
    if not race:
        return [_text(x, row, words)]
    box = f'<rect x="{x - 4}" y="{(row - 1) * HEIGHT + 6}" width="{WIDTH - 4}" height="{HEIGHT - 2}" fill="none" '
    return [f'{box}stroke="{ALARM}" stroke-width="2"/>', _text(x, row, f"X {words}")]


def _text(x: int, row: int, words: str, weight: str = "normal") -> str:
    return f'<text x="{x}" y="{row * HEIGHT}" font-weight="{weight}" fill="{INK}">{escape(words)}</text>'
