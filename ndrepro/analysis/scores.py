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
from ndrepro.analysis.examine import Examined, Refused, Unfinished, examine_all
from ndrepro.analysis.extract import Score
from ndrepro.analysis.index import Index, Stamp, stamp_of
from ndrepro.spec.layout import RunFolder, RunsFolder
from provenance.digest import bytes_digest
from provenance.errors import StorageError, UsageError
from provenance.folder import MANIFEST
from provenance.signing import default_home
from provenance.trust import TrustPolicy

if TYPE_CHECKING:
    import pandas

__all__ = ["Lost", "Refused", "Score", "Scores", "Unfinished", "read_scores"]

# runs/EXPERIMENT/RUN: a folder of kept runs may lie one deeper
_DEPTH = 4


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
        deep: hash every file of every run too; nothing is remembered then.

    Raises UsageError for a folder that is not there.
    """
    given = [Path(folders)] if isinstance(folders, Path | str) else [Path(folder) for folder in folders]
    policy = TrustPolicy.load(default_home()) if policy is None else policy
    found = [_read_folder(folder, _index_of(index, folder, given), policy, deep) for folder in dict.fromkeys(given)]
    counts = [scores.begun for scores in found]
    return Scores(
        rows=tuple(sorted((row for scores in found for row in scores.rows), key=lambda row: (row.started, row.run_id))),
        refused=tuple(item for scores in found for item in scores.refused),
        unfinished=tuple(item for scores in found for item in scores.unfinished),
        lost=tuple(item for scores in found for item in scores.lost),
        begun=None if not counts or None in counts else sum(count or 0 for count in counts),
        folders=tuple(given),
    )


def _index_of(index: Path | None, folder: Path, given: list[Path]) -> Path | None:
    """The file to remember a folder in: the one that was named, or one beside it for each of several folders."""
    if index is None or len(given) == 1:
        return index
    return index.with_name(f"{index.name}-{bytes_digest(os.fsencode(folder.absolute()))[:12]}")


def _read_folder(folder: Path, index: Path | None, policy: TrustPolicy, deep: bool) -> Scores:
    if not folder.exists():
        raise UsageError(f"{folder}: not there", "name a folder of runs, such as runs/")
    folder = folder.absolute()
    ledger = _ledger_of(folder)
    known = Index() if index is None or deep else Index.load(index, policy)
    stamps = dict(manifests(folder))
    fresh = [Path(path) for path, stamp in stamps.items() if path not in known.rows or known.rows[path][0] != stamp]
    found = {path: known.rows[path][1] for path in stamps if path in known.rows and known.rows[path][0] == stamps[path]}
    for examined in examine_all(fresh, policy, deep):
        found[examined.path] = examined
    ledger_stamp = stamp_of(ledger)
    whole = folder == ledger.parent
    unchanged = not fresh and len(known.rows) == len(stamps) and known.ledger == ledger_stamp
    begun = None if unchanged else Begun.read(ledger)
    judged = [_against_ledger(found[path], begun) for path in stamps]
    refused = [item.result for item in judged if isinstance(item.result, Refused)]
    twins, kept = _once([item for item in judged if not isinstance(item.result, Refused)])
    count, lost = known.begun, [Lost(*each) for each in known.lost]
    if begun is not None:
        count = len(begun.runs) if begun.there and whole else None
        lost = _lost(ledger.parent, begun, found.values()) if whole else []
        if index is not None and not deep:
            rows = {item.path: (stamps[item.path], item) for item in kept}
            entries = [[item.run_id, item.name, item.reason] for item in lost]
            Index(rows, ledger_stamp, count, entries).save(index, policy)
    return Scores(
        tuple(item.result for item in kept if isinstance(item.result, Score)),
        (*refused, *twins),
        tuple(item.result for item in kept if isinstance(item.result, Unfinished)),
        tuple(lost),
        count,
    )


def _against_ledger(examined: Examined, begun: Begun | None) -> Examined:
    """The same, refused where the ledger says otherwise; ``None`` where it has been asked before."""
    if begun is None or isinstance(examined.result, Refused):
        return examined
    problem = begun.against(examined.run_id, examined.began, examined.digest, examined.outcome)
    return replace(examined, result=Refused(Path(examined.path), problem)) if problem else examined


def _once(judged: Iterable[Examined]) -> tuple[list[Refused], list[Examined]]:
    """Every run once: copies of a run, and those that are not."""
    seen: dict[str, Examined] = {}
    copies = []
    for item in judged:
        first = seen.setdefault(item.run_id, item)
        if first is not item:
            copies.append(Refused(Path(item.path), f"the same run as {first.path}"))
    return copies, list(seen.values())


def manifests(folder: Path) -> Iterator[tuple[str, Stamp]]:
    """Every run's manifest at or below a folder, with its file's stamp.

    Manifests of a run's earlier attempts lie inside it and are left there.

    Raises StorageError for a folder that cannot be listed.
    """
    if folder.is_file():
        stamp = stamp_of(folder)
        if stamp is not None:
            yield str(folder), stamp
        return
    yield from _walk(str(folder), _DEPTH)


def _walk(folder: str, depth: int) -> Iterator[tuple[str, Stamp]]:
    manifest = f"{folder}/{MANIFEST}"
    stamp = stamp_of(manifest)
    if stamp is not None:
        yield manifest, stamp
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


def _ledger_of(folder: Path) -> Path:
    """The ledger in this folder, or beside the experiment in which a run or a manifest lies."""
    above = (folder, *folder.parents[: 3 if folder.is_file() else 2])
    root = next((place for place in above if RunsFolder(place).ledger.is_file()), folder)
    return RunsFolder(root).ledger


def _lost(root: Path, begun: Begun, found: Iterable[Examined]) -> list[Lost]:
    """Runs that were begun and of which there is no manifest."""
    known = {name for item in found for name in (item.run_id, os.path.basename(os.path.dirname(item.path)))}
    lost = []
    for run, entry in begun.runs.items():
        if run in known:
            continue
        there = RunFolder(root / entry.name / run).root.is_dir()
        if not entry.open:
            reason = f"ended without a manifest: {entry.reason}" if there else "it ended, and its folder is gone"
        else:
            reason = "no end yet: it runs, or was killed with its recorder" if there else "its folder is gone"
        lost.append(Lost(run, entry.name, reason))
    return lost


def _text(settings: Any) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(settings.items()))
