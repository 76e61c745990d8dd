"""Videos, frame by frame: read and written by PyAV, which comes with the extra `video`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from mrcnn.files import write_whole
from mrcnn.pictures import PictureError, check_is_file

SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})


def is_video(file: str | Path) -> bool:
    """By its name: whether `read_video` is to read it."""
    return Path(file).suffix.lower() in SUFFIXES


def read_video(file: str | Path) -> Iterator[Tensor]:
    """The frames of a video, upright, uint8 (3, H, W) each.

    Raises PictureError for a file that is missing, no video, or of fewer frames than it says.
    """
    with_av = load_av()
    check_is_file(file)
    count = 0
    try:
        with with_av.open(str(file)) as container:
            stream = video_stream(container, file)
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                count += 1
                image = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
                yield image.rot90(frame.rotation // 90, (1, 2))  # as telephones store them: turned
            promised = stream.frames
    except with_av.FFmpegError as error:
        raise PictureError(f"{file} cannot be read{f' after frame {count}' * bool(count)}: {error.strerror}") from error
    if count < max(promised, 1):
        raise PictureError(f"{file} was cut short: {count} frames of {max(promised, 1)} can be read")


def video_length(file: str | Path) -> tuple[int, Fraction]:
    """How many frames a video says it has, 0 where it does not, and how many it shows in a second."""
    with_av = load_av()
    check_is_file(file)
    try:
        with with_av.open(str(file)) as container:
            stream = video_stream(container, file)
            return stream.frames, stream.average_rate or Fraction(25)
    except with_av.FFmpegError as error:
        raise PictureError(f"{file} cannot be read: {error.strerror}") from error


def video_stream(container: Any, file: str | Path) -> Any:
    if not container.streams.video:
        raise PictureError(f"{file} has no pictures in it")
    return container.streams.video[0]


def write_video(path: str | Path, frames: Iterable[np.ndarray], rate: Fraction) -> None:
    """Writes frames uint8 (H, W, 3), all of one size, as an MP4 (H.264) of `rate` frames a second, whole or not at all;
    of no frames it makes no file. H.264 halves the sides of its colours, so an odd last row or column is left out."""
    frames = iter(frames)
    first = next(frames, None)
    if first is not None:
        height, width = (side // 2 * 2 for side in first.shape[:2])
        even = (pixels[:height, :width] for pixels in itertools.chain([first], frames))
        write_whole(path, lambda file: encode(file, even, (height, width), rate))


def encode(file: IO[bytes], frames: Iterable[np.ndarray], size: tuple[int, int], rate: Fraction) -> None:
    with_av = load_av()
    with with_av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for pixels in frames:
            frame = with_av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def load_av() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise ImportError(f"videos need PyAV ({error}): pip install 'mrcnn[video]'") from error
    return av
