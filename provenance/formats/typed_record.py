"""Dataclasses from JSON: an object has one member for each field, which the field's annotation says how to read.

``str`` is a string, ``int`` a whole number, ``tuple[X, ...]`` an array, ``Mapping[str, X]`` an object of any names, a
dataclass an object likewise, ``X | None`` may be null, and ``Annotated[X, read]`` is what ``read`` makes of the field.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from provenance.formats.strict_json import Field

Record = TypeVar("Record")
_Read = Callable[[Field], Any]


def count(field: Field) -> int:
    """A whole number, not below 0."""
    return field.integer(0)


Count = Annotated[int, count]


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
