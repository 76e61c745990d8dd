"""The keypoints to drag, in a browser: by pointer, finger and keys, beside others, narrow, and without scripts."""

import json

import pytest
import torch
from pycocotools.cocoeval import COCOeval, Params
from touch_page import finger, touch_screen, write_page

from mrcnn import lab
from mrcnn.data import Playground

PLAY = Playground(1)
NAMES, PARTNER = PLAY.keypoint_names, PLAY.keypoint_flip
SIGMAS = torch.tensor(Params("keypoints").kpt_oks_sigmas)
AREA = 1800.0
HIDDEN = 9  # the keypoint that does not count
MARGIN = 0.0005001  # of a number with three digits


def body():
    """Seventeen true keypoints (17, 3), no two at one place, and those found (17, 2)."""
    rows = torch.arange(17)
    truth = torch.stack([30.0 + 22 * (rows % 3), 14.0 + 6 * rows, torch.full((17,), 2)], dim=1)
    truth[HIDDEN] = 0
    found = truth[:, :2] + torch.stack([rows % 4 - 1.5, rows % 3 - 1.0], dim=1)
    found[HIDDEN] = torch.tensor([100.0, 20])
    return truth, found


def by_pycocotools(truth, found):
    """OKS, by pycocotools' own function."""
    judge = COCOeval(iouType="keypoints")
    one = {"area": AREA, "bbox": [0, 0, 128, 128]}
    judge._gts = {(0, 1): [one | {"keypoints": truth.flatten().tolist()}]}
    points = torch.cat([found, torch.ones(17, 1)], dim=1)
    judge._dts = {(0, 1): [one | {"keypoints": points.flatten().tolist(), "score": 1.0}]}
    return float(judge.computeOks(0, 1)[0, 0])


def view(**more):
    truth, found = body()
    image, _ = PLAY[0]
    options = {"partner": PARTNER, "skeleton": PLAY.skeleton} | more
    return lab.keypoint_dragger(image, truth, found, AREA, NAMES, SIGMAS, **options)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The address of a page with the same view twice, and another without partners and bones."""
    same, plain = view(title="A person"), view(partner=(), skeleton=())
    return write_page(tmp_path_factory.mktemp("keypoint_dragger"), same, same, plain)


class Dragger:
    """One of the views on the page."""

    def __init__(self, driver, number):
        self.driver = driver
        self.root = driver.find_elements("css selector", "[data-touch]")[number]

    def handle(self, j):
        return self.root.find_element("css selector", f'[data-handle="{NAMES[j].replace("_", " ")}"]')

    def value(self, name):
        return self.root.find_element("css selector", f'[data-value="{name.replace("_", " ")}"]').text

    @property
    def says(self):
        return self.root.find_element("css selector", "[aria-live=polite]").text

    @property
    def points(self):
        return torch.tensor(
            [[float(self.handle(j).get_attribute(name)) for name in ("cx", "cy")] for j in range(17)],
            dtype=torch.float64,
        )

    @property
    def pixel(self):
        """How wide a pixel of the picture is on the page."""
        return self.driver.execute_script("return arguments[0].getScreenCTM().a", self.handle(0))

    def assert_true(self, found):
        """The keypoints are where they should be, and the numbers are pycocotools', to the digits that are shown."""
        truth, _ = body()
        assert self.points.flatten().tolist() == pytest.approx(found.flatten().tolist())
        assert float(self.value("OKS")) == pytest.approx(by_pycocotools(truth, found), abs=MARGIN)
        assert self.says.endswith(f"OKS {self.value('OKS')}.")
        for j, name in enumerate(NAMES):
            if j == HIDDEN:
                assert self.value(name) == "not counted"
                continue
            alone = truth * 1
            alone[torch.arange(17) != j, 2] = 0  # only this one counts
            assert float(self.value(name)) == pytest.approx(by_pycocotools(alone, found), abs=MARGIN)


def test_at_the_start(chromium, page):
    chromium.get(page)
    for number in range(3):
        Dragger(chromium, number).assert_true(body()[1])
    assert chromium.find_elements("css selector", "[data-touch] figure.still") == []
    circle = chromium.find_element("css selector", '[data-circle="left hip"].over')
    assert float(circle.get_attribute("r")) == pytest.approx(float(2 * SIGMAS[11]) * AREA**0.5)
    assert chromium.find_elements("css selector", '[data-circle="left wrist"]') == []


def test_keys(chromium, page):
    from selenium.webdriver import Keys

    chromium.get(page)
    first, found = Dragger(chromium, 0), body()[1]
    for key in (Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.SHIFT + Keys.ARROW_DOWN):
        first.handle(11).send_keys(key)
    found[11] += torch.tensor([-2, 10])
    first.assert_true(found)
    assert first.says.startswith("left hip: ")
    for _ in range(2):
        first.handle(0).send_keys(Keys.SHIFT + Keys.ARROW_UP)
    found[0, 1] = 0  # not out of the picture
    first.assert_true(found)
    first.handle(0).send_keys(Keys.CONTROL + Keys.ARROW_LEFT, Keys.PAGE_DOWN, "x")
    first.assert_true(found)
    Dragger(chromium, 1).assert_true(body()[1])  # the others stand where they stood
    assert [log for log in chromium.get_log("browser") if "favicon" not in log["message"]] == []


def test_tab_goes_through_the_keypoints(chromium, page):
    from selenium.webdriver import ActionChains, Keys

    chromium.get(page)
    names = []
    for _ in range(17):
        ActionChains(chromium).send_keys(Keys.TAB).perform()
        names.append(chromium.switch_to.active_element.get_attribute("data-handle"))
    assert names == [name.replace("_", " ") for name in NAMES]
    look = "return getComputedStyle(arguments[0]).stroke"
    first = Dragger(chromium, 0)
    there, elsewhere = (chromium.execute_script(look, first.handle(j)) for j in (16, 0))
    assert there != elsewhere  # one sees where one is
    assert len(first.root.find_elements("css selector", "dl .at")) == 1


def test_pointer(chromium, page):
    from selenium.webdriver import ActionChains

    chromium.get(page)
    second, found = Dragger(chromium, 1), body()[1]
    right, down = round(9 * second.pixel), round(-7 * second.pixel)
    drag = ActionChains(chromium).move_to_element(second.handle(13)).click_and_hold()
    drag.move_by_offset(right - 3, down).move_by_offset(3, 0).release().perform()
    found[13] += torch.tensor([9, -7])
    second.assert_true(found)
    ActionChains(chromium).move_by_offset(20, 20).perform()
    second.assert_true(found)  # nothing is held any more


def test_finger(chromium, page):
    """On a touch screen a keypoint follows, and the page stands still."""
    from selenium.webdriver.support.wait import WebDriverWait

    touch_screen(chromium)
    chromium.get(page)
    first, found = Dragger(chromium, 0), body()[1]
    middle = "const r = arguments[0].getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]"
    finger(chromium, *chromium.execute_script(middle, first.handle(5)), [(15, 15), (30, 30)])
    found[5] += round(30 / first.pixel)
    WebDriverWait(chromium, 20).until(
        lambda _: first.points[5, 0] == found[5, 0]
    )  # the page hears of it a moment later
    first.assert_true(found)
    assert chromium.execute_script("return window.scrollY") == 0


def test_buttons(chromium, page):
    chromium.get(page)
    first, (truth, found) = Dragger(chromium, 0), body()
    again, onto, swap = first.root.find_elements("css selector", "button")
    swap.click()
    first.assert_true(found[PARTNER])
    onto.click()
    best = torch.where(truth[:, 2:] > 0, truth[:, :2], found[PARTNER])
    first.assert_true(best)
    assert first.value("OKS") == "1.000"
    again.click()
    first.assert_true(found)
    assert len(Dragger(chromium, 2).root.find_elements("css selector", "button")) == 2


def test_without_scripts_a_picture_stands_there(chromium, page):
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    chromium.get(page)
    pictures = chromium.find_elements("css selector", "[data-touch] img")
    assert len(pictures) == 3
    assert f"OKS {by_pycocotools(*body()):.3f}" in pictures[0].get_attribute("alt")
    assert pictures[0].size["width"] > 300  # it is drawn: a broken one is small


def test_what_it_is_made_of():
    truth, found = body()
    image = torch.zeros(3, 64, 96, dtype=torch.uint8)
    made = lab.keypoint_dragger(image, truth, found, AREA, NAMES, SIGMAS)
    assert made.data["size"] == [96, 64]
    assert json.loads(json.dumps(made.data)) == made.data
    assert f"OKS {by_pycocotools(truth, found):.3f}" in made.description
    assert "left wrist does not count" in made.description
    with pytest.raises(ValueError, match="expected 16 keypoints"):
        lab.keypoint_dragger(image, truth, found, AREA, NAMES[:16], SIGMAS)
    with pytest.raises(ValueError, match="got an area of 0"):
        lab.keypoint_dragger(image, truth, found, 0, NAMES, SIGMAS)
    with pytest.raises(ValueError, match="a keypoint with v > 0"):
        lab.keypoint_dragger(image, truth * 0, found, AREA, NAMES, SIGMAS)
