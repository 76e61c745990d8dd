"""The site in a browser: every page, wide and narrow; what folds, moves and is found; without scripts; in the dark."""

import pytest
from browser import resize
from html_page import ROOT

STEPPER = "lessons/04k_matching_kernels/lesson.html"
TOUCHED = {  # {page: how many views can be touched there}
    f"lessons/{file.parent.name}/lesson.html": count
    for file in sorted(ROOT.glob("lessons/*/lesson.ipynb"))
    if (count := file.read_text().count('<figure class=\\"still\\">'))
}


def overhang(driver):
    """By how many pixels a page is wider than its window."""
    layout = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})
    return layout["cssContentSize"]["width"] - layout["cssLayoutViewport"]["clientWidth"]


@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_fits_the_window_and_has_no_error(site, address, chromium, width):
    resize(chromium, width)
    wrong = []
    for page in sorted(str(file.relative_to(site)) for file in site.rglob("*.html")):
        chromium.get(address + page)
        if (beside := overhang(chromium)) > 0:
            wrong.append(f"{page}: {beside} pixels too wide")
        wrong += [f"{page}: {log['message']}" for log in chromium.get_log("browser")]
    assert wrong == []


def test_nothing_is_asked_of_another_host(address, chromium):
    for page in ("index.html", STEPPER, "api/ops.html", "search.html?q=anchor"):
        chromium.get(address + page)
        asked = chromium.execute_script("return performance.getEntriesByType('resource').map((each) => each.name)")
        assert asked != []
        assert [each for each in asked if not each.startswith((address, "data:"))] == []


def test_a_solution_is_folded_and_opens_by_the_keyboard(address, chromium):
    chromium.get(address + STEPPER)
    solution = chromium.find_element("xpath", "//details[starts-with(summary, 'Solution')]")
    code = solution.find_element("css selector", "pre")
    assert not code.is_displayed()
    solution.find_element("css selector", "summary").send_keys("\n")
    assert code.is_displayed()
    assert code.text.strip() != ""


@pytest.mark.parametrize("page", TOUCHED)
def test_views_have_started_and_their_still_pictures_are_gone(address, chromium, page):
    chromium.get(address + page)
    views = chromium.find_elements("css selector", ".touch")
    assert len(views) == TOUCHED[page]
    for view in views:
        assert view.find_elements("css selector", "button, input, [tabindex='0']") != []
        assert view.find_elements("css selector", "figure.still") == []


def test_the_stepper_follows_the_arrow_keys(address, chromium):
    chromium.get(address + STEPPER)
    view = chromium.find_element("css selector", ".stepper")
    says = view.find_element("css selector", "[aria-live=polite]")
    assert says.text.startswith("Step 0 of ")
    view.send_keys("\ue014\ue014\ue012")  # right, right, left
    assert says.text.startswith("Step 1 of ")


def test_without_scripts_there_are_words_pictures_and_a_way_on(address, chromium):
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    for width in (1280, 390):
        resize(chromium, width)
        for page, count in TOUCHED.items():
            chromium.get(address + page)
            assert chromium.find_element("css selector", "h1").is_displayed()
            stills = chromium.find_elements("css selector", ".touch figure.still img")
            assert len(stills) == count
            for still in stills:
                assert still.is_displayed()
                assert int(still.get_property("naturalWidth")) > 100
                assert still.get_attribute("alt")
            assert chromium.find_element("css selector", "a.next-page").is_displayed()
            assert overhang(chromium) <= 0


def test_all_pictures_come(address, chromium):
    for name in sorted(file.parent.name for file in ROOT.glob("lessons/*/lesson.ipynb")):
        chromium.get(f"{address}lessons/{name}/lesson.html")
        widths = chromium.execute_script("return [...document.images].map((each) => each.naturalWidth)")
        assert min(widths) > 0


def test_search_finds_a_lesson(address, chromium):
    from selenium.webdriver.support.ui import WebDriverWait

    chromium.get(address + "index.html")
    chromium.find_element("css selector", ".sidebar-search").send_keys("suppression\n")
    found = WebDriverWait(chromium, 60).until(lambda driver: driver.find_elements("css selector", "ul.search li a"))
    assert any("lessons/06_non_maximum_suppression/lesson.html" in each.get_attribute("href") for each in found)


def test_dark_where_the_reader_wants_it(address, chromium):
    def background(scheme):
        wanted = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
        chromium.get(address + "index.html")
        colour = chromium.execute_script("return getComputedStyle(document.body).backgroundColor")
        return sum(map(int, colour.strip("rgb()").split(",")))

    assert background("light") > 700
    assert background("dark") < 100


def test_what_scrolls_sideways_is_reached_by_the_keyboard(address, chromium):
    resize(chromium, 390)
    chromium.get(address + STEPPER)
    stops = chromium.execute_script("""
        const parts = [...document.querySelectorAll("article *")].filter(
          (each) => each.clientWidth && !each.closest(".touch") && getComputedStyle(each).overflowX === "auto");
        return parts.map((each) => [each.tagName, each.scrollWidth > each.clientWidth, each.tabIndex])""")
    assert {(tag, scrolls) for tag, scrolls, _ in stops} >= {("DIV", True), ("PRE", True), ("PRE", False)}
    assert [(tag, scrolls, stop) for tag, scrolls, stop in stops if scrolls != (stop == 0)] == []
