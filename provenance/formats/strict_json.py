"""Strict reading of JSON from outside: every value knows its path, so every refusal names its JSON path.

A ``Field`` is a parsed JSON value and its path. Its methods return the value as what it must be, or raise the error
class of whoever reads (ManifestError, LedgerError, ...) saying the path, what is there and what was expected. Nothing
is converted and nothing is guessed: an unknown member is refused like a missing one, because a reader that skips what
it does not know would call a document understood that it did not understand.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime, timezone
from typing import Any, NamedTuple, NoReturn

from provenance.errors import ManifestError, ProvenanceError, UsageError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?Z")
_SHOWN = 60
# a run's identifier is the name of its folder, which file systems bound likewise
LONGEST_IDENTIFIER_BYTES = 255


class Field(NamedTuple):
    """A JSON value, its path, and the error to raise when it is not what it must be.

    A manifest has hundreds: a tuple is made in a third of the time that a frozen dataclass takes.
    """

    value: Any
    path: str = "$"
    error: type[ProvenanceError] = ManifestError

    def members(self, required: Collection[str], optional: Collection[str] = ()) -> dict[str, Field]:
        """An object's members by name: all of ``required``, some of ``optional``, no other."""
        value = self.mapping()
        missing = [name for name in required if name not in value]
        unknown = [name for name in value if name not in required and name not in optional]
        if missing:
            self._stop(f"{self.path}.{missing[0]}: missing")
        if unknown:
            self._stop(f"{self.path}.{unknown[0]}: unknown")
        return {name: Field(item, f"{self.path}.{name}", self.error) for name, item in value.items()}

    def mapping(self) -> dict[str, Any]:
        """A free JSON object, as it is."""
        if not isinstance(self.value, dict):
            self.refuse("an object")
        return self.value

    def member(self, name: str) -> Field:
        """An object's member of that name, whatever else it has."""
        value = self.mapping()
        if name not in value:
            self._stop(f"{self.path}.{name}: missing")
        return Field(value[name], f"{self.path}.{name}", self.error)

    def items(self) -> tuple[Field, ...]:
        """An array's items."""
        if not isinstance(self.value, list):
            self.refuse("an array")
        return tuple(Field(item, f"{self.path}[{index}]", self.error) for index, item in enumerate(self.value))

    def text(self) -> str:
        """A string that is not empty."""
        if not isinstance(self.value, str) or not self.value:
            self.refuse("a string that is not empty")
        return self.value

    def identifier(self) -> str:
        """A string that is not empty and has at most 255 bytes in UTF-8."""
        text = self.text()
        if len(text.encode("utf-8", "surrogatepass")) > LONGEST_IDENTIFIER_BYTES:
            self.refuse(f"an identifier of at most {LONGEST_IDENTIFIER_BYTES} bytes")
        return text

    def string(self) -> str:
        """A string, which may be empty."""
        if not isinstance(self.value, str):
            self.refuse("a string")
        return self.value

    def texts(self) -> dict[str, str]:
        """An object whose values are all strings that are not empty."""
        members = self.mapping()
        return {name: Field(item, f"{self.path}.{name}", self.error).text() for name, item in members.items()}

    def integer(self, minimum: int | None = None) -> int:
        """A whole number, not below ``minimum``."""
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            self.refuse("a whole number")
        if minimum is not None and self.value < minimum:
            self.refuse(f"at least {minimum}")
        return self.value

    def sha256(self) -> str:
        """A SHA-256 in lower-case hexadecimal."""
        if not is_sha256(self.value):
            self.refuse("64 lower-case hexadecimal digits")
        return str(self.value)

    def time(self) -> str:
        """A moment in UTC, as ``timestamp`` writes them."""
        if isinstance(self.value, str) and _TIME.fullmatch(self.value):
            try:
                datetime.fromisoformat(self.value)
                return self.value
            except ValueError:
                pass
        self.refuse("a time in UTC such as 2026-11-21T09:30:00Z")

    def one_of(self, names: Collection[str]) -> str:
        """One of the given strings."""
        if self.value not in names:
            self.refuse("one of " + ", ".join(names))
        return str(self.value)

    def refuse(self, expected: str) -> NoReturn:
        """Raise the reader's error: the path, what is there, what was expected."""
        shown = repr(self.value)
        shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "..."
        self._stop(f"{self.path}: {shown}, expected {expected}")

    def _stop(self, message: str) -> NoReturn:
        raise self.error(message)


def is_sha256(value: Any) -> bool:
    """Whether it is a SHA-256 in lower-case hexadecimal."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def timestamp(when: datetime | None = None) -> str:
    """``when`` (aware; now, where it is left out) in UTC to the microsecond, RFC 3339 with a Z.

    Raises UsageError for a naive datetime: whose clock it was is then unknown.
    """
    when = datetime.now(timezone.utc) if when is None else when
    if when.tzinfo is None:
        raise UsageError(f"{when!r} has no time zone", "take datetime.now(UTC)")
    return when.astimezone(timezone.utc).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
