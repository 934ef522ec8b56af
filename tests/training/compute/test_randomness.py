"""Streams are named, independent and frozen: the same numbers for good."""

import numpy as np

from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training.compute.randomness import epoch_crops, epoch_order, stream

EXPERIMENT = Experiment.from_name("vgg16_nd_100")


def test_the_numbers_never_change() -> None:
    assert epoch_order(EXPERIMENT, 0, 10).tolist() == [4, 9, 0, 5, 8, 7, 2, 3, 1, 6]
    assert stream(EXPERIMENT, "init", "conv.weight").uniform() == 0.10075772059561328


def test_an_epoch_orders_every_image_once_and_anew() -> None:
    first, second = (epoch_order(EXPERIMENT, epoch, 1000) for epoch in (0, 1))
    assert sorted(first.tolist()) == list(range(1000))
    assert (first != second).any()


def test_augmentation_stays_within_the_padding_and_uses_all_of_it() -> None:
    draws = epoch_crops(EXPERIMENT, 3, 5000, 2 * 4)
    assert set(draws[:, 0]) == set(draws[:, 1]) == set(range(9))
    assert set(draws[:, 2]) == {0, 1}


def test_one_stream_can_be_varied_alone() -> None:
    varied = Experiment.from_name("vgg16_nd_100", {"seeds.order": "1"})
    assert (epoch_order(varied, 0, 100) != epoch_order(EXPERIMENT, 0, 100)).any()
    assert (epoch_crops(varied, 0, 100, 8) == epoch_crops(EXPERIMENT, 0, 100, 8)).all()
    assert stream(varied, "init", "a").uniform() == stream(EXPERIMENT, "init", "a").uniform()


def test_streams_and_parts_do_not_repeat_each_other() -> None:
    drawn = [stream(EXPERIMENT, name, part).randint(2**31) for name in ("order", "augment") for part in range(50)]
    assert len(set(drawn)) == 100
    assert not np.allclose(
        stream(EXPERIMENT, "init", "a").uniform(size=5), stream(EXPERIMENT, "init", "b").uniform(size=5)
    )
