"""Crop and flip choose the pixels that the draws name, in any batch; evaluation sees images as they are."""

import numpy as np
import pytest
import torch

from ndrepro.spec.catalogue import DATASETS
from ndrepro.spec.experiment import Experiment
from ndrepro.training.batches import Batches
from ndrepro.training.data.images import Split
from ndrepro.training.randomness import epoch_augmentation, epoch_order

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
    draws = epoch_augmentation(chosen, epoch, COUNT, facts.crop_padding)
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
