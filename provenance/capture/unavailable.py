"""What could not be captured says so: the three answers of a probe.

A captured field is its value, or ``{"none": reason}`` where there is truly nothing (no GPU, no container), or
``{"unavailable": reason}`` where it is not available. Nothing is left out, and one failing probe never loses
the others. What no machine can have is a fault of the driver that said it: such a reading is not available either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# one package of a processor, or one GPU: the largest of 2026 take 1.4 kW
MOST_WATTS = 3000.0
MOST_BYTES = 1 << 50
# of cores, megahertz, megabytes or page faults: what 64 bits hold
MOST_COUNT = (1 << 64) - 1


class ImplausibleReading(ValueError):
    """A reading that no machine can give."""


def plausible(value: float, most: float, unit: str = "") -> float:
    """``value`` itself. Raises ImplausibleReading where it is negative, no number, or above ``most``."""
    if not 0 <= value <= most:
        raise ImplausibleReading(f"implausible: {value:g} {unit}".rstrip() + f", expected 0 to {most:g}")
    return value


def unavailable(reason: str) -> dict[str, str]:
    """The field is not available."""
    return {"unavailable": reason}


def none(reason: str) -> dict[str, str]:
    """There is nothing to find."""
    return {"none": reason}


def is_missing(value: object) -> bool:
    """Whether a captured field is one of the two answers above instead of a value."""
    return isinstance(value, dict) and (value.keys() == {"unavailable"} or value.keys() == {"none"})


def at(document: Any, *keys: str) -> Any:
    """The value below some keys; the marker of what is missing where the way to it ends earlier."""
    for key in keys:
        if is_missing(document):
            return document
        if not isinstance(document, Mapping) or key not in document:
            return unavailable("not recorded")
        document = document[key]
    return document


def mapping(value: Any) -> Mapping[str, Any]:
    """The value where it is an object; an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def text(value: Any) -> str | None:
    """The value where it is text."""
    return value if isinstance(value, str) else None


def whole(value: Any) -> int | None:
    """The value where it is a whole number; true and false are none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def probe(function: Callable[..., Any], *arguments: Any) -> Any:
    """What ``function(*arguments)`` returns, or ``unavailable`` with the error that it raised."""
    try:
        return function(*arguments)
    except Exception as error:
        return unavailable(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def printable(tree: Any) -> Any:
    """The same JSON, with every string fit for UTF-8.

    Names from the file system and the process's environment carry bytes that are no UTF-8 as lone surrogates, which
    no JSON reader takes; they become ``\\xNN``.
    """
    if isinstance(tree, str):
        return tree if tree.isascii() else tree.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if isinstance(tree, dict):
        return {printable(key): printable(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [printable(item) for item in tree]
    return tree
