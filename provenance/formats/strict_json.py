"""Strict reading of JSON from outside: every value knows its path, so every refusal names its JSON path.

A ``Field`` is a parsed JSON value and its path. Its methods return the value as what it must be, or raise the error
class of whoever reads (ManifestError, LedgerError, ...) saying the path, what is there and what was expected. Nothing
is converted and nothing is guessed: an unknown member is refused like a missing one, because a reader that skips what
it does not know would call a document understood that it did not understand.

A dataclass may be read whole (``read_record``): an object has one member for each field, which the field's annotation
says how to read. ``str`` is a string, ``int`` a whole number, ``tuple[X, ...]`` an array, ``Mapping[str, X]`` an object
of any names, a dataclass an object likewise, ``X | None`` may be null, and ``Annotated[X, read]`` is what ``read``
makes of the field.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timezone
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, NoReturn, TypeVar, Union, get_args, get_origin

from provenance.errors import ManifestError, ProvenanceError, UsageError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?Z", re.ASCII)
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
        """The name of a run's folder: of at most 255 bytes in UTF-8, and leading nowhere else, as "../x" does."""
        text = self.text()
        if text in (".", "..") or any(letter in text for letter in "/\0"):
            self.refuse("the name of a folder")
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


Record = TypeVar("Record")
_Read = Callable[[Field], Any]


def count(field: Field) -> int:
    """A whole number, not below 0."""
    return field.integer(0)


Count = Annotated[int, count]
Text = Annotated[str, Field.text]
Sha256 = Annotated[str, Field.sha256]


def read_record(
    kind: type[Record], field: Field, *, later: Collection[str] = (), apart: Collection[str] = ()
) -> Record:
    """The record that an object holds.

    Args:
        later: fields that records of earlier releases lack; they get their defaults.
        apart: fields that are never in the object.

    Raises: the field's error for a member that is missing, unknown or of another kind.
    """
    readers = _readers(kind)  # type: ignore[arg-type]  # a class is hashable
    return _made(kind, field, {name: read for name, read in readers.items() if name not in apart}, later)


def read_versioned(kind: type[Record], field: Field, schema: str, cure: str, *, later: Collection[str] = ()) -> Record:
    """The record that an object with its schema's name holds. Raises the field's error, and for others ``cure``."""
    found = field.mapping().get("schema")
    if found != schema:
        raise field.error(f"{field.path}: schema {str(found)[:80]!r}, expected {schema!r}", cure)
    rest = {name: value for name, value in field.mapping().items() if name != "schema"}
    readers = _readers(kind)  # type: ignore[arg-type]
    return _made(kind, Field(rest, field.path, field.error), readers, later)


def _made(kind: type[Record], field: Field, readers: Mapping[str, _Read], later: Collection[str]) -> Record:
    members = field.members([name for name in readers if name not in later], later)
    return kind(**{name: read(members[name]) for name, read in readers.items() if name in members})


@cache
def _readers(kind: Any) -> dict[str, _Read]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {item.name: _reader(hints[item.name]) for item in fields(kind)}


def _reader(hint: Any) -> _Read:
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Annotated:
        read: _Read = inside[1]
        return read
    if hint in (str, int):
        return Field.string if hint is str else Field.integer
    if is_dataclass(hint):
        return lambda field: read_record(typing.cast(type, hint), field)
    if origin in (Union, UnionType):
        (one,) = (_reader(each) for each in inside if each is not NoneType)
        return lambda field: None if field.value is None else one(field)
    of = _reader(inside[0 if origin is tuple else 1])
    if origin is tuple:
        return lambda field: tuple(map(of, field.items()))
    return lambda field: {name: of(member) for name, member in field.members((), field.mapping()).items()}
