"""The data of one run: read, digested, prepared, described in the run folder, and made into batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment import split_sizes
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.experiment.own import OWN_DATASET
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, write_json
from ndrepro.training.compute.batch_share import WHOLE, Share
from ndrepro.training.compute.randomness import stream
from ndrepro.training.data import DATASETS
from ndrepro.training.data.batches import Batches, BatchSource
from ndrepro.training.data.own_data.own_images import images_of
from ndrepro.training.data.photograph_batches import PhotographBatches
from ndrepro.training.data.readers.images import Images, Split
from ndrepro.training.data.readers.photographs import Photographs
from ndrepro.training.data.transforms import prepare, relabel
from provenance.capture.unavailable import printable
from provenance.formats.atomic_io import write_atomically
from provenance.formats.digest import FileDigest, listing


def read_data(request: Request, folder: RunFolder) -> Images | Photographs:
    """The data asked for, digested and prepared; what they were is written into ``folder``."""
    return read_and_describe(request, folder, write=True)[0]


def read_and_describe(
    request: Request, folder: RunFolder, *, write: bool
) -> tuple[Images | Photographs, dict[str, Any]]:
    """The data asked for, digested and prepared, and what they were, which is written into ``folder`` where asked.

    Raises DataError for data that cannot be read, or that are others than those of an earlier attempt.
    """
    experiment = request.experiment
    data = DATASETS[experiment.dataset](Path(request.data))
    if experiment.dataset == OWN_DATASET and isinstance(data, Images) and images_of(data) != experiment.own:
        raise DataError(
            f"{request.data}: it holds other images than the experiment describes",
            "get the original data again, or start a new run with these",
        )
    data = data.first(experiment.train_images, experiment.test_images)
    held_out: dict[str, Any] = {}
    if experiment.validation and isinstance(data, Images):
        data, held_out = hold_out(data, experiment)
    described = {**data.describe(), **held_out}
    prepared: Images | Photographs
    if isinstance(data, Photographs):
        prepared, changes = relabel(data, experiment)
    else:
        prepared, changes = prepare(data, experiment)
    described = described if changes is None else {**described, "prepared": changes}
    if not write:
        return prepared, described
    entries = ((item.name, FileDigest(item.size, item.sha256)) for item in data.files)
    listed = listing(entries).encode("utf-8", "surrogateescape")
    if request.resume_step and folder.dataset_listing.exists() and not _is_same(folder.dataset_listing, listed):
        raise DataError(
            f"{request.data}: not the data on which the run was trained before it was interrupted",
            "get the original data again, or start a new run with these",
        )
    write_json(folder.dataset, printable(described))
    write_atomically(folder.dataset_listing, listed)
    return prepared, described


def _is_same(listed_then: Path, listed: bytes) -> bool:
    """Whether the data are those of an earlier attempt; a single file may be called otherwise now."""
    before = listed_then.read_bytes()
    digests = [each.split(b" ", 1)[0] for each in (before, listed) if each.count(b"\n") == 1]
    return before == listed or (len(digests) == 2 and digests[0] == digests[1])


def hold_out(images: Images, experiment: Experiment) -> tuple[Images, dict[str, Any]]:
    """The data set with validation images as its test split, and what ``dataset.json`` says of it.

    Whoever chooses hyper-parameters must not look at results on the test images: these are dropped before anything is
    computed from them. The first round(validation * N) of a permutation of the N training images, drawn from the
    stream "split", are held out; both parts keep their order. Raises DataError where either part would be empty.
    """
    count = len(images.train.labels)
    held = split_sizes.held_out(experiment, count)
    order = stream(experiment, "split", "validation").permutation(count)
    divided = replace(
        images, train=_rows(images.train, np.sort(order[held:])), test=_rows(images.train, np.sort(order[:held]))
    )
    said = {"test_images": 0, "validation_images": held, "test_images_dropped": len(images.test.labels)}
    return divided, said


def _rows(split: Split, rows: np.ndarray) -> Split:
    return Split(split.images[rows], split.labels[rows], split.by_class)


def make_batches(
    data: Images | Photographs, experiment: Experiment, device: torch.device, share: Share = WHOLE
) -> tuple[BatchSource, BatchSource]:
    """Training and test batches: of images in memory, or of photographs that are read as they are needed."""
    if isinstance(data, Photographs):
        return (
            PhotographBatches(data.train, experiment, device, training=True, share=share),
            PhotographBatches(data.test, experiment, device, training=False, share=share),
        )
    return (
        Batches(data.train, experiment, device, training=True, share=share),
        Batches(data.test, experiment, device, training=False, share=share),
    )
