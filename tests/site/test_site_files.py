"""The site's files, without a browser: links, sizes, and what came from the notebooks, against the notebooks."""

import functools
import html
import inspect
import json
import re
from urllib.parse import unquote

import pytest
from html_page import ROOT, elsewhere, pages, place

import mrcnn
import mrcnn.data
import mrcnn.ops

MIB = 2**20
LESSONS = sorted(file.parent.name for file in ROOT.glob("lessons/*/lesson.ipynb"))


@pytest.fixture(scope="module")
def all_pages(site):
    return pages(site)


def lesson(name):
    return f"lessons/{name}/lesson.html"


def cells(name, kind):
    notebook = json.loads((ROOT / "lessons" / name / "lesson.ipynb").read_text())
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_every_link_and_every_anchor_is_whole(site, all_pages):
    broken = []
    for page, contents in all_pages.items():
        for link in contents.links + contents.loaded:
            path, name = place(page, link, contents.base)
            if elsewhere(link) or link.startswith(("data:", "mailto:")):
                continue
            if not (site / unquote(path)).is_file():
                broken.append(f"{page}: {link}")
            elif name and path in all_pages and unquote(name) not in all_pages[path].names:
                broken.append(f"{page}: {link}, without that name there")
    assert broken == []


def test_every_lesson_is_there_with_its_minutes_in_order(site, all_pages):
    ways = [place("lessons/index.html", link)[0] for link in all_pages["lessons/index.html"].links]
    ways = [way for way in ways if way.endswith("/lesson.html")]
    assert list(dict.fromkeys(ways)) == [lesson(name) for name in LESSONS]
    words = re.sub(r"<[^>]+>", " ", (site / "lessons/index.html").read_text())
    for name in LESSONS:
        (minutes,) = re.findall(r"\*\*Time\*\* about (\d+ minutes)", "".join(cells(name, "markdown")[0]["source"]))
        number = name.partition("_")[0]
        assert re.search(rf"{number} · [^·]*?, {minutes}", " ".join(words.split("The words of the course")[-1].split()))


def test_nothing_is_fetched_from_another_host(site, all_pages):
    foreign = [(page, link) for page, contents in all_pages.items() for link in contents.loaded if elsewhere(link)]
    for file in site.rglob("*.css"):
        found = re.findall(r"(?:url\(|@import )['\"]?([^)'\"]+)", file.read_text())
        foreign += [(str(file), link) for link in found if elsewhere(link)]
    assert foreign == []


def test_sizes(site):
    assert sum(file.stat().st_size for file in site.rglob("*")) < 40 * MIB
    assert not (site / "source/tests").exists()
    for name in LESSONS:
        assert (site / lesson(name)).stat().st_size < 2 * MIB


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_is_all_there(site, all_pages, name):
    text, page = (site / lesson(name)).read_text(), all_pages[lesson(name)]
    shown = re.findall(r'(?s)<div class="cell_input.*?<pre>(.*?)</pre>', text)
    code = [html.unescape(re.sub(r"<[^>]+>", "", each)).rstrip("\n") for each in shown]
    assert code == ["".join(cell["source"]) for cell in cells(name, "code")]
    outputs = [output for cell in cells(name, "code") for output in cell["outputs"]]
    printed = [html.escape("".join(output["text"]).strip("\n"), quote=False) for output in outputs if "text" in output]
    plain = re.sub(r"</?span[^>]*>", "", text).replace("&quot;", '"').replace("&#39;", "'")
    assert [words for words in printed if words not in plain] == []
    drawn = sum("".join(output.get("data", {}).get("text/html", "")).count("<img ") for output in outputs)
    assert len(page.images) == drawn
    assert [picture for picture in page.images if not picture.get("alt")] == []


def test_the_front_page_begins_with_the_ways_on(site):
    begin = (site / "index.html").read_text().partition("<h1>")[2].partition("<pre>")[0]
    for way in ("lessons/index", "lessons/00_the_whole_model/lesson", "try", "api/index", "csrc/README"):
        assert f'href="{way}.html"' in begin


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_says_how_it_is_run_and_links_its_files(site, all_pages, name):
    begin = (site / lesson(name)).read_text().partition("<h1>")[2].partition('<div class="cell_input')[0]
    assert "make lessons" in re.sub(r"<[^>]+>", "", begin)
    assert re.findall(r'href="../../source/(?:mrcnn|csrc)/[^"]+"', begin) != []


@pytest.mark.parametrize("op", ["roi_align", "nms", "anchor_matching"])
def test_the_kernels_page_leads_to_every_kernel(all_pages, op):
    ways = {place("csrc/README.html", link)[0] for link in all_pages["csrc/README.html"].links}
    kernels = [*(ROOT / "csrc" / op).glob("*_cpu.cpp"), *(ROOT / "csrc" / op).glob("*.cu")]
    assert {f"source/{file.relative_to(ROOT)}.html" for file in kernels} <= ways


@pytest.mark.parametrize("name", LESSONS)
def test_hints_and_solutions_are_folded(all_pages, name):
    sources = ["".join(cell["source"]) for cell in cells(name, "markdown")]
    sources += [
        "".join(output.get("data", {}).get("text/markdown", ""))
        for cell in cells(name, "code")
        for output in cell["outputs"]
    ]
    folded = sum(source.count("<details>") for source in sources)
    assert folded >= 4  # three hints and a solution
    assert (all_pages[lesson(name)].folded, all_pages[lesson(name)].open) == (folded, 0)


def test_formulas_are_mathml(site):
    for name in LESSONS:
        prose = re.sub(r"(?s)```.*?```|`[^`]*`", "", "\n".join("".join(c["source"]) for c in cells(name, "markdown")))
        formulas = re.findall(r"(?s)\$\$.+?\$\$|\$[^$]+\$", prose)
        assert (site / lesson(name)).read_text().count("<math ") == len(formulas)
    fraction = re.search(r"(?s)<math .*?</math>", (site / lesson("03_boxes_and_anchors")).read_text())[0]
    letters = html.unescape(re.sub(r"<[^>]+>|\s", "", fraction)).replace("\N{FUNCTION APPLICATION}", "")
    assert letters == "dx=xobject\N{MINUS SIGN}xanchorwanchordw=lnwobjectwanchor"


def test_the_library_is_all_there(all_pages):
    names = {f"mrcnn.{name}" for name in mrcnn.__all__ if name not in ("ops", "ModelSettings")}
    names |= {f"mrcnn.ops.{name}" for name in mrcnn.ops.__all__} | {f"mrcnn.data.{name}" for name in mrcnn.data.__all__}
    names |= {"mrcnn.model_file.save_model"}
    documented = set().union(*(page.names for path, page in all_pages.items() if path.startswith("api/")))
    assert names - documented == set()


def test_arguments_stand_each_by_itself(site):
    for name in ("ops.roi_align", "ops.nms", "ops.match_anchors", "MaskRCNN.forward"):
        function = functools.reduce(getattr, name.split("."), mrcnn)
        page = (site / ("api/ops.html" if name.startswith("ops") else "api/models.html")).read_text()
        _, _, below = page.partition(f'id="mrcnn.{name}"')
        explained = re.findall(r"<strong>(\w+)</strong>", below.partition("Returns<")[0])
        assert explained == [each for each in inspect.signature(function).parameters if each != "self"]


def test_the_readme_and_the_kernels_are_there(site):
    home, kernels = (re.sub(r"<[^>]+>", "", (site / page).read_text()) for page in ("index.html", "csrc/README.html"))
    for heading in re.findall(r"(?m)^##+ (.+)$", (ROOT / "README.md").read_text()):
        assert html.escape(heading, quote=False) in home
    for heading in re.findall(r"(?m)^##+ (.+)$", (ROOT / "csrc/README.md").read_text()):
        assert heading in kernels
