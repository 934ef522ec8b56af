"""A number with its noun, a span of numbers, the first of many names, and the beginning of long texts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

_SEPARATORS = re.compile(r"[,;\"\[]")


def plural(count: int, noun: str) -> str:
    """``1 run``, ``2 runs``, ``1,200 runs``: for nouns whose plural takes an s."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def span(values: Iterable[object]) -> str:
    """``3``, or ``3 to 10``: the least and the largest of some values, once where they are equal. ``""`` for none."""
    ends = sorted(set(values))  # type: ignore[type-var]
    return " to ".join(map(str, dict.fromkeys((ends[0], ends[-1])))) if ends else ""


def first_of(names: Sequence[object], most: int) -> str:
    """``a, b and 3 more``: the first ``most`` names, and how many others there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def all_of(names: Iterable[object]) -> str:
    """Every name, as far as there is room in ``bounded``, in quotes if it could pass for several or for our words."""
    return bounded(", ".join(map(quoted, names)))


def quoted(name: object) -> str:
    """A name among others, in quotes if it could pass for several."""
    text = str(name)
    return json.dumps(text) if _SEPARATORS.search(text) else text


def bounded(text: str, most: int = 3000) -> str:
    """The text, or its first ``most`` characters and how many more there are: nothing is left out unsaid."""
    more = len(text) - most
    return text if more <= 0 else f"{text[:most]} [{more:,} more characters are not shown]"


def in_room(clauses: Iterable[str], most: int = 3000) -> str:
    """The clauses of a sentence, in some ``most`` characters: the longest of them are cut, and no short one is lost."""
    found = [*filter(None, clauses)]
    room, long = most, sorted(map(len, found))
    while long and long[0] * len(long) <= room:
        room -= long.pop(0)
    share = room // len(long) if long else most
    return "; ".join(bounded(clause, share) for clause in found)
