"""The training loop: reads top to bottom, holds no hidden state, and can stop and resume at any step.

    for every epoch, for every batch:
        forward, cross-entropy, backward, learning rate, SGD step, trail record
    after every epoch: evaluation, one row of results, the state's digests, a checkpoint where one is due

A run goes on from a checkpoint, to its end or for some epochs, with the same bits as if it had never stopped: the
random streams of any epoch are made again from its number, and the sums of the epoch under way are part of the
checkpoint. Several processes go through it side by side, each with its share of every batch (``distributed``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ndrepro.protocol.errors import NonFiniteStatistics
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Scores, Timing
from ndrepro.protocol.training_state import Place
from ndrepro.training.checkpoint import save_checkpoint
from ndrepro.training.compute.precision import forward_of
from ndrepro.training.data.batches import BatchSource
from ndrepro.training.deconv_kernels.kernels import finite_check_of
from ndrepro.training.dropout_streams import Dropouts
from ndrepro.training.evaluate import Evaluation, evaluate, right_answers
from ndrepro.training.optimizer import SGD
from ndrepro.training.process_group import ALONE, Alone
from ndrepro.training.run_logs import Unrecorded
from provenance.capture.environment import usage


class Interrupted(Exception):
    """The run was asked to stop; its checkpoint is written."""

    def __init__(self, place: Place) -> None:
        super().__init__(f"stopped after step {place.step}")
        self.place = place


class Trainer:
    """One run's network, data and files. ``stop_asked`` is looked at after every step."""

    def __init__(
        self,
        experiment: Experiment,
        folder: RunFolder,
        net: nn.Module,
        optimizer: SGD,
        train: BatchSource,
        test: BatchSource,
        stop_asked: Callable[[], bool],
        group: Alone = ALONE,
    ) -> None:
        self.experiment = experiment
        self.group = group
        self.folder = folder
        self.net = net
        self.optimizer = optimizer
        self.train_batches = train
        self.test_batches = test
        self.stop_asked = stop_asked
        self.total_steps = experiment.epochs * len(train)
        self._dropouts = Dropouts(net, experiment)
        self._finite = finite_check_of(net)
        self._forward = forward_of(net, experiment, train.device)
        self._saved_at = time.monotonic()

    def run(self, place: Place, recording: Unrecorded, epochs: int) -> Place:
        """Train from ``place`` until ``epochs`` epochs are done; returns the last place.

        Raises Interrupted when asked to stop.
        """
        while place.epoch < epochs:
            place = self._epoch(place, recording)
        self._forget_passing(place.step + 1)
        return place

    def evaluate(self) -> Evaluation:
        """The network's results on the test data, as it is now."""
        return evaluate(self.net, self.test_batches, self._forward, self.group)

    def _epoch(self, place: Place, recording: Unrecorded) -> Place:
        start, images_before, trail_before = time.perf_counter(), place.seen, recording.trail_seconds
        sums = _Sums(place, self.train_batches.device)
        self.net.train()
        for images, labels in self.train_batches.epoch(place.epoch, place.batch):
            count = self.train_batches.images_in(place.batch)
            loss, right = self._step(place.step, images, labels, count)
            sums.add(loss, right, count)
            place = replace(place, step=place.step + 1, batch=place.batch + 1, seen=place.seen + count)
            recording.step(place.step, loss)
            if place.batch < len(self.train_batches) and self._pause_due():
                self._pause(self._settle(sums, place), recording)
        place = self._settle(sums, place)
        train_seconds = time.perf_counter() - start
        place = self._finish_epoch(place, recording, train_seconds, place.seen - images_before, trail_before)
        recording.state(place, self.optimizer)
        if place.epoch % self.experiment.checkpoint_epochs == 0 or self._pause_due():
            self._pause(place, recording)
        return place

    def _step(
        self, step: int, images: torch.Tensor, labels: torch.Tensor, count: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One optimizer step; returns the mean loss of the batch of ``count`` images and its ``right_answers``.

        ``images`` and ``labels`` are this process's share of the batch.
        """
        self.optimizer.zero_grad()
        self._dropouts.seed(step)
        self.group.begin_batch(count)
        logits = self._logits(step, images)
        loss = mean_loss(logits, labels, count)
        loss.backward()
        self.group.sum_gradients(self.net)
        self.optimizer.step(self.experiment.rate_at(step, self.total_steps))
        self.group.end_step(self.net)
        if self._finite is not None:
            self._finite.end_step(step + 1)
            if images.device.type == "cpu":  # where asking waits for nothing
                self._finite.raise_if_any()
        return self.group.sum(loss.detach()), self.group.sum(right_answers(logits.detach(), labels))

    def _logits(self, step: int, images: torch.Tensor) -> torch.Tensor:
        """The scores of a batch. Raises NonFiniteStatistics with the step's number.

        Under a compiler only ``_step`` does, on a GPU only ``_settle``.
        """
        try:
            return self._forward(images)
        except NonFiniteStatistics as error:
            raise NonFiniteStatistics(f"step {step + 1}: {error}", error.cure) from None

    def _settle(self, sums: _Sums, place: Place) -> Place:
        """The place with the epoch's sums, brought to the host. Raises NonFiniteStatistics for an earlier step."""
        if self._finite is not None:
            self._finite.raise_if_any()
        return sums.settle(place)

    def _finish_epoch(
        self, place: Place, recording: Unrecorded, train_seconds: float, images: int, trail_before: float
    ) -> Place:
        start = time.perf_counter()
        test = self.evaluate()
        scores = Scores(
            epoch=place.epoch + 1,
            step=place.step,
            train_loss=place.loss_sum / place.seen,
            train_accuracy=place.correct / place.seen,
            test_loss=test.loss,
            test_accuracy=test.accuracy,
            learning_rate=self.experiment.rate_at(place.step - 1, self.total_steps),
            train_top5_accuracy=None if place.correct_top5 is None else place.correct_top5 / place.seen,
            test_top5_accuracy=test.top5_accuracy,
        )
        timing = Timing(
            epoch=place.epoch + 1,
            train_seconds=train_seconds,
            test_seconds=time.perf_counter() - start,
            trail_seconds=recording.trail_seconds - trail_before,
            images_per_second=images / train_seconds,
            peak_memory_bytes=int(usage()["peak_memory_bytes"]),
            peak_device_memory_bytes=torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
        )
        recording.epoch(scores, timing)
        self.group.check_same(self.net)
        return Place(step=place.step, epoch=place.epoch + 1, batch=0)

    def _pause_due(self) -> bool:
        late = self.group.rank == 0 and time.monotonic() - self._saved_at >= self.experiment.checkpoint_seconds
        return any(self.group.any(self.stop_asked(), late))

    def _pause(self, place: Place, recording: Unrecorded) -> None:
        """Between two steps: write a checkpoint, and stop if asked to."""
        recording.flush()
        if self.group.rank == 0:
            save_checkpoint(self.folder.checkpoint(place.step), place, self.experiment, self.net, self.optimizer)
        self._forget_passing(place.step)
        self._saved_at = time.monotonic()
        (stop,) = self.group.any(self.stop_asked())
        if stop and place.epoch < self.experiment.epochs:
            raise Interrupted(place)

    def _forget_passing(self, newest: int) -> None:
        """Remove older checkpoints that were written for safety only, not after a checkpoint epoch."""
        if self.group.rank:
            return
        period = self.experiment.checkpoint_epochs * len(self.train_batches)
        for step in self.folder.checkpoint_steps():
            if step < newest and step % period:
                self.folder.checkpoint(step).unlink()


def mean_loss(logits: torch.Tensor, labels: torch.Tensor, count: int) -> torch.Tensor:
    """Cross-entropy of this process's share of a batch of ``count`` images, over ``count``: the shares' sum is the
    batch's mean. A whole batch's is torch's own mean.
    """
    if len(labels) == count:
        return cross_entropy(logits, labels)
    return cross_entropy(logits, labels, reduction="sum") / count


class _Sums:
    """The epoch's loss and right answers, summed on the device in float64 and int64, so that no step waits for it."""

    def __init__(self, place: Place, device: torch.device) -> None:
        self._loss = torch.tensor(place.loss_sum, dtype=torch.float64, device=device)
        self._right = torch.tensor([place.correct, place.correct_top5 or 0], dtype=torch.int64, device=device)

    def add(self, loss: torch.Tensor, right: torch.Tensor, images: int) -> None:
        """Add a batch's mean loss and its ``right_answers``."""
        self._loss += loss.to(torch.float64) * images
        self._right += right

    def settle(self, place: Place) -> Place:
        """The place with the sums brought to the host; adding continues from the same bits."""
        correct, top5 = self._right.tolist()
        counted = None if place.correct_top5 is None else top5
        return replace(place, loss_sum=float(self._loss), correct=correct, correct_top5=counted)
