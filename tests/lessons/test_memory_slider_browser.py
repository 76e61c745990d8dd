"""A warp's read to be slid, in a browser: sectors and turns against counting, by keys and buttons, without scripts."""

import pytest
from touch_page import Touched, write_page

from mrcnn import lab


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("memory_slider"), lab.memory_slider(2, 3), lab.memory_slider())


def counted(stride, offset):
    """Sectors and turns, by bytes and in plain loops."""
    sectors, asked = set(), {}
    for lane in range(32):
        first = 4 * (offset + stride * lane)
        sectors.add(first // 32)
        asked.setdefault(first // 4 % 32, set()).add(first)
    return len(sectors), max(map(len, asked.values()))


def told(root):
    return tuple(int(root.get_attribute(f"data-{name}")) for name in ("sectors", "turns"))


def test_every_stride_and_offset_is_counted_right(chromium, page):
    chromium.get(page)
    root = Touched(chromium).root
    script = """
      const [root, stride, offset] = arguments;
      for (const [name, value] of Object.entries({ stride, offset })) {
        const slider = root.querySelector(`input[aria-label="${name}"]`);
        slider.value = value;
        slider.dispatchEvent(new Event("input"));
      }
      return [root.dataset.sectors, root.dataset.turns,
        root.querySelectorAll(".sector.moved").length,
        Math.max(...[...root.querySelectorAll("[data-words]")].map((each) => Number(each.dataset.words)))];
    """
    for stride in range(34):
        for offset in (0, 1, 7):
            sectors, turns, drawn, highest = map(int, chromium.execute_script(script, root, stride, offset))
            assert (sectors, turns) == counted(stride, offset), (stride, offset)
            assert (drawn, highest) == (sectors, turns)
    assert [log for log in chromium.get_log("browser") if "favicon" not in log["message"]] == []


def test_keys_and_buttons(chromium, page):
    from selenium.webdriver import Keys

    chromium.get(page)
    first, second = (Touched(chromium, number) for number in (0, 1))
    assert told(first.root) == counted(2, 3)
    first.one('[aria-label="stride"]').send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert told(first.root) == counted(4, 3)
    assert first.says.startswith(
        "Lane l reads number 3 + 4 · l. Global memory moves 16 sectors, 512 bytes, of which 128"
    )
    for words, stride in (("a column of 32", 32), ("padded to 33", 33), ("all the same", 0)):
        first.click(words)
        assert told(first.root) == counted(stride, 3)
    assert first.says.endswith(
        "of which 4 are wanted. In shared memory 1 of 32 banks are asked, one of them for 1 word: 1 turn."
    )
    assert told(second.root) == (4, 1)


def test_what_it_says():
    for stride in range(34):
        sectors, turns = counted(stride, 5)
        assert (
            f"moves {sectors} sectors of 32 bytes; shared memory needs {turns} turn"
            in lab.memory_slider(stride, 5).description
        )
    with pytest.raises(ValueError, match="stride must be 0 to 33 and offset 0 to 7, got 34 and 0"):
        lab.memory_slider(34)
