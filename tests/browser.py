"""Chromium, for the tests that press keys."""

import shutil

import pytest

PATIENCE = 600  # seconds to wait for anything, on a busy machine


def start(profile, *arguments, logs=("browser",)):
    """Chromium without a window, its profile in this folder, with further arguments, keeping these logs; the test is
    skipped where it or its driver is missing."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (browser and driver):
        pytest.skip("Chromium and its driver are not there (apt-get install chromium chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    usual = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1000")
    for argument in (*usual, *arguments):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", dict.fromkeys(logs, "ALL"))
    started = webdriver.Chrome(options, webdriver.ChromeService(driver))
    started.command_executor.client_config.timeout = PATIENCE
    started.set_page_load_timeout(PATIENCE)
    started.set_script_timeout(PATIENCE)
    return started


def resize(driver, width):
    """Gives the window this width, in pixels."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
