"""State dicts from torchvision and back, old files, wrong files, and files that are fetched by name."""

import hashlib
import re

import pytest
import torch
import twins
from torchvision.models import ResNet50_Weights, ResNet101_Weights, resnet50
from torchvision.models import detection as published

import mrcnn
from mrcnn import weights as weights_module
from mrcnn.images import ImageSettings

PARAMETERS = {
    "fasterrcnn_resnet50_fpn": 41_755_286,
    "maskrcnn_resnet50_fpn": 44_401_393,
    "keypointrcnn_resnet50_fpn": 59_137_258,
    "fasterrcnn_resnet50_fpn_v2": 43_712_278,
    "maskrcnn_resnet50_fpn_v2": 46_359_409,
}
PUBLISHED = {
    "fasterrcnn_resnet50_fpn": published.FasterRCNN_ResNet50_FPN_Weights,
    "maskrcnn_resnet50_fpn": published.MaskRCNN_ResNet50_FPN_Weights,
    "keypointrcnn_resnet50_fpn": published.KeypointRCNN_ResNet50_FPN_Weights,
    "fasterrcnn_resnet50_fpn_v2": published.FasterRCNN_ResNet50_FPN_V2_Weights,
    "maskrcnn_resnet50_fpn_v2": published.MaskRCNN_ResNet50_FPN_V2_Weights,
}


def scrambled(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The model's state dict with every number drawn anew, so that no two tensors can be taken for each other."""
    random = torch.Generator().manual_seed(1)
    return {
        name: torch.rand(tensor.shape, generator=random) if tensor.is_floating_point() else torch.full_like(tensor, 7)
        for name, tensor in model.state_dict().items()
    }


def old_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict as the published v1 files name it: frozen batch norm without counters, and the names of 2019."""
    old = {}
    for name, tensor in state.items():
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        name = re.sub(r"(inner_blocks|layer_blocks)\.(\d)\.0\.", r"\1.\2.", name)
        name = re.sub(r"mask_head\.(\d)\.0\.", lambda found: f"mask_head.mask_fcn{int(found[1]) + 1}.", name)
        if not name.endswith("num_batches_tracked"):
            old[name] = tensor
    return old


@pytest.mark.parametrize("builder", twins.BUILDERS)
def test_there_and_back_unchanged(builder):
    """Every tensor of torchvision's goes in and comes out bit for bit, and torchvision loads it strictly."""
    theirs = twins.torchvision_model(builder)
    given = scrambled(theirs)
    model = mrcnn.load_torchvision(getattr(mrcnn, builder)(), given)
    returned = mrcnn.to_torchvision(model)
    assert returned.keys() == given.keys()
    for name, tensor in given.items():
        assert returned[name].dtype == tensor.dtype
        assert torch.equal(returned[name], tensor), name
    theirs.load_state_dict(returned)  # strict


@pytest.mark.parametrize("builder", twins.BUILDERS)
def test_as_many_parameters_as_published(builder):
    """Counted as torchvision does: what frozen batch norm holds is no parameter, and v1 files count it so."""
    model = getattr(mrcnn, builder)()
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[builder]
    assert PUBLISHED[builder].COCO_V1.meta["num_params"] == PARAMETERS[builder]


@pytest.mark.parametrize("builder", [name for name in twins.BUILDERS if not name.endswith("_v2")])
def test_a_published_v1_file(builder, tmp_path):
    """A file with the names of the published ones loads, and its batch norm runs with eps 0 as torchvision's then does.
    A state dict with today's names was trained, and is run, with eps 1e-5.

    Channels with a tiny variance are what eps changes: here every fourth channel of the stem.
    """
    given = {name: tensor.clone() for name, tensor in twins.lively(builder, "coffee", short_side=256).items()}
    for name, shrink in (("conv1.weight", 1e-3), ("bn1.running_mean", 1e-3), ("bn1.running_var", 1e-6)):
        given[f"backbone.body.{name}"][::4] *= shrink
    torch.save(old_names(given), tmp_path / "published.pth")
    picture = torch.rand(1, 3, 64, 96)
    results = []
    for eps, source, their_source in (
        (1e-5, given, given),
        (0.0, tmp_path / "published.pth", old_names(given)),
    ):
        theirs = twins.torchvision_model(builder, frozen=True, eps=eps).eval()
        theirs.load_state_dict(their_source)
        model = mrcnn.load_torchvision(getattr(mrcnn, builder)().eval(), source)
        with torch.no_grad():
            found, expected = model.backbone(picture), theirs.backbone(picture)
        for ours, right in zip(found, expected.values(), strict=True):
            torch.testing.assert_close(ours, right, rtol=1e-3, atol=1e-4)
        results.append(found)
    assert all((one - other).abs().max() > 0.05 for one, other in zip(*results, strict=True))  # eps shows

    rebuilt = mrcnn.zoo.build(model.config["builder"], **model.config["arguments"]).eval()
    rebuilt.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(rebuilt.backbone(picture), found)


def test_a_classifier_for_the_backbone(tmp_path):
    """torchvision's ResNet-50 classifier gives its body, and nothing else of the model moves."""
    torch.save(scrambled(resnet50(weights=None)), tmp_path / "resnet50.pth")
    torch.manual_seed(0)
    before = mrcnn.maskrcnn_resnet50_fpn().state_dict()
    torch.manual_seed(0)
    after = mrcnn.maskrcnn_resnet50_fpn(backbone_weights=tmp_path / "resnet50.pth")
    given = torch.load(tmp_path / "resnet50.pth", weights_only=True)
    for name, tensor in after.state_dict().items():
        if not name.startswith("backbone.body."):
            assert torch.equal(tensor, before[name]), name
        elif not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, given[name.removeprefix("backbone.body.")]), name
    trained = {name.split(".")[2] for name, p in after.named_parameters() if p.requires_grad and ".body." in name}
    assert trained == {"layer2", "layer3", "layer4"}


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda state: state.pop("roi_heads.box_head.fc6.weight"), "roi_heads.box_head.fc6.weight"),
        (lambda state: state.update(stranger=torch.zeros(1)), "stranger"),
        (lambda state: state.update({"rpn.head.bbox_pred.bias": torch.zeros(5)}), "rpn.head.bbox_pred.bias"),
    ],
)
def test_weights_of_another_model_are_refused(spoil, named):
    """The message names the key, and the model is as it was."""
    model = mrcnn.fasterrcnn_resnet50_fpn()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = mrcnn.to_torchvision(model)
    state = {name: tensor + 1 for name, tensor in state.items()}
    spoil(state)
    with pytest.raises(ValueError, match=re.escape(named)):
        mrcnn.load_torchvision(model, state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_files_that_are_no_weights_are_refused(tmp_path):
    model = mrcnn.playground_rcnn()
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        mrcnn.load_torchvision(model, tmp_path / "nowhere.pth")
    torch.save(model.state_dict(), tmp_path / "cut.pth")
    content = (tmp_path / "cut.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cut\.pth"):
        mrcnn.load_torchvision(model, tmp_path / "cut.pth")
    torch.save([1, 2, 3], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list\.pth"):
        mrcnn.load_torchvision(model, tmp_path / "list.pth")


def one_changed(change) -> dict[str, torch.Tensor]:
    """A playground model's state dict with one tensor changed."""
    state = mrcnn.playground_rcnn().state_dict()
    return state | {"rpn.head.bbox_pred.bias": change(state["rpn.head.bbox_pred.bias"])}


SPOILED = [
    (lambda: None, "a path or a state dict, got NoneType None"),
    (lambda: 5, "a path or a state dict, got int 5"),
    (lambda: {"a": "b"}, "names and tensors, got str 'b' as 'a'"),
    (lambda: {5: torch.zeros(1)}, "names and tensors, got a tensor .* as 5"),
    (lambda: one_changed(lambda _: "text"), "names and tensors, got str 'text' as 'rpn.head.bbox_pred.bias'"),
    (lambda: one_changed(torch.Tensor.to_sparse), r"rpn\.head\.bbox_pred\.bias must be a dense tensor"),
    (lambda: one_changed(lambda bias: bias.to("meta")), "dense tensor, got .* on meta"),
    (lambda: one_changed(torch.Tensor.long), r"rpn\.head\.bbox_pred\.bias must be of a float type, got torch.int64"),
    (lambda: one_changed(torch.Tensor.bool), "must be of a float type, got torch.bool"),
    (lambda: one_changed(lambda bias: bias * torch.nan), r"rpn\.head\.bbox_pred\.bias has NaN or infinity"),
    (lambda: one_changed(lambda bias: bias + torch.inf), r"rpn\.head\.bbox_pred\.bias has NaN or infinity"),
]


@pytest.mark.parametrize(("make", "message"), SPOILED)
def test_what_is_no_state_dict_is_told(make, message, tmp_path):
    """In memory and, where it can be written, in a file; the model is as it was."""
    model = mrcnn.playground_rcnn()
    before = mrcnn.to_torchvision(model)
    given = make()
    with pytest.raises((ValueError, TypeError), match=message):
        mrcnn.load_torchvision(model, given)
    if isinstance(given, dict):
        torch.save(given, tmp_path / "model.pth")
        with pytest.raises(ValueError, match=rf"model\.pth.*{message}"):
            mrcnn.load_torchvision(model, tmp_path / "model.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("key", ["model", "state_dict"])
@pytest.mark.parametrize("in_a_file", [True, False])
def test_a_training_checkpoint_is_unwrapped(key, in_a_file, tmp_path):
    given = scrambled(mrcnn.playground_rcnn())
    source = {key: given, "optimizer": {"state": {}}, "epoch": 3}
    if in_a_file:
        torch.save(source, tmp_path / "checkpoint.pth")
        source = tmp_path / "checkpoint.pth"
    model = mrcnn.load_torchvision(mrcnn.playground_rcnn(), source)
    assert all(torch.equal(tensor, given[name]) for name, tensor in model.state_dict().items())


def test_halves_are_weights():
    """float16 is a float type: it loads, as the model's own type."""
    state = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in mrcnn.playground_rcnn().state_dict().items()
    }
    model = mrcnn.load_torchvision(mrcnn.playground_rcnn(), state)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name].to(tensor.dtype))


@pytest.mark.parametrize("builder", twins.BUILDERS)
def test_addresses_are_torchvisions(builder):
    """The eight digits before .pth are the hash that the download is checked by."""
    assert weights_module.ADDRESS + weights_module.PUBLISHED[builder] == PUBLISHED[builder].COCO_V1.url


def test_backbone_addresses_are_torchvisions():
    ours = {body: weights_module.ADDRESS + name for body, name in weights_module.PUBLISHED_BACKBONES.items()}
    assert ours == {"resnet50": ResNet50_Weights.IMAGENET1K_V1.url, "resnet101": ResNet101_Weights.IMAGENET1K_V1.url}


def test_weights_by_name_are_fetched_once_and_checked(tmp_path, monkeypatch):
    """Served from a folder instead of the network: the right file loads and is cached, a tampered one is refused."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    monkeypatch.setattr(weights_module, "ADDRESS", f"file://{tmp_path}/")
    given = old_names(scrambled(mrcnn.fasterrcnn_resnet50_fpn()))
    torch.save(given, tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    name = f"faster-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    monkeypatch.setitem(weights_module.PUBLISHED, "fasterrcnn_resnet50_fpn", name)

    (tmp_path / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(RuntimeError, match="hash"):
        mrcnn.fasterrcnn_resnet50_fpn(weights="COCO_V1")
    assert not list((tmp_path / "cache").rglob("*.pth"))

    (tmp_path / name).write_bytes(content)
    model = mrcnn.fasterrcnn_resnet50_fpn(weights="COCO_V1")
    assert torch.equal(model.state_dict()["rpn.head.conv.0.0.weight"], given["rpn.head.conv.weight"])
    assert model.backbone.body.bn1.eps == 0
    assert model.labels["categories"][18] == "dog"
    (tmp_path / name).unlink()  # the network is gone; the cache serves
    mrcnn.fasterrcnn_resnet50_fpn(weights="COCO_V1")


@pytest.mark.parametrize("builder", ["fasterrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn"])
def test_what_the_outputs_of_published_weights_mean(builder):
    """As torchvision's own lists have it."""
    labels = weights_module.published_labels(getattr(mrcnn, builder)().state_dict())
    meta = PUBLISHED[builder].COCO_V1.meta
    if "keypoint_names" in meta:
        assert labels["categories"] == ["background", "person"]
        assert labels["keypoint_names"] == meta["keypoint_names"]
        assert labels["keypoint_labels"] == [1]
    else:
        assert labels["categories"] == ["background", *meta["categories"][1:]]
        assert labels["keypoint_names"] == labels["keypoint_labels"] == []
    assert labels["category_ids"] == list(range(len(labels["categories"])))


def test_weights_of_other_classes_say_nothing_of_what_they_mean(tmp_path):
    for classes in (2, 5):
        assert weights_module.published_labels(mrcnn.fasterrcnn_resnet50_fpn(classes).state_dict()) is None
    torch.save(mrcnn.playground_rcnn(91).state_dict(), tmp_path / "file.pth")
    assert mrcnn.playground_rcnn(91, weights=tmp_path / "file.pth").labels["categories"][1] == "person"
    with pytest.warns(UserWarning, match="start afresh"):
        assert mrcnn.playground_rcnn(3, weights=tmp_path / "file.pth").labels is None


def test_a_name_that_is_not_published():
    with pytest.raises(ValueError, match="COCO_V1"):
        mrcnn.jointrcnn_resnet50_fpn(weights="COCO_V1")


def test_moving_weights_leaves_the_source_alone():
    """`to_torchvision` gives copies: training on, or editing them, does not reach the other side."""
    model = mrcnn.playground_rcnn(images=ImageSettings(min_size=(64,), max_size=64))
    state = mrcnn.to_torchvision(model)
    for tensor in state.values():
        tensor.zero_()
    assert model.state_dict()["backbone.body.conv1.weight"].abs().sum() > 0


def test_a_file_of_something_else_is_told_in_one_line(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(ValueError, match=r"photo\.png is not a weights file, or was cut short: expected") as told:
        weights_module.read_weights(tmp_path / "photo.png")
    assert "\n" not in str(told.value)
