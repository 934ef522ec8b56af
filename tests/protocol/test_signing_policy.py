"""A policy's document: the example of the docs, defaults, and whose signature counts when. Refusals: tests/attacks."""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.signing_policy import AUTHOR, BEFORE, NEVER, REVIEWER, RequiredVerdicts, SigningPolicy

DOCS = Path(__file__).resolve().parents[2] / "docs"
KEY, OTHER = "a" * 64, "b" * 64


def policy(**document: Any) -> SigningPolicy:
    signers = {"ada": {"keys": [KEY], "roles": ["author"]}, "rita": {"keys": [OTHER], "roles": ["reviewer"]}}
    return SigningPolicy.from_document({"signers": signers, **document}, "policy.toml")


def test_the_example_of_the_docs_is_a_policy() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", (DOCS / "how-to" / "keys.md").read_text(encoding="utf-8"), re.DOTALL)
    example = SigningPolicy.from_document(tomllib.loads(text), "docs/how-to/keys.md")
    assert [signer.name for signer in example.signers] == ["ada", "rita", "ron"]
    assert example.revoked == NEVER and example.signatures == {AUTHOR: 1, REVIEWER: 1}
    assert example.verdicts == RequiredVerdicts(1)
    assert example.signers[0].since == datetime(2026, 11, 1, tzinfo=UTC)


def test_one_author_is_required_unless_more_is_said() -> None:
    found = policy()
    assert (found.signatures, found.verdicts, found.revoked, found.title) == ({AUTHOR: 1}, None, BEFORE, "")
    assert found.signers[0].experiments == ("*",)
    assert policy(signatures={"reviewer": 1}).signatures == {AUTHOR: 1, REVIEWER: 1}
    signer = found.signer(["0" * 64, OTHER])
    assert signer is not None and signer.name == "rita" and found.signer(["0" * 64]) is None


def test_a_time_that_no_calendar_has_in_utc_is_refused() -> None:
    for line in ("from = 0001-01-01T00:00:00+23:59", "until = 9999-12-31T23:59:59-23:59"):
        with pytest.raises(UsageError, match="expected a date of the years 2 to 9998"):
            policy(signers={"ada": {"keys": [KEY], "roles": ["author"], **tomllib.loads(line)}})


@pytest.mark.parametrize(
    ("when", "objection"),
    [
        ("2026-12-31T23:59:59+00:00", "expected 2027-01-01 or later"),
        ("2027-01-01T00:00:00+00:00", ""),
        ("2027-01-31T23:59:59+00:00", ""),
        ("2027-02-01T00:00:00+00:00", "expected before 2027-02-01"),
        ("2027-02-01T00:30:00+01:00", ""),
        (None, "of unknown time"),
    ],
)
def test_dates_bound_a_half_open_span_in_utc(when: str | None, objection: str) -> None:
    document = tomllib.loads("from = 2027-01-01\nuntil = 2027-02-01T00:00:00Z")
    signer = policy(signers={"ada": {"keys": [KEY], "roles": ["author"], **document}}).signers[0]
    said = signer.objection(AUTHOR, "lenet_bn_1_digits", datetime.fromisoformat(when) if when else None)
    assert objection in said if objection else said == ""


def test_roles_and_experiments_bound_it_too() -> None:
    signer = policy(signers={"ada": {"keys": [KEY], "roles": ["author"], "experiments": ["a_*", "b?"]}}).signers[0]
    assert [signer.objection(AUTHOR, name, None) == "" for name in ("a_1", "b2", "b22", "A_1")] == [1, 1, 0, 0]
    assert signer.objection(REVIEWER, "a_1", None) == "ada is no reviewer"
