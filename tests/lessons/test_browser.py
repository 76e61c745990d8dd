"""The lessons as a learner meets them: JupyterLab in a browser, all cells run, a solution typed, its check passed."""

import itertools
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("jupytext", reason="jupytext, which reads the lessons' sources, is not installed")

import nbformat
from lesson_folders import build
from test_touch_browser import VIEWS
from touch_page import finger, touch_screen

BY_HAND = ("box_dragger", "polygon_drawer", "keypoint_dragger")
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
    for name, outputs in (("views", False), ("not_trusted", True)):
        nbformat.write(notebook_of_views(outputs), folder / "lessons" / f"{name}.ipynb")
    for name, text in SETTINGS.items():
        file = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    own = {"JUPYTER_CONFIG_DIR": "config", "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "spaces"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command.append("--expose-app-in-browser")
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


def notebook_of_views(outputs):
    """A notebook with one view in each cell but the first; with outputs, it is not trusted: others made them."""
    cells = [nbformat.v4.new_code_cell(f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})")]
    for name in BY_HAND:
        cells.append(nbformat.v4.new_code_cell(f"import test_touch_browser\ntest_touch_browser.VIEWS[{name!r}]()"))
        if outputs:
            result = nbformat.v4.new_output("execute_result", VIEWS[name]()._repr_mimebundle_(), execution_count=1)
            cells[-1].outputs = [result]
    cells.append(nbformat.v4.new_markdown_cell("\n\n".join(["and more"] * 40)))  # the page can be scrolled
    return nbformat.v4.new_notebook(cells=cells, metadata=build.METADATA)


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


# JupyterLab forgets a run that is asked for before notebook and kernel know each other, or asks for a kernel.
READY = """const {sessionContext} = window.jupyterapp.shell.currentWidget;
    const {kernel} = sessionContext.session;
    return sessionContext.isReady && kernel.connectionStatus == "connected" && kernel.status == "idle";"""


class Page:
    """A notebook, open in JupyterLab. Its cells go by their numbers, from 0."""

    def __init__(self, driver, url):
        self.driver = driver
        driver.get(url)
        wait(self.ready, "the kernel")

    def find(self, selector, within=None):
        return (within or self.driver).find_elements("css selector", selector)

    def texts(self, selector, within=None):
        """What elements say, also those that one would have to scroll to."""
        script = "return [...(arguments[1] ?? document).querySelectorAll(arguments[0])].map((each) => each.textContent)"
        return self.driver.execute_script(script, selector, within)

    def ready(self):
        from selenium.common.exceptions import JavascriptException

        try:
            return self.driver.execute_script(READY)
        except JavascriptException:  # there is no notebook yet, or no kernel
            return False

    def run_all(self):
        """As the entry of the menu does."""
        self.driver.execute_script('window.jupyterapp.commands.execute("runmenu:run-all")')
        wait(self.all_have_run, "all cells to run")

    def all_have_run(self):
        prompts = self.texts(".jp-Notebook .jp-CodeCell .jp-InputPrompt")
        return prompts and all(re.fullmatch(r"\[\d+\]:", text) for text in prompts)

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

        cell = self.find(".jp-Notebook .jp-Cell")[number]
        (before,) = self.texts(".jp-InputPrompt", cell)
        self.click(number)
        self.press(Keys.CONTROL, Keys.ENTER)

        def done():
            (prompt,) = self.texts(".jp-InputPrompt", cell)
            return prompt != before and re.fullmatch(r"\[\d+\]:", prompt)

        wait(done, "the cell to run")

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
        page.run(number)
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


def grip(page, name):
    """Where in the window a view is taken hold of, once what scrolls has come to rest."""
    handle = {"box_dragger": '[data-handle="whole box"]', "polygon_drawer": ".first"}.get(name, '[data-handle="nose"]')
    (found,) = page.find(f".{name} {handle}")
    script = """arguments[0].scrollIntoView({block: "center"});
        const {x, y, width, height} = arguments[0].getBoundingClientRect();
        return [x + width / 2, y + height / 2].map(Math.round)"""
    places = [None]
    wait(lambda: places.append(page.driver.execute_script(script, found)) or places[-2] == places[-1], "it to rest")
    return places[-1]


@pytest.fixture
def views(jupyterlab, chromium, request):
    """The notebook of views, all of them run."""
    page = Page(chromium, f"{jupyterlab}/lab/workspaces/{request.node.originalname}/tree/views.ipynb")
    page.run_all()
    assert page.errors() == []
    return page


def test_views_look_the_same_in_a_notebook(views):
    """JupyterLab has rules of its own for lists of words and numbers: these must not lie upon each other."""
    script = """return [...document.querySelectorAll(".touch dl div")].map((row) => {
        const range = document.createRange();
        return [...row.querySelectorAll("dt, b, span")].map((each) => {
          range.selectNodeContents(each);
          const {left, right} = range.getBoundingClientRect();
          return [left, right];
        })})"""
    rows = views.driver.execute_script(script)
    assert len(rows) == 5 + 18
    for row in rows:
        assert all(before[1] < after[0] for before, after in itertools.pairwise(row))


def test_views_take_pointer_and_keys_in_a_notebook(views):
    """The keys by which JupyterLab cuts, makes, moves and runs cells do nothing to the cells here."""
    from selenium.webdriver import ActionChains, Keys

    # But for a class by which JupyterLab makes room for its own toolbar: it comes and goes when the layout is measured.
    script = """return [...document.querySelectorAll(".jp-Notebook .jp-Cell")].map((each) =>
        [...each.classList].filter((name) => name !== "jp-toolbar-overlap").join(" ") +
        each.querySelector(".jp-InputPrompt").textContent)"""
    modifiers, arrows = (Keys.SHIFT, Keys.CONTROL, Keys.ALT), (Keys.ENTER, Keys.ARROW_DOWN)
    for name in BY_HAND:
        x, y = grip(views, name)
        status = f".{name} [role=status], .{name} .hint"
        before, drag = views.texts(status), ActionChains(views.driver, duration=50)
        pointer = drag.w3c_actions.pointer_action
        pointer.move_to_location(x, y).pointer_down().move_to_location(x + 20, y + 30).pointer_up()
        drag.perform()
        dragged, cells = views.texts(status), views.driver.execute_script(script)
        assert dragged != before
        ActionChains(views.driver).send_keys("ddabxyzm00", Keys.DELETE, Keys.ESCAPE).perform()
        for modifier, key in itertools.product(modifiers, arrows):
            ActionChains(views.driver).key_down(modifier).send_keys(key).key_up(modifier).perform()
        assert views.texts(status) != dragged  # by Shift and an arrow
        assert views.driver.execute_script(script) == cells


def test_views_follow_a_finger_in_a_notebook(views):
    """And the notebook stands still."""
    touch_screen(views.driver, 820, 1100)
    panel = "return document.querySelector('.jp-WindowedPanel-outer').scrollTop"
    for name in BY_HAND:
        x, y = grip(views, name)
        before, top = views.texts(".touch [role=status]"), views.driver.execute_script(panel)
        finger(views.driver, x, y, [(0, 15 * i) for i in range(1, 7)])
        wait(lambda before=before: views.texts(".touch [role=status]") != before, "the view to move")
        assert views.driver.execute_script(panel) == top


def test_views_are_pictures_in_a_notebook_that_is_not_trusted(jupyterlab, chromium):
    """There JupyterLab runs no script: the pictures are drawn, and their numbers stand below them."""
    page = Page(chromium, f"{jupyterlab}/lab/workspaces/not-trusted/tree/not_trusted.ipynb")
    assert page.find(".touch svg") == []
    sizes = "return [...document.querySelectorAll('.touch img')].map((each) => [each.naturalWidth, each.width])"
    wait(lambda: len(chromium.execute_script(sizes)) == len(BY_HAND), "the pictures")
    assert all(natural == width > 300 for natural, width in chromium.execute_script(sizes))
    for name, words in zip(BY_HAND, page.texts(".touch figcaption"), strict=True):
        assert "".join(words.split()) == "".join(VIEWS[name]().description.split())
