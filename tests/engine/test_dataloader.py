"""Which pictures a step sees, and that their random choices depend on nothing else than (seed, step, picture)."""

import pytest
import torch
from fakes import HandMade, Noise

from mrcnn.data import PictureError
from mrcnn.engine import dataloader
from mrcnn.engine.dataloader import Order, SeededPictures, Steps, fetch, mixed_seed, shape_groups


def test_every_epoch_is_a_new_permutation():
    order = Order(10, 4, seed=3)
    seen = [picture for step in range(10) for picture in order.batch(step)]  # 40 places: four epochs
    epochs = [seen[start : start + 10] for start in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert Order(10, 4, seed=4).batch(0) + Order(10, 4, seed=4).batch(1) != seen[:8]


def test_a_step_is_the_same_whatever_was_asked_before():
    straight = Order(7, 3, seed=0)
    expected = [straight.batch(step) for step in range(12)]
    jumping = Order(7, 3, seed=0)
    assert [jumping.batch(step) for step in (11, 2, 5, 0)] == [expected[step] for step in (11, 2, 5, 0)]


def test_a_batch_can_be_larger_than_the_data():
    batch = Order(3, 8, seed=0).batch(0)
    assert sorted(batch[:3]) == sorted(batch[3:6]) == [0, 1, 2]


def test_shapes_are_kept_together():
    groups = torch.tensor([0, 1] * 10 + [0])  # 11 upright, 10 wide
    order = Order(21, 4, seed=0, groups=groups)
    for epoch in range(6):
        batches = [order.batch(epoch * 5 + step) for step in range(5)]
        seen = [picture for batch in batches for picture in batch]
        assert len(set(seen)) == 20, "no picture twice in an epoch"
        mixed = sum(len({int(groups[picture]) for picture in batch}) > 1 for batch in batches)
        assert mixed <= 1, "only the batch at the border of the groups may be mixed"
    starts = {tuple(int(groups[order.batch(epoch * 5)[0]]) for epoch in range(8))}
    assert starts not in ({(0,) * 8}, {(1,) * 8}), "the groups are mixed over the epoch"


def test_shape_groups_come_from_the_annotations():
    class Sizes:
        def sizes(self):
            return [(640, 480), (480, 640), (500, 500)]

    assert shape_groups(Sizes()).tolist() == [1, 0, 1]
    assert shape_groups(Noise()) is None


def fetched(dataset, workers, steps=range(6)):
    order = Order(len(dataset), 4, seed=5)
    loader = fetch(SeededPictures(dataset, seed=5), Steps(order, steps.start, steps.stop), workers)
    return [(torch.stack(images), [target["image_id"] for target in targets]) for images, targets in loader]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_is_told_as_it_was(workers):
    """Also by a worker, and in its place: the batch before it comes."""

    class Broken(Noise):
        def __getitem__(self, index):
            if index == 7:
                raise PictureError("7.png is broken")
            return super().__getitem__(index)

    batches = fetch(Broken(), [[0, 1], [7, 2], [3]], workers)
    assert len(next(batches)[0]) == 2
    with pytest.raises(PictureError) as caught:
        next(batches)
    assert str(caught.value) == "7.png is broken"


def test_pictures_do_not_depend_on_workers_or_on_where_the_run_starts():
    expected = fetched(Noise(), workers=0)
    for workers, steps in ((2, range(6)), (0, range(3, 6)), (1, range(2, 6))):
        got = fetched(Noise(), workers, steps)
        assert len(got) == len(steps)
        for (image, names), (image_expected, names_expected) in zip(got, expected[steps.start :], strict=True):
            assert names == names_expected
            assert torch.equal(image, image_expected)
    images = torch.cat([image for image, _ in expected]).flatten(1)
    assert len(torch.unique(images, dim=0)) == len(images), "each picture has choices of its own at each step"


def test_shares_of_two_processes_make_the_batch(monkeypatch):
    expected = fetched(Noise(), workers=0)
    monkeypatch.setattr(dataloader.distributed, "world_size", lambda: 2)
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(dataloader.distributed, "rank", lambda rank=rank: rank)
        shares.append(fetched(Noise(), workers=0))
    for (image, names), first, second in zip(expected, *shares, strict=True):
        assert first[1] + second[1] == names
        assert torch.equal(torch.cat([first[0], second[0]]), image)


def test_the_callers_random_state_is_left_alone():
    state = torch.get_rng_state()
    SeededPictures(Noise(), seed=0)[3, 2]
    assert torch.equal(torch.get_rng_state(), state)


def test_augmentation_draws_from_a_generator_of_its_own():
    def augment(image, target, generator):
        return image, target | {"drawn": torch.rand(1, generator=generator).item()}

    pictures = SeededPictures(Noise(), seed=1, augment=augment)
    drawn = {(step, picture): pictures[step, picture][1]["drawn"] for step in range(3) for picture in range(4)}
    assert len(set(drawn.values())) == 12
    torch.rand(5)
    assert {key: pictures[key][1]["drawn"] for key in reversed(drawn)} == drawn
    assert SeededPictures(Noise(), seed=2, augment=augment)[0, 0][1]["drawn"] != drawn[0, 0]


def test_crowds_are_not_trained_on():
    dataset = HandMade([[(1, [0, 0, 8, 8], 0), (2, [0, 0, 60, 60], 1), (2, [9, 9, 20, 20], 0)]])
    _, target = SeededPictures(dataset, seed=0)[0, 0]
    assert target["labels"].tolist() == [1, 2]
    assert target["boxes"][1].tolist() == [9, 9, 20, 20]
    assert len(target["masks"]) == len(target["keypoints"]) == len(target["area"]) == 2
    assert target["image_id"] == 100


def test_seeds_are_unrelated():
    seeds = {mixed_seed(kind, seed, step) for kind in ("a", "b") for seed in range(30) for step in range(30)}
    assert len(seeds) == 1800
    assert mixed_seed("a", 1, 2) == 1994155337, "another machine, another day: the same choices"
