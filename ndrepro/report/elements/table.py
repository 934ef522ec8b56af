"""A table as data: the same rows become HTML that sorts and filters, Markdown, LaTeX and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

# how a value stands, each with the sign that says so without colour
BETTER, WITHIN, WORSE, NOT_RUN, PLAIN = "better", "within", "worse", "not run", ""
SIGNS: Mapping[str, str] = {BETTER: "▲", WITHIN: "●", WORSE: "▼", NOT_RUN: "", PLAIN: ""}
NOT_RUN_TEXT = "not run"
MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Value:
    """One cell of a table. ``number`` is what it is sorted by; ``href`` leads to what is behind it.

    ``status`` is one of the words above; ``copies`` are commands to be copied, (label, command).
    """

    text: str
    number: float | None = None
    status: str = PLAIN
    href: str = ""
    copies: tuple[tuple[str, str], ...] = ()

    @property
    def sign(self) -> str:
        """The sign of its status, "" where it has none."""
        return SIGNS[self.status]

    @property
    def signed(self) -> str:
        """The text with its sign before it."""
        return f"{self.sign} {self.text}" if self.sign else self.text

    def to_json(self) -> Any:
        """The number where there is a finite one, the text, the status and the link."""
        document: dict[str, Any] = {"text": self.text}
        if self.number is not None:
            document["number"] = self.number
        for key, value in (("status", self.status), ("href", self.href)):
            if value:
                document[key] = value
        if self.copies:
            document["commands"] = dict(self.copies)
        return document


@dataclass(frozen=True)
class Column:
    """A column's head. ``numeric`` is aligned right; ``facet`` gets a filter in the page; ``group`` is above.

    ``context`` says how something was run: the caption names it once where all rows share it, a single row too.
    """

    title: str
    numeric: bool = False
    facet: bool = False
    group: str = ""
    context: bool = False


@dataclass(frozen=True)
class Table:
    """A table with its caption: a first sentence, and how to read it.

    ``key`` names it in links and files; ``anchors`` name its rows, if they have names. A ``stacked`` table is prose in
    cells: on a narrow page each row becomes a block.
    """

    key: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    anchors: tuple[str, ...] = ()
    stacked: bool = False

    @property
    def groups(self) -> tuple[tuple[str, int], ...]:
        """Neighbouring columns of one group, as (group, how many); empty where no column has a group."""
        if not any(column.group for column in self.columns):
            return ()
        spans: list[tuple[str, int]] = []
        for column in self.columns:
            if spans and column.group and spans[-1][0] == column.group:
                spans[-1] = (column.group, spans[-1][1] + 1)
            else:
                spans.append((column.group, 1))
        return tuple(spans)

    @property
    def heads(self) -> tuple[str, ...]:
        """Every column's title, its group before it."""
        return tuple(f"{column.group} {column.title}".strip() for column in self.columns)

    def to_json(self) -> dict[str, Any]:
        """Key, title, caption and heads, and every row as an object by column."""
        return {"key": self.key, "title": self.title, "caption": self.caption, "columns": self.heads, "rows": self.rows}


def without_constants(table: Table) -> Table:
    """The table without the columns that are the same in every row, which its caption names once. The first stays.

    Of a single row these are the columns of context and those without text.
    """
    constant = {
        place: {row[place].text for row in table.rows}.pop()
        for place, column in enumerate(table.columns)
        if place
        and len({(row[place].text, row[place].copies, row[place].status) for row in table.rows}) == 1
        and (len(table.rows) > 1 or column.context or not any((table.rows[0][place].text, table.rows[0][place].copies)))
    }
    constants = [f"{table.columns[place].title} {text}" for place, text in constant.items() if text and text != MISSING]
    kept = [place for place in range(len(table.columns)) if place not in constant]
    return replace(
        table,
        caption=f"{table.caption} In every row: {'; '.join(constants)}." if constants else table.caption,
        columns=tuple(table.columns[place] for place in kept),
        rows=tuple(tuple(row[place] for place in kept) for row in table.rows),
    )


def numeric(*titles: str) -> tuple[Column, ...]:
    """Columns of numbers."""
    return tuple(Column(title, numeric=True) for title in titles)


def facets(*titles: str) -> tuple[Column, ...]:
    """Columns of words, each with a filter in the page."""
    return tuple(Column(title, facet=True) for title in titles)


def word(text: Any) -> Value:
    """A cell of text."""
    return Value(str(text))


def count(number: int) -> Value:
    """A cell that counts."""
    return Value(f"{number:,}".replace(",", "\N{THIN SPACE}"), float(number))


def decimal(number: float | None, digits: int = 2, missing: str = MISSING, **more: Any) -> Value:
    """A cell with a number; NaN and infinities are written as such, ``None`` as ``missing``."""
    if number is None:
        return Value(missing, **more)
    if not math.isfinite(number):
        return Value("NaN" if math.isnan(number) else ("∞" if number > 0 else f"{MINUS}∞"), number, **more)
    return Value(f"{number:.{digits}f}".replace("-", MINUS), number, **more)


def interval(low: float, high: float) -> Value:
    """A cell with an interval, sorted by its width."""
    return Value(f"{decimal(low).text} to {decimal(high).text}", high - low)


def duration(seconds: float | None) -> Value:
    """Seconds as people read them."""
    if seconds is None:
        return Value(MISSING)
    if seconds < 600:
        return Value(f"{seconds:.1f} s", seconds)
    minutes = round(seconds / 60)
    return Value(f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min", seconds)
