"""The stepper on a page, in a browser: played with keys and buttons, beside others, narrow, and without scripts."""

import pytest
import torch
from test_stepper import PROGRAM, trace
from touch_page import write_page

from mrcnn import lab


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The address of a page with two steppers, the first with two runs, and the second once more."""
    first = lab.stepper({"with": trace("swap"), "without": trace("swap_too_soon")}, "Two numbers")
    boxes = torch.tensor([[0.0, 0, 2, 3], [1, 1, 2, 2]])
    areas = PROGRAM.trace("areas", 1, 2, boxes, torch.zeros(2), torch.zeros(1, dtype=torch.int32))
    second = lab.stepper({"areas": areas})
    return write_page(tmp_path_factory.mktemp("stepper"), first, second, second)


class Played:
    """A stepper on the page."""

    def __init__(self, driver, number):
        self.driver, self.number = driver, number
        self.root = driver.find_elements("css selector", "[data-touch]")[number]

    def texts(self, selector):
        script = "return [...arguments[0].querySelectorAll(arguments[1])].map((each) => each.textContent)"
        return self.driver.execute_script(script, self.root, selector)

    def press(self, *keys):
        for key in keys:
            self.root.send_keys(key)

    def click(self, label):
        next(each for each in self.root.find_elements("css selector", "button") if label in each.text).click()

    @property
    def says(self):
        return self.texts("[aria-live=polite]")[0]

    def cell(self, name):
        return self.root.find_element("css selector", f'[data-cell="{name}"]')


def test_keys_step_forwards_and_back(chromium, page):
    from selenium.webdriver import Keys

    chromium.get(page)
    first = Played(chromium, 0)
    assert first.says == "Step 0 of 11: nothing has happened yet."
    assert first.texts(".now") == []
    first.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert first.says == "Step 2 of 11: thread 0 writes tile[0], 3, line 4."
    assert first.root.find_element("css selector", ".code .now").get_attribute("data-line") == "4"
    assert "▶" in first.texts(".code .now")[0]
    assert first.texts(".threads .now .state") == ["writes tile[0], 3"]
    assert first.cell("tile[0]").text.split() == ["[0]", "3", "▶W0"]
    assert first.cell("tile[1]").text.split() == ["[1]", "?"]
    first.press(Keys.ARROW_RIGHT)
    assert first.says == "Step 3 of 11: thread 0 waits at the barrier, line 5."
    assert first.texts(".threads .state")[0] == "waits, line 5"
    assert first.cell("tile[0]").text.split() == ["[0]", "3", "W0"]
    first.press(*[Keys.ARROW_LEFT] * 2)
    assert first.says == "Step 1 of 11: thread 0 reads x[0], 1.5, line 4."
    assert first.cell("tile[0]").text.split() == ["[0]", "?"]  # unwritten again
    first.press(Keys.END)
    assert first.says.endswith("The end. The trace has found nothing wrong.")
    assert first.texts(".threads .state") == ["writes y[0], 8; done", "writes y[1], 3; done"]
    first.press(Keys.ARROW_RIGHT)
    assert first.says.startswith("Step 11 of 11")
    first.press(Keys.HOME, Keys.ARROW_LEFT)
    assert first.says.startswith("Step 0 of 11")
    assert [Played(chromium, i).says[:6] for i in (1, 2)] == ["Step 0"] * 2  # the others stand where they stood
    assert [log for log in chromium.get_log("browser") if "favicon" not in log["message"]] == []


def test_slider_and_buttons(chromium, page):
    from selenium.webdriver import Keys

    chromium.get(page)
    second = Played(chromium, 1)
    slider = second.root.find_element("css selector", "input[type=range]")
    slider.send_keys(Keys.ARROW_RIGHT)
    assert second.says.startswith("Step 1 of")  # one step, not one of the slider's and one of ours
    assert slider.get_attribute("aria-valuetext").startswith("step 1 of")
    chromium.execute_script("arguments[0].value = 5; arguments[0].dispatchEvent(new Event('input'))", slider)
    assert second.says.startswith("Step 5 of")
    second.click("back")
    second.click("back")
    assert second.says.startswith("Step 3 of")
    second.click("step")
    assert second.says.startswith("Step 4 of")
    assert Played(chromium, 2).says.startswith("Step 0 of")  # the same one, twice on a page


def test_one_that_comes_later_disturbs_nobody(chromium, page):
    """As a notebook shows its outputs: the elements first, then their scripts, one by one."""
    from selenium.webdriver import Keys

    chromium.get(page)
    Played(chromium, 1).press(Keys.ARROW_RIGHT)
    first, second = (lab.stepper({name: trace(name)}).html() for name in ("swap", "swap_too_soon"))
    chromium.execute_script(
        """const [first, second] = arguments;
        document.body.insertAdjacentHTML("beforeend", first + second);
        const scripts = [...document.querySelectorAll("script")];
        const again = (script) => {
          const fresh = document.createElement("script");
          fresh.textContent = script.textContent;
          script.replaceWith(fresh);
        };
        again(scripts[1]);  // that of the one that has made a step
        again(scripts.at(-1));""",
        first,
        second,
    )
    assert Played(chromium, 1).says.startswith("Step 1 of")
    assert Played(chromium, 4).says.startswith("Step 0 of 8")
    assert Played(chromium, 3).texts("[aria-live]") == []  # its script has not run
    assert len(Played(chromium, 3).texts("figure.still")) == 1


def test_another_run_and_its_race(chromium, page):
    chromium.get(page)
    first = Played(chromium, 0)
    to_race = next(each for each in first.root.find_elements("css selector", "button") if "race" in each.text)
    assert not to_race.is_enabled()  # this run has none
    first.click("without")
    pressed = "button[aria-pressed=true]"
    assert first.texts(pressed) == ["without"]
    first.click("next race")
    assert first.says == (
        "Step 6 of 8: thread 1 writes tile[1], 8, line 11. ✗ Race: thread 0 read tile[1] too (line 12, step 3), "
        "with no wait between. Which comes first is chance."
    )
    assert first.cell("tile[1]").text.split() == ["[1]", "8", "✗R0", "W1"]
    assert first.texts(".code .now")[0].split()[:2] == ["▶", "11"]
    first.click("next race")
    assert first.says.startswith("Step 7 of 8")
    first.click("next race")
    assert first.says.startswith("Step 6 of 8")  # from the last on to the first


def test_without_scripts_a_picture_stands_there(chromium, page):
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    chromium.get(page)
    pictures = chromium.find_elements("css selector", "[data-touch] img")
    assert len(pictures) == 3
    alt = pictures[0].get_attribute("alt")
    assert "with: 11 steps of 2 threads (reads: 4, writes: 4, barriers passed: 1)" in alt
    assert pictures[0].size["width"] > 300  # it is drawn: a broken one is small
    assert (
        "thread 1, line 11, and thread 0, line 12, both use tile[1]" in chromium.find_element("tag name", "body").text
    )
