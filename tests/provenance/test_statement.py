"""The in-toto statement around a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from provenance.canonical import canonical_bytes, parse
from provenance.errors import ManifestError
from provenance.signing import read_envelope
from provenance.statement import STATEMENT_TYPE, Statement, Subject

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
    with pytest.raises(ManifestError, match=r"statement is not|statement is the key|\$"):
        Statement.from_bytes(data)
