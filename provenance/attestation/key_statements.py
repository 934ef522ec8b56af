"""Signed statements on keys, made to be handed around: this key was rotated, was revoked, expires.

Each is an in-toto statement in a DSSE envelope. Its subject is a key by its identifier, its predicate one of

    {"event": "rotated", "key", "time", "successor"}   signed by both keys, so that neither can claim the other
    {"event": "revoked", "key", "time", "reason"}      signed by the key, or by one that it was rotated to
    {"event": "expires", "key", "time"}                signed by the key

where keys are PEM texts. ``time`` is the moment from which no signature of the key counts any more; of several
statements the earliest does. When a signature was made is what the signed document says: a thief can date it back.

A key home keeps the statements that it made or imported in ``key-statements/``, named by the time when they arrived.
They are verified whenever they are read. They limit trust, and one thing extends it: a trusted key introduces the other
key of a rotation that arrived here before the first moment from which any other statement ends the introducing key.
Neither the time that a rotation states nor the order of the others has a part in that. A rotation of a key of which a
revocation is known is not kept at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provenance.attestation.dsse import PAYLOAD_TYPE, read_envelope, signature_of, verify_parts, write_envelope
from provenance.errors import CanonicalError, NotFoundError, ProvenanceError, StorageError, TrustError
from provenance.formats.atomic_io import locked, make_folder, write_atomically
from provenance.formats.bounded_read import read_small
from provenance.formats.canonical_json import canonical_bytes, parse
from provenance.formats.digest import bytes_digest
from provenance.formats.strict_json import Field, timestamp
from provenance.signatures.public_key import PublicKey

if TYPE_CHECKING:
    from provenance.signatures.signer import MessageSigner

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:ndrepro:key:v1"
ROTATED, REVOKED, EXPIRES = "rotated", "revoked", "expires"
EVENTS = (ROTATED, REVOKED, EXPIRES)
_FOLDER, _SUFFIX = "key-statements", ".dsse.json"
_ARRIVAL = "%Y%m%dT%H%M%S.%fZ"
_SAID = {REVOKED: "was revoked", EXPIRES: "expires"}
_CURE = "get it again from whoever holds the key"


@dataclass(frozen=True)
class KeyLimit:
    """Why signatures of a key stop to count: the event, its time, and the reason or the successor's identifier."""

    event: str
    time: str
    detail: str = ""

    def __str__(self) -> str:
        day = f"{self.time[:19].replace('T', ' ')} UTC"
        if self.event == EXPIRES:
            return f"{'expired' if self.refuses(timestamp()) else 'expires'} on {day}"
        return f"rotated on {day} to {self.detail}" if self.event == ROTATED else f"revoked since {day}: {self.detail}"

    @property
    def ends_signing(self) -> bool:
        """Whether the key's holder signs with it no more: since any rotation or revocation, or since the expiry."""
        return self.event != EXPIRES or self.refuses(timestamp())

    def refuses(self, when: str | None) -> bool:
        """Whether a signature made at ``when`` is too late; one of unknown time is."""
        return when is None or moment(when) >= moment(self.time)


@dataclass(frozen=True)
class KeyStatement:
    """One statement on a key; see the module. ``successor`` is of rotations, ``reason`` of revocations."""

    event: str
    key: PublicKey
    time: str
    successor: PublicKey | None = None
    reason: str = ""

    @property
    def limit(self) -> KeyLimit:
        """What it means for the key's signatures."""
        return KeyLimit(self.event, self.time, self.successor.keyid if self.successor else self.reason)

    @property
    def rank(self) -> tuple[int, datetime]:
        """Its place among several that came together: a revocation may be signed by a key that a rotation names."""
        return EVENTS.index(self.event), moment(self.time)

    def sign(self, *signers: MessageSigner) -> bytes:
        """The envelope's file, with one signature of each signer."""
        said: dict[str, Any] = {"event": self.event, "key": self.key.pem, "time": self.time}
        said |= {"successor": self.successor.pem} if self.successor else {}
        said |= {"reason": self.reason} if self.event == REVOKED else {}
        subject = {"name": "signing key", "digest": {"sha256": self.key.keyid}}
        payload = canonical_bytes(
            {"_type": STATEMENT, "subject": [subject], "predicateType": PREDICATE, "predicate": said}
        )
        return write_envelope(PAYLOAD_TYPE, payload, [signature_of(payload, signer) for signer in signers])

    @classmethod
    def from_payload(cls, payload: bytes) -> KeyStatement:
        """The statement in a payload, whoever signed it. Raises TrustError naming the JSON path of what is wrong."""
        try:
            document = parse(payload)
        except CanonicalError as error:
            raise TrustError(f"the statement is {error.message}", _CURE) from None
        top = Field(document, "$", TrustError).members(("_type", "subject", "predicateType", "predicate"))
        top["_type"].one_of((STATEMENT,))
        top["predicateType"].one_of((PREDICATE,))
        event = top["predicate"].member("event").one_of(EVENTS)
        more = {ROTATED: ("successor",), REVOKED: ("reason",), EXPIRES: ()}[event]
        said = top["predicate"].members(("event", "key", "time", *more))
        key = _key(said["key"])
        for subject in top["subject"].items():
            digest = subject.members(("name", "digest"))["digest"].members(("sha256",))
            digest["sha256"].one_of((key.keyid,))
        successor = _key(said["successor"]) if event == ROTATED else None
        return cls(event, key, said["time"].time(), successor, said["reason"].text() if event == REVOKED else "")


@dataclass
class KeyHistory:
    """What the verified statements of a key home say; ``add`` verifies one more. Make it with ``load``."""

    _rotations: dict[str, KeyStatement] = field(default_factory=dict)
    _arrivals: dict[str, str] = field(default_factory=dict)  # of the rotations
    _limits: dict[str, set[KeyLimit]] = field(default_factory=dict)
    _keys: dict[str, PublicKey] = field(default_factory=dict)

    @classmethod
    def load(cls, home: Path) -> KeyHistory:
        """The statements kept in ``home``. Raises TrustError or StorageError naming the file that is none."""
        history = cls()
        read = [(path, data, _of_file(path, data)) for path in _files(home) for data in [_read(path)]]
        for path, data, _ in sorted(read, key=lambda item: item[2].rank):
            try:
                history.add(data, _arrival(path))
            except ProvenanceError as error:
                raise TrustError(f"{path}: {error.message}", f"move the file away, and {_CURE}") from None
        return history

    def add(self, data: bytes, arrived: str | None = None) -> KeyStatement:
        """Verify one more statement and take it in; it arrived now, or at the time that is given.

        Raises EnvelopeError or TrustError for what is none, was signed by others than those who may say so, or
        is the rotation of a key that was revoked or rotated to another before.
        """
        payload_type, payload, signatures = read_envelope(data)
        statement = KeyStatement.from_payload(payload)
        # a statement brings its keys along. That is no trust: a stranger's is on the stranger's own key
        keys = {key.keyid: key for key in (statement.key, statement.successor) if key} | self._keys
        try:
            signers = set(verify_parts(payload_type, payload, signatures, keys.values()).signers)
        except TrustError:
            signers = set()
        keyid = statement.key.keyid
        if statement.event == ROTATED:
            self._check_rotation(statement, signers)
            self._rotations[keyid] = statement
            self._arrivals[keyid] = min(arrived or timestamp(), self._arrivals.get(keyid, timestamp()))
        elif keyid not in signers and not (statement.event == REVOKED and signers & self._successors(keyid)):
            raise TrustError(
                f"no key that may say so signed that the key {keyid} {_SAID[statement.event]}",
                "only the key itself, or one that it was rotated to, may: import the rotation first",
            )
        self._limits.setdefault(keyid, set()).add(statement.limit)
        self._keys |= {key.keyid: key for key in (statement.key, statement.successor) if key}
        return statement

    def limits(self, keyid: str) -> tuple[KeyLimit, ...]:
        """Everything that ends this key, the earliest first."""
        return tuple(sorted(self._limits.get(keyid, ()), key=lambda limit: (moment(limit.time), limit.event)))

    def successor(self, keyid: str) -> PublicKey | None:
        """The key that this one was rotated to."""
        rotation = self._rotations.get(keyid)
        return rotation.successor if rotation else None

    def family(self, keyid: str) -> tuple[PublicKey, ...]:
        """The other keys of the same holder: those that this one was rotated to or from, near ones first.

        Both keys signed each rotation, so a limit separates nobody from a former key. It introduces none of them.
        """
        return self._joined(keyid, lambda known, rotated: True)

    def introduced(self, keyid: str) -> tuple[PublicKey, ...]:
        """The keys to trust where this one is trusted, near ones first; see the module."""
        return self._joined(keyid, self._introduces)

    def _joined(self, keyid: str, counts: Callable[[str, str], bool]) -> tuple[PublicKey, ...]:
        """What rotations lead to, each by the key that is known and the key that was rotated."""
        found = [keyid]
        for known in found:  # which grows meanwhile
            for rotated, rotation in self._rotations.items():
                pair = (rotated, rotation.limit.detail)
                if known in pair and counts(known, rotated):
                    found += [other for other in pair if other not in found]
        return tuple(self._keys[other] for other in found[1:])

    def _introduces(self, keyid: str, rotated: str) -> bool:
        """Whether a key introduces the other one of a rotation, in which it is the old or the new one."""
        others = (limit for limit in self.limits(keyid) if limit.event != ROTATED or keyid != rotated)
        return not any(limit.refuses(self._arrivals[rotated]) for limit in others)

    def _check_rotation(self, statement: KeyStatement, signers: set[str]) -> None:
        assert statement.successor is not None
        keyid, successor = statement.key.keyid, statement.successor.keyid
        if not {keyid, successor} <= signers:
            raise TrustError(f"the rotation of the key {keyid} is not signed by both keys", _CURE)
        cure = "trust the new key by itself, once you had it over another channel: ndrepro keys trust FILE --name WHOSE"
        before = self._rotations.get(keyid)
        if before is not None and before.successor != statement.successor:
            raise TrustError(f"the key {keyid} was rotated to {before.limit.detail} already, not to {successor}", cure)
        if before is None and any(limit.event == REVOKED for limit in self.limits(keyid)):
            raise TrustError(f"the key {keyid} is revoked, and introduces no other", cure)
        if keyid == successor or keyid in self._successors(successor):
            raise TrustError(f"the key {successor} was rotated to {keyid}, and cannot succeed it", cure)

    def _successors(self, keyid: str) -> set[str]:
        found: set[str] = set()
        while (rotation := self._rotations.get(keyid)) and rotation.successor and rotation.successor.keyid not in found:
            keyid = rotation.successor.keyid
            found.add(keyid)
        return found


def keep(home: Path, data: bytes) -> tuple[KeyStatement, Path]:
    """Verify a statement against those of ``home`` and keep it there; its path.

    Raises what ``KeyHistory`` raises, StorageError where it cannot be written.
    """
    folder = home / _FOLDER
    make_folder(home, 0o700)
    make_folder(folder, 0o700)
    with locked(home / "trust.json.lock"):
        statement = KeyHistory.load(home).add(data)
        payload = read_envelope(data)[1]
        name = f"-{statement.event}-{statement.key.keyid[:16]}-{bytes_digest(payload)[:8]}{_SUFFIX}"
        before = next((path for path in _files(home) if path.name.endswith(name)), None)
        path = before or folder / f"{datetime.now(timezone.utc):{_ARRIVAL}}{name}"
        write_atomically(path, data)
    return statement, path


def keep_all(home: Path, files: Iterable[Path]) -> tuple[KeyStatement, ...]:
    """``keep`` the statements in files that somebody handed over together, in whatever order they are named."""
    given = {data: KeyStatement.from_payload(read_envelope(data)[1]).rank for data in map(read_statement, files)}
    return tuple(keep(home, data)[0] for data in sorted(given, key=given.__getitem__))


def statement_files(home: Path, keyids: Iterable[str]) -> tuple[Path, ...]:
    """The statements kept in ``home`` on any of these keys, to hand out."""
    wanted = set(keyids)
    return tuple(path for path in _files(home) if _of_file(path, _read(path)).key.keyid in wanted)


def read_statement(path: Path) -> bytes:
    """The file of a statement that somebody handed over. Raises NotFoundError or StorageError."""
    try:
        return read_small(path, pipes=True)
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such file", "name the file of a statement on a key") from None


def moment(text: str) -> datetime:
    """The time that a statement or a manifest states."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _files(home: Path) -> tuple[Path, ...]:
    folder = home / _FOLDER
    try:
        return tuple(sorted(path for path in folder.iterdir() if path.name.endswith(_SUFFIX)))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise StorageError(f"{folder}: cannot be read ({error.strerror})", "put the right folder back") from error


def _arrival(path: Path) -> str:
    """When a kept statement arrived, by its name; of one that was put there by hand, when the file was written."""
    try:
        return timestamp(datetime.strptime(path.name.partition("-")[0], _ARRIVAL).replace(tzinfo=timezone.utc))
    except ValueError:
        return timestamp(datetime.fromtimestamp(path.stat().st_mtime, timezone.utc))


def _read(path: Path) -> bytes:
    try:
        return read_small(path)
    except FileNotFoundError:
        raise StorageError(f"{path}: it leads nowhere, or vanished while it was read", "try again") from None


def _of_file(path: Path, data: bytes) -> KeyStatement:
    """The statement in a file's bytes, whoever signed it. Raises TrustError naming the file."""
    try:
        return KeyStatement.from_payload(read_envelope(data)[1])
    except ProvenanceError as error:
        raise TrustError(f"{path}: {error.message}", f"move the file away, and {_CURE}") from None


def _key(field: Field) -> PublicKey:
    try:
        return PublicKey.from_pem(field.text())
    except ProvenanceError as error:
        if isinstance(error, TrustError):
            raise
        raise TrustError(f"{field.path}: {error.message}", _CURE) from None
