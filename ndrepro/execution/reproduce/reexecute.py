"""Runs a recorded run again from its manifest: the whole of it, or epochs drawn by a challenge.

Everything is taken from what was signed (experiment, environment, code, the checkpoint's digest); what could not be
had is listed before anything starts. The new run has a manifest of its own that points to the first. Judging the two
is ``ndrepro.analysis.results.reproduction_verdict``'s part; here nothing is compared.

A spot check draws epochs by sha256 of the reviewer's challenge and the manifest's digest, so that the author cannot
know them when signing, and trains each of them again from the nearest signed checkpoint before it. The start of a
run needs no checkpoint: its weights are drawn from the seed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from ndrepro.execution.containers import engines
from ndrepro.execution.containers.engines import ContainerChoice
from ndrepro.execution.reproduce.checkpoint_start import nearest_start
from ndrepro.execution.reproduce.recorded_code import environment_differences, limit_differences, recorded_code
from ndrepro.execution.runs import data_check
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.run import Finished, RunOptions, Segment, run
from ndrepro.protocol.errors import NdreproError, UsageError
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, read_json
from ndrepro.protocol.training_record import REPRODUCED_RUN, TrainingRecord
from provenance.attestation.manifest import Manifest, Resource
from provenance.formats.digest import file_digest
from provenance.formats.trail import Trail


@dataclass(frozen=True)
class Original:
    """The run that is run again: its folder, and its manifest, verified by the caller."""

    folder: RunFolder
    manifest: Manifest

    @property
    def request(self) -> Request:
        """What was asked of it."""
        return Request.from_json(read_json(self.folder.request))

    def as_resource(self) -> Resource:
        """What the new manifest says of it."""
        digest = {"sha256": file_digest(self.folder.manifest).sha256}
        return Resource(REPRODUCED_RUN, digest=digest, annotations={"run": self.manifest.invocation_id})


@dataclass(frozen=True)
class ReexecutionPlan:
    """What a re-execution will do: the pieces to train (None: the whole run), and what differs from the record."""

    pieces: tuple[Segment, ...] | None
    epochs: tuple[int, ...]
    differences: tuple[str, ...]

    @property
    def trained_epochs(self) -> int | None:
        """Epochs that will be trained; None for the whole run."""
        return None if self.pieces is None else sum(piece.epochs for piece in self.pieces)


def plan(original: Original, options: RunOptions, spot: int | None, challenge: str) -> ReexecutionPlan:
    """What to do. Raises UsageError where the run has no end to reproduce, CheckpointError where a start is missing."""
    if original.manifest.outcome != "completed":
        raise UsageError(f"{original.folder.root}: it {original.manifest.outcome}; only a completed run is reproduced")
    request = _request(original, options)
    differences = (
        *_data_differences(original, options),
        *container_differences(original.request, request),
        *environment_differences(original.manifest, request),
        *limit_differences(original.manifest, request),
    )
    with recorded_code(original.manifest, original.folder.root) as rebuilt:
        differences = (*rebuilt.differences, *differences)
    if spot is None:
        return ReexecutionPlan(None, (), differences)
    epochs = drawn_epochs(challenge, original, spot)
    return ReexecutionPlan(tuple(_segment(original, epoch) for epoch in epochs), epochs, differences)


def execute(
    original: Original, chosen: ReexecutionPlan, options: RunOptions, observer: Observer
) -> tuple[Finished, ...]:
    """Train what was planned; one Finished for the whole run, or one for each piece."""
    request = _request(original, options)
    with recorded_code(original.manifest, original.folder.root) as rebuilt:
        here = replace(
            options,
            code=rebuilt.code,
            environment=request.environment or None,
            container=None if request.container is None else ContainerChoice.recorded(request.container),
            data=_data(original, options),
        )
        pieces: tuple[Segment | None, ...] = (None,) if chosen.pieces is None else chosen.pieces
        origin = original.as_resource()
        recorded = TrainingRecord.of(original.manifest).experiment_document
        return tuple(
            run(request.experiment, here, observer, origin=origin, segment=piece, recorded=recorded) for piece in pieces
        )


def drawn_epochs(challenge: str, original: Original, count: int) -> tuple[int, ...]:
    """``count`` different epochs (from 1), ascending, that the challenge and the signed manifest decide."""
    total = original.request.experiment.epochs
    if not 1 <= count <= total:
        raise UsageError(f"--spot {count}: the run has {total} epochs", f"choose 1 to {total}")
    manifest = file_digest(original.folder.manifest).sha256
    order = sorted(
        range(1, total + 1), key=lambda epoch: hashlib.sha256(f"{challenge}/{manifest}/{epoch}".encode()).digest()
    )
    return tuple(sorted(order[:count]))


def _segment(original: Original, epoch: int) -> Segment:
    """The piece that ends with ``epoch`` and begins at the nearest checkpoint before it, or at the run's start."""
    per_epoch = _steps_per_epoch(original)
    start = nearest_start(original.folder, original.manifest, (epoch - 1) * per_epoch, multiple_of=per_epoch)
    return Segment(start.step, epoch - start.step // per_epoch, start.checkpoint)


def container_differences(then: Request, now: Request) -> tuple[str, ...]:
    """In words, where a run is run again in another container than the recorded one, or in none."""
    before, after = then.container, now.container
    if before == after or (before and after and before.digests & after.digests and before.engine == after.engine):
        return ()
    words = [f"{each.engine}, {each.image} ({each.digest})" if each else "none" for each in (before, after)]
    return (f"container: {words[0]} then, {words[1]} now",)


def _steps_per_epoch(original: Original) -> int:
    steps = len(Trail(original.folder.trail)) - 1
    epochs = original.request.experiment.epochs
    if epochs < 1 or steps % epochs:
        raise NdreproError(f"{original.folder.trail}: {steps} steps are not {epochs} whole epochs")
    return steps // epochs


def _request(original: Original, options: RunOptions) -> Request:
    """The recorded request, in the environment or the container that the reviewer asks for instead, if any.

    A run that was made in a container is run again in that very image: EngineError where it is not there.
    """
    request = original.request
    if request.segment_epochs is not None:
        raise UsageError(f"{original.folder.root}: itself a piece of another run", "reproduce that run")
    if options.environment is not None:
        return replace(request, environment=options.environment, container=None)
    wanted = options.container
    if wanted is None and request.container is not None:
        wanted = ContainerChoice.recorded(request.container)
    if wanted is None:
        return request
    return replace(request, environment="", container=engines.find(wanted, request.experiment.device))


def _data_differences(original: Original, options: RunOptions) -> tuple[str, ...]:
    """In words, where the data are looked for if not where the author had them; the bundled digits are everywhere."""
    request = original.request
    if options.data is not None or request.experiment.dataset == "digits" or Path(request.data).exists():
        return ()
    here = data_check.locate(request.experiment, None)
    return (f"data: read from {request.data} then, which is not here; looked for in {here} now (--data names them)",)


def _data(original: Original, options: RunOptions) -> Path | None:
    """The reviewer's data, else where the author had them if that is here, else where they are looked for."""
    then = Path(original.request.data)
    return options.data or (then if then.exists() else None)
