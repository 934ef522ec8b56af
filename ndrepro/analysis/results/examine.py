"""One run looked at on its own: manifest and files verified, and what the manifest says taken out of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ndrepro.analysis.results.result_row import NoScore, Score, experiment_of, score_of
from provenance.attestation.manifest import Manifest
from provenance.attestation.run_files import MANIFEST
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


def examine(path: Path, policy: TrustPolicy) -> Examined:
    """Verify one manifest and the files beside it, and take its score out of it. Never raises for what they are.

    Refused is what is not what was signed: a manifest that does not verify, or a file of the run that was changed.
    A file that is missing, or that was added, refuses no run: manifests are handed on alone, too.
    """
    in_folder = path.name == MANIFEST
    verdict = verify(path.parent if in_folder else path, trust=policy, manifest_only=not in_folder)
    manifest, digest, signer = verdict.manifest, verdict.digest, verdict.signer
    if manifest is None or digest is None or signer is None or not verdict.manifest_ok or verdict.changed:
        return Examined(str(path), Refused(path, _failure(verdict)))
    result: Score | Unfinished | Refused
    try:
        run = _identifier(manifest)
        if manifest.outcome == "completed":
            result = score_of(manifest, path.parent, verdict)
        else:
            result = Unfinished(run, path.parent, experiment_of(manifest).name, manifest.outcome, signer)
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
    # a changed file before one that is missing
    failed = next((check for check in verdict.checks if check.number == 6 and verdict.changed), verdict.failure)
    return f"check {failed.number} ({failed.name}): {failed.message}" if failed else "it does not verify"
