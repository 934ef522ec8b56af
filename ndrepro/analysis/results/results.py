"""Scores come only from verified manifests: a folder of runs, read into rows that can be counted on.

    folder ── every manifest.dsse.json ── verified ──> Score       completed, one row
                                                  ├──> Unfinished  verified; failed, interrupted, killed or a segment
                                                  ├──> OtherRun    verified; a script or a recorded program
                                                  └──> Refused     path and reason
    ledger ── every run started ─────────────────────── Lost        started, and there is no manifest

A manifest counts when it is an envelope as the recorder writes it, a trusted key signed it, it is a statement of a
known schema whose subjects agree (checks 1 to 4 of ``provenance.attestation.verify``), it contradicts neither itself
(``ndrepro.analysis.results.result_row``) nor the ledger beside it (check 8), where there is one, and every file of the
run that is beside it is the one that was signed (check 6). Where they all are there, they do not contradict the
manifest either (the checks of its kind, from 9 on); else it counts by its manifest alone
(``ResultRow.files_checked``). Beside a ledger of others' runs it counts too, and how
many runs were started is then not known. Files that are missing refuse no run. With ``cache`` what
was verified once is not verified again while the run's folder stays as it was (``manifest_cache``).

A training counts once (``once_each``). Trail, states or weights that are, by digest, those of a run with other seeds
of initial weights or data order are a contradiction: the run that started later is refused. The same seeds again are a
re-execution, and so is a run that differs in seeds of other streams only and gave the same bits: ``Results.distinct``
separates them, for statistics.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndrepro.analysis.results.examine import SEGMENT, Examined, OtherRun, Refused, Unfinished
from ndrepro.analysis.results.manifest_cache import ManifestCache
from ndrepro.analysis.results.result_row import ResultRow
from ndrepro.analysis.results.verification import ReadLedger, Watch, examine_folder
from ndrepro.analysis.run_cost import RunCost, TotalCost, total
from ndrepro.protocol.layout import RunFolder, RunsFolder
from provenance.attestation.key_home import default_home
from provenance.attestation.ledger import Ledger
from provenance.attestation.trust import TrustPolicy
from provenance.errors import LedgerError, NotFoundError
from provenance.ledger_entries.summary import LedgerRun, LedgerSummary, SignedEnd, UnrelatedLedger

if TYPE_CHECKING:
    import pandas

__all__ = ["Lost", "OtherRun", "Refused", "ResultRow", "Results", "Unfinished", "once_each", "read_results"]


@dataclass(frozen=True)
class Lost:
    """A run that the ledger has started and that has no manifest in the folder, with what is known of it."""

    run_id: str
    name: str
    reason: str


@dataclass(frozen=True)
class Results:
    """What a folder of runs, or several, hold: see the module. ``started`` is None where a folder has no ledger,
    and counts the folder's own runs where it is an experiment or a run below one.

    ``rows`` are in the order of their starts; ``segments`` were trained to their end, and have no result of their own;
    ``others`` are scripts and recorded programs. ``copies`` are the runs, among those refused, whose results are
    another run's (``once_each``). ``ledger_problems`` say why a ledger may not have all runs.
    """

    rows: tuple[ResultRow, ...]
    refused: tuple[Refused, ...] = ()
    unfinished: tuple[Unfinished, ...] = ()
    segments: tuple[Unfinished, ...] = ()
    lost: tuple[Lost, ...] = ()
    started: int | None = None
    folders: tuple[Path, ...] = ()
    copies: tuple[ResultRow, ...] = ()
    others: tuple[OtherRun, ...] = ()
    ledger_problems: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[ResultRow]:
        return iter(self.rows)

    def distinct(self) -> tuple[tuple[ResultRow, ...], tuple[ResultRow, ...]]:
        """One row for each sample (the first that was started), and its re-executions.

        A run that was run again is no second sample of its seed: statistics take the first list and say how many
        are in the second. Nor is one that drew anew a stream which moves nothing, dropout of a network without it.
        """
        first: dict[tuple[Any, ...], ResultRow] = {}
        samples: list[ResultRow] = []
        repeats: list[ResultRow] = []
        for row in sorted(self.rows, key=_by_start):
            same = [row.identity, *((*row.experiment, *row.execution_environment, digest) for digest in row.content)]
            (repeats if any(key in first for key in same) else samples).append(row)
            first |= dict.fromkeys(same, row)
        return tuple(samples), tuple(repeats)

    def frame(self) -> pandas.DataFrame:
        """One line a run: the fields of ``ResultRow`` and its cost; ``seeds`` and ``settings`` as "key=value ..."."""
        import pandas

        lines = [
            {**vars(row), **asdict(row.cost), "seeds": _text(row.seeds), "settings": _text(row.settings)}
            for row in self.rows
        ]
        columns = [*ResultRow.__dataclass_fields__, *RunCost.__dataclass_fields__]
        return pandas.DataFrame(lines, columns=columns).drop(columns="cost")

    def cost(self) -> TotalCost:
        """What all training cost that has a manifest: repeated, failed and interrupted runs and segments too."""
        kept = [row.cost for row in (*self.rows, *self.copies)]
        return total([*kept, *(run.cost for run in (*self.unfinished, *self.segments))])

    def account(self) -> dict[str, Any]:
        """How many runs were started, and their outcomes, for the head of every report."""
        return {
            "folders": [str(folder) for folder in self.folders],
            "begun": self.started,
            "ledger_problems": list(self.ledger_problems),
            "completed": len(self.rows),
            "cost": asdict(self.cost()),
            "unfinished": [
                {"run": item.run_id, "name": item.name, "outcome": item.outcome} for item in self.unfinished
            ],
            "segments": len(self.segments),
            "others": [
                {"run": item.run_id, "name": item.name, "kind": item.kind, "outcome": item.outcome}
                for item in self.others
            ],
            "without_manifest": [asdict(item) for item in self.lost],
            "refused": [{"path": str(item.path), "reason": item.reason} for item in self.refused],
        }


def read_results(
    folders: Path | str | Iterable[Path | str],
    *,
    cache: Path | None = None,
    policy: TrustPolicy | None = None,
    watch: Watch = lambda done, count: None,
) -> Results:
    """The scores of every run below ``folders``, ordered by start.

    Args:
        folders: folders of runs, run folders, or manifest files.
        cache: a file to remember in what was verified (``manifest_cache``); left out, everything is verified now.
        policy: whose signatures count; left out, this user's own.
        watch: called with how many manifests of a folder have been verified, and how many are to be.

    Raises NotFoundError for a folder that is not there, StorageError for one that cannot be listed.
    """
    given = [Path(folders)] if isinstance(folders, Path | str) else [Path(folder) for folder in folders]
    policy = TrustPolicy.load(default_home()) if policy is None else policy
    parts = []
    with closing(ManifestCache(cache, policy)) as kept:
        for folder in _outermost(given):
            if not folder.exists():
                raise NotFoundError(f"{folder}: not there", "name a folder of runs, such as runs/")
            absolute = folder.absolute()
            path = _ledger_of(absolute)
            ledger = ReadLedger(path, _read_ledger(path, kept, policy))
            found = examine_folder(absolute, policy, kept, watch, ledger=ledger)
            read = functools.cache(lambda path: _read_ledger(path, kept, policy))
            parts.append(_checked(absolute, found, ledger.path, ledger.summary, read))
    counts = [part.started for part in parts]
    rows, twofold = _one_manifest_each([row for part in parts for row in part.rows])
    rows, copies, reasons = once_each(rows)
    return Results(
        rows=rows,
        refused=(*(item for part in parts for item in part.refused), *twofold, *reasons),
        unfinished=tuple(item for part in parts for item in part.unfinished),
        segments=tuple(item for part in parts for item in part.segments),
        lost=tuple(item for part in parts for item in part.lost),
        started=None if not counts or None in counts else sum(count or 0 for count in counts),
        folders=tuple(given),
        copies=copies,
        others=tuple(item for part in parts for item in part.others),
        ledger_problems=tuple(text for part in parts for text in part.ledger_problems),
    )


def _one_manifest_each(rows: Sequence[ResultRow]) -> tuple[Sequence[ResultRow], tuple[Refused, ...]]:
    """Rows without the runs of which two folders have different manifests; and why each of those is refused."""
    digests: dict[str, set[str]] = {}
    for row in rows:
        digests.setdefault(row.run_id, {*row.manifest_digests}).intersection_update(row.manifest_digests)
    reason = "another folder has another manifest of the same run: one of the two is false"
    refused = [Refused(RunFolder(row.folder).manifest, reason) for row in rows if not digests[row.run_id]]
    return [row for row in rows if digests[row.run_id]], tuple(refused)


def once_each(rows: Iterable[ResultRow]) -> tuple[tuple[ResultRow, ...], tuple[ResultRow, ...], tuple[Refused, ...]]:
    """Rows in the order of their starts, without those whose results are those of an earlier run with other seeds.

    Two seeds of initial weights or data order never train to the same bits: one of the two runs is not what it says.
    Returns the rows that count, the copies, and why each of these is refused.
    """
    kept: list[ResultRow] = []
    copies: list[ResultRow] = []
    reasons: list[Refused] = []
    first: dict[str, ResultRow] = {}
    for row in sorted(rows, key=_by_start):
        origins = (first[digest] for digest in row.content if digest in first)
        origin = next((each for each in origins if each.drawn != row.drawn), None)
        if origin is None:
            kept.append(row)
            first |= {digest: row for digest in row.content if digest not in first}
        else:
            seeds = f"seeds {row.drawn[0]} and {row.drawn[1]} of init and order, not {origin.drawn[0]} and"
            reason = (
                f"its trail, states or weights are those of {origin.run_id}, and it records {seeds} {origin.drawn[1]}: "
                "other seeds never give the same bits, so one of the two is a copy under another seed"
            )
            copies.append(row)
            reasons.append(Refused(RunFolder(row.folder).manifest, reason))
    return tuple(kept), tuple(copies), tuple(reasons)


def _outermost(folders: Iterable[Path]) -> list[Path]:
    """Each folder once, without those inside another: a run counts once."""
    distinct = list(dict.fromkeys(folders))
    resolved = {folder: folder.resolve() for folder in distinct}
    return [
        folder
        for place, folder in enumerate(distinct)
        if not any(
            resolved[other] in resolved[folder].parents or (resolved[other] == resolved[folder] and other_place < place)
            for other_place, other in enumerate(distinct)
        )
    ]


def _by_start(row: ResultRow) -> tuple[str, str]:
    return row.started, row.run_id


def _read_ledger(path: Path, cache: ManifestCache, policy: TrustPolicy) -> LedgerSummary:
    stamp = cache.stamp(path)
    document = cache.get(path, stamp)
    if document is not None:
        return LedgerSummary.from_json(document)
    ledger = Ledger(path).summary(policy.keys())
    cache.put(path, stamp, ledger.to_json())
    return ledger


def _checked(
    folder: Path, examined: list[Examined], path: Path, ledger: LedgerSummary, read: Callable[[Path], LedgerSummary]
) -> Results:
    """One folder's manifests, each compared with the ledger at ``path`` and with those beside its run, which ``read``
    reads, as far as they have it; of several of one run the first counts, and none where they differ.
    """
    found: dict[str, Examined] = {}
    refused: list[Refused] = []
    twofold: dict[str, Refused] = {}
    unrelated = False
    for item in examined:
        if isinstance(item.result, Refused):
            refused.append(item.result)
            continue
        try:
            related = item.end is None or (ledger.exists and _is_end(ledger, item.end))
            unrelated = unrelated or not related
            for beside in RunFolder(item.path.parent).ledgers if item.end is not None else ():
                other = ledger if beside == path else read(beside)
                if item.end is not None and (not related or item.run_id in other.runs):
                    related = _is_end(other, item.end) or related
        except LedgerError as error:
            refused.append(Refused(item.path, f"its ledger: {error.message}"))
            continue
        if (first := found.setdefault(item.run_id, item)) is not item:
            refused.append(Refused(item.path, f"the same run as {first.path}"))
            if first.end and item.end and {*first.end.manifests}.isdisjoint(item.end.manifests):
                twofold[item.run_id] = Refused(first.path, f"the same run as {item.path}, with another manifest")
    refused += twofold.values()
    found = {run: item for run, item in found.items() if run not in twofold}
    results = [item.result for item in found.values()]
    others = [result for result in results if isinstance(result, Unfinished)]
    started = _started_below(folder, path.parent, ledger)
    # of a manifest that cannot be read its folder's name is all that is known
    known = {item.run_id or item.path.parent.name for item in examined}
    lost = [_lost(path.parent, name, started[name]) for name in sorted(started.keys() - known)]
    moved = bool((known & ledger.runs.keys()) - started.keys())  # started elsewhere: not all of that folder is here
    return Results(
        rows=tuple(result for result in results if isinstance(result, ResultRow)),
        refused=tuple(refused),
        unfinished=tuple(result for result in others if result.outcome != SEGMENT),
        segments=tuple(result for result in others if result.outcome == SEGMENT),
        lost=tuple(lost),
        started=len(started) if ledger.exists and not unrelated and not moved else None,
        others=tuple(result for result in results if isinstance(result, OtherRun)),
        ledger_problems=tuple(f"{path}: {text}" for text in ledger.problems),
    )


def _is_end(ledger: LedgerSummary, end: SignedEnd) -> bool:
    """Whether a manifest is how its run ended, by a ledger; not, where that is of other runs. Raises LedgerError."""
    try:
        ledger.end_of(end)
    except UnrelatedLedger:
        return False
    return True


def _started_below(folder: Path, root: Path, ledger: LedgerSummary) -> dict[str, LedgerRun]:
    """The runs that the ledger in ``root`` has as started in ``folder``: ``root`` itself, an experiment, or a run."""
    if folder == root or not ledger.runs:
        return dict(ledger.runs)
    part = (folder.parent if folder.is_file() else folder).relative_to(root)
    return {name: entry for name, entry in ledger.runs.items() if (Path(entry.name) / name).is_relative_to(part)}


def _ledger_of(folder: Path) -> Path:
    """The ledger in this folder, or beside the experiment in which a run or a manifest lies."""
    above = (folder, *folder.parents[: 3 if folder.is_file() else 2])
    root = next((place for place in above if RunsFolder(place).ledger.is_file()), folder)
    return RunsFolder(root).ledger


def _lost(root: Path, run: str, entry: LedgerRun) -> Lost:
    there = RunFolder(root / entry.name / run).root.is_dir()
    if not entry.open:
        why = f"ended without a manifest: {entry.reason}" if there else "it ended, and its folder is gone"
    else:
        why = "no end yet: it runs, or was killed with its recorder" if there else "its folder is gone"
    return Lost(run, entry.name, why)


def _text(settings: Any) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(settings.items()))
