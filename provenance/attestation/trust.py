"""Who may sign: the public keys that verification accepts, kept as JSON in the key home.

This machine's own key is trusted where it exists and is not listed in the file. Everyone else's is added by name,
after its PEM text came over a channel that is trusted: an envelope never brings its own key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provenance.attestation.dsse import PublicKey
from provenance.attestation.key_home import KeyRing, default_home
from provenance.errors import CanonicalError, KeyFileError, NotFoundError, StorageError, TrustError, UsageError
from provenance.formats.atomic_io import locked, make_folder, storage_error, write_atomically
from provenance.formats.canonical_json import parse
from provenance.formats.strict_json import Field, timestamp

SCHEMA = "urn:ndrepro:trust:v1"
OWN_NAME = "this machine's key"


@dataclass(frozen=True)
class TrustedKey(PublicKey):
    """A public key with the name it is known by and the time it was added ("" for this machine's own)."""

    name: str
    added: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
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

    def __init__(self, home: Path, own: TrustedKey | None, added: tuple[TrustedKey, ...]) -> None:
        self.home = home
        self._own = own
        self._added = added

    @classmethod
    def load(cls, home: Path) -> TrustPolicy:
        """The policy kept in ``home``, empty where there is none yet.

        Raises TrustError if its file is not one, KeyFileError if this machine's own key is not kept private.
        """
        ring = KeyRing(Path(home))
        own = None
        if ring.exists:
            key = ring.public_key()
            own = TrustedKey(key.pem, key.keyid, OWN_NAME, "")
        return cls(Path(home), own, _read(_file(Path(home))))

    @classmethod
    def from_files(cls, files: Iterable[Path]) -> TrustPolicy:
        """The keys in these PEM files, named by their paths, and no other; those of the key home without any file.

        Raises NotFoundError or StorageError for a file that cannot be read, KeyFileError for one that is no public
        key, and what ``load`` raises.
        """
        files = list(files)
        if not files:
            return cls.load(default_home())
        keys = [(file, PublicKey.from_pem(_key_file(file))) for file in files]
        return cls(Path(), None, tuple(TrustedKey(key.pem, key.keyid, str(file), "") for file, key in keys))

    def keys(self) -> tuple[TrustedKey, ...]:
        """Every trusted key, this machine's own first."""
        return ((self._own,) if self._own else ()) + self._added

    def name_of(self, keyid: str) -> str | None:
        """The name of a trusted key, None for another."""
        return next((key.name for key in self.keys() if key.keyid == keyid), None)

    def add(self, pem: str | bytes, name: str) -> TrustedKey:
        """Trust a public key under a name, and keep it.

        Raises KeyFileError if ``pem`` is no public key, UsageError if the key or the name is there already,
        StorageError if it cannot be kept.
        """
        key = PublicKey.from_pem(pem)
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
        return trusted

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
        return found[0]

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


def _key_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such file", "name the file of a public key") from None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from error


def _file(home: Path) -> Path:
    return home / "trust.json"


def _text(document: dict[str, Any]) -> bytes:
    import json

    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def _read(path: Path) -> tuple[TrustedKey, ...]:
    try:
        document = parse(path.read_bytes())
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise storage_error(path, error) from error
    except CanonicalError as error:
        raise TrustError(f"{path} is {error.message}", "put the right file back, or move it away") from None
    try:
        members = Field(document, "$", TrustError).members(("schema", "keys"))
        members["schema"].one_of((SCHEMA,))
        return tuple(map(TrustedKey.from_json, members["keys"].items()))
    except TrustError as error:
        raise TrustError(f"{path}: {error.message}", "put the right file back, or move it away") from None
