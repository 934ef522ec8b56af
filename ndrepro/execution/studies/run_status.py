"""The status of every run of a study, derived from the folder of runs: signed manifests, ledger and locks.

A study keeps no list of its own. A run counts as done when a manifest that completed says so and

    1  a trusted key signed it, and it follows its schema (the recorder's checks 1 to 4)
    2  the ledger is whole, and says that the run ended with this very manifest (check 8)
    3  every file that it names is there, in its size; ``ndrepro verify`` reads them too, which takes minutes a study
    4  its external parameters are the experiment, seeds and environment that the study asks for; of a container image,
       the engine and the digest
    5  the libraries that it names are those of that environment today, and so are the instruction sets that they may
       use (``ndrepro.protocol.experiment.determinism``); an image's own cannot change

A run that fails any of these is reported and not counted. A run without a manifest is under way, or was interrupted
together with its recorder. Of several runs of the same identity the best one counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ndrepro.execution.environments import matrix
from ndrepro.execution.runs.run_lookup import is_running, start_order
from ndrepro.protocol.experiment.determinism import instruction_limits, limits_text
from ndrepro.protocol.image_reference import MAIN, PinnedImage, is_image
from ndrepro.protocol.layout import SEGMENTS, RunFolder, RunsFolder
from ndrepro.protocol.messages import Request, read_json
from ndrepro.protocol.study.study import StudyRun, identity
from ndrepro.protocol.training_record import TrainingRecord
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import Manifest
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify
from provenance.errors import LedgerError, ManifestError, ProvenanceError

DONE = "done"
RUNNING = "running"  # a process holds it now
QUEUED = "queued"  # a cluster's queue has it, waiting or running: only known to whoever asked the cluster
INTERRUPTED = "interrupted"  # or killed with or without its recorder: it can be resumed
FAILED = "failed"
REFUSED = "not counted"  # it may have completed, but a check above says no
MISSING = "to do"  # never started
WAITING = "waiting"  # for its hyper-parameters to be searched: it cannot be started
# the first that any run of the same identity has is where the study's run stands
STATES = (DONE, RUNNING, QUEUED, INTERRUPTED, FAILED, REFUSED, MISSING, WAITING)

_LIBRARIES = ("torch", "torchvision", "numpy")


@dataclass(frozen=True)
class RunStatus:
    """One run's status: a state above, its folder, the reason, and the manifest where it verified."""

    state: str
    folder: RunFolder | None = None
    reason: str = ""
    manifest: Manifest | None = None

    @property
    def resumable(self) -> bool:
        """Whether there is something to resume."""
        return self.state in (INTERRUPTED, FAILED)


class Survey:
    """A folder of runs as it is when this is made. Raises LedgerError where entries of its ledger are missing."""

    def __init__(self, runs: RunsFolder, home: Path) -> None:
        self._runs = runs
        self._trust = TrustPolicy.load(home)
        self._ledger = Ledger(runs.ledger).summary(self._trust.keys())
        self._order = start_order(self._ledger)
        self._libraries: dict[str, Mapping[str, str]] = {}
        self._found: dict[str, dict[str, RunStatus]] = {}
        self._images: dict[PinnedImage, None] = {}
        if self._ledger.gaps:
            raise LedgerError(
                f"{runs.ledger}: {self._ledger.gaps[0][1]}; which runs are complete is unknown",
                "get the original ledger again, or begin in another folder of runs: --runs DIR",
            )

    def status(self, run: StudyRun) -> RunStatus:
        """The status of a study's run."""
        if run.waits:
            return RunStatus(WAITING, reason="its hyper-parameters are still to be searched")
        return self._of_name(run.experiment.name).get(run.identity, RunStatus(MISSING))

    def images(self, run: StudyRun) -> tuple[PinnedImage, ...]:
        """The container images in which the same experiment has been started, whatever environment the run is for."""
        found = self._of_name(run.experiment.name)
        return tuple(image for image in self._images if identity(run.experiment, str(image)) in found)

    def pieces(self, name: str) -> dict[tuple[str, int, int], RunStatus]:
        """Pieces of runs of that name that were trained by themselves and completed.

        By the run's identity, first step and count of epochs; of equals the latest. What is asked of whole runs above
        is asked of them.
        """
        found: dict[tuple[str, int, int], RunStatus] = {}
        for folder in self._folders(name + SEGMENTS, "manifest.dsse.json"):
            verdict = verify(folder.root, trust=self._trust, ledger=self._ledger, manifest_only=True)
            if not verdict.ok or verdict.manifest is None or verdict.manifest.outcome != "completed":
                continue
            record = TrainingRecord.of(verdict.manifest)
            try:
                whose, place = _identities(record), record.segment
            except ManifestError:
                continue
            if place and not (_lost(folder, verdict.manifest) or self._other_conditions(record)):
                found |= {(key, *place): RunStatus(DONE, folder, manifest=verdict.manifest) for key in whose}
        return found

    def _of_name(self, name: str) -> dict[str, RunStatus]:
        if name not in self._found:
            self._found[name] = self._best(name)
        return self._found[name]

    def _best(self, name: str) -> dict[str, RunStatus]:
        """Every run of that name by identity, in an image by both of its digests; of equals the latest original."""
        best: dict[str, RunStatus] = {}
        for folder in reversed(self._folders(name, "request.json")):
            keys, status = self._examine(folder)
            for key in keys:
                if STATES.index(status.state) < STATES.index(best.get(key, RunStatus(MISSING)).state):
                    best[key] = status
        return best

    def _folders(self, name: str, file: str) -> list[RunFolder]:
        """Folders of runs of that name with such a file, in the order of their starts, repetitions before originals."""
        folders = [RunFolder(path.parent) for path in (self._runs.root / name).glob(f"*/{file}")]
        return sorted(folders, key=lambda folder: (not folder.origin.exists(), self._order(folder.root.name)))

    def _examine(self, folder: RunFolder) -> tuple[tuple[str, ...], RunStatus]:
        """A run's identities and its status; no identity for a folder that is no run."""
        try:
            request = Request.from_json(read_json(folder.request))
            asked = tuple(identity(request.experiment, environment) for environment in request.environments)
        except (ProvenanceError, KeyError, TypeError, ValueError):
            return (), RunStatus(MISSING)  # another schema, or damaged: no study can have asked for it
        if is_image(request.environments[0]):
            self._images[PinnedImage.from_text(request.environments[0])] = None
        if is_running(folder):
            return asked, RunStatus(RUNNING, folder)
        if not folder.manifest.exists():
            return asked, self._without_manifest(folder)
        verdict = verify(folder.root, trust=self._trust, ledger=self._ledger, manifest_only=True)
        if verdict.manifest is None or not verdict.ok:
            failed = next(check for check in verdict.checks if check.status == "fail")
            return asked, RunStatus(REFUSED, folder, f"its manifest does not verify: {failed.message}")
        return self._believed(folder, verdict.manifest) or (asked, RunStatus(REFUSED, folder, "signed by another kind"))

    def _without_manifest(self, folder: RunFolder) -> RunStatus:
        entries = self._ledger.runs.get(folder.root.name)
        if entries is None:
            return RunStatus(REFUSED, folder, "it has no manifest, and the ledger does not know it")
        if entries.open:
            return RunStatus(INTERRUPTED, folder, "killed, and its recorder with it")
        if entries.manifest:
            return RunStatus(REFUSED, folder, "its manifest, which the ledger knows, is gone")
        return RunStatus(FAILED, folder, f"it ended unsigned: {entries.reason}")

    def _believed(self, folder: RunFolder, manifest: Manifest) -> tuple[tuple[str, ...], RunStatus] | None:
        """The record of a verified manifest; None where it is not of a training run."""
        record = TrainingRecord.of(manifest)
        if record.is_segment:
            return None  # wherever its folder was put
        try:
            keys = _identities(record)
        except ManifestError:
            return None
        problem = _lost(folder, manifest) or self._other_conditions(record)
        if problem:
            return keys, RunStatus(REFUSED, folder, problem)
        state = {"completed": DONE, "failed": FAILED}.get(manifest.outcome, INTERRUPTED)
        return keys, RunStatus(state, folder, record.error, manifest)

    def _other_conditions(self, record: TrainingRecord) -> str:
        """How libraries or instruction limits of a run differ from those that it would have today; "" where none do."""
        environment = record.environment
        if record.container:
            return ""  # an image has libraries of its own, and its digest is part of the run's identity
        if environment not in self._libraries:
            self._libraries[environment] = libraries_of(environment)
        had = {name: _release(each.version) for name, each in record.distributions.items()}
        for name, now in self._libraries[environment].items():
            # an attempt that failed early may have reported none
            if had.get(name, "" if record.manifest.outcome == "completed" else now) != now:
                return f"made with {name} {had.get(name, 'not known')}, where {environment} has {now} now"
        return _other_limits(record)


def _other_limits(record: TrainingRecord) -> str:
    """How the instruction limits of a run differ from those that it would inherit here; "" where they do not."""
    variables, level = record.manifest.variables, record.determinism_level
    if not variables:
        return ""  # an attempt that failed early recorded none
    isa = record.experiment.cpu_isa
    then, now = (limits_text(instruction_limits(each, level, isa)) for each in (variables, os.environ))
    return "" if then == now else f"made with {then or 'no instruction limits'}, where {now or 'none'} would be set now"


def _identities(record: TrainingRecord) -> tuple[str, ...]:
    """The identities of a run, one for each name of its environment. Raises ManifestError."""
    experiment = record.experiment
    return tuple(identity(experiment, name) for name in record.environments)


def libraries_of(environment: str) -> dict[str, str]:
    """The versions that decide a run's arithmetic, as that environment has them now."""
    if environment == MAIN:
        return {name: _release(found) for name in _LIBRARIES if (found := _installed(name))}
    cell = matrix.cell(environment)
    return {name: _release(pinned) for name in _LIBRARIES if (pinned := cell.version(name))}


def code_and_data(standings: Iterable[RunStatus]) -> dict[str, set[str]]:
    """The digests of the code, and of each data set, of complete runs: more than one is worth a warning."""
    seen: dict[str, set[str]] = {}
    for status in standings:
        if status.manifest is None or status.state != DONE:
            continue
        record = TrainingRecord.of(status.manifest)
        for item in (record.code, *(dataset.resource for dataset in record.datasets)):
            if item.digest:
                seen.setdefault(item.name, set()).add(json.dumps(dict(item.digest), sort_keys=True))
    return seen


def _lost(folder: RunFolder, manifest: Manifest) -> str:
    for artifact in manifest.artifacts:
        try:
            size = (folder.root / artifact.path).stat().st_size
        except OSError:
            return f"{artifact.path} is missing"
        if size != artifact.size:
            return f"{artifact.path} has {size} bytes, its manifest says {artifact.size}"
    return ""


def _release(version: str) -> str:
    """2.13.0 of 2.13.0+cu130: builds of one release are distinguished by a run's own manifest, not here."""
    return version.partition("+")[0]


def _installed(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
