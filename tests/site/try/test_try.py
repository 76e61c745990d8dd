"""The page on which the model runs in a browser: its answers are Python's, and it talks to no other server.

The page is served twice: as by a plain host, where the model has one thread, and with the headers that isolate it from
other pages, where it has several.
"""

import base64
import json
import os
import shutil

import built  # noqa: F401 (which skips)
import numpy as np
import pytest
import torch
from PIL import Image
from served import Server, wait
from try_page import ENTER, choose, one, opened, says

import mrcnn
from mrcnn import export, visualize
from mrcnn.data import Playground
from mrcnn.lab.walk import walk

HOME, END = "\ue011", "\ue010"


# ---- The answers


def pictures():
    """Ten: scenes of several sizes, and photographs; uint8 (3, H, W)."""
    from skimage import data

    drawn = [Playground(4, 5, size)[3][0] for size in (96, 128, 200, 333, 640)]
    coins = torch.from_numpy(data.coins()).expand(3, -1, -1)
    photographs = [torch.from_numpy(each()).permute(2, 0, 1) for each in (data.coffee, data.astronaut, data.chelsea)]
    return [*drawn, drawn[3][:, :, 60:190], coins, *photographs]


@pytest.fixture(scope="module")
def expected():
    model = mrcnn.playground_rcnn(pretrained=True)
    with torch.no_grad():
        return [
            {name: value.numpy() for name, value in model([export.as_float(each)])[0].items()} for each in pictures()
        ]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The ten as PNG, which keeps every pixel."""
    made = tmp_path_factory.mktemp("pictures")
    for number, picture in enumerate(pictures()):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(made / f"{number}.png")
    return [made / f"{number}.png" for number in range(len(pictures()))]


# The page's own modules, on pictures that are given as files: what the worker answers, without the large masks.
ANSWERS = """
const [base, files, done] = arguments;
const { decoded } = await import(`${base}/try/pictures.js`);
const { openModel } = await import(`${base}/try/model.js`);
const page = await (await fetch(`${base}/try/page.json`)).json();
const look = openModel(page.load, () => {});
const rows = [];
for (const file of files) {
  const bytes = Uint8Array.from(atob(file), (letter) => letter.charCodeAt(0));
  const { picture } = await decoded(new Blob([bytes]), "it", page.longest);
  const { answer, threads } = await look(picture);
  const { dims, data } = answer.masks, size = dims[2] * dims[3];
  const areas = Array.from({ length: dims[0] }, (_, row) =>
    data.subarray(row * size, (row + 1) * size).reduce((sum, value) => sum + value, 0));
  const values = ({ data }) => Array.from(data, Number);
  rows.push({ threads, size: [picture.height, picture.width], areas, boxes: values(answer.boxes),
    scores: values(answer.scores), labels: values(answer.labels), keypoints: values(answer.keypoints) });
}
done(rows);
"""


def test_the_answers_are_pythons(chromium, server, files, expected):
    opened(chromium, server)
    given = [base64.b64encode(file.read_bytes()).decode() for file in files]
    found = chromium.execute_async_script(
        f"(async function () {{{ANSWERS}}}).apply(null, arguments)", server.address, given
    )
    isolated = chromium.execute_script("return crossOriginIsolated")
    assert {each["threads"] for each in found} == {min(os.cpu_count(), 4) if isolated else 1}
    assert sum(len(each["labels"]) for each in expected) > 100
    for got, picture, wanted in zip(found, pictures(), expected, strict=True):
        assert got["size"] == list(picture.shape[1:])
        assert got["labels"] == wanted["labels"].tolist()  # the same objects, in the same order
        np.testing.assert_allclose(got["scores"], wanted["scores"], rtol=0, atol=1e-3)
        np.testing.assert_allclose(got["boxes"], wanted["boxes"].ravel(), rtol=0, atol=0.1)
        np.testing.assert_allclose(got["areas"], wanted["masks"].sum((1, 2, 3)), rtol=0.01, atol=1)
        sure = wanted["keypoints_scores"].ravel() > 0
        apart = np.reshape(got["keypoints"], (-1, 3)) - wanted["keypoints"].reshape(-1, 3)
        assert np.abs(apart[sure]).max(initial=0) < 0.5


def test_the_list_says_what_the_model_finds(page, expected, files):
    one(page, ".file input").send_keys(str(files[6]))
    wait(lambda: says(page).startswith("Looked at 6.png"))
    sure = expected[6]["scores"] >= 0.5
    names = mrcnn.playground_rcnn(pretrained=True).labels["categories"]
    wanted = [
        f"{names[label]}, {score:.2f}"
        for label, score in zip(expected[6]["labels"][sure], expected[6]["scores"][sure], strict=True)
    ]
    rows = [item.text.split(":")[0] for item in page.find_elements("css selector", "ol li")]
    assert len(rows) > 20
    assert rows == wanted
    assert one(page, ".count").text.startswith(f"{len(wanted)} objects")


def test_a_picture_is_turned_as_its_camera_says(page, tmp_path):
    tall = Image.fromarray(Playground(1)[0][0][:, :, :64].permute(1, 2, 0).numpy())
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    tall.save(tmp_path / "turned.jpg", exif=exif)
    one(page, ".file input").send_keys(str(tmp_path / "turned.jpg"))
    wait(lambda: says(page).startswith("Looked at turned.jpg"))
    assert "128 \N{MULTIPLICATION SIGN} 64 pixels" in says(page)


def test_a_large_picture_is_reduced(page, tmp_path):
    Image.new("RGB", (2000, 500), "white").save(tmp_path / "large.png")
    one(page, ".file input").send_keys(str(tmp_path / "large.png"))
    wait(lambda: says(page).startswith("Looked at large.png"))
    assert "640 \N{MULTIPLICATION SIGN} 160 pixels (reduced from 2000 \N{MULTIPLICATION SIGN} 500)" in says(page)


def test_outlines_enclose_the_pixels_of_a_mask(page, plain_server):
    """The area inside is that of the mask, a ring's hole is left out, and no line is left open."""
    rows, columns = np.mgrid[:40, :50]
    distance = np.hypot(rows + 0.5 - 20, columns + 0.5 - 25)
    ring = ((distance < 15.2) & (distance > 6.1)).astype(float)
    ring[3, 3] = ring[4, 4] = 1  # a saddle
    lines = page.execute_async_script(
        """const [base, mask, done] = arguments;
        import(`${base}/try/outline.js`).then(({ outlines }) =>
          done(outlines((x, y) => mask[y][x], [0, 0, mask[0].length, mask.length])));""",
        plain_server.address,
        ring.tolist(),
    )
    areas = []
    for line in lines:
        x, y = np.array(line).T
        assert max(np.hypot(np.diff(x, append=x[0]), np.diff(y, append=y[0]))) < 1.5
        areas.append(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)
    assert len(lines) == 4
    signs = {float(np.sign(area)) for area in areas}
    assert signs == {-1.0, 1.0}  # the hole runs the other way round
    # Each pixel alone is a diamond of half its size.
    assert abs(abs(sum(areas)) - (np.pi * (15.2**2 - 6.1**2) + 1)) < 0.02 * np.pi * 15.2**2


def test_colours_are_chosen_as_in_python(page, plain_server):
    boxes = np.random.default_rng(0).uniform(0, 100, (12, 4)).astype(np.float32)
    chosen = page.execute_async_script(
        """const [base, boxes, count, done] = arguments;
        import(`${base}/try/draw.js`).then(({ chooseColours }) => done(chooseColours(boxes, count)));""",
        plain_server.address,
        boxes.tolist(),
        len(visualize.COLOURS),
    )
    assert [visualize.COLOURS[each] for each in chosen] == visualize.choose_colours(boxes)


# ---- What the reader does


def test_the_slider_is_moved_by_keys(page):
    choose(page, 0)
    slider = one(page, ".slider input")
    before = len(page.find_elements("css selector", "ol li"))
    assert (slider.get_attribute("value"), one(page, "output").text) == ("0.5", "0.50")
    slider.send_keys(END)
    assert one(page, "output").text == "1.00"
    assert len(page.find_elements("css selector", "ol li")) < before
    slider.send_keys(HOME)
    assert len(page.find_elements("css selector", "ol li")) > before


def test_the_film_counts_what_the_model_computes(page, expected, files):
    """In the cards' captions; the coins' proposals are told apart from what NMS removed by their coordinates."""
    walked = walk(mrcnn.playground_rcnn(pretrained=True), export.as_float(pictures()[6]))
    one(page, ".file input").send_keys(str(files[6]))
    wait(lambda: says(page).startswith("Looked at 6.png"))
    assert page.find_elements("css selector", ".card") == []
    one(page, ".film summary").send_keys(ENTER)
    wait(lambda: len(page.find_elements("css selector", ".card")) == 5)  # no person, no heatmaps
    told = {
        each.find_element("css selector", "b").text: each.text for each in page.find_elements("css selector", ".card")
    }
    candidates, proposals = len(walked.candidates), len(walked.proposals)
    assert f"{candidates} boxes. {candidates - proposals} of them go" in told["Removed"]
    assert f"{proposals} proposals stay" in told["Proposals"]
    assert f"Here are 6 of {int((expected[6]['scores'] >= 0.5).sum())}" in told["Masks"]
    cells = [
        [each.get_property(side) for side in ("height", "width")]
        for each in page.find_elements("css selector", ".tiles canvas")
    ]
    seen = walked.batch.sizes[0]
    assert cells[:5] == [[-(-side // 2**level) for side in seen] for level in range(2, 7)]
    choose(page, 0)
    wait(lambda: "Heatmaps" in one(page, ".cards").text)


def test_a_sample_is_chosen_by_keys(page):
    button = one(page, ".samples button")
    button.send_keys(ENTER)
    wait(lambda: says(page).startswith("Looked at a drawn scene"))
    assert one(page, "canvas").get_attribute("aria-label").startswith("The picture with")


def test_the_camera_gives_a_picture(page):
    one(page, ".camera").click()
    wait(lambda: one(page, ".take").is_displayed())
    one(page, ".take").click()
    wait(lambda: says(page).startswith("Looked at the camera's picture"))
    one(page, ".stop").click()
    assert not one(page, "video").is_displayed()


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(page, event):
    page.execute_script(
        """const data = new DataTransfer(), event = arguments[0];
        const canvas = new OffscreenCanvas(30, 20);
        canvas.getContext("2d").fillRect(0, 0, 30, 20);
        return canvas.convertToBlob().then((blob) => {
          data.items.add(new File([blob], "given.png"));
          document.dispatchEvent(event === "drop" ? new DragEvent("drop", { dataTransfer: data, cancelable: true })
            : new ClipboardEvent("paste", { clipboardData: data }));
        });""",
        event,
    )
    wait(lambda: says(page).startswith("Looked at given.png, 30 \N{MULTIPLICATION SIGN} 20 pixels"))
    assert one(page, ".count").text == "0 objects. The model sees none of its six things here."


def test_a_broken_file_gets_a_sentence(page, tmp_path):
    choose(page, 0)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG and no more")
    one(page, ".file input").send_keys(str(tmp_path / "broken.png"))
    wait(lambda: "cannot be read" in says(page))
    assert says(page).startswith("broken.png cannot be read: it must be a picture")
    assert not one(page, ".answer").is_displayed()  # which is of the picture before
    choose(page, 0)  # and the page goes on


def test_a_model_that_does_not_come_gets_a_sentence(chromium, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "page")
    (tmp_path / "page" / "try" / "model.onnx").unlink()
    server = Server(tmp_path / "page", {})
    page = opened(chromium, server)
    one(page, ".samples button").click()
    wait(lambda: "cannot be run" in says(page))
    assert "model.onnx could not be loaded: the server answered 404" in says(page)
    assert not one(page, ".loading").is_displayed()
    shutil.copy(folder / "try" / "model.onnx", tmp_path / "page" / "try")
    choose(page, 0)  # which tries again
    server.shutdown()
    server.server_close()
    chromium.get_log("browser")  # which has the 404


def test_no_request_goes_anywhere_else(chromium, server):
    chromium.get("about:blank")
    chromium.execute_cdp_cmd("Network.clearBrowserCache", {})  # what is kept is not asked for
    chromium.get_log("performance")
    server.asked.clear()
    opened(chromium, server)
    choose(chromium, 0)
    events = [json.loads(each["message"])["message"] for each in chromium.get_log("performance")]
    asked = [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
    assert any(each.endswith("page.json") for each in asked)
    own = (f"{server.address}/", f"blob:{server.address}/", "data:", "about:blank")
    assert [each for each in asked if not each.startswith(own)] == []
    assert any(path.endswith(".onnx") for _, path, _ in server.asked)
    assert {(method, code) for method, _, code in server.asked} <= {("GET", 200), ("GET", 304)}


def test_the_console_stays_empty(chromium, server):
    chromium.get_log("browser")
    opened(chromium, server)
    for number in (0, 6):
        choose(chromium, number)
        assert chromium.get_log("browser") == []
