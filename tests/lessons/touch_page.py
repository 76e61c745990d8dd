"""A web page with several views on it, what is done with one, and a finger, for the tests in a browser."""

HEAD = '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>several</title>'


def write_page(folder, *views):
    """The address of a page in this folder with the views one below the other."""
    file = folder / "page.html"
    file.write_text(f"{HEAD}<h1>Several of them</h1>{'<p>and</p>'.join(view.html() for view in views)}")
    return file.as_uri()


def finger(driver, x, y, moves):
    """Down at a place of the window, moved by each of `moves` from there, and up."""
    steps = [("touchStart", (0, 0)), *(("touchMove", move) for move in moves), ("touchEnd", None)]
    for kind, at in steps:
        points = [] if at is None else [{"x": x + at[0], "y": y + at[1]}]
        driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def touch_screen(driver, width=390, height=800):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


class Touched:
    """One of the views on a page."""

    def __init__(self, driver, number=0):
        self.driver = driver
        self.root = driver.find_elements("css selector", "[data-touch]")[number]

    def one(self, selector):
        return self.root.find_element("css selector", selector)

    def click(self, words):
        """Presses the button on which this is written."""
        next(each for each in self.root.find_elements("css selector", "button") if each.text == words).click()

    @property
    def says(self):
        return self.one("[aria-live=polite]").text
