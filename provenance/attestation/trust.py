"""Who may sign: the public keys that verification accepts, kept as JSON in the key home.

This machine's own key is trusted where it exists and is not listed in the file. Everyone else's is added by name,
after its text came over a channel that is trusted: an envelope never brings its own key. With a key those are trusted
that it introduces by rotations, under its name; what a key signed after it was rotated, revoked or expired is refused
(``provenance.attestation.key_statements``), by the time that the signed document states.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from provenance.attestation.key_home import KeyRing, default_home
from provenance.attestation.key_statements import REVOKED, KeyHistory, KeyLimit
from provenance.errors import CanonicalError, KeyFileError, NotFoundError, TrustError, UsageError
from provenance.formats.atomic_io import locked, make_folder, write_atomically
from provenance.formats.bounded_read import read_small
from provenance.formats.canonical_json import parse
from provenance.formats.strict_json import Field, timestamp
from provenance.signatures.public_key import PublicKey

SCHEMA = "urn:ndrepro:trust:v1"
OWN_NAME = "this machine's key"
_CURE = "put the right file back, or move it away"
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class TrustedKey(PublicKey):
    """A public key with the name it is known by and the time it was added ("" for one that is not in the file).

    ``limits`` are what ends its signatures, the earliest first; ``holder`` is as ``TrustPolicy.holder`` gives it.
    """

    name: str
    added: str
    limits: tuple[KeyLimit, ...] = ()
    holder: str = ""

    @property
    def state(self) -> str:
        """Whether it is trusted, and what ends or ended that."""
        first = self.limits[0] if self.limits else None
        return "trusted" if first is None else str(first) if first.ends_signing else f"trusted, {first}"

    def refusal(self, when: str | None) -> str | None:
        """Why a signature made at ``when`` does not count; None where it does."""
        limit = next((limit for limit in self.limits if limit.refuses(when)), None)
        if limit is None:
            return None
        return f"{limit}; it signed {f'on {when[:10]} {when[11:19]} UTC' if when else 'at an unknown time'}"

    def to_json(self) -> dict[str, Any]:
        """The members of the list of trusted keys."""
        return {"name": self.name, "publicKey": self.pem, "keyid": self.keyid, "added": self.added}

    @classmethod
    def from_json(cls, field: Field) -> TrustedKey:
        """The key that ``to_json`` wrote. Raises TrustError if the identifier is not that of the key."""
        members = field.members(("name", "publicKey", "keyid", "added"))
        try:
            key = PublicKey.from_pem(members["publicKey"].text())
        except KeyFileError as error:
            raise TrustError(f"{field.path}.publicKey: {error.message}", error.cure) from None
        members["keyid"].one_of((key.keyid,))
        return cls(key.pem, key.keyid, members["name"].text(), members["added"].time())


class TrustPolicy:
    """The trusted keys of one key home. Make one with ``load``."""

    def __init__(
        self, home: Path, own: TrustedKey | None, added: tuple[TrustedKey, ...], history: KeyHistory | None = None
    ) -> None:
        self.home = home
        self._own = own
        self._added = added
        self._history = history or KeyHistory()

    @classmethod
    def load(cls, home: Path) -> TrustPolicy:
        """The policy kept in ``home``, empty where there is none yet.

        Raises TrustError if its file or a statement on keys is not one, StorageError if it cannot be read,
        KeyFileError if this machine's own key is not kept private.
        """
        ring = KeyRing(Path(home))
        own = None
        if ring.exists:
            key = ring.public_key()
            own = TrustedKey(key.pem, key.keyid, OWN_NAME, "")
        return cls(Path(home), own, _read(_file(Path(home))), KeyHistory.load(Path(home)))

    @classmethod
    def from_files(cls, files: Iterable[Path]) -> TrustPolicy:
        """The keys in these files, named by their paths, and no other; those of the key home without any file.

        What the key home knows of their rotation, revocation or expiry holds for them too. Raises NotFoundError or
        StorageError for a file that cannot be read, KeyFileError for one that is no public key, and what ``load``
        raises.
        """
        files = list(files)
        if not files:
            return cls.load(default_home())
        keys = [(file, read_public_key(file)) for file in files]
        trusted = tuple(TrustedKey(key.pem, key.keyid, str(file), "") for file, key in keys)
        try:
            history = KeyHistory.load(default_home())
        except KeyFileError:  # no home at all, hence no statements
            history = KeyHistory()
        return cls(Path(), None, trusted, history)

    def keys(self) -> tuple[TrustedKey, ...]:
        """Every trusted key, this machine's own first; then those that they introduce."""
        anchors = ((self._own,) if self._own else ()) + self._added
        found = {key.keyid: key for key in anchors}
        for anchor in anchors:
            for key in self._history.introduced(anchor.keyid):
                found.setdefault(key.keyid, TrustedKey(key.pem, key.keyid, anchor.name, ""))
        return tuple(map(self._as_of_now, found.values()))

    def _as_of_now(self, key: TrustedKey) -> TrustedKey:
        return replace(key, limits=self._history.limits(key.keyid), holder=self.holder(key.keyid))

    def key(self, keyid: str) -> TrustedKey | None:
        """The trusted key of that identifier."""
        return next((key for key in self.keys() if key.keyid == keyid), None)

    def accepted(
        self, keyids: Iterable[str], signed_on: Callable[[], str | None]
    ) -> tuple[tuple[TrustedKey, ...], tuple[str, ...]]:
        """Of the trusted keys that signed something, those whose signatures count, and why the others' do not.

        ``signed_on`` gives the time that the document states, None where it states none; it is called where one of
        the keys was rotated or revoked, or expires.
        """
        keys = [key for keyid in keyids if (key := self.key(keyid))]
        when = signed_on() if any(key.limits for key in keys) else None
        reasons = {key: key.refusal(when) for key in keys}
        refused = tuple(f"{key.name} ({key.keyid}): {reason}" for key, reason in reasons.items() if reason)
        return tuple(key for key in keys if not reasons[key]), refused

    def family(self, keyid: str) -> tuple[str, ...]:
        """The identifiers of a key and of those that it was rotated to and from: all of one holder."""
        return (keyid, *(key.keyid for key in self._history.family(keyid)))

    def introducers(self, keyid: str) -> tuple[str, ...]:
        """The identifiers of a key and of those that introduce it: whoever accepts one of these accepts the key."""
        others = (key.keyid for key in self._history.family(keyid))
        return (keyid, *(each for each in others if keyid in (key.keyid for key in self._history.introduced(each))))

    def ended(self, keyid: str, when: str | None) -> bool:
        """Whether the holder of a key signs with it no more, and did not at ``when``; None is any time."""
        return any(limit.ends_signing and limit.refuses(when) for limit in self._history.limits(keyid))

    def revoked(self, keyids: Iterable[str]) -> bool:
        """Whether one of these keys was revoked, at whatever time."""
        return any(limit.event == REVOKED for keyid in keyids for limit in self._history.limits(keyid))

    def holder(self, keyid: str) -> str:
        """One identifier for all keys of the same holder."""
        return min(self.family(keyid))

    def own_keys(self) -> tuple[TrustedKey, ...]:
        """This machine's key, and those that it introduces, which it replaced."""
        own = self._own.keyid if self._own else ""
        return tuple(key for key in self.keys() if own in self.introducers(key.keyid))

    def name_of(self, keyid: str) -> str | None:
        """The name of a trusted key, None for another."""
        return next((key.name for key in self.keys() if key.keyid == keyid), None)

    def add(self, pem: str | bytes, name: str) -> TrustedKey:
        """Trust a public key, in PEM or an OpenSSH line, under a name, and keep it.

        Raises KeyFileError if ``pem`` is no public key, UsageError if the key or the name is there already,
        StorageError if it cannot be kept.
        """
        key = public_key(pem)
        if not name.strip():
            raise UsageError(f"the key's name is {name!r}, expected a name", "name whose key it is")
        with self._editing():
            for other in self.keys():
                if other.keyid == key.keyid:
                    raise UsageError(f"the key {key.keyid} is trusted already, as {other.name!r}")
                if other.name == name:
                    raise UsageError(f"the name {name!r} is taken by the key {other.keyid}", "give another name")
            trusted = TrustedKey(key.pem, key.keyid, name, timestamp())
            self._added = (*self._added, trusted)
        return self._as_of_now(trusted)

    def remove(self, name_or_keyid: str) -> TrustedKey:
        """No longer trust a key, and keep that. Raises NotFoundError for one not added, UsageError for one's own."""
        with self._editing():
            found = [key for key in self._added if name_or_keyid in (key.name, key.keyid)]
            if not found:
                if name_or_keyid in (OWN_NAME, self._own and self._own.keyid):
                    raise UsageError(
                        f"{name_or_keyid!r}: this machine's own key is always trusted", "name an added one"
                    )
                names = ", ".join(repr(key.name) for key in self._added) or "none"
                raise NotFoundError(f"{name_or_keyid!r}: no key that was added (added: {names})", "name one of those")
            self._added = tuple(key for key in self._added if key is not found[0])
        return self._as_of_now(found[0])

    @contextmanager
    def _editing(self) -> Iterator[None]:
        """Read again what others wrote meanwhile, let the body change it, write it, all under a lock."""
        make_folder(self.home, 0o700)
        path = _file(self.home)
        with locked(path.with_name(path.name + ".lock")):
            before = self._added = _read(path)
            yield
            if self._added != before:
                keys = [key.to_json() for key in self._added]
                write_atomically(path, _text({"schema": SCHEMA, "keys": keys}))


def public_key(data: str | bytes) -> PublicKey:
    """The one public key in a file's text: PEM, or a line as in OpenSSH's ``id_ed25519.pub``.

    Raises KeyFileError for anything else, and for several keys.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

    data = data.encode() if isinstance(data, str) else data
    lines = [line for line in data.splitlines() if line.strip() and not line.startswith(b"#")]
    if not lines or not lines[0].startswith((b"ssh-", b"ecdsa-", b"sk-")):
        return PublicKey.from_pem(data)
    if len(lines) > 1:
        raise KeyFileError(f"{len(lines)} public keys, expected one", "keep the line of the key that signs the runs")
    try:
        key = load_ssh_public_key(lines[0])
        return PublicKey.from_pem(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    except (ValueError, UnsupportedAlgorithm) as error:
        cure = "give an ssh-ed25519 key; one on a security key (sk-…) makes signatures of another form"
        raise KeyFileError(f"{_shown(lines[0])}: not a public key that can be used ({error})", cure) from None


def read_public_key(path: Path) -> PublicKey:
    """The public key in a file. Raises NotFoundError, StorageError or KeyFileError naming it."""
    try:
        return public_key(read_small(path, pipes=True))
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such file", "name the file of a public key") from None
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error.message}", error.cure) from None


def _shown(line: bytes) -> str:
    return ascii(line[:24].decode("utf-8", "replace"))[1:-1]


def _file(home: Path) -> Path:
    return home / "trust.json"


def _text(document: dict[str, Any]) -> bytes:
    import json

    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def _read(path: Path) -> tuple[TrustedKey, ...]:
    return read_listed(path, SCHEMA, "keys", TrustedKey.from_json)


def read_listed(path: Path, schema: str, member: str, item: Callable[[Field], _Item]) -> tuple[_Item, ...]:
    """What a file of the key home lists, such as trusted keys; nothing where there is no file.

    Raises TrustError for a file of another schema or that others may write, StorageError where it cannot be read.
    """
    try:
        document = parse(read_small(path))
        refuse_open_modes(path)
    except FileNotFoundError:
        return ()
    except CanonicalError as error:
        raise TrustError(f"{path} is {error.message}", _CURE) from None
    try:
        members = Field(document, "$", TrustError).members(("schema", member))
        members["schema"].one_of((schema,))
        return tuple(map(item, members[member].items()))
    except TrustError as error:
        raise TrustError(f"{path}: {error.message}", _CURE) from None


def refuse_open_modes(path: Path) -> None:
    """Raise TrustError where others may add keys of theirs."""
    if os.name == "nt":
        return
    for place in (path, path.parent):
        mode = stat.S_IMODE(place.stat().st_mode)
        if mode & 0o022:
            raise TrustError(
                f"{place}: mode {mode:o}, others may change which keys are trusted",
                f"chmod go-w {place}, and see which keys are listed: ndrepro keys list",
            )
