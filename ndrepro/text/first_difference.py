"""The first place, or line, in which two texts differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

_SHOWN = 100


@dataclass(frozen=True)
class LineDifference:
    """A line by its ``number``, from 1 on, as each text has it; ``None`` where that text ended before."""

    number: int
    first: str | None
    second: str | None

    def __str__(self) -> str:
        """For a reader: the line's number and both lines, control characters spelled out."""
        return f"line {self.number:,}: {_shown(self.first)} and {_shown(self.second)}"

    def to_json(self) -> dict[str, Any]:
        """The members line, first, second."""
        return {"line": self.number, "first": self.first, "second": self.second}


def first_different_place(first: Sequence[object], second: Sequence[object]) -> int:
    """Where two texts, or any sequences, differ first, from 0 on; the end of the shorter one that begins the other."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, two) in pairs if one != two), min(len(first), len(second)))


def first_different_line(first: bytes, second: bytes) -> LineDifference | None:
    """The first line that differs; ``None`` for equal contents, and where either is no UTF-8 text."""
    try:
        pairs = zip_longest(first.decode().split("\n"), second.decode().split("\n"))
    except UnicodeDecodeError:
        return None
    return next((LineDifference(number, *pair) for number, pair in enumerate(pairs, 1) if pair[0] != pair[1]), None)


def _shown(line: str | None) -> str:
    if line is None:
        return "no such line"
    return repr(line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…")
