"""Typed records: what the annotations say is read, and nothing else; the error says where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import pytest

from provenance.errors import TrailError
from provenance.formats.strict_json import Count, Field, read_record, read_versioned


@dataclass(frozen=True)
class Part:
    name: Annotated[str, Field.text]
    size: Count


@dataclass(frozen=True)
class Whole:
    title: str
    number: int
    parts: tuple[Part, ...]
    named: Mapping[str, Part]
    rank: Count | None
    one: Part | None = None
    here: str = "not in the object"


PART = Part("a", 1)
WHOLE = Whole("t", -1, (PART,), {"b": PART}, None, PART)


def document(**changed: Any) -> dict[str, Any]:
    return {name: value for name, value in asdict(WHOLE).items() if name != "here"} | changed


def read(value: Any) -> Whole:
    return read_record(Whole, Field(value, "w", TrailError), later=("one",), apart=("here",))


def test_what_was_written_is_read():
    assert read(document(parts=[asdict(PART)])) == WHOLE
    older = {name: value for name, value in document(parts=[asdict(PART)]).items() if name != "one"}
    assert read(older).one is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"more": 1}, "w.more: unknown"),
        ({"here": "x"}, "w.here: unknown"),
        ({"title": 1}, "w.title: 1, expected a string"),
        ({"number": True}, "w.number: True, expected a whole number"),
        ({"number": None}, "w.number: None, expected a whole number"),
        ({"parts": [{"name": "", "size": 0}]}, "w.parts[0].name: '', expected a string that is not empty"),
        ({"parts": {}}, "w.parts: {}, expected an array"),
        ({"named": {"b": {"name": "a", "size": -1}}}, "w.named.b.size: -1, expected at least 0"),
        ({"named": {"b": {"name": "a"}}}, "w.named.b.size: missing"),
        ({"rank": "1"}, "w.rank: '1', expected a whole number"),
    ],
)
def test_anything_else_is_refused_with_its_path(changed: dict[str, Any], message: str):
    with pytest.raises(TrailError) as raised:
        read(document(**{"parts": [], **changed}))
    assert raised.value.message == message


def test_another_schema_has_its_own_cure():
    found = {"schema": "s", **asdict(PART)}
    assert read_versioned(Part, Field(found, "p", TrailError), "s", "update") == PART
    with pytest.raises(TrailError, match="p: schema 's', expected 't'") as raised:
        read_versioned(Part, Field(found, "p", TrailError), "t", "update")
    assert raised.value.cure == "update"
