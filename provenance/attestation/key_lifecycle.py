"""A signing key's life in its home: made, replaced by another, revoked, expired.

A key that is replaced signs the statement that introduces its successor, which signs it too, and is then removed: what
it signed before stays verifiable. Each step leaves the home usable: the new key is written, then the statement, then
``signer.json`` names the new key. A rotation that was interrupted between the last two is ended by the next ``rotate``.
A key that was revoked or is expired introduces nobody; the home still trusts what it signed before.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from provenance.attestation.key_home import FIRST_KEY, KeyRing
from provenance.attestation.key_statements import EXPIRES, REVOKED, ROTATED, KeyHistory, KeyStatement, keep, moment
from provenance.attestation.passphrases import asked_passphrase, passphrase_file, stored_passphrase
from provenance.attestation.private_keys import is_uri, open_signer, private_pem, public_of, signer_of
from provenance.attestation.trust import TrustPolicy
from provenance.errors import KeyFileError, UsageError
from provenance.formats.atomic_io import make_folder
from provenance.formats.strict_json import timestamp
from provenance.signatures.public_key import PublicKey

if TYPE_CHECKING:
    from provenance.signatures.signer import MessageSigner


@dataclass(frozen=True)
class KeyChange:
    """The key that signs now, the one that signed before, and the statements to hand out."""

    key: PublicKey
    before: PublicKey | None
    statements: tuple[Path, ...] = ()


def new_key(ring: KeyRing, passphrase: bytes | None, expires: str | None) -> KeyChange:
    """Make a signing key where there is none, or where the one there was revoked, was rotated or is expired.

    Raises UsageError where the key there may still sign, KeyFileError where none can be made.
    """
    before = ring.public_key() if ring.exists else None
    if before is not None and not _ended(ring, before.keyid):
        raise UsageError(f"{ring.home} has the signing key {before.keyid}", "replace it with `ndrepro keys rotate`")
    if before is None:
        ring.make(passphrase)
        return KeyChange(ring.public_key(), None, _expiry(ring, expires))
    key, _, name = _fresh(ring, passphrase)
    return _replaced(ring, name, key, before, expires)


def rotate(ring: KeyRing, passphrase: bytes | None, expires: str | None) -> KeyChange:
    """Make a new signing key, which the old one introduces. Raises UsageError where the old one cannot."""
    if not ring.exists:
        raise UsageError(f"{ring.home} has no signing key to rotate", "make one with `ndrepro keys new`")
    before = ring.public_key()
    started = KeyHistory.load(ring.home).successor(before.keyid)
    if started is not None and (ring.home / _name(started)).is_file():
        return _chosen(ring, _name(started), started, before, ring.statements())
    _expect_usable(ring, before)
    old = ring.signer()
    key, signer, name = _fresh(ring, passphrase)
    return _introduced(ring, name, key, signer, before, old, expires)


def use_source(ring: KeyRing, source: str, public: PublicKey | None, expires: str | None) -> KeyChange:
    """Sign with a key that exists elsewhere, from now on: the path of its file, or a signer's URI.

    A key that signed before introduces it. Raises KeyFileError where the source does not sign with ``public``.
    """
    place = source if is_uri(source) else str(Path(source).expanduser().absolute())
    make_folder(ring.home, 0o700)
    signer, key = open_signer(place, public, lambda what: _secret(ring, what))
    if not ring.exists:
        return _chosen(ring, place, key, None, (), expires)
    before = ring.public_key()
    if before == key:
        raise UsageError(f"{key.keyid} is the key that signs already")
    if _ended(ring, before.keyid):
        return _replaced(ring, place, key, before, expires)
    return _introduced(ring, place, key, signer, before, ring.signer(), expires)


def revoke(ring: KeyRing, keyid: str | None, since: str, reason: str) -> tuple[KeyStatement, Path]:
    """Revoke this home's key, or one that was rotated to it, and keep the statement; its path.

    Raises UsageError for another's key, which only its holder can revoke, and for a time to come.
    """
    if not ring.exists:
        raise UsageError(f"{ring.home} has no signing key to revoke")
    own = ring.public_key()
    keys = {key.keyid: key for key in (own, *KeyHistory.load(ring.home).family(own.keyid))}
    key = keys.get(keyid or own.keyid)
    if key is None:
        raise UsageError(
            f"{keyid}: not a key of yours, and only its holder can revoke it",
            "import the holder's statement with `ndrepro keys import FILE`, or stop trusting it: `ndrepro keys remove`",
        )
    if moment(since) > datetime.now(timezone.utc):
        raise UsageError(f"{since} is to come", "a key that ends later expires: ndrepro keys new --expires DATE")
    return keep(ring.home, KeyStatement(REVOKED, key, since, reason=reason).sign(ring.ended_signer()))


def day_or_time(text: str) -> str:
    """A date (its first moment in UTC) or a time in UTC, as statements write it. Raises UsageError."""
    try:
        when = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise UsageError(f"{text!r}: no date", "write it as 2027-01-31 or 2027-01-31T12:00:00Z") from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return timestamp(when)


def _introduced(
    ring: KeyRing,
    source: str,
    key: PublicKey,
    signer: MessageSigner,
    before: PublicKey,
    old: MessageSigner,
    expires: str | None,
) -> KeyChange:
    statement = KeyStatement(ROTATED, before, timestamp(), successor=key)
    _, path = keep(ring.home, statement.sign(old, signer))
    return _chosen(ring, source, key, before, (path,), expires)


def _replaced(ring: KeyRing, source: str, key: PublicKey, before: PublicKey, expires: str | None) -> KeyChange:
    """The key takes the place of one that has ended; what that one signed before stays trusted here."""
    change = _chosen(ring, source, key, before, ring.statements(), expires)
    policy = TrustPolicy.load(ring.home)
    if policy.name_of(before.keyid) is None:
        policy.add(before.pem, f"this machine's former key {before.keyid[:8]}")
    return change


def _chosen(
    ring: KeyRing,
    source: str,
    key: PublicKey,
    before: PublicKey | None,
    statements: tuple[Path, ...],
    expires: str | None = None,
) -> KeyChange:
    old = ring.path
    ring.choose(source, key)
    if old.parent == ring.home and old.name.startswith("signing-key") and old.name != source:
        with contextlib.suppress(OSError):
            old.unlink()
    return KeyChange(key, before, (*statements, *_expiry(ring, expires)))


def _fresh(ring: KeyRing, passphrase: bytes | None) -> tuple[PublicKey, MessageSigner, str]:
    """A new key in a file of the home: its public half, its signer, the file's name."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    key = public_of(private)
    try:
        ring.write_key(_name(key), private_pem(private, passphrase))
    except OSError as error:
        raise KeyFileError(f"{ring.home}: no key can be made there ({error.strerror})", "make room") from error
    return key, signer_of(private), _name(key)


def _expiry(ring: KeyRing, expires: str | None) -> tuple[Path, ...]:
    if expires is None:
        return ()
    return (keep(ring.home, KeyStatement(EXPIRES, ring.public_key(), expires).sign(ring.signer()))[1],)


def _expect_usable(ring: KeyRing, key: PublicKey) -> None:
    ended = _ended(ring, key.keyid)
    if ended:
        raise UsageError(
            f"the signing key {key.keyid} introduces no other: {ended}", "make a new one with `ndrepro keys new`"
        )


def _ended(ring: KeyRing, keyid: str) -> str:
    return next((str(limit) for limit in KeyHistory.load(ring.home).limits(keyid) if limit.ends_signing), "")


def _secret(ring: KeyRing, what: str) -> bytes:
    file = passphrase_file(ring.passphrases)
    return asked_passphrase(what) if file is None else stored_passphrase(file)


def _name(key: PublicKey) -> str:
    return FIRST_KEY.replace(".pem", f"-{key.keyid[:16]}.pem")
