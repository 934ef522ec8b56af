"""Statements on keys: written, read back, joined to holders and limits. Forgeries: tests/attacks/keys/test_keys.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from provenance.attestation.dsse import read_envelope
from provenance.attestation.key_home import KeyRing
from provenance.attestation.key_statements import (
    EXPIRES,
    REVOKED,
    ROTATED,
    KeyHistory,
    KeyLimit,
    KeyStatement,
    keep,
    statement_files,
)
from provenance.errors import ProvenanceError, TrustError

EARLY, LATE = "2026-01-01T00:00:00.000000Z", "2026-06-01T00:00:00Z"


@pytest.fixture
def rings(tmp_path: Path) -> list[KeyRing]:
    return [KeyRing(tmp_path / name) for name in "abcd"]


def rotation(old: KeyRing, new: KeyRing, time: str = LATE) -> bytes:
    statement = KeyStatement(ROTATED, old.public_key(), time, successor=new.public_key())
    return statement.sign(old.ended_signer(), new.ended_signer())


def test_a_statement_reads_back_as_it_was_written(rings: list[KeyRing]) -> None:
    one, two, *_ = rings
    key = one.public_key()
    for statement in (
        KeyStatement(EXPIRES, key, EARLY),
        KeyStatement(REVOKED, key, LATE, reason="štolen"),
        KeyStatement(ROTATED, key, LATE, successor=two.public_key()),
    ):
        payload = read_envelope(statement.sign(one.signer()))[1]
        assert KeyStatement.from_payload(payload) == statement


def test_holders_are_joined_over_chains_and_mergers(rings: list[KeyRing], tmp_path: Path) -> None:
    a, b, c, d = (ring.keyid for ring in rings)
    history = KeyHistory()
    for old, new in ((0, 1), (1, 3), (2, 3)):  # a to b to d, and c to d
        history.add(rotation(rings[old], rings[new]))
    for keyid in (a, b, c, d):
        assert {keyid, *(key.keyid for key in history.family(keyid))} == {a, b, c, d}
    assert [key.keyid for key in history.family(a)] == [b, d, c]
    assert history.family("0" * 64) == ()


def test_limits_come_earliest_first_and_know_their_own_end(rings: list[KeyRing]) -> None:
    ring = rings[0]
    history, key = KeyHistory(), ring.public_key()
    for statement in (KeyStatement(EXPIRES, key, LATE), KeyStatement(REVOKED, key, EARLY, reason="lost")):
        history.add(statement.sign(ring.ended_signer()))
    assert [limit.event for limit in history.limits(ring.keyid)] == [REVOKED, EXPIRES]
    assert history.limits("0" * 64) == ()
    limit = KeyLimit(EXPIRES, "2026-06-01T00:00:00.5Z")
    moments = ("2026-06-01T00:00:00Z", "2026-06-01T00:00:00.4Z", "2026-06-01T00:00:00.50Z", "2026-06-01T00:00:01Z")
    assert [limit.refuses(when) for when in (*moments, None)] == [False, False, True, True, True]


def test_a_home_keeps_each_statement_once(rings: list[KeyRing], tmp_path: Path) -> None:
    home = tmp_path / "home"
    data = rotation(rings[0], rings[1])
    paths = {keep(home, data)[1] for _ in range(2)}
    assert list(statement_files(home, [rings[0].keyid])) == [*paths]
    assert statement_files(home, [rings[1].keyid]) == ()
    # a revocation by the successor is read after the rotation that introduces it, whatever their names and dates
    revoked = KeyStatement(REVOKED, rings[0].public_key(), EARLY, reason="old")
    keep(home, revoked.sign(rings[1].ended_signer()))
    assert [limit.event for limit in KeyHistory.load(home).limits(rings[0].keyid)] == [REVOKED, ROTATED]
    assert KeyHistory.load(home).introduced(rings[0].keyid) == ()  # it was revoked from before it introduced anyone


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"event": "sold"}, "expected one of rotated, revoked, expires"),
        ({"time": "today"}, r"\$\.predicate\.time: 'today'"),
        ({"key": "x"}, r"\$\.predicate\.key: not a public key"),
        ({"reason": ""}, r"\$\.predicate\.reason"),
        ({"more": 1}, r"\$\.predicate\.more: unknown"),
    ],
)
def test_a_malformed_statement_is_refused_by_path(
    rings: list[KeyRing], change: dict[str, object], message: str
) -> None:
    statement = KeyStatement(REVOKED, rings[0].public_key(), LATE, reason="lost")
    document = json.loads(read_envelope(statement.sign(rings[0].signer()))[1])
    document["predicate"] |= change
    with pytest.raises(TrustError, match=message):
        KeyStatement.from_payload(json.dumps(document).encode())


def test_a_statement_about_another_subject_is_refused(rings: list[KeyRing]) -> None:
    statement = KeyStatement(EXPIRES, rings[0].public_key(), LATE)
    document = json.loads(read_envelope(statement.sign(rings[0].signer()))[1])
    document["subject"][0]["digest"]["sha256"] = rings[1].keyid
    with pytest.raises(TrustError, match=r"\$\.subject\[0\]\.digest\.sha256"):
        KeyStatement.from_payload(json.dumps(document).encode())
    with pytest.raises(ProvenanceError):
        KeyHistory().add(b"{}")
