"""A picture with its description, for who cannot see it, and its data, for who wants to draw it otherwise."""

import base64
import dataclasses
import html
import io
from typing import Any

import matplotlib
from matplotlib.figure import Figure

__all__ = ["View"]


@dataclasses.dataclass(frozen=True)
class View:
    """A picture as a notebook shows it: on a narrow screen it can be scrolled, and the page need not be.

    Args:
        picture: an SVG's text, or a PNG's bytes.
        description: what it shows, in words: the picture's alternative text.
        data: what was drawn, as JSON has it.
    """

    picture: str | bytes
    description: str
    data: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, figure: Figure, description: str, data: dict[str, Any] | None = None, lines: bool = False) -> "View":
        """A View of a matplotlib figure: as SVG if it is all lines and letters, else as PNG."""
        if not lines:
            return cls(figure._repr_png_(), description, data or {})
        file = io.StringIO()
        # The same bytes from build to build: names of its parts from what they are, and no date.
        with matplotlib.rc_context({"svg.hashsalt": "mrcnn", "svg.fonttype": "none"}):
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        return cls(file.getvalue(), description, data or {})

    @classmethod
    def written(cls, figure: Figure, words: str, lines: bool = False) -> "View":
        """A View whose description is `words` and what is written in the figure's axes."""
        letters = (text.get_text() for axes in figure.axes for text in axes.texts)
        return cls.of(figure, f"{words}: {'; '.join(each for each in letters if each)}.", lines=lines)

    def html(self) -> str:
        kind, data = (
            ("svg+xml", self.picture.encode()) if isinstance(self.picture, str) else ("png", bytes(self.picture))
        )
        source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        alt = html.escape(self.description, quote=True)
        return f'<div style="overflow-x: auto"><img src="{source}" alt="{alt}" style="max-width: none"></div>'

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/html": self.html(), "text/plain": self.description}
