"""The box to drag, in a browser: by pointer, finger and keys, beside others, narrow, dark, and without scripts."""

import json

import pytest
import torch
from touch_page import finger, touch_screen, write_page

from mrcnn import boxes as box_maths
from mrcnn import lab
from mrcnn.data import Playground

ANCHOR, BOX = torch.tensor([40.0, 32, 80, 96]), torch.tensor([52.0, 20, 100, 90])
UNIT = (1.0, 1.0, 1.0, 1.0)
NAMES = ("dx", "dy", "dw", "dh", "IoU")
MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The address of a page with the same view twice, and another of a wide picture."""
    image, _ = Playground(1, seed=0)[0]
    same = lab.box_dragger(image, ANCHOR, BOX, "A person")
    wide = lab.box_dragger(torch.cat([image, image], dim=2), ANCHOR, BOX + 0.25)
    return write_page(tmp_path_factory.mktemp("box_dragger"), same, same, wide)


class Dragger:
    """One of the views on the page."""

    def __init__(self, driver, number):
        self.driver = driver
        self.root = driver.find_elements("css selector", "[data-touch]")[number]

    def handle(self, name):
        return self.root.find_element("css selector", f'[data-handle="{name}"]')

    def press(self, name, *keys):
        for key in keys:
            self.handle(name).send_keys(key)

    @property
    def says(self):
        return self.root.find_element("css selector", "[aria-live=polite]").text

    @property
    def box(self):
        x, y, width, height = (
            float(self.root.find_element("css selector", "rect.handle").get_attribute(name))
            for name in ("x", "y", "width", "height")
        )
        return torch.tensor([x, y, x + width, y + height])

    @property
    def pixel(self):
        """How wide a pixel of the picture is on the page."""
        return self.driver.execute_script("return arguments[0].getScreenCTM().a", self.handle("whole box"))

    @property
    def centre(self):
        """Where the middle of the box is, seen from the page's window."""
        return self.driver.execute_script(
            "const r = arguments[0].getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]",
            self.handle("whole box"),
        )

    def shown(self):
        texts = {
            name: self.root.find_element("css selector", f'[data-value="{name}"]').text.replace(MINUS, "-")
            for name in NAMES
        }
        assert all(f"{name} {text}" in self.says.replace(MINUS, "-") for name, text in texts.items())
        return [float(texts[name]) for name in NAMES]

    def assert_true(self, box):
        """The box is where it should be, and its numbers are the library's, to the digits that are shown."""
        assert self.box.tolist() == pytest.approx(box.tolist())
        want = box_maths.encode(box[None], ANCHOR[None], UNIT)[0].tolist()
        want.append(box_maths.iou(box[None], ANCHOR[None]).item())
        assert self.shown() == pytest.approx(want, abs=0.0005001)


def drag(driver, handle, x, y):
    """The left button down in the middle of the handle, moved in two steps by x and y, and up."""
    from selenium.webdriver import ActionChains

    ActionChains(driver).move_to_element(handle).click_and_hold().move_by_offset(x - 3, y).move_by_offset(
        3, 0
    ).release().perform()


def test_at_the_start(chromium, page):
    chromium.get(page)
    Dragger(chromium, 0).assert_true(BOX)
    assert Dragger(chromium, 0).says.endswith("The box goes from (52, 20) to (100, 90).")
    Dragger(chromium, 2).assert_true(BOX + 0.25)  # what is given is not rounded
    assert chromium.find_elements("css selector", "[data-touch] figure.still") == []


def test_keys(chromium, page):
    from selenium.webdriver import Keys

    chromium.get(page)
    first = Dragger(chromium, 0)
    first.press("whole box", Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_DOWN)
    first.assert_true(BOX + torch.tensor([-2.0, 1, -2, 1]))
    first.press("bottom right corner", Keys.SHIFT + Keys.ARROW_UP, Keys.ARROW_RIGHT)
    first.assert_true(BOX + torch.tensor([-2.0, 1, -1, -9]))
    first.press("top left corner", Keys.ARROW_DOWN)
    first.press("top right corner", Keys.ARROW_LEFT)
    first.press("bottom left corner", Keys.SHIFT + Keys.ARROW_RIGHT)
    first.assert_true(BOX + torch.tensor([8.0, 2, -2, -9]))
    before = first.box
    first.press("whole box", Keys.CONTROL + Keys.ARROW_LEFT, Keys.PAGE_DOWN, "x")
    assert first.box.tolist() == before.tolist()
    assert Dragger(chromium, 1).box.tolist() == BOX.tolist()  # the others stand where they stood
    assert [log for log in chromium.get_log("browser") if "favicon" not in log["message"]] == []


def test_tab_goes_through_the_handles(chromium, page):
    from selenium.webdriver import ActionChains, Keys

    chromium.get(page)
    names = []
    for _ in range(5):
        ActionChains(chromium).send_keys(Keys.TAB).perform()
        names.append(chromium.switch_to.active_element.get_attribute("data-handle"))
    assert names == [
        "whole box", "top left corner", "top right corner", "bottom left corner", "bottom right corner",
    ]  # fmt: skip
    look = "const s = getComputedStyle(arguments[0]); return [s.stroke, s.strokeWidth]"
    first = Dragger(chromium, 0)
    there, elsewhere = (
        chromium.execute_script(look, first.handle(name)) for name in ("bottom right corner", "top left corner")
    )
    assert there != elsewhere  # one sees where one is


def test_a_box_stays_in_the_picture_and_keeps_its_sides(chromium, page):
    from selenium.webdriver import Keys

    chromium.get(page)
    first = Dragger(chromium, 0)
    ten = Keys.SHIFT + Keys.ARROW_RIGHT
    first.press("whole box", *[ten] * 4)
    first.assert_true(torch.tensor([80.0, 20, 128, 90]))
    first.press("top left corner", *[ten] * 6)
    first.assert_true(torch.tensor([127.0, 20, 128, 90]))  # 1 pixel wide, and no less
    assert first.shown()[4] == 0
    first.press("bottom right corner", *[Keys.SHIFT + Keys.ARROW_DOWN] * 5)
    first.assert_true(torch.tensor([127.0, 20, 128, 128]))


def test_pointer(chromium, page):
    from selenium.webdriver import ActionChains

    chromium.get(page)
    first = Dragger(chromium, 0)
    pixel = first.pixel
    drag(chromium, first.handle("whole box"), round(-12 * pixel), round(7 * pixel))
    first.assert_true(BOX + torch.tensor([-12.0, 7, -12, 7]))
    drag(chromium, first.handle("top right corner"), round(9 * pixel), round(-4 * pixel))
    first.assert_true(BOX + torch.tensor([-12.0, 3, -3, 7]))
    drag(chromium, first.handle("bottom right corner"), 500, round(3 * pixel))
    first.assert_true(torch.tensor([40.0, 23, 128, 100]))  # as far as the picture goes
    ActionChains(chromium).move_to_element(first.handle("whole box")).perform()
    first.assert_true(torch.tensor([40.0, 23, 128, 100]))  # nothing is held any more


def test_finger(chromium, page):
    """On a touch screen: a handle follows; a finger beside them scrolls the page."""
    from selenium.webdriver.support.wait import WebDriverWait

    touch_screen(chromium)
    chromium.get(page)
    first = Dragger(chromium, 0)
    finger(chromium, *first.centre, [(20, 10), (40, 20)])
    right, down = round(40 / first.pixel), round(20 / first.pixel)
    WebDriverWait(chromium, 20).until(lambda _: first.box[0] == BOX[0] + right)  # the page hears of it a moment later
    first.assert_true(BOX + torch.tensor([right, down, right, down]))
    scrolled = "return window.scrollY"
    assert chromium.execute_script(scrolled) == 0
    finger(chromium, 20, 60, [(0, -20), (0, -40), (0, -40)])  # beside the handles
    WebDriverWait(chromium, 20).until(lambda _: chromium.execute_script(scrolled) > 0)


def test_buttons(chromium, page):
    chromium.get(page)
    second = Dragger(chromium, 1)
    again, onto = second.root.find_elements("css selector", "button")
    onto.click()
    second.assert_true(ANCHOR)
    assert "dx 0.000, dy 0.000, dw 0.000, dh 0.000, IoU 1.000." in second.says
    again.click()
    second.assert_true(BOX)


def test_without_scripts_a_picture_stands_there(chromium, page):
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    chromium.get(page)
    pictures = chromium.find_elements("css selector", "[data-touch] img")
    assert len(pictures) == 3
    assert "dx +0.400, dy -0.141, dw +0.182, dh +0.090. IoU 0.378." in pictures[0].get_attribute("alt")
    assert pictures[0].size["width"] > 300  # it is drawn: a broken one is small


def test_what_it_is_made_of():
    image = torch.zeros(3, 64, 96, dtype=torch.uint8)
    view = lab.box_dragger(image, ANCHOR, BOX)
    assert view.data["size"] == [96, 64]
    assert json.loads(json.dumps(view.data)) == view.data
    assert "from (40, 32) to (80, 96); the box, solid, from (52, 20) to (100, 90)" in view.description
    with pytest.raises(ValueError, match="the box must have a width and a height; got"):
        lab.box_dragger(image, ANCHOR, torch.tensor([5.0, 5, 5, 9]))
    with pytest.raises(ValueError, match="the anchor must have"):
        lab.box_dragger(image, ANCHOR.flip(0), BOX)
