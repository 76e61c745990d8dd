"""What holds for every view that can be touched, on a web page of its own."""

import io

import numpy as np
import pytest
import test_keypoint_dragger_browser as keypoints
import test_polygon_drawer_browser as polygon
import torch
from PIL import Image
from test_stepper import trace

from mrcnn import lab
from mrcnn.data import Playground

VIEWS = {
    "stepper": lambda: lab.stepper({"with": trace("swap"), "without": trace("swap_too_soon")}, "Two numbers"),
    "box_dragger": lambda: lab.box_dragger(
        Playground(1)[0][0], torch.tensor([40.0, 32, 80, 96]), torch.tensor([52.0, 20, 100, 90])
    ),
    "keypoint_dragger": keypoints.view,
    "polygon_drawer": lambda: lab.polygon_drawer(polygon.IMAGE, polygon.GIVEN),
}
every_view = pytest.mark.parametrize("name", VIEWS)


def open_page(chromium, tmp_path, name):
    file = tmp_path / "page.html"
    file.write_text(VIEWS[name]().page())
    chromium.get(file.as_uri())


@every_view
def test_it_runs_without_a_word_in_the_browsers_log(chromium, tmp_path, name):
    open_page(chromium, tmp_path, name)
    assert chromium.title == chromium.find_element("css selector", f".touch.{name} h4").text
    assert chromium.find_elements("css selector", "figure.still") == []  # the script has taken its place
    assert [log for log in chromium.get_log("browser") if "favicon" not in log["message"]] == []


@every_view
@pytest.mark.parametrize("scripts", [True, False])
def test_a_narrow_page_does_not_scroll_sideways(chromium, tmp_path, name, scripts):
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
    open_page(chromium, tmp_path, name)
    layout = chromium.execute_cdp_cmd("Page.getLayoutMetrics", {})
    assert layout["cssContentSize"]["width"] <= 390


@every_view
def test_letters_are_large_enough_and_of_the_pages_colour(chromium, tmp_path, name):
    open_page(chromium, tmp_path, name)
    if name == "stepper":
        chromium.find_element("css selector", ".touch").send_keys("\ue014" * 4)  # four times the right arrow
    chromium.execute_script("document.body.style = 'background: #111; color: rgb(221, 221, 221)'")
    sizes = chromium.execute_script("""
        return [...document.querySelectorAll('.touch, .touch *')]
          .map((each) => parseFloat(getComputedStyle(each).fontSize))""")
    assert min(sizes) >= 12
    colours = chromium.execute_script("""
        return [...document.querySelectorAll('.touch p, .touch button:enabled, .touch textarea, .touch h4')]
          .map((each) => getComputedStyle(each).color)""")
    assert set(colours) == {"rgb(221, 221, 221)"}


BLUE = torch.tensor([0, 114, 178], dtype=torch.uint8)[:, None, None].expand(3, 96, 128)  # the ring's own colour
ON_BLUE = {
    "box_dragger": lambda: lab.box_dragger(BLUE, torch.tensor([8.0, 8, 40, 40]), torch.tensor([52.0, 20, 100, 80])),
    "keypoint_dragger": lambda: lab.keypoint_dragger(
        BLUE, torch.tensor([[20.0, 20, 2]]), torch.tensor([[70.0, 60]]), 20.0, ["nose"], torch.tensor([0.1])
    ),
}


@pytest.mark.parametrize("name", ON_BLUE)
def test_where_one_is_shows_on_a_picture_of_any_colour(chromium, tmp_path, name):
    file = tmp_path / "page.html"
    file.write_text(ON_BLUE[name]().page())
    chromium.get(file.as_uri())
    handles = chromium.find_elements("css selector", ".handle")
    for handle in handles:
        before = around(chromium, handle)
        handle.send_keys("\ue008")  # Shift: nothing but the focus moves
        assert handle == chromium.switch_to.active_element
        lighter = (around(chromium, handle).min(0).values > 150) & (before.min(0).values <= 150)
        assert lighter.sum() > 20


def around(driver, handle):
    """The window's pixels around a handle, (3, H, W), as numbers."""
    x, y, width, height = driver.execute_script(
        "const r = arguments[0].getBoundingClientRect(); return [r.x, r.y, r.width, r.height].map(Math.round)", handle
    )
    shot = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    part = shot.crop((x - 12, y - 12, x + width + 12, y + height + 12))
    return torch.from_numpy(np.array(part)).permute(2, 0, 1).int()
