"""One manifest looked at on its own: verified, and what it says taken out of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ndrepro.analysis.results.result_row import NoScore, Score, experiment_of, score_of
from provenance.attestation.manifest import Manifest
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import Verdict, verify


@dataclass(frozen=True)
class Refused:
    """A manifest whose numbers are not taken, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Unfinished:
    """A verified manifest of a run that did not complete."""

    run_id: str
    folder: Path
    name: str
    outcome: str
    signer: str


@dataclass(frozen=True)
class Examined:
    """One manifest looked at on its own: what it is, and what the ledger is to be asked about it."""

    path: str
    result: Score | Unfinished | Refused
    run_id: str = ""
    began: tuple[int, str] = (0, "")
    digest: str = ""
    outcome: str = ""


def examine(path: Path, policy: TrustPolicy, deep: bool = False) -> Examined:
    """Verify one manifest, and take its score out of it. Never raises for what the manifest is."""
    verdict = verify(path.parent if deep else path, trust=policy, manifest_only=not deep)
    manifest, digest = verdict.manifest, verdict.digest
    if manifest is None or digest is None or verdict.signer is None or not verdict.ok:
        return Examined(str(path), Refused(path, _failure(verdict)))
    result: Score | Unfinished | Refused
    try:
        run = _identifier(manifest)
        if manifest.outcome == "completed":
            result = score_of(manifest, path.parent, verdict.signer, digest)
        else:
            result = Unfinished(run, path.parent, experiment_of(manifest).name, manifest.outcome, verdict.signer)
    except NoScore as error:
        return Examined(str(path), Refused(path, error.message))
    began = manifest.ledger.sequence, manifest.ledger.digest
    return Examined(str(path), result, run, began, digest, manifest.outcome)


def _identifier(manifest: Manifest) -> str:
    try:
        manifest.invocation_id.encode()
    except UnicodeEncodeError:
        raise NoScore(f"its identifier {manifest.invocation_id!r} holds half a character") from None
    return manifest.invocation_id


def _failure(verdict: Verdict) -> str:
    failed = next((check for check in verdict.checks if check.status == "fail"), None)
    return f"check {failed.number} ({failed.name}): {failed.message}" if failed else "it does not verify"
