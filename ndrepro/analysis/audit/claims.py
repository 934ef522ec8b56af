"""Claims files: what a paper claims in numbers, as data. ``docs/how-to/auditing.md`` shows how to write one.

    title = "..."
    [papers]                      short name = full reference
    [tables.NAME]                 see ndrepro.analysis.audit.published_tables
    [derived]                     name = query that makes a further table; may use those above it
    [[claims]]
    name = "..."                  one word
    paper = "..."                 a short name
    place = "section 6"
    text = "..."                  what is claimed, in our own words
    claimed = "116"               as printed: its digits give the tolerance; a list of such, a text, true or false
    relation = ">="               of what comes out to what is claimed; = when left out
    tolerance = 0.5               instead of half a unit of the last digit
    definition = "..."            how the paper says that it is computed
    query = "SELECT ..."          that, over the published tables
    raw = "SELECT ..."            the same over raw data
    missing = "..."               instead of a query: why it cannot be computed
    [[claims.otherwise]]          another definition that might be meant
    definition = "..."
    query = "SELECT ..."
    [[crosschecks]]               a printed column against raw data, see ndrepro.analysis.audit.crosscheck
    [[suspicions]]                rows that can hardly be right
    name = "..."
    text = "..."
    rows = "SELECT ..."           what to show of each

A file is read strictly. Its queries are SQL (``ndrepro.analysis.audit.claims_sql``); an audit refuses a wrong one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ndrepro.analysis.audit.published_tables import TableSpec, claims_document, expect_known, expect_text, table_specs
from ndrepro.protocol.errors import UsageError, suggestion

RELATIONS = ("=", ">", ">=", "<", "<=")
Claimed = bool | str | tuple[str, ...]


@dataclass(frozen=True)
class Definition:
    """One way to compute a claimed number."""

    definition: str
    query: str


@dataclass(frozen=True)
class Claim:
    """One quantitative claim, see the module."""

    name: str
    paper: str
    place: str
    text: str
    claimed: Claimed
    relation: str = "="
    tolerance: float | None = None
    definition: str = ""
    query: str = ""
    raw: str = ""
    missing: str = ""
    otherwise: tuple[Definition, ...] = ()


@dataclass(frozen=True)
class CrossCheck:
    """A printed column that raw data should give again.

    ``printed.column`` should be the ``statistic`` of ``raw.values`` over its column ``replicate``. ``row`` names the
    lines of the printed table, ``heads`` its columns. ``among`` are further columns of ``raw`` in which the numbers of
    a column that does not agree are looked for.
    """

    name: str
    text: str
    printed: str
    column: str
    raw: str
    values: str
    row: str
    heads: tuple[str, ...]
    replicate: str
    statistic: str = "mean"
    among: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suspicion:
    """Rows that can hardly be right, and the query that gives them."""

    name: str
    text: str
    rows: str


@dataclass(frozen=True)
class ClaimsFile:
    """A claims file, read and checked."""

    path: Path
    title: str
    papers: Mapping[str, str]
    tables: Mapping[str, TableSpec]
    derived: Mapping[str, str]
    claims: tuple[Claim, ...]
    crosschecks: tuple[CrossCheck, ...]
    suspicions: tuple[Suspicion, ...]


def read_claims(path: Path) -> ClaimsFile:
    """Read and check a claims file. Raises UsageError with the file, the place in it and the cure."""
    document = claims_document(path)
    known = ("title", "papers", "tables", "derived", "claims", "crosschecks", "suspicions")
    expect_known(document, known, f"{path}")
    papers, derived = (_texts(document.get(key, {}), f"{path}: {key}") for key in ("papers", "derived"))
    found = ClaimsFile(
        path,
        expect_text(document.get("title"), path, "title"),
        papers,
        table_specs(document, path),
        derived,
        tuple(_claim(body, path, number) for number, body in enumerate(_list(document, "claims", path), 1)),
        _entries(CrossCheck, document, "crosscheck", path),
        _entries(Suspicion, document, "suspicion", path),
    )
    _check(found)
    return found


def _claim(body: Any, path: Path, number: int) -> Claim:
    name = body.get("name") if isinstance(body, dict) else None
    place = f"{path}: claim {name or number}"
    if not isinstance(body, dict):
        raise UsageError(f"{place}: no table", "begin each claim with [[claims]]")
    others = tuple(_entry(Definition, item, f"{place}: otherwise") for item in body.get("otherwise", ()))
    claimed = body.get("claimed")
    if isinstance(claimed, list):
        claimed = tuple(claimed)
    if not isinstance(claimed, (bool, str)) and not (
        isinstance(claimed, tuple) and claimed and all(isinstance(item, str) for item in claimed)
    ):
        raise UsageError(f"{place}: claimed is {claimed!r}", 'as printed, in quotes: "0.23"; or true, false, or a list')
    found: Claim = _entry(Claim, {**body, "claimed": claimed, "otherwise": others}, place)
    if found.relation not in RELATIONS:
        raise UsageError(f"{place}: relation is '{found.relation}'", f"one of {' '.join(RELATIONS)}")
    if bool(found.query or found.raw) == bool(found.missing):
        raise UsageError(f"{place}: needs a query, or says in 'missing' why there is none", "one of the two")
    return found


def _check(file: ClaimsFile) -> None:
    """Every paper, table and column that is named exists, and no name is there twice."""
    entries: tuple[Claim | CrossCheck | Suspicion, ...] = (*file.claims, *file.crosschecks, *file.suspicions)
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{file.path}: two entries are called '{name}'", "rename one")
    for claim in file.claims:
        if claim.paper not in file.papers:
            raise UsageError(
                f"{file.path}: claim {claim.name}: no paper '{claim.paper}'", suggestion(claim.paper, file.papers)
            )
    for check in file.crosschecks:
        _cross(check, file, f"{file.path}: crosscheck {check.name}")


def _cross(check: CrossCheck, file: ClaimsFile, place: str) -> None:
    for table, columns in (
        (check.printed, (check.column, check.row, *check.heads)),
        (check.raw, (check.values, check.row, *check.heads, check.replicate, *check.among)),
    ):
        if table not in file.tables:
            raise UsageError(f"{place}: no table '{table}'", suggestion(table, file.tables))
        for column in columns:
            if column not in file.tables[table].columns:
                raise UsageError(
                    f"{place}: '{table}' has no column '{column}'", suggestion(column, file.tables[table].columns)
                )
    if file.tables[check.printed].columns[check.column].decimals is None:
        raise UsageError(f"{place}: how many decimals of {check.column} are printed is not said", "decimals = 2")


def _entries(kind: Any, document: Mapping[str, Any], what: str, path: Path) -> tuple[Any, ...]:
    listed = enumerate(_list(document, f"{what}s", path), 1)
    return tuple(_entry(kind, body, f"{path}: {what} {number}") for number, body in listed)


def _entry(kind: Any, body: Any, place: str) -> Any:
    """A dataclass of texts and lists of texts, from a table that has its required members and no others."""
    if not isinstance(body, dict):
        raise UsageError(f"{place}: no table", "docs/how-to/auditing.md has a whole example")
    expect_known(body, [field.name for field in fields(kind)], place)
    values: dict[str, Any] = {}
    for field in fields(kind):
        if field.name not in body:
            if field.default is field.default_factory:  # both MISSING: it is required
                raise UsageError(f"{place}: '{field.name}' is missing", "docs/how-to/auditing.md has a whole example")
            continue
        value = body[field.name]
        if field.type == "str" and (not isinstance(value, str) or not value.strip()):
            raise UsageError(f"{place}: {field.name} is no text", "write it in quotes")
        if field.type == "tuple[str, ...]":
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise UsageError(f"{place}: {field.name} is no list of names", '["architecture", "epochs"]')
            value = tuple(value)
        values[field.name] = value
    return kind(**values)


def _texts(body: Any, place: str) -> dict[str, str]:
    if not isinstance(body, dict) or not all(isinstance(value, str) for value in body.values()):
        raise UsageError(f"{place}: names and texts are expected", 'name = "text"')
    return body


def _list(document: Mapping[str, Any], key: str, path: Path) -> list[Any]:
    found = document.get(key, [])
    if not isinstance(found, list):
        raise UsageError(f"{path}: {key} is no list", f"begin each with [[{key}]]")
    return found
