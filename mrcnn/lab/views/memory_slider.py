"""A stride to slide: how many sectors of memory a warp's read moves, how many turns the banks of shared memory need.

The page's script (mrcnn/lab/web/memory_slider.js) counts anew at every move; here is the start.
"""

from .svg import COLOURS, EMPTY, RULE, Drawing
from .touch import Touch
from .view import View

LANES, BYTES, SECTOR, BANKS = 32, 4, 32, 32
MOST = 33  # the largest stride: a column of 32 numbers, padded by one
HINT = (
    "Slide with the mouse, a finger, or the arrow keys. Orange: sectors of 32 bytes that are moved; blue: the numbers "
    "that the 32 lanes want. A bank answers one word a turn, to all lanes that want it; its other words wait."
)


def memory_slider(stride: int = 1, offset: int = 0, title: str = "") -> Touch:
    """Lane l of a warp reads float32 number `offset` + `stride` · l, from global memory and from shared memory.

    Raises:
        ValueError: the stride is not 0 to 33, or the offset not 0 to 7.
    """
    if not (0 <= stride <= MOST and 0 <= offset < SECTOR // BYTES):
        raise ValueError(f"stride must be 0 to {MOST} and offset 0 to 7, got {stride} and {offset}")
    title = title or "A warp reads 32 numbers"
    sectors, turns = sectors_of(stride, offset), turns_of(stride)
    told = (
        f"With a stride of {stride} and an offset of {offset} global memory moves {sectors} sectors of {SECTOR} bytes; "
        f"shared memory needs {turns} turn{'' if turns == 1 else 's'}."
    )
    return Touch(
        "memory_slider",
        title,
        {"title": title, "hint": HINT, "stride": stride, "offset": offset, "most": MOST},
        View(still(stride, offset), f"A strip of memory in sectors, and what a warp reads of it. {told}"),
        f"{title}.\n{told}",
    )


def words_of(stride: int, offset: int) -> list[int]:
    """Which 4-byte word each lane wants."""
    return [offset + lane * stride for lane in range(LANES)]


def sectors_of(stride: int, offset: int) -> int:
    return len({word * BYTES // SECTOR for word in words_of(stride, offset)})


def turns_of(stride: int) -> int:
    """The most different words that one bank is asked for. (An offset only gives the banks other numbers.)"""
    words = set(words_of(stride, 0))
    return max(sum(word % BANKS == bank for word in words) for bank in range(BANKS))


def still(stride: int, offset: int) -> str:
    """An SVG of the sectors up to the last that is touched, 16 in a row."""
    words = words_of(stride, offset)
    moved = {word * BYTES // SECTOR for word in words}
    wide, high, each = 4.5, 22, SECTOR // BYTES
    rows = max(words) // (16 * each) + 1
    drawing = Drawing(16 * each * wide, rows * (high + 6))
    for sector in range(16 * rows):
        x, y = sector % 16 * each * wide, sector // 16 * (high + 6)
        drawing.rect(x, y, each * wide, high, fill=COLOURS[0] if sector in moved else EMPTY, stroke=RULE)
    for word in words:
        drawing.rect(word % (16 * each) * wide, word // (16 * each) * (high + 6), wide, high, fill=COLOURS[6])
    return str(drawing)
