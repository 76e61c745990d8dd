"""A small writer of SVG, for pictures of lines and letters. The same calls give the same bytes.

Lengths are pixels of the picture at its natural size. Letters are at least `LETTERS` high, dark on the drawing's own
white paper, so that they can also be read on a dark page.
"""

from collections.abc import Iterable
from html import escape

from mrcnn.visualize import COLOURS, INK, PAPER

LETTERS = 13
GREY, RULE, EMPTY = "#595959", "#b0b0b0", "#eeeeee"  # faint letters, thin lines, cells without anything in them
# The colours halfway to white, under dark letters.
PALE = tuple("#" + "".join(f"{(255 + int(c[i : i + 2], 16)) // 2:02x}" for i in (1, 3, 5)) for c in COLOURS)

__all__ = ["COLOURS", "EMPTY", "GREY", "INK", "LETTERS", "PALE", "PAPER", "RULE", "Drawing", "width_of"]


def width_of(words: str, size: float = LETTERS) -> float:
    """As wide as these letters can be, in whichever font the reader has."""
    return 0.64 * size * len(words)


class Drawing:
    """Takes shapes and words, one above the other; `str()` of it is the SVG."""

    def __init__(self, width: float, height: float):
        self.width, self.height = round(width), round(height)
        self.parts: list[str] = []
        self.rect(0, 0, self.width, self.height, PAPER)

    def add(self, tag: str, body: str = "", **look: float | str | None) -> None:
        """An element. Of its attributes those that are None are left out; `stroke_width` is written stroke-width."""
        given = (
            f'{name.replace("_", "-")}="{_number(value) if isinstance(value, int | float) else escape(str(value))}"'
            for name, value in look.items()
            if value is not None
        )
        self.parts.append(f"<{tag} {' '.join(given)}" + (f">{escape(body)}</{tag}>" if body else "/>"))

    def rect(self, x: float, y: float, width: float, height: float, fill: str = "none", stroke=None, **look) -> None:
        self.add("rect", x=x, y=y, width=width, height=height, fill=fill, stroke=stroke, **look)

    def line(self, x1: float, y1: float, x2: float, y2: float, stroke: str = INK, **look) -> None:
        self.add("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=stroke, **look)

    def polygon(self, points: Iterable[tuple[float, float]], fill: str = "none", stroke: str = INK, **look) -> None:
        places = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        self.add("polygon", points=places, fill=fill, stroke=stroke, **look)

    def path(self, commands: str, stroke: str = INK, fill: str = "none", **look) -> None:
        self.add("path", d=commands, stroke=stroke, fill=fill, **look)

    def text(self, x: float, y: float, words: str, anchor: str = "start", bold: bool = False, **look) -> None:
        """Words in one line, y at half their height; anchor: "start", "middle" or "end" is at x."""
        look = {"font_size": LETTERS, "fill": INK, **look}
        weight = "bold" if bold else None
        self.add("text", words, x=x, y=y + 0.36 * look["font_size"], text_anchor=anchor, font_weight=weight, **look)

    def cross(self, x: float, y: float, colour: str, half: float = 5) -> None:
        """An X with its middle at (x, y)."""
        self.path(f"M{x - half:g} {y - half:g}l{2 * half:g} {2 * half:g}m0 {-2 * half:g}l{-2 * half:g} {2 * half:g}",
                  colour, stroke_width=2.4)  # fmt: skip

    def __str__(self) -> str:
        size = f'width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} {self.height}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="DejaVu Sans, Verdana, sans-serif">'
        return "\n".join([head, *self.parts, "</svg>"])


def _number(value: float) -> str:
    return f"{round(float(value), 2):g}"
