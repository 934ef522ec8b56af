"""Batches of photographs are those that the draws name, in order, whatever decodes them and wherever one begins."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from miniature_imagenet import Miniature

from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.catalogue import DATASETS
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training.compute.batch_share import Share
from ndrepro.training.compute.randomness import epoch_order, stream
from ndrepro.training.data.crops import DRAWS, centre_crop, training_crop
from ndrepro.training.data.photograph_batches import PhotographBatches
from ndrepro.training.data.readers import imagenet
from ndrepro.training.data.readers.photographs import Photographs
from ndrepro.training.data.transforms import relabel

CPU = torch.device("cpu")
COUNT = 37


def experiment(**settings: str) -> Experiment:
    return Experiment.from_name("resnet18_bn_1_imagenet", {"batch_size": "10", "size": "48", **settings})


@pytest.fixture(scope="module")
def data(miniature: Miniature, tmp_path_factory: pytest.TempPathFactory) -> Photographs:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NDREPRO_CACHE", str(tmp_path_factory.mktemp("cache")))
        return imagenet.load(miniature.folders).first(COUNT, COUNT)


def normalised(pixels: list[np.ndarray]) -> np.ndarray:
    facts = DATASETS["imagenet"]
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (facts.mean, facts.std))
    return (np.stack(pixels) / 255 - mean) / std


def one_by_one(data: Photographs, chosen: Experiment, epoch: int) -> np.ndarray:
    """The epoch's images without batches or threads."""
    order = epoch_order(chosen, epoch, COUNT)
    pixels = []
    for batch in range(4):
        rows = order[batch * 10 : batch * 10 + 10]
        draws = stream(chosen, "augment", f"{epoch}/{batch}").random_sample((len(rows), DRAWS))
        pixels += [training_crop(data.train.read(index), 48, each) for index, each in zip(rows, draws, strict=True)]
    return normalised(pixels)


def test_batches_are_the_crops_that_the_draws_name(data: Photographs) -> None:
    batches = PhotographBatches(data.train, experiment(), CPU, training=True)
    taken = list(batches.epoch(2))
    assert len(batches) == 4 and [len(labels) for _, labels in taken] == [10, 10, 10, 7]
    images = torch.cat([images for images, _ in taken]).numpy()
    np.testing.assert_allclose(images, one_by_one(data, experiment(), 2), atol=1e-5)
    assert np.abs(images - one_by_one(data, experiment(seed="1"), 2)).max() > 0.1, "the control"
    labels = torch.cat([labels for _, labels in taken]).numpy()
    assert (labels == data.train.labels[epoch_order(experiment(), 2, COUNT)]).all()


def test_an_epoch_can_be_taken_up_at_any_batch(data: Photographs) -> None:
    batches = PhotographBatches(data.train, experiment(jitter="0.1"), CPU, training=True)
    whole = list(batches.epoch(0))
    for start in range(len(batches)):
        for (images, labels), (expected, wanted) in zip(batches.epoch(0, start), whole[start:], strict=True):
            assert torch.equal(images, expected) and torch.equal(labels, wanted)


def test_the_number_of_threads_changes_nothing(data: Photographs, monkeypatch: pytest.MonkeyPatch) -> None:
    def all_of_them() -> torch.Tensor:
        return torch.cat(
            [images for images, _ in PhotographBatches(data.train, experiment(), CPU, training=True).epoch(0)]
        )

    several = all_of_them()
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert torch.equal(all_of_them(), several)


def test_evaluation_sees_every_middle_once_in_order(data: Photographs) -> None:
    batches = PhotographBatches(data.test, experiment(), CPU, training=False)
    taken = list(batches.in_order())
    expected = normalised([centre_crop(data.test.read(index), 48) for index in range(COUNT)])
    np.testing.assert_allclose(torch.cat([images for images, _ in taken]).numpy(), expected, atol=1e-5)
    assert torch.cat([labels for _, labels in taken]).tolist() == data.test.labels.tolist()


def test_without_augmentation_only_the_order_is_random(data: Photographs) -> None:
    chosen = experiment(augment="false")
    images = torch.cat([images for images, _ in PhotographBatches(data.train, chosen, CPU, training=True).epoch(0)])
    plain = torch.cat([images for images, _ in PhotographBatches(data.train, chosen, CPU, training=False).in_order()])
    assert torch.equal(images, plain[torch.from_numpy(epoch_order(chosen, 0, COUNT))])


def test_jitter_changes_colours_and_leaves_the_crops(data: Photographs) -> None:
    plain = torch.cat(
        [images for images, _ in PhotographBatches(data.train, experiment(), CPU, training=True).epoch(0)]
    )
    changed = torch.cat(
        [images for images, _ in PhotographBatches(data.train, experiment(jitter="0.1"), CPU, training=True).epoch(0)]
    )
    assert 0.01 < (plain - changed).abs().mean() < 0.3


def test_a_photograph_that_is_lost_or_damaged_under_way_stops_the_epoch(
    data: Photographs, miniature: Miniature, tmp_path: Path
) -> None:
    root = miniature.copy(miniature.folders, tmp_path / "copy")
    moved = Photographs(**{**vars(data), "train": type(data.train)(root, data.train.files, data.train.labels)})
    batches = PhotographBatches(moved.train, experiment(), CPU, training=True)
    assert len(list(batches.epoch(0))) == 4
    path = root / data.train.files[5].name
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(DataError, match=f"{path.name}: cannot be read"):
        list(batches.epoch(0))
    path.write_bytes(content[:-2])
    with pytest.raises(DataError, match=f"{path.name}: not the file whose digest"):
        list(batches.epoch(0))


def test_an_epoch_that_is_left_half_way_leaves_no_thread_behind(data: Photographs) -> None:
    import threading

    before = threading.active_count()
    epoch = PhotographBatches(data.train, experiment(), CPU, training=True).epoch(0)
    next(epoch)
    epoch.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_labels_are_corrupted_as_those_of_images_are(data: Photographs) -> None:
    same, nothing = relabel(data, experiment())
    assert same is data and nothing is None
    changed, described = relabel(data, experiment(**{"corrupt.labels": "0.5"}))
    assert described is not None and 5 < described["labels_changed"] < 32
    assert (changed.train.labels != data.train.labels).sum() == described["labels_changed"]
    assert changed.test is data.test


def test_the_shares_of_two_processes_are_the_batches_of_one(data: Photographs) -> None:
    whole = list(PhotographBatches(data.train, experiment(jitter="0.1"), CPU, training=True).epoch(1, 2))
    chosen, halves = experiment(jitter="0.1"), []
    for rank in range(2):
        halves.append(list(PhotographBatches(data.train, chosen, CPU, training=True, share=Share(rank, 2)).epoch(1, 2)))
    assert [[len(labels) for _, labels in half] for half in halves] == [[5, 3], [5, 4]]
    for batch, first, second in zip(whole, *halves, strict=True):
        for all_of_it, one, other in zip(batch, first, second, strict=True):
            assert torch.equal(all_of_it, torch.cat([one, other]))


def test_a_process_reads_its_own_share_and_nothing_else(
    data: Photographs, miniature: Miniature, tmp_path: Path
) -> None:
    root = miniature.copy(miniature.folders, tmp_path / "copy")
    share, order = Share(1, 2), epoch_order(experiment(), 0, COUNT)
    batches = [range(COUNT)[share.of(start, min(start + 10, COUNT))] for start in range(0, COUNT, 10)]
    own = {int(order[row]) for batch in batches for row in batch}
    for index, file in enumerate(data.train.files):
        if index not in own:
            (root / file.name).unlink()
    split = type(data.train)(root, data.train.files, data.train.labels)
    mine = PhotographBatches(split, experiment(), CPU, training=True, share=share)
    assert sum(len(labels) for _, labels in mine.epoch(0)) == len(own) == 19
    with pytest.raises(DataError, match="cannot be read"):
        list(PhotographBatches(split, experiment(), CPU, training=True).epoch(0))


def test_test_batches_are_dealt_out_whole(data: Photographs) -> None:
    whole = list(PhotographBatches(data.test, experiment(), CPU, training=False).in_order())
    for rank in range(3):
        dealt = list(PhotographBatches(data.test, experiment(), CPU, training=False, share=Share(rank, 3)).in_order())
        assert len(dealt) == len(whole[rank::3])
        for (images, labels), (expected, wanted) in zip(dealt, whole[rank::3], strict=True):
            assert torch.equal(images, expected) and torch.equal(labels, wanted)
