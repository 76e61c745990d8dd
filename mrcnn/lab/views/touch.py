"""Views that can be moved by hand, in a notebook or on a web page: one piece of HTML, with no network."""

import base64
import dataclasses
import hashlib
import html
import io
import json
from pathlib import Path

from PIL import Image
from torch import Tensor

from .view import View

__all__ = ["Touch", "photograph"]

LONGEST, MOST_BYTES = 640, 40_000  # of a photograph as it is sent along: its longer side, its JPEG
WEB = Path(__file__).resolve().parents[1] / "web"
# A view's keys are not the notebook's shortcuts. JupyterLab looks for a mark at the focused element itself: without it
# "d" twice would delete the cell. VS Code takes what comes up to the window: Delete would delete the cell, an arrow at
# a slider choose the next one. Escape, the way back to the notebook, goes up, as does a key with Ctrl, Alt or Cmd.
STARTS = """for (const root of document.querySelectorAll(`[data-touch="${id}"]:not([data-started])`)) {
  root.dataset.started = "yes";
  root.addEventListener("focusin", ({ target }) => (target.dataset.lmSuppressShortcuts = "true"));
  root.addEventListener("keydown", (event) => {
    if (!(event.key === "Escape" || event.ctrlKey || event.altKey || event.metaKey)) event.stopPropagation();
  });
  start(root);
}"""


@dataclasses.dataclass(frozen=True)
class Touch:
    """A view whose script puts `data` on the page and lets it be moved; where no script runs, a picture stands there.

    Args:
        script: the name of its files in mrcnn/lab/web: NAME.js, which defines `start(root)` and finds `data`, and
            NAME.css, if there is one. What all of them share is in touch.js and touch.css.
        title: what it is, as a heading and for who hears the page.
        data: what the script shows, as JSON has it.
        still: the picture in its place, with its description.
        description: what there is to know, in words.
        shared: further files of mrcnn/lab/web, of which its script makes use.
    """

    script: str
    title: str
    data: dict
    still: View
    description: str
    shared: tuple[str, ...] = ()

    def html(self) -> str:
        """One piece of HTML with its script and style; several on a page do not know of each other."""
        data = json.dumps(self.data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
        key = hashlib.sha256(data.encode()).hexdigest()[:12]
        style, script = (
            "\n".join(
                file.read_text().rstrip()
                for name in ("touch", *self.shared, self.script)
                if (file := WEB / f"{name}.{kind}").exists()
            )
            for kind in ("css", "js")
        )
        words = html.escape(self.description).replace("\n", "<br>")
        return (
            f"<style>{style}</style>\n"
            f'<div class="touch {self.script}" data-touch="{key}" data-lm-suppress-shortcuts="true" role="group" '
            f'aria-label="{html.escape(self.title, quote=True)}">\n'
            f'<figure class="still">{self.still.html()}<figcaption>{words}</figcaption></figure>\n</div>\n'
            f'<script>(function (id, data) {{\n{script}\n{STARTS}\n}})("{key}", {data});</script>\n'
        )

    def page(self) -> str:
        """A whole web page with nothing else on it."""
        title = html.escape(self.title)
        return (
            '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width">\n<title>{title}</title>\n{self.html()}</html>\n'
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/html": self.html(), "text/plain": self.description}


def photograph(image: Tensor) -> str:
    """A picture uint8 (3, H, W) as a data: address, made smaller and coarser until it is light enough for a page."""
    picture = Image.fromarray(image.permute(1, 2, 0).cpu().numpy())
    picture.thumbnail((LONGEST, LONGEST))
    for quality in (90, 75, 60, 45, 30, 15):
        file = io.BytesIO()
        picture.save(file, "jpeg", quality=quality, optimize=True)
        if file.tell() <= MOST_BYTES:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
