"""The page on which the model runs in the reader's browser: seconds for a picture, beside the same file in Python.

    python benchmarks/in_browser.py [--repeats 9]

Chromium runs the page's own modules: with one thread, as a plain server gives it, and with several, where the server
isolates the page. Then, in turns, onnxruntime in Python runs the page's file with as many threads, and so does our
model. Times are medians of `repeats` looks; the first look of the page does not count.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from common import machine, markdown_table, turns, write
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "site"))
import browser
from built import build
from served import ISOLATED, Server

import mrcnn

PICTURES = ("scene1.png", "coins.jpg", "astronaut.jpg")
LOOKS = """
const [files, repeats, done] = arguments;
const here = (name) => new URL(name, `${location.origin}/try/`);
const { decoded } = await import(here("pictures.js"));
const { openModel } = await import(here("model.js"));
const page = await (await fetch(here("page.json"))).json();
const look = openModel(page.load, () => {});
const rows = [];
for (const file of files) {
  const { picture } = await decoded(await (await fetch(here(file))).blob(), file, page.longest);
  const seconds = [];
  let threads;
  for (let turn = 0; turn <= repeats; turn++) {
    const answer = await look(picture);
    seconds.push(answer.seconds);
    threads = answer.threads;
  }
  rows.push({ file, threads, size: [picture.width, picture.height], seconds: seconds.slice(1) });
}
done(rows);
"""


def in_browser(folder: Path, headers: dict[str, str], repeats: int) -> list[dict]:
    """One row for each picture: its size as the page reduces it, the threads, the seconds of each look."""
    server = Server(folder, headers)
    with tempfile.TemporaryDirectory() as profile:
        driver = browser.start(profile)
        try:
            driver.get(f"{server.address}/try/index.html")
            script = f"(async function () {{{LOOKS}}}).apply(null, arguments)"
            return driver.execute_async_script(script, list(PICTURES), repeats)
        finally:
            driver.quit()
            server.shutdown()
            server.server_close()


def in_python(folder: Path, file: str, size: list[int], threads: int, repeats: int) -> dict[str, float]:
    """Median seconds of onnxruntime and of our model, by name, in turns."""
    image = np.asarray(Image.open(folder / "try" / file).convert("RGB").resize(size))
    picture = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32) / 255
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(folder / "try" / build.MODEL), options)
    model = mrcnn.playground_rcnn(pretrained=True)
    torch.set_num_threads(threads)
    calls = {
        "onnxruntime": lambda: session.run(None, {"image": picture}),
        "ours": lambda: model([torch.from_numpy(picture)]),
    }
    with torch.inference_mode():
        return {name: statistics.median(seconds) for name, seconds in turns(calls, repeats).items()}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--repeats", type=int, default=9)
    repeats = options.parse_args().repeats
    where, rows = machine(), []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        build.build(folder)
        for headers in ({}, ISOLATED):
            for each in in_browser(folder, headers, repeats):
                seconds = {"browser": statistics.median(each.pop("seconds"))}
                rows.append(each | seconds | in_python(folder, each["file"], each["size"], each["threads"], repeats))
    header = ["picture", "threads", "in Chromium", "onnxruntime in Python", "our model"]
    sides = ("browser", "onnxruntime", "ours")
    lines = [
        [
            f"{each['file']}, {each['size'][0]} \N{MULTIPLICATION SIGN} {each['size'][1]}",
            str(each["threads"]),
            *(f"{1e3 * each[side]:,.0f} ms" for side in sides),
        ]
        for each in rows
    ]
    text = (
        "# The model in the reader's browser\n\n"
        "The page's file has the film's inner values among its answers.\n\n"
        f"{markdown_table(header, lines)}\n\n{where['cpu']}, {where['cores']} cores, {where['vectors']}, "
        f"torch {where['torch']}, onnxruntime {onnxruntime.__version__}, {build.RUNTIME.removesuffix('.tgz')}."
    )
    write("in_browser", {"machine": where, "rows": rows}, text)


if __name__ == "__main__":
    main()
