"""A browser for the tests that press keys."""

import browser
import pytest


@pytest.fixture
def chromium(tmp_path):
    started = browser.start(tmp_path / "profile")
    yield started
    started.quit()
