"""One run, end to end: folder and ledger entry, source, child, manifest. Resuming is the same from the second step.

    request.json, ledger "begun" → source captured → child trains → every file hashed → manifest signed → "ended"

Whatever happens to the child, the run ends in a signed manifest that says so; if this process dies too, the ledger
keeps an entry without an end, and ``resume`` goes on from the last checkpoint.
"""

from __future__ import annotations

import errno
import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from ndrepro.execution import datasets, record
from ndrepro.execution.child import run_child
from ndrepro.execution.observer import Observer
from ndrepro.execution.watch import Watcher
from ndrepro.spec.errors import CheckpointError, TrainingFailed, UsageError, from_record, to_record
from ndrepro.spec.exchange import EXIT_COMPLETED, Request, Result, Scores, read_json, write_json
from ndrepro.spec.experiment import Experiment
from ndrepro.spec.layout import RunFolder, RunsFolder
from provenance.errors import ProvenanceError, StorageError


@dataclass(frozen=True)
class Options:
    """Where things are: the folder of runs, the key home, the data (``None``: look), a cell of the version matrix."""

    runs: RunsFolder
    home: Path
    data: Path | None = None
    environment: str | None = None


@dataclass(frozen=True)
class Finished:
    """How a run ended: outcome, the last whole epoch's scores, who signed, the manifest, and what went wrong."""

    folder: RunFolder
    outcome: str
    scores: Scores | None
    signer: str
    manifest: Path | None
    error: ProvenanceError | None


def run(experiment: Experiment, options: Options, observer: Observer) -> Finished:
    """Train an experiment from the start, in a folder of its own.

    Raises UsageError, DataError or StorageError before anything is begun; after that every ending is in Finished.
    """
    data = datasets.locate(experiment, options.data)
    request = Request(experiment, str(data), options.environment or "")
    folder = _make_folder(options.runs, experiment)
    return _attempt(folder, request, options, observer)


def resume(folder: RunFolder, options: Options, observer: Observer) -> Finished:
    """Go on with a run that was interrupted, killed or failed, from its last checkpoint, to the same final bits.

    Raises UsageError for a run that is complete, BusyError for one that still runs.
    """
    request = Request.from_json(read_json(folder.request))
    if folder.result.exists() and Result.from_json(read_json(folder.result)).outcome == "completed":
        raise UsageError(f"{folder.root}: this run is complete", "start a new one with `ndrepro run`")
    if options.environment is not None and options.environment != request.environment:
        raise UsageError(
            f"--env {options.environment}: the run began in {request.environment or 'the main environment'}",
            "a run is resumed where it began; leave --env out",
        )
    data = datasets.locate(request.experiment, options.data) if options.data else Path(request.data)
    steps = folder.checkpoint_steps()
    return _attempt(folder, replace(request, data=str(data), resume_step=steps[-1] if steps else 0), options, observer)


def _make_folder(runs: RunsFolder, experiment: Experiment) -> RunFolder:
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    folder = runs.run(experiment.name, f"{stamp}-{secrets.token_hex(3)}")
    try:
        folder.root.mkdir(parents=True)
    except OSError as error:
        raise StorageError(
            f"{folder.root}: cannot be made ({error.strerror})", "name a folder that can be written with --runs DIR"
        ) from None
    return folder


def _attempt(folder: RunFolder, request: Request, options: Options, observer: Observer) -> Finished:
    recorder = record.open_recorder(folder, request, options.runs, options.home)
    watcher = Watcher(folder, request, observer)
    try:
        error = _train(folder, request, recorder.lock_fd, watcher, observer)
        watcher.look("signing")
        outcome = _outcome(folder, error)
        manifest = record.close_recorder(recorder, folder, request, outcome, error)
    finally:
        recorder.release()
    scores = watcher.scores[-1] if watcher.scores else None
    return Finished(folder, outcome.name, scores, recorder.signer, manifest, error)
