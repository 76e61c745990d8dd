"""What holds of every view that can be touched: narrow, without scripts, and for who does not see it."""

import html
import json

import pytest
import test_touch_browser as others
import torch
from touch_page import Touched, touch_screen, write_page

from mrcnn import lab
from mrcnn.data import Playground

OBJECTS = torch.tensor([[1.0, 1, 5, 5], [6, 2, 10, 6], [0, 6, 2, 8]])
BOXES = torch.tensor([[10.0, 20, 50, 60], [20, 22, 60, 62], [14, 38, 30, 56]])


def box_dragger():
    image, _ = Playground(1, seed=0)[0]
    return lab.box_dragger(image, torch.tensor([40.0, 32, 80, 96]), torch.tensor([52.0, 20, 100, 90]))


def ap_slider():
    image, target = Playground(1, seed=0)[0]
    masks = target["masks"].float()
    return lab.ap_slider([image], [(torch.linspace(0.9, 0.5, len(masks)), masks)], [masks.bool()])


# Each view, and words of the description that its still picture has.
VIEWS = {
    "ap": (ap_slider, "Pixels above 0.50, right from an IoU of 0.75: "),
    "box_dragger": (box_dragger, "dx +0.400, dy -0.141, dw +0.182, dh +0.090. IoU 0.378."),
    "matching": (
        lambda: lab.matching_dragger(OBJECTS, OBJECTS.roll(1, 0)[:2], (9, 12)),
        "anchor 0: A 0.00, B 0.00, C 1.00, so C",
    ),
    "memory": (lambda: lab.memory_slider(2, 3), "moves 9 sectors of 32 bytes; shared memory needs 2 turns."),
    "nms": (
        lambda: lab.nms_dragger(BOXES, torch.tensor([0.9, 0.8, 0.7]), (80, 90)),
        "With a threshold of 0.5 NMS keeps A, C.",
    ),
    "roi": (
        lambda: lab.roi_dragger(torch.arange(90.0).view(9, 10), torch.tensor([1.5, 2.0, 6.3, 7.1])),
        "from (1.50, 2.00) to (6.30, 7.10), in cells. RoIAlign gives",
    ),
}


@pytest.fixture(params=VIEWS)
def shown(request, chromium, tmp_path):
    """The browser before a page with one view, its address, the view, and the words."""
    make, words = VIEWS[request.param]
    view = make()
    return chromium, write_page(tmp_path, view), view, words


def test_a_view_for_everybody(shown):
    """On a telephone; each button's name has the words that are on it, for who speaks to the page; and no script: then
    the still picture stands there, drawn (a broken one is small)."""
    chromium, address, view, words = shown
    assert json.loads(json.dumps(view.data)) == view.data
    touch_screen(chromium)
    chromium.get(address)
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= 390
    buttons = Touched(chromium).root.find_elements("css selector", "button")
    assert buttons
    assert all(each.text in each.get_attribute("aria-label") for each in buttons)
    assert chromium.find_elements("css selector", "figure.still") == []
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    chromium.get(address)
    still = chromium.find_element("css selector", "[data-touch] img")
    assert words in still.get_attribute("alt")
    assert still.size["width"] > 300


EVERY = others.VIEWS | {name: make for name, (make, _) in VIEWS.items()}
# A sandboxed frame's log does not come to the driver.
LISTENS = """<script>
window.heard = [];
addEventListener("error", (event) => heard.push(event.message));
addEventListener("keydown", (event) => heard.push(event.key));
</script>"""


@pytest.mark.parametrize("name", EVERY)
def test_a_view_in_a_notebooks_frame(chromium, tmp_path, name):
    """Colab shows each output in a frame that may run scripts and nothing else. VS Code takes a key for the notebook
    when it comes up to the frame's window: Delete would delete the cell. Escape is the way back to the notebook."""
    from selenium.webdriver import Keys

    file = tmp_path / "page.html"
    output = html.escape(LISTENS + EVERY[name]().html())
    file.write_text(f'<iframe sandbox="allow-scripts" width="900" height="1800" srcdoc="{output}"></iframe>')
    chromium.get(file.as_uri())
    chromium.switch_to.frame(0)
    assert chromium.find_elements("css selector", "figure.still") == []
    view = Touched(chromium)
    view.one("h4").click()  # the frame has the focus
    places = view.root.find_elements("css selector", "button:enabled, input, textarea, [tabindex]")
    for place in places:
        place.send_keys("d", Keys.DELETE, Keys.ARROW_DOWN, Keys.ESCAPE)
    assert chromium.execute_script("return heard") == ["Escape"] * len(places) != []
