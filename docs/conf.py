"""Sphinx's settings for the web site (docs/build.py).

No page needs a script or another host to be read: formulas are MathML, pictures are files beside the page.
"""

import inspect
import re

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

import mrcnn

project = "mrcnn"
version = release = mrcnn.__version__
html_title = "mrcnn"
language = "en"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["README.md", "lessons/README.md", "extra", "mrcnn", ".doctrees"]

myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 4
nb_execution_mode = "off"

autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
maximum_signature_line_length = 90

html_theme = "furo"
html_theme_options = {
    "light_css_variables": {"color-code-background": "#f4f6f8"},
}
html_static_path = ["static"]
html_favicon = "static/icon.svg"
html_extra_path = ["extra"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_scaled_image_link = False
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_math_renderer = "mathml"
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

LANGUAGES = {"%%cuda": "cuda", "%%cpp": "cpp"}
# A paragraph of a docstring that begins so tells what arguments are; so begins each of them.
ITEM = re.compile(
    r"(?!Returns|Raises)(?P<names>\w+(?:, \w+)*)(?P<when> \([^)]*\))?: (?P<text>.*)|Returns,? (?!raises)(?P<returns>.*)"
)
SIGNATURE = re.compile(r'<dl>\n((?:<dd><em class="sig-param">.*</dd>\n)+)</dl>')
SECTIONS = {"Args:": "", "Raises:": "", "Returns:": "Returns "}


def draw_formula(self, node: nodes.Node) -> None:
    """A formula as MathML, which browsers draw by themselves."""
    self.body.append(tex2mathml(node.astext(), as_block=isinstance(node, nodes.math_block)))
    raise nodes.SkipNode


def colour_kernels(_app, doctree: nodes.document) -> None:
    """A notebook's cell of C++ or CUDA is coloured as such."""
    for block in doctree.findall(nodes.literal_block):
        if language := LANGUAGES.get(block.astext().partition("\n")[0]):
            block["language"] = language


def to_rst(_app, what: str, _name: str, _object, _options, lines: list[str]) -> None:
    """A docstring, which is plain text with code between backticks, as reStructuredText."""
    made, code = [], ""  # code: how far it is indented; what a section says is so itself
    for text in "\n".join(lines).split("\n\n"):
        if not text.startswith(" "):
            code = " " * (8 if text.partition("\n")[0] in SECTIONS else 4)
        made.append(f"{code[4:]}::\n\n{text}" if text.startswith(code) else paragraph(text, what))
    lines[:] = "\n\n".join(made).split("\n")


def paragraph(text: str, what: str) -> str:
    """One of a docstring: prose, or what is said of each argument, of what is returned, of what is raised."""
    head, _, rest = text.partition("\n")
    if head in SECTIONS:
        text, what = SECTIONS[head] + inspect.cleandoc(rest), head
    if not ITEM.match(text):
        return literal(text)
    items: list[str] = []
    for line in re.sub(r"(?:(?<=\.)|;) (?=[a-z_]+: )", "\n", text).split("\n"):
        if found := ITEM.match(line):
            items.append(item(found, what))
        elif line.startswith("Raises "):
            items.append("\n" + line)
        else:
            items[-1] += " " + line.strip()
    return "\n".join(map(literal, items))


def item(found: re.Match, what: str) -> str:
    if found["returns"]:
        return f":returns: {found['returns']}"
    names, text = found["names"], (found["when"] or "") + " " + found["text"]
    if what == "module":
        return f"\n- `{names}`:{text}"
    if what == "Raises:":
        return f":raises {names}:{text}"
    return "\n".join(f":param {name}:{text}" for name in names.split(", "))


def literal(text: str) -> str:
    """Code between backticks is shown as it is, and so is all else that would be markup."""
    parts = re.split(r"(`+[^`]+`+)", text)
    parts[1::2] = [f"``{part.strip('`')}``" for part in parts[1::2]]
    parts[::2] = [re.sub(r"([*|]|_(?=\W|$))", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def as_lines(_app, _page: str, _template: str, context: dict, _doctree) -> None:
    """A signature's arguments, which Sphinx writes as definitions without terms, as its lines."""
    context["body"] = SIGNATURE.sub(
        lambda found: re.sub(r"<(/?)dd>", r"<\1span>", f'<span class="arguments">{found[1]}</span>'),
        context.get("body", ""),
    )


def lighter(_app, _page: str, _template: str, context: dict, _doctree) -> None:
    """Names, spaces and brackets in code have the text's own colour: unmarked, pages are a third smaller."""
    context["body"] = re.sub(r'<span class="[nwp]">([^<]*)</span>', r"\1", context.get("body", ""))


def setup(app) -> None:
    app.add_html_math_renderer("mathml", (draw_formula, None), (draw_formula, None))
    app.connect("doctree-read", colour_kernels)
    app.connect("autodoc-process-docstring", to_rst)
    app.connect("html-page-context", as_lines)
    app.connect("html-page-context", lighter)
