"""The page on a telephone, without scripts, and as axe-core sees it."""

import axe
import pytest
from served import wait
from try_page import choose, one, opened

IN_VIEW = "const { top, bottom } = arguments[0].getBoundingClientRect(); return top >= 0 && bottom <= innerHeight"


@pytest.mark.parametrize("scripts", [True, False])
def test_a_narrow_page_does_not_scroll_sideways(chromium, plain_server, scripts):
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
    try:
        if scripts:
            opened(chromium, plain_server)
            choose(chromium, 0)
            one(chromium, ".film summary").click()
            wait(lambda: "Heatmaps" in one(chromium, ".cards").text)
        else:
            chromium.get(f"{plain_server.address}/try/index.html")
            assert one(chromium, ".still img").is_displayed()
            assert "it needs JavaScript" in one(chromium, ".still figcaption").text
            assert not one(chromium, ".samples").is_displayed()
        layout = chromium.execute_cdp_cmd("Page.getLayoutMetrics", {})
        assert layout["cssContentSize"]["width"] <= 390
    finally:
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_on_a_telephone_the_answer_comes_into_view(chromium, plain_server):
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        opened(chromium, plain_server)
        choose(chromium, 0)
        for part in (".says", "canvas"):
            wait(lambda part=part: chromium.execute_script(IN_VIEW, one(chromium, part)))
    finally:
        chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_before_a_picture_is_chosen_no_answer_is_shown(page):
    assert not one(page, ".answer").is_displayed()
    assert not one(page, ".film").is_displayed()
    assert not one(page, ".loading").is_displayed()
    choose(page, 0)
    assert one(page, ".answer").is_displayed()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page, scheme):
    program = axe.script()
    axe.dress(page, scheme)
    choose(page, 0)
    one(page, ".film summary").click()
    wait(lambda: "Heatmaps" in one(page, ".cards").text)
    assert axe.serious(page, program) == []
