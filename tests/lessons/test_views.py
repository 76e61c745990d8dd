"""What every picture of a lesson has: a description and its data, in a form that a narrow page can scroll."""

import base64
import html
import re
import xml.etree.ElementTree as ElementTree

import pytest
import torch

from mrcnn.lab.views.curves import Panel, curves
from mrcnn.lab.views.pictures import caption, page
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


def test_a_view_of_what_is_written_in_it():
    drawn = figure()
    caption(drawn.axes[0], "left", "3 boxes")
    drawn.axes[0].annotate("", (0, 0), (1, 1))  # an arrow says nothing
    assert View.written(drawn, "A picture").description == "A picture: left; 3 boxes."


def test_curves_tell_their_first_and_last_values_and_few_between():
    view = curves(
        Panel("recall", "proposals", {"ours": ([1, 10, 128], [0.25, 0.5, 1]), "theirs": ([1, 128], [0, 1])}, log=True),
        Panel("loss", "step", {"": (range(101), [1 - step / 100 for step in range(101)])}),
    )
    first, second = view.description.split(" loss, ")
    assert first == "recall, against proposals. ours: 0.25 at 1, 0.5 at 10, 1 at 128; theirs: 0 at 1, 1 at 128."
    assert second == "against step. 1 at 0, 0.8 at 20, 0.6 at 40, 0.4 at 60, 0.2 at 80, 0 at 100."
    letters = {each.text for each in ElementTree.fromstring(view.picture).iter() if each.tag.endswith("text")}
    assert {"recall", "proposals", "ours", "theirs", "100", "loss", "step"} <= letters
    assert curves(Panel("one", "x", {"a": ([1], [2])})).description == "one, against x. a: 2 at 1."
    runs = curves(Panel("two", "x", {"a": ([1, 2], torch.tensor([[1.0, 3], [2, 7]]))}, level=2))
    assert runs.description == "two, against x. a: 1.5 ± 0.71 at 1, 5 ± 2.8 at 2."


def test_more_curves_than_can_be_told_apart_are_refused():
    with pytest.raises(ValueError, match=r"5 curves, got \[1, 6\]"):
        curves(Panel("one", "x", {"a": ([1], [2])}), Panel("two", "x", {str(n): ([1], [2]) for n in range(6)}))
