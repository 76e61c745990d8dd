"""What is asked of every picture that is an SVG."""

import xml.etree.ElementTree as ElementTree

from mrcnn.lab.views.view import View

SVG = "{http://www.w3.org/2000/svg}"
SMALLEST, CONTRAST = 12, 4.5  # pixels; as WCAG 2 asks of letters


def luminance(colour: str) -> float:
    """Of "#rrggbb", as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def words_of(view: View) -> list[str]:
    return [text.text for text in ElementTree.fromstring(view.picture).iter(f"{SVG}text")]


def check(view: View) -> None:
    """Its letters are large and stand out from what lies under them, and it says in words what it shows."""
    drawing = ElementTree.fromstring(view.picture)
    width, height = float(drawing.get("width")), float(drawing.get("height"))
    assert drawing.get("viewBox") == f"0 0 {width:g} {height:g}"
    grounds = []  # rectangles, as far as they are drawn
    for each in drawing:
        if each.tag == f"{SVG}rect" and each.get("fill") != "none":
            x, y, w, h = (float(each.get(name)) for name in ("x", "y", "width", "height"))
            grounds.append((x, y, x + w, y + h, each.get("fill")))
        if each.tag == f"{SVG}text":
            size, x, y = (float(each.get(name)) for name in ("font-size", "x", "y"))
            assert size >= SMALLEST, each.text
            left = x - {"start": 0, "middle": 0.5, "end": 1}[each.get("text-anchor")] * 0.64 * size * len(each.text)
            assert left >= 0, each.text
            assert left + 0.64 * size * len(each.text) <= width, each.text
            assert 0 <= y <= height, each.text
            dx = {"start": 3, "middle": 0, "end": -3}[each.get("text-anchor")]
            under = [fill for x1, y1, x2, y2, fill in grounds if x1 <= x + dx <= x2 and y1 <= y - 0.3 * size <= y2]
            assert contrast(each.get("fill"), under[-1]) >= CONTRAST, each.text
    assert len(view.description) > 20
