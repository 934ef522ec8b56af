"""A published table: named columns as numpy arrays of one length, of text, whole numbers or numbers.

A table is never changed; choosing rows makes another. Rows keep their order, groups that of their first rows. What is
computed of tables is SQL (``ndrepro.analysis.audit.claims_sql``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ndrepro.protocol.errors import UsageError, suggestion

Column = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class DataTable:
    """Named columns of one length, and what the table is called in messages."""

    name: str
    columns: Mapping[str, Column]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def __getitem__(self, column: str) -> Column:
        if column not in self.columns:
            raise UsageError(f"table '{self.name}' has no column '{column}'", suggestion(column, self.columns))
        return self.columns[column]

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows as plain values, column name -> value."""
        for values in zip(*(column.tolist() for column in self.columns.values()), strict=True):
            yield dict(zip(self.columns, values, strict=True))

    def where(self, mask: Column) -> DataTable:
        """The rows where ``mask``, a column of yes or no, says yes."""
        mask = np.asarray(mask)
        if mask.dtype != np.bool_ or mask.shape != (len(self),):
            raise UsageError(f"rows of '{self.name}' are chosen by a comparison of its columns", "e.g. epochs == 100")
        return DataTable(self.name, {name: column[mask] for name, column in self.columns.items()})

    def matching(self, **values: Any) -> DataTable:
        """The rows that have these values."""
        mask = np.ones(len(self), dtype=bool)
        for name, value in values.items():
            mask &= self[name] == value
        return self.where(mask)

    def groups(self, keys: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], DataTable]]:
        """(values of the keys, the rows that have them), in the order of their first rows."""
        places: dict[tuple[Any, ...], list[int]] = {}
        for place, key in enumerate(self.keys(keys)):
            places.setdefault(key, []).append(place)
        for key, chosen in places.items():
            yield key, DataTable(self.name, {name: column[chosen] for name, column in self.columns.items()})

    def keys(self, names: Sequence[str]) -> list[tuple[Any, ...]]:
        """The values of some columns, row by row."""
        if not names:
            return [()] * len(self)
        return list(zip(*(self[name].tolist() for name in names), strict=True))


def from_rows(name: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> DataTable:
    """A table of rows of plain values; each column gets the type that holds all of its values."""
    return DataTable(name, {column: np.asarray([row[column] for row in rows]) for column in columns})
