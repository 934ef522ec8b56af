"""One run looked at on its own: manifest and files verified, and what the manifest says taken out of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ndrepro.analysis.content_checks import content_checks
from ndrepro.analysis.results.result_row import NoScore, ResultRow, experiment_of, score_of
from ndrepro.analysis.run_cost import UNKNOWN, RunCost, cost_of
from ndrepro.protocol.run_kind import TRAINING, run_kind
from ndrepro.protocol.training_record import TrainingRecord
from provenance.attestation.manifest import Manifest
from provenance.attestation.run_files import MANIFEST
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verdict import Verdict
from provenance.attestation.verify import signed_end, verify
from provenance.ledger_entries.summary import SignedEnd

# the outcome of a segment that was trained to its end
SEGMENT = "segment"


@dataclass(frozen=True)
class Refused:
    """A manifest whose numbers are not taken, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Unfinished:
    """A verified manifest that has no result of its own: of a run that did not complete, or of a segment of one."""

    run_id: str
    folder: Path
    name: str
    outcome: str
    signer: str
    cost: RunCost = UNKNOWN


@dataclass(frozen=True)
class OtherRun:
    """A verified manifest of another kind of run than training (``ndrepro.protocol.run_kind``): no result to tabulate.

    ``manifest_digests`` are those of its file, by signer.
    """

    run_id: str
    folder: Path
    name: str
    kind: str
    outcome: str
    signer: str
    started: str
    manifest_digests: tuple[str, ...]


@dataclass(frozen=True)
class Examined:
    """One manifest looked at on its own: what it is, and what the ledger is to be asked about it.

    ``end`` is None of a refused one.
    """

    path: Path
    result: ResultRow | Unfinished | OtherRun | Refused
    end: SignedEnd | None = None

    @property
    def run_id(self) -> str:
        """The run's identifier, "" of a refused one."""
        return self.end.run if self.end else ""

    def to_json(self) -> dict[str, Any]:
        """Kind, fields and ledger entry; without the path and what follows from it."""
        kind = type(self.result).__name__
        fields = {name: value for name, value in vars(self.result).items() if name not in ("folder", "path")}
        if "cost" in fields:
            fields["cost"] = asdict(fields["cost"])
        return {"kind": kind, "fields": fields, "end": None if self.end is None else asdict(self.end)}

    @classmethod
    def from_json(cls, path: Path, document: Mapping[str, Any]) -> Examined:
        """What ``to_json`` wrote of the manifest at ``path``."""
        kind = {made.__name__: made for made in (ResultRow, Unfinished, OtherRun)}[document["kind"]]
        fields = document["fields"]
        # runs have most texts in common: each is held once
        shared: dict[str, Any] = {name: sys.intern(value) for name, value in fields.items() if type(value) is str}
        shared |= {name: tuple(fields[name]) for name in ("manifest_digests", "content") if name in fields}
        if "cost" in fields:
            shared["cost"] = RunCost(**fields["cost"])
        return cls(path, kind(folder=path.parent, **{**fields, **shared}), SignedEnd.from_json(document["end"]))


def examine(path: Path, policy: TrustPolicy) -> Examined:
    """Verify one manifest and the files beside it, and take its score out of it. Never raises for what they are.

    Refused is what is not what was signed: a manifest that does not verify, a file of the run that was changed, and
    files that contradict the manifest (``content_checks``). A file that is missing, or that was added, refuses no run:
    manifests are handed on alone, too, and ``ResultRow.files_checked`` then says that only the manifest was.
    """
    verdict = verified(path, policy)
    manifest, signer = verdict.manifest, verdict.signer
    if manifest is None or signer is None or is_refused(verdict):
        return Examined(path, Refused(path, _failure(verdict)))
    result: ResultRow | Unfinished | OtherRun | Refused
    try:
        run = _identifier(manifest)
        if (kind := run_kind(manifest)) != TRAINING:
            name = str(manifest.external_parameters.get("name") or "")
            stated = name, kind, manifest.outcome, signer, manifest.started_on
            result = OtherRun(run, path.parent, *stated, verdict.digests)
        elif manifest.outcome != "completed":
            result = Unfinished(
                run, path.parent, experiment_of(manifest).name, manifest.outcome, signer, cost_of(manifest)
            )
        elif TrainingRecord.of(manifest).is_segment:
            result = Unfinished(run, path.parent, experiment_of(manifest).name, SEGMENT, signer, cost_of(manifest))
        else:
            result = score_of(manifest, path.parent, verdict)
    except NoScore as error:
        return Examined(path, Refused(path, error.message))
    return Examined(path, result, signed_end(manifest, verdict.digests, verdict.keyids, policy))


def verified(path: Path, policy: TrustPolicy) -> Verdict:
    """Verify the manifest at ``path``, and the files and contents of its run where those are beside it."""
    in_folder = path.name == MANIFEST
    place = path.parent if in_folder else path
    return verify(place, trust=policy, manifest_only=not in_folder, extra_checks=content_checks)


def is_refused(verdict: Verdict) -> bool:
    """Whether a run's numbers are not taken: see ``examine``."""
    contradicted = any(check.number > 8 and check.status == "fail" for check in verdict.checks)
    return not verdict.manifest_ok or bool(verdict.changed) or contradicted


def _identifier(manifest: Manifest) -> str:
    try:
        manifest.invocation_id.encode()
    except UnicodeEncodeError:
        raise NoScore(f"its identifier {manifest.invocation_id!r} holds half a character") from None
    return manifest.invocation_id


def _failure(verdict: Verdict) -> str:
    # a changed file before one that is missing
    contradicted = (check for check in verdict.checks if check.number > 8 and check.status == "fail")
    first = verdict.failure if not verdict.manifest_ok else next(contradicted, verdict.failure)
    failed = next((check for check in verdict.checks if check.number == 6 and verdict.changed), first)
    return f"check {failed.number} ({failed.name}): {failed.message}" if failed else "it does not verify"
