"""One of the two runs that are compared: its manifest, verified first, and whatever of its files is available."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ndrepro.analysis.comparison.program_trails import observed
from ndrepro.analysis.content_checks import content_checks
from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.program_record import ProgramRecord
from ndrepro.protocol.run_kind import PROGRAM, run_kind
from ndrepro.protocol.training_record import TrainingRecord
from provenance.attestation.dsse import read_envelope
from provenance.attestation.manifest import Manifest
from provenance.attestation.statement import Statement
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verdict import Verdict
from provenance.attestation.verify import verify
from provenance.comparison.groups import result_names
from provenance.errors import DigestError, ProvenanceError
from provenance.formats.bounded_read import read_bounded
from provenance.formats.digest import file_digest

TRAIL, METRICS, WEIGHTS = (
    path.name for path in (RunFolder(Path()).trail, RunFolder(Path()).metrics, RunFolder(Path()).weights)
)


@dataclass(frozen=True)
class Side:
    """One of the two runs.

    Attributes:
        path: as it was given.
        folder: None where there is only a manifest.
        manifest: None where there is none that can be read.
        signer: who signed the manifest; None where it does not verify, a file is not the one that was signed, or the
            files contradict it.
        results: digests of the results, by name.
        problems: what is wrong, in words.
        changed: names of the files that are not those that were signed.
        whole: whether the run verifies with every file; False too where only the manifest is available.
    """

    path: Path
    folder: RunFolder | None
    manifest: Manifest | None
    signer: str | None
    results: Mapping[str, str]
    problems: tuple[str, ...]
    changed: tuple[str, ...] = ()
    whole: bool = False

    @property
    def status(self) -> str:
        """The strongest statement that the checks allow of the run, for a reader."""
        if self.changed:
            return "CHANGED AFTER SIGNING"
        if self.signer is None:
            return "NOT VERIFIED"
        return f"{'verified' if self.whole else 'manifest verified'}, signed by {self.signer}"

    @property
    def name(self) -> str:
        """The experiment's name, the recorded one before that of the folder."""
        recorded = TrainingRecord.of(self.manifest).name if self.manifest else ""
        return str(recorded or (self.folder.root.absolute().parent.name if self.folder else self.path.name))

    @property
    def is_program(self) -> bool:
        """Whether it is a recorded program, which has no experiment."""
        return self.manifest is not None and run_kind(self.manifest) == PROGRAM

    @property
    def run(self) -> str:
        """The run's identifier."""
        return self.manifest.invocation_id if self.manifest else self.path.absolute().name

    def to_json(self) -> dict[str, Any]:
        """Which run it is, and whether it verifies; not the manifest itself."""
        return {
            "path": str(self.path.absolute()),
            "name": self.name,
            "run": self.run,
            "outcome": self.manifest.outcome if self.manifest else None,
            "verified": self.signer is not None,
            "every_file_verified": self.whole,
            "changed": self.changed,
            "signer": self.signer,
            "problems": self.problems,
        }


def read_side(path: Path, trust: TrustPolicy) -> Side:
    """Read a run folder, or the file of a manifest under any name.

    Raises NdreproError where there is neither.
    """
    manifest_path = RunFolder(path).manifest if path.is_dir() else path
    if not path.is_dir() and not path.is_file():
        raise NdreproError(f"{path}: neither a run folder nor a manifest", "`ndrepro list` has the runs")
    folder = RunFolder(manifest_path.parent) if manifest_path == RunFolder(manifest_path.parent).manifest else None
    if not manifest_path.is_file():
        problem = "there is no manifest: the run is still running, or was killed with its recorder"
        return _unsigned(Side(path, folder, None, None, {}, (problem,)))

    place = folder.root if folder else manifest_path
    ledger = None if folder is None else folder.ledger
    verdict = verify(place, trust=trust, ledger=ledger, manifest_only=folder is None, extra_checks=content_checks)
    if verdict.manifest is not None and verdict.manifest_ok:
        return _signed(path, folder, verdict, verdict.manifest)
    failure = verdict.failure
    problems = [f"the manifest does not verify: {failure.name}: {failure.message}"] if failure else []
    manifest, changed = _unverified(manifest_path, trust, problems)
    return _unsigned(Side(path, folder, manifest, None, {}, tuple(problems), changed))


def _signed(path: Path, folder: RunFolder | None, verdict: Verdict, manifest: Manifest) -> Side:
    """A run whose manifest verifies. The digests are those that were signed, but for files that are others now."""
    names = recorded_results(manifest)
    results = {item.path: item.sha256 for item in manifest.artifacts if item.path in names}
    changed = verdict.changed
    if folder is not None:
        # a result that was put there later is no better than one that was changed
        changed += tuple(name for name in names if name not in results and os.path.lexists(folder.root / name))
        results |= {name: _digest(folder.root / name) for name in changed if name in names}
    problems = tuple(check.message for check in verdict.checks if check.status == "fail")
    contradicted = any(check.number > 8 and check.status == "fail" for check in verdict.checks)
    signer = None if changed or contradicted else verdict.signer
    return Side(path, folder, manifest, signer, results, problems, changed, verdict.ok and folder is not None)


def _unsigned(side: Side) -> Side:
    """A run that nobody trusted signed: its results as they are, compared with its manifest's claims."""
    claimed = {item.path: item.sha256 for item in side.manifest.artifacts} if side.manifest else {}
    names = recorded_results(side.manifest)
    results = {name: claimed[name] for name in names if name in claimed}
    if side.folder is None:
        return replace(side, results=results)
    files = {name: side.folder.root / name for name in names}
    results |= {name: _digest(file) for name, file in files.items() if file.is_file()}
    changed = tuple(name for name in results if results[name] != claimed.get(name, results[name]))
    problems = [f"{name} is not the file that its manifest names" for name in changed]
    problems += [f"{name} is not there any more" for name in claimed if name in files and not files[name].is_file()]
    return replace(side, results=results, problems=(*side.problems, *problems), changed=(*side.changed, *changed))


def _unverified(path: Path, trust: TrustPolicy, problems: list[str]) -> tuple[Manifest | None, tuple[str, ...]]:
    """The manifest as it is, None with a further problem where it cannot be read; and its name if changed.

    A stranger's signature is no sign of a change; a trusted key that is named and did not sign is one.
    """
    changed: tuple[str, ...] = ()
    try:
        _, payload, signatures = read_envelope(read_bounded(path, follow_symlinks=True))
        if any(trust.name_of(claimed) for claimed, _ in signatures):
            changed = (path.name,)
        return Statement.from_bytes(payload).manifest, changed
    except (ProvenanceError, OSError) as error:
        if not problems or str(error) not in problems[-1]:
            problems.append(f"the manifest cannot be read: {error}")
        return None, changed


def _digest(path: Path) -> str:
    try:
        return file_digest(path).sha256
    except DigestError as error:
        return f"unreadable: {error.message}"  # equal to no digest


def recorded_results(*manifests: Manifest | None) -> tuple[str, ...]:
    """The files that are results: a training's own, or all that another recorded script or program left."""
    others = [manifest for manifest in manifests if manifest and not TrainingRecord.of(manifest).is_training]
    names = (name for manifest in others for name in _left_by(manifest))
    return tuple(dict.fromkeys(names)) if others else (TRAIL, METRICS, WEIGHTS)


def _left_by(manifest: Manifest) -> tuple[str, ...]:
    """What a script or program left; of a program metrics and the copies of its outputs, whose trails are compared."""
    if run_kind(manifest) != PROGRAM:
        return result_names(manifest)
    copies = [file.copy for file in ProgramRecord.of(manifest).outputs if file.copy]
    names = {item.path for item in manifest.artifacts}
    return tuple(name for name in (METRICS, *copies) if name in names)


def observed_processes(side: Side, notes: list[str]) -> dict[str, Any]:
    """What was seen of a program's processes; empty for other runs, and where only the manifest is available."""
    if not side.is_program or side.folder is None:
        return {}
    try:
        return observed(side.folder)
    except ProvenanceError as error:
        notes.append(error.message)
        return {}
