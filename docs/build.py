"""Builds the web site: the README, the lessons with their stored results, the kernels, the benchmarks, the library.

    python docs/build.py [--out build/site]      (make site)

Nothing is executed and nothing is written twice: a copy of the repository's own pages, with the links between them made
to fit, and beside it the few pages of docs/, go to Sphinx. Where a page links to a file of the code, the site has
a page with that file; tests are named only, for they would be a third of such pages.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from sphinx.cmd.build import build_main

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "csrc/README.md", "lessons/*.md", "lessons/*/lesson.ipynb", "benchmarks/results/*.md")
INDEXED = ("README.md", "lessons/README.md")  # docs/ has an index.md for each, which includes it
LANGUAGES = {".py": "python", ".cu": "cuda", ".cuh": "cuda", ".cpp": "cpp", ".h": "cpp"}
PICTURES = (".png", ".jpg", ".svg")
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)|(?<=src=\")(?!\w+:)([^\"]+)")
DRAWN = re.compile(r'<img src="data:image/(png|svg)(?:\+xml)?;base64,([^"]+)"( alt="[^"]*") style="max-width: none"')
FILE = re.compile(r"`((?:mrcnn|csrc|benchmarks)/[\w/.]*)`")
TEST = re.compile(r"\[([^\]]+)\]\((?:\.\./)*tests/[^)\s]+\)")
SMALLEST = 0.92  # of a picture's size: its letters of 13 pixels can still be read
READ = """

```{note}
This page shows the notebook with its results, to be read. `make lessons` in the repository opens a copy of it to run
and to write in.
```"""
SOURCE = "---\norphan: true\nnosearch: true\n---\n\n# `{name}`\n\n{body}\n"


class Copy:
    """The pages as Sphinx gets them, in a folder with the repository's own shape."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.pages = {file.relative_to(ROOT).as_posix() for each in PAGES for file in ROOT.glob(each)}
        self.sources: set[str] = set()  # files and folders that have a page because a page links to them

    def make(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(ROOT / "docs", self.folder, ignore=shutil.ignore_patterns("build.py", "__pycache__"))
        shutil.copytree(ROOT / "mrcnn", self.folder / "mrcnn", ignore=lambda folder, names: not_python(folder, names))
        # What a page of the site loads when it is looked at: the model and the program that runs it.
        if (live := ROOT / "docs/try/build.py").exists() and subprocess.run(
            [sys.executable, live, self.folder / "extra"]
        ).returncode:
            raise SystemExit("docs/build.py: the page on which the model runs could not be made, see above")
        for page in sorted(self.pages):
            text = (ROOT / page).read_text()
            self.write(page, self.lesson(page, text) if page.endswith(".ipynb") else self.linked(page, text))

    def write(self, name: str, contents: str | bytes) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(contents.encode() if isinstance(contents, str) else contents)

    def lesson(self, page: str, text: str) -> str:
        """A notebook with its number in its title, links to its files, and its pictures beside it as files."""
        notebook = json.loads(text)
        number = Path(page).parent.name.partition("_")[0]
        first = notebook["cells"][0]
        first["source"] = FILE.sub(lambda found: f"[{found[0]}](../../{found[1]})", "".join(first["source"])) + READ
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = self.linked(page, "".join(cell["source"]))
            for output in cell.get("outputs", []):
                html = "".join(output.get("data", {}).get("text/html", ""))
                if html and "<script>" not in html:  # a view that can be touched finds its picture inside itself
                    output["data"]["text/html"] = DRAWN.sub(self.picture, html)
        first["source"] = re.sub("^# ", f"# {number} · ", first["source"])
        return json.dumps(notebook)

    def picture(self, found: re.Match) -> str:
        """A picture inside a notebook as a file of its own, shown a little smaller where it then fits."""
        kind, data, alt = found.groups()
        contents = base64.b64decode(data)
        name = f"pictures/{hashlib.sha256(contents).hexdigest()[:16]}.{kind}"
        self.write(f"extra/{name}", contents)
        width, height = size_of(contents)
        style = f"max-width: max(100%, {SMALLEST * width:.0f}px); height: auto"
        return f'<img src="../../{name}"{alt} width="{width:.0f}" height="{height:.0f}" style="{style}"'

    def linked(self, page: str, text: str) -> str:
        """A page's text with its links made to fit."""
        return LINK.sub(lambda found: self.address(page, found[0]), TEST.sub(r"`\1`", text))

    def address(self, page: str, link: str) -> str:
        target = os.path.normpath(Path(page).parent / link)
        if target in INDEXED:
            target = target.replace("README", "index")
        elif (ROOT / target).suffix in PICTURES:
            self.write(target, (ROOT / target).read_bytes())
        elif target not in self.pages and (ROOT / target).exists():
            target = self.source(target)
        else:
            return link
        return os.path.relpath(target, Path(page).parent)

    def source(self, name: str) -> str:
        """The page that shows a file of the code, or says what is in a folder of it."""
        page = f"source/{name}.md"
        if name not in self.sources:
            self.sources.add(name)
            path = ROOT / name
            if path.is_dir():
                files = sorted(file for file in path.rglob("*") if file.suffix in LANGUAGES)
                links = (
                    f"- [{file.relative_to(path)}]({os.path.relpath(file, (ROOT / page).parent)})" for file in files
                )
                body = self.linked(page, "\n".join(links))
            else:
                body = f"``````{LANGUAGES.get(path.suffix, 'text')}\n{path.read_text()}\n``````"
            self.write(page, SOURCE.format(name=name, body=body))
        return page


def size_of(picture: bytes) -> tuple[float, float]:
    """(width, height) of a PNG or an SVG, in pixels of the page."""
    if picture.startswith(b"\x89PNG"):
        return int.from_bytes(picture[16:20]), int.from_bytes(picture[20:24])
    (head,) = re.findall(rb"<svg[^>]*>", picture)
    found = (re.search(rb' %s="([\d.]+)(pt)?"' % name, head) for name in (b"width", b"height"))
    width, height = (float(each[1]) * (4 / 3 if each[2] else 1) for each in found)
    return width, height


def not_python(_folder: str, names: list[str]) -> list[str]:
    """What of a folder of the package is neither a file of Python nor a folder."""
    return [name for name in names if name == "__pycache__" or ("." in name and not name.endswith(".py"))]


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the web site.")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build/site", metavar="DIR", help="where; build/site if not said"
    )
    out = parser.parse_args().out.resolve()
    pages = out.with_name(f"{out.name}-pages")
    Copy(pages).make()
    shutil.rmtree(out, ignore_errors=True)
    sys.exit(build_main(["-q", "-W", "--keep-going", "-b", "html", "-d", f"{pages}/.doctrees", str(pages), str(out)]))


if __name__ == "__main__":
    main()
