"""Batches of photographs that are read, cropped and resized as they are needed; the face of ``Batches``.

Which images a batch has, and what is cut out of each, is drawn from the named streams on the CPU before anything is
read: the order from "order" and the epoch, crops and flips from "augment", the epoch and the batch. Worker threads
read and decode ahead of the training; they draw nothing, and hand over in order. So a batch is the same whatever the
number of threads, and an epoch can be taken up at any batch. Of several processes each reads its own rows and nothing
else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
import torch

from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training.compute.batch_share import WHOLE, Share
from ndrepro.training.compute.randomness import epoch_jitter, epoch_order, stream
from ndrepro.training.data.batches import SplitBatches, jittered
from ndrepro.training.data.crops import DRAWS, centre_crop, training_crop
from ndrepro.training.data.readers.decoding import in_threads
from ndrepro.training.data.readers.photographs import PhotographSplit

_BATCHES_AHEAD = 2
_Task = tuple[int, "np.ndarray | None"]  # an image's number, and the draws of its crop


class PhotographBatches(SplitBatches):
    """Batches of one split: images float32 (B, 3, S, S), normalised, and labels int64 (B,)."""

    def __init__(
        self,
        split: PhotographSplit,
        experiment: Experiment,
        device: torch.device,
        *,
        training: bool,
        share: Share = WHOLE,
    ) -> None:
        super().__init__(len(split.labels), experiment, device, training=training, share=share)
        self._split = split
        self._size = experiment.image_size

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """This process's rows of the epoch's training batches from ``start`` on, in its random order, augmented."""
        order = epoch_order(self._experiment, epoch, self.count)
        factors = None
        if self._augment and self._experiment.jitter:
            factors = torch.from_numpy(epoch_jitter(self._experiment, epoch, self.count)).to(self.device)
        tasks = (self._tasks(order, epoch, batch) for batch in range(start, len(self)))
        for batch, pixels in enumerate(self._stacked(tasks), start):
            rows = self._rows(batch)
            images = pixels if factors is None else jittered(pixels, factors[rows])
            yield self._normalised(images), self._labels(order[rows])

    def in_order(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """This process's batches of the split in its order, the middle of each image."""
        size = self._experiment.batch_size
        batches = [
            np.arange(batch * size, batch * size + self.images_in(batch)) for batch in self._share.whole(len(self))
        ]
        tasks: Iterator[list[_Task]] = ([(int(index), None) for index in chosen] for chosen in batches)
        for chosen, pixels in zip(batches, self._stacked(tasks), strict=True):
            yield self._normalised(pixels), self._labels(chosen)

    def _tasks(self, order: np.ndarray, epoch: int, batch: int) -> list[_Task]:
        rows = self._rows(batch)
        chosen = [int(index) for index in order[rows]]
        if not self._augment:
            return [(index, None) for index in chosen]
        # drawn for the whole batch: an image has its crop whichever process has the image
        generator = stream(self._experiment, "augment", f"{epoch}/{batch}")
        draws = generator.random_sample((self.images_in(batch), DRAWS))
        first = batch * self._experiment.batch_size
        return list(zip(chosen, draws[rows.start - first : rows.stop - first], strict=True))

    def _crop(self, task: _Task) -> np.ndarray:
        index, draws = task
        image = self._split.read(index)
        if draws is None:
            return centre_crop(image, self._size)
        return training_crop(image, self._size, draws.tolist())

    def _stacked(self, batches: Iterator[list[_Task]]) -> Iterator[torch.Tensor]:
        """uint8 (B, 3, S, S) on the device, batch after batch; images are read ahead of what is taken."""
        lengths: deque[int] = deque()

        def tasks() -> Iterator[_Task]:
            for batch in batches:
                lengths.append(len(batch))
                yield from batch

        ahead = max(1, _BATCHES_AHEAD * self._experiment.batch_size // self._share.size)
        kept: list[np.ndarray] = []
        for pixels in in_threads(self._crop, tasks(), ahead=ahead):
            kept.append(pixels)
            if len(kept) == lengths[0]:
                yield torch.from_numpy(np.stack(kept)).to(self.device)
                kept = []
                lengths.popleft()

    def _labels(self, chosen: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self._split.labels[chosen]).to(self.device)
