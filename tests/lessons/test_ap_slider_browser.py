"""The two sliders over masks and AP, in a browser: against pycocotools, by keys, and in words."""

import pytest
import torch
from touch_page import Touched, write_page

from mrcnn import lab
from mrcnn.lab import by_pycocotools
from mrcnn.lab.views.ap_slider import LEVELS, POINTS

CASES = 12
HEIGHT, WIDTH = 20, 26
SLID = ((0.05, 0.5), (0.5, 0.75), (0.5, 0.95), (0.85, 0.6))  # thresholds of a pixel and of a match


def random_case(number):
    """One to three pictures with up to four objects and six detections, most near an object, many scores alike."""
    random = torch.Generator().manual_seed(number)

    def whole(low, high):
        return int(torch.randint(low, high, (), generator=random))

    def rectangle(near=None):
        x, y, width, height = near or (whole(0, 15), whole(0, 11), whole(2, 10), whole(2, 8))
        return (x + whole(0, 2), y, width, height) if near else (x, y, width, height)

    def painted(place, values):
        mask = torch.zeros(HEIGHT, WIDTH)
        x, y, width, height = place
        mask[y : y + height, x : x + width] = values[y : y + height, x : x + width]
        return mask

    pictures = []
    for _ in range(whole(1, 4)):
        objects = [rectangle() for _ in range(whole(0, 5))]
        places = [
            rectangle(objects[whole(0, len(objects))] if objects and whole(0, 4) else None) for _ in range(whole(0, 7))
        ]
        truth = [painted(place, torch.ones(HEIGHT, WIDTH)) for place in objects]
        masks = [painted(place, 0.4 + 0.6 * torch.rand(HEIGHT, WIDTH, generator=random)) for place in places]
        scores = torch.randint(1, 8, (len(places),), generator=random) / 8
        stack = [torch.stack(some) if some else torch.zeros(0, HEIGHT, WIDTH) for some in (truth, masks)]
        pictures.append(((scores, stack[1]), stack[0].bool()))
    found, truths = map(list, zip(*pictures, strict=True))
    if not sum(map(len, truths)):
        truths[0] = torch.ones(1, HEIGHT, WIDTH).bool()
    return found, truths


def view_of(found, truths):
    return lab.ap_slider([torch.zeros(3, HEIGHT, WIDTH).byte()] * len(found), found, truths)


def by_pycocotools_alone(found, truths, pixel, match):
    """Per detection, the best first: its largest IoU, and whether it is right; and AP at the ten levels."""
    pictures, rows = [], []
    for (scores, masks), truth in zip(found, truths, strict=True):
        order = scores.argsort(descending=True, stable=True)
        kept = (masks[order] * 255).round() > pixel * 255
        ious = by_pycocotools.mask_ious(kept, truth)
        pictures.append((scores[order], ious))
        finds = by_pycocotools.matches(ious, match)
        rows += [
            (score, max([0.0, *row]), find >= 0)
            for score, row, find in zip(scores[order].tolist(), ious.tolist(), finds, strict=True)
        ]
    rows.sort(key=lambda row: -row[0])
    levels = [by_pycocotools.precisions(pictures, level, POINTS).mean().item() for level in LEVELS]
    return [row[1] for row in rows], [row[2] for row in rows], levels


class Slider(Touched):
    def slide(self, pixel, match):
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
        for slider, value in zip(self.root.find_elements("css selector", "input"), (pixel, match), strict=True):
            self.driver.execute_script(script, slider, value)

    def read(self):
        """Of each detection the IoU and whether it is right, and AP at ten levels."""
        return self.driver.execute_script(
            """const from = (selector, value) => [...arguments[0].querySelectorAll(selector)].map(value);
            return [from("li", (each) => Number(each.dataset.iou)), from("li", (each) => each.className === "right"),
              from("[data-ap]", (each) => Number(each.dataset.ap))]""",
            self.root,
        )  # fmt: skip


def test_random_cases_against_pycocotools(chromium, tmp_path):
    """IoUs and who is right exactly; AP but for the order of a sum of 101 numbers."""
    cases = [random_case(number) for number in range(CASES)]
    chromium.get(write_page(tmp_path, *(view_of(*case) for case in cases)))
    told = []
    for number, case in enumerate(cases):
        view = Slider(chromium, number)
        for thresholds in SLID:
            view.slide(*thresholds)
            ious, right, levels = by_pycocotools_alone(*case, *thresholds)
            found = view.read()
            assert found[0] == ious, f"case {number}"
            assert found[1] == right, f"case {number}"
            assert found[2] == pytest.approx(levels, abs=1e-12), f"case {number}"
            told += [*zip(right, ious, strict=True)]
    assert sum(right for right, _ in told) > 2 * CASES, "much is right"
    assert sum(not right and iou > 0.5 for right, iou in told) > 2 * CASES, "and much is nearly so"
    assert [log for log in chromium.get_log("browser") if "favicon" not in log["message"]] == []


def two_pictures():
    """A mask that shrinks to its object as the threshold rises, and a false one of a higher score."""
    truth = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    truth[0, 4:14, 4:14] = True
    wide = torch.zeros(1, HEIGHT, WIDTH)
    wide[0, 4:14, 4:24] = 0.4
    wide[0, 4:14, 4:14] = 0.8
    nothing = torch.zeros(0, HEIGHT, WIDTH, dtype=torch.bool)
    found = [(torch.tensor([0.5]), wide), (torch.tensor([0.9]), wide)]
    return view_of(found, [truth, nothing])


def test_keys(chromium, tmp_path):
    from selenium.webdriver import Keys

    chromium.get(write_page(tmp_path, two_pictures(), two_pictures()))
    first, second = Slider(chromium, 0), Slider(chromium, 1)
    start = (
        "Pixels above 0.50, right from an IoU of 0.75: 1 of 2 detections are right, of 1 objects; AP there 0.500. "
        "AP50 0.500, AP75 0.500, AP 0.500."
    )
    assert first.says == start
    assert [each.text for each in first.root.find_elements("css selector", "li")] == ["1 ✗ 0.00", "2 ✓ 1.00"]
    pixel, match = first.root.find_elements("css selector", "input")
    for _ in range(3):
        pixel.send_keys(Keys.ARROW_LEFT)  # 0.35: the mask is twice as large as its object
    assert first.says.startswith("Pixels above 0.35, right from an IoU of 0.75: 0 of 2 detections are right")
    assert first.says.endswith("AP50 0.500, AP75 0.000, AP 0.050.")
    match.send_keys(Keys.HOME)
    assert "right from an IoU of 0.50: 1 of 2 detections are right" in first.says
    path = "return arguments[0].querySelector('.filling.right').getBBox().width"
    assert chromium.execute_script(path, first.root) == 20
    assert second.says == start, "the other stands where it stood"
    first.click("start again")
    assert first.says == start
    assert chromium.execute_script(path, first.root) == 10


IN_UNITS = """
const [root] = arguments;
const boxOf = (each) => ["x", "y", "width", "height"].map((name) => each.getBBox()[name]);
const charts = [...root.querySelectorAll(".chart")].map((svg) => {
  const [zero, , one] = [...svg.querySelectorAll(".rule")];
  const [left, right, bottom, top] = [zero.x1, zero.x2, zero.y1, one.y1].map((each) => each.baseVal.value);
  return { svg, unit: (x, y) => [(x - left) / (right - left), (bottom - y) / (bottom - top)] };
});
const points = (name) => [...charts[0].svg.querySelector(name).points].map(({ x, y }) => charts[0].unit(x, y));
const middle = ([x, y, width, height]) => charts[0].unit(x + width / 2, y + height / 2);
const dots = [...charts[0].svg.querySelectorAll(".dot")].map((dot) => middle(boxOf(dot)));
const bars = [...charts[1].svg.querySelectorAll(".level")].map((bar) => charts[1].unit(0, boxOf(bar)[1])[1]);
const average = charts[1].unit(0, charts[1].svg.querySelector(".average").y1.baseVal.value)[1];
return { line: points(".line"), read: points(".read"), dots, bars, average,
  masks: [".filling.right", ".filling.false", ".truth.over"].map((name) => boxOf(root.querySelector(name))) };
"""


def test_where_everything_is_drawn(chromium, tmp_path):
    """The masks in pixels of their picture, the curve and the bars in units of their axes."""
    chromium.get(write_page(tmp_path, two_pictures()))
    drawn = chromium.execute_script(IN_UNITS, Slider(chromium).root)
    assert drawn["masks"] == [[4, 4, 10, 10]] * 3
    assert drawn["line"] == [pytest.approx(point, abs=1e-6) for point in ([0, 0], [1, 0.5])]
    assert drawn["dots"] == [pytest.approx(point, abs=1e-6) for point in drawn["line"]]
    assert drawn["read"] == [pytest.approx([i / 100, 0.5], abs=1e-6) for i in range(101)]
    assert drawn["bars"] == pytest.approx([0.5] * 10, abs=1e-6)
    assert drawn["average"] == pytest.approx(0.5, abs=1e-6)


def test_in_words():
    view = two_pictures()
    assert (
        "Pixels above 0.30, right from an IoU of 0.75: 0 of 2 detections are right, of 1 objects. AP50 0.500"
        in view.description
    )
    assert "Pixels above 0.50, right from an IoU of 0.75: 1 of 2 detections are right" in view.still.description
    truth = torch.zeros(1, HEIGHT, WIDTH).bool()
    with pytest.raises(ValueError, match="true masks, each with a pixel"):
        view_of([(torch.zeros(0), torch.zeros(0, HEIGHT, WIDTH))], [truth])
    with pytest.raises(ValueError, match="true masks, each with a pixel"):
        view_of([(torch.zeros(0), torch.zeros(0, HEIGHT, WIDTH))], [truth[:0]])
