"""A printed table against the raw data behind it, cell by cell; and where the numbers of a wrong column come from.

Each printed cell should be a statistic (the mean, say) of the raw values of its replicates. A cell agrees if it is
that number rounded to the digits printed; it is distinguished whether it was truncated instead of rounded, and whether
one digit differs from what it should be.

Where several cells of a column disagree, its origin is looked for, by computation alone, among

1. the same statistic of every other column of the raw data, and of its other quantities (``among``);
2. the statistic of any selection of as many raw columns as there are replicates, which is what a formula gives that
   refers to a wrong cell.

A candidate must give at least MINIMUM_SHARE of the column's rows. To know what that is worth, the same search is made
for the column moved down by one row, by two, and so on: ``by_chance`` is the most rows that any candidate then gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ndrepro.analysis.audit.claims import CrossCheck
from ndrepro.analysis.audit.table import DataTable
from ndrepro.protocol.errors import UsageError

STATISTICS: Mapping[str, Callable[..., Any]] = {
    "mean": np.mean,
    "median": np.median,
    "min": np.min,
    "max": np.max,
    "std": lambda values, axis: np.std(values, axis=axis, ddof=1),
}
MINIMUM_SHARE, MINIMUM_ROWS = 0.8, 3
MAX_VALUES = 5_000_000
EQUAL, TRUNCATED, DIFFERS = "equal", "truncated", "differs"
_SLACK = 1e-6  # of a unit of the last digit: sums of decimals are not exact in binary

Matrix = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class PrintedCell:
    """A printed cell that is not the rounded statistic of its raw values."""

    row: str
    printed: float
    computed: float
    how: str
    note: str = ""


@dataclass(frozen=True)
class Origin:
    """Where the numbers of a column come from: raw columns in words, the rows that they give, and what chance gives."""

    words: str
    rows: int
    of: int
    candidates: int
    by_chance: int
    others: int


@dataclass(frozen=True)
class HeadFinding:
    """One column of the printed table."""

    head: str
    rows: int
    equal: int
    cut_off: int
    cells: tuple[PrintedCell, ...]
    origin: Origin | None = None

    @property
    def differing(self) -> int:
        """How many cells are neither the rounded nor the truncated number."""
        return self.rows - self.equal - self.cut_off


@dataclass(frozen=True)
class CrossFinding:
    """A whole cross-check."""

    check: CrossCheck
    heads: tuple[HeadFinding, ...]

    @property
    def cells(self) -> int:
        """How many cells were compared."""
        return sum(head.rows for head in self.heads)

    @property
    def differing(self) -> int:
        """How many of them differ."""
        return sum(head.differing for head in self.heads)

    @property
    def agrees(self) -> bool:
        """Whether no cell differs."""
        return self.differing == 0


@dataclass(frozen=True)
class _Raw:
    """Raw values as a matrix, a line for each row of the printed table; a name and a replicate for each column."""

    matrix: Matrix
    columns: tuple[tuple[str, tuple[Any, ...], Any], ...]  # (quantity, head, replicate)


def cross_check(check: CrossCheck, tables: Mapping[str, DataTable], decimals: int) -> CrossFinding:
    """Compare a printed column with raw data; ``decimals`` are the digits printed behind the point.

    Raises UsageError where a printed cell has no raw values, or replicates are unequal in number.
    """
    if check.statistic not in STATISTICS:
        raise UsageError(
            f"crosscheck {check.name}: no statistic '{check.statistic}'", f"one of {', '.join(STATISTICS)}"
        )
    printed, raw = tables[check.printed], tables[check.raw]
    rows = list(dict.fromkeys(printed[check.row].tolist()))
    gathered = _gather(check, raw, rows)
    unit = 10.0**-decimals
    heads = []
    for head, part in printed.groups(check.heads):
        values = dict(zip(part[check.row].tolist(), part[check.column].tolist(), strict=True))
        column = np.asarray([values.get(row, np.nan) for row in rows], dtype=np.float64)
        own = [place for place, (name, at, _) in enumerate(gathered.columns) if (name, at) == (check.values, head)]
        if not own:
            raise UsageError(f"crosscheck {check.name}: '{check.raw}' has nothing for {_head(head)}", "complete it")
        computed = STATISTICS[check.statistic](gathered.matrix[:, own], axis=1)
        heads.append(_head_finding(check, head, rows, column, computed, gathered, own, unit))
    return CrossFinding(check, tuple(heads))


def _gather(check: CrossCheck, raw: DataTable, rows: Sequence[Any]) -> _Raw:
    places = {row: place for place, row in enumerate(rows)}
    quantities = (check.values, *check.among)
    found: dict[tuple[str, tuple[Any, ...], Any], Matrix] = {}
    for line in raw.rows():
        if line[check.row] not in places:
            continue
        head = tuple(line[name] for name in check.heads)
        for quantity in quantities:
            column = found.setdefault((quantity, head, line[check.replicate]), np.full(len(rows), np.nan))
            column[places[line[check.row]]] = line[quantity]
    matrix = np.stack(list(found.values()), axis=1)
    if np.isnan(matrix).any():
        place, column = np.argwhere(np.isnan(matrix))[0]
        _, head, replicate = list(found)[column]
        which = f"{check.replicate} {replicate} of {rows[place]} {_head(head)}"
        raise UsageError(f"crosscheck {check.name}: '{check.raw}' has no {which}", "replicates must be complete")
    return _Raw(matrix, tuple(found))


def _head_finding(
    check: CrossCheck,
    head: tuple[Any, ...],
    rows: Sequence[Any],
    column: Matrix,
    computed: Matrix,
    raw: _Raw,
    own: list[int],
    unit: float,
) -> HeadFinding:
    present = np.isfinite(column)
    how = [_how(p, c, unit) for p, c in zip(column[present], computed[present], strict=True)]
    cells = tuple(
        PrintedCell(str(row), float(p), float(c), word, _digits(p, c, unit) if word == DIFFERS else "")
        for row, p, c, word in zip(np.asarray(rows)[present], column[present], computed[present], how, strict=True)
        if word != EQUAL
    )
    differing = how.count(DIFFERS)
    origin = _origin(check, column, raw, own, unit) if differing >= 2 and present.all() else None
    if origin is not None and origin.rows <= len(how) - differing:
        origin = None
    return HeadFinding(_head(head), len(how), how.count(EQUAL), how.count(TRUNCATED), cells, origin)


def _how(printed: float, computed: float, unit: float) -> str:
    if abs(printed - computed) <= unit * (0.5 + _SLACK):
        return EQUAL
    cut = math.floor(abs(computed) / unit + _SLACK) * unit
    return TRUNCATED if abs(abs(printed) - cut) <= unit * _SLACK * 10 else DIFFERS


def _digits(printed: float, computed: float, unit: float) -> str:
    """Says where one digit, or two that are exchanged, make the difference."""
    places = max(0, round(-math.log10(unit)))
    a, b = f"{printed:.{places}f}", f"{computed:.{places}f}"
    differing = [place for place, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]]
    if len(a) != len(b):
        return ""
    if len(differing) == 1 and differing[0] < len(a) - 1:
        return "one digit differs"
    exchanged = len(differing) == 2 and a[differing[0]] == b[differing[1]] and a[differing[1]] == b[differing[0]]
    return "two digits are exchanged" if exchanged else ""


def _origin(check: CrossCheck, column: Matrix, raw: _Raw, own: list[int], unit: float) -> Origin | None:
    """The best candidate for the whole column, other columns before selections of single raw columns."""
    for search in (_whole_columns, _selections):
        chosen, values = search(check, raw, len(own))
        if not len(values):
            continue
        needed = max(MINIMUM_ROWS, math.ceil(MINIMUM_SHARE * len(column)))
        rounded, near = _hits(values, column, unit * (0.5 + _SLACK)), _hits(values, column, unit * (1 + _SLACK))
        if near.max() < needed:
            continue
        best_rounded = rounded[near == near.max()].max()
        equals = np.flatnonzero((near == near.max()) & (rounded == best_rounded))
        best = max(equals.tolist(), key=lambda place: _shared(raw, chosen[place], own))
        others = len(equals) - 1
        return Origin(
            _words(check, raw, chosen[best]),
            int(near[best]),
            len(column),
            len(chosen),
            _by_chance(values, column, unit),
            others,
        )
    return None


def _whole_columns(check: CrossCheck, raw: _Raw, count: int) -> tuple[list[tuple[int, ...]], Matrix]:
    groups: dict[tuple[str, tuple[Any, ...]], list[int]] = {}
    for place, (quantity, head, _) in enumerate(raw.columns):
        groups.setdefault((quantity, head), []).append(place)
    chosen = [tuple(places) for places in groups.values()]
    return chosen, np.stack([STATISTICS[check.statistic](raw.matrix[:, places], axis=1) for places in chosen])


def _selections(check: CrossCheck, raw: _Raw, count: int) -> tuple[list[tuple[int, ...]], Matrix]:
    if math.comb(len(raw.columns), count) * len(raw.matrix) > MAX_VALUES:
        return [], np.empty((0, 0))
    chosen = list(combinations(range(len(raw.columns)), count))
    values = STATISTICS[check.statistic](raw.matrix[:, np.asarray(chosen)], axis=2).T
    return chosen, values


def _hits(values: Matrix, column: Matrix, within: float) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.asarray(np.sum(np.abs(values - column) <= within, axis=1))


def _by_chance(values: Matrix, column: Matrix, unit: float) -> int:
    rotated = (np.roll(column, by) for by in range(1, len(column)))
    return max((int(_hits(values, order, unit * (1 + _SLACK)).max()) for order in rotated), default=0)


def _shared(raw: _Raw, pick: tuple[int, ...], own: list[int]) -> float:
    """How near a selection is to what should have been selected: the same columns, then the same quantity and head."""
    same = len(set(pick) & set(own))
    mine = raw.columns[own[0]]
    kin = sum(
        (raw.columns[place][0] == mine[0]) + sum(a == b for a, b in zip(raw.columns[place][1], mine[1], strict=True))
        for place in pick
    )
    return same * 100 + kin


def _words(check: CrossCheck, raw: _Raw, pick: tuple[int, ...]) -> str:
    by: dict[tuple[str, tuple[Any, ...]], list[Any]] = {}
    for place in pick:
        quantity, head, replicate = raw.columns[place]
        by.setdefault((quantity, head), []).append(replicate)
    full: dict[tuple[str, tuple[Any, ...]], list[Any]] = {}
    for quantity, head, replicate in raw.columns:
        full.setdefault((quantity, head), []).append(replicate)
    parts = []
    for (quantity, head), replicates in by.items():
        which = (
            "" if replicates == full[quantity, head] else f", {check.replicate} {' and '.join(map(str, replicates))}"
        )
        parts.append(f"{quantity} of {_head(head)}{which}")
    return f"{check.statistic} of " + " with ".join(parts)


def _head(head: tuple[Any, ...]) -> str:
    return " ".join(str(part) for part in head)
