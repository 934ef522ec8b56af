"""Text and tables in Markdown as GitHub reads it; whatever comes from runs or files is escaped."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&])")
_BLANKS = re.compile(r"\s+")


def printable(text: str) -> str:
    """Text for one line: runs of white space and control characters become one blank each."""
    return "".join(letter if letter.isprintable() else " " for letter in _BLANKS.sub(" ", text))


def markdown_text(text: str) -> str:
    """Text for one line of Markdown, every character that has a meaning there escaped."""
    return _SPECIAL.sub(r"\\\1", printable(text))


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]], numeric: Collection[int] = ()) -> str:
    """A table whose cells are plain text; the columns ``numeric``, counted from 0, are aligned to the right."""
    rule = " | ".join("---:" if column in numeric else "---" for column in range(len(heads)))
    lines = "".join(f"| {' | '.join(map(markdown_text, row))} |\n" for row in rows)
    return f"| {' | '.join(map(markdown_text, heads))} |\n| {rule} |\n{lines}"
