"""A model from detectron2's file finds what its own forward pass finds, which detectron2_forward.py writes anew."""

import functools
import json
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
import twins
from agreement import MASK, matched
from detectron2_forward import SIZES, STRIDES, anchors, detect, paste
from detectron2_weights import background_last, checkpoint, renamed
from PIL import Image
from torchvision.ops import roi_align

import mrcnn
from mrcnn.anchors import AnchorSettings, make_anchors
from mrcnn.cli import main
from mrcnn.mask_head import MaskHead, MaskSettings, paste_masks, paste_masks_at_once
from mrcnn.model_file import save_model
from mrcnn.sampling import Samples
from mrcnn.zoo import load_model

# Padded to 224 × 352, of which P6's stride is no divisor.
HEIGHT, WIDTH = 210, 340
SETTINGS = {"images": {"min_size": (HEIGHT,), "max_size": WIDTH}}
NOISE = 1e-6  # of pixels in [0, 1]: it moves boxes by 0.01 pixels, rounding by 0.001


def resized(photo: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(photo[None], size, mode="bilinear")[0]


@functools.cache
def photograph(builder: str = "maskrcnn_resnet50_fpn", size: tuple[int, int] = (HEIGHT, WIDTH)) -> torch.Tensor:
    """The photograph, darkened until no object found in it at this size hangs on rounding.

    Of thousands of pairs of proposals that NMS compares, one may overlap by 0.7 to six digits. Then the order in which
    a processor sums decides whether an object is found. Noise a little above rounding finds such pictures out.
    """
    state = {name: tensor for name, tensor in checkpoint(builder).items() if ".mask_head." not in name}
    for brightness in (1, 0.99, 0.98, 0.97, 0.96, 0.95):
        photo = brightness * twins.photograph("coffee")
        small, noise = resized(photo, size), torch.Generator().manual_seed(0)
        pictures = [small] + [small + NOISE * torch.randn(small.shape, generator=noise) for _ in range(6)]
        found = {tuple(detect(state, each)["classes"].sort()[0].tolist()) for each in pictures}
        if len(found) == 1:
            return photo
    raise AssertionError("at every brightness an object hangs on rounding")


def picture(builder: str = "maskrcnn_resnet50_fpn") -> torch.Tensor:
    return resized(photograph(builder), (HEIGHT, WIDTH))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A checkpoint as detectron2's training leaves it."""
    path = tmp_path_factory.mktemp("detectron2") / "model_final.pth"
    torch.save({"model": checkpoint(), "optimizer": {"state": {}}, "iteration": 90_000}, path)
    return path


@pytest.fixture(scope="module")
def model(file):
    return mrcnn.maskrcnn_resnet50_fpn(weights=file, **SETTINGS).eval()


@torch.no_grad()
def found_by(model: torch.nn.Module, photo: torch.Tensor) -> dict[str, torch.Tensor]:
    return model([photo])[0]


def in_our_form(theirs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return theirs | {"labels": theirs["classes"] + 1}


# The numbers


def test_our_model_finds_what_detectron2s_does(model):
    theirs, ours = in_our_form(detect(checkpoint(), picture())), found_by(model, picture())
    order = matched(theirs, ours)
    assert (theirs["masks"] - ours["masks"][order, 0]).abs().max() < MASK
    # Dozens of objects of many categories and on all levels of the pyramid, none at the limit; masks with two sides.
    sides = (theirs["boxes"][:, 2:] - theirs["boxes"][:, :2]).prod(1).sqrt()
    assert 40 < len(order) < 100
    assert len(theirs["classes"].unique()) > 20
    assert sides.min() < 40
    assert sides.max() > 150
    assert ((theirs["masks"] > 0.8).any((1, 2)) & ((theirs["masks"] > 0) & (theirs["masks"] < 0.2)).any((1, 2))).all()


def test_a_picture_that_is_resized(model):
    """As detectron2's model finds in the picture resized beforehand, in the pixels of the picture as it was."""
    photo = photograph(size=(210, 315))
    size = torch.tensor([photo.shape[2] / 315, photo.shape[1] / 210]).repeat(2)  # 400 × 600 becomes 210 × 315
    theirs, ours = in_our_form(detect(checkpoint(), resized(photo, (210, 315)))), found_by(model, photo)
    theirs["boxes"] = theirs["boxes"] * size
    assert len(matched(theirs, ours)) > 20


def test_boxes_alone(tmp_path):
    state = checkpoint("fasterrcnn_resnet50_fpn")
    torch.save({"model": state}, tmp_path / "model.pth")
    model = mrcnn.fasterrcnn_resnet50_fpn(weights=tmp_path / "model.pth", **SETTINGS).eval()
    photo = picture("fasterrcnn_resnet50_fpn")
    assert len(matched(in_our_form(detect(state, photo)), found_by(model, photo))) > 20


def test_a_model_trained_from_torchvisions_resnet(tmp_path):
    """RGB and strides on the 3×3, by settings: torchvision's features."""
    builder = "maskrcnn_resnet50_fpn"
    state = background_last(renamed(twins.lively(builder, "coffee", short_side=256)))
    torch.save({"model": state}, tmp_path / "model.pth")
    images = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    options = {"backbone": {"body": "resnet50"}, "images": images}
    model = mrcnn.maskrcnn_resnet50_fpn(weights=tmp_path / "model.pth", **options).eval()
    theirs = twins.torchvision_model(builder, frozen=True).eval()
    theirs.load_state_dict(twins.lively(builder, "coffee", short_side=256))
    assert (model.settings.images.mean, model.settings.images.std) == (images["mean"], images["std"])
    with torch.no_grad():
        found, right = model.backbone(picture()[None]), theirs.backbone(picture()[None])
    for ours, expected in zip(found, right.values(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)


def test_the_deeper_resnet(tmp_path):
    given = mrcnn.maskrcnn_resnet101_fpn(81).state_dict()
    torch.save({"model": background_last(renamed(given))}, tmp_path / "model.pth")
    model = mrcnn.maskrcnn_resnet101_fpn(weights=tmp_path / "model.pth")
    assert model.settings.backbone.body == "resnet101_caffe"
    for name, tensor in model.state_dict().items():
        if name.startswith("backbone."):
            assert torch.equal(tensor, given[name]), name


# The parts


@pytest.mark.parametrize("padded", [(224, 352), (800, 1344)])
def test_anchors_are_detectron2s(padded):
    """Not rounded, and as far apart as the strides say, also where these do not divide the picture."""
    levels = [(math.ceil(padded[0] / stride), math.ceil(padded[1] / stride)) for stride in STRIDES]
    found = make_anchors(AnchorSettings(exact=True), padded, levels)
    for level, boxes in enumerate(found):
        expected = anchors(SIZES[level], STRIDES[level], *levels[level])
        torch.testing.assert_close(boxes, expected, rtol=0, atol=1e-3)


BOXES = torch.tensor(
    [
        [10.2, 5.7, 40.9, 30.1],
        [-8.5, -3.2, 12.4, 20.0],
        [45.0, 25.0, 75.3, 52.8],
        [20.0, 10.0, 20.6, 38.0],
        [-30.0, -40.0, 90.0, 95.0],
        [200.0, 200.0, 240.0, 230.0],
    ]
)


@pytest.mark.parametrize("paste_all", [paste_masks, paste_masks_at_once])
def test_masks_are_pasted_as_detectron2_does(paste_all):
    masks = torch.rand(len(BOXES), 1, 28, 28, generator=torch.Generator().manual_seed(0))
    found = paste_all(masks, BOXES, (48, 64), exact=True)
    for mask, box, canvas in zip(masks, BOXES, found, strict=True):
        torch.testing.assert_close(canvas[0], paste(mask[0], box, 48, 64), rtol=0, atol=1e-4)
    assert found[:5].flatten(1).amax(1).min() > 0.3
    assert paste_all(masks[:0], BOXES[:0], (48, 64), exact=True).shape == (0, 1, 48, 64)
    assert paste_all(masks[:1], torch.full((1, 4), 15.0), (48, 64), exact=True).isfinite().all()  # a box of no area


def test_masks_are_cut_out_to_learn_from_as_detectron2_does():
    """Its loss: binary cross entropy with the aligned crop, which is not that of torchvision."""
    masks = torch.zeros(2, 48, 64)
    masks[0, 10:30, 8:40] = 1
    masks[1, 20:44, 30:50] = 1
    samples = Samples(BOXES[[0, 2, 4]], torch.tensor([1, 2, 1]), torch.tensor([0, 1, 0]))
    logits = torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    rois = torch.cat((torch.tensor([[0.0], [1], [0]]), samples.boxes), 1)
    losses = {}
    for aligned in (True, False):
        wanted = roi_align(masks[:, None], rois, 28, aligned=aligned)[:, 0]
        chosen = logits[torch.arange(3), samples.labels]
        losses[aligned] = F.binary_cross_entropy_with_logits(chosen, wanted)
        found = MaskHead(MaskSettings(exact=aligned)).loss(logits, [samples], [{"masks": masks}])
        torch.testing.assert_close(found, losses[aligned])
    assert (losses[True] - losses[False]).abs() > 1e-3


# What is known of the outputs, and other numbers of classes


def test_categories_are_cocos(model):
    """pycocotools' order: by id, of which COCO left ten out."""
    ids = [*range(12), *range(13, 26), 27, 28, *range(31, 45), *range(46, 66), 67, 70, *range(72, 83), *range(84, 91)]
    assert model.labels["category_ids"] == ids
    assert [model.labels["categories"][label] for label in (0, 1, 12, 80)] == [
        "background", "person", "stop sign", "toothbrush",
    ]  # fmt: skip
    assert model.labels["keypoint_names"] == model.labels["skeleton"] == model.labels["keypoint_labels"] == []


def test_other_classes(file):
    """Last layers start afresh, all else is the file's, and such a model trains."""
    with pytest.warns(UserWarning, match="start afresh.*bbox_pred.*cls_score.*mask_fcn_logits"):
        model = mrcnn.maskrcnn_resnet50_fpn(3, weights=file, images={"min_size": (64,)})
    assert model.labels is None
    assert (model.settings.num_classes, model.settings.mask.exact, model.settings.box.aligned) == (3, True, True)
    own, given = model.state_dict(), checkpoint()
    assert torch.equal(own["roi_heads.box_head.fc7.weight"], given["roi_heads.box_head.fc2.weight"])
    assert torch.equal(own["backbone.body.bn1.running_var"], given["backbone.bottom_up.stem.conv1.norm.running_var"])
    masks = torch.zeros(1, 64, 64)
    masks[:, 10:50, 10:50] = 1
    target = {"boxes": torch.tensor([[10.0, 10, 50, 50]]), "labels": torch.tensor([2]), "masks": masks}
    sum(model([torch.rand(3, 64, 64)], [target]).values()).backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert {"backbone.body.layer2.0.conv1.weight", "roi_heads.mask_predictor.mask_fcn_logits.weight"} <= trained
    assert not any(name.startswith("backbone.body.layer1") for name in trained)


# From file to file, and from the shell


def test_its_model_file_gives_the_same(model, tmp_path):
    save_model(model, tmp_path / "model.pt")
    again = load_model(tmp_path / "model.pt")
    assert (again.config, again.labels) == (model.config, model.labels)
    assert mrcnn.maskrcnn_resnet50_fpn(weights=tmp_path / "model.pt").config == model.config
    expected, found = found_by(model, picture()), found_by(again, picture())
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_predict_from_the_shell(file, model, tmp_path):
    """The model's results, under COCO's ids."""
    photo = (255 * picture()).round().to(torch.uint8)
    Image.fromarray(photo.permute(1, 2, 0).numpy()).save(tmp_path / "photo.png")
    options = ["--weights", file, "--model", "maskrcnn_resnet50_fpn", "--min-size", HEIGHT, "--max-size", WIDTH]
    options += ["--min-score", 0]
    with pytest.raises(SystemExit) as ended:
        main(["predict", *map(str, [tmp_path / "photo.png", *options, "--out", tmp_path / "out"])])
    assert not ended.value.code
    entries = json.loads((tmp_path / "out" / "results.json").read_text())
    expected = found_by(model, photo)
    assert [entry["category_id"] for entry in entries] == [
        model.labels["category_ids"][label] for label in expected["labels"]
    ]
    assert max(entry["category_id"] for entry in entries) > 80
    assert [entry["score"] for entry in entries] == pytest.approx(expected["scores"].tolist(), abs=1e-3)


def test_the_model_must_be_named(file, tmp_path, capsys):
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"model": {}}))
    for path in (file, tmp_path / "model.pkl"):
        with pytest.raises(SystemExit) as ended:
            main(["predict", "photo.png", "--weights", str(path), "--out", str(tmp_path / "out")])
        assert ended.value.code == 1
        assert "detectron2's, also name the model with --model" in capsys.readouterr().err


def test_one_onnx_file(model, tmp_path):
    export = pytest.importorskip("mrcnn.export", reason="onnx or onnxruntime is not installed", exc_type=ImportError)
    (compared,) = export.to_onnx(model, tmp_path / "model.onnx", pictures=[picture()])
    assert compared.objects > 40
    assert compared.equal()
