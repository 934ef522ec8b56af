"""The in-toto statement around a manifest."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provenance.attestation.dsse import read_envelope
from provenance.attestation.statement import STATEMENT_TYPE, Statement, Subject
from provenance.errors import CanonicalError, ManifestError
from provenance.formats.canonical_json import canonical_bytes, parse

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def payload() -> bytes:
    return read_envelope((GOLDEN / "v1.manifest.dsse.json").read_bytes())[1]


def test_a_statement_comes_back_from_its_bytes_and_the_bytes_from_it(payload: bytes) -> None:
    statement = Statement.from_bytes(payload)
    assert statement.to_bytes() == payload
    assert Statement.from_bytes(statement.to_bytes()) == statement
    assert Statement.about(statement.manifest) == statement


def test_the_subjects_are_the_artifacts_by_name_and_digest(payload: bytes) -> None:
    document = parse(payload)
    assert document["_type"] == STATEMENT_TYPE == "https://in-toto.io/Statement/v1"
    artifacts = document["predicate"]["runDetails"]["artifacts"]
    assert document["subject"] == [{"name": a["path"], "digest": {"sha256": a["sha256"]}} for a in artifacts]
    statement = Statement.from_bytes(payload)
    assert statement.subjects[0] == Subject(artifacts[0]["path"], artifacts[0]["sha256"])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (
            {"_type": "https://in-toto.io/Statement/v0.1"},
            r"\$\._type: .*expected one of https://in-toto.io/Statement/v1",
        ),
        ({"predicateType": "https://slsa.dev/provenance/v1"}, "is unknown; known: urn:ndrepro:run:v1"),
        ({"subject": [{"name": "x"}]}, r"\$\.subject\[0\]\.digest: missing"),
        ({"subject": [{"name": "x", "digest": {"sha512": "00"}}]}, r"\$\.subject\[0\]\.digest\.sha256: missing"),
        ({"subject": "x"}, r"\$\.subject: 'x', expected an array"),
        ({"predicate": None}, r"\$\.predicate: None, expected an object"),
        ({"more": 1}, r"\$\.more: unknown"),
    ],
)
def test_what_breaks_the_statement_is_named(payload: bytes, change: dict[str, Any], what: str) -> None:
    with pytest.raises(ManifestError, match=what):
        Statement.from_bytes(canonical_bytes(parse(payload) | change))


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b'{"_type":1,"_type":2}'])
def test_bytes_that_are_no_statement_are_refused(data: bytes) -> None:
    with pytest.raises(ManifestError, match=r"statement is not|statement is JSON in which the key|\$"):
        Statement.from_bytes(data)


LIST, FLAGS, DETAILS = b',"resolvedDependencies":[', b'"internalParameters":{', b',"runDetails":{'
DECOYS: list[Callable[[bytes], bytes]] = [
    # an empty list of that name elsewhere, before and behind the real one; the first is sound JSON around it
    lambda p: p.replace(FLAGS, FLAGS + b'"x":{"a":1' + LIST + b']},"runDetails":{},', 1),
    lambda p: p.replace(FLAGS, FLAGS + b'"a":1' + LIST + b']},"runDetails":{}', 1),
    lambda p: p.replace(FLAGS, FLAGS + b'"a":1' + LIST + b"],", 1),
    lambda p: p.replace(DETAILS, DETAILS + b'"machine":{"a":1' + LIST + b"]},", 1),
    # its name spelled with an escape, and the plain spelling inside a string
    lambda p: p.replace(LIST, b',"resolved\\u0044ependencies":['),
    lambda p: p.replace(LIST, b',"resolved\\u0044ependencies":[').replace(
        FLAGS, FLAGS + b'"a":"\\"' + LIST.replace(b'"', b'\\"') + b'",', 1
    ),
    # one that is no list of resources, one that comes twice, one that ends early
    lambda p: p.replace(LIST, LIST + b"1,"),
    lambda p: p.replace(LIST, LIST + b"]" + LIST),
    lambda p: p.replace(LIST, LIST + b"]},{"),
]


def as_written(payload: bytes) -> bytes:
    return canonical_bytes(parse(payload))


def test_the_first_decoy_is_read_and_has_every_dependency(payload: bytes) -> None:
    real = Statement.from_bytes(payload).manifest.dependencies
    assert Statement.from_bytes(as_written(DECOYS[0](payload))).manifest.dependencies == real != ()


@pytest.mark.parametrize("make", DECOYS)
def test_a_decoy_never_stands_for_the_dependencies(payload: bytes, make: Callable[[bytes], bytes]) -> None:
    """The standard library's parser is the control: what it finds at their place is what is read, or nothing is."""
    changed = make(payload)
    assert changed != payload and payload.count(LIST) == 1
    try:
        manifest = Statement.from_bytes(as_written(changed)).manifest
    except (CanonicalError, ManifestError):
        return
    real = json.loads(changed)["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert [item.name for item in manifest.dependencies] == [item["name"] for item in real] != []


SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "blanks": lambda p: p.replace(b",", b", \t ", 1),
    "a line end": lambda p: p + b"\n",
    "an escape": lambda p: p.replace(b"machine", b"\\u006dachine", 1),
    "an escaped solidus": lambda p: p.replace(b"in-toto.io/", b"in-toto.io\\/", 1),
    "a number as a fraction": lambda p: re.sub(rb'("size":\d+)', rb"\1.0", p, count=1),
    "another order of members": lambda p: json.dumps(
        dict(reversed(parse(p).items())), ensure_ascii=False, separators=(",", ":")
    ).encode(),
    "the standard library's": lambda p: json.dumps(parse(p)).encode(),
}


@pytest.mark.parametrize("how", SPELLINGS)
def test_another_spelling_of_a_statement_is_refused(payload: bytes, how: str) -> None:
    changed = SPELLINGS[how](payload)
    assert changed != payload and as_written(changed) == payload
    with pytest.raises(ManifestError, match="not as a recorder writes it"):
        Statement.from_bytes(changed)
