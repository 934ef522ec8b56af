"""One attempt at a run: from "begun" in the ledger to a signed manifest and "ended", whatever happens between.

Three kinds of trouble end in a signed manifest that says "failed", "killed" or "interrupted": the training process's
own (it crashes, hangs, is killed, or leaves files that are not what they should be), this process's (an error of an
observer, of the source's capture, of the environment), and people's (a stop at any moment). What cannot be signed, as
on a full disk or when a second stop comes while files are hashed, has its end in the ledger, with the reason. Only
where this process is killed outright does the ledger keep a start without an end.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ndrepro.execution.resumption.checkpoint_record import CheckpointRecorder
from ndrepro.execution.runs import child_outcome, run_account, slurm_allocation
from ndrepro.execution.runs.child_process import keep_bytecode, prepare, run_child, witness_of
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.progress import Watcher
from ndrepro.execution.runs.run_checks import contradiction
from ndrepro.execution.sandbox.sandbox import Sandbox
from ndrepro.protocol.errors import NdreproError, TrainingFailed
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.messages import Request, Scores, read_json, write_json
from provenance.attestation.key_home import KeyRing
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import ENERGY, Resource
from provenance.errors import ProvenanceError
from provenance.formats.atomic_io import storage_error
from provenance.formats.metrics_log import ScalarLog, read_scalars
from provenance.observation.energy import EnergyMeter
from provenance.recording.recorder import Recorder
from provenance.recording.run_clock import RunClock
from provenance.recording.stop_requests import StopRequests


@dataclass(frozen=True)
class AttemptEnd:
    """How an attempt ended: outcome, the last whole epoch's scores, the manifest (None: unsigned), what went wrong."""

    outcome: str
    scores: Scores | None
    manifest: Path | None
    error: ProvenanceError | None


class RunAttempt:
    """An attempt that the ledger knows of; ``end`` makes it and ends it.

    Args:
        folder: the run folder, with the request in it where it is new.
        request: what is asked of the training process.
        document: the request as it is written for it, which may be of an older release.
        runs: the folder of runs, with the ledger.
        home: the key home.
        observer: receives the events.
        stops: held for as long as the attempt lasts.

    Raises what ``Recorder.open`` raises; then nothing was started.
    """

    def __init__(
        self,
        folder: RunFolder,
        request: Request,
        document: Mapping[str, Any],
        runs: RunsFolder,
        home: Path,
        observer: Observer,
        stops: StopRequests,
    ) -> None:
        self._folder = folder
        self._request = request
        self._document = document
        self._runs = runs
        self._observer = observer
        self._stops = stops
        self._clock = RunClock()
        self._exit_code: int | None = None
        self._modules: tuple[str, ...] = ()
        self._witnessed: Mapping[str, Any] | None = None
        self._energy: tuple[Resource, ...] = ()
        self._outcome = "failed"
        self._error: ProvenanceError | None = None
        self._account = run_account.Account(folder, request)
        self._watcher = Watcher(folder, request, observer)
        self._recorder: Recorder = run_account.open_recorder(folder, request, document, runs, home)
        self._checkpoints = CheckpointRecorder(folder, Ledger(runs.ledger), KeyRing(home))

    def end(self, code: Path, sandbox: Sandbox | None) -> AttemptEnd:
        """Train with the packages in ``code``, in ``sandbox`` if any, sign, tell the ledger, whatever goes wrong."""
        try:
            self._train(code, sandbox)
        except KeyboardInterrupt:
            self._outcome = "interrupted"  # before the child was there to be asked to stop
        except Exception as error:
            # nothing was trained, or nobody saw how it ended
            self._outcome, self._error = "failed", _as_provenance_error(error)
        except BaseException as error:
            # an observer that ends the process, say: the ledger must know
            self._recorder.fail(error)
            raise
        manifest = self._sign()
        # only a cache: whatever goes wrong with it is no part of the run
        with suppress(Exception):
            keep_bytecode(self._request, self._modules)
        scores = self._watcher.scores[-1] if self._watcher.scores else None
        return AttemptEnd(self._outcome, scores, manifest, self._error)

    def _train(self, code: Path, sandbox: Sandbox | None) -> None:
        folder, processes = self._folder, self._request.experiment.processes
        of_nodes = processes > 1 and slurm_allocation.find(os.environ) is not None
        with run_account.code_copy(folder, code, of_nodes=of_nodes) as copy:
            with self._stops.raising():
                self._clock = RunClock()
                for result in folder.results(processes):
                    result.unlink(missing_ok=True)
                _cut_back(folder, self._request.resume_step)
                write_json(folder.request, self._document)
                self._checkpoints.look()
                self._account.read_origin()
                self._observer.began(folder, self._request)
                self._account.capture_source(self._runs, code, copy)
                witness = witness_of(self._request, folder, copy.place)
                start = prepare(self._request, folder, copy, self._recorder.lock_fd, sandbox)

            meter = EnergyMeter()

            def look(phase: str) -> None:
                meter.sample()
                self._checkpoints.look()
                self._watcher.look(phase)
                if witness is not None:
                    witness.look()

            self._exit_code = run_child(start, look, asked=self._stops.count > 0)
            self._witnessed = None if witness is None else witness.end()
            self._energy = (Resource(ENERGY, annotations=meter.facts()),)
        self._modules = copy.modules
        self._outcome, self._error = child_outcome.ending(folder, self._exit_code, processes)

    def _sign(self) -> Path | None:
        """Sign what there is. What was trained to its end must not stay unsigned, so the first stop is held."""
        try:
            self._checkpoints.look()
            self._watcher.look("signing")
            # before anything of it is redacted
            changed = _document_in(self._folder) != self._document
            unredacted = run_account.redact_files(self._folder, self._request.experiment.processes)
            self._account.read(self._witnessed)
            self._doubt(unredacted, changed)
            finished, set_back = self._clock.end()
            manifest = self._recorder.close(
                outcome=self._outcome,
                exit_code=self._exit_code,
                started=self._clock.started,
                finished=finished,
                internal_parameters=self._account.internal_parameters,
                dependencies=self._account.dependencies,
                byproducts=(*self._account.byproducts(self._watcher.scores, self._error), *self._energy, *set_back),
                machine=self._account.machine,
                hashing=self._stops.raising(after=1),
                contradiction=partial(contradiction, self._folder.root),
            )
            return manifest
        except KeyboardInterrupt:
            self._outcome = "interrupted"
            self._error = TrainingFailed(
                "stopped while the run's files were hashed: it is not signed",
                f"`ndrepro run --resume {self._folder.root}` signs it",
            )
        except Exception as error:
            self._outcome, self._error = "failed", _as_provenance_error(error)
        finally:
            self._recorder.fail(self._error)
        return self._folder.manifest if self._folder.manifest.is_file() else None

    def _doubt(self, unredacted: ProvenanceError | None, changed: bool) -> None:
        """A run is complete only if its files are what they should be; what is wrong is its error."""
        problem = self._account.problem or self._watcher.problem or unredacted
        if problem is None and changed and self._exit_code is not None:
            problem = TrainingFailed("the training process changed request.json", "repeat the run")
        if problem is not None and self._outcome in ("completed", "interrupted"):
            self._outcome, self._error = "failed", problem


def _document_in(folder: RunFolder) -> Any:
    try:
        return read_json(folder.request)
    except NdreproError:
        return None


def _cut_back(folder: RunFolder, step: int) -> None:
    """Keep the epochs up to ``step`` alone: what an attempt reported after its last checkpoint is reported again.

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
        kept = sum(Scores.from_row(row).step <= step for row in rows)
        for log in (folder.metrics, folder.timing):
            ScalarLog(log, keep_rows=kept).close()
        if folder.states.exists():
            ScalarLog(folder.states, keep_rows=kept + 1).close()


def _as_provenance_error(failure: Exception) -> ProvenanceError:
    if isinstance(failure, ProvenanceError):
        return failure
    if isinstance(failure, OSError):
        return storage_error(Path(failure.filename or "the run folder"), failure)
    return TrainingFailed(f"{type(failure).__name__}: {failure}", "this is a defect of ndrepro: please report it")
