"""The queries of a claims file: one SELECT each, over its tables in an in-memory SQLite database, and nothing else.

A claims file may be a stranger's, so a query is confined in three ways:

* the authorizer, which SQLite asks for every action of a statement, allows to select, to read the file's own tables
  and to call ``FUNCTIONS``; everything else (writing, pragmas, other databases, recursion) is refused;
* lengths of texts, queries and results are limited, and so is the number of steps of SQLite's machine, which does not
  depend on how fast the computer is;
* a text stands in single quotes. SQLite takes a word in double quotes that is no column for a text, so that a
  misspelled column would be compared as a word; double quotes are refused.

Nothing newer than SQLite 3.25 is needed. Sums and means are those of ``math.fsum``, exact to the last digit, since
SQLite's own differ between its releases; statistics that SQLite lacks have the names of the SQL standard.
"""

from __future__ import annotations

import math
import re
import sqlite3
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ndrepro.analysis.audit.table import DataTable
from ndrepro.protocol.errors import NdreproError, UsageError, suggestion

MAX_STEPS, MAX_ROWS, MAX_CHARACTERS = 50_000_000, 100_000, 4000
_STEPS_BETWEEN_CHECKS = 10_000
_TYPES = {"U": "TEXT", "i": "INTEGER", "f": "REAL"}
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 1_000_000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: MAX_CHARACTERS,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 20,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
}


class Incomputable(NdreproError):
    """A query that is right, over data that give it no value."""


def _total(values: Sequence[Any]) -> Any:
    return sum(values) if all(isinstance(value, int) for value in values) else math.fsum(values)


def _variance(values: Sequence[float], ddof: int) -> float | None:
    if len(values) <= ddof:
        return None
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - ddof)


def _deviation(values: Sequence[float], ddof: int) -> float | None:
    found = _variance(values, ddof)
    return None if found is None else math.sqrt(found)


def _correlation(pairs: Sequence[tuple[float, float]]) -> float:
    return statistics.correlation(*zip(*pairs, strict=True))


# name -> statistic of the values of a column (of pairs, for two columns); of no values each of them is NULL
AGGREGATES: Mapping[str, tuple[int, Callable[[Sequence[Any]], Any]]] = {
    "sum": (1, _total),
    "avg": (1, lambda values: math.fsum(values) / len(values)),
    "median": (1, statistics.median),
    "var_pop": (1, lambda values: _variance(values, 0)),
    "var_samp": (1, lambda values: _variance(values, 1)),
    "stddev_pop": (1, lambda values: _deviation(values, 0)),
    "stddev_samp": (1, lambda values: _deviation(values, 1)),
    "corr": (2, _correlation),
}
SCALARS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    "sqrt": (1, math.sqrt),
    "ln": (1, math.log),
    "exp": (1, math.exp),
    # what a number is when it is truncated instead of rounded; decimals are not exact in binary
    "truncate": (2, lambda value, digits: math.trunc(round(value * 10.0**digits, 6)) / 10.0**digits),
}
_OF_SQLITE = {"count", "min", "max", "abs", "round", "coalesce", "nullif", "row_number", "rank"}
FUNCTIONS = frozenset({*_OF_SQLITE, *AGGREGATES, *SCALARS})


class ClaimsDatabase:
    """Tables by name, and the queries that may be asked of them."""

    def __init__(self, tables: Mapping[str, DataTable]) -> None:
        # without a cache of statements: none that was made to fill a table can be asked for again
        self._sql = sqlite3.connect(":memory:", cached_statements=0)
        for limit, value in _LIMITS.items():
            self._sql.setlimit(limit, value)
        for name, (count, function) in AGGREGATES.items():
            self._sql.create_aggregate(name, count, _aggregate(function))
        for name, (count, function) in SCALARS.items():
            self._sql.create_function(name, count, _null_for_none(function), deterministic=True)
        self._columns: dict[str, tuple[str, ...]] = {}
        for name, table in tables.items():
            types = [_TYPES[column.dtype.kind] for column in table.columns.values()]
            self._fill(name, list(table.columns), types, table.keys(tuple(table.columns)))

    def derive(self, name: str, query: str) -> None:
        """Keep what a query gives as a further table. Raises as ``rows`` does."""
        columns, rows = self.rows(query)
        self._fill(name, columns, [""] * len(columns), rows)

    def rows(self, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Names of the columns and the rows of one SELECT.

        Raises UsageError for what is no such query or takes too long, with what was expected.
        """
        if '"' in query:
            raise UsageError(f"`{short(query)}`: a double quote", "a text stands in single quotes: 'cifar10'")
        steps = iter(range(MAX_STEPS // _STEPS_BETWEEN_CHECKS))
        self._sql.set_authorizer(self._allows)
        self._sql.set_progress_handler(lambda: next(steps, None) is None, _STEPS_BETWEEN_CHECKS)
        try:
            cursor = self._sql.execute(query)
            if cursor.description is None:
                raise UsageError(f"`{short(query)}` is no query", "write one SELECT")
            found = cursor.fetchmany(MAX_ROWS + 1)
        # a query of several statements is a Warning before Python 3.12; half a character cannot be encoded
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            raise UsageError(f"`{short(query)}`: {error}", self._cure(str(error))) from None
        finally:
            self._sql.set_progress_handler(None, 0)
        if len(found) > MAX_ROWS:
            raise UsageError(f"`{short(query)}`: more than {MAX_ROWS:,} rows", "choose rows more narrowly")
        return [str(column[0]) for column in cursor.description], found

    def value(self, query: str, *, like: Any) -> Any:
        """What a query gives, as what is claimed (``like``): a yes or no, a list of all its cells, or its one cell.

        Raises Incomputable where the data give no value, or several for one; UsageError as ``rows`` does.
        """
        cells = [cell for row in self.rows(query)[1] for cell in row]
        if not cells or any(cell is None or (isinstance(cell, float) and not math.isfinite(cell)) for cell in cells):
            raise Incomputable(f"`{short(query)}`: no value", "look at the rows that it is computed from")
        if isinstance(like, (list, tuple)):
            return cells
        if len(cells) > 1:
            raise Incomputable(f"`{short(query)}`: {len(cells)} values where one is claimed", "select one value")
        if isinstance(like, bool) and cells[0] in (0, 1):
            return bool(cells[0])
        return cells[0]

    def _fill(self, name: str, columns: Sequence[str], types: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        self._sql.set_authorizer(None)
        declared = ", ".join(f"{_quoted(column)} {kind}" for column, kind in zip(columns, types, strict=True))
        try:
            self._sql.execute(f"CREATE TABLE {_quoted(name)} ({declared})")
            marks = ", ".join("?" * len(columns))
            self._sql.executemany(f"INSERT INTO {_quoted(name)} VALUES ({marks})", rows)
        except sqlite3.Error as error:
            raise UsageError(
                f"table {name}: {error}", "give every table, and every column of one, its own name"
            ) from None
        self._columns[name] = tuple(columns)

    def _allows(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        own = first in self._columns and (not second or second in self._columns[first] or second == "ROWID")
        if (
            action == sqlite3.SQLITE_SELECT
            or (action == sqlite3.SQLITE_READ and own)
            or (action == sqlite3.SQLITE_FUNCTION and second in FUNCTIONS)
        ):
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY

    def _cure(self, message: str) -> str:
        """What to write instead of a name that there is not."""
        wrong = re.match(r"no such (table|column|function): (?:\w+\.)?(\w+)", message)
        if not wrong:
            return "one SELECT over the tables of the file; docs/how-to/auditing.md has the functions"
        columns = {column for names in self._columns.values() for column in names}
        known = {"table": self._columns, "column": sorted(columns), "function": sorted(FUNCTIONS)}
        return suggestion(wrong[2], known[wrong[1]])


def short(query: str) -> str:
    """A query on one line, cut after some words."""
    line = " ".join(query.split())
    return line if len(line) <= 90 else f"{line[:87]}..."


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _aggregate(function: Callable[[Sequence[Any]], Any]) -> type:
    """SQLite's protocol for an aggregate: a step for each row, then the value. NULLs are left out, as SQL has it."""

    class Aggregate:
        def __init__(self) -> None:
            self._values: list[Any] = []

        def step(self, *values: Any) -> None:
            if None not in values:
                self._values.append(values if len(values) > 1 else values[0])

        def finalize(self) -> Any:
            return _null_for_none(function)(self._values) if self._values else None

    return Aggregate


def _null_for_none(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where a function has no value, such as the logarithm of 0, it is NULL; so is that of a NULL."""

    def value(*arguments: Any) -> Any:
        try:
            return None if None in arguments else function(*arguments)
        except (ArithmeticError, ValueError, TypeError, statistics.StatisticsError):
            return None

    return value
