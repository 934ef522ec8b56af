"""The in-toto statement around a manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provenance.attestation.dsse import read_envelope
from provenance.attestation.manifest import Manifest
from provenance.attestation.statement import STATEMENT_TYPE, Statement, Subject
from provenance.errors import ManifestError, ProvenanceError
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


LIST, FLAGS = b',"resolvedDependencies":[', b'"internalParameters":{'


def whole(payload: bytes) -> Any:
    """The statement without any list read before: what every reading must give."""
    document = parse(payload)
    predicate = Manifest.from_predicate(document["predicate"], document["predicateType"])
    return tuple(Subject(item["name"], item["digest"]["sha256"]) for item in document["subject"]), predicate


def read(payload: bytes) -> Any:
    statement = Statement.from_bytes(payload)
    return statement.subjects, statement.manifest


def test_dependencies_that_were_read_before_are_those_that_stand_there(payload: bytes) -> None:
    other = payload.replace(b"pkg:pypi/", b"pkg:pypi/x-", 1)
    assert payload.count(LIST) == 1 and other != payload
    for text in (payload, other, payload):
        assert read(text) == whole(text)
    first, second = Statement.from_bytes(payload).manifest, Statement.from_bytes(payload).manifest
    assert first.dependencies is second.dependencies, "the control: the list was read once"
    assert Statement.from_bytes(other).manifest.dependencies != first.dependencies


@pytest.mark.parametrize(
    "make",
    [
        # a list of that name elsewhere, before the real one
        lambda p: p.replace(FLAGS, FLAGS + b'"a":1' + LIST + b']},"runDetails":{}', 1),
        lambda p: p.replace(FLAGS, FLAGS + b'"a":1' + LIST + b"],", 1),
        # its name spelled with an escape, and the plain spelling inside a string
        lambda p: p.replace(LIST, b',"resolved\\u0044ependencies":['),
        lambda p: p.replace(LIST, b',"resolved\\u0044ependencies":[').replace(
            FLAGS, FLAGS + b'"a":"\\"' + LIST.replace(b'"', b'\\"') + b'",', 1
        ),
        # an empty one, and one that is no list of resources
        lambda p: p[: p.index(LIST) + len(LIST)] + p[p.index(b']},"runDetails":{') :],
        lambda p: p.replace(LIST, LIST + b"1,"),
        lambda p: p.replace(LIST, LIST + b'"]},\\"runDetails\\":{",'),
        # twice
        lambda p: p.replace(LIST, LIST + b"]" + LIST),
        lambda p: p.replace(LIST, LIST + b"]},{"),
    ],
)
def test_no_spelling_makes_the_short_reading_differ_from_the_whole(
    payload: bytes, make: Callable[[bytes], bytes]
) -> None:
    Statement.from_bytes(payload)
    changed = make(payload)
    assert changed != payload
    try:
        expected = whole(changed)
    except ProvenanceError as error:
        with pytest.raises(ManifestError) as refused:
            Statement.from_bytes(changed)
        assert error.message in refused.value.message
    else:
        assert read(changed) == expected
