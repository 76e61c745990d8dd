"""The polygon drawer: its page and its annotation, drawn with pointer and keys in a browser, against pycocotools."""

import json
import re

import numpy as np
import pytest
import torch
from pycocotools import mask as rle
from touch_page import finger, touch_screen, write_page

from mrcnn import lab

WIDTH, HEIGHT = 64, 48
GIVEN = [10.5, 8, 50, 12.2, 40, 40, 30.1, 20, 12, 36.5]
IMAGE = torch.randint(0, 256, (3, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def by_middles(polygon):
    """The mask (H, W) of a polygon: pixels about whose middles its corners turn once, summed up angle by angle."""
    middles = np.stack(np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5), axis=-1)  # (H, W, 2)
    towards = np.array(polygon).reshape(-1, 1, 1, 2) - middles
    angles = np.arctan2(towards[..., 1], towards[..., 0])
    turns = np.diff(angles, axis=0, append=angles[:1])
    return np.abs(((turns + np.pi) % (2 * np.pi) - np.pi).sum(0)) > np.pi


def shoelace(polygon):
    points = np.array(polygon).reshape(-1, 2)
    return abs(sum(np.linalg.det([a, b]) for a, b in zip(points, np.roll(points, -1, axis=0), strict=True))) / 2


def test_the_page_holds_the_picture_once_and_is_small():
    large = torch.randint(0, 256, (3, 900, 1400), dtype=torch.uint8)
    for image, most in ((IMAGE, 40_000), (large, 130_000)):
        text = lab.polygon_drawer(image, GIVEN, 'a "title" <b>').html()
        assert text.count("data:image/") == 1
        assert text.count("</script>") == 1
        assert "<b>" not in text
        assert len(text) < most
        assert not re.search(r"(src|href)=\"(?!data:)|@import|fetch\(|https?://(?!www\.w3\.org)", text)


def test_the_description_has_the_numbers():
    told = lab.polygon_drawer(IMAGE, GIVEN).description
    assert "64 x 48" in told
    assert f"area {shoelace(GIVEN):g} pixels" in told
    assert "Box from (10.5, 8) to (50, 40)" in told
    assert "it has none yet" in lab.polygon_drawer(IMAGE).description


@pytest.mark.parametrize("polygon", [[1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4, 5, 49], [-1, 2, 3, 4, 5, 6]])
def test_a_polygon_that_is_none(polygon):
    with pytest.raises(ValueError, match="polygon must"):
        lab.polygon_drawer(IMAGE, polygon)


# ---- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The address of a page with three drawers: one without a polygon, and one twice."""
    empty, given = lab.polygon_drawer(IMAGE, category_id=3), lab.polygon_drawer(IMAGE, GIVEN)
    return write_page(tmp_path_factory.mktemp("drawer"), empty, given, given)


class Drawn:
    """A drawer on the page."""

    def __init__(self, driver, number):
        self.driver = driver
        self.root = driver.find_elements("css selector", "[data-touch]")[number]
        self.svg = next(iter(self.root.find_elements("css selector", "svg")), None)
        if self.svg:
            driver.execute_script("arguments[0].scrollIntoView()", self.root)

    def pointer(self, *steps):
        """Steps are ("move", x, y) in pixels of the picture, "press", and "release"."""
        from selenium.webdriver import ActionChains

        chain = ActionChains(self.driver, duration=0)
        for step in steps:
            if step in ("press", "release"):
                chain = chain.click_and_hold() if step == "press" else chain.release()
                continue
            script = """const [svg, x, y] = arguments, at = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
                const {left, top, width, height} = svg.getBoundingClientRect();
                return [Math.round(at.x - left - width / 2), Math.round(at.y - top - height / 2)]"""
            chain = chain.move_to_element_with_offset(
                self.svg, *self.driver.execute_script(script, self.svg, *step[1:])
            )
        chain.perform()

    def click(self, x, y):
        self.pointer(("move", x, y), "press", "release")

    def on_the_page(self, x, y):
        """Where a place of the picture is in the window."""
        script = """const [svg, x, y] = arguments, at = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
            return [at.x, at.y]"""
        return self.driver.execute_script(script, self.svg, x, y)

    def button(self, label):
        next(each for each in self.root.find_elements("css selector", "button") if each.text == label).click()

    def press(self, *keys):
        for key in keys:
            self.svg.send_keys(key)

    def texts(self, selector):
        script = "return [...arguments[0].querySelectorAll(arguments[1])].map((each) => each.textContent)"
        return self.driver.execute_script(script, self.root, selector)

    @property
    def says(self):
        return self.texts("[role=status]")[0]

    @property
    def annotation(self):
        text = self.root.find_element("css selector", "textarea").get_property("value")
        return json.loads(text) if text else None

    @property
    def mask(self):
        """What is drawn as the mask."""
        mask = np.zeros((HEIGHT, WIDTH), bool)
        path = self.root.find_element("css selector", "path.cells").get_attribute("d")
        for x, y, cells in re.findall(r"M(\d+) (\d+)([^M]*)", path):
            mask[int(y), int(x) : int(x) + cells.count("z")] = True
        return mask


def check_annotation(drawn):
    """All that it says follows from its polygon, for numpy and for pycocotools."""
    said = drawn.annotation
    (polygon,) = said["segmentation"]
    x, y = polygon[::2], polygon[1::2]
    assert said["area"] == pytest.approx(shoelace(polygon), abs=1e-9)
    assert said["bbox"] == pytest.approx([min(x), min(y), max(x) - min(x), max(y) - min(y)], abs=1e-9)
    np.testing.assert_array_equal(drawn.mask, by_middles(polygon))
    theirs = rle.decode(rle.frPyObjects([polygon], HEIGHT, WIDTH))[:, :, 0].astype(bool)
    outline = sum(np.hypot(*(np.diff(np.array([*polygon, *polygon[:2]]).reshape(-1, 2), axis=0)).T))
    assert (theirs ^ drawn.mask).sum() <= 0.6 * outline  # theirs rounds the sides; only pixels along them can differ
    assert f"Area {said['area']:g} pixels" in drawn.says
    assert f"The mask has {drawn.mask.sum()} pixels" in drawn.says
    return polygon


def test_it_starts_with_the_given_polygon(chromium, page):
    chromium.get(page)
    second = Drawn(chromium, 1)
    assert check_annotation(second) == GIVEN
    assert {name: second.annotation[name] for name in ("id", "image_id", "category_id", "iscrowd")} == {
        "id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0,
    }  # fmt: skip
    assert second.says.startswith("5 points, closed.")
    assert Drawn(chromium, 0).annotation is None
    assert Drawn(chromium, 0).says == "0 points, open: a polygon needs three."
    assert [log for log in chromium.get_log("browser") if "favicon" not in log["message"]] == []


def test_points_by_clicking(chromium, page):
    chromium.get(page)
    first = Drawn(chromium, 0)
    corners = [(8, 6), (52, 10), (55, 40), (20, 44)]
    for corner in corners:
        first.click(*corner)
    assert first.says == "4 points, open: close it to see its mask."
    assert first.annotation is None
    first.click(*corners[0])  # the first one closes it
    polygon = check_annotation(first)
    assert np.abs(np.array(polygon).reshape(-1, 2) - corners).max() < 0.2  # a pixel of the screen is a ninth of one
    assert first.annotation["category_id"] == 3
    first.click(30, 6.8)  # on the upper side: between points 0 and 1
    assert len(check_annotation(first)) == 10
    assert first.annotation["segmentation"][0][2] == pytest.approx(30, abs=0.2)
    first.button("undo")
    assert check_annotation(first) == polygon
    first.button("open")
    assert first.says.startswith("4 points, open")
    first.button("close")
    assert first.annotation["segmentation"] == [polygon]
    first.button("clear")
    assert first.says.startswith("0 points")
    assert Drawn(chromium, 1).annotation["segmentation"] == Drawn(chromium, 2).annotation["segmentation"] == [GIVEN]


def test_a_point_is_dragged(chromium, page):
    chromium.get(page)
    second = Drawn(chromium, 1)
    second.pointer(("move", 40, 40), "press", ("move", 50, 42), ("move", 60, 44), "release")
    polygon = check_annotation(second)
    assert polygon[:4] + polygon[6:] == GIVEN[:4] + GIVEN[6:]
    assert polygon[4:6] == pytest.approx([60, 44], abs=0.2)
    second.button("undo")  # the whole drag
    assert check_annotation(second) == GIVEN
    second.pointer(("move", 40, 40), "press", ("move", 63, 47), "release")
    second.pointer(("move", 20, 2))  # nothing is in hand any more
    assert second.annotation["segmentation"][0][4:6] == pytest.approx([63, 47], abs=0.2)
    assert Drawn(chromium, 2).annotation["segmentation"] == [GIVEN]


def test_by_keys_alone(chromium, page):
    from selenium.webdriver import Keys

    chromium.get(page)
    first = Drawn(chromium, 0)
    assert first.texts(".hint")[0] == "Cross-hair at (32, 24)."
    first.press(Keys.ENTER, *[Keys.ARROW_RIGHT] * 20, Keys.ENTER, *[Keys.ARROW_DOWN] * 15, Keys.ENTER)
    assert first.says == "3 points, open: close it to see its mask."
    first.press(*[Keys.ARROW_UP] * 15, *[Keys.ARROW_LEFT] * 20, Keys.ENTER)
    assert check_annotation(first) == [32, 24, 52, 24, 52, 39]
    assert first.annotation["area"] == 150
    first.press(Keys.ENTER)  # picks it up
    assert first.texts(".hint")[0] == "Cross-hair at (32, 24), with a point in hand."
    first.press(Keys.SHIFT + Keys.ARROW_LEFT, Keys.ENTER, Keys.NULL + Keys.ARROW_DOWN)
    assert check_annotation(first) == [22, 24, 52, 24, 52, 39]
    first.press(*[Keys.ARROW_DOWN] * 18, Keys.ENTER)
    assert check_annotation(first) == [22, 24, 52, 24, 52, 39, 22, 43]  # into the nearest side, the last
    first.press(Keys.BACKSPACE)
    assert check_annotation(first) == [22, 24, 52, 24, 52, 39]
    first.press(*[Keys.ARROW_LEFT] * 60)
    assert first.texts(".hint")[0] == "Cross-hair at (0, 43)."  # it stays in the picture
    first.press(Keys.BACKSPACE)  # no point there: the last
    assert first.says == "2 points, open: a polygon needs three."


def test_finger(chromium, page):
    """On a touch screen: a point follows, and the page stands still; a finger beside the points scrolls the page."""
    from selenium.webdriver.support.wait import WebDriverWait

    touch_screen(chromium)
    chromium.get(page)
    second = Drawn(chromium, 1)
    scrolled = "return window.scrollY"
    before = chromium.execute_script(scrolled)
    finger(chromium, *second.on_the_page(50, 12.2), [(0, 20 * i) for i in range(1, 6)])
    WebDriverWait(chromium, 20).until(lambda _: second.annotation["segmentation"][0][3] > 25)
    assert chromium.execute_script(scrolled) == before
    assert second.texts(".hint")[0] == "Cross-hair at (32, 24)."  # no point is in hand any more
    second.button("undo")  # the whole drag
    assert check_annotation(second) == GIVEN
    finger(chromium, *second.on_the_page(60, 44), [])  # a new point
    WebDriverWait(chromium, 20).until(lambda _: second.says.startswith("6 points"))
    second.button("undo")
    second.button("open")
    finger(chromium, *second.on_the_page(*GIVEN[:2]), [])  # the first point closes it
    WebDriverWait(chromium, 20).until(lambda _: second.annotation)
    assert check_annotation(second) == GIVEN
    finger(chromium, *second.on_the_page(5, 44), [(0, -20 * i) for i in range(1, 6)])
    WebDriverWait(chromium, 20).until(lambda _: chromium.execute_script(scrolled) > before)
    assert check_annotation(second) == GIVEN


def test_a_button_that_can_no_longer_be_pressed_hands_the_focus_on(chromium, page):
    from selenium.webdriver import Keys

    chromium.get(page)
    second = Drawn(chromium, 1)
    for label in ("clear", "undo"):
        button = next(each for each in second.root.find_elements("css selector", "button") if each.text == label)
        button.send_keys(Keys.ENTER)
        assert not button.is_enabled()
        assert chromium.switch_to.active_element == second.svg
    assert check_annotation(second) == GIVEN


def test_what_has_the_focus_keeps_jupyterlab_from_its_shortcuts(chromium, page):
    """It looks at the focused element first: with "d" typed twice on the picture it would delete the cell."""
    from selenium.webdriver import Keys

    chromium.get(page)
    second = Drawn(chromium, 1)
    for element in (second.svg, *second.root.find_elements("css selector", "button:enabled, textarea")):
        element.send_keys(Keys.SHIFT)
        assert chromium.switch_to.active_element == element
        assert element.get_attribute("data-lm-suppress-shortcuts") == "true"


def test_without_scripts_a_picture_stands_there(chromium, page):
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    chromium.get(page)
    pictures = chromium.find_elements("css selector", "[data-touch] img")
    assert len(pictures) == 3
    assert "It has 5 points: (10.5, 8), (50, 12.2)" in pictures[1].get_attribute("alt")
    assert pictures[1].size["width"] == 480
