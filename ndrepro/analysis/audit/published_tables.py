"""Reads what papers published: tables as CSV, each declared with its source and the meaning of every column.

The declarations stand in the claims file beside the tables (``published/claims.toml``):

    [tables.attempts]
    file = "table1_attempts.csv"                 beside the claims file
    title = "..."                                 what it is
    source = "..."                                where it was published
    keys = ["architecture", "attempt"]            no two rows have the same values of these
    [tables.attempts.columns]
    architecture = { kind = "text", meaning = "..." }
    accuracy = { kind = "number", unit = "%", decimals = 2, minimum = 0, maximum = 100, role = "mean", meaning = "..." }

``kind`` is text, whole or number. ``choices`` are the words that may stand there. ``decimals`` is how many digits
behind the point were printed: half a unit of the last one is the tolerance of a comparison. ``role`` says what a
number is where checks need to know: mean, spread, accuracy (of one run, or a mean with ``role = "mean"``).

Reading is strict: a missing or further column, a word for a number, a value out of range, a key twice, an empty
table are a UsageError with file and line. Nothing is filled in.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ndrepro.analysis.audit.table import DataTable, from_rows
from ndrepro.protocol.errors import UsageError, suggestion
from ndrepro.protocol.project_folders import project_folder
from provenance.toml_file import read_toml

CLAIMS = "claims.toml"
KINDS = ("text", "whole", "number")
ROLES = ("mean", "spread", "accuracy")


@dataclass(frozen=True)
class ColumnSpec:
    """What a column holds, see the module."""

    name: str
    kind: str
    meaning: str
    unit: str = ""
    decimals: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    role: str = ""

    def read(self, text: str) -> str | int | float:
        """The value of a cell. Raises ValueError with what was expected."""
        if self.kind == "text":
            if not text or text != text.strip():
                raise ValueError("a word without blanks around it")
            if self.choices and text not in self.choices:
                raise ValueError(f"one of {', '.join(self.choices)}")
            return text
        value: int | float
        try:
            value = int(text) if self.kind == "whole" else float(text)
        except ValueError:
            raise ValueError(f"a {self.kind}" + (" number" if self.kind == "whole" else "")) from None
        if not math.isfinite(value):
            raise ValueError("a finite number")
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        if not low <= value <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return value


@dataclass(frozen=True)
class TableSpec:
    """One table of a paper: its path, where it was published, its columns, what names a row."""

    name: str
    file: Path
    title: str
    source: str
    keys: tuple[str, ...]
    columns: Mapping[str, ColumnSpec] = field(default_factory=dict)


def published_folder() -> Path:
    """The folder of the published tables and claims."""
    return project_folder("published")


@cache
def published_tables() -> Mapping[str, DataTable]:
    """The tables of the studies that this project is about, by name: attempts, printed, imagenet, ..."""
    claims = published_folder() / CLAIMS
    return {spec.name: read_table(spec) for spec in table_specs(claims_document(claims), claims).values()}


def claims_document(path: Path) -> dict[str, Any]:
    """A claims file as a document. Raises NotFoundError, StorageError and UsageError, as ``read_toml`` does."""
    return read_toml(path, "docs/how-to/auditing.md has a whole example")


def table_specs(document: Mapping[str, Any], path: Path) -> dict[str, TableSpec]:
    """The tables that a claims file declares, by name. Raises UsageError for a declaration that is not one."""
    declared = _mapping(document.get("tables", {}), path, "tables")
    return {name: _spec(name, _mapping(body, path, f"tables.{name}"), path) for name, body in declared.items()}


def read_table(spec: TableSpec) -> DataTable:
    """Read one table strictly. Raises UsageError with file, line, column, the value and what was expected."""
    try:
        with spec.file.open(encoding="utf-8", newline="") as stream:
            reader = csv.reader(stream)
            header = next(reader, [])
            _check_header(spec, header)
            rows = [_row(spec, header, cells, reader.line_num) for cells in reader]
    except OSError as error:
        raise UsageError(f"{spec.file}: cannot be read ({error.strerror})", f"tables.{spec.name} names it") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{spec.file}: not UTF-8: {error.reason}", "save it as UTF-8") from None
    if not rows:
        raise UsageError(f"{spec.file}: has no rows", "a table without rows says nothing")
    table = from_rows(spec.name, rows, list(spec.columns))
    seen: set[tuple[Any, ...]] = set()
    for line, key in enumerate(table.keys(spec.keys), 2):
        if spec.keys and key in seen:
            key_text = ", ".join(f"{name} {value}" for name, value in zip(spec.keys, key, strict=True))
            raise UsageError(f"{spec.file}: row {line}: {key_text} for the second time", "one row for each key")
        seen.add(key)
    return table


def _check_header(spec: TableSpec, header: list[str]) -> None:
    for name in spec.columns:
        if name not in header:
            raise UsageError(
                f"{spec.file}: no column '{name}', which tables.{spec.name} declares", "add it, or correct the name"
            )
    for name in header:
        if name not in spec.columns:
            raise UsageError(
                f"{spec.file}: column '{name}' is not declared", f"say in tables.{spec.name}.columns what it is"
            )
        if header.count(name) > 1:
            raise UsageError(f"{spec.file}: two columns are called '{name}'", "rename one")


def _row(spec: TableSpec, header: list[str], cells: list[str], line: int) -> dict[str, Any]:
    if len(cells) != len(header):
        raise UsageError(f"{spec.file}:{line}: {len(cells)} cells, the header has {len(header)}", "complete the row")
    row = {}
    for name, text in zip(header, cells, strict=True):
        try:
            row[name] = spec.columns[name].read(text)
        except ValueError as expected:
            raise UsageError(
                f"{spec.file}:{line}: {name} is '{text}', expected {expected}", "correct the cell"
            ) from None
    return row


def _spec(name: str, body: Mapping[str, Any], path: Path) -> TableSpec:
    place = f"tables.{name}"
    expect_known(body, ("file", "title", "source", "keys", "columns"), f"{path}: {place}")
    for needed in ("file", "title", "source"):
        expect_text(body.get(needed), path, f"{place}.{needed}")
    columns = {
        column: _column(column, _mapping(facts, path, f"{place}.columns.{column}"), path, f"{place}.columns.{column}")
        for column, facts in _mapping(body.get("columns"), path, f"{place}.columns").items()
    }
    keys = tuple(body.get("keys", ()))
    for key in keys:
        if key not in columns:
            raise UsageError(f"{path}: {place}.keys: '{key}' is no column of it", suggestion(str(key), columns))
    return TableSpec(name, path.parent / body["file"], body["title"], body["source"], keys, columns)


def _column(name: str, facts: Mapping[str, Any], path: Path, place: str) -> ColumnSpec:
    expect_known(facts, set(ColumnSpec.__dataclass_fields__) - {"name"}, f"{path}: {place}")
    expect_text(facts.get("meaning"), path, f"{place}.meaning")
    for key, words in (("kind", KINDS), ("role", ("", *ROLES))):
        word = facts.get(key, "")
        if word not in words:
            raise UsageError(f"{path}: {place}.{key} is '{word}'", f"one of {', '.join(filter(None, words))}")
    return ColumnSpec(name, **{**facts, "choices": tuple(facts.get("choices", ()))})


def expect_known(body: Mapping[str, Any], known: Iterable[str], place: str) -> None:
    """Raises UsageError for a key that is none of these."""
    for key in body:
        if key not in known:
            raise UsageError(f"{place}: unknown key '{key}'", suggestion(key, sorted(known)))


def expect_text(value: Any, path: Path, place: str) -> str:
    """A text that says something. Raises UsageError for anything else."""
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{path}: {place} is missing or no text", "say it in a line")
    return value


def _mapping(value: Any, path: Path, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{path}: {place} is missing or no table", "docs/how-to/auditing.md has a whole example")
    return value
