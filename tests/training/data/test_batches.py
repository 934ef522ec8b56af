"""Crop and flip choose the pixels that the draws name, in any batch; evaluation sees images as they are."""

import numpy as np
import pytest
import torch

from ndrepro.protocol.experiment.catalogue import DATASETS
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training.compute.batch_share import Share
from ndrepro.training.compute.randomness import epoch_crops, epoch_jitter, epoch_order
from ndrepro.training.data.batches import Batches, jittered, mirrored_where, whitened
from ndrepro.training.data.readers.images import Split

COUNT = 37
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def split() -> Split:
    images = np.random.RandomState(0).randint(0, 256, (COUNT, 3, 32, 32), dtype=np.uint8)
    return Split(images, np.arange(COUNT, dtype=np.int64) % 10)


def experiment(**settings: str) -> Experiment:
    return Experiment.from_name("vgg16_bn_1", {"batch_size": "10", **settings})


def one_by_one(split: Split, chosen: Experiment, epoch: int) -> np.ndarray:
    """The epoch's images by numpy, one at a time, the way torchvision crops and flips."""
    facts = DATASETS["cifar10"]
    order = epoch_order(chosen, epoch, COUNT)
    draws = epoch_crops(chosen, epoch, COUNT, 2 * facts.crop_padding)
    out = []
    for index, (top, left, flip) in zip(order, draws, strict=True):
        padded = np.pad(split.images[index], ((0, 0), (4, 4), (4, 4)))
        crop = padded[:, top : top + 32, left : left + 32]
        out.append(crop[:, :, ::-1] if flip else crop)
    mean, std = (np.array(values, dtype=np.float64).reshape(3, 1, 1) for values in (facts.mean, facts.std))
    return (np.stack(out) / 255 - mean) / std


def test_batches_are_the_images_that_the_draws_name(split: Split) -> None:
    batches = Batches(split, experiment(), CPU, training=True)
    taken = list(batches.epoch(2))
    assert [len(labels) for _, labels in taken] == [10, 10, 10, 7]
    images = torch.cat([images for images, _ in taken]).numpy()
    np.testing.assert_allclose(images, one_by_one(split, experiment(), 2), atol=1e-5)
    assert np.abs(images - one_by_one(split, experiment(seed="1"), 2)).max() > 0.1, "the control"
    labels = torch.cat([labels for _, labels in taken])
    assert labels.tolist() == (epoch_order(experiment(), 2, COUNT) % 10).tolist()


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 6, 6), (3, 5, 5), (1, 2, 9)])
def test_images_of_any_size_are_mirrored_whole(shape: tuple[int, int, int]) -> None:
    images = torch.randint(0, 256, (4, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mirrored = mirrored_where(images, torch.tensor([True, False, False, True]))
    assert torch.equal(mirrored, torch.stack([images[0].flip(2), images[1], images[2], images[3].flip(2)]))


def test_an_epoch_can_be_taken_up_at_any_batch(split: Split) -> None:
    batches = Batches(split, experiment(), CPU, training=True)
    whole = list(batches.epoch(0))
    for start in range(len(batches)):
        for (images, labels), (expected, wanted) in zip(batches.epoch(0, start), whole[start:], strict=True):
            assert torch.equal(images, expected) and torch.equal(labels, wanted)


@pytest.mark.parametrize("training", [True, False])
def test_in_order_sees_every_image_as_it_is(split: Split, training: bool) -> None:
    batches = Batches(split, experiment(), CPU, training=training)
    images = torch.cat([images for images, _ in batches.in_order()])
    back = images * batches._scale.reciprocal() + batches._mean
    assert torch.equal(back.round().to(torch.uint8), torch.from_numpy(split.images))


def test_without_augmentation_only_the_order_is_random(split: Split) -> None:
    chosen = experiment(augment="false")
    images = torch.cat([images for images, _ in Batches(split, chosen, CPU, training=True).epoch(0)])
    plain = torch.cat([images for images, _ in Batches(split, chosen, CPU, training=False).in_order()])
    assert torch.equal(images, plain[torch.from_numpy(epoch_order(chosen, 0, COUNT))])


def test_images_that_are_cropped_smaller_are_cropped_without_padding(split: Split) -> None:
    chosen = Experiment.from_name("lenet_bn_1", {"batch_size": "10", "crop": "28"})
    images = torch.cat([images for images, _ in Batches(split, chosen, CPU, training=True).epoch(1)])
    back = Batches(split, chosen, CPU, training=True)
    pixels = (images * back._scale.reciprocal() + back._mean).round().to(torch.uint8).numpy()
    draws = epoch_crops(chosen, 1, COUNT, 4)
    assert draws[:, :2].min() == 0 and draws[:, :2].max() == 4
    for found, index, (top, left, flip) in zip(pixels, epoch_order(chosen, 1, COUNT), draws, strict=True):
        crop = split.images[index][:, top : top + 28, left : left + 28]
        assert (found == (crop[:, :, ::-1] if flip else crop)).all()
    middle = torch.cat([images for images, _ in back.in_order()]) * back._scale.reciprocal() + back._mean
    assert torch.equal(middle.round().to(torch.uint8), torch.from_numpy(split.images[..., 2:30, 2:30]))


def test_whitened_images_have_no_mean_and_unit_deviation(split: Split) -> None:
    images = torch.from_numpy(split.images.copy())
    images[1] = images[1] // 8 + 100
    images[2] = 77
    white = whitened(images).to(torch.float64).flatten(1)
    assert white.mean(1).abs().max() < 1e-5
    assert (white[[0, 1]].square().mean(1) - 1).abs().max() < 1e-5
    assert white[2].tolist() == [0.0] * 3072, "an image of one colour"
    almost = images[2:3].clone()
    almost[0, 0, 0, 0] = 78  # its deviation is below the floor of 255/sqrt(3072)
    assert whitened(almost).abs().max() == pytest.approx((1 - 1 / 3072) * 3072**0.5 / 255, rel=1e-5)


def test_whitening_takes_the_place_of_the_data_sets_mean(split: Split) -> None:
    chosen = experiment(whiten="true", augment="false")
    images = torch.cat([images for images, _ in Batches(split, chosen, CPU, training=False).in_order()])
    assert torch.equal(images, whitened(torch.from_numpy(split.images)))


def test_factors_of_one_change_nothing_and_each_does_what_its_name_says(split: Split) -> None:
    images = torch.from_numpy(split.images[:6])
    ones = torch.ones(6, 3)
    plain = images.to(torch.float32)
    assert (jittered(images, ones) - plain).abs().max() < 1e-3
    grey = (plain * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    flat = jittered(images, ones * torch.tensor([0.0, 1.0, 1.0]))
    assert (flat - grey.mean((2, 3), keepdim=True)).abs().max() < 1e-2, "no contrast: the mean grey"
    colourless = jittered(images, ones * torch.tensor([1.0, 0.0, 1.0]))
    assert (colourless - grey).abs().max() < 1e-2, "no saturation: grey"
    dark = jittered(images, ones * torch.tensor([1.0, 1.0, 0.5]))
    assert (dark - plain * 0.5).abs().max() < 1e-3
    bright = jittered(images, ones * 9.0)
    assert float(bright.min()) == 0.0 and float(bright.max()) == 255.0


def test_jitter_has_draws_of_its_own_and_only_in_training(split: Split) -> None:
    without, with_it = experiment(), experiment(jitter="0.1")
    factors = epoch_jitter(with_it, 0, COUNT)
    assert factors.min() >= 0.9 and factors.max() <= 1.1 and factors.std() > 0.04
    assert (epoch_crops(without, 0, COUNT, 8) == epoch_crops(with_it, 0, COUNT, 8)).all()
    plain = torch.cat([images for images, _ in Batches(split, without, CPU, training=True).epoch(0)])
    changed = torch.cat([images for images, _ in Batches(split, with_it, CPU, training=True).epoch(0)])
    assert 0.01 < (plain - changed).abs().mean() < 0.3
    for batches in (Batches(split, with_it, CPU, training=False),):
        expected = Batches(split, without, CPU, training=False).in_order()
        assert all(torch.equal(a, b) for (a, _), (b, _) in zip(batches.in_order(), expected, strict=True))
    whole = list(Batches(split, with_it, CPU, training=True).epoch(0))
    resumed = list(Batches(split, with_it, CPU, training=True).epoch(0, 2))
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(resumed, whole[2:], strict=True))


def test_noise_is_taken_as_it_is() -> None:
    noise = Split(np.random.RandomState(0).standard_normal((5, 3, 32, 32)).astype(np.float32) * 100, np.arange(5))
    chosen = experiment(augment="false")
    batches = Batches(noise, chosen, CPU, training=False)
    (images, _), *_ = list(batches.in_order())
    expected = (torch.from_numpy(noise.images) - batches._mean) * batches._scale
    assert torch.equal(images, expected) and float(images.min()) < -3


def test_the_shares_of_several_processes_are_the_batches_of_one(split: Split) -> None:
    chosen = experiment(jitter="0.1")
    shares = [Batches(split, chosen, CPU, training=True, share=Share(rank, 3)) for rank in range(3)]
    for (images, labels), *parts in zip(
        Batches(split, chosen, CPU, training=True).epoch(0), *(each.epoch(0) for each in shares), strict=True
    ):
        assert torch.equal(images, torch.cat([part for part, _ in parts]))
        assert torch.equal(labels, torch.cat([part for _, part in parts]))
    assert [shares[0].images_in(batch) for batch in range(4)] == [10, 10, 10, 7]
    whole = list(Batches(split, chosen, CPU, training=False).in_order())
    for rank in range(3):
        dealt = Batches(split, chosen, CPU, training=False, share=Share(rank, 3)).in_order()
        for (images, labels), (expected, wanted) in zip(dealt, whole[rank::3], strict=True):
            assert torch.equal(images, expected) and torch.equal(labels, wanted)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_evaluation_leaves_the_images_as_they_are(split: Split, dtype: type) -> None:
    """Noise is kept as float32, which normalising must not write into."""
    batches = Batches(Split(split.images.astype(dtype), split.labels), experiment(), CPU, training=False)
    first, second = (torch.cat([images for images, _ in batches.in_order()]) for _ in range(2))
    assert torch.equal(first, second) and first.shape == (COUNT, 3, 32, 32)
