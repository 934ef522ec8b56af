"""How many images an experiment takes of its data set, and whether there are enough of them.

Asked before a run is started, and again by the training process, which has the images themselves.
"""

from __future__ import annotations

from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.experiment import Experiment


def check(experiment: Experiment, train_images: int, test_images: int) -> None:
    """Raises DataError where the splits, as they are there, are too small for what the experiment asks for."""
    used = first(experiment.train_images, train_images)
    first(experiment.test_images, test_images)
    if experiment.validation:
        used -= held_out(experiment, used)
    check_last_batch(experiment, used)


def first(asked: int | None, there: int) -> int:
    """How many images of a split are used: the first ``asked``, all for ``None``. Raises DataError for too many."""
    if asked is None:
        return there
    if asked > there:
        raise DataError(f"{asked} images asked for, the split has {there}", "ask for fewer")
    return asked


def held_out(experiment: Experiment, count: int) -> int:
    """How many of ``count`` training images become validation images; DataError where either part would be empty."""
    held = round(experiment.validation * count)
    if not 0 < held < count:
        raise DataError(
            f"validation={experiment.validation} of {count} training images leaves {held} to validate on and "
            f"{count - held} to train on",
            "choose another fraction, or more training images",
        )
    return held


def check_last_batch(experiment: Experiment, train_images: int) -> None:
    """Raises DataError where one of several processes would have no image of an epoch's last batch."""
    last = train_images % experiment.batch_size
    if 0 < last < experiment.processes:
        raise DataError(
            f"the last batch of an epoch has {last} images, fewer than the {experiment.processes} processes",
            "choose another batch_size, fewer processes, or train_images",
        )
