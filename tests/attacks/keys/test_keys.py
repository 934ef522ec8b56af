"""Attacks with keys: stolen, backdated, expired, forged statements, hijacked rotations, damaged and shared homes.

The victim is a reader who trusts the author's key. The thief has a copy of the author's key home from before.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from keyed_runs import signature_check, signed_at
from reviewed_runs import Reviewed

from ndrepro.analysis.results.results import read_results
from ndrepro.analysis.results.reviewer_verdicts import read_attestations
from provenance.attestation import key_lifecycle
from provenance.attestation.key_home import KeyRing
from provenance.attestation.key_statements import REVOKED, ROTATED, KeyStatement, keep
from provenance.attestation.trust import TrustPolicy
from provenance.errors import KeyFileError, ProvenanceError, TrustError
from provenance.formats.strict_json import timestamp

THEFT = "2026-06-01T00:00:00.000000Z"
BEFORE, AFTER = "2026-05-31T12:00:00.000000Z", "2026-06-02T12:00:00.000000Z"


class Theft:
    """An author, the thief with a copy of the author's key home, and a reader who trusts the author's key."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.author = KeyRing(root / "author")
        self.reader = root / "reader"
        TrustPolicy.load(self.reader).add(self.author.public_key().pem, "Ada")
        shutil.copytree(self.author.home, root / "thief")
        self.thief = KeyRing(root / "thief")
        self.stranger = KeyRing(root / "stranger")

    def revoke(self) -> Path:
        """The author revokes the key since the theft; the statement's file."""
        return key_lifecycle.revoke(self.author, None, THEFT, "laptop stolen")[1]

    def tell(self, statement: Path) -> None:
        """The reader imports a statement."""
        keep(self.reader, statement.read_bytes())

    def signature(self, finished_on: str, ring: KeyRing | None = None) -> str:
        """What the reader's check of the signature gives for a run that states this time."""
        check = signature_check(signed_at(self.root / "m.json", ring or self.thief, finished_on), self.reader)
        return check.status if check.status == "pass" else check.message


@pytest.fixture
def theft(tmp_path: Path) -> Theft:
    return Theft(tmp_path)


def test_a_stolen_key_signs_nothing_once_its_revocation_is_known(theft: Theft) -> None:
    assert theft.signature(AFTER) == "pass"  # the control: until then the thief is the author
    theft.tell(theft.revoke())
    assert "Ada" in theft.signature(
        AFTER
    ) and "revoked since 2026-06-01 00:00:00 UTC: laptop stolen" in theft.signature(AFTER)
    assert theft.signature(BEFORE) == "pass"  # what the author signed before stays verifiable


def test_a_backdated_signature_passes_which_the_docs_say(theft: Theft) -> None:
    """The finding: the time of signing is the signer's word. A policy's "until" narrows it (test_policy), a witness
    of the ledger from before the theft disproves it."""
    theft.tell(theft.revoke())
    assert theft.signature(BEFORE, theft.thief) == "pass"
    # a revocation of everything leaves the thief nothing to date back to
    _, everything = key_lifecycle.revoke(theft.author, None, "2000-01-01T00:00:00.000000Z", "nothing of it counts")
    theft.tell(everything)
    assert "revoked since 2000-01-01" in theft.signature(BEFORE, theft.thief)


def test_a_thief_cannot_date_the_revocation_later(theft: Theft) -> None:
    theft.tell(theft.revoke())
    theft.tell(key_lifecycle.revoke(theft.thief, None, timestamp(), "mistake, all is well")[1])
    assert "revoked since 2026-06-01" in theft.signature(AFTER)


def test_an_expired_key_signs_nothing_later_and_nobody_extends_it(theft: Theft) -> None:
    for ring, when in ((theft.author, THEFT), (theft.thief, "2099-01-01T00:00:00.000000Z")):
        key = ring.public_key()
        theft.tell(keep(ring.home, KeyStatement("expires", key, when).sign(ring.ended_signer()))[1])
    assert "expired on 2026-06-01" in theft.signature(AFTER)
    assert theft.signature(BEFORE) == "pass"
    with pytest.raises(KeyFileError, match="cannot sign: expired on 2026-06-01"):
        theft.author.signer()


@pytest.mark.parametrize("event", [REVOKED, "expires"])
def test_a_strangers_statement_on_a_key_is_refused_and_not_kept(theft: Theft, event: str) -> None:
    forged = KeyStatement(event, theft.author.public_key(), THEFT, reason="because").sign(theft.stranger.signer())
    with pytest.raises(TrustError, match="no key that may say so signed"):
        keep(theft.reader, forged)
    assert theft.signature(AFTER, theft.author) == "pass"
    assert not list((theft.reader / "key-statements").glob("*.json"))
    # put there by hand, it is an error that names the file, and neither believed nor ignored
    (theft.reader / "key-statements" / "forged.dsse.json").write_bytes(forged)
    with pytest.raises(TrustError, match=r"forged\.dsse\.json: no key that may say so signed"):
        TrustPolicy.load(theft.reader)


def test_a_rotation_needs_both_keys(theft: Theft) -> None:
    """Neither makes a stranger the author's successor, nor the author the stranger's (whose runs would be Ada's)."""
    author, stranger = theft.author, theft.stranger
    for old, new, signer in ((author, stranger, stranger), (author, stranger, author), (stranger, author, stranger)):
        statement = KeyStatement(ROTATED, old.public_key(), THEFT, successor=new.public_key())
        with pytest.raises(TrustError, match="not signed by both keys"):
            keep(theft.reader, statement.sign(signer.signer()))
    assert "no trusted key" in theft.signature(AFTER, stranger)


def test_a_revoked_key_introduces_no_successor_whatever_time_it_states(theft: Theft) -> None:
    hijack = KeyStatement(ROTATED, theft.author.public_key(), BEFORE, successor=theft.stranger.public_key())
    statement = hijack.sign(theft.thief.signer(), theft.stranger.signer())
    theft.tell(theft.revoke())
    with pytest.raises(TrustError, match="is revoked, and introduces no other"):
        keep(theft.reader, statement)
    assert "no trusted key" in theft.signature(AFTER, theft.stranger)


def test_a_hijacked_rotation_is_undone_by_a_revocation_from_before_it(theft: Theft) -> None:
    statement = KeyStatement(ROTATED, theft.author.public_key(), AFTER, successor=theft.stranger.public_key())
    keep(theft.reader, statement.sign(theft.thief.signer(), theft.stranger.signer()))
    assert theft.signature(AFTER, theft.stranger) == "pass"  # the reader cannot know yet
    honest = key_lifecycle.rotate(theft.author, None, None)
    with pytest.raises(TrustError, match=r"was rotated to .* already"):
        theft.tell(honest.statements[0])
    theft.tell(key_lifecycle.revoke(theft.thief, None, THEFT, "stolen")[1])
    assert "no trusted key" in theft.signature(AFTER, theft.stranger)


def test_a_chain_of_rotations_keeps_old_runs_and_names_the_rotation(theft: Theft) -> None:
    old = theft.author.keyid
    statements = [key_lifecycle.rotate(theft.author, None, None).statements[0] for _ in range(3)]
    assert "no trusted key" in theft.signature(timestamp(), theft.author)
    for statement in statements:
        theft.tell(statement)
    assert theft.signature(timestamp(), theft.author) == "pass"
    assert "rotated on" in theft.signature(timestamp(), theft.thief)  # the old key signs no more
    manifest = signed_at(theft.root / "old.json", theft.thief, BEFORE)
    found = signature_check(manifest, theft.reader)
    assert found.status == "pass" and f"Ada ({old}, rotated on" in found.message
    # at home likewise: the run of three keys ago is this machine's
    assert signature_check(manifest, theft.author.home).status == "pass"
    assert not [path for path in theft.author.home.glob("signing-key*") if path != theft.author.path]


def test_a_circle_of_rotations_is_refused(theft: Theft) -> None:
    author, stranger = theft.author, theft.stranger
    pairs = ((author, stranger), (stranger, author))
    first, back = (
        KeyStatement(ROTATED, old.public_key(), AFTER, successor=new.public_key()).sign(old.signer(), new.signer())
        for old, new in pairs
    )
    keep(theft.reader, first)
    with pytest.raises(TrustError, match="cannot succeed it"):
        keep(theft.reader, back)
    itself = KeyStatement(ROTATED, author.public_key(), AFTER, successor=author.public_key())
    with pytest.raises(TrustError, match=r"already"):
        keep(theft.reader, itself.sign(author.signer()))


def test_a_revoked_own_key_never_signs_again(theft: Theft) -> None:
    theft.revoke()
    with pytest.raises(KeyFileError, match=r"cannot sign: revoked since .*laptop stolen") as caught:
        theft.author.signer()
    assert "ndrepro keys new" in caught.value.cure
    with pytest.raises(ProvenanceError, match="introduces no other"):
        key_lifecycle.rotate(theft.author, None, None)
    old = signed_at(theft.root / "old.json", theft.thief, BEFORE)
    key_lifecycle.new_key(theft.author, None, None)
    theft.author.signer()
    assert signature_check(old, theft.author.home).status == "pass"


def _pipe(path: Path) -> None:
    os.mkfifo(path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "no JSON": lambda path: path.write_bytes(b"{"),
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe"),
    "deep": lambda path: path.write_bytes(b"[" * 60_000),
    "another document": lambda path: path.write_text(json.dumps({"schema": "x", "keys": []})),
    "a folder": lambda path: path.mkdir(),
    "a pipe": _pipe,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a loop": lambda path: path.symlink_to(path),
    "too large": lambda path: path.write_bytes(b" " * 70_000),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["trust.json", "signer.json", "key-statements/x.dsse.json"])
def test_a_damaged_file_of_the_key_home_trusts_nobody_and_stops(theft: Theft, name: str, damage: str) -> None:
    path = theft.author.home / name
    path.parent.mkdir(exist_ok=True)
    DAMAGES[damage](path)
    manifest = signed_at(theft.root / "m.json", theft.thief, BEFORE)
    with pytest.raises(ProvenanceError, match=name.rpartition("/")[2].replace(".", r"\.")):
        signature_check(manifest, theft.author.home)


@pytest.mark.parametrize("kind", ["file", "loop", "statements"])
def test_a_key_home_that_is_none_is_an_error(theft: Theft, kind: str) -> None:
    home = theft.root / "odd"
    if kind == "statements":
        home.mkdir()
        (home / "key-statements").touch()
    elif kind == "loop":
        home.symlink_to(home)
    else:
        home.touch()
    with pytest.raises(ProvenanceError, match="odd"):
        TrustPolicy.load(home)


@pytest.mark.parametrize(
    ("mode", "refused"), [(0o700, False), (0o701, False), (0o755, False), (0o702, True), (0o720, True)]
)
def test_a_home_that_others_can_write_to_trusts_nobody(theft: Theft, mode: int, refused: bool) -> None:
    """0o701 lets others pass through, to files that are private or public by purpose; 0o702 lets them add keys."""
    manifest = signed_at(theft.root / "m.json", theft.author, BEFORE)
    theft.reader.chmod(mode)
    try:
        if refused:
            with pytest.raises(TrustError, match=f"mode {mode:o}, others may change which keys are trusted"):
                signature_check(manifest, theft.reader)
        else:
            assert signature_check(manifest, theft.reader).status == "pass"
            assert all(not path.stat().st_mode & 0o022 for path in theft.reader.iterdir())
    finally:
        theft.reader.chmod(0o700)


def test_a_trust_file_that_others_can_write_to_is_refused(theft: Theft) -> None:
    (theft.reader / "trust.json").chmod(0o666)
    with pytest.raises(TrustError, match=r"trust\.json: mode 666"):
        TrustPolicy.load(theft.reader)


def test_an_author_who_rotated_the_key_is_no_second_party(tmp_path: Path) -> None:
    reviewed = Reviewed(tmp_path)
    author, reader = KeyRing(reviewed.author.home), tmp_path / "reader"
    TrustPolicy.load(reader).add(author.public_key().pem, "Ada")
    TrustPolicy.load(reader).add(KeyRing(reviewed.reviewer.home).public_key().pem, "Rita")
    (statement,) = key_lifecycle.rotate(author, None, None).statements
    TrustPolicy.load(reader).add(KeyRing(reviewed.author.home).public_key().pem, "Adele")
    reviewed.sign(reviewed.run, reviewed.same, "identical", home=reviewed.author.home)

    def by_another() -> bool:
        policy = TrustPolicy.load(reader)
        scores = read_results((reviewed.author.runs, reviewed.reviewer.runs), policy=policy)
        (held,) = read_attestations(scores, policy).held
        return held.by_another

    assert by_another()  # the control: two keys whose relation the reader does not know
    keep(reader, statement.read_bytes())
    assert not by_another()
