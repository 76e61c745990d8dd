"""Matching to be touched, in a browser: against torchvision's Matcher, by pointer and keys."""

import pytest
import torch
from test_box_dragger_browser import drag
from touch_page import Touched, write_page

from mrcnn import lab

SIZE = (9, 12)
THREE = torch.tensor([[1.0, 1, 5, 5], [6, 2, 10, 6], [0, 6, 2, 8]])
SIX = torch.tensor([[1.0, 1, 5, 5], [2, 1, 6, 5], [4, 2, 8, 6], [6, 2, 10, 5], [7, 4, 11, 8], [0, 5, 3, 8]])
CASES = 30


def random_boxes(count, random):
    """On the paper, with corners on its lines."""
    corner = torch.rand(count, 2, generator=random) * torch.tensor([SIZE[1] - 4.0, SIZE[0] - 4.0])
    side = 1 + torch.rand(count, 2, generator=random) * 3
    return torch.cat([corner.round(), corner.round() + side.round()], 1)


def random_case(number):
    """Boxes in whole squares. The first has an IoU of exactly both thresholds, and two objects that tie."""
    if number == 0:
        whole, half = torch.tensor([0.0, 0, 4, 4]), torch.tensor([0.0, 0, 4, 2])
        return torch.stack([whole, whole]), torch.stack([half, whole]), 0.5, 0.5
    random = torch.Generator().manual_seed(number)
    objects, anchors = (int(torch.randint(1, most, (), generator=random)) for most in (6, 13))
    thresholds = sorted(int(torch.randint(1, 20, (), generator=random)) / 20 for _ in range(2))
    return random_boxes(objects, random), random_boxes(anchors, random), thresholds[1], thresholds[0]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    view = lab.matching_dragger(THREE, SIX, SIZE, title="Three objects")
    return write_page(tmp_path_factory.mktemp("matching_dragger"), view, view)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    cases = [random_case(number) for number in range(CASES)]
    views = [lab.matching_dragger(objects, anchors, SIZE, high, low) for objects, anchors, high, low in cases]
    return write_page(tmp_path_factory.mktemp("many"), *views)


class Dragger(Touched):
    def handle(self, name, handle="whole box"):
        return self.one(f'[aria-label^="object {name}, {handle};"]')

    def numbers(self, attribute):
        script = (
            "const [root, name] = arguments;"
            "return [...root.querySelectorAll(`[${name}]`)].map((each) => Number(each.getAttribute(name)))"
        )
        return self.driver.execute_script(script, self.root, attribute)


def matcher(objects, anchors, high, low, low_quality):
    """torchvision's matches; an object that overlaps no anchor claims none, as with ours."""
    theirs = pytest.importorskip("torchvision.models.detection._utils", reason="torchvision is not installed")
    from torchvision.ops import box_iou

    table = box_iou(objects.double(), anchors.double())
    plain = theirs.Matcher(high, low)(table.clone())
    touched = table[table.amax(1) > 0]
    if not low_quality or not len(touched):
        return plain.tolist(), table
    saved = theirs.Matcher(2.0, 2.0, allow_low_quality_matches=True)
    saved.set_low_quality_matches_(plain, table.argmax(0), touched)
    return plain.tolist(), table


def test_random_anchors_are_matched_as_by_torchvision(chromium, many):
    chromium.get(many)
    changed = 0
    for number in range(CASES):
        case = random_case(number)
        view = Dragger(chromium, number)
        plain, table = matcher(*case, low_quality=False)
        assert view.numbers("data-match") == plain, f"case {number}"
        assert view.numbers("data-iou") == pytest.approx(table.flatten().tolist(), abs=1e-12)
        view.click("low-quality matches")
        full, _ = matcher(*case, low_quality=True)
        assert view.numbers("data-match") == full, f"case {number}, low quality"
        saved = [each.text.endswith("(saved)") for each in view.root.find_elements("css selector", "[data-anchor]")]
        assert saved == [a != b for a, b in zip(full, plain, strict=True)]
        changed += full != plain
    assert changed > CASES / 3, "the second rule has something to do"
    assert [log for log in chromium.get_log("browser") if "favicon" not in log["message"]] == []


def test_keys_move_objects_and_thresholds(chromium, page):
    from selenium.webdriver import Keys

    chromium.get(page)
    first = Dragger(chromium, 0)
    assert first.says == "A has anchor 0, B has anchor 3, C has none. Background: 4. Ignored: 1, 2, 5."
    first.handle("B").send_keys(Keys.ARROW_DOWN)
    moved = THREE + torch.tensor([[0.0] * 4, [0, 0.5, 0, 0.5], [0] * 4])
    assert first.numbers("data-match") == matcher(moved, SIX, 0.7, 0.3, False)[0]
    for _ in range(10):
        first.one('[aria-label="threshold high"]').send_keys(Keys.ARROW_LEFT)
    assert [first.one(f'[data-value="{name}"]').text for name in ("high", "low")] == ["high 0.20", "low 0.20"]
    assert first.numbers("data-match") == matcher(moved, SIX, 0.2, 0.2, False)[0]
    assert Dragger(chromium, 1).says.startswith("A has anchor 0, B has anchor 3, C has none.")
    second = Dragger(chromium, 1)
    second.click("low-quality matches")
    assert second.says.startswith("A has anchor 0, B has anchor 3, C has anchor 5.")


def test_pointer(chromium, page):
    chromium.get(page)
    first = Dragger(chromium, 0)
    square = chromium.execute_script("return arguments[0].getScreenCTM().a", first.handle("A"))
    drag(chromium, first.handle("A"), round(square), 0)
    assert first.numbers("data-match")[:2] == [-2, 0], "onto anchor 1"
    first.click("start again")
    assert first.numbers("data-match")[:2] == [0, -2]


def test_what_cannot_be_shown_is_told():
    with pytest.raises(ValueError, match="1 to 7 objects on the paper, 12 x 9"):
        lab.matching_dragger(THREE + 8, SIX, SIZE)
    with pytest.raises(ValueError, match="1 to 7 objects"):
        lab.matching_dragger(THREE[:0], SIX, SIZE)
