"""One run, end to end: folder and ledger entry, source, child, manifest. Resuming is the same from the second step.

    request.json, ledger "begun" → source captured → child trains → every file hashed → manifest signed → "ended"

Whatever happens to the child, the run ends in a signed manifest that says so (``attempt``); if this process dies too,
the ledger keeps an entry without an end, and ``resume`` resumes from the last checkpoint. The request is in the folder
before the ledger knows of the run, so that every run in the ledger can be resumed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ndrepro.execution.containers import engines
from ndrepro.execution.containers.engines import ContainerChoice
from ndrepro.execution.containers.image_attestation import attested
from ndrepro.execution.environments.gpu_fit import expect_gpu
from ndrepro.execution.own_sources.network_files import with_source
from ndrepro.execution.resumption.resume_start import began_for_itself, choose_start
from ndrepro.execution.runs import data_check, slurm_allocation
from ndrepro.execution.runs.attempt import RunAttempt
from ndrepro.execution.runs.child_process import child_python
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.run_checks import CHECKS
from ndrepro.execution.runs.run_lookup import read_recorded
from ndrepro.execution.sandbox.recorded_data import recorded_data
from ndrepro.execution.sandbox.sandbox import Sandbox
from ndrepro.protocol import extras
from ndrepro.protocol.errors import DataError, UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.experiment.own import is_own_network
from ndrepro.protocol.image_reference import MAIN, PinnedImage, is_image
from ndrepro.protocol.layout import SEGMENTS, RunFolder, RunsFolder
from ndrepro.protocol.messages import Request, Result, Scores, read_json, write_json
from ndrepro.protocol.project_folders import CODE
from provenance.attestation.key_home import KeyRing
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import Resource
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify
from provenance.errors import ProvenanceError
from provenance.formats.folder_tree import files_and_links, remove_tree, walk
from provenance.git.tracked_paths import expect_no_tracked_link
from provenance.recording.stop_requests import StopRequests

_ORIGIN = ("name", "digest", "annotations")


@dataclass(frozen=True)
class RunOptions:
    """Where things are: the folder of runs, the key home, the data (``None``: look), a cell of the version matrix,
    or a container to train in.

    ``code`` holds the packages that the training process imports: this project's own, or another state of them.
    ``sandbox`` confines it, but for one in a container, and the process that checks the data before. ``check_data`` is
    false where nothing would confine that check; ``download``, where the data's path is somebody else's. ``network`` is
    the folder of files that a run of a network of the user's own keeps (``None``: look in the current folder).
    """

    runs: RunsFolder
    home: Path
    data: Path | None = None
    environment: str | None = None
    code: Path = CODE
    container: ContainerChoice | None = None
    sandbox: Sandbox | None = None
    check_data: bool = True
    download: bool = True
    network: Path | None = None

    def inside(self, environment: str) -> RunOptions:
        """The same in an environment of a study: the main one, a cell, or an image."""
        if is_image(environment):
            wanted = ContainerChoice.pinned(PinnedImage.from_text(environment))
            return replace(self, environment=None, container=wanted)
        return replace(self, environment=None if environment == MAIN else environment, container=None)


@dataclass(frozen=True)
class Finished:
    """How a run ended: outcome, the last whole epoch's scores, who signed, the manifest, and what went wrong; and why
    this checkout's reader did not look at its data before, "" where it did; and where the ``data`` are, whose path may
    be redacted in the run's files.
    """

    folder: RunFolder
    outcome: str
    scores: Scores | None
    signer: str
    manifest: Path | None
    error: ProvenanceError | None
    data_unread: str = ""
    data: Path | None = None


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
    expect_no_tracked_link(options.runs.root, "name another folder of runs: --runs DIR")
    options.runs.expect_no_links(experiment.name)
    _check_nodes(experiment)
    experiment, network = with_source(experiment, options.network)
    if options.container is None:
        _check_trainer(experiment, options.environment or "")
    data = data_check.locate(experiment, options.data)
    data_check.expect_reader(data, options.environment or ("the image" if options.container else ""))
    container = None
    if options.container is not None:
        container = attested(engines.find(options.container, experiment.device), options.home)
    unread = "nothing on this machine would confine the process that reads them"
    if options.check_data:
        checked = data_check.check(experiment, data, options.runs, observer, options.sandbox, download=options.download)
        experiment, unread = checked.experiment, checked.unread
    if not experiment.is_described:
        raise DataError(
            f"{data}: {unread or 'its images could not be read'}", "see whether `ndrepro doctor` finds what is missing"
        )
    request = Request(experiment, str(data), options.environment or "", container=container)
    if segment is not None:
        request = replace(request, resume_step=segment.step, segment_epochs=segment.epochs)
    # no stop interrupts what lies between the folder and the end of the attempt that the ledger knows of
    with StopRequests() as stops:
        name = experiment.name if segment is None else experiment.name + SEGMENTS
        folder = options.runs.make_run(name, datetime.now(UTC))
        document = _document(request, recorded)
        try:
            _prepare_folder(folder, document, origin, segment)
            if network is not None:
                network.write(folder.network)
            attempt = RunAttempt(folder, request, document, options.runs, options.home, observer, stops)
        except BaseException:
            # nothing was started: a folder without an entry in the ledger would look like a run
            remove_tree(folder.root, ignore_errors=True)
            raise
        return replace(_end(attempt, folder, options), data_unread=unread, data=data)


def resume(folder: RunFolder, options: RunOptions, observer: Observer) -> Finished:
    """Resume a run that was interrupted, killed or failed, from its last checkpoint that verifies, to the same bits.

    Which checkpoint that is, and which are refused, is decided by ``ndrepro.execution.resumption``.

    Its data are read where it recorded them; of a run that somebody else started only where
    ``ndrepro.execution.sandbox.recorded_data`` allows it, since the path is then a stranger's.

    One that was trained to its end, but not signed as complete, is resumed too, and has little left to do.

    It is recorded in the ledger beside the run, where its beginning is, whatever folder of runs the options name.

    Raises UsageError for a run that is complete or has links in its folder, NotOwnRun for one that another key began,
    DataError where its data cannot be read, SandboxError for a path of data that is refused, BusyError for one that
    still runs, CheckpointError, TrustError or EnvelopeError where the earlier attempt does not verify.
    """
    if folder.manifest.exists() and not folder.request.exists():
        raise UsageError(f"{folder.root}: a recorded program, which is not resumed", "record its command again")
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
    _expect_no_links(folder, options.runs)
    if is_own_network(request.experiment.arch):
        if not _is_own(folder, options):
            raise UsageError(
                f"{folder.root}: its network is somebody else's code, and would run with all your rights",
                "train it yourself from its source with `ndrepro run`; a complete run is repeated in a sandbox with "
                "`ndrepro reproduce`",
            )
        with_source(request.experiment, folder.network)
    if request.container is None:
        _check_trainer(request.experiment, request.environment)
    elif not _is_own(folder, options):
        raise UsageError(
            f"{folder.root}: its image is somebody else's choice, and your key would sign all that it reports",
            "train it anew in an image of your own: ndrepro run EXPERIMENT --in ENGINE --image NAME; "
            "or repeat it again: ndrepro reproduce",
        )
    data = _data_of(folder, request, options)
    data_check.check(request.experiment, data, options.runs, observer)
    if request.container is not None:
        here = engines.find(ContainerChoice.recorded(request.container), request.experiment.device)
        request = replace(request, container=replace(here, attestation=request.container.attestation))
    start = choose_start(folder, Ledger(options.runs.ledger), TrustPolicy.load(options.home))
    observer.resuming(start.step, start.refused)
    request = replace(request, data=str(data), resume_step=start.step)
    with StopRequests() as stops:
        attempt = RunAttempt(folder, request, request.to_json(), options.runs, options.home, observer, stops)
        return replace(_end(attempt, folder, options), data=data)


def _expect_no_links(folder: RunFolder, runs: RunsFolder) -> None:
    """Raises UsageError where what is written to resume a run leads elsewhere: a recorder leaves no link."""
    expect_no_tracked_link(runs.root, "copy the runs to a folder of your own")
    runs.expect_no_links(folder.root.parent.name)
    links = (path for listing in walk(folder.root) for path in files_and_links(listing) if os.path.islink(path))
    if found := next(iter([str(folder.root)] if folder.root.is_symlink() else links), None):
        raise UsageError(f"{found}: a symbolic link, which no recorder leaves in a run", "train it anew: ndrepro run")


def _data_of(folder: RunFolder, request: Request, options: RunOptions) -> Path:
    """Where the data are for a run to be resumed."""
    if options.data:
        return data_check.locate(request.experiment, options.data)
    if _is_own(folder, options):
        return Path(request.data)
    private = (folder.root, options.runs.root, options.home)
    theirs = recorded_data(request.experiment, Path(request.data), private)
    return theirs or data_check.locate(request.experiment, None)


def _is_own(folder: RunFolder, options: RunOptions) -> bool:
    return began_for_itself(folder, Ledger(options.runs.ledger), TrustPolicy.load(options.home))


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


def _prepare_folder(
    folder: RunFolder, document: Mapping[str, Any], origin: Resource | None, segment: Segment | None
) -> None:
    """Write what a later attempt needs before the ledger knows of the run: this process may be killed at any moment."""
    write_json(folder.request, document)
    if segment is not None and segment.checkpoint is not None:
        if segment.epochs:
            folder.checkpoints.mkdir()
        into = folder.checkpoint(segment.step) if segment.epochs else folder.evaluated_weights
        shutil.copyfile(segment.checkpoint, into)
    if origin is not None:
        write_json(folder.origin, {key: getattr(origin, key) for key in _ORIGIN})


def _end(attempt: RunAttempt, folder: RunFolder, options: RunOptions) -> Finished:
    end = attempt.end(options.code, options.sandbox)
    return Finished(folder, end.outcome, end.scores, KeyRing(options.home).keyid, end.manifest, end.error)


def _document(request: Request, recorded: Mapping[str, Any] | None) -> dict[str, Any]:
    """The request as it is written: the experiment as the run's own code knows it, where that is older."""
    asked = request.to_json()
    return asked if recorded is None else {**asked, "experiment": recorded}
