"""Videos: read frame by frame, and drawn upon."""

import json
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

import mrcnn
from mrcnn import visualize
from mrcnn.cli import main
from mrcnn.data import Playground
from mrcnn.engine.predict import find_photographs, predict
from mrcnn.pictures import PictureError
from mrcnn.video import read_video, video_length, write_video

av = pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")

IDENTITY = [1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30]
TURNED = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]  # to be shown a quarter clockwise from how it is stored


def bytes_of(matrix):
    return np.array(matrix, dtype=">i4").tobytes()


@pytest.fixture
def scenes():
    """Five scenes (128, 128, 3)."""
    return [image.permute(1, 2, 0).numpy() for image, _ in Playground(5, seed=5)]


@pytest.fixture
def video(scenes, tmp_path):
    """Written by PyAV's own means, nearly without losses, at 12.5 frames a second, its index first."""
    path = tmp_path / "scenes.mp4"
    with av.open(path, "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(25, 2), options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        for scene in scenes:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(scene, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_frames_are_read(video, scenes):
    """But for the colours, which are kept at half the resolution, they are what was written."""
    frames = list(read_video(video))
    assert video_length(video) == (5, Fraction(25, 2))
    assert len(frames) == 5
    for frame, scene in zip(frames, scenes, strict=True):
        assert frame.shape == (3, 128, 128)
        assert np.abs(frame.permute(1, 2, 0).numpy().astype(int) - scene).mean() < 6


def test_a_telephones_video_is_upright(video, scenes):
    contents = video.read_bytes()
    place = contents.rindex(bytes_of(IDENTITY))  # the track's; the first is the whole film's
    video.write_bytes(contents[:place] + bytes_of(TURNED) + contents[place + 36 :])
    frame = next(read_video(video)).permute(1, 2, 0).numpy().astype(int)
    turned = np.asarray(Image.fromarray(scenes[0]).transpose(Image.Transpose.ROTATE_270))  # clockwise
    assert np.abs(frame - turned).mean() < 6


def test_a_video_comes_out_drawn(video, tmp_path):
    model = mrcnn.playground_rcnn(pretrained=True)
    results, complaints, pictures = predict(model, [video], tmp_path / "out", batch_size=2)
    assert (complaints, pictures) == ([], 5)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["results.json", "scenes.mp4"]
    assert video_length(tmp_path / "out" / "scenes.mp4") == (5, Fraction(25, 2))
    drawn = list(read_video(tmp_path / "out" / "scenes.mp4"))
    assert {tuple(frame.shape) for frame in drawn} == {(3, 1000, 1000)}
    assert [(each["image_id"], each["frame"]) for each in results] == sorted(
        (number, number) for number in range(1, 6) for each in results if each["frame"] == number
    )
    for number, frame in enumerate(read_video(video), start=1):
        expected = model.predict(frame, min_score=0.5)
        found = [each for each in results if each["frame"] == number]
        assert [each["category_name"] for each in found] == expected["names"]
        figure = visualize.draw_photo(frame, expected, model.labels)
        assert np.abs(drawn[number - 1].permute(1, 2, 0).numpy().astype(int) - visualize.pixels(figure)).mean() < 6


def test_sides_may_be_odd(tmp_path):
    """The last row and column are left out, and nothing else moves: they alone are white."""
    frame = np.zeros((33, 51, 3), np.uint8)
    frame[-1], frame[:, -1] = 255, 255
    write_video(tmp_path / "odd.mp4", iter([frame] * 3), Fraction(10))
    read = list(read_video(tmp_path / "odd.mp4"))
    assert [tuple(each.shape) for each in read] == [(3, 32, 50)] * 3
    assert max(int(each.max()) for each in read) < 10


def test_no_frames_make_no_file(tmp_path):
    write_video(tmp_path / "none.mp4", iter([]), Fraction(10))
    assert list(tmp_path.iterdir()) == []


def test_broken_videos_are_told(video, tmp_path, capsys):
    """One that is none, one without its index, one without pictures, one that is missing; the others are done."""
    text, cut, missing = tmp_path / "text.mp4", tmp_path / "cut.mov", tmp_path / "missing.mkv"
    text.write_text("no video")
    cut.write_bytes(video.read_bytes()[:3000])
    out = tmp_path / "out"
    options = ["--weights", "playground", "--out", str(out)]
    with pytest.raises(SystemExit) as end:
        main(["predict", str(text), str(cut), str(missing), str(video), *options])
    assert end.value.code == 1
    complaints = capsys.readouterr().err.strip().splitlines()
    assert [line.split(" ")[1] for line in complaints] == [str(text), str(cut), str(missing)]
    assert complaints[2].endswith("is missing")
    assert sorted(path.name for path in out.iterdir()) == ["results.json", "scenes.mp4"]
    assert {entry["image_id"] for entry in json.loads((out / "results.json").read_text())} <= {4, 5, 6, 7, 8}


def test_a_video_that_ends_too_early_is_told(video):
    """The index is there, and says five frames; the bytes of the last are not."""
    with av.open(video) as container:
        last = max(packet.pos for packet in container.demux(video=0) if packet.size)
    contents = bytearray(video.read_bytes())
    assert contents.index(b"moov") < contents.index(b"mdat")
    video.write_bytes(contents[:last])
    with pytest.raises(PictureError, match="4 frames of 5 can be read"):
        list(read_video(video))


def test_a_video_of_sound_alone_is_told(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(PictureError, match="has no pictures in it"):
        next(read_video(path))


def test_videos_are_found_in_folders(video, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    assert find_photographs([tmp_path]) == [video]
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert find_photographs([tmp_path]) == [tmp_path / "a.png", video]


def test_without_pyav_it_is_told(video, monkeypatch, capsys, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SystemExit) as end:
        main(["predict", str(video), "--weights", "playground", "--out", str(tmp_path / "out")])
    assert end.value.code == 1
    assert "pip install 'mrcnn[video]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
