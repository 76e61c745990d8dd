"""The page, built once; its servers, and a browser."""

import browser
import pytest
from served import ISOLATED, Server
from try_page import opened


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
    """With a camera that shows a test picture; it notes every request that it makes."""
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    started = browser.start(tmp_path_factory.mktemp("profile"), *camera, logs=("browser", "performance"))
    yield started
    started.quit()


@pytest.fixture
def page(chromium, plain_server):
    return opened(chromium, plain_server)
