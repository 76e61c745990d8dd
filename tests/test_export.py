"""The model captured by `torch.export` and written to ONNX: onnxruntime's answers, the model's and torchvision's.

Tolerances are those of two programs that sum in different orders: see `mrcnn.export.LIMITS` and models/agreement.py.
"""

import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

import mrcnn
from mrcnn import keypoint_head, ops

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")

from mrcnn import export  # noqa: E402
from mrcnn.cli import main  # noqa: E402

FREE = torch.export.Dim.DYNAMIC
# Height and width: the playground's own, upright, beyond the longest side (256), one pixel wide, one pixel.
SIZES = ((128, 128), (150, 213), (301, 97), (90, 700), (1, 60), (60, 1), (1, 1))


def session(contents):
    return onnxruntime.InferenceSession(contents, providers=["CPUExecutionProvider"])


def run(file, **given):
    names = [output.name for output in file.get_outputs()]
    found = file.run(None, {name: value.numpy() for name, value in given.items()})
    return dict(zip(names, map(torch.from_numpy, found), strict=True))


@pytest.fixture(scope="module")
def model():
    return mrcnn.playground_rcnn(pretrained=True)


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    """The model's file, and how it compared on the pictures it is checked with."""
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    return path, export.to_onnx(model, path)


def scene(height, width):
    """A scene with objects in it, of any size."""
    return nn.functional.interpolate(export.scenes(None)[1][None], (height, width), mode="bilinear")[0]


# ---- torch.export


def test_the_model_is_captured_for_pictures_of_any_size(model):
    example = [torch.zeros(3, 100, 140)]
    captured = torch.export.export(model, (example,), dynamic_shapes=([{1: FREE, 2: FREE}],)).module()
    found = 0
    for size in SIZES:
        picture = scene(*size)
        with torch.no_grad():
            expected, given = model([picture])[0], captured([picture])[0]
        found += len(expected["boxes"])
        for name, value in expected.items():
            torch.testing.assert_close(given[name], value, rtol=1e-3, atol=1e-3)
    assert found > 30


# ---- The file


@pytest.mark.parametrize("size", SIZES)
def test_the_file_gives_the_models_answers(model, written, size):
    picture = scene(*size)
    with torch.no_grad():
        expected = model([picture])[0]
    found = run(session(written[0].read_bytes()), image=picture)
    assert found.keys() == expected.keys()
    assert found["labels"].tolist() == expected["labels"].tolist()
    for name, limit in export.LIMITS.items():
        assert found[name].shape == expected[name].shape
        assert found[name].numel() == 0 or (found[name] - expected[name]).abs().max() <= limit


def test_a_picture_without_objects(model, written):
    found = run(session(written[0].read_bytes()), image=torch.zeros(3, 40, 50))
    shapes = {"boxes": (0, 4), "labels": (0,), "scores": (0,), "masks": (0, 1, 40, 50)}
    shapes |= {"keypoints": (0, 17, 3), "keypoints_scores": (0, 17)}
    assert {name: tuple(value.shape) for name, value in found.items()} == shapes


def test_the_comparison_compares_something(written):
    comparisons = written[1]
    assert [each.size for each in comparisons] == list(export.CHECKED_SIZES)
    assert all(each.objects >= 5 and each.missing == 0 and each.equal() for each in comparisons)
    assert "301 x 97" in export.summary(comparisons)


def test_any_runtime_can_read_the_file(model, written):
    """Only ONNX's own operators; sizes are free; the metadata build the model again and name what it finds."""
    contents = onnx.load(written[0])
    onnx.checker.check_model(contents, full_check=True)
    assert {node.domain for node in contents.graph.node} == {""}
    assert b"site-packages" not in written[0].read_bytes(), "a file for others tells nothing of this machine"
    assert str(Path(__file__).parents[1]).encode() not in written[0].read_bytes()
    assert not contents.functions
    (image,) = contents.graph.input
    assert image.name == "image"
    channels, height, width = image.type.tensor_type.shape.dim
    assert channels.dim_value == 3
    assert height.dim_param
    assert width.dim_param
    metadata = {each.key: each.value for each in contents.metadata_props}
    assert json.loads(metadata["labels"]) == model.labels
    again = mrcnn.zoo.build(metadata["builder"], settings=json.loads(metadata["settings"]))
    assert again.settings == model.settings


def test_the_file_of_a_resnet_finds_what_torchvision_finds(tmp_path):
    twins = pytest.importorskip("models.twins", reason="torchvision, the yardstick, is not installed")
    from models.agreement import assert_same_detections

    theirs, ours = twins.small_pair(twins.JOINT)
    photo = twins.photograph("coffee")
    export.to_onnx(ours, tmp_path / "model.onnx", pictures=[photo])
    assert ours.training, "the model is left as it was"
    file = session((tmp_path / "model.onnx").read_bytes())
    for picture in (photo, photo[:, 60:330, 200:480]):
        with torch.no_grad():
            expected = theirs.eval()([picture])[0]
        assert len(expected["boxes"]) >= 5
        assert_same_detections(expected, run(file, image=picture))


def test_options(model, tmp_path):
    """A fixed size, masks as large as their boxes, weights in half the bytes, and a later opset, all at once."""
    path = tmp_path / "small.onnx"
    export.to_onnx(model, path, size=(96, 144), paste=False, float16=True, opset=20)
    contents = onnx.load(path)
    assert [each.version for each in contents.opset_import if each.domain == ""] == [20]
    assert path.stat().st_size < 0.6 * sum(4 * value.numel() for value in model.state_dict().values())
    file = session(path.read_bytes())
    assert file.get_inputs()[0].shape == [3, 96, 144]
    picture = scene(96, 144)
    found = run(file, image=picture)
    with torch.no_grad():
        expected = model([picture])[0]
    assert found["masks"].shape == (len(expected["boxes"]), 1, 28, 28)
    # A weight rounded to 11 bits is off by up to 5e-4 of itself, at random: of a score near 0.5 about a hundredth.
    torch.testing.assert_close(found["scores"], expected["scores"], rtol=0, atol=0.02)
    assert not torch.allclose(found["scores"], expected["scores"], rtol=0, atol=1e-6), "nothing was rounded"


# ---- Our ops in ONNX


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *given):
        return self.function(*given)


def in_onnx(function, **given):
    """What a function of tensors gives in onnxruntime, its first dimension free."""
    program = torch.onnx.export(
        Call(function).eval(),
        tuple(given.values()),
        dynamo=True,
        verbose=False,
        input_names=list(given),
        dynamic_shapes=(tuple({0: torch.export.Dim.AUTO} for _ in given),),
        custom_translation_table=export.TRANSLATIONS,
    )
    return list(run(session(program.model_proto.SerializeToString()), **given).values())


def test_nms_of_groups_and_ties():
    """Against torchvision, group by group; equal scores across groups stand in the order of their rows."""
    theirs = pytest.importorskip("torchvision.ops", reason="torchvision, the yardstick, is not installed")
    random = torch.Generator().manual_seed(0)
    corners = torch.rand(300, 2, generator=random) * 60
    boxes = torch.cat((corners, corners + 5 + torch.rand(300, 2, generator=random) * 30), dim=1)
    scores = (torch.rand(300, generator=random) * 40).round() / 40  # many are the same, some are 0
    groups = torch.randint(0, 5, (300,), generator=random)
    groups[groups == 3] = 0  # one that nobody is in
    each = [(groups == group).nonzero()[:, 0] for group in range(5)]
    kept = torch.cat([rows[theirs.nms(boxes[rows], scores[rows], 0.4)] for rows in each]).sort().values
    expected = kept[scores[kept].argsort(descending=True, stable=True)]
    (found,) = in_onnx(lambda *each: ops.batched_nms(*each, 0.4), boxes=boxes, scores=scores, groups=groups)
    assert 50 < len(found) < 250
    assert found.tolist() == expected.tolist()


def test_the_order_of_scores_near_one():
    """A sigmoid rises, and does so in steps that float32 makes wide near 1: scores are equal, or in the logits' order.
    The yardstick is a sigmoid in float64, rounded once."""
    logits = torch.linspace(-90, 90, 400_001)
    (found,) = in_onnx(torch.sigmoid, logits=logits)
    assert (found.diff() >= 0).all()
    torch.testing.assert_close(found, logits.double().sigmoid().float(), rtol=3e-7, atol=1e-37)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("sampling_ratio", [2, -1])
def test_roi_align(aligned, sampling_ratio):
    theirs = pytest.importorskip("torchvision.ops", reason="torchvision, the yardstick, is not installed")
    random = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 20, 30, generator=random)
    rois = torch.tensor([[0, 4.0, 6, 50, 70], [1, -9, -3, 30, 20], [1, 100, 60, 130, 90], [0, 8, 8, 9, 9]])
    how = {"spatial_scale": 0.25, "sampling_ratio": sampling_ratio, "aligned": aligned}
    (found,) = in_onnx(lambda *each: ops.roi_align(*each, (7, 5), **how), features=features, rois=rois)
    torch.testing.assert_close(found, theirs.roi_align(features, rois, (7, 5), **how), rtol=1e-4, atol=1e-5)


def test_peaks_of_heatmaps():
    theirs = pytest.importorskip("torchvision.models.detection.roi_heads", reason="torchvision is not installed")
    random = torch.Generator().manual_seed(0)
    heatmaps = nn.functional.interpolate(torch.randn(6, 4, 7, 7, generator=random), (56, 56), mode="bicubic")
    boxes = torch.tensor(
        [[1.0, 2, 60, 90], [5.5, 4.25, 30.75, 50], [0, 0, 0.4, 30], [3, 3, 3, 3], [10, 10, 11, 200], [-5, -6, 70, 20]]
    )
    expected, expected_scores = theirs.heatmaps_to_keypoints(heatmaps, boxes)
    keypoints, scores = in_onnx(keypoint_head.as_one_node, heatmaps=heatmaps, boxes=boxes)
    torch.testing.assert_close(keypoints, expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(scores, expected_scores, rtol=1e-4, atol=1e-4)


# ---- What does not go


def test_a_file_that_differs_is_not_kept(model, tmp_path, monkeypatch):
    """RoIAlign half a pixel off: what a wrong translation would do."""
    wrong = dict(export.TRANSLATIONS)
    wrong[torch.ops.mrcnn.roi_align.default] = lambda *each: export.onnx_roi_align(*each[:-1], not each[-1])
    monkeypatch.setattr(export, "TRANSLATIONS", wrong)
    with pytest.raises(export.ExportError, match="128 x 128 pixels: "):
        export.to_onnx(model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def detections(*rows):
    """boxes [x, y, x + 10, y + 10], labels and scores from rows (x, y, label, score)."""
    x, y, labels, scores = (torch.tensor(each) for each in zip(*rows, strict=True))
    return {"boxes": torch.stack((x, y, x + 10, y + 10), 1).float(), "labels": labels, "scores": scores}


@pytest.mark.parametrize(
    ("theirs", "both", "missing", "boxes"),
    [
        (((0, 0, 1, 0.9), (50, 50, 2, 0.3)), 2, 0, 0.0),
        (((50, 50, 2, 0.3), (0, 0, 1, 0.9)), 2, 0, 0.0),  # the order does not count
        (((2, 0, 1, 0.9), (50, 50, 2, 0.3)), 2, 0, 2.0),
        (((0, 0, 1, 0.9), (50, 50, 1, 0.3)), 1, 2, 0.0),  # another class is another object
        (((0, 0, 1, 0.9),), 1, 1, 0.0),
        (((0, 0, 1, 0.9), (50, 50, 2, 0.3), (90, 90, 1, 0.0505)), 2, 0, 0.0),  # hardly above the limit of 0.05
        (((0, 0, 1, 0.9), (50, 50, 2, 0.3), (90, 90, 1, 0.06)), 2, 1, 0.0),
    ],
)
def test_how_results_agree(theirs, both, missing, boxes):
    ours = detections((0, 0, 1, 0.9), (50, 50, 2, 0.3))
    objects, alone, differences = export.agreement(ours, detections(*theirs), 0.05)
    assert (objects, alone, differences["boxes"]) == (both, missing, boxes)


@pytest.mark.parametrize(("detections", "lowest"), [(3, 0.3), (4, 0.05)])
def test_of_a_full_list_the_last_is_not_certain(detections, lowest):
    model = mrcnn.playground_rcnn(box={"detections": detections})
    assert export.lowest_kept(model, torch.tensor([0.9, 0.5, 0.3])) == pytest.approx(lowest)


@pytest.mark.parametrize(
    ("missing", "boxes", "equal"), [(0, 0.04, True), (0, 0.06, False), (1, 0.04, False), (0, float("nan"), False)]
)
def test_what_is_equal(missing, boxes, equal):
    assert export.Comparison((9, 9), 3, missing, {"boxes": boxes, "scores": 0.0}, (1.0, 1.0)).equal() == equal


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"opset": 17}, ValueError, "opset must be 18 to 21, got 17"),
        (
            {"size": (0, 10)},
            ValueError,
            "size must be None or .height, width., each a whole number from 1 to 16384, got .0, 10.",
        ),
        ({"size": (30, 40), "pictures": [torch.zeros(3, 40, 30)]}, ValueError, "of the size .30, 40., got one of .40"),
        ({"pictures": []}, TypeError, "images must be a list of at least one tensor"),
        ({"pictures": [torch.zeros(3, 9, 9) * torch.nan]}, ValueError, "must be finite"),
    ],
)
def test_bad_requests(model, tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        export.to_onnx(model, tmp_path / "model.onnx", **options)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_model_of_ours(tmp_path):
    with pytest.raises(TypeError, match="model must be a MaskRCNN, got "):
        export.to_onnx(nn.Linear(2, 2), tmp_path / "model.onnx")


# ---- The command


def command(*arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


def test_the_command(tmp_path, capsys):
    photo, out = tmp_path / "photo.png", tmp_path / "new" / "model.onnx"
    Image.fromarray(scene(60, 90).permute(1, 2, 0).mul(255).byte().numpy()).save(photo)
    options = ("--size", 60, 90, "--small-masks", "--float16", "--check", photo)
    assert command("export", "--weights", "playground", "--out", out, *options) == 0
    said = capsys.readouterr().out
    assert "\n60 x 90  " in said
    assert f"{out}: {out.stat().st_size / 1e6:.1f} MB" in said
    assert session(out.read_bytes()).get_inputs()[0].shape == [3, 60, 90]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--opset", "9"), "opset must be 18 to 21, got 9"),
        (("--check", "nowhere.png"), "nowhere.png"),
        (("--weights", "nowhere.pt"), "nowhere.pt: there is no such file"),
        (("--weights", __file__), "not a file of weights"),
    ],
)
def test_what_the_command_refuses(options, words, tmp_path, capsys):
    assert command("export", "--weights", "playground", "--out", tmp_path / "model.onnx", *options) == 1
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_the_packages_for_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "mrcnn.export")
    assert command("export", "--weights", "playground", "--out", tmp_path / "model.onnx") == 1
    assert "pip install 'mrcnn[export]'" in capsys.readouterr().err
