"""Runs a recorded run again from its manifest: the whole of it, or epochs drawn by a challenge.

Everything is taken from what was signed (experiment, environment, code, the checkpoint's digest); what is not
available is listed before anything starts. The new run has a manifest of its own that points to the first. Judging the
two is ``ndrepro.analysis.verdicts.reproduction_verdict``'s part; here nothing is compared.

A spot check draws epochs (``epoch_draw``) and trains each of them again from the nearest checkpoint before it whose
state has the digest that was signed. The start of a run needs no checkpoint: its weights are drawn from the seed; nor
does a run that recorded no state digests have any other start that is bound to anything.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ndrepro.execution.containers import engines
from ndrepro.execution.containers.engines import ContainerChoice
from ndrepro.execution.containers.image_archive import find_kept
from ndrepro.execution.reproduce.checkpoint_start import nearest_start
from ndrepro.execution.reproduce.code_execution import Execution, permitted, plan_execution, sandbox_of
from ndrepro.execution.reproduce.epoch_draw import Challenge
from ndrepro.execution.reproduce.recorded_code import Rebuilt, environment_differences, limit_differences
from ndrepro.execution.reproduce.signed_copy import SignedCopy
from ndrepro.execution.resumption.recorded_states import expect_state
from ndrepro.execution.runs import data_check, slurm_allocation
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.run import Finished, RunOptions, Segment, run
from ndrepro.execution.sandbox.recorded_data import linked_data, recorded_data
from ndrepro.execution.sandbox.sandbox import AUTO, choose
from ndrepro.protocol.errors import CheckpointError, NdreproError, SandboxError, UsageError
from ndrepro.protocol.image_reference import MAIN
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.messages import Request, read_json
from ndrepro.protocol.project_folders import CODE
from ndrepro.protocol.training_record import TrainingRecord
from ndrepro.protocol.training_state import read_states
from ndrepro.protocol.verdicts import CONTAINER, NO_SANDBOX
from provenance.attestation.dsse import read_envelope
from provenance.attestation.manifest import REPRODUCED_RUN, Manifest, Resource
from provenance.errors import ProvenanceError
from provenance.formats.digest import file_digest
from provenance.formats.trail import Trail

# what evaluates weights without training
_EVALUATION = Path("ndrepro/training/evaluation_run.py")


@dataclass(frozen=True)
class Original:
    """The run that is run again: its folder, and its manifest, verified by the caller.

    ``copied`` is where ``folder`` is a private copy of the author's; ``own``: this machine's own key began and signed
    it.
    """

    folder: RunFolder
    manifest: Manifest
    copied: SignedCopy | None = None
    own: bool = False

    @property
    def place(self) -> Path:
        """Where its author's folder is."""
        return self.folder.root if self.copied is None else self.copied.source.root

    def bring_checkpoints(self, first: int, last: int, multiple_of: int = 1) -> None:
        """Have the checkpoints in ``folder`` that a piece from ``first`` to ``last`` steps is trained from and compared
        with (``SignedCopy.bring_checkpoints``).
        """
        if self.copied is not None:
            self.copied.bring_checkpoints(first, last, multiple_of)

    def bring_checkpoints_of(self, again: RunFolder) -> None:
        """The same of those that a repetition kept too. What has changed meanwhile stays away."""
        for step in again.checkpoint_steps():
            with suppress(ProvenanceError):
                self.bring_checkpoints(-1, step)

    @property
    def payload(self) -> bytes:
        """The signed bytes of its manifest."""
        return read_envelope(self.folder.manifest.read_bytes())[1]

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
    """What a re-execution will do: the pieces to train (None: the whole run), what differs from the record, and how
    the recorded code is executed, and where it was rebuilt (``rebuilt``; None of a program, whose code is among its own
    claims).

    ``challenge`` drew the ``epochs`` of a spot check. ``elsewhere`` says where the reviewer's data take the place of a
    program's recorded paths.
    """

    pieces: tuple[Segment, ...] | None
    epochs: tuple[int, ...]
    differences: tuple[str, ...]
    execution: Execution
    rebuilt: Rebuilt | None = None
    challenge: Challenge | None = None
    elsewhere: tuple[str, ...] = ()

    @property
    def stands_in(self) -> bool:
        """Whether this checkout's code is executed in the place of recorded code that is not here."""
        return self.rebuilt is not None and self.rebuilt.code == CODE and not self.execution.code.own

    @property
    def trained_epochs(self) -> int | None:
        """Epochs that will be trained; None for the whole run."""
        return None if self.pieces is None else sum(piece.epochs for piece in self.pieces)


def plan(
    original: Original,
    options: RunOptions,
    rebuilt: Rebuilt,
    spot: int | None,
    challenge: str | None,
    beacon: str | None = None,
    sandbox: str = AUTO,
) -> ReexecutionPlan:
    """What to do: all of it, or ``spot`` epochs, drawn by the reviewer's word ``challenge`` and a public ``beacon``;
    and in which kind of sandbox. ``rebuilt`` is the recorded code, which has to stay until it has been executed.

    Raises UsageError where the run has no end to reproduce, CheckpointError where a start is missing, or is not the
    state that was signed, SandboxError where the sandbox asked for does not work, or the recorded data are refused.
    """
    if original.manifest.outcome != "completed":
        raise UsageError(f"{original.place}: it {original.manifest.outcome}; only a completed run is reproduced")
    request = _request(original, options)
    execution = plan_execution(
        original.manifest, original.folder.root, sandbox, container=request.container is not None
    )
    _expect_one_machine(request, execution)
    differences = (
        *rebuilt.differences,
        *_data_differences(original, options),
        *container_differences(original.request, request),
        *environment_differences(original.manifest, request),
        *limit_differences(original.manifest, request),
    )
    if spot is None:
        original.bring_checkpoints(0, len(Trail(original.folder.trail)) - 1)
        return ReexecutionPlan(None, (), differences, execution, rebuilt)
    drawn = Challenge.of(challenge, beacon, original.payload)
    epochs = drawn_epochs(drawn, original, spot)
    pieces = tuple(_segment(original, epoch) for epoch in epochs)
    return ReexecutionPlan(pieces, epochs, differences, execution, rebuilt, drawn)


def execute(
    original: Original, chosen: ReexecutionPlan, options: RunOptions, observer: Observer
) -> tuple[Finished, ...]:
    """Train what was planned; one Finished for the whole run, or one for each piece.

    Raises SandboxError where there is no sandbox and nobody allowed to do without one.
    """
    execution = permitted(chosen.execution, trust_code=False)
    request = _request(original, options)
    theirs = _recorded_data(original, options)
    reading = sandbox_of(_reading_execution(execution), options.runs, options.home)
    named = options.data or theirs
    unconfined = reading is None and execution.sandbox != NO_SANDBOX and named is not None
    here = replace(
        options,
        code=_code_for(chosen),
        environment=request.environment or None,
        container=None if request.container is None else ContainerChoice.recorded(request.container),
        data=named,
        check_data=not unconfined,
        download=theirs is None,
        network=original.folder.network,
        sandbox=reading,
    )
    pieces: tuple[Segment | None, ...] = (None,) if chosen.pieces is None else chosen.pieces
    origin = original.as_resource()
    recorded = TrainingRecord.of(original.manifest).experiment_document
    return tuple(
        run(request.experiment, here, observer, origin=origin, segment=piece, recorded=recorded) for piece in pieces
    )


def _reading_execution(execution: Execution) -> Execution:
    """The same with the sandbox in which data are checked before: of a run in a container any that this machine has."""
    return replace(execution, sandbox=choose(AUTO, container=False)[0]) if execution.sandbox == CONTAINER else execution


def _code_for(chosen: ReexecutionPlan) -> Path:
    """The recorded code; for an evaluation, which code of earlier releases has not, this checkout's."""
    code = CODE if chosen.rebuilt is None else chosen.rebuilt.code
    evaluates = any(piece.epochs == 0 for piece in chosen.pieces or ())
    return CODE if evaluates and not (code / _EVALUATION).exists() else code


def evaluation_of(original: Original, chosen: ReexecutionPlan) -> ReexecutionPlan:
    """Under the same conditions, no training: the signed final weights are evaluated on the test data."""
    last = _steps_per_epoch(original) * original.request.experiment.epochs
    return replace(chosen, pieces=(Segment(last, 0, original.folder.weights),))


def evaluation_outside(original: Original, chosen: ReexecutionPlan, *, trust_code: bool) -> ReexecutionPlan:
    """The same for the main environment of this machine, of which nothing is the author's but what is evaluated.

    To be executed with options that name it. Raises SandboxError where no sandbox confines the recorded code there.
    """
    execution = plan_execution(original.manifest, original.folder.root, AUTO)
    return replace(evaluation_of(original, chosen), execution=permitted(execution, trust_code=trust_code))


def drawn_epochs(challenge: Challenge, original: Original, count: int) -> tuple[int, ...]:
    """``count`` different epochs (from 1), ascending, that the challenge decides. Raises UsageError for too many."""
    total = original.request.experiment.epochs
    if not 1 <= count <= total:
        raise UsageError(f"--spot {count}: the run has {total} epochs", f"choose 1 to {total}")
    return challenge.draw(total, count)


def _segment(original: Original, epoch: int) -> Segment:
    """The piece that ends with ``epoch`` and begins at the nearest checkpoint before it, or at the run's start."""
    per_epoch = _steps_per_epoch(original)
    original.bring_checkpoints((epoch - 1) * per_epoch, epoch * per_epoch, per_epoch)
    states = {row.step: row for row in read_states(original.folder.states)}
    if not states:
        return Segment(0, epoch, None)
    start = nearest_start(original.folder, original.manifest, (epoch - 1) * per_epoch, multiple_of=per_epoch)
    if start.checkpoint is not None:
        if start.step not in states:
            raise CheckpointError(f"{start.checkpoint}: no state after step {start.step} was recorded")
        expect_state(start.checkpoint, states[start.step])
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

    A run that was made in a container is run again in that very image: EngineError where it is not there, nor among
    the images that are kept with the reviewer's runs, or with the run itself if it is the reviewer's own.
    """
    request = original.request
    if request.segment_epochs is not None:
        raise UsageError(f"{original.place}: itself a piece of another run", "reproduce that run")
    if options.environment is not None:
        environment = "" if options.environment == MAIN else options.environment
        return replace(request, environment=environment, container=None)
    wanted = options.container
    if wanted is None and request.container is not None:
        kept = [options.runs.images, *([RunsFolder(original.place.parents[1]).images] if original.own else [])]
        container = find_kept(ContainerChoice.recorded(request.container), request.experiment.device, kept)
        return replace(request, environment="", container=container)
    if wanted is None:
        return request
    return replace(request, environment="", container=engines.find(wanted, request.experiment.device))


def _data_differences(original: Original, options: RunOptions) -> tuple[str, ...]:
    """In words, where the data are looked for if not where the author had them, and where links lead out of them; the
    bundled digits are everywhere.
    """
    request = original.request
    if request.experiment.dataset == "digits":
        return ()
    named = options.data or _recorded_data(original, options)
    here = data_check.locate(request.experiment, named)
    linked = linked_data(here, _private(original, options), own=original.own)
    if named:
        return linked
    moved = f"data: read from {request.data} then, which is not here; looked for in {here} now (--data names them)"
    return (moved, *linked)


def _recorded_data(original: Original, options: RunOptions) -> Path | None:
    """Where the author had the data, if that is here and the reviewer names no other place.

    Raises SandboxError where it is refused.
    """
    if options.data is not None:
        return None
    private = _private(original, options)
    return recorded_data(original.request.experiment, Path(original.request.data), private, own=original.own)


def _private(original: Original, options: RunOptions) -> tuple[Path, ...]:
    """The folders of runs and keys."""
    return original.place, original.folder.root, options.runs.root, options.home


def _expect_one_machine(request: Request, execution: Execution) -> None:
    several = request.experiment.processes > 1 and slurm_allocation.find(os.environ) is not None
    if several and execution.sandbox != NO_SANDBOX:
        raise SandboxError(
            "processes on several nodes: a sandbox confines those of one machine",
            "reproduce it on one node, or read the code and repeat with --sandbox none --trust-code",
        )
