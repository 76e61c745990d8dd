"""The lessons as a learner meets them: JupyterLab in a browser, all cells run, a solution typed, its check passed."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

pytest.importorskip("jupytext", reason="jupytext, which reads the lessons' sources, is not installed")

from lesson_folders import build

PATIENCE = 600  # seconds to wait for anything, on a busy machine
# All cells are in the page, not only those in sight; and no news.
SETTINGS = {
    "notebook-extension/tracker": '{"windowingMode": "none"}',
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
}


@pytest.fixture(scope="module")
def jupyterlab(tmp_path_factory):
    """The address of a JupyterLab, with settings of its own, on a learner's copies of the lessons."""
    folder = tmp_path_factory.mktemp("jupyterlab")
    build.copy_all(folder / "lessons")
    for name, text in SETTINGS.items():
        file = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    own = {"JUPYTER_CONFIG_DIR": "config", "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "spaces"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    with open(folder / "log.txt", "w") as log:
        server = subprocess.Popen(
            [*command, "--ServerApp.port_retries=0", "--IdentityProvider.token="],
            cwd=folder / "lessons",
            env={**os.environ, **{name: str(folder / path) for name, path in own.items()}},
            stdout=log,
            stderr=log,
        )
        try:
            wait(lambda: answers(f"http://127.0.0.1:{port}/api"), f"JupyterLab, see {folder}/log.txt")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False


def wait(condition, what):
    """Until the condition holds; what it gave."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {PATIENCE} s for {what}"
        time.sleep(0.5)
    return found


class Page:
    """A notebook, open in JupyterLab. Its cells go by their numbers, from 0."""

    def __init__(self, driver, url):
        self.driver = driver
        driver.get(url)
        # In the notebook's own bar; the page's status bar stays empty until the notebook has the focus.
        wait(lambda: self.find('.jp-Notebook-ExecutionIndicator[data-status="idle"]'), "the kernel")

    def find(self, selector, within=None):
        return (within or self.driver).find_elements("css selector", selector)

    def texts(self, selector, within=None):
        """What elements say, also those that one would have to scroll to."""
        script = "return [...(arguments[1] ?? document).querySelectorAll(arguments[0])].map((each) => each.textContent)"
        return self.driver.execute_script(script, selector, within)

    def run_all(self):
        next(item for item in self.find(".lm-MenuBar-item") if item.text == "Run").click()
        wait(lambda: self.find('[data-command="runmenu:run-all"]'), "the menu")[0].click()
        self.wait_until_run()

    def wait_until_run(self):
        prompts = ".jp-Notebook .jp-CodeCell .jp-InputPrompt"
        wait(lambda: all(re.fullmatch(r"\[\d+\]:", text) for text in self.texts(prompts)), "all cells to run")

    def click(self, number):
        """Into the editor of a cell."""
        editor = self.find(".cm-content", self.find(".jp-Notebook .jp-Cell")[number])[0]
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", editor)
        editor.click()

    def press(self, control, key):
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).key_down(control).send_keys(key).key_up(control).perform()

    def replace(self, number, text):
        """Select all that is in a cell, and type over it."""
        from selenium.webdriver import Keys

        self.click(number)
        self.press(Keys.CONTROL, "a")
        self.driver.execute_cdp_cmd("Input.insertText", {"text": text})  # as it is: Enter would indent the next line

    def run(self, number):
        from selenium.webdriver import Keys

        before = self.texts(".jp-InputPrompt", self.find(".jp-Notebook .jp-Cell")[number])
        self.click(number)
        self.press(Keys.CONTROL, Keys.ENTER)
        cell = self.find(".jp-Notebook .jp-Cell")[number]
        wait(lambda: self.texts(".jp-InputPrompt", cell) != before, "the cell to start")
        self.wait_until_run()

    def output(self, number):
        return "\n".join(self.texts(".jp-OutputArea-output", self.find(".jp-Notebook .jp-Cell")[number]))

    def errors(self):
        kinds = ("error", "stderr")
        return self.texts(", ".join(f'[data-mime-type="application/vnd.jupyter.{kind}"]' for kind in kinds))


def exercise_of(folder, language):
    """The first exercise in a language: its record, and the number of its cell. Its check is the next."""
    exercises, cells = build.load(folder), build.notebook(folder).cells
    for number, cell in enumerate(cells):
        record = getattr(exercises, cell.metadata.get("exercise", ""), None)
        if record and record.language == language:
            return record, number
    raise LookupError(f"{folder.name} has no exercise in {language}")


@pytest.mark.parametrize(("lesson", "language"), [("00", "python"), ("07k", "cuda")])
def test_a_learner_solves_an_exercise(jupyterlab, chromium, lesson, language):
    (folder,) = build.lessons([lesson])
    record, stub = exercise_of(folder, language)
    # A workspace of its own: the default one would open the lesson before again, beside this.
    page = Page(chromium, f"{jupyterlab}/lab/workspaces/lesson-{lesson}/tree/{folder.name}/lesson.ipynb")
    page.run_all()
    assert page.errors() == []
    assert f"{record.name}: not written yet" in page.output(stub + 1)
    page.replace(stub, build.magic(record) + record.solution)
    page.run(stub)
    page.run(stub + 1)
    assert page.errors() == []
    assert f"{record.name}: right" in page.output(stub + 1)


def test_a_box_is_moved_by_keys_in_a_notebook(jupyterlab, chromium):
    """The keys are the view's: no cell is run, left or made by them."""
    from selenium.webdriver import Keys

    (folder,) = build.lessons(["03"])
    cells = build.notebook(folder).cells
    last = next(i for i, cell in enumerate(cells) if cell.source.startswith("lab.box_dragger("))
    page = Page(chromium, f"{jupyterlab}/lab/workspaces/box-dragger/tree/{folder.name}/lesson.ipynb")
    for number in (i for i, cell in enumerate(cells[: last + 1]) if cell.cell_type == "code"):
        start(page, number)
    (handle,) = wait(lambda: page.find('[data-handle="bottom right corner"]'), "the view")
    (before,) = page.texts(".box_dragger [aria-live]")
    for key in (Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.SHIFT + Keys.ARROW_DOWN):
        handle.send_keys(key)
    (after,) = page.texts(".box_dragger [aria-live]")
    assert before.endswith("The box goes from (52, 20) to (100, 90).")
    assert after.endswith("The box goes from (52, 20) to (101, 101).")
    assert chromium.switch_to.active_element == handle
    assert len(page.find(".jp-Notebook .jp-Cell")) == len(cells)
    assert page.errors() == []


def start(page, number):
    """Run one cell, while others have not been run."""
    from selenium.webdriver import Keys

    page.click(number)
    page.press(Keys.CONTROL, Keys.ENTER)
    cell = page.find(".jp-Notebook .jp-Cell")[number]
    wait(lambda: re.fullmatch(r"\[\d+\]:", page.texts(".jp-InputPrompt", cell)[0]), "the cell to run")
