"""A small table of named columns, and the few things that are done with tables of a paper.

Columns are numpy arrays of one length: text, whole numbers, numbers, yes or no. A table is never changed; every
operation makes another. Rows keep their order, and groups and headings come in the order in which they first appear.
What cannot be done without guessing (an unknown column, a pivot with two values for one place, a join that is not one
row to one row) is a UsageError that names it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ndrepro.protocol.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

Column = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Table:
    """Named columns of one length, and what the table is called in messages."""

    name: str
    columns: Mapping[str, Column]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def __getitem__(self, column: str) -> Column:
        if column not in self.columns:
            raise UsageError(f"table '{self.name}' has no column '{column}'", nearest(column, self.columns))
        return self.columns[column]

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows as plain values, column name -> value."""
        for values in zip(*(column.tolist() for column in self.columns.values()), strict=True):
            yield dict(zip(self.columns, values, strict=True))

    def where(self, mask: Column) -> Table:
        """The rows where ``mask``, a column of yes or no, says yes."""
        mask = np.asarray(mask)
        if mask.dtype != np.bool_ or mask.shape != (len(self),):
            raise UsageError(f"rows of '{self.name}' are chosen by a comparison of its columns", "e.g. epochs == 100")
        return Table(self.name, {name: column[mask] for name, column in self.columns.items()})

    def matching(self, **values: Any) -> Table:
        """The rows that have these values."""
        mask = np.ones(len(self), dtype=bool)
        for name, value in values.items():
            mask &= self[name] == value
        return self.where(mask)

    def select(self, names: Iterable[str]) -> Table:
        """These columns only."""
        return Table(self.name, {name: self[name] for name in names})

    def extend(self, columns: Mapping[str, Column]) -> Table:
        """With further columns, or others in place of those of the same name."""
        full = {name: np.broadcast_to(np.asarray(column), (len(self),)) for name, column in columns.items()}
        return Table(self.name, {**self.columns, **full})

    def groups(self, keys: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], Table]]:
        """(values of the keys, the rows that have them), in the order of their first rows."""
        places: dict[tuple[Any, ...], list[int]] = {}
        for place, key in enumerate(self.keys(keys)):
            places.setdefault(key, []).append(place)
        for key, chosen in places.items():
            yield key, Table(self.name, {name: column[chosen] for name, column in self.columns.items()})

    def keys(self, names: Sequence[str]) -> list[tuple[Any, ...]]:
        """The values of some columns, row by row."""
        if not names:
            return [()] * len(self)
        return list(zip(*(self[name].tolist() for name in names), strict=True))

    def pivot(self, across: str, values: str) -> Table:
        """One column for each value of ``across``, holding ``values``; rows are named by the columns that are left."""
        heads = list(dict.fromkeys(str(head) for head in self[across].tolist()))
        index = [name for name in self.columns if name not in (across, values)]
        cells: dict[tuple[Any, ...], dict[str, Any]] = {}
        for key, head, value in zip(self.keys(index), self[across].tolist(), self[values].tolist(), strict=True):
            row = cells.setdefault(key, {})
            if str(head) in row:
                raise UsageError(
                    f"'{self.name}' has two values of {values} for {head} at {_told(index, key)}",
                    "choose or average rows before they are spread out",
                )
            row[str(head)] = value
        for key, row in cells.items():
            for head in heads:
                if head not in row:
                    raise UsageError(
                        f"'{self.name}' has no {values} for {head} at {_told(index, key)}", "choose rows that have all"
                    )
        rows = [{**dict(zip(index, key, strict=True)), **row} for key, row in cells.items()]
        return from_rows(self.name, rows, [*index, *heads])

    def join(self, other: Table, keys: Sequence[str]) -> Table:
        """Each row with the one row of ``other`` that has the same keys; a row without a partner is an error."""
        partners: dict[tuple[Any, ...], int] = {}
        for place, key in enumerate(other.keys(keys)):
            if key in partners:
                raise UsageError(f"'{other.name}' has {_told(keys, key)} twice", "join by more columns")
            partners[key] = place
        missing = [key for key in self.keys(keys) if key not in partners]
        if missing:
            raise UsageError(f"'{other.name}' has no row for {_told(keys, missing[0])}", "choose rows that both have")
        places = [partners[key] for key in self.keys(keys)]
        added = {name: column[places] for name, column in other.columns.items() if name not in keys}
        twice = sorted(set(added) & set(self.columns))
        if twice:
            raise UsageError(
                f"'{self.name}' and '{other.name}' both have a column '{twice[0]}'", f"join by '{twice[0]}' as well"
            )
        return Table(self.name, {**self.columns, **added})

    def frame(self) -> pd.DataFrame:
        """The same as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame({name: column.tolist() for name, column in self.columns.items()})


def from_rows(name: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Table:
    """A table of rows of plain values; each column gets the type that holds all of its values."""
    return Table(name, {column: np.asarray([row[column] for row in rows]) for column in columns})


def stack(name: str, tables: Sequence[Table]) -> Table:
    """The rows of several tables, one below the other, with the columns that all of them have."""
    shared = [column for column in tables[0].columns if all(column in table.columns for table in tables)]
    return Table(name, {column: np.concatenate([table[column] for table in tables]) for column in shared})


def nearest(word: str, known: Iterable[str]) -> str:
    """The cure for a wrong name."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    return f"did you mean {', '.join(close)}?" if close else f"there are: {', '.join(names)}"


def _told(names: Sequence[str], values: Sequence[Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True)) or "that place"
