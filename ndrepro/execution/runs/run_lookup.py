"""Reads what was recorded of runs, from the folder of runs alone; ``run_resolver`` says which run a name means.

Nothing here verifies: a summary says "signed", and who claims to have signed; ``provenance.attestation.verify`` says
whether it is true. Runs that have an entry in the ledger and no manifest are listed as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.experiment.settings import changed_settings, leaves
from ndrepro.protocol.layout import SEGMENTS, RunFolder, RunsFolder
from ndrepro.protocol.messages import Request, Scores, read_json
from ndrepro.protocol.run_kind import PROGRAM, SCRIPT, TRAINING, run_kind
from ndrepro.protocol.training_record import TrainingRecord
from provenance.attestation.dsse import read_envelope
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import REPRODUCED_RUN, Manifest
from provenance.attestation.run_files import LOCK, inside
from provenance.attestation.statement import Statement
from provenance.capture.unavailable import at, mapping
from provenance.errors import ManifestError
from provenance.formats import portable
from provenance.formats.bounded_read import open_regular, read_bounded
from provenance.formats.digest import file_digest
from provenance.formats.metrics_log import read_scalars
from provenance.ledger_entries.summary import LedgerSummary

RUNNING = "running"
NO_END = "no end"  # started, not ended, and no process runs it: whoever ran it was killed too
UNSIGNED = "unsigned"  # ended without a manifest, for the reason in the ledger
MISSING = "folder gone"
UNREADABLE = "unreadable"
OUTCOMES = ("completed", "failed", "interrupted", "killed", RUNNING, NO_END, UNSIGNED, MISSING, UNREADABLE)

ORIGINAL = "original"
REPETITION = "repetition"  # a whole run that `reproduce` trained again
SEGMENT = "segment"  # some epochs of a run: a spot check's, or a search's


@dataclass(frozen=True)
class Recorded:
    """A run's manifest as it is there, not verified, and the key identifiers that its envelope claims."""

    manifest: Manifest
    signers: tuple[str, ...]


@dataclass(frozen=True)
class RunSummary:
    """One line of a list of runs; what is not known is None or "".

    ``outcome`` is the manifest's, or one of the words above. ``epochs`` counts whole ones, of ``total_epochs``;
    accuracies are fractions, of the last whole epoch; ``duration_seconds`` is that of all attempts; ``signers`` are
    claimed key identifiers, none where a file was changed after signing; ``problem`` says what is wrong. ``kind`` is
    "original", "repetition" or "segment"; of the latter two ``origin`` is the identifier of the run that they repeat
    or continue, where one was recorded. ``settings`` are all settings of a training run by dotted key, ``changed`` the
    keys of those that its name does not imply; of scripts they are the parameters, of programs there are none.
    ``started_on`` is RFC 3339 in UTC.
    """

    experiment: str
    run: str
    folder: Path
    outcome: str
    epochs: int = 0
    total_epochs: int | None = None
    train_accuracy: float | None = None
    test_accuracy: float | None = None
    duration_seconds: float | None = None
    signers: tuple[str, ...] = ()
    problem: str = ""
    kind: str = ORIGINAL
    origin: str = ""
    build: str = TRAINING
    seed: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    changed: tuple[str, ...] = ()
    started_on: str = ""

    @property
    def repeats(self) -> str:
        """What a run that is no original is, for people: "repetition of RUN", "segment"; "" for an original."""
        if self.kind == ORIGINAL:
            return ""
        return f"{self.kind} of {self.origin}" if self.origin else self.kind

    def to_json(self) -> dict[str, Any]:
        """Every field, the folder by its absolute path."""
        return {**vars(self), "folder": self.folder.absolute()}


def start_order(ledger: LedgerSummary) -> Callable[[str], tuple[int, str]]:
    """Sorts identifiers of runs as they were started, whatever their machines' clocks said.

    An identifier begins with the time on the machine where its run began, and nodes' clocks differ; entries of a ledger
    are written one after the other. Runs that it does not know come first, by their identifiers.
    """
    started = {name: number for number, name in enumerate(ledger.runs, 1)}
    return lambda run: (started.get(run, 0), run)


def read_recorded(folder: RunFolder) -> Recorded:
    """The manifest of a run, not verified. Raises EnvelopeError or ManifestError for what is none, OSError."""
    _, payload, signatures = read_envelope(read_bounded(folder.manifest))
    return Recorded(Statement.from_bytes(payload).manifest, tuple(keyid for keyid, _ in signatures))


def read_results(folder: RunFolder) -> tuple[Scores, ...]:
    """Every whole epoch's results as they are in the folder; none where there is no such file yet."""
    if not folder.metrics.exists():
        return ()
    rows: list[dict[str, Any]] = read_scalars(folder.metrics, tolerate_torn=True)
    return tuple(Scores.from_row(row) for row in rows)


def is_running(folder: RunFolder) -> bool:
    """Whether a process holds the run folder."""
    with suppress(OSError), open(open_regular(folder.root / LOCK), "rb") as lock:
        try:
            portable.lock(lock.fileno(), shared=True)
        except BlockingIOError:
            return True
    return False


def summaries(runs: RunsFolder) -> list[RunSummary]:
    """Every run that left a folder or a ledger entry, oldest first."""
    ledger = _unverified(runs.ledger)
    found = {each.run: each for each in (_summary(folder, _beside(folder, runs, ledger)) for folder in runs.runs())}
    for run, entries in ledger.runs.items():
        if run not in found:
            problem = "the ledger has it, and no folder here holds it: it was moved or removed"
            place = runs.run(entries.name, run).root
            found[run] = RunSummary(entries.name, run, place, MISSING, problem=problem, started_on=_named_start(run))
    return [found[run] for run in sorted(found, key=start_order(ledger))]


def _beside(folder: RunFolder, runs: RunsFolder, known: LedgerSummary) -> LedgerSummary:
    """The ledger of a run: ``known``, that of the folder of runs, unless a script keeps its own beside its runs."""
    path = folder.ledger
    return known if path is None or path == runs.ledger.absolute() else _unverified(path)


def summary(folder: RunFolder) -> RunSummary:
    """One run in short."""
    return _summary(folder, _unverified(folder.ledger))


def latest_first(folders: Iterable[RunFolder], ledger: Path) -> Iterator[RunSummary]:
    """Runs in short, the one that started last first; each is read when it is asked for."""
    known = _unverified(ledger)
    order = start_order(known)
    for folder in sorted(folders, key=lambda folder: order(folder.root.name), reverse=True):
        yield _summary(folder, known)


def _unverified(ledger: Path | None) -> LedgerSummary:
    """The ledger, of which every signer is taken at its word."""
    return Ledger(ledger).summary(None) if ledger else LedgerSummary(False)


def _summary(folder: RunFolder, ledger: LedgerSummary) -> RunSummary:
    name = folder.root.parent.name
    kind = SEGMENT if name.endswith(SEGMENTS) else REPETITION if folder.origin.exists() else ORIGINAL
    blank = RunSummary(
        name, folder.root.name, folder.root, NO_END, kind=kind, started_on=_named_start(folder.root.name)
    )
    try:
        blank = _of_training(folder, blank) if folder.request.exists() else _of_other_kind(folder, blank)
        if is_running(folder):
            return replace(blank, outcome=RUNNING)
        if folder.manifest.exists():
            return _with_manifest(folder, blank)
        entries = ledger.runs.get(blank.run)
        if entries is not None and not entries.open:
            return replace(blank, outcome=UNSIGNED, problem=entries.reason)
        return replace(blank, problem="started, never ended, and no process runs it")
    except Exception as error:  # whatever is in a damaged folder, it must not hide the others
        return replace(blank, outcome=UNREADABLE, problem=str(error) or type(error).__name__)


def _of_training(folder: RunFolder, blank: RunSummary) -> RunSummary:
    return _with_scores(folder, _with_request(folder, blank))


def _of_other_kind(folder: RunFolder, blank: RunSummary) -> RunSummary:
    """A script's or a program's run: its name and identifier are the manifest's, wherever its folder is."""
    if not folder.manifest.exists():
        return replace(blank, build=PROGRAM if folder.program.exists() else SCRIPT)
    manifest = read_recorded(folder).manifest
    name = str(manifest.external_parameters.get("name") or blank.experiment)
    found = replace(
        blank,
        experiment=name,
        run=manifest.invocation_id,
        build=run_kind(manifest),
        started_on=manifest.started_on,
        **_parameters(manifest),
    )
    origin = manifest.dependency(REPRODUCED_RUN)
    return replace(found, kind=REPETITION, origin=str(at(origin.annotations, "run"))) if origin else found


def _parameters(manifest: Manifest) -> dict[str, Any]:
    """Seed and settings by the manifest alone; of several seeds that differ, each is a setting of its own."""
    record = TrainingRecord.of(manifest)
    if record.is_training:
        with suppress(ManifestError):
            return _settings(record.experiment)
    asked = manifest.external_parameters
    seeds, parameters = mapping(asked.get("seeds")), dict(mapping(asked.get("parameters")))
    values = {str(value) for value in seeds.values()}
    if len(values) > 1:
        parameters = {**{f"seeds.{name}": value for name, value in seeds.items()}, **parameters}
    return {"seed": values.pop() if len(values) == 1 else "", "settings": parameters, "changed": tuple(parameters)}


def _settings(experiment: Experiment) -> dict[str, Any]:
    """Seed, settings, and which of them the experiment's name does not imply."""
    return {
        "seed": str(experiment.seed),
        "settings": dict(leaves(experiment.to_json())),
        "changed": tuple(key for key in changed_settings(experiment) if key != "seed"),
    }


def _named_start(run: str) -> str:
    """The start that a run's identifier begins with, in RFC 3339; "" where it does not."""
    try:
        return f"{datetime.strptime(run[:16], '%Y%m%dT%H%M%SZ'):%Y-%m-%dT%H:%M:%SZ}"
    except ValueError:
        return ""


def _with_manifest(folder: RunFolder, blank: RunSummary) -> RunSummary:
    recorded = read_recorded(folder)
    duration = duration_seconds(recorded.manifest)
    found = replace(blank, outcome=recorded.manifest.outcome, duration_seconds=duration, signers=recorded.signers)
    changed = _changed(folder, recorded.manifest)
    if not changed:
        return found
    if folder.metrics.name in changed:  # its numbers are nobody's
        found = replace(found, epochs=0, train_accuracy=None, test_accuracy=None)
    more = f" and {len(changed) - 1} more files" if len(changed) > 1 else ""
    return replace(found, signers=(), problem=f"{changed[0]}{more} changed after signing: `ndrepro verify` has details")


def _changed(folder: RunFolder, manifest: Manifest) -> tuple[str, ...]:
    """Files that are not those of the manifest: all by their size, the results by every byte."""
    found = []
    for item in manifest.artifacts:
        path = folder.root / item.path
        # a name may lead out of the folder: verify says so, and nothing is read there
        if not inside(item.path) or not path.is_file():
            continue
        same = path.stat().st_size == item.size
        if not same or (
            path == folder.metrics
            and file_digest(path, beneath=folder.root, follow_symlinks=False).sha256 != item.sha256
        ):
            found.append(item.path)
    return tuple(sorted(found, key=lambda name: name != folder.metrics.name))


def _with_request(folder: RunFolder, blank: RunSummary) -> RunSummary:
    """Epochs asked for, and which run this one repeats: a segment is one wherever its folder was moved to."""
    request = Request.from_json(read_json(folder.request))
    kind = blank.kind if request.segment_epochs is None else SEGMENT
    origin = str(read_json(folder.origin)["annotations"]["run"]) if folder.origin.exists() else ""
    asked = request.experiment
    return replace(blank, total_epochs=asked.epochs, kind=kind, origin=origin, **_settings(asked))


def _with_scores(folder: RunFolder, blank: RunSummary) -> RunSummary:
    scores = read_results(folder)
    if not scores:
        return blank
    last = scores[-1]
    return replace(blank, epochs=last.epoch, train_accuracy=last.train_accuracy, test_accuracy=last.test_accuracy)


def duration_seconds(manifest: Manifest) -> float:
    """Wall time of all attempts whose end was seen."""
    spans = [(attempt.started_on, attempt.finished_on) for attempt in manifest.attempts if attempt.finished_on]
    spans = spans or [(manifest.started_on, manifest.finished_on)]
    return sum((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() for start, end in spans)
