"""Scores come only from verified manifests: a folder of runs, read into rows that can be counted on.

    folder ── every manifest.dsse.json ── verified ──> Score       completed, one row
                                                  ├──> Unfinished  verified; failed, interrupted or killed: counted
                                                  └──> Refused     path and reason
    ledger ── every run begun ──────────────────────── Lost        begun, and there is no manifest

A manifest counts when it is an envelope as the recorder writes it, a trusted key signed it, it is a statement of a
known schema whose subjects agree (checks 1 to 4 of ``provenance.attestation.verify``), it contradicts neither itself
(``ndrepro.analysis.results.result_row``) nor the ledger beside it (check 8), where there is one, and every file of the
run that lies beside it is the one that was signed (check 6). Files that are missing refuse no run. With ``index`` what
was verified once is not verified again while the run's folder stays as it was (``ndrepro.analysis.results.index``).

Memory does not grow with the folder: rows lie in a database on the disk, and ``Scores.rows`` reads them one by one.
"""

from __future__ import annotations

import heapq
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from ndrepro.analysis.results.begun import Begun
from ndrepro.analysis.results.examine import Refused, Unfinished
from ndrepro.analysis.results.index import Index
from ndrepro.analysis.results.listing import manifests, stamp_of
from ndrepro.analysis.results.result_row import Score
from ndrepro.analysis.results.workers import examine_all
from ndrepro.protocol.layout import RunFolder, RunsFolder
from provenance.attestation.dsse import default_home
from provenance.attestation.trust import TrustPolicy
from provenance.errors import NotFoundError, StorageError
from provenance.formats.digest import bytes_digest

if TYPE_CHECKING:
    import pandas

__all__ = ["Lost", "Refused", "Score", "Scores", "Unfinished", "read_scores"]

# called with how many manifests were verified, and of how many
Watch = Callable[[int, int], object]


@dataclass(frozen=True)
class Lost:
    """A run that the ledger has begun and that has no manifest in the folder, with what is known of it."""

    run_id: str
    name: str
    reason: str


class Rows(Sequence[Score]):
    """The scores of one or several indexes by their start: read from the disk at each walk, and never all held."""

    def __init__(self, indexes: Sequence[Index]) -> None:
        self._indexes = indexes

    @cached_property
    def _count(self) -> int:
        return sum(index.count() for index in self._indexes)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Score]:
        return heapq.merge(*(index.scores() for index in self._indexes), key=lambda row: (row.started, row.run_id))

    @overload
    def __getitem__(self, place: int) -> Score: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Score, ...]: ...
    def __getitem__(self, place: int | slice) -> Score | tuple[Score, ...]:
        """One by its number, or several. It walks there: whoever wants many walks once."""
        if isinstance(place, slice):
            return tuple(self)[place]
        number = range(len(self))[place]
        return next(islice(self, number, None))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)


@dataclass(frozen=True)
class Scores:
    """What a folder of runs, or several, hold: see the module. ``begun`` is None where a folder has no ledger."""

    rows: Sequence[Score]
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
    watch: Watch = lambda done, count: None,
) -> Scores:
    """The scores of every run below ``folders``, ordered by start.

    Args:
        folders: folders of runs, run folders, or manifest files.
        index: a file to remember in what was verified; left out, everything is verified now.
        policy: whose signatures count; left out, this user's own.
        watch: called with how many manifests of a folder have been verified, and how many are to be.

    Raises NotFoundError for a folder that is not there, StorageError where there is no room for temporary files.
    """
    given = [Path(folders)] if isinstance(folders, Path | str) else [Path(folder) for folder in folders]
    policy = TrustPolicy.load(default_home()) if policy is None else policy
    try:
        found = [
            _read_folder(folder, _index_of(index, folder, given), policy, watch) for folder in dict.fromkeys(given)
        ]
    except sqlite3.Error as error:
        raise StorageError(f"the temporary database of scores: {error}", "make room, or set TMPDIR") from error
    counts = [part.begun for part in found]
    return Scores(
        rows=Rows([part.index for part in found]),
        refused=tuple(item for part in found for item in part.refused),
        unfinished=tuple(item for part in found for item in part.unfinished),
        lost=tuple(item for part in found for item in part.lost),
        begun=None if not counts or None in counts else sum(count or 0 for count in counts),
        folders=tuple(given),
    )


@dataclass(frozen=True)
class _Read:
    """One folder, read."""

    index: Index
    refused: tuple[Refused, ...]
    unfinished: tuple[Unfinished, ...]
    lost: tuple[Lost, ...]
    begun: int | None


def _index_of(index: Path | None, folder: Path, given: list[Path]) -> Path | None:
    """The file to remember a folder in: the one that was named, or one beside it for each of several folders."""
    if index is None or len(given) == 1:
        return index
    return index.with_name(f"{index.name}-{bytes_digest(os.fsencode(folder.absolute()))[:12]}")


def _read_folder(folder: Path, remembered: Path | None, policy: TrustPolicy, watch: Watch) -> _Read:
    if not folder.exists():
        raise NotFoundError(f"{folder}: not there", "name a folder of runs, such as runs/")
    folder = folder.absolute()
    ledger = _ledger_of(folder)
    index = Index(policy, remembered)
    count, gone = index.compare(manifests(folder))
    refused = list(_verify(index, count, policy, watch))
    place = [str(folder), index.settled(stamp_of(ledger))]
    if count or gone or index.note("place") != place or remembered is None:
        missing, number = _ask(index, ledger, folder == ledger.parent, refused)
        index.save(remembered, place=place, begun=number, lost=missing)
    lost = tuple(Lost(*each) for each in index.note("lost"))
    refused += index.refused()
    refused.sort(key=lambda item: os.fsencode(item.path))
    return _Read(index, tuple(refused), tuple(index.unfinished()), lost, index.note("begun"))


def _verify(index: Index, count: int, policy: TrustPolicy, watch: Watch) -> Iterator[Refused]:
    """Verify what is new, remember it, and yield what is refused."""
    done = 0
    for batch in examine_all(index.fresh(), count, policy):
        for item in batch:
            if isinstance(item, Refused):
                yield item
            else:
                index.put(item)
        done += len(batch)
        watch(done, count)


def _ask(index: Index, ledger: Path, whole: bool, refused: Iterable[Refused]) -> tuple[list[list[str]], int | None]:
    """Hold every manifest against the ledger: the runs without one, and how many were begun.

    Both are known of the ``whole`` of a ledger's folder only.
    """
    begun = Begun(ledger)
    try:
        index.judge(begun)
        if not (whole and begun.there):
            return [], None
        known = chain(index.names(), (item.path.parent.name for item in refused))
        return [_lost(ledger.parent, *run) for run in begun.without(known)], len(begun)
    finally:
        begun.close()


def _ledger_of(folder: Path) -> Path:
    """The ledger in this folder, or beside the experiment in which a run or a manifest lies."""
    above = (folder, *folder.parents[: 3 if folder.is_file() else 2])
    root = next((place for place in above if RunsFolder(place).ledger.is_file()), folder)
    return RunsFolder(root).ledger


def _lost(root: Path, run: str, name: str, reason: str, still_open: bool) -> list[str]:
    """A run that was begun and of which there is no manifest: the fields of ``Lost``."""
    there = RunFolder(root / name / run).root.is_dir()
    if not still_open:
        why = f"ended without a manifest: {reason}" if there else "it ended, and its folder is gone"
    else:
        why = "no end yet: it runs, or was killed with its recorder" if there else "its folder is gone"
    return [run, name, why]


def _text(settings: Any) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(settings.items()))
