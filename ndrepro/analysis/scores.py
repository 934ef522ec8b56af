"""Scores come only from verified manifests: a folder of runs, read into rows that can be counted on.

    folder ── every manifest.dsse.json ── verified ──> Score       completed, one row
                                                  ├──> Unfinished  verified; failed, interrupted or killed: counted
                                                  └──> Refused     path and reason
    ledger ── every run begun ──────────────────────── Lost        begun, and there is no manifest

A manifest counts when it is an envelope as the recorder writes it, a trusted key signed it, it is a statement of a
known schema whose subjects agree (checks 1 to 4 of ``provenance.verify``), it contradicts neither itself
(``ndrepro.analysis.extract``) nor the ledger beside it (check 8), where there is one. The other files of a run are
not read but for the clock; ``deep`` has every one of them hashed too (checks 5 to 7). With ``index`` what was
verified once is not verified again while its file stays as it was (``ndrepro.analysis.index``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndrepro.analysis.begun import Begun
from ndrepro.analysis.extract import NoScore, Score, experiment_of, score_of
from ndrepro.spec.layout import RunFolder, RunsFolder
from provenance.digest import bytes_digest
from provenance.errors import StorageError, UsageError
from provenance.folder import MANIFEST
from provenance.signing import default_home
from provenance.trust import TrustPolicy
from provenance.verify import Verdict, verify

if TYPE_CHECKING:
    import pandas

__all__ = ["Lost", "Refused", "Score", "Scores", "Unfinished", "read_scores"]

# runs/EXPERIMENT/RUN: a folder of kept runs may lie one deeper
_DEPTH = 4


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
class Lost:
    """A run that the ledger has begun and that has no manifest in the folder, with what is known of it."""

    run_id: str
    name: str
    reason: str


@dataclass(frozen=True)
class Scores:
    """What a folder of runs, or several, hold: see the module. ``begun`` is None where a folder has no ledger."""

    rows: tuple[Score, ...]
    refused: tuple[Refused, ...] = ()
    unfinished: tuple[Unfinished, ...] = ()
    lost: tuple[Lost, ...] = ()
    begun: int | None = None
    folders: tuple[Path, ...] = ()

    def distinct(self) -> tuple[tuple[Score, ...], tuple[Score, ...]]:
        """One row for each identity (the first that was started), and the repeats of those.

        A run that was run again is no second sample of its seed: statistics take the first list and say how many
        are in the second.
        """
        first: dict[tuple[Any, ...], Score] = {}
        repeats = []
        for row in sorted(self.rows, key=lambda row: (row.started, row.run_id)):
            if first.setdefault(row.identity, row) is not row:
                repeats.append(row)
        return tuple(first.values()), tuple(repeats)

    def frame(self) -> pandas.DataFrame:
        """One line a run, the fields of ``Score`` as columns; ``seeds`` and ``settings`` as text "key=value ..."."""
        import pandas

        lines = [{**vars(row), "seeds": _text(row.seeds), "settings": _text(row.settings)} for row in self.rows]
        return pandas.DataFrame(lines, columns=list(Score.__dataclass_fields__))

    def account(self) -> dict[str, Any]:
        """How many runs were begun, and what became of them, for the head of every report."""
        return {
            "folders": [str(folder) for folder in self.folders],
            "begun": self.begun,
            "completed": len(self.rows),
            "unfinished": [
                {"run": item.run_id, "name": item.name, "outcome": item.outcome} for item in self.unfinished
            ],
            "without_manifest": [asdict(item) for item in self.lost],
            "refused": [{"path": str(item.path), "reason": item.reason} for item in self.refused],
        }


def read_scores(
    folders: Path | str | Iterable[Path | str],
    *,
    index: Path | None = None,
    policy: TrustPolicy | None = None,
    deep: bool = False,
) -> Scores:
    """The scores of every run below ``folders``, ordered by start.

    Args:
        folders: folders of runs, run folders, or manifest files.
        index: a file to remember in what was verified; left out, everything is verified now.
        policy: whose signatures count; left out, this user's own.
        deep: hash every file of every run too. Nothing is remembered then.

    Raises UsageError for a folder that is not there.
    """
    given = [Path(folders)] if isinstance(folders, Path | str) else [Path(folder) for folder in folders]
    policy = TrustPolicy.load(default_home()) if policy is None else policy
    found = [_read_folder(folder, index, policy, deep) for folder in dict.fromkeys(given)]
    counts = [scores.begun for scores in found]
    return Scores(
        rows=tuple(sorted((row for scores in found for row in scores.rows), key=lambda row: (row.started, row.run_id))),
        refused=tuple(item for scores in found for item in scores.refused),
        unfinished=tuple(item for scores in found for item in scores.unfinished),
        lost=tuple(item for scores in found for item in scores.lost),
        begun=None if not counts or None in counts else sum(count or 0 for count in counts),
        folders=tuple(given),
    )


@dataclass(frozen=True)
class Examined:
    """One manifest looked at on its own: what it is, and what the ledger is to be asked about it."""

    path: Path
    result: Score | Unfinished | Refused
    run_id: str = ""
    began: tuple[int, str] = (0, "")
    digest: str = ""
    outcome: str = ""
    keyid: str = ""


def examine(path: Path, policy: TrustPolicy, deep: bool = False) -> Examined:
    """Verify one manifest, and take its score out of it. Never raises for what the manifest is."""
    try:
        digest = bytes_digest(path.read_bytes())
    except OSError as error:
        return Examined(path, Refused(path, f"cannot be read ({error.strerror})"))
    verdict = verify(path.parent if deep else path, trust=policy, manifest_only=not deep)
    manifest = verdict.manifest
    if manifest is None or not verdict.ok or verdict.signer is None:
        return Examined(path, Refused(path, _failure(verdict)))
    result: Score | Unfinished | Refused
    try:
        if manifest.outcome == "completed":
            result = score_of(manifest, path.parent, verdict.signer, digest)
        else:
            name = experiment_of(manifest).name
            result = Unfinished(manifest.invocation_id, path.parent, name, manifest.outcome, verdict.signer)
    except NoScore as error:
        result = Refused(path, error.message)
    began = manifest.ledger.sequence, manifest.ledger.digest
    return Examined(path, result, manifest.invocation_id, began, digest, manifest.outcome)


def _failure(verdict: Verdict) -> str:
    failed = next((check for check in verdict.checks if check.status == "fail"), None)
    return f"check {failed.number} ({failed.name}): {failed.message}" if failed else "it does not verify"


def _read_folder(folder: Path, index: Path | None, policy: TrustPolicy, deep: bool) -> Scores:
    if not folder.exists():
        raise UsageError(f"{folder}: not there", "name a folder of runs, such as runs/")
    root, paths = _runs_root(folder), sorted(manifests(folder))
    begun = Begun.read(RunsFolder(root).ledger)
    whole = folder == root
    rows: list[Score] = []
    refused: list[Refused] = []
    unfinished: list[Unfinished] = []
    seen: dict[str, Path] = {}
    for examined in [examine(path, policy, deep) for path in paths]:
        result = examined.result
        if not isinstance(result, Refused):
            problem = begun.against(examined.run_id, examined.began, examined.digest, examined.outcome)
            if not problem and seen.setdefault(examined.run_id, examined.path) != examined.path:
                problem = f"the same run as {seen[examined.run_id]}"
            result = Refused(examined.path, problem) if problem else result
        if isinstance(result, Score):
            rows.append(result)
        elif isinstance(result, Unfinished):
            unfinished.append(result)
        else:
            refused.append(result)
    known = {path.parent.name for path in paths} | set(seen)
    lost = [_lost(root, run, begun) for run in begun.runs if whole and run not in known]
    count = len(begun.runs) if begun.there and whole else None
    return Scores(tuple(rows), tuple(refused), tuple(unfinished), tuple(lost), count)


def manifests(folder: Path) -> Iterator[Path]:
    """Every run's manifest at or below a folder. Those of a run's earlier attempts lie inside it and are left there."""
    if folder.is_file():
        yield folder
        return
    yield from _walk(str(folder), _DEPTH)


def _walk(folder: str, depth: int) -> Iterator[Path]:
    manifest = os.path.join(folder, MANIFEST)
    if os.path.lexists(manifest):
        yield Path(manifest)
        return
    if not depth or os.path.lexists(os.path.join(folder, "request.json")):
        return
    try:
        with os.scandir(folder) as entries:
            inside = sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError as error:
        raise StorageError(f"{folder}: cannot be listed ({error.strerror})") from None
    for path in inside:
        yield from _walk(path, depth - 1)


def _runs_root(folder: Path) -> Path:
    """The folder that has the ledger: this one, or that in which a run or a manifest lies."""
    above = (folder, *folder.absolute().parents[: 3 if folder.is_file() else 2])
    return next((place for place in above if RunsFolder(place).ledger.is_file()), folder)


def _lost(root: Path, run: str, begun: Begun) -> Lost:
    entry = begun.runs[run]
    there = RunFolder(root / entry.name / run).root.is_dir()
    if not entry.open:
        reason = f"ended without a manifest: {entry.reason}" if there else "it ended, and its folder is gone"
    else:
        reason = "no end yet: it runs, or was killed with its recorder" if there else "its folder is gone"
    return Lost(run, entry.name, reason)


def _text(settings: Any) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(settings.items()))


def moved(examined: Examined, signer: str) -> Examined:
    """The same with the name that its signer goes by now."""
    result = examined.result
    return examined if isinstance(result, Refused) else replace(examined, result=replace(result, signer=signer))
