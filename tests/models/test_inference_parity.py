"""The same weights, the same photograph: the same objects as torchvision finds."""

import pytest
import torch
import twins
from agreement import assert_same_detections

import mrcnn

# Square ones, a 600 × 400 one that becomes 1200 × 800 exactly, and two whose resized sides are rounded down.
PHOTOGRAPHS = dict(zip(twins.BUILDERS, ("astronaut", "coffee", "rocket", "chelsea", "astronaut"), strict=True))


@pytest.fixture(scope="module", params=twins.BUILDERS)
def pair(request):
    """torchvision's model and ours with the same lively weights, and the photograph that these were calibrated on."""
    builder = request.param
    photo = twins.photograph(PHOTOGRAPHS[builder])
    weights = twins.lively(builder, PHOTOGRAPHS[builder])
    theirs = twins.torchvision_model(builder).eval()
    theirs.load_state_dict(weights)
    ours = getattr(mrcnn, builder)().eval()
    mrcnn.load_torchvision(ours, weights)
    return theirs, ours, photo


@pytest.fixture(scope="module")
def full_size(pair):
    """Both models' detections on the photograph, brought to 800 pixels as the models do."""
    theirs, ours, photo = pair
    with torch.no_grad():
        return theirs([photo])[0], ours([photo])[0]


def test_full_size_detections_are_torchvisions(full_size):
    assert_same_detections(*full_size)


def test_the_comparison_means_something(full_size, pair):
    """Dozens of detections, of many classes, scores and sizes, off the picture's edge; masks that have two sides."""
    found, _ = full_size
    _, ours, photo = pair
    height, width = photo.shape[1:]
    size = found["boxes"][:, 2:] - found["boxes"][:, :2]
    side = size.prod(1).sqrt() * 800 / min(height, width)
    assert 24 <= len(side) < 100  # fewer than the limit, which therefore decides nothing
    assert found["scores"].max() > 0.4
    assert found["scores"].min() < 0.15
    assert side.max() > 3 * side.min()
    assert min((side > 112).sum(), (side < 112).sum()) >= 3  # pooled from more than one level
    inside = (found["boxes"][:, :2] > 0).all(1) & (found["boxes"][:, 2:] < torch.tensor([width, height])).all(1)
    assert inside.sum() >= 12
    if ours.settings.num_classes == 91:
        assert len(found["labels"].unique()) >= 12
    if "masks" in found:
        covered = (found["masks"] > 0.5).flatten(1).sum(1) / size.prod(1)
        assert ((covered > 0.1) & (covered < 0.9)).sum() >= 12
    if "keypoints" in found:
        place = (found["keypoints"][..., :2] - found["boxes"][:, None, :2]) / size[:, None]  # 0 … 1 in the box
        assert place.std(1).median() > 0.1  # keypoints are not all in one place


@pytest.mark.parametrize("builder", [*twins.BUILDERS, twins.JOINT])
def test_a_batch_of_different_sizes(builder):
    """Two pictures share one padded batch; the smaller one's padding must not show. At 256 pixels, to be quick."""
    theirs, ours = twins.small_pair(builder)
    batch = [twins.photograph("coffee"), twins.photograph("coffee")[:, 60:330, 200:480]]
    with torch.no_grad():
        expected, found = theirs.eval()(batch), ours.eval()(batch)
    assert len(expected[0]["boxes"]) >= 24
    assert len(expected[1]["boxes"]) >= 5
    for each, other in zip(expected, found, strict=True):
        assert_same_detections(each, other)


def test_bytes_and_floats_are_one_picture():
    """uint8 in [0, 255] gives what float in [0, 1] gives."""
    pictures = twins.photograph("chelsea"), (twins.photograph("chelsea") * 255).round().to(torch.uint8)
    model = mrcnn.playground_rcnn()
    batch, _ = mrcnn.images.prepare(list(pictures), None, model.settings.images, training=False)
    torch.testing.assert_close(batch.pixels[0], batch.pixels[1], rtol=0, atol=1e-5)
