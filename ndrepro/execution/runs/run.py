"""One run, end to end: folder and ledger entry, source, child, manifest. Resuming is the same from the second step.

    request.json, ledger "begun" → source captured → child trains → every file hashed → manifest signed → "ended"

Whatever happens to the child, the run ends in a signed manifest that says so; if this process dies too, the ledger
keeps an entry without an end, and ``resume`` goes on from the last checkpoint.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ndrepro.execution.containers import engines
from ndrepro.execution.containers.engines import ContainerChoice
from ndrepro.execution.environments.gpu_fit import expect_gpu
from ndrepro.execution.resumption.checkpoint_record import CheckpointRecorder
from ndrepro.execution.resumption.resume_start import choose_start
from ndrepro.execution.runs import data_check, run_account, slurm_allocation
from ndrepro.execution.runs.child_process import child_python, keep_bytecode, run_child, witness_of
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.progress import Watcher
from ndrepro.execution.runs.run_checks import CHECKS
from ndrepro.execution.runs.run_lookup import read_recorded
from ndrepro.execution.runs.signals import stops_taken
from ndrepro.execution.sandbox.sandbox import Sandbox
from ndrepro.protocol import extras
from ndrepro.protocol.errors import PeerLost, TrainingFailed, UsageError, from_record
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.image_reference import MAIN, PinnedImage, is_image
from ndrepro.protocol.layout import SEGMENTS, RunFolder, RunsFolder
from ndrepro.protocol.messages import EXIT_COMPLETED, EXIT_INTERRUPTED, Request, Result, Scores, read_json, write_json
from ndrepro.protocol.project_folders import CODE
from provenance.attestation.key_home import KeyRing
from provenance.attestation.manifest import Resource
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify
from provenance.errors import ProvenanceError, StorageError
from provenance.formats.metrics_log import ScalarLog, read_scalars

_ORIGIN = ("name", "digest", "annotations")


@dataclass(frozen=True)
class RunOptions:
    """Where things are: the folder of runs, the key home, the data (``None``: look), a cell of the version matrix,
    or a container to train in.

    ``code`` holds the packages that the training process imports: this project's own, or another state of them.
    ``sandbox`` confines it; a container needs none.
    """

    runs: RunsFolder
    home: Path
    data: Path | None = None
    environment: str | None = None
    code: Path = CODE
    container: ContainerChoice | None = None
    sandbox: Sandbox | None = None

    def inside(self, environment: str) -> RunOptions:
        """The same in an environment of a study: the main one, a cell, or an image."""
        if is_image(environment):
            wanted = ContainerChoice.pinned(PinnedImage.from_text(environment))
            return replace(self, environment=None, container=wanted)
        return replace(self, environment=None if environment == MAIN else environment, container=None)


@dataclass(frozen=True)
class Finished:
    """How a run ended: outcome, the last whole epoch's scores, who signed, the manifest, and what went wrong."""

    folder: RunFolder
    outcome: str
    scores: Scores | None
    signer: str
    manifest: Path | None
    error: ProvenanceError | None


@dataclass(frozen=True)
class Segment:
    """A piece of a run: ``epochs`` epochs from the state in ``checkpoint`` after ``step`` steps (None: the start).

    With 0 epochs, ``checkpoint`` holds the weights after ``step`` steps, which are evaluated.
    """

    step: int
    epochs: int
    checkpoint: Path | None


def run(
    experiment: Experiment,
    options: RunOptions,
    observer: Observer,
    *,
    origin: Resource | None = None,
    segment: Segment | None = None,
    recorded: Mapping[str, Any] | None = None,
) -> Finished:
    """Train an experiment from the start, or a piece of it, in a folder of its own.

    ``origin`` is the run that this one repeats, and goes into the manifest; ``recorded`` is the experiment as it was
    written then, since that run's own code may know no settings that came later. Raises UsageError, DataError,
    EngineError, MissingExtra, DeviceError or StorageError before anything is started; after that every ending is in
    Finished.
    """
    if options.container is not None and options.environment is not None:
        raise UsageError("a cell of the version matrix in a container", "the image has one environment: leave one out")
    if options.container is not None and experiment.processes > 1:
        raise UsageError(
            f"processes={experiment.processes} in a container: one process is started there", "leave one of them out"
        )
    _check_nodes(experiment)
    if options.container is None:
        _check_trainer(experiment, options.environment or "")
    data = data_check.locate(experiment, options.data)
    container = None if options.container is None else engines.find(options.container, experiment.device)
    data_check.check(experiment, data, options.runs, observer)
    request = Request(experiment, str(data), options.environment or "", container=container)
    if segment is not None:
        request = replace(request, resume_step=segment.step, segment_epochs=segment.epochs)
    folder = _make_folder(options.runs, experiment.name if segment is None else experiment.name + SEGMENTS)
    if segment is not None and segment.checkpoint is not None:
        if segment.epochs:
            folder.checkpoints.mkdir()
        into = folder.checkpoint(segment.step) if segment.epochs else folder.evaluated_weights
        shutil.copyfile(segment.checkpoint, into)
    if origin is not None:
        # kept for later attempts: a manifest may never come of this one
        write_json(folder.origin, {key: getattr(origin, key) for key in _ORIGIN})
    return _attempt(folder, request, options, observer, recorded)


def resume(folder: RunFolder, options: RunOptions, observer: Observer) -> Finished:
    """Resume a run that was interrupted, killed or failed, from its last checkpoint that verifies, to the same bits.

    Which checkpoint that is, and which are refused, is decided by ``ndrepro.execution.resumption``.

    One that was trained to its end, but not signed as complete, is resumed too, and has little left to do.

    It is told in the ledger beside the run, where its beginning is, whatever folder of runs the options name.

    Raises UsageError for a run that is complete, DataError where its data cannot be read, BusyError for one that
    still runs, CheckpointError, TrustError or EnvelopeError where the earlier attempt does not verify.
    """
    request = Request.from_json(read_json(folder.request))
    if _is_complete(folder):
        raise _complete(folder, options)
    if request.segment_epochs is not None:
        raise UsageError(f"{folder.root}: a piece of a run, which is not resumed", "check the run again")
    if options.environment is not None and options.environment != request.environment:
        raise UsageError(
            f"--env {options.environment}: the run began in {request.environment or 'the main environment'}",
            "a run is resumed where it began; leave --env out",
        )
    _check_nodes(request.experiment)
    beside = folder.root.absolute().parents[1]
    if options.runs.root.absolute() != beside:
        options = replace(options, runs=RunsFolder(beside))
    if request.container is None:
        _check_trainer(request.experiment, request.environment)
    data = data_check.locate(request.experiment, options.data) if options.data else Path(request.data)
    data_check.check(request.experiment, data, options.runs, observer)
    if request.container is not None:
        here = engines.find(ContainerChoice.recorded(request.container), request.experiment.device)
        request = replace(request, container=here)
    keys = TrustPolicy.load(options.home).keys()
    start = choose_start(folder, options.runs.checkpoint_record(folder), keys)
    observer.resuming(start.step, start.refused)
    return _attempt(folder, replace(request, data=str(data), resume_step=start.step), options, observer)


def _complete(folder: RunFolder, options: RunOptions) -> UsageError:
    """The error for a run that is complete, which also says where it does not verify."""
    found = verify(folder.root, trust=TrustPolicy.load(options.home), extra_checks=CHECKS).failure
    if found is None:
        return UsageError(f"{folder.root}: this run is complete", "start a new one with `ndrepro run`")
    return UsageError(
        f"{folder.root}: this run is complete, but does not verify: {found.name}: {found.message}",
        f"{found.cure or 'get the original files again'}; or start a new run with `ndrepro run`",
    )


def _is_complete(folder: RunFolder) -> bool:
    """Whether a run is signed as complete; where its manifest cannot be read, whether its child said so."""
    if not folder.manifest.exists():
        return False
    try:
        return read_recorded(folder).manifest.outcome == "completed"
    except ProvenanceError:
        return folder.result.exists() and Result.from_json(read_json(folder.result)).outcome == "completed"


def _check_trainer(experiment: Experiment, environment: str) -> None:
    """Raises MissingExtra or DeviceError where the training process would find no torch, or torch no GPU it needs."""
    if not environment:
        extras.require("torch")
    if experiment.device == "cuda":
        expect_gpu(lambda: child_python(Request(experiment, "", environment)))


def _check_nodes(experiment: Experiment) -> None:
    """Raises UsageError or EngineError where the processes cannot be shared by the nodes of Slurm's allocation."""
    nodes = slurm_allocation.find(os.environ) if experiment.processes > 1 else None
    if nodes is not None:
        nodes.share(experiment.processes)


def _make_folder(runs: RunsFolder, name: str) -> RunFolder:
    stamp = _now().strftime("%Y%m%dT%H%M%SZ")
    folder = runs.run(name, f"{stamp}-{secrets.token_hex(3)}")
    try:
        folder.root.mkdir(parents=True)
    except OSError as error:
        raise StorageError(
            f"{folder.root}: cannot be made ({error.strerror})", "name a folder that can be written with --runs DIR"
        ) from None
    return folder


def _attempt(
    folder: RunFolder,
    request: Request,
    options: RunOptions,
    observer: Observer,
    recorded: Mapping[str, Any] | None = None,
) -> Finished:
    recorder = run_account.open_recorder(folder, request, options.runs, options.home)
    watcher = Watcher(folder, request, observer)
    checkpoints = CheckpointRecorder(folder, options.runs.checkpoint_record(folder), KeyRing(options.home))
    code = run_account.code_copy(folder, options.code)
    started = _now()
    captured, exit_code, error = run_account.NO_SOURCE, None, None
    witnessed: Mapping[str, Any] | None = None
    try:
        for result in folder.results(request.experiment.processes):
            result.unlink(missing_ok=True)
        _cut_back(folder, request.resume_step)
        asked = request.to_json()
        write_json(folder.request, asked if recorded is None else {**asked, "experiment": recorded})
        checkpoints.look()
        observer.began(folder, request)
        with code:
            captured = run_account.capture_source(folder, options.runs, options.code, code, Path(request.data))
            witness = witness_of(request, folder, code.place)

            def look(phase: str) -> None:
                checkpoints.look()
                watcher.look(phase)
                if witness is not None:
                    witness.look()

            exit_code = run_child(request, folder, code.place, recorder.lock_fd, look, options.sandbox)
            witnessed = None if witness is None else witness.end()
        outcome, error = _ending(folder, exit_code, request.experiment.processes)
    except (ProvenanceError, OSError) as failure:
        # nothing was trained, or nobody saw how it ended
        outcome, error = "failed", _as_storage_error(failure)
    except KeyboardInterrupt:
        outcome = "interrupted"  # before the child was there to be asked to stop
    # what was trained to its end must not stay unsigned
    with stops_taken(signal.SIG_IGN):
        checkpoints.look()
        watcher.look("signing")
        try:
            run_account.redact_files(folder, request.experiment.processes)
        except ProvenanceError as failure:
            outcome, error = "failed", failure
        account = run_account.Account(folder, request, captured, _origin_of(folder), witnessed)
        manifest = recorder.close(
            outcome=outcome,
            exit_code=exit_code,
            started=started,
            finished=_now(),
            internal_parameters=account.internal_parameters(),
            dependencies=account.dependencies(),
            byproducts=account.byproducts(watcher.scores, error),
            machine=account.machine(),
        )
        checkpoints.remove()
        keep_bytecode(request, code.modules)
    scores = watcher.scores[-1] if watcher.scores else None
    return Finished(folder, outcome, scores, KeyRing(options.home).keyid, manifest, error)


def _cut_back(folder: RunFolder, step: int) -> None:
    """Keep the epochs up to ``step`` alone: what an attempt told after its last checkpoint is told again.

    The child would cut them too; here nobody reads along yet. Later checkpoints were refused and are written again.
    """
    for later in folder.checkpoint_steps():
        if later > step:
            folder.checkpoint(later).unlink()
    if not step:
        for log in (folder.metrics, folder.timing, folder.states):
            log.unlink(missing_ok=True)
    elif folder.metrics.exists():
        rows = read_scalars(folder.metrics, tolerate_torn=True)
        kept = sum(int(row["step"] or 0) <= step for row in rows)
        for log in (folder.metrics, folder.timing):
            ScalarLog(log, keep_rows=kept).close()
        if folder.states.exists():
            ScalarLog(folder.states, keep_rows=kept + 1).close()


def _origin_of(folder: RunFolder) -> Resource | None:
    """The run that this one repeats, as it was said when the first attempt began."""
    return Resource(**read_json(folder.origin)) if folder.origin.exists() else None


def _ending(folder: RunFolder, exit_code: int, processes: int = 1) -> tuple[str, ProvenanceError | None]:
    """The outcome, from the child's exit code and its own account; the two must agree to be believed."""
    if exit_code < 0:
        name = signal.Signals(-exit_code).name
        how = "goes on from the last checkpoint" if folder.checkpoint_steps() else "starts over: it left no checkpoint"
        cure = f"`ndrepro run --resume {folder.root}` {how}"
        which = "the training process" if processes == 1 else f"one of the {processes} training processes"
        return "killed", TrainingFailed(f"{which} was killed by {name}", cure)
    failed = _first_failure(folder, processes)
    if failed is not None:
        return "failed", failed
    if not folder.result.exists():
        last = _last_line(folder.log)
        return "failed", TrainingFailed(
            f"the training process ended with exit code {exit_code}: {last}", f"see {folder.log}"
        )
    result = Result.from_json(read_json(folder.result))
    expected = {EXIT_COMPLETED: "completed", EXIT_INTERRUPTED: "interrupted"}.get(exit_code)
    if result.outcome != expected:
        said = f"the training process says {result.outcome} and ended with exit code {exit_code}"
        return "failed", TrainingFailed(said, f"see {folder.log}")
    return result.outcome, None


def _first_failure(folder: RunFolder, processes: int) -> ProvenanceError | None:
    """The error that a training process told; of several the one that is not about another one's end."""
    found = []
    for rank, path in enumerate(folder.results(processes)):
        error = Result.from_json(read_json(path)).error if path.exists() else None
        if error is not None:
            told = from_record(error)
            where = f"process {rank} of {processes}: " if processes > 1 else ""
            found.append(type(told)(f"{where}{told.message}", told.cure))
    return next((error for error in found if not isinstance(error, PeerLost)), found[0] if found else None)


def _last_line(log: Path) -> str:
    """The last line that the child printed; a full disk leaves none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        lines = []
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "it printed nothing")


def _as_storage_error(failure: ProvenanceError | OSError) -> ProvenanceError:
    if isinstance(failure, ProvenanceError):
        return failure
    cure = "free some space" if failure.errno == errno.ENOSPC else ""
    return StorageError(f"{failure.filename or 'the run folder'}: {failure.strerror}", cure)


def _now() -> datetime:
    return datetime.now(UTC)
