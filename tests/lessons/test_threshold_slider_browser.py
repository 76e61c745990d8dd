"""The slider over thresholds, in a browser: by keys, beside another, narrow, and as a picture without scripts."""

import pytest
import torch
from touch_page import touch_screen, write_page

from mrcnn.lab.views.threshold_slider import outline, threshold_slider

SIZE = 64
MEASURES = {"AP": [0.25, 0.75, 0.5], "AP50": [0.875, 0.9, 0.625]}


def slider():
    """One mask that is 1 in the middle and falls to 0 at a distance of 24; the truth has a radius of 12."""
    y, x = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    far = ((x - 32) ** 2 + (y - 32) ** 2).sqrt()
    image = torch.full((3, SIZE, SIZE), 128, dtype=torch.uint8)
    return threshold_slider(image, (1 - far / 24).clamp(min=0)[None], (far < 12)[None], [0.25, 0.5, 0.75], MEASURES, 1)


def test_outline():
    """A line of a constant distance from the middle, and one that closes at the edge of the picture."""
    mask = torch.zeros(6, 8)
    mask[2:4, 3:7] = 1
    path = outline(mask, 0.5)
    places = [tuple(map(float, place.split(","))) for place in path[1:-1].split()]
    xs, ys = zip(*places, strict=True)
    assert path.count("M") == path.count("Z") == 1
    assert (min(xs), max(xs), min(ys), max(ys)) == (3, 7, 2, 4)
    assert outline(torch.ones(4, 4), 0.5).endswith("Z")
    assert outline(torch.zeros(4, 4), 0.5) == ""


def test_as_a_picture():
    view = slider()
    assert (
        "Above 0.50: AP 0.750, AP50 0.900 over all pictures. IoU of the masks in this one: A 1.00." in view.description
    )
    assert "Above 0.75: AP 0.500" in view.description
    assert "Above 0.50" in view.still.description
    with pytest.raises(ValueError, match="each with a value for each threshold"):
        threshold_slider(torch.zeros(3, 4, 4).byte(), torch.zeros(0, 4, 4), torch.zeros(0, 4, 4), [0.5], MEASURES, 0)


def test_in_a_browser(chromium, tmp_path):
    from selenium.webdriver import Keys

    chromium.get(write_page(tmp_path, slider(), slider()))
    first, second = chromium.find_elements("css selector", "[data-touch]")
    assert chromium.find_elements("css selector", "[data-touch] figure.still") == []

    def state(root):
        says = root.find_element("css selector", "[aria-live=polite]").text
        values = [each.text for each in root.find_elements("css selector", "li b")]
        path = root.find_element("css selector", "path.outline.over")
        return says, values, chromium.execute_script("return arguments[0].getBBox().width", path)

    def from_curves(root, step):
        """How far each dot, and the mark, is from its curve's point of this step."""
        return chromium.execute_script(
            """const chart = arguments[0].querySelector("svg.chart"), dots = chart.querySelectorAll("circle");
            return [...chart.querySelectorAll("polyline")].flatMap(({ points }, i) => [
              points[arguments[1]].x - dots[i].cx.baseVal.value, points[arguments[1]].y - dots[i].cy.baseVal.value,
              points[arguments[1]].x - chart.querySelector(".mark").x1.baseVal.value]);""",
            root, step,
        )  # fmt: skip

    says, values, wide = state(first)
    assert from_curves(first, 1) == pytest.approx([0] * 6, abs=1e-3)
    assert says.startswith("Above 0.50: AP 0.750")
    assert values == ["0.750", "0.900"]
    assert first.find_element("css selector", "text.letter").text == "A"
    assert wide == pytest.approx(24, abs=0.5)
    handle = first.find_element("css selector", "input")
    handle.send_keys(Keys.ARROW_RIGHT)
    says, values, wide = state(first)
    assert from_curves(first, 2) == pytest.approx([0] * 6, abs=1e-3)
    assert says.startswith("Above 0.75")
    assert values == ["0.500", "0.625"]
    assert wide == pytest.approx(12, abs=0.5)
    assert handle.get_attribute("aria-valuetext") == "above 0.75"
    handle.send_keys(Keys.HOME)
    assert state(first)[0].startswith("Above 0.25")
    assert state(second)[0].startswith("Above 0.50")  # the other stands where it stood
    assert [log for log in chromium.get_log("browser") if "favicon" not in log["message"]] == []


def test_narrow(chromium, tmp_path):
    touch_screen(chromium)
    chromium.get(write_page(tmp_path, slider()))
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= 390
