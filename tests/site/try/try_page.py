"""What the page's tests do with it."""

from served import wait

ENTER = "\ue007"


def opened(chromium, server):
    chromium.get(f"{server.address}/try/index.html")
    wait(lambda: one(chromium, ".samples button").is_displayed())
    return chromium


def one(driver, selector):
    return driver.find_element("css selector", selector)


def says(driver):
    return one(driver, ".says").text


def choose(driver, number):
    """Presses the button of a sample, and waits for its answer."""
    driver.find_elements("css selector", ".samples button")[number].click()
    wait(lambda: says(driver).startswith("Looked at"))
