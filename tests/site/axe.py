"""What axe-core, the W3C's rules as a program, finds wrong in the page that a browser shows."""

import pytest
from built import build

# From npm; a later version may have further rules.
PACKAGE = "axe-core-4.14.1.tgz"
INTEGRITY = "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
SCHEME = "prefers-color-scheme"


def script():
    """The program; the test is skipped where it is not to be had."""
    try:
        with build.npm_package(PACKAGE, INTEGRITY) as package:
            return package.extractfile("package/axe.min.js").read().decode()
    except build.RuntimeMissing as error:
        pytest.skip(str(error))


def dress(driver, scheme):
    """Lets the browser ask for "light" or "dark" colours."""
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": SCHEME, "value": scheme}]})


def violations(driver, axe):
    """Of the page that is shown: [(rule, how bad, the first element, why)]."""
    driver.execute_script(axe)
    found = driver.execute_async_script("axe.run().then((result) => arguments[0](result.violations))")
    return [
        (each["id"], each["impact"], each["nodes"][0]["html"], each["nodes"][0]["failureSummary"]) for each in found
    ]


def serious(driver, axe):
    return [each for each in violations(driver, axe) if each[1] in ("serious", "critical")]
