"""Augmented records stay true: against loops, closed forms, and steps that undo each other."""

import copy

import numpy as np
import pytest
import torch
from records import RECORDS, SCENES, assert_same, assert_true_record, chance

from mrcnn.data import Playground
from mrcnn.data import augment as augmentation
from mrcnn.data.augment import (
    ColourJitter,
    Compose,
    CopyPaste,
    Flip,
    ScaleJitter,
    Turn,
    crop_or_pad,
    make_augment,
    mirror,
    paste,
    recolour,
    resize,
    select,
    turn,
)  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        lambda record: mirror(*record, SCENES.keypoint_flip),
        lambda record: turn(*record, 1),
        lambda record: resize(*record, 40, 50),
        lambda record: crop_or_pad(*record, 3, 4, 60, 50),
        lambda record: paste(*record, *RECORDS[1]),
        lambda record: make_augment(SCENES)(*record, chance()),
    ],
)
@pytest.mark.parametrize("unknown", [torch.zeros(128, 128), torch.zeros(3), [[1, 2]], {"a": 1}])
def test_what_augmentation_cannot_move_is_refused(change, unknown):
    """A map of depths would stay as it was; what is one number or name for the picture does not move."""
    image, target = RECORDS[0]
    with pytest.raises(ValueError, match="how to move 'depth'"):
        change((image, target | {"depth": unknown}))
    kept = {"file_name": "a.png", "weather": 3, "sun": torch.tensor(0.5), "seed": 7}
    assert kept.items() <= change((image, target | kept))[1].items()


class Doubled(Playground):
    """Scenes with a second key that holds what the first one holds."""

    def __init__(self, key: str):
        super().__init__(60, seed=8)
        self.key = key

    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return image, target | {"second": target[self.key]}


@pytest.mark.parametrize("key", ["masks", "keypoints", "boxes", "area"])
def test_a_new_key_moves_as_its_kind_does(key, monkeypatch):
    """A key that is declared goes wherever the first one of its kind goes, with no word of it anywhere else."""
    monkeypatch.setitem(augmentation.PER_OBJECT, "second", augmentation.PER_OBJECT[key])
    scenes = Doubled(key)
    cutting = {"scale": (0.5, 1.6), "copy_paste": 0.5}
    whole = {"scale": None}  # where masks are cut, the box and the area around them, and no others, are made anew
    augment = make_augment(scenes, turn=0.75, **(cutting if key in ("masks", "keypoints") else whole))
    for seed in range(16):
        image, target = scenes[seed]
        _, moved = augment(*resize(image, target, 90, 200), chance(seed))
        assert torch.equal(moved["second"], moved[key])
        assert moved[key].sum() != target[key].sum() or not target[key].any()


# --- flip


def test_flip_against_a_loop():
    for image, target in RECORDS:
        flipped, mirrored = mirror(image, target, SCENES.keypoint_flip)
        for j in range(128):
            assert torch.equal(flipped[:, :, j], image[:, :, 127 - j])
            assert torch.equal(mirrored["masks"][:, :, j], target["masks"][:, :, 127 - j])
        for (x1, y1, x2, y2), box in zip(target["boxes"].tolist(), mirrored["boxes"].tolist(), strict=True):
            assert box == [128 - x2, y1, 128 - x1, y2]
        for old, new in zip(target["keypoints"], mirrored["keypoints"], strict=True):
            for name, (x, y, v) in zip(SCENES.keypoint_names, old.tolist(), strict=True):
                swap = {"left": "right", "right": "left"}
                partner = SCENES.keypoint_names.index("_".join(swap.get(word, word) for word in name.split("_")))
                expected = [128 - x, y, v] if v else [0, 0, 0]
                assert new[partner].tolist() == pytest.approx(expected, abs=1e-4)
        assert_true_record(flipped, mirrored)


def test_flip_twice_changes_nothing():
    for record in RECORDS:
        twice = mirror(*mirror(*record, SCENES.keypoint_flip), SCENES.keypoint_flip)
        assert_same(record, twice, atol=1e-5)  # 128 - (128 - x) rounds in float32


def test_flip_happens_as_often_as_asked():
    flip = Flip(SCENES.keypoint_flip, 0.3)
    image, target = RECORDS[0]
    count = sum(not torch.equal(flip(image, target, chance(seed))[0], image) for seed in range(400))
    assert 80 < count < 160  # 120 expected, deviation 9


# --- turn


def unequal_sides(index: int):
    """A record of 100 × 128 pixels, its keypoints on sixteenths of a pixel: a turn then rounds nothing."""
    image, target = crop_or_pad(*RECORDS[index], 0, 20, 128, 100)
    return image, target | {"keypoints": (target["keypoints"] * 16).round() / 16}


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turn_against_numpy(quarters):
    for index in range(len(RECORDS)):
        image, target = unequal_sides(index)
        turned, moved = turn(image, target, quarters)
        assert np.array_equal(turned, np.rot90(image.numpy(), quarters, (1, 2)))
        assert np.array_equal(moved["masks"], np.rot90(target["masks"].numpy(), quarters, (1, 2)))
        for key in ("labels", "area", "iscrowd"):
            assert torch.equal(moved[key], target[key])
        assert_true_record(turned, moved)  # so each box is the tight one of its turned mask


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_keypoints_stay_on_their_pixels(quarters):
    """A page for each keypoint, its pixel painted: there it still is, and not on the page of the left or right twin."""
    for index in range(len(RECORDS)):
        image, target = unequal_sides(index)
        target["keypoints"][..., :2] = (target["keypoints"][..., :2].floor() + 0.25) * (
            target["keypoints"][..., 2:] > 0
        )
        x, y, v = target["keypoints"].flatten(0, 1).unbind(1)  # (K J,)
        there = v > 0
        pages = torch.zeros(len(x), *image.shape[1:], dtype=torch.uint8)
        pages[torch.arange(len(x)), y.long(), x.long()] = there.to(torch.uint8)
        turned, moved = turn(pages, target, quarters)
        new_x, new_y, new_v = moved["keypoints"].flatten(0, 1).unbind(1)
        assert torch.equal(new_v, v)
        assert (turned[torch.arange(len(x)), new_y.long(), new_x.long()] == there).all()
        assert torch.equal(turned.flatten(1).sum(1), there)
        assert not moved["keypoints"].flatten(0, 1)[~there].any()


def test_four_turns_give_back_the_record():
    for index in range(len(RECORDS)):
        first = record = unequal_sides(index)
        for _ in range(4):
            record = turn(*record, 1)
        assert_same(first, record)
        assert_same(turn(*first, 3), turn(*turn(*first, 2), 1))
        assert_same(turn(*first, 2), turn(*turn(*first, 1), 1))


def test_turns_come_as_often_as_asked():
    step, record = Turn(0.6), unequal_sides(0)
    turned = [turn(*record, quarters)[0] for quarters in range(4)]
    counts = [0] * 4
    for seed in range(400):
        image, _ = step(*record, chance(seed))
        counts[next(k for k in range(4) if torch.equal(image, turned[k]))] += 1
    assert 130 < counts[0] < 190  # 160 expected, deviation 10
    assert all(50 < count < 110 for count in counts[1:])  # 80 each, deviation 8


def test_turns_are_drawn_only_where_asked_for():
    assert not any(isinstance(step, Turn) for step in make_augment(SCENES).steps)
    augment = make_augment(SCENES, turn=1.0, flip=0.0, scale=None, colour=0.0)
    for seed, (image, target) in enumerate(RECORDS):
        turned, moved = augment(image, target, chance(seed))
        assert any(torch.equal(turned, image.rot90(quarters, (1, 2))) for quarters in (1, 2, 3))
        assert_true_record(turned, moved)


# --- scale and crop


def test_same_size_and_whole_window_change_nothing():
    for record in RECORDS:
        assert_same(record, resize(*record, 128, 128))
        assert_same(record, crop_or_pad(*record, 0, 0, 128, 128))


def test_twice_as_high_and_three_times_as_wide():
    for image, target in RECORDS:
        bigger, scaled = resize(image, target, 256, 384)
        assert torch.equal(scaled["masks"], target["masks"].repeat_interleave(2, 1).repeat_interleave(3, 2))
        assert torch.equal(scaled["boxes"], target["boxes"] * torch.tensor([3, 2, 3, 2]))
        assert torch.equal(scaled["area"], scaled["masks"].sum((1, 2)).float())
        assert torch.equal(scaled["keypoints"], target["keypoints"] * torch.tensor([3, 2, 1]))
        assert_true_record(bigger, scaled)


def test_picture_and_masks_move_together():
    """A picture that shows one mask, resized, shows the resized mask, but for the soft edge."""
    _, target = RECORDS[3]
    shown = target["masks"][:1].expand(3, -1, -1) * 255
    for height, width in ((90, 170), (200, 60)):
        picture, scaled = resize(shown, select(target, torch.tensor([0])), height, width)
        assert ((picture[0] > 127) == scaled["masks"][0].bool()).float().mean() > 0.985


@pytest.mark.parametrize(
    ("left", "top", "width", "height"), [(40, 20, 60, 90), (-30, -10, 200, 150), (100, -50, 64, 80)]
)
def test_window_against_a_loop(left, top, width, height):
    for image, target in RECORDS:
        cut, kept = crop_or_pad(image, target, left, top, width, height)
        assert cut.shape == (3, height, width)
        masks = torch.zeros(len(target["masks"]), height, width, dtype=torch.uint8)
        for i in range(max(0, -top), min(height, 128 - top)):
            j0, j1 = max(0, -left), min(width, 128 - left)
            masks[:, i, j0:j1] = target["masks"][:, i + top, j0 + left : j1 + left]
            assert torch.equal(cut[:, i, j0:j1], image[:, i + top, j0 + left : j1 + left])
        stay = [k for k, mask in enumerate(masks) if mask.any()]
        assert torch.equal(kept["masks"], masks[stay])
        assert torch.equal(kept["labels"], target["labels"][stay])
        assert torch.equal(kept["area"], masks[stay].sum((1, 2)).float())
        for keypoints, k in zip(kept["keypoints"], stay, strict=True):
            for new, (x, y, v) in zip(keypoints.tolist(), target["keypoints"][k].tolist(), strict=True):
                inside = v > 0 and left <= x < left + width and top <= y < top + height
                assert new == (pytest.approx([x - left, y - top, v], abs=1e-4) if inside else [0, 0, 0])
        assert_true_record(cut, kept)


def test_objects_without_masks_go_by_their_boxes():
    image, target = RECORDS[0]
    target = select(target, torch.tensor([0, 0, 0])) | {"masks": torch.zeros(3, 128, 128, dtype=torch.uint8)}
    target["boxes"] = torch.tensor([[10.0, 10, 30, 50], [60, 60, 100, 100], [90, 10, 99, 20]])
    target["area"] = torch.tensor([800.0, 1000, 90])
    assert torch.equal(resize(image, target, 64, 64)[1]["boxes"], target["boxes"] / 2)
    _, kept = crop_or_pad(image, target, 20, 0, 60, 128)
    assert kept["boxes"].tolist() == [[0, 10, 10, 50], [40, 60, 60, 100]]
    assert kept["area"].tolist() == [400, 500]


def test_masks_too_small_to_scale_are_removed():
    image, target = RECORDS[0]
    masks = torch.zeros(2, 128, 128, dtype=torch.uint8)
    masks[0, 50, 50] = 1  # falls between the pixels at an eighth of the size
    masks[1, 40:80, 40:80] = 1
    target = select(target, torch.tensor([0, 0])) | {"masks": masks}
    assert resize(image, target, 16, 16)[1]["masks"].shape[0] == 1


def test_scale_jitter_keeps_the_size_and_the_truth():
    jitter, sizes = ScaleJitter(0.4, 2.0), set()
    for seed in range(4):
        for image, target in RECORDS:
            before = target["area"].sum()
            image, target = jitter(image, target, chance(seed))
            assert image.shape == (3, 128, 128)
            assert_true_record(image, target, slack=4)
            sizes.add(bool(target["area"].sum() > before))
    assert sizes == {True, False}
    with pytest.raises(ValueError, match="scales must be positive"):
        ScaleJitter(2.0, 1.0)


# --- colour


def test_colour_factors():
    image = RECORDS[1][0]
    assert torch.equal(recolour(image, 1, 1, 1), image)
    assert torch.equal(recolour(image, 0.5, 1, 1), (image * 0.5).round().to(torch.uint8))
    red, green, blue = image.float()
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    for channel in recolour(image, 1, 1, 0):
        assert (channel - luminance).abs().max() <= 0.5 + 1e-3
    assert (recolour(image, 1, 0, 1).float() - luminance.mean()).abs().max() <= 0.5 + 1e-3


def test_colour_leaves_the_target_alone():
    jitter = ColourJitter(0.4)
    for seed, (image, target) in enumerate(RECORDS):
        changed, same = jitter(image, target, chance(seed))
        assert same is target
        assert changed.dtype == torch.uint8
    assert torch.equal(ColourJitter(0, 0)(image, target, chance())[0], image)


# --- copy-paste


def test_paste_against_a_loop():
    hidden = 0
    for (image, target), (source, objects) in zip(RECORDS[:8], RECORDS[8:], strict=True):
        pasted, joined = paste(image, target, source, objects)
        cover = objects["masks"].any(0).bool()
        assert torch.equal(pasted[:, cover], source[:, cover])
        assert torch.equal(pasted[:, ~cover], image[:, ~cover])
        expected = []
        for mask, keypoints, label in zip(target["masks"], target["keypoints"], target["labels"].tolist(), strict=True):
            mask, keypoints = mask.clone(), keypoints.clone()
            mask[cover] = 0
            for joint in keypoints:
                if joint[2] == 2 and cover[int(joint[1]), int(joint[0])]:
                    joint[2] = 1
                    hidden += 1
            if mask.any():
                expected.append((mask, keypoints, label))
        count = len(expected)
        assert len(joined["labels"]) == count + len(objects["labels"])
        for k, (mask, keypoints, label) in enumerate(expected):
            assert torch.equal(joined["masks"][k], mask)
            assert torch.equal(joined["keypoints"][k], keypoints)
            assert joined["labels"][k] == label
        for key in ("boxes", "labels", "masks", "keypoints", "area", "iscrowd"):
            assert torch.equal(joined[key][count:], objects[key])
        assert torch.equal(joined["area"], joined["masks"].sum((1, 2)).float())
        assert (joined["masks"].sum(0) <= 1).all()  # no pixel has two owners
        assert joined["image_id"] == target["image_id"]
        assert_true_record(pasted, joined)
    assert hidden > 10


def test_what_is_covered_altogether_is_removed():
    for record in RECORDS:
        assert_same(record, paste(*record, *record))  # each thing lies under its own copy


def test_paste_needs_one_size():
    (image, target), (source, objects) = RECORDS[:2]
    with pytest.raises(ValueError, match="both pictures must have one size"):
        paste(image, target, source[:, :64], objects)


def test_no_crowd_and_nothing_without_a_mask_is_pasted():
    class Odd(Playground):
        def __getitem__(self, index):
            image, target = super().__getitem__(index)
            target["iscrowd"][::2] = 1
            target["masks"][1::2] = 0
            return image, target

    image, target = RECORDS[0]
    step = CopyPaste(Odd(20), 1.0)
    assert all(step(image, target, chance(seed))[1] is target for seed in range(20))


def test_copy_paste_of_another_size():
    """The other picture is cut or padded to this one's size, and its padding is never pasted."""
    step = CopyPaste(Playground(20, seed=4, size=160), 1.0)
    for seed, (image, target) in enumerate(RECORDS):
        assert_true_record(*step(image, target, chance(seed)))


# --- all of them


def test_all_together():
    augment = make_augment(SCENES, copy_paste=0.7, scale=(0.5, 1.6))
    for seed, (image, target) in enumerate(RECORDS):
        before = copy.deepcopy((image, target))
        first, again = (augment(image, target, chance(seed)) for _ in range(2))
        assert_same(first, again)  # all chance is the generator's
        assert_same(before, (image, target))  # and what was given is as it was
        assert_true_record(*first, slack=4)
        assert not torch.equal(first[0], augment(image, target, chance(seed + 1000))[0])


def test_only_what_is_asked_for():
    """Without scale and colour the mirror is all there is; copy-paste adds objects, and none is cut to another size."""
    alone = make_augment(SCENES, flip=1.0, scale=None, colour=0.0)
    pasting = make_augment(SCENES, flip=0.0, scale=None, colour=0.0, copy_paste=1.0)
    added = 0
    for seed, (image, target) in enumerate(RECORDS):
        mirrored = alone(image, target, chance(seed))
        assert torch.equal(mirrored[0], image.flip(2))
        assert torch.equal(mirrored[1]["masks"], target["masks"].flip(2))
        pasted, objects = pasting(image, target, chance(seed))
        untouched = ~(objects["masks"].bool().any(0) | target["masks"].bool().any(0))
        assert torch.equal(pasted[:, untouched], image[:, untouched])
        added += len(objects["labels"]) - len(target["labels"])
    assert added > 0


def test_picture_without_objects():
    image, target = RECORDS[0]
    empty = select(target, torch.zeros(len(target["labels"]), dtype=torch.bool))
    steps = Flip(SCENES.keypoint_flip, 1.0), ScaleJitter(0.5, 2.0), ColourJitter()
    _, left = Compose(steps)(image, empty, chance())
    assert [len(left[key]) for key in ("boxes", "labels", "masks", "keypoints", "area", "iscrowd")] == [0] * 6
    _, left = CopyPaste(SCENES, 1.0)(image, empty, chance(3))
    assert len(left["labels"]) > 0
