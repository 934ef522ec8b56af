"""Replays one step of a run, watched operation by operation (see ``ndrepro.training.replay.__main__``)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ndrepro.protocol.errors import NdreproError, UsageError
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import read_json, write_json
from ndrepro.protocol.replay_messages import BATCH, STATE, ReplayFolder, ReplayRequest, StepRecord, TensorBits, Wanted
from ndrepro.protocol.training_state import Place
from ndrepro.training.checkpoint import load_checkpoint, save_checkpoint, state_tensors
from ndrepro.training.compute import determinism
from ndrepro.training.data.batches import BatchSource
from ndrepro.training.data.run_data import make_batches, read_data
from ndrepro.training.optimizer import SGD, make_optimizer
from ndrepro.training.replay.operation_recorder import StepObserver, as_array, bits_of
from ndrepro.training.run_logs import Unrecorded
from ndrepro.training.train_run import build
from ndrepro.training.trainer import Trainer
from provenance.formats.trail import float_bits

_POLL_SECONDS = 0.02
_NEVER = 10**9


def replay(request: ReplayRequest, folder: ReplayFolder) -> None:
    """Write the record of the step that is asked for, and then the tensors that are wanted of it."""
    with determinism.naming_operations(request.request.experiment.determinism):
        stage = ReplayStage(request, folder)
        record, _ = stage.take(request.checkpoint)
        write_json(folder.record, record.to_json())
        wanted = _await_wanted(folder)
        if wanted.part:
            _, tensors = stage.take(str(stage.own_checkpoint) if request.step else "", wanted)
            np.savez(folder.tensors, **tensors)  # type: ignore[arg-type]


def _await_wanted(folder: ReplayFolder) -> Wanted:
    """What the parent asks for next; it is never long, and when the parent dies so does this process."""
    while not folder.wanted.exists():
        time.sleep(_POLL_SECONDS)
    return Wanted.from_json(read_json(folder.wanted))


class ReplayStage:
    """Everything that a replay needs and that is the same at each: experiment, device, data."""

    def __init__(self, request: ReplayRequest, folder: ReplayFolder) -> None:
        self._experiment = request.request.experiment
        if self._experiment.processes > 1 or self._experiment.compile:
            raise UsageError(
                "a run by several processes, or compiled, is not watched operation by operation",
                "compare its trail and its results",
            )
        self._step = request.step
        self._scratch = RunFolder(folder.root)
        determinism.apply(self._experiment)
        self._device = determinism.choose_device(self._experiment)
        data = read_data(request.request, self._scratch)
        batches, _ = make_batches(data, self._experiment, self._device)
        self._batches = _WatchedBatches(batches)

    @property
    def own_checkpoint(self) -> Path:
        """The state that the step is taken from."""
        return self._scratch.checkpoint(self._step - 1)

    def take(self, checkpoint: str, wanted: Wanted | None = None) -> tuple[StepRecord, dict[str, np.ndarray]]:
        """Go from ``checkpoint`` ("": the start) to the step, and take it; what was seen, and the tensors wanted."""
        net = build(self._experiment, self._scratch.network).to(self._device)
        optimizer = make_optimizer(net, self._experiment)
        place = Place(step=0, epoch=0, batch=0)
        if checkpoint:
            place = load_checkpoint(Path(checkpoint), self._experiment, net, optimizer)
        if place.step > max(self._step - 1, 0):
            raise UsageError(f"{checkpoint}: after {place.step} steps, expected at most {self._step - 1}")
        watch = Watch(self, net, optimizer, place.step, wanted or Wanted())
        # checkpoints are this replay's own affair: none after an epoch, none after some minutes
        loop = replace(self._experiment, checkpoint_epochs=_NEVER, checkpoint_seconds=float(_NEVER))
        trainer = Trainer(loop, self._scratch, net, optimizer, self._batches, _NoImages(self._device), lambda: False)
        watch.begin()
        if not watch.over:
            try:
                trainer.run(place, watch, loop.epochs)
            except Reached:
                pass
            finally:
                watch.close()
        if not watch.over:
            raise NdreproError(f"step {self._step}: the run ends before it", "compare the trails again")
        return watch.record(), watch.tensors


class Reached(Exception):
    """The step has been taken; nothing after it is of interest."""


class Watch(Unrecorded):
    """Stands where a training has its logs: told of every step, it watches one of them."""

    def __init__(self, stage: ReplayStage, net: nn.Module, optimizer: SGD, start: int, wanted: Wanted) -> None:
        self._stage = stage
        self._net = net
        self._optimizer = optimizer
        self._start = start
        self._wanted = wanted
        self._observer: StepObserver | None = None
        self._seen: dict[str, Any] = {}
        self.tensors: dict[str, np.ndarray] = {}
        self.over = False

    def begin(self) -> None:
        """The state before the first step that is taken."""
        if self._stage._step == 0:
            self._enter()
            self._seen.update(operations=(), leaving=self._fingerprints(), loss_bits="0" * 16)
            self.over = True
        elif self._start == self._stage._step - 1:
            self._arm()

    def step(self, step: int, loss: Tensor) -> None:
        """After every step, as ``Recording.step``. Raises Reached after the one that was watched."""
        if step == self._stage._step - 1:
            self._arm()
        if step == self._stage._step:
            self._finish(loss)
            raise Reached

    def close(self) -> None:
        """Stop watching, whatever happened."""
        if self._observer is not None:
            self._observer.close()

    def record(self) -> StepRecord:
        """What was seen."""
        return StepRecord(
            step=self._stage._step,
            started_from=self._start,
            device=str(self._stage._device),
            torch=torch.__version__,
            threads=torch.get_num_threads(),
            batch=self._stage._batches.bits(),
            **self._seen,
        )

    def _arm(self) -> None:
        self._keep_checkpoint()
        self._enter()
        self._stage._batches.watched = True
        self._observer = StepObserver(self._net, self._optimizer, self._wanted.operation)
        self._observer.open()

    def _enter(self) -> None:
        """What the step starts from: state and momentum."""
        state = state_tensors(self._net)
        momentum = dict(self._optimizer.momentum_buffers)
        self._seen.update(state=bits_of(state), momentum=bits_of(momentum))
        if self._wanted.part == STATE:
            self.tensors["output 0"] = as_array({**momentum, **state}[self._wanted.name])

    def _finish(self, loss: Tensor) -> None:
        assert self._observer is not None
        self._observer.close()
        operations = self._observer.operations()
        bits = f"{float_bits(float(loss)):016x}"
        self._seen.update(operations=operations, leaving=self._fingerprints(), loss_bits=bits)
        if self._wanted.part == BATCH and self._wanted.name:
            self.tensors["output 0"] = as_array(self._stage._batches.tensors[self._wanted.name])
        elif self._observer.captured is not None:
            captured = self._observer.captured
            for word, kept in (("input", captured.inputs), ("output", captured.outputs)):
                self.tensors.update({f"{word} {index}": as_array(tensor) for index, tensor in enumerate(kept)})
        self.over = True

    def _fingerprints(self) -> tuple[str, ...]:
        return tuple(each.bits for each in bits_of(state_tensors(self._net)).values())

    def _keep_checkpoint(self) -> None:
        """The state before the step, so that it can be taken again without the steps before it."""
        epoch, batch = divmod(self._stage._step - 1, len(self._stage._batches))
        place = Place(step=self._stage._step - 1, epoch=epoch, batch=batch)
        path = self._stage.own_checkpoint
        if not path.exists():
            save_checkpoint(path, place, self._stage._experiment, self._net, self._optimizer)


class _WatchedBatches:
    """The training batches; keeps the one that is watched."""

    def __init__(self, batches: BatchSource) -> None:
        self._batches = batches
        self.device, self.count, self.images_in = batches.device, batches.count, batches.images_in
        self.in_order = batches.in_order
        self.watched = False
        self.tensors: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The epoch's batches."""
        for images, labels in self._batches.epoch(epoch, start):
            if self.watched:
                self.tensors = {"images": images, "labels": labels}
            yield images, labels

    def bits(self) -> dict[str, TensorBits]:
        """The fingerprints of the batch that was watched."""
        return bits_of(self.tensors)


class _NoImages:
    """A test split without images: between two epochs nothing is evaluated."""

    count = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __len__(self) -> int:
        return 0

    def images_in(self, batch: int) -> int:
        """Nothing."""
        return 0

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Nothing."""
        return iter(())

    def in_order(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Nothing."""
        return iter(())
