"""The training set on the device: one uint8 tensor, cropped, flipped and normalised a batch at a time.

Crop and flip choose pixels, they compute none, so augmented images are the same on every device; normalising is two
float32 operations per pixel. Padding is black, before normalising, as torchvision's RandomCrop pads.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn.functional import pad

from ndrepro.spec.catalogue import DATASETS
from ndrepro.spec.experiment import Experiment
from ndrepro.training.data.images import Split
from ndrepro.training.randomness import epoch_augmentation, epoch_order


class Batches:
    """Batches of one split: images float32 (B, C, H, W), normalised, and labels int64 (B,)."""

    def __init__(self, split: Split, experiment: Experiment, device: torch.device, *, training: bool) -> None:
        facts = DATASETS[experiment.dataset]
        self._experiment = experiment
        self._augment = training and experiment.augment
        self._flip = facts.flip
        self._padding = facts.crop_padding if self._augment else 0
        images = torch.from_numpy(np.ascontiguousarray(split.images)).to(device)
        self._side = images.shape[-1]
        self._images = pad(images, [self._padding] * 4)
        self._labels = torch.from_numpy(split.labels).to(device)
        self._mean = torch.tensor(facts.mean, device=device).mul(255).view(1, -1, 1, 1)
        self._scale = torch.tensor(facts.std, device=device).mul(255).reciprocal().view(1, -1, 1, 1)

    def __len__(self) -> int:
        """Batches in an epoch; the last may be smaller."""
        return -(-self.count // self._experiment.batch_size)

    @property
    def device(self) -> torch.device:
        """Where the images lie."""
        return self._images.device

    @property
    def count(self) -> int:
        """Images."""
        return len(self._labels)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The epoch's training batches from batch ``start`` on, in its random order, augmented."""
        order = torch.from_numpy(epoch_order(self._experiment, epoch, self.count)).to(self._images.device)
        draws = None
        if self._augment:
            drawn = epoch_augmentation(self._experiment, epoch, self.count, self._padding)
            draws = torch.from_numpy(drawn).to(self._images.device)
        for batch in range(start, len(self)):
            rows = slice(batch * self._experiment.batch_size, (batch + 1) * self._experiment.batch_size)
            yield self._take(order[rows], None if draws is None else draws[rows])

    def in_order(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Every image once, in the split's order, as it is."""
        for rows in torch.arange(self.count, device=self._images.device).split(self._experiment.batch_size):
            yield self._take(rows, None)

    def _take(self, rows: torch.Tensor, draws: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        if draws is None:
            inner = slice(self._padding, self._padding + self._side)
            pixels = self._images[rows, :, inner, inner]
        else:
            window = torch.arange(self._side, device=rows.device)
            down = draws[:, 0, None] + window  # (B, H): rows of the padded image
            across = draws[:, 1, None] + window  # (B, W)
            if self._flip:
                across = torch.where(draws[:, 2, None] == 1, across.flip(1), across)
            channels = torch.arange(self._images.shape[1], device=rows.device)
            pixels = self._images[
                rows[:, None, None, None], channels[None, :, None, None], down[:, None, :, None], across[:, None, None]
            ]
        return (pixels.to(torch.float32) - self._mean) * self._scale, self._labels[rows]
