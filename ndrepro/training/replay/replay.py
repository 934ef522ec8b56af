"""The second process of this package: ``python -m ndrepro.training.replay FOLDER`` replays one step of a run, watched.

The parent has made FOLDER with ``replay.json`` in it (``ndrepro.protocol.replay_messages``) and has set every variable
that must precede the interpreter, as for a training. The process

1. dies with its parent, sets the determinism level, reads the data and builds the network, all as a training does;
2. resumes from the checkpoint that it was given, or from the start, by the same loop as a training that is resumed;
3. takes the step before the one that is asked for and keeps a checkpoint of its own there;
4. watches the step that is asked for, operation by operation, and writes ``record.json``;
5. waits for ``wanted.json``; where that names something, it goes back to its own checkpoint, takes the step again and
   writes the tensors to ``tensors.npz``.

Exit code 0 if all went well, 1 with ``error.json`` if not. It writes nowhere but in FOLDER.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ndrepro.protocol.errors import NdreproError, UsageError, to_record
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import EXIT_COMPLETED, EXIT_FAILED, read_json, write_json
from ndrepro.protocol.replay_messages import BATCH, STATE, ReplayFolder, ReplayRequest, StepRecord, TensorBits, Wanted
from ndrepro.training.__main__ import die_with_parent

_POLL_SECONDS = 0.02
_NEVER = 10**9


def main(arguments: list[str]) -> int:
    """Replay what the folder named on the command line asks for; returns the exit code."""
    folder = ReplayFolder(Path(arguments[0]))
    die_with_parent()
    try:
        request = ReplayRequest.from_json(read_json(folder.request))
        _replay(request, folder)
    except (Exception, KeyboardInterrupt) as failure:
        traceback.print_exc()
        write_json(folder.error, to_record(failure))
        return EXIT_FAILED
    return EXIT_COMPLETED


def _replay(request: ReplayRequest, folder: ReplayFolder) -> None:
    # torch is loaded only here, after the parent's death would be noticed
    from ndrepro.training.compute import determinism

    with determinism.naming_operations(request.request.experiment.determinism):
        stage = ReplayStage(request, folder)
        record, _ = stage.take(request.checkpoint)
        write_json(folder.record, record.to_json())
        wanted = _await_wanted(folder)
        if wanted.part:
            _, tensors = stage.take(str(stage.own_checkpoint) if request.step else "", wanted)
            _write_tensors(folder.tensors, tensors)


def _await_wanted(folder: ReplayFolder) -> Wanted:
    """What the parent asks for next; it is never long, and when the parent dies so does this process."""
    while not folder.wanted.exists():
        time.sleep(_POLL_SECONDS)
    return Wanted.from_json(read_json(folder.wanted))


def _write_tensors(path: Path, tensors: dict[str, Any]) -> None:
    import numpy as np

    np.savez(path, **tensors)


class ReplayStage:
    """Everything that a replay needs and that is the same at each: experiment, device, data."""

    def __init__(self, request: ReplayRequest, folder: ReplayFolder) -> None:
        from ndrepro.training.compute import determinism
        from ndrepro.training.train_run import choose_device, make_batches, read_data

        self._experiment = request.request.experiment
        if self._experiment.processes > 1 or self._experiment.compile:
            raise UsageError(
                "a run by several processes, or compiled, is not watched operation by operation",
                "compare its trail and its results",
            )
        self._step = request.step
        self._scratch = RunFolder(folder.root)
        determinism.apply(self._experiment)
        self._device = choose_device(determinism.device_asked(self._experiment))
        data = read_data(request.request, self._scratch)
        batches, _ = make_batches(data, self._experiment, self._device)
        self._batches = _WatchedBatches(batches)

    @property
    def own_checkpoint(self) -> Path:
        """The state that the step is taken from."""
        return self._scratch.checkpoint(self._step - 1)

    def take(self, checkpoint: str, wanted: Wanted | None = None) -> tuple[StepRecord, dict[str, Any]]:
        """Go from ``checkpoint`` ("": the start) to the step, and take it; what was seen, and the tensors wanted."""
        from ndrepro.protocol.training_state import Place
        from ndrepro.training.checkpoint import load_checkpoint
        from ndrepro.training.optimizer import make_optimizer
        from ndrepro.training.train_run import build
        from ndrepro.training.trainer import Trainer

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
                trainer.run(place, watch, loop.epochs)  # type: ignore[arg-type]
            except Reached:
                pass
            finally:
                watch.close()
        if not watch.over:
            raise NdreproError(f"step {self._step}: the run ends before it", "compare the trails again")
        return watch.record(), watch.tensors


class Reached(Exception):
    """The step has been taken; nothing after it is of interest."""


class Watch:
    """Stands where a training has its logs: told of every step, it watches one of them."""

    def __init__(self, stage: ReplayStage, net: Any, optimizer: Any, start: int, wanted: Wanted) -> None:
        self._stage = stage
        self._net = net
        self._optimizer = optimizer
        self._start = start
        self._wanted = wanted
        self._observer: Any = None
        self._seen: dict[str, Any] = {}
        self.trail_seconds = 0.0
        self.tensors: dict[str, Any] = {}
        self.over = False

    def begin(self) -> None:
        """The state before the first step that is taken."""
        if self._stage._step == 0:
            self._enter()
            self._seen.update(operations=(), leaving=self._fingerprints(), loss_bits="0" * 16)
            self.over = True
        elif self._start == self._stage._step - 1:
            self._arm()

    def step(self, step: int, loss: Any) -> None:
        """After every step, as ``Recording.step``. Raises Reached after the one that was watched."""
        if step == self._stage._step - 1:
            self._arm()
        if step == self._stage._step:
            self._finish(loss)
            raise Reached

    def flush(self) -> None:
        """Nothing waits here."""

    def epoch(self, scores: object, timing: object) -> None:
        """An epoch's results are not asked for."""

    def close(self) -> None:
        """Stop watching, whatever happened."""
        if self._observer is not None:
            self._observer.close()

    def record(self) -> StepRecord:
        """What was seen."""
        import torch

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
        from ndrepro.training.replay.operation_recorder import StepObserver

        self._keep_checkpoint()
        self._enter()
        self._stage._batches.watched = True
        self._observer = StepObserver(self._net, self._optimizer, self._wanted.operation)
        self._observer.open()

    def _enter(self) -> None:
        """What the step starts from: state and momentum."""
        from ndrepro.training.checkpoint import state_tensors
        from ndrepro.training.replay.operation_recorder import as_array, bits_of

        state = state_tensors(self._net)
        momentum = dict(self._optimizer.momentum_buffers)
        self._seen.update(state=bits_of(state), momentum=bits_of(momentum))
        if self._wanted.part == STATE:
            self.tensors["output 0"] = as_array({**momentum, **state}[self._wanted.name])

    def _finish(self, loss: Any) -> None:
        from ndrepro.training.replay.operation_recorder import as_array
        from provenance.formats.trail import float_bits

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
        from ndrepro.training.checkpoint import state_tensors
        from ndrepro.training.replay.operation_recorder import bits_of

        return tuple(each.bits for each in bits_of(state_tensors(self._net)).values())

    def _keep_checkpoint(self) -> None:
        """The state before the step, so that it can be taken again without the steps before it."""
        from ndrepro.protocol.training_state import Place
        from ndrepro.training.checkpoint import save_checkpoint

        epoch, batch = divmod(self._stage._step - 1, len(self._stage._batches))
        place = Place(step=self._stage._step - 1, epoch=epoch, batch=batch)
        path = self._stage.own_checkpoint
        if not path.exists():
            save_checkpoint(path, place, self._stage._experiment, self._net, self._optimizer)


class _WatchedBatches:
    """The training batches; keeps the one that is watched."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches
        self.watched = False
        self.tensors: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._batches)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Any, Any]]:
        """The epoch's batches."""
        for images, labels in self._batches.epoch(epoch, start):
            if self.watched:
                self.tensors = {"images": images, "labels": labels}
            yield images, labels

    def bits(self) -> dict[str, TensorBits]:
        """The fingerprints of the batch that was watched."""
        from ndrepro.training.replay.operation_recorder import bits_of

        return bits_of(self.tensors)


class _NoImages:
    """A test split without images: between two epochs nothing is evaluated."""

    count = 1

    def __init__(self, device: Any) -> None:
        self.device = device

    def __len__(self) -> int:
        return 0

    def images_in(self, batch: int) -> int:
        """Nothing."""
        return 0

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Any, Any]]:
        """Nothing."""
        return iter(())

    def in_order(self) -> Iterator[tuple[Any, Any]]:
        """Nothing."""
        return iter(())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
