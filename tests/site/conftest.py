"""The web site, built once, and a browser that looks at it."""

import os
import subprocess
import sys

import browser
import pytest
from filelock import FileLock
from html_page import ROOT
from served import Server


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the built site. Of several processes that share the tests one builds it for all."""
    for needed in ("sphinx", "myst_nb", "furo"):
        pytest.importorskip(needed, reason=f"{needed} is not there (pip install 'mrcnn[site]')")
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    out = shared / "site"
    with FileLock(shared / "site.lock"):
        if not out.exists():
            build(shared / "unfinished").rename(out)  # a site that could not be built is not there
    return out


def build(out):
    command = [sys.executable, ROOT / "docs/build.py", "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode and "npm" in done.stderr:
        pytest.skip(f"the site cannot be built here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def address(site):
    """Where the site is served, as "http://127.0.0.1:PORT/"."""
    server = Server(site, {})
    yield f"{server.address}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def running_chromium(tmp_path_factory):
    started = browser.start(tmp_path_factory.mktemp("profile"))
    yield started
    started.quit()


@pytest.fixture
def chromium(running_chromium):
    """A browser with a window of 1280 pixels, scripts and light colours, whatever a test before has made of it."""
    browser.resize(running_chromium, 1280)
    running_chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    running_chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    return running_chromium
