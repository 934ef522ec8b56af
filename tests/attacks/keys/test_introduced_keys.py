"""Attacks by rotations: a key that was revoked, has expired or was replaced must bring nobody else in.

The reader trusts Ada's key and has some statements on it. The thief has that key, and one of his own, and signs any
rotation between the two with any date. The reader gets the statements in every order.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
from keyed_runs import signature_check, signed_at
from reviewed_runs import Reviewed

from ndrepro.analysis.results.results import read_results
from ndrepro.analysis.results.reviewer_verdicts import read_attestations
from provenance.attestation import key_lifecycle
from provenance.attestation.key_home import KeyRing
from provenance.attestation.key_statements import EXPIRES, REVOKED, ROTATED, KeyHistory, KeyStatement, keep, keep_all
from provenance.attestation.trust import TrustPolicy
from provenance.errors import TrustError
from provenance.formats.strict_json import timestamp

LONG_AGO, EARLIER, LATER = "2020-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-06-01T00:00:00Z"
FUTURE = "2099-01-01T00:00:00Z"


class Keys:
    """Ada's key, the one that she takes next, and the thief's own, each in a home."""

    def __init__(self, root: Path) -> None:
        self.ada, self.next, self.thief = (KeyRing(root / name) for name in ("ada", "next", "thief"))

    def rotated(self, old: KeyRing, new: KeyRing, time: str) -> bytes:
        statement = KeyStatement(ROTATED, old.public_key(), time, successor=new.public_key())
        return statement.sign(old.ended_signer(), new.ended_signer())

    def ended(self, event: str, by: KeyRing | None = None) -> bytes:
        return KeyStatement(event, self.ada.public_key(), EARLIER, reason="lost").sign((by or self.ada).ended_signer())


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def read(statements: tuple[tuple[str, bytes], ...], anchor: str) -> tuple[set[str], set[str]]:
    """Whom an anchor introduces once all these came, each when it says, and who is one holder by them."""
    history = KeyHistory()
    for arrived, data in statements:
        try:
            history.add(data, arrived)
        except TrustError as error:
            assert "introduces no other" in error.message or "import the rotation first" in error.cure
    return {key.keyid for key in history.introduced(anchor)}, {key.keyid for key in history.family(anchor)}


LIMITS: dict[str, Callable[[Keys], list[bytes]]] = {
    "revoked": lambda keys: [keys.ended(REVOKED)],
    "expired": lambda keys: [keys.ended(EXPIRES)],
    "replaced": lambda keys: [keys.rotated(keys.ada, keys.next, EARLIER)],
    "replaced, then revoked": lambda keys: [keys.rotated(keys.ada, keys.next, EARLIER), keys.ended(REVOKED, keys.next)],
}


@pytest.mark.parametrize("stated", [LONG_AGO, LATER, FUTURE])
@pytest.mark.parametrize("limit", LIMITS)
def test_a_key_that_has_ended_introduces_no_predecessor_and_no_successor(keys: Keys, limit: str, stated: str) -> None:
    """The thief names himself as the one that Ada's key replaced, or as the one that replaces it."""
    honest = [(LATER, data) for data in LIMITS[limit](keys)]
    before = (LATER, keys.rotated(keys.thief, keys.ada, stated))
    after = (LATER, keys.rotated(keys.ada, keys.thief, stated))
    for theft in (before, after)[: 1 if limit.startswith("replaced") else 2]:
        for order in permutations((theft, *honest)):
            assert keys.thief.keyid not in read(order, keys.ada.keyid)[0]
        assert keys.thief.keyid in read((theft,), keys.ada.keyid)[0], "the control: until the reader hears of it"


@pytest.mark.parametrize("event", [REVOKED, EXPIRES])
def test_a_rotation_that_came_in_time_holds_whatever_ends_the_old_key_later(keys: Keys, event: str) -> None:
    rotation = keys.rotated(keys.ada, keys.next, LONG_AGO)
    for arrived, holds in ((LONG_AGO, True), (LATER, False)):
        found = read(((arrived, rotation), (LATER, keys.ended(event))), keys.ada.keyid)[0]
        assert (keys.next.keyid in found) == holds
    # the successor was never limited, so it introduces the old key for what that one signed before
    assert keys.ada.keyid in read(((LATER, rotation), (LATER, keys.ended(event))), keys.next.keyid)[0]


def test_an_honest_chain_is_followed_in_every_order(keys: Keys) -> None:
    chain = [keys.rotated(keys.ada, keys.next, EARLIER), keys.rotated(keys.next, keys.thief, LATER)]
    for order in permutations(chain):
        introduced, family = read(tuple((timestamp(), data) for data in order), keys.ada.keyid)
        assert introduced == family == {keys.next.keyid, keys.thief.keyid}


@pytest.mark.parametrize("limit", LIMITS)
def test_a_reader_s_home_does_not_believe_the_thief(keys: Keys, limit: str, tmp_path: Path) -> None:
    """The same by the files of a key home, which keeps when each came, also in a copy of it."""
    reader = tmp_path / "reader"
    TrustPolicy.load(reader).add(keys.ada.public_key().pem, "Ada")
    by_thief = signed_at(tmp_path / "m.json", keys.thief, timestamp())
    keep(reader, keys.rotated(keys.thief, keys.ada, FUTURE))
    assert signature_check(by_thief, reader).status == "pass", "the control"
    for data in LIMITS[limit](keys):
        keep(reader, data)
    assert "no trusted key" in signature_check(by_thief, reader).message


def test_a_home_keeps_when_a_rotation_came_first(keys: Keys, tmp_path: Path) -> None:
    home = tmp_path / "reader"
    rotation = keys.rotated(keys.ada, keys.next, LONG_AGO)
    path = keep(home, rotation)[1]
    early = path.rename(path.with_name(f"20200101T000000.000000Z-{path.name.partition('-')[2]}"))
    assert keep(home, rotation)[1] == early, "the same statement, again"
    keep(home, keys.ended(REVOKED))
    assert [key.keyid for key in KeyHistory.load(home).introduced(keys.ada.keyid)] == [keys.next.keyid]
    early.rename(early.with_name("by-hand.dsse.json"))
    assert KeyHistory.load(home).introduced(keys.ada.keyid) == (), "put there by hand, it arrived when it was written"
    os.utime(home / "key-statements" / "by-hand.dsse.json", (1577836800, 1577836800))
    assert [key.keyid for key in KeyHistory.load(home).introduced(keys.ada.keyid)] == [keys.next.keyid]


@pytest.mark.parametrize("event", [REVOKED, EXPIRES])
def test_a_reader_of_the_new_key_gets_the_old_one_in_every_order(keys: Keys, event: str, tmp_path: Path) -> None:
    """What a holder hands out together, named as a glob gives it; after an expiry also one by one."""
    files = [tmp_path / name for name in ("end", "rotation")]
    files[0].write_bytes(keys.ended(event))
    files[1].write_bytes(keys.rotated(keys.ada, keys.next, LONG_AGO))
    for number, order in enumerate(permutations(files)):
        for together in (True, *([False] if event == EXPIRES else [])):
            home = tmp_path / f"reader{number}{together}"
            TrustPolicy.load(home).add(keys.next.public_key().pem, "Ada")
            for some in [order] if together else [(file,) for file in order]:
                keep_all(home, some)
            former = TrustPolicy.load(home).key(keys.ada.keyid)
            assert (
                former is not None
                and former.refusal("2019-01-01T00:00:00Z") is None
                and former.refusal(LATER) is not None
            )


def test_a_home_trusts_every_key_that_it_replaced(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "ada")
    first = ring.public_key()
    replaced = [key_lifecycle.rotate(ring, None, None).before for _ in range(3)]
    assert replaced[0] == first
    policy = TrustPolicy.load(ring.home)
    assert {key.keyid for key in policy.own_keys()} == {ring.keyid, *(key.keyid for key in replaced if key)}


# -- what a revocation must not part ---------------------------------------------------------------------------------


def test_an_author_who_revokes_a_former_key_is_still_no_second_party(tmp_path: Path) -> None:
    """Before, a revocation between the run and the rotation made two people of one, both of whom count."""
    reviewed, since = Reviewed(tmp_path), timestamp()
    author, reader = KeyRing(reviewed.author.home), tmp_path / "reader"
    for ring, name in ((author, "Ada"), (KeyRing(reviewed.reviewer.home), "Rita")):
        TrustPolicy.load(reader).add(ring.public_key().pem, name)
    former = author.keyid
    (rotation,) = key_lifecycle.rotate(author, None, None).statements
    TrustPolicy.load(reader).add(author.public_key().pem, "Adele")
    keep(reader, rotation.read_bytes())
    reviewed.sign(reviewed.run, reviewed.same, "identical", home=author.home)

    def by_another() -> bool:
        policy = TrustPolicy.load(reader)
        scores = read_results((reviewed.author.runs, reviewed.reviewer.runs), policy=policy)
        (held,) = read_attestations(scores, policy).held
        return held.by_another

    assert not by_another()
    _, revocation = key_lifecycle.revoke(author, former, since, "old disk")
    keep(reader, revocation.read_bytes())
    assert TrustPolicy.load(reader).introducers(author.keyid) == (author.keyid,)
    assert not by_another()
