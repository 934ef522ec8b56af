"""Check 14: every field of the predicate that a signed file implies is made again from that file, and must be the same.

The recorder writes the predicate from the run's files (``run_account``). Here the same code reads the same files once
more, so a manifest cannot say anything else than they do: another machine, other data, seeds, flags or dates. ``RULES``
names each field with the file that implies it, or ``ASSERTED`` where only the signer's word stands for it; a field
without a rule is refused. So is a member that no recorder writes, in a file or in what the signer asserts, and a
value that cannot be (``ndrepro.protocol.recorded``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from ndrepro.execution.runs import child_outcome
from ndrepro.execution.runs.recorded_data_check import check_data
from ndrepro.execution.runs.run_account import BUILDER, Account
from ndrepro.protocol.data_record import DataRecord
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, Result, Scores, read_json
from ndrepro.protocol.recorded.bounds import (
    CLOCK_TOLERANCE,
    LONGEST_SET_BACK_SECONDS,
    check_accuracies,
    check_device,
    check_epochs,
    check_processes,
    check_timing,
    check_use,
)
from ndrepro.protocol.recorded.environment import TRAINING
from ndrepro.protocol.recorded.manifest_parts import check_parts
from ndrepro.protocol.recorded.start_and_end import expect_unchanged
from ndrepro.protocol.recorded.training_files import MODEL, read_timing
from ndrepro.protocol.run_kind import TRAINING_TYPE
from ndrepro.protocol.training_record import CODE, LAYER_CENSUS, METRICS_SUMMARY, external_parameters
from provenance.attestation.dsse import read_envelope
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import CLOCK, ENERGY, ERROR, NOT_RECORDED, SOURCE, Manifest
from provenance.attestation.run_files import MANIFEST
from provenance.attestation.statement import Statement
from provenance.capture.unavailable import is_missing, printable
from provenance.comparison.kept_source import expect_as_kept
from provenance.errors import CanonicalError, ManifestError, SourceError
from provenance.formats.atomic_io import json_bytes
from provenance.formats.bounded_read import LOG_BYTES, read_bounded
from provenance.formats.canonical_json import canonical_bytes, unique_members
from provenance.formats.folder_tree import files_below
from provenance.formats.metrics_log import read_scalars
from provenance.formats.strict_json import Field
from provenance.ledger_entries.entry import CHECKPOINT, Entry
from provenance.recording.run_clock import SET_BACK_SECONDS
from provenance.redaction.redact import redact_text

ASSERTED = "asserted by the signer"
_REQUEST, _SEALS, _LEDGER = "request.json", "environment.json", "ledger"
_OUTCOME = "exit code and result.json"
# field of the predicate -> what implies it
RULES = {
    "buildType": _REQUEST,
    "externalParameters.experiment": _REQUEST,
    "externalParameters.name": _REQUEST,
    "externalParameters.seeds": _REQUEST,
    "externalParameters.data": _REQUEST,
    "externalParameters.environment": _REQUEST,
    "externalParameters.segment": _REQUEST,
    "externalParameters.container": _REQUEST,
    "externalParameters.command": ASSERTED,
    "internalParameters.determinism": f"{_REQUEST}, {_SEALS}",
    "internalParameters.threads": _REQUEST,
    "internalParameters.resumedFromStep": _REQUEST,
    "internalParameters.device": "result.json",
    "internalParameters.libraries": _SEALS,
    "internalParameters.usage": _SEALS,
    "internalParameters.processes": f"{_REQUEST}, {_SEALS}",
    "resolvedDependencies.source": f"source.patch, untracked/; commit and remotes: {ASSERTED}",
    "resolvedDependencies.code": ASSERTED,
    "resolvedDependencies.dataset": f"dataset.json, dataset.sha256; official by md5 or sha1: {ASSERTED}",
    "resolvedDependencies.distribution": _SEALS,
    "resolvedDependencies.container image": _REQUEST,
    "resolvedDependencies.container image attestation": _REQUEST,
    "resolvedDependencies.network source": "network/ and request.json, by digest",
    "resolvedDependencies.reproduced run": "origin.json",
    "resolvedDependencies.continued run": "origin.json",
    "builder": f"its identifier is fixed; versions: {ASSERTED}",
    "metadata.invocationId": _LEDGER,
    "metadata.startedOn": f"attempts, timing.jsonl, {_LEDGER}",
    "metadata.finishedOn": f"attempts, timing.jsonl, {_LEDGER}",
    "byproducts.metrics summary": "metrics.jsonl (check 12)",
    "byproducts.layer census": "model.json",
    "byproducts.error": _OUTCOME,
    "byproducts.clock": f"{_LEDGER}, by which no run ended later: {ASSERTED}",
    "byproducts.energy": f"counters of the machine while the child ran: {ASSERTED}",
    "byproducts.not recorded": "the folder (check 7)",
    "outcome": _OUTCOME,
    "exitCode": _OUTCOME,
    "attempts": "the outcome and times of the last one; attempts/",
    "machine": f"{_SEALS}; edited files and loaded code, which the recorder looks at too: {ASSERTED}",
    "ledger": _LEDGER,
    "artifacts": "the files (checks 4 to 7)",
}
# what the recorder itself sees goes into these as well
_WITNESSED = ("imported_files", "loaded_code")
_SHOWN = 80


def predicate(root: Path, manifest: Manifest) -> str:
    """Compare every field that has a rule; returns what was compared. Raises ManifestError for the first difference."""
    folder = RunFolder(root)
    request = Request.from_json(read_json(folder.request))
    account = Account(folder, request)
    account.read_origin()
    account.read(None)
    check_parts(manifest)
    expect_equal("buildType", manifest.build_type, TRAINING_TYPE)
    expect_equal("builder.id", manifest.builder.id, BUILDER)
    _check_parameters(manifest, request)
    check_members("internalParameters", manifest.internal_parameters, account.internal_parameters)
    machine = manifest.machine if isinstance(manifest.machine, Mapping) else {"machine": manifest.machine}
    check_members("machine", without_witness(machine), without_witness(account.machine))
    _check_dependencies(manifest, account)
    check_data(folder, request.experiment)
    check_source(folder, manifest)
    _check_outcome(folder, manifest, request, account)
    if manifest.outcome != "failed":  # which may be for any of its files
        _check_files(folder, manifest, request, account)
    set_back = check_times(folder, manifest)
    asserted = sum(ASSERTED in rule for rule in RULES.values())
    return f"{len(RULES)} fields agree with the files; {asserted} of them rest partly on the signer's word{set_back}"


def _check_parameters(manifest: Manifest, request: Request) -> None:
    asked = dict(manifest.external_parameters)
    made = printable(external_parameters(request, data=redact_text(request.data), command=[]))
    for name in ("command", "experiment"):  # asserted; and check 9
        asked.pop(name, None)
        made.pop(name)
    if "[redacted:" in f"{asked.get('data')}{made['data']}":  # each redacted by its own rules
        asked.pop("data", None)
        made.pop("data")
    seeds = asked.pop("seeds", {})
    # an earlier release may have had fewer streams
    expect_equal(
        "externalParameters.seeds", seeds, {name: seed for name, seed in made.pop("seeds").items() if name in seeds}
    )
    check_members("externalParameters", asked, made)


def check_members(where: str, recorded: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    """Raises ManifestError where a recorded member is not the one that the run's files imply, or one is missing."""
    for name, value in recorded.items():
        if name not in made:
            raise ManifestError(f"{where}.{name}: no file of the run implies it", "ask its author")
        expect_equal(f"{where}.{name}", value, made[name])
    # what an earlier release did not record, its files do not have either
    missing = [name for name, value in made.items() if name not in recorded and value and not is_missing(value)]
    if missing:
        raise ManifestError(f"{where}.{missing[0]}: not in the manifest, though the run's files have it")


def _check_dependencies(manifest: Manifest, account: Account) -> None:
    free = (SOURCE, CODE)
    recorded = [item for item in manifest.dependencies if item.name not in free]
    made = {item.name: item for item in account.dependencies if item.name not in free}
    names = [item.name for item in recorded]
    if len({item.name for item in manifest.dependencies}) < len(manifest.dependencies):
        raise ManifestError("resolvedDependencies: one comes twice")
    for item in recorded:
        if item.name not in made:
            raise ManifestError(f"resolvedDependencies.{item.name}: no file of the run implies it")
        expect_equal(f"resolvedDependencies.{item.name}", item.to_json(), made[item.name].to_json())
    if missing := sorted(made.keys() - set(names)):
        raise ManifestError(f"resolvedDependencies.{missing[0]}: not in the manifest, though the run's files have it")


def check_source(folder: RunFolder, manifest: Manifest) -> None:
    """The source is not said to be cleaner than the patch and the copies show that are in the folder."""
    described = manifest.dependency(SOURCE)
    captured = (described.annotations or {}) if described else {}
    kept = {artifact.path: artifact.sha256 for artifact in manifest.artifacts}
    try:
        expect_as_kept(captured, kept, folder.root)
    except SourceError as error:
        raise ManifestError(f"resolvedDependencies.source: {error.message}", error.cure) from None
    commit = captured.get("commit")
    if isinstance(commit, str) and described is not None:
        expect_equal("resolvedDependencies.source.digest", (described.digest or {}).get("gitCommit"), commit)


def _check_outcome(folder: RunFolder, manifest: Manifest, request: Request, account: Account) -> None:
    made = {item.name: item for item in account.byproducts((), None)}
    # a recorder's error, and then the contradiction for which it signs a failed run
    names = [item.name for item in manifest.byproducts if item.name != ERROR]
    if len(set(names)) < len(names):
        raise ManifestError("byproducts: one comes twice")
    for item in manifest.byproducts:
        if item.name in (LAYER_CENSUS, METRICS_SUMMARY):
            implied = made[item.name]
            if item.name == METRICS_SUMMARY:  # its annotations: check 12
                implied = replace(implied, annotations=item.annotations)
            expect_equal(f"byproducts.{item.name}", item.to_json(), implied.to_json())
        elif item.name not in (ERROR, CLOCK, ENERGY, NOT_RECORDED):
            raise ManifestError(f"byproducts.{item.name}: no file of the run implies it")
    failed = manifest.byproduct(ERROR) or manifest.byproduct(NOT_RECORDED)
    if manifest.outcome == "failed":
        if failed is None:
            raise ManifestError("outcome: 'failed', and no error says why")
        return
    if isinstance(manifest.exit_code, int):
        outcome, _ = child_outcome.ending(folder, manifest.exit_code, request.experiment.processes)
    else:
        outcome = "interrupted"  # nobody saw a training process end
    expect_equal("outcome", manifest.outcome, outcome)
    whole = manifest.outcome == "completed"
    if whole and any(path.exists() for path in folder.results(request.experiment.processes)[1:]):
        raise ManifestError("outcome: 'completed', and a process other than the first left a result: it failed")
    if whole and (failed or account.problem):
        raise ManifestError(f"outcome: 'completed', with an error ({account.problem or ERROR})")


def _check_files(folder: RunFolder, manifest: Manifest, request: Request, account: Account) -> None:
    """Raises ManifestError where a file has what no training process writes, or says what cannot be."""
    documents = (folder.request, folder.origin, folder.environment, folder.dataset, folder.model, folder.evaluation)
    expect_as_written(*documents, *folder.results(request.experiment.processes))
    for path, shape in ((folder.environment, TRAINING), (folder.model, MODEL)):
        if path.name in account.documents:
            shape(Field(account.documents[path.name], path.name))
    expect_unchanged(account.documents.get(folder.environment.name, {}))
    torn = manifest.outcome == "killed"
    if manifest.outcome == "completed":
        check_device(manifest, request.experiment)
        ranks = account.documents[folder.environment.name].get("processes")
        check_processes(ranks, request.experiment, str(manifest.internal_parameters.get("device")))
    data = DataRecord.read(folder.dataset) if folder.dataset.exists() else None
    scores: tuple[Scores, ...] = ()
    if folder.metrics.exists():
        scores = tuple(Scores.from_row(row) for row in read_scalars(folder.metrics, tolerate_torn=torn))
    # an attempt that was killed leaves the result of the one before
    ended = manifest.outcome == "completed" and scores and folder.result.exists()
    if ended and Result.from_json(read_json(folder.result)).epochs != scores[-1].epoch:
        raise ManifestError(f"{folder.result.name}: other epochs than {folder.metrics.name}")
    if data is not None:
        check_accuracies(scores, data.scored_images)
        check_epochs(scores, request.experiment, data.train_images)
    if folder.timing.exists():
        rows = read_scalars(folder.timing, tolerate_torn=torn)
        timing = tuple(read_timing(row) for row in rows)
        check_timing(manifest, timing, scores, request.experiment, None if data is None else data.train_images)


def expect_as_written(*paths: Path) -> None:
    """Raises ManifestError for one of these documents, where it is there, in no spelling of a recorder's: blanks,
    escapes or a key twice would say more.
    """
    for path in paths:
        if path.exists() and not _is_as_written(read_bounded(path, LOG_BYTES)):
            raise ManifestError(f"{path.name}: not as a recorder writes it", "get the original file")


def _is_as_written(data: bytes) -> bool:
    try:
        document = json.loads(data, object_pairs_hook=unique_members)
        redacted = json.dumps(document, indent=1).encode() + b"\n"
        # paths that are not UTF-8 have no canonical form
        return data in (json_bytes(document), redacted) or data == canonical_bytes(document)
    except (CanonicalError, ValueError, RecursionError):
        return False


def check_times(folder: RunFolder, manifest: Manifest) -> str:
    """By how much the clock was set back meanwhile, for people; empty where it was not.

    Raises ManifestError where start, end, attempts, clocks of the run and the ledger's times contradict.
    """
    started, finished = map(datetime.fromisoformat, (manifest.started_on, manifest.finished_on))
    if started > finished:
        raise ManifestError(f"metadata: it finished on {manifest.finished_on}, before it started")
    last = manifest.attempts[-1] if manifest.attempts else None
    if last is None or (last.started_on, last.finished_on) != (manifest.started_on, manifest.finished_on):
        raise ManifestError("attempts: the last one has other times than the run")
    expect_equal("attempts.outcome", last.outcome, manifest.outcome)
    kept = folder.root / "attempts"
    earlier = sum(1 for each in kept.iterdir()) if kept.is_dir() and not kept.is_symlink() else 0
    if earlier > len(manifest.attempts) - 1:
        raise ManifestError(f"attempts: {len(manifest.attempts)}, and manifests of {earlier} earlier ones are kept")
    if earlier:
        _check_earlier(kept, manifest)
    check_use(manifest)
    set_back = _set_back(manifest)
    for event, time in _in_ledger(folder, manifest):
        apart = finished - set_back - time if event == "ended" else time - started
        if apart > CLOCK_TOLERANCE:
            raise ManifestError(
                f"metadata: {manifest.started_on} to {manifest.finished_on}, {event} in the ledger {time}"
            )
    return f"; the clock was set back by {set_back} while it ran" if set_back else ""


def _check_earlier(kept: Path, manifest: Manifest) -> None:
    """Raises ManifestError or EnvelopeError where a manifest that is kept is of no earlier attempt at this run."""
    for path in files_below(kept, MANIFEST):
        earlier = Statement.from_bytes(read_envelope(read_bounded(path))[1]).manifest
        if earlier.invocation_id != manifest.invocation_id or earlier.ledger.sequence >= manifest.ledger.sequence:
            raise ManifestError(f"attempts/{path.parent.name}: no manifest of an earlier attempt at this run")


def _set_back(manifest: Manifest) -> timedelta:
    """By how much the clock was set back while the run lasted, as the recorder saw it by the monotonic one."""
    said = manifest.byproduct(CLOCK)
    if said is None:
        return timedelta()
    seconds = Field(said.annotations, f"byproducts.{CLOCK}").member("set_back_seconds").integer(SET_BACK_SECONDS)
    if seconds > LONGEST_SET_BACK_SECONDS:
        raise ManifestError(f"byproducts.{CLOCK}: set back by {seconds} s, more than a year")
    return timedelta(seconds=seconds)


def _in_ledger(folder: RunFolder, manifest: Manifest) -> Iterator[tuple[str, datetime]]:
    """When the ledger beside the run says that this attempt started and ended."""
    path = folder.ledger
    if path is None:
        return
    status = path.stat()
    entries = _entries(path, status.st_size, status.st_mtime_ns, status.st_ino).get(manifest.invocation_id, [])
    # earlier attempts may have been made on machines with other clocks, and what other keys sign is others' word
    started = [place for place, entry in enumerate(entries) if entry.digest == manifest.ledger.digest]
    own = [entry for entry in entries[started[0] :] if entry.key == entries[started[0]].key] if started else []
    yield from ((entry.event, datetime.fromisoformat(entry.time)) for entry in own[:2])


@lru_cache(maxsize=2)
def _entries(path: Path, *identity: int) -> Mapping[str, list[Entry]]:
    """The entries of a ledger whose signatures hold, by run: read once where many of its runs are verified."""
    found: dict[str, list[Entry]] = {}
    for counted in Ledger(path).audit().entries:
        if counted.entry.event != CHECKPOINT:
            found.setdefault(counted.entry.run, []).append(counted.entry)
    return found


def expect_equal(field: str, recorded: Any, made: Any) -> None:
    """Raises ManifestError where a recorded value is not the one that the run's files imply."""
    if canonical_bytes(recorded) != canonical_bytes(made):
        shown = [json.dumps(value, ensure_ascii=False, default=str)[:_SHOWN] for value in (recorded, made)]
        raise ManifestError(f"{field}: {shown[0]}, and the run's files have {shown[1]}", "ask its author")


def without_witness(machine: Mapping[str, Any]) -> dict[str, Any]:
    """What is recorded of the machine, without what the recorder itself adds to it."""
    return {name: value for name, value in machine.items() if name not in _WITNESSED}
