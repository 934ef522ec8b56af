"""Re-derives what a paper claims, from its tables and from raw data.

Each claim gets one of five verdicts:

* **re-derives**: computed as the paper says, the claimed number is the result, to the digits that were printed;
* **contradicted by the raw data**: it is the result of the printed tables, and not of the raw data behind them;
* **only under another definition**: it does not, but another definition that might be meant gives it;
* **does not re-derive**: the report has what results instead, under every definition;
* **cannot be checked**: what it would be computed from was not published, or gives no value.

"To the digits printed" means within half a unit of the last digit, whatever the claim's relation. Tables are compared
with raw data cell by cell, and rows that can hardly be right are listed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndrepro.analysis.audit.claims import Claim, Claimed, ClaimsFile, Suspicion, read_claims
from ndrepro.analysis.audit.claims_sql import ClaimsDatabase, Incomputable
from ndrepro.analysis.audit.crosscheck import CrossFinding, cross_check
from ndrepro.analysis.audit.published_tables import read_table
from ndrepro.protocol.errors import UsageError
from ndrepro.text.plain_json import plain

REDERIVES = "re-derives"
CONTRADICTED = "contradicted by the raw data"
OTHERWISE = "only under another definition"
NOT = "does not re-derive"
UNCHECKABLE = "cannot be checked"
STATUSES = (REDERIVES, CONTRADICTED, OTHERWISE, NOT, UNCHECKABLE)


@dataclass(frozen=True)
class Derivation:
    """One computation of a claim: by which definition, its result (None: none), whether it equals the claim."""

    definition: str
    value: Any
    agrees: bool
    problem: str = ""


@dataclass(frozen=True)
class ClaimFinding:
    """What was found of a claim. ``table`` is computed as the paper says, ``raw`` the same from raw data."""

    claim: Claim
    status: str
    table: Derivation | None
    raw: Derivation | None
    others: tuple[Derivation, ...]


@dataclass(frozen=True)
class SuspicionFinding:
    """Rows that can hardly be right, by column."""

    suspicion: Suspicion
    rows: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Audit:
    """Everything that was found of a claims file."""

    file: ClaimsFile
    claims: tuple[ClaimFinding, ...]
    crosschecks: tuple[CrossFinding, ...]
    suspicions: tuple[SuspicionFinding, ...]
    without_spread: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many claims have each status."""
        counted = Counter(finding.status for finding in self.claims)
        return {status: counted[status] for status in STATUSES}

    @property
    def holds(self) -> bool:
        """Whether every claim that can be checked re-derives, and every table agrees with its raw data."""
        claims = all(finding.status in (REDERIVES, UNCHECKABLE) for finding in self.claims)
        return claims and all(finding.agrees for finding in self.crosschecks)

    def to_json(self) -> dict[str, Any]:
        """The answer of `ndrepro audit --json`."""
        members = {
            "title": self.file.title,
            "holds": self.holds,
            "counts": self.counts,
            "papers": self.file.papers,
            "claims": [_claim_json(finding) for finding in self.claims],
            "crosschecks": [_cross_json(finding) for finding in self.crosschecks],
            "suspicions": [
                {"name": found.suspicion.name, "text": found.suspicion.text, "rows": found.rows}
                for found in self.suspicions
            ],
            "means_without_spread": self.without_spread,
        }
        document: dict[str, Any] = plain(members)
        return document


def audit(path: Path) -> Audit:
    """Read a claims file with its tables and check everything in it.

    Raises UsageError where the file or a table is not as declared; a claim whose data give no value cannot be checked.
    """
    file = read_claims(path)
    tables = {name: read_table(spec) for name, spec in file.tables.items()}
    database = ClaimsDatabase(tables)
    for name, query in file.derived.items():
        with _at(f"{path}: derived.{name}"):
            database.derive(name, query)
    return Audit(
        file,
        tuple(check_claim(claim, database, str(path)) for claim in file.claims),
        tuple(
            cross_check(check, tables, file.tables[check.printed].columns[check.column].decimals or 0)
            for check in file.crosschecks
        ),
        tuple(_suspicion(suspicion, database, path) for suspicion in file.suspicions),
        _without_spread(file),
    )


def check_claim(claim: Claim, database: ClaimsDatabase, place: str = "") -> ClaimFinding:
    """What can be said of one claim. Raises UsageError where a query of it is wrong."""

    def derive(definition: str, query: str) -> Derivation:
        try:
            with _at(f"{place}: claim {claim.name}"):
                value = database.value(query, like=claim.claimed)
        except Incomputable as error:
            return Derivation(definition, None, False, error.message)
        return Derivation(definition, value, agrees(claim.claimed, value, claim.relation, claim.tolerance))

    table = derive(claim.definition, claim.query) if claim.query else None
    raw = derive(claim.definition, claim.raw) if claim.raw else None
    others = tuple(derive(other.definition, other.query) for other in claim.otherwise)
    return ClaimFinding(claim, _status(table, raw, others), table, raw, others)


def _status(table: Derivation | None, raw: Derivation | None, others: tuple[Derivation, ...]) -> str:
    first = table or raw
    if first is None or first.problem:
        return UNCHECKABLE
    if first.agrees:
        contradicted = raw is not None and not raw.agrees and not raw.problem
        return CONTRADICTED if contradicted else REDERIVES
    return OTHERWISE if any(other.agrees for other in others) else NOT


def agrees(claimed: Claimed, value: Any, relation: str = "=", tolerance: float | None = None) -> bool:
    """Whether the result equals the claim: a list item by item, numbers to the digits that are printed."""
    if isinstance(claimed, tuple):
        return (
            isinstance(value, list)
            and len(value) == len(claimed)
            and all(agrees(one, item, relation, tolerance) for one, item in zip(claimed, value, strict=True))
        )
    if isinstance(claimed, bool) or isinstance(value, bool):
        return claimed is value
    number = _number(claimed)
    if number is None or not isinstance(value, (int, float)):
        return claimed == value
    allowed = half_unit(claimed) if tolerance is None else tolerance
    slack = 1e-9 * max(1.0, abs(number))
    return {
        "=": abs(value - number) <= allowed + slack,
        ">": value > number,
        ">=": value >= number - allowed - slack,
        "<": value < number,
        "<=": value <= number + allowed + slack,
    }[relation]


def half_unit(printed: str) -> float:
    """Half a unit of the last digit of a number as printed: 0.005 of "0.23"; 0 of a whole number, which is a count.

    A whole number in percent, or otherwise rounded, has its tolerance given in the claim.
    """
    decimals = len(printed.partition(".")[2])
    return 0.5 * 10.0**-decimals if decimals else 0.0


def value_text(value: Any, claimed: Claimed = "") -> str:
    """A value for a reader: two digits more than are claimed."""
    if isinstance(value, list):
        likes = claimed if isinstance(claimed, tuple) and len(claimed) == len(value) else [""] * len(value)
        return ", ".join(value_text(item, like) for item, like in zip(value, likes, strict=True))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        decimals = len(claimed.partition(".")[2]) if isinstance(claimed, str) and _number(claimed) is not None else 2
        return f"{value:.0f}" if value.is_integer() and not decimals else f"{value:.{decimals + 2}f}"
    return "nothing" if value is None else str(value)


def _number(text: Any) -> float | None:
    try:
        found = float(text)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Say where the query stands that is wrong."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{place}: {error.message}", error.cure) from None


def _suspicion(suspicion: Suspicion, database: ClaimsDatabase, path: Path) -> SuspicionFinding:
    with _at(f"{path}: suspicion {suspicion.name}"):
        columns, rows = database.rows(suspicion.rows)
    return SuspicionFinding(suspicion, tuple(dict(zip(columns, row, strict=True)) for row in rows))


def _without_spread(file: ClaimsFile) -> tuple[str, ...]:
    """Tables that print means and no spread."""
    return tuple(
        spec.name
        for spec in file.tables.values()
        if (roles := {column.role for column in spec.columns.values()}) and "mean" in roles and "spread" not in roles
    )


def _claim_json(finding: ClaimFinding) -> dict[str, Any]:
    claim = finding.claim
    return {
        "name": claim.name,
        "paper": claim.paper,
        "place": claim.place,
        "text": claim.text,
        "claimed": claim.claimed,
        "relation": claim.relation,
        "status": finding.status,
        "missing": claim.missing,
        "from_tables": None if finding.table is None else _derivation_json(finding.table, claim.query),
        "from_raw": None if finding.raw is None else _derivation_json(finding.raw, claim.raw),
        "otherwise": [
            _derivation_json(found, other.query) for found, other in zip(finding.others, claim.otherwise, strict=True)
        ],
    }


def _derivation_json(found: Derivation, query: str) -> dict[str, Any]:
    return {**vars(found), "query": query}


def _cross_json(finding: CrossFinding) -> dict[str, Any]:
    return {
        "name": finding.check.name,
        "text": finding.check.text,
        "agrees": finding.agrees,
        "cells": finding.cells,
        "differing": finding.differing,
        "columns": [{**vars(head), "differing": head.differing} for head in finding.heads],
    }
