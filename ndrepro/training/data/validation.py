"""Validation images: training images that are kept out of training and take the place of the test images.

Whoever chooses hyper-parameters looks at results again and again; those must not be results on the test images. With
``validation`` set, some of the training images, drawn from the stream "split", become what every epoch is scored on,
and the test images are dropped before anything is computed from them: they are read from disk, for the data set's
digest, and never reach a network.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ndrepro.protocol.experiment import split_sizes
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training.compute.randomness import stream
from ndrepro.training.data.readers.images import Images, Split


def hold_out(images: Images, experiment: Experiment) -> tuple[Images, dict[str, Any]]:
    """The data set with validation images as its test split, and what ``dataset.json`` says of it.

    The first round(validation * N) of a permutation of the N training images are held out; both parts keep their
    order. Raises DataError where either part would be empty.
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
