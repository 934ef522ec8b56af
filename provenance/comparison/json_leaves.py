"""Two JSON documents side by side, leaf by leaf: the walk behind every comparison of what was recorded.

A leaf is a value that holds no named parts: a number, a text, a list of such, or one of the two answers for what is
missing (``provenance.capture.unavailable``). Where a part is missing in one document, its answer stands for all that
the other has below that place, so that "no GPU" is compared with every fact about a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from provenance.capture.unavailable import is_missing, none

# stands for what one of the two has no word of
ABSENT = none("not there")


def leaves(first: Any, second: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted path, value in the first, value in the second) of every leaf that either has; lists of objects by index.

    Nothing below a part that a side could not find out: its ``{"unavailable": reason}`` is that side's value there.
    """
    a, b = _branches(first), _branches(second)
    if not (a or b) or reason(first) or reason(second) or _is_value(first) or _is_value(second):
        yield path, first, second
        return
    # what is missing as a whole is missing in every part, for the same reason
    ends = first if a is None else ABSENT, second if b is None else ABSENT
    a, b = a or {}, b or {}
    for key in sorted(a.keys() | b.keys()):
        dot = "." if path and not key.startswith("[") else ""
        yield from leaves(a.get(key, ends[0]), b.get(key, ends[1]), f"{path}{dot}{key}")


def reason(value: Any) -> str:
    """Why a side could not find a value out; "" where it could."""
    return str(value["unavailable"]) if is_missing(value) and "unavailable" in value else ""


def equal(first: Any, second: Any) -> bool:
    """Whether two leaves say the same, lists in every item: true is not 1, and nothing is like any other nothing."""
    if is_missing(first) and is_missing(second):
        return (first == ABSENT) is (second == ABSENT)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(equal, first, second))
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    return isinstance(first, bool) is isinstance(second, bool) and bool(first == second)


def only_what_differs(first: Any, second: Any) -> tuple[Any, Any]:
    """Of two lists, or of two texts with several lines: what only one has; of anything else, both as they are.

    Lists of the same parts in another order are given whole.
    """
    a, b = _parts(first), _parts(second)
    if a is None or b is None:
        return first, second
    only = [part for part in a if part not in b], [part for part in b if part not in a]
    return only if any(only) else (first, second)


def _is_value(value: Any) -> bool:
    """Whether it is neither missing nor has parts."""
    return _branches(value) is None and not is_missing(value)


def _branches(value: Any) -> dict[str, Any] | None:
    """What is below an object, or a list of objects; None for a leaf."""
    if isinstance(value, Mapping) and not is_missing(value):
        return dict(value)
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return {f"[{index}]": item for index, item in enumerate(value)}
    return None


def _parts(value: Any) -> list[Any] | None:
    if isinstance(value, str) and "\n" in value:
        return [line.strip() for line in value.splitlines() if line.strip()]
    return value if isinstance(value, list) else None
