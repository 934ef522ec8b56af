"""Recorded values and changes as short words, the same on the screen and in a cause's evidence. ASCII arrows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ndrepro.text.plurals import first_of, plural
from provenance.capture.unavailable import is_missing
from provenance.comparison.json_leaves import ABSENT
from provenance.comparison.manifest_diff import FieldChange

_DIGEST = re.compile(r"((?:sha256:)?[0-9a-f]{12})(?:[0-9a-f]{28}|[0-9a-f]{52})")
_SHOWN = 44
_ITEMS = 3


@dataclass(frozen=True)
class Folded:
    """Changes of several names from one value to one other."""

    names: tuple[str, ...]
    first: str
    second: str
    note: str

    def __str__(self) -> str:
        return f"{first_of(self.names, _ITEMS)} {self.first} -> {self.second}" + (
            f" ({self.note})" if self.note else ""
        )


def fold(changes: Iterable[FieldChange]) -> tuple[Folded, ...]:
    """Changes with those of equal values put together: threads are set in many places."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for change in changes:
        found.setdefault((*_both(change.first, change.second), change.note), []).append(change.name)
    return tuple(Folded(tuple(sorted(names, key=len)), *key) for key, names in found.items())


def _both(first: Any, second: Any) -> tuple[str, str]:
    """Two different values as texts that differ: where their short forms are equal, the part that is not."""
    texts = value(first), value(second)
    if texts[0] != texts[1]:
        return texts
    whole = tuple(" ".join((str if isinstance(each, str) else repr)(each).split()) for each in (first, second))
    if whole[0] == whole[1]:  # a number and its text, or other white space
        return shortened(repr(first)), shortened(repr(second))
    pairs = enumerate(zip(*whole, strict=False))
    at = next((place for place, (a, b) in pairs if a != b), min(map(len, whole)))
    return _around(whole[0], at), _around(whole[1], at)


def _around(text: str, at: int) -> str:
    """The part of ``text`` that begins a little before ``at``."""
    start = max(at - _SHOWN // 4, 0)
    part = text[start : start + _SHOWN]
    return "..." * (start > 0) + part + "..." * (start + _SHOWN < len(text))


def value(recorded: Any) -> str:
    """A recorded value: digests by their first 12 digits, nothing as "none", a list by its first items or length."""
    if recorded == ABSENT:
        return "absent"
    if is_missing(recorded):
        return "none" if "none" in recorded else "unknown"
    if isinstance(recorded, bool):
        return "yes" if recorded else "no"
    if recorded is None:
        return "unset"
    if isinstance(recorded, (list, tuple)):
        if any(len(str(item)) > _SHOWN // 2 for item in recorded):
            return plural(len(recorded), "line")
        items = [value(item) for item in recorded[:_ITEMS]]
        more = f" and {len(recorded) - _ITEMS} more" if len(recorded) > _ITEMS else ""
        return shortened(", ".join(items) or "nothing") + more
    if isinstance(recorded, str) and (digest := _DIGEST.fullmatch(recorded)):
        return digest[1]
    return shortened(" ".join(str(recorded).split()))


def shortened(text: str) -> str:
    """``text``, its middle left out where it is long."""
    half = (_SHOWN - 3) // 2
    return text if len(text) <= _SHOWN else f"{text[:half]}...{text[-half:]}"
