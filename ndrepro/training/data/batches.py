"""The training set on the device: one uint8 tensor, cropped, flipped and normalised a batch at a time.

Crop and flip choose pixels, they compute none, so augmented images are the same on every device; normalising is two
float32 operations per pixel. Padding is black, before normalising, as torchvision's RandomCrop pads. Where the
experiment crops to fewer pixels, a training image is cropped without padding.

Whitening and jitter need sums over an image; those are of whole numbers, and so the same in any order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch.nn.functional import pad

from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training.compute.batch_share import WHOLE, Share
from ndrepro.training.compute.randomness import epoch_crops, epoch_jitter, epoch_order
from ndrepro.training.data.readers.images import Split

# a number of as many bytes as the key
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class BatchSource(Protocol):
    """What training and evaluation need of a split: ``Batches`` of images in memory, or of photographs on disk."""

    def __len__(self) -> int:
        """Batches in an epoch."""

    @property
    def device(self) -> torch.device:
        """The device on which the batches are."""

    @property
    def count(self) -> int:
        """Images."""

    def images_in(self, batch: int) -> int:
        """Images of one batch, in all processes together."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The epoch's training batches from batch ``start`` on: images float32 (B, C, S, S), labels int64 (B,).

        Of several processes each gets its share of every batch.
        """

    def in_order(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Every image once, as evaluation sees it; of several processes each gets its share of the batches, whole."""


class SplitBatches:
    """What batches of any split have in common: how many there are, and how their pixels are normalised.

    ``count`` images, each batch shared among processes as ``share`` has it.
    """

    def __init__(
        self, count: int, experiment: Experiment, device: torch.device, *, training: bool, share: Share
    ) -> None:
        facts = experiment.facts
        self.count = count
        self._experiment = experiment
        self._share = share
        self._augment = training and experiment.augment
        self._mean = torch.tensor(facts.mean, device=device).mul(255).view(1, -1, 1, 1)
        self._scale = torch.tensor(facts.std, device=device).mul(255).reciprocal().view(1, -1, 1, 1)

    def __len__(self) -> int:
        """Batches in an epoch; the last may be smaller."""
        return -(-self.count // self._experiment.batch_size)

    @property
    def device(self) -> torch.device:
        """Where the batches are made."""
        return self._mean.device

    def images_in(self, batch: int) -> int:
        """Images of one batch, in all processes together."""
        return min(self._experiment.batch_size, self.count - batch * self._experiment.batch_size)

    def _rows(self, batch: int) -> slice:
        """This process's rows of a training batch, as places in the epoch's order."""
        first = batch * self._experiment.batch_size
        return self._share.of(first, first + self.images_in(batch))

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        if self._experiment.whiten:
            return whitened(pixels)
        # in place on the copy: two passes less over new memory
        return pixels.to(torch.float32, copy=True).sub_(self._mean).mul_(self._scale)


class Batches(SplitBatches):
    """Batches of one split: images float32 (B, C, H, W), normalised, and labels int64 (B,)."""

    def __init__(
        self, split: Split, experiment: Experiment, device: torch.device, *, training: bool, share: Share = WHOLE
    ) -> None:
        super().__init__(len(split.labels), experiment, device, training=training, share=share)
        facts = experiment.facts
        self._flip = facts.flip
        images = torch.from_numpy(np.ascontiguousarray(split.images)).to(device)
        self._side = experiment.image_size
        padding = facts.crop_padding * self._side // facts.size if self._augment and not experiment.crop else 0
        self._images = pad(images, [padding] * 4)
        self._room = self._images.shape[-1] - self._side
        self._labels = torch.from_numpy(split.labels).to(device)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """This process's rows of the epoch's training batches from ``start`` on, in its random order, augmented."""
        order = torch.from_numpy(epoch_order(self._experiment, epoch, self.count)).to(self.device)
        draws = factors = None
        if self._augment:
            draws = torch.from_numpy(epoch_crops(self._experiment, epoch, self.count, self._room)).to(self.device)
        if self._augment and self._experiment.jitter:
            factors = torch.from_numpy(epoch_jitter(self._experiment, epoch, self.count)).to(self.device)
        for batch in range(start, len(self)):
            rows = self._rows(batch)
            pixels = self._take(order[rows], None if draws is None else draws[rows])
            if factors is not None:
                pixels = jittered(pixels, factors[rows])
            yield self._normalised(pixels), self._labels[order[rows]]

    def in_order(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """This process's batches of the split in its order, images as they are."""
        size = self._experiment.batch_size
        for batch in self._share.whole(len(self)):
            rows = slice(batch * size, (batch + 1) * size)
            yield self._normalised(self._middles(rows)), self._labels[rows]

    def _take(self, rows: torch.Tensor, draws: torch.Tensor | None) -> torch.Tensor:
        """Pixels (B, C, H, W) as they are stored; the middle of each image where nothing was drawn."""
        if draws is None:
            return self._middles(rows)
        pixels = cropped(self._images, self._side, rows, draws)
        if self._flip:
            pixels = mirrored_where(pixels, draws[:, 2] == 1)
        return pixels

    def _middles(self, rows: torch.Tensor | slice) -> torch.Tensor:
        """The middle of each image, a view of them where ``rows`` is a slice."""
        inner = slice(self._room // 2, self._room // 2 + self._side)
        return self._images[rows, :, inner, inner]


def cropped(images: torch.Tensor, side: int, rows: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """The images (N, C, H, W) that ``rows`` (B,) names, each cropped to ``side`` at its row and column in ``draws``.

    On a CPU a line of a crop is copied as one number of as many bytes: a fifth of the time of an index of every pixel.
    """
    if images.device.type != "cpu":
        windows = images.unfold(2, side, 1).unfold(3, side, 1)  # a view: every place of a crop
        return windows[rows, :, draws[:, 0], draws[:, 1]]
    pixels, (_, channels, height, width) = images.numpy(), images.shape
    shape, line = (pixels.size - side + 1,), f"V{side * pixels.itemsize}"
    lines = np.ndarray(shape, dtype=line, buffer=pixels, strides=(pixels.itemsize,))  # a view: one from every pixel on
    first = (rows * (channels * height * width) + draws[:, 0] * width + draws[:, 1]).numpy()
    within = np.arange(channels)[:, None] * (height * width) + np.arange(side) * width
    taken = lines[first[:, None, None] + within].view(pixels.dtype)
    return torch.from_numpy(taken.reshape(len(rows), channels, side, side))


def mirrored_where(pixels: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """uint8 (B, C, H, W), those images mirrored that ``chosen`` (B,) names; several pixels at a time as one number."""
    flat, mirrored = pixels.flatten(1), pixels.flip(3).flatten(1)
    word = _WORDS[math.gcd(flat.shape[1], 8)]
    return torch.where(chosen.unsqueeze(1), mirrored.view(word), flat.view(word)).view(torch.uint8).view(pixels.shape)


def whitened(pixels: torch.Tensor) -> torch.Tensor:
    """Each image (C, H, W) of a batch less its own mean, divided by its own standard deviation, float32.

    The deviation is kept from below by 1/sqrt(CHW) of the scale, as TensorFlow's ``per_image_whitening`` had it, so
    that an image of one colour becomes zeros.
    """
    numbers = pixels.to(torch.float64).flatten(1)  # sums of whole numbers this small are exact
    count = numbers.shape[1]
    mean = numbers.sum(1) / count
    variance = numbers.square().sum(1) / count - mean.square()
    deviation = variance.clamp(min=0).sqrt().clamp(min=255 / count**0.5)
    shape = (-1, 1, 1, 1)
    return (pixels.to(torch.float32) - mean.to(torch.float32).view(shape)) * deviation.reciprocal().to(
        torch.float32
    ).view(shape)


def jittered(pixels: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """uint8 (B, 3, H, W) with contrast, saturation and brightness multiplied by ``factors`` (B, 3); float32, 0..255.

    Contrast is about the image's mean grey, saturation about each pixel's grey (ITU-R BT.601).
    """
    weights = torch.tensor([299, 587, 114], device=pixels.device).view(1, 3, 1, 1)
    grey_thousandths = (pixels.to(torch.int64) * weights).sum(1, keepdim=True)
    count = pixels.shape[-1] * pixels.shape[-2]
    mean = (grey_thousandths.sum((1, 2, 3), keepdim=True).to(torch.float64) / (1000 * count)).to(torch.float32)
    contrast, saturation, brightness = factors.view(-1, 3, 1, 1, 1).unbind(1)
    out = mean + (pixels.to(torch.float32) - mean) * contrast
    grey = out[:, :1] * 0.299 + out[:, 1:2] * 0.587 + out[:, 2:] * 0.114
    out = grey + (out - grey) * saturation
    return (out * brightness).clamp(0, 255)
