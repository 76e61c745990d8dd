"""What disks, other programs and slips of the hand do to files."""

import copy
import io
import json
import math
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import torch
from PIL import Image

NUMBERS = [-1, 0, 1, 2, 7, 0.5, 1e-9, 1e-300, 1e6, 1e20, 1e308, math.nan, math.inf, -math.inf, 2**31, 2**63, 10**25]
TEXTS = ["", "a", "é\0", "x" * 5000, "../x.png", "/etc/hostname", "playground", "0P1000", "\ud800", "NaN"]
POLYGONS = [[[0, 0, 1e6, 0, 1e6, 1e6]] * 50, [[-999999, -999999, 999999, 999999] * 500] * 20, [[5, 5] * 3], [[1, 2, 3]]]
OTHERS = [None, True, [], {}, [[]], [None], {"id": 1}, [1e9] * 4, [1, 2, 3], {"size": [64, 64], "counts": "P" * 3000}]


STRANGE = [
    *[(mode, "PNG") for mode in ("1", "LA", "P", "RGBA", "I;16")],
    *[(mode, "JPEG") for mode in ("L", "CMYK", "YCbCr")],
    *[(mode, "TIFF") for mode in ("I", "F", "LAB")],
    *[("RGB", form) for form in ("WEBP", "GIF")],
]  # modes and forms of pictures


# ---- bytes


def damaged_bytes(data: bytes) -> bytes:
    start, end = sorted(random.choices(range(len(data) + 1), k=2))
    noise = random.randbytes(random.choice([1, 2, 16, 300]))
    flipped = bytearray(data)
    for _ in range(random.choice([1, 1, 3, 30])):
        if data:
            flipped[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return random.choice(
        [
            bytes(flipped),
            bytes(flipped),
            data[:end],  # cut short
            data[:start] + data[end:],
            data[:start] + noise + data[start:],
            data[:start] + noise + data[start + len(noise) :],
            data[:start] + bytes(end - start) + data[end:],  # a block that never reached the disk
            data[:end] + data[start:],
            b"\xef\xbb\xbf" + data,
            noise,
            b"",
        ]
    )


# ---- trees of dicts and lists: JSON, and what a model file holds


def damaged_tree(tree: Any, values: list[Any]) -> Any:
    """A few random edits, each at a random depth. Changes the tree."""
    root = [tree]
    for _ in range(random.choice([1, 1, 2, 4])):
        edit(*random_place(root), random_place(root), values)
    return root[0]


def random_place(root: list) -> tuple[Any, Any]:
    """A container and one of its keys; a child is taken with the same chance whether it is large or small."""
    container, key = root, 0
    while isinstance(container[key], dict | list) and container[key] and random.random() < 0.8:
        container = container[key]
        key = random.choice(list(container)) if isinstance(container, dict) else random.randrange(len(container))
    return container, key


def edit(container: Any, key: Any, other: tuple[Any, Any], values: list[Any]) -> None:
    there = container[key]
    how = random.choice(["replace", "replace", "nudge", "nudge", "delete", "twice", "wrap", "copy", "rename"])
    if how == "delete" and len(container) > 1:
        del container[key]
    elif how == "twice" and isinstance(container, list):
        container.insert(key, copy.deepcopy(there))
    elif how == "wrap":
        container[key] = random.choice([[there], {"a": there}, {"id": there}])
    elif how == "copy":
        container[key] = copy.deepcopy(other[0].get(other[1]) if isinstance(other[0], dict) else other[0][:1])
    elif how == "rename" and isinstance(container, dict):
        container[random.choice(["", "id", f"{key} ", 7])] = container.pop(key)
    elif how == "nudge" and isinstance(there, torch.Tensor):
        container[key] = nudged_tensor(there)
    elif how == "nudge" and type(there) in (int, float):
        container[key] = random.choice([-there, there + 1, there * 1000, there / 3, str(there), float(there)])
    else:
        container[key] = copy.deepcopy(random.choice(values))


def nudged_tensor(tensor: torch.Tensor) -> torch.Tensor:
    return random.choice(
        [
            lambda: tensor * math.nan if tensor.is_floating_point() else tensor,
            lambda: tensor * 1e30,
            lambda: tensor.int(),
            lambda: tensor.half(),
            lambda: tensor.to(torch.complex64),
            lambda: tensor.bool(),
            lambda: tensor[:0] if tensor.dim() else tensor,
            lambda: tensor.unsqueeze(0),
            lambda: tensor.flatten(),
            lambda: tensor.float().to_sparse(),
            lambda: torch.zeros(1).expand(10**9),
            lambda: tensor.to("meta"),
        ]
    )()


def damage_json(file: Path) -> None:
    tree = damaged_tree(json.loads(file.read_text()), NUMBERS + TEXTS + POLYGONS + OTHERS)
    data = json.dumps(tree).encode()
    file.write_bytes(damaged_bytes(data) if random.random() < 0.15 else data)


def damage_weights(file: Path) -> None:
    if random.random() < 0.4:
        file.write_bytes(damaged_bytes(file.read_bytes()))
        return
    values = [*NUMBERS, *TEXTS[:-2], *OTHERS, torch.zeros(3), torch.tensor(math.nan), Path("a"), (1, 2), b"a", 1j]
    torch.save(damaged_tree(torch.load(file, weights_only=True), values), file)


# ---- pictures


def damage_picture(file: Path) -> None:
    how = random.choice(["bytes", "bytes", "bytes", "strange", "strange", "header", "text", "folder", "gone"])
    if how == "bytes":
        with Image.open(file) as picture:
            whole = picture_bytes(picture.convert("RGB"), random.choice(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]))
        file.write_bytes(damaged_bytes(whole))
    elif how == "strange":
        file.write_bytes(strange_picture())
    elif how == "header":
        file.write_bytes(resized_header(file.read_bytes()))
    elif how == "text":
        file.write_text(random.choice(TEXTS[:6]))
    else:
        file.unlink()
        if how == "folder":
            file.mkdir()


def picture_bytes(picture: Image.Image, form: str, **options: Any) -> bytes:
    with io.BytesIO() as file:
        picture.save(file, form, **options)
        return file.getvalue()


def strange_picture() -> bytes:
    """A sound picture of a rare kind."""
    mode, form = random.choice(STRANGE)
    size = random.choice([(64, 64), (1, 1), (1, 3000), (3000, 1), (64, 63), (200, 64)])
    picture = Image.effect_noise(size, 60).convert("RGB" if mode in ("LAB", "I;16") else "L")
    picture = Image.new(mode, size) if mode in ("LAB", "I;16") else picture.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = random.choice([1, 3, 6, 8, 0, 99])  # which way is up
    return picture_bytes(picture, form, **({"exif": exif} if form in ("PNG", "JPEG", "WEBP") else {}))


def resized_header(png: bytes) -> bytes:
    """A PNG whose header promises another size, with the right check sum."""
    width, height = random.choices([0, 1, 63, 65, 10_000, 60_000, 2**31 - 1], k=2)
    header = b"IHDR" + struct.pack(">II", width, height) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]
