"""Two runs' results side by side, epoch by epoch: every value that differs in a single bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndrepro.protocol.messages import LATER_SCORES
from provenance.formats.metrics_log import Row, Scalar, read_scalars


@dataclass(frozen=True)
class RowDifference:
    """One row of results, by what it is called ("epoch 3"): every value that differs, name -> (first, second)."""

    row: str
    values: Mapping[str, tuple[Scalar, Scalar]]


@dataclass(frozen=True)
class MetricsComparison:
    """Two logs of results: their rows, every shared row that differs, the last shared row whole."""

    rows: tuple[int, int]
    differing: tuple[RowDifference, ...]
    last_shared: RowDifference | None
    notes: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        """As many rows, and every value the same to its last bit."""
        return self.rows[0] == self.rows[1] and not self.differing

    def to_json(self) -> dict[str, Any]:
        """Every field, and whether all rows are equal; NaN and infinities stay numbers."""
        return {"identical": self.identical, **vars(self)}


def compare_metrics(first: Path, second: Path) -> MetricsComparison:
    """Compare two ``metrics.jsonl``, rows by their epoch, else their step, else their place.

    Raises StorageError where one cannot be read; a torn last line is left out with a note.
    """
    logs = [read_scalars(path, tolerate_torn=True) for path in (first, second)]
    notes = tuple(
        f"the last line of the {name} run's {path.name} is torn"
        for name, path, log in zip(("first", "second"), (first, second), logs, strict=True)
        if log.torn
    )
    absent = [name for name in LATER_SCORES if not all(any(name in row for row in log) for log in logs)]
    if absent and any(name in row for name in absent for log in logs for row in log):
        notes += (f"not compared, since one run was recorded before they were: {', '.join(absent)}",)
    a, b = (_by_name([_without(row, absent) for row in log]) for log in logs)
    shared = [name for name in a if name in b]
    differing = [RowDifference(name, _different(a[name], b[name])) for name in shared]
    last = RowDifference(shared[-1], _pairs(a[shared[-1]], b[shared[-1]])) if shared else None
    return MetricsComparison((len(logs[0]), len(logs[1])), tuple(row for row in differing if row.values), last, notes)


def _without(row: Row, names: list[str]) -> Row:
    return {name: value for name, value in row.items() if name not in names}


def _by_name(rows: list[Row]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for number, row in enumerate(rows, 1):
        key = next((key for key in ("epoch", "step") if key in row), None)
        name = f"row {number}" if key is None else f"{key} {row[key]}"
        found[name if name not in found else f"{name}, row {number}"] = row
    return found


def _pairs(first: Row, second: Row) -> dict[str, tuple[Scalar, Scalar]]:
    names = dict.fromkeys([*first, *second])
    return {name: (first.get(name), second.get(name)) for name in names}


def _different(first: Row, second: Row) -> dict[str, tuple[Scalar, Scalar]]:
    # repr, since NaN is a result too, and 0.0 and -0.0 are not the same bits
    return {name: pair for name, pair in _pairs(first, second).items() if repr(pair[0]) != repr(pair[1])}
