"""Holds the detections of two models against each other, object by object."""

import torch

BOX_PIXELS = (
    0.05  # coordinates near 1000 have a float32 spacing of 6e-5; fifty layers and a pyramid of scales multiply it
)
SCORE = 1e-3
MASK = 5e-3
JOINT_PIXELS = 0.5
TIED_KEYPOINTS = (
    0.003  # of all keypoints: heatmaps of random weights have many peaks, and now and then two are the same height
)


def matched(theirs: dict, ours: dict) -> torch.Tensor:
    """Pairs the detections one to one: row i of theirs is row order[i] of ours.

    The two lists must be the same length and fall alike in score; only detections whose scores differ by less than the
    tolerance may have changed places. Each pair must have one label and one box.
    """
    assert len(theirs["boxes"]) == len(ours["boxes"]) > 0
    assert (theirs["scores"] - ours["scores"]).abs().max() < SCORE
    assert (ours["scores"].diff() <= 0).all()
    distance = (theirs["boxes"][:, None] - ours["boxes"][None]).abs().amax(-1)  # (K, K)
    distance[theirs["labels"][:, None] != ours["labels"][None]] = torch.inf
    distance[(theirs["scores"][:, None] - ours["scores"][None]).abs() > SCORE] = torch.inf
    order = distance.argmin(1)
    assert len(order.unique()) == len(order), "two of torchvision's detections are one of ours"
    assert distance.amin(1).max() < BOX_PIXELS
    assert order.sub(torch.arange(len(order))).abs().max() <= 2, "the order differs by more than ties in score"
    return order


def assert_same_masks(theirs: dict, ours: dict, order: torch.Tensor) -> None:
    """Pasted masks agree. A mask is pasted into whole pixels: where rounding has put a box's corners, which agree, into
    different pixels, the mask moves by one; two such masks are let pass, and are told from others by that move."""
    assert theirs["masks"].shape == ours["masks"].shape
    moved = (pasted_pixels(theirs["boxes"]) != pasted_pixels(ours["boxes"][order])).any(1)
    assert moved.sum() <= 2
    difference = (theirs["masks"] - ours["masks"][order]).abs().flatten(1).amax(1)
    assert difference[~moved].max() < MASK


def pasted_pixels(boxes: torch.Tensor) -> torch.Tensor:
    """The whole-pixel boxes that 28 × 28 masks, with their rim of one cell, are pasted into."""
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * (30 / 28)
    return torch.cat((centre - half, centre + half), 1).long()


def assert_same_keypoints(theirs: dict, ours: dict, order: torch.Tensor) -> None:
    """Every joint's peak is equally high, and stands in the same place; but for a very few, whose heatmap has a second
    peak of the same height to within rounding.

    A heatmap is enlarged to whole pixels: where a side is a whole number but for rounding, one model's has a pixel
    more, and the peaks are a little lower or higher. One such object is let pass.
    """
    assert theirs["keypoints"].shape == ours["keypoints"].shape
    expected, found = theirs["keypoints_scores"], ours["keypoints_scores"][order]
    same = torch.isclose(found, expected, rtol=1e-4, atol=5e-3).all(1)
    assert (~same).sum() <= 1
    assert (found - expected).abs().max() <= 0.03 * expected.abs().max()
    apart = (theirs["keypoints"] - ours["keypoints"][order])[..., :2].abs().amax(-1) > JOINT_PIXELS
    assert apart[same].float().mean() <= TIED_KEYPOINTS
    assert (ours["keypoints"][..., 2] == 1).all()


def assert_same_detections(theirs: dict, ours: dict) -> None:
    assert theirs.keys() == ours.keys()
    order = matched(theirs, ours)
    if "masks" in theirs:
        assert_same_masks(theirs, ours, order)
    if "keypoints" in theirs:
        assert_same_keypoints(theirs, ours, order)
