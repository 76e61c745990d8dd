"""What axe-core, the W3C rules as a program, finds wrong in some pages: nothing that is serious."""

import shutil
import subprocess

import pytest

PAGES = (
    "index.html",
    "lessons/index.html",
    "lessons/04k_matching_kernels/lesson.html",
    "lessons/06k_nms_kernels/lesson.html",
    "api/ops.html",
    "try.html",
)


@pytest.fixture(scope="module")
def axe(pytestconfig):
    """axe-core's script, fetched once and kept with pytest's cache."""
    if not shutil.which("npm"):
        pytest.skip("npm is not there, which would fetch axe-core (apt-get install npm)")
    folder = pytestconfig.cache.mkdir("axe")
    script = folder / "node_modules/axe-core/axe.min.js"
    if not script.exists():
        fetch = ["npm", "install", "--prefix", folder, "axe-core@4.14.1"]
        fetched = subprocess.run(fetch, capture_output=True, text=True)
        if fetched.returncode:
            pytest.skip(f"npm could not fetch axe-core: {fetched.stderr.strip().splitlines()[-1]}")
    return script.read_text()


def found(driver, axe, page, scheme="light"):
    """Of a page: [(rule, how bad, the first element, why)]."""
    wanted = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
    driver.get(page)
    driver.execute_script(axe)
    violations = driver.execute_async_script("axe.run().then((result) => arguments[0](result.violations))")
    return [
        (each["id"], each["impact"], each["nodes"][0]["html"], each["nodes"][0]["failureSummary"])
        for each in violations
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_nothing_serious(address, chromium, axe, page, scheme):
    violations = found(chromium, axe, address + page, scheme)
    assert [each for each in violations if each[1] in ("serious", "critical")] == []


def test_axe_sees_what_is_wrong(chromium, axe):
    page = (
        "data:text/html,<html lang=en><title>x</title><main><h1>x</h1><img src='data:,'><p style='color: %23ccc'>faint"
    )
    assert {each[0] for each in found(chromium, axe, page)} >= {"image-alt", "color-contrast"}
