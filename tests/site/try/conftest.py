"""The page, built once; its servers, and a browser."""

import shutil

import pytest
from served import PATIENCE, Server
from try_page import opened

ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Where it was built."""
    from built import build

    made = tmp_path_factory.mktemp("page")
    try:
        build.build(made)
    except build.RuntimeMissing as error:
        pytest.skip(str(error))
    return made


@pytest.fixture(scope="module", params=["one thread", "isolated"])
def server(request, folder):
    started = Server(folder, ISOLATED if request.param == "isolated" else {})
    yield started
    started.shutdown()
    started.server_close()


@pytest.fixture(scope="module")
def plain_server(folder):
    started = Server(folder, {})
    yield started
    started.shutdown()
    started.server_close()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """Chromium without a window, with a camera that shows a test picture; it notes every request that it makes."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (browser and driver):
        pytest.skip("Chromium and its driver are not there (apt-get install chromium chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--window-size=1280,1000",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options, webdriver.ChromeService(driver))
    started.command_executor.client_config.timeout = PATIENCE
    started.set_page_load_timeout(PATIENCE)
    started.set_script_timeout(PATIENCE)
    yield started
    started.quit()


@pytest.fixture
def page(chromium, plain_server):
    return opened(chromium, plain_server)
