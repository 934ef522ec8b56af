"""What is done to a whole data set before the first step: brought to a size, cropped, corrupted on purpose.

    size       padded evenly with black, or averaged over squares of pixels, rounded half up: whole numbers throughout
    crop       the middle, except where training images are cropped at random as they are taken (``Batches``)
    corrupt    labels and pixels, as in Zhang et al. (2017), section 2.1, drawn from the stream "corrupt"

All random numbers are drawn on the CPU, image after image, so that the first images of a data set become the same
whether or not more follow. A label that is redrawn under a small fraction is redrawn to the same class under every
larger one. Test images are cropped and sized as training images are, and corrupted only where the experiment says so;
test labels never are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training.compute.randomness import stream
from ndrepro.training.data.readers.images import Images, Split
from ndrepro.training.data.readers.photographs import Photographs

_CHUNK = 1000  # images handled at a time, where a copy of all would be large


def relabel(data: Photographs, experiment: Experiment) -> tuple[Photographs, dict[str, Any] | None]:
    """As ``prepare``, for photographs: they are sized and cropped as they are read, and only labels are corrupted."""
    redrawn, labels = corrupt_labels(data.train.labels, experiment)
    if not experiment.corrupt.labels:
        return data, None
    changed = int((labels != data.train.labels).sum())
    return replace(data, train=replace(data.train, labels=labels)), {
        "labels_redrawn": redrawn,
        "labels_changed": changed,
    }


def prepare(images: Images, experiment: Experiment) -> tuple[Images, dict[str, Any] | None]:
    """The images that training starts from, and what ``dataset.json`` says of the change; None: there was none."""
    train, test = images.train, images.test
    if experiment.size is not None:
        train, test = (Split(fit(split.images, experiment.size), split.labels) for split in (train, test))
    if experiment.crop is not None:
        test = Split(crop(test.images, experiment.crop), test.labels)
        if not experiment.augment:
            train = Split(crop(train.images, experiment.crop), train.labels)
    redrawn, labels = corrupt_labels(train.labels, experiment)
    pixels = _PIXELS[experiment.corrupt.pixels](experiment, train)
    changed = Split(pixels(train.images, "train"), labels)
    if experiment.corrupt.test_pixels:
        test = Split(pixels(test.images, "test"), test.labels)
    prepared = replace(images, train=changed, test=test)
    if not _asks_for_change(experiment):
        return prepared, None
    counts = {"labels_redrawn": redrawn, "labels_changed": int((labels != images.train.labels).sum())}
    return prepared, {**counts, "pixels_sha256": prepared.describe()["pixels_sha256"]}


def fit(images: np.ndarray, size: int) -> np.ndarray:
    """uint8 (N, C, S, S) -> (N, C, size, size); a smaller size must divide S."""
    side = images.shape[-1]
    if size >= side:
        before = (size - side) // 2
        edges = (before, size - side - before)
        return np.pad(images, ((0, 0), (0, 0), edges, edges))
    factor = side // size
    out = np.empty((*images.shape[:2], size, size), dtype=np.uint8)
    for rows in _chunks(len(images)):
        squares = images[rows].reshape(-1, images.shape[1], size, factor, size, factor)
        sums = squares.sum(axis=(3, 5), dtype=np.int64)
        out[rows] = (2 * sums + factor**2) // (2 * factor**2)
    return out


def crop(images: np.ndarray, size: int) -> np.ndarray:
    """(N, C, S, S) -> the middle (N, C, size, size)."""
    start = (images.shape[-1] - size) // 2
    return images[..., start : start + size, start : start + size]


def corrupt_labels(labels: np.ndarray, experiment: Experiment) -> tuple[int, np.ndarray]:
    """How many labels were redrawn (some to what they were), and all labels, int64 (N,)."""
    fraction = experiment.corrupt.labels
    if not fraction:
        return 0, labels
    chosen = stream(experiment, "corrupt", "labels/which").random_sample(len(labels)) < fraction
    classes = experiment.facts.num_classes
    drawn = stream(experiment, "corrupt", "labels/class").randint(0, classes, len(labels))
    return int(chosen.sum()), np.where(chosen, drawn, labels).astype(np.int64)


class _Pixels:
    """Leaves images as they are; its children do what ``corrupt.pixels`` names."""

    def __init__(self, experiment: Experiment, train: Split) -> None:
        self._experiment = experiment
        self._train = train

    def __call__(self, images: np.ndarray, split: str) -> np.ndarray:
        return images


class _Shuffled(_Pixels):
    """One permutation of the positions for all images; the channels of a pixel stay together."""

    def __call__(self, images: np.ndarray, split: str) -> np.ndarray:
        count = images.shape[-1] * images.shape[-2]
        order = stream(self._experiment, "corrupt", "pixels/shuffled").permutation(count)
        flat = images.reshape(*images.shape[:2], count)
        return np.ascontiguousarray(flat[:, :, order]).reshape(images.shape)


class _Random(_Pixels):
    """A permutation of the positions for each image."""

    def __call__(self, images: np.ndarray, split: str) -> np.ndarray:
        generator = stream(self._experiment, "corrupt", f"pixels/random/{split}")
        flat = images.reshape(*images.shape[:2], -1)
        out = np.empty_like(flat)
        for index in range(len(flat)):
            out[index] = flat[index][:, generator.permutation(flat.shape[-1])]
        return out.reshape(images.shape)


class _Gaussian(_Pixels):
    """Noise, float32 on the scale 0..255 and not clipped, with each channel's mean and variance in training images."""

    def __call__(self, images: np.ndarray, split: str) -> np.ndarray:
        generator = stream(self._experiment, "corrupt", f"pixels/gaussian/{split}")
        mean, deviation = _moments(self._train.images)
        out = np.empty(images.shape, dtype=np.float32)
        for rows in _chunks(len(images)):
            noise = generator.standard_normal((rows.stop - rows.start, *images.shape[1:]))
            out[rows] = mean[:, None, None] + deviation[:, None, None] * noise
        return out


_PIXELS = {"none": _Pixels, "shuffled": _Shuffled, "random": _Random, "gaussian": _Gaussian}


def _moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel of uint8 images, float64 (C,), from exact counts."""
    levels = np.arange(256, dtype=np.float64)
    counts = [np.bincount(images[:, channel].reshape(-1), minlength=256) for channel in range(images.shape[1])]
    mean = np.array([(count * levels).sum() / count.sum() for count in counts])
    square = np.array([(count * levels**2).sum() / count.sum() for count in counts])
    return mean, np.sqrt(square - mean**2)


def _asks_for_change(experiment: Experiment) -> bool:
    corrupt = experiment.corrupt
    return bool(experiment.size or experiment.crop or corrupt.labels or corrupt.pixels != "none")


def _chunks(count: int) -> Iterator[slice]:
    for start in range(0, count, _CHUNK):
        yield slice(start, min(start + _CHUNK, count))
