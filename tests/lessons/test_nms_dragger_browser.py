"""NMS to be touched, in a browser: against torchvision's and a loop, by pointer and keys."""

import math

import pytest
import torch
from test_box_dragger_browser import drag
from touch_page import Touched, write_page

from mrcnn import lab

SIZE = (80, 90)
FIVE = torch.tensor([[10.0, 20, 50, 60], [20, 22, 60, 62], [30, 20, 70, 60], [14, 38, 30, 56], [34, 26, 74, 66]])
SCORES = torch.tensor([0.95, 0.90, 0.80, 0.70, 0.60])
CASES = 30


def random_case(number):
    """Two to twelve boxes in whole pixels, many of them alike, with scores in twentieths, and a threshold in twentieths
    too: there are equal scores, and pairs with exactly this IoU."""
    random = torch.Generator().manual_seed(number)
    count = 2 + int(torch.randint(11, (), generator=random))
    corner = torch.randint(0, 30, (count, 2), generator=random)
    side = torch.randint(10, 40, (count, 2), generator=random) // 10 * 10
    boxes = torch.cat([corner // 5 * 5, corner // 5 * 5 + side], 1).float()
    scores = torch.randint(1, 20, (count,), generator=random) / 20
    return boxes, scores, int(torch.randint(2, 16, (), generator=random)) / 20


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    view = lab.nms_dragger(FIVE, SCORES, SIZE, title="Five boxes")
    return write_page(tmp_path_factory.mktemp("nms_dragger"), view, view)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    cases = [random_case(number) for number in range(CASES)]
    views = [lab.nms_dragger(boxes, scores, SIZE, threshold) for boxes, scores, threshold in cases]
    return write_page(tmp_path_factory.mktemp("many"), *views)


class Dragger(Touched):
    def handle(self, box, handle="whole box"):
        return self.root.find_element("css selector", f'[aria-label^="{box}, {handle};"]')

    def told(self, attribute):
        """What the table says of each box, by name."""
        script = (
            "return Object.fromEntries([...arguments[0].querySelectorAll('[data-fate]')]"
            ".map((e) => [e.dataset.fate, e.getAttribute(arguments[1])]))"
        )
        return self.driver.execute_script(script, self.root, attribute)

    @property
    def kept(self):
        return {name for name, value in self.told("data-kept").items() if value == "true"}


def letters(rows):
    return {chr(ord("A") + row) for row in rows}


def iou(a, b):
    width, height = (max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def suppressors(boxes, kept, threshold):
    """For each box the best of the kept ones (which are sorted) that overlaps it by more than the threshold."""
    found = {}
    for row, box in enumerate(boxes):
        better = [] if row in kept else [by for by in kept if iou(boxes[by], box) > threshold]
        found[chr(ord("A") + row)] = chr(ord("A") + better[0]) if better else ""
    return found


def softly(boxes, scores, sigma):
    """Soft-NMS in plain loops."""
    rows, lowered, left = boxes.tolist(), scores.double().tolist(), list(range(len(boxes)))
    while left:
        best = max(left, key=lambda row: (lowered[row], -row))
        left.remove(best)
        for row in left:
            lowered[row] *= math.exp(-(iou(rows[best], rows[row]) ** 2) / sigma)
    return lowered


def test_random_boxes_are_kept_as_by_torchvision(chromium, many):
    theirs = pytest.importorskip("torchvision.ops", reason="torchvision, the yardstick, is not installed")
    chromium.get(many)
    gone = 0
    for number in range(CASES):
        boxes, scores, threshold = random_case(number)
        view = Dragger(chromium, number)
        kept = theirs.nms(boxes.double(), scores.double(), threshold).tolist()
        gone += len(boxes) - len(kept)
        assert view.kept == letters(kept), f"case {number}"
        assert view.told("data-by") == suppressors(boxes.tolist(), kept, threshold), f"case {number}"
        view.click("Soft-NMS")
        found = [float(score) for _, score in sorted(view.told("data-score").items())]
        assert found == pytest.approx(softly(boxes, scores, 0.5), abs=1e-9), f"case {number}"
    assert gone > 2 * CASES, "there is much to suppress"
    assert [log for log in chromium.get_log("browser") if "favicon" not in log["message"]] == []


def test_at_the_start_it_says_who_suppresses_whom(chromium, page):
    chromium.get(page)
    assert Dragger(chromium, 0).says == "Kept: A, C, D. B is suppressed by A, IoU 0.55. E is suppressed by C, IoU 0.62."


def test_keys_move_boxes_and_the_threshold(chromium, page):
    from selenium.webdriver import Keys

    chromium.get(page)
    first = Dragger(chromium, 0)
    first.handle("B").send_keys(Keys.SHIFT + Keys.ARROW_RIGHT)  # away from A, onto C
    assert "B is suppressed by A" not in first.says
    assert "C is suppressed by B, IoU 0.90." in first.says
    slider = first.root.find_element("css selector", "input")
    for _ in range(42):
        slider.send_keys(Keys.ARROW_RIGHT)
    assert first.root.find_element("css selector", "[data-value]").text == "IoU threshold 0.92"
    assert first.kept == set("ABCDE")
    assert Dragger(chromium, 1).kept == set("ACD"), "the other stands where it stood"
    first.click("start again")
    first.click("Soft-NMS")
    assert first.root.find_element("css selector", "[data-value]").text == "sigma 0.50"
    assert first.says.startswith("Soft-NMS keeps all, with scores A 0.95, B ")


def test_pointer(chromium, page):
    chromium.get(page)
    first = Dragger(chromium, 0)
    pixel = chromium.execute_script("return arguments[0].getScreenCTM().a", first.handle("D"))
    drag(chromium, first.handle("E", "bottom right corner"), round(-20 * pixel), round(-20 * pixel))
    assert first.kept == set("ACDE"), "made smaller, E is another box than C"


def test_what_cannot_be_shown_is_told():
    with pytest.raises(ValueError, match="at most 12 boxes, got 15"):
        lab.nms_dragger(FIVE.repeat(3, 1), SCORES.repeat(3), SIZE)
    with pytest.raises(ValueError, match="lie on the paper, 90 x 80 pixels"):
        lab.nms_dragger(FIVE + 40, SCORES, SIZE)
