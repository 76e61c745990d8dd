"""What every picture of a lesson has: a description and its data, in a form that a narrow page can scroll."""

import base64
import html
import re
import xml.etree.ElementTree as ElementTree

from mrcnn.lab.views.pictures import page
from mrcnn.lab.views.view import View


def figure():
    drawn = page(2, 1)
    drawn.add_axes((0.1, 0.1, 0.8, 0.8)).plot([1, 2], label="a < b")
    return drawn


def test_view_of_lines_is_an_svg():
    view = View.of(figure(), 'one "line" < two', {"values": [1, 2]}, lines=True)
    shown = view._repr_mimebundle_()
    assert shown["text/plain"] == 'one "line" < two'
    alt, data = (re.search(f'{name}="([^"]*)"', shown["text/html"])[1] for name in ("alt", "src"))
    assert html.unescape(alt) == 'one "line" < two'
    kind, _, body = data.partition(";base64,")
    assert kind == "data:image/svg+xml"
    assert ElementTree.fromstring(base64.b64decode(body)).tag.endswith("svg")
    assert view == View.of(figure(), 'one "line" < two', {"values": [1, 2]}, lines=True)  # the same bytes


def test_view_of_a_picture_is_a_png():
    shown = View.of(figure(), "a line").html()
    body = re.search(r'src="data:image/png;base64,([^"]*)"', shown)[1]
    assert base64.b64decode(body).startswith(b"\x89PNG")
    assert shown.startswith('<div style="overflow-x: auto">')
