"""Whose keyless signatures are accepted: identities and the providers that vouch for them, kept in the key home.

An identity is what a provider (OpenID Connect) says of a person or a job: an e-mail address, or the URI of a workflow.
It counts together with its issuer only, since any provider may vouch for any address. Law: a bundle never brings
the identity that is accepted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from provenance.attestation.key_home import default_home
from provenance.attestation.trust import read_listed
from provenance.errors import KeyFileError, NotFoundError, UsageError
from provenance.formats.atomic_io import locked, make_folder, write_atomically
from provenance.formats.strict_json import Field, timestamp

SCHEMA = "urn:ndrepro:identities:v1"


@dataclass(frozen=True)
class Identity:
    """An identity, the URL of the provider that vouches for it, the name that it is known by, when it was added."""

    identity: str
    issuer: str
    name: str
    added: str = ""

    def __str__(self) -> str:
        identity, issuer = map(_shown, (self.identity, self.issuer))
        return f"{identity} (issuer {issuer})"

    @classmethod
    def from_json(cls, field: Field) -> Identity:
        """The identity of an entry of the file. Raises TrustError."""
        members = field.members(("identity", "issuer", "name", "added"))
        identity, issuer, name = (members[each].text() for each in ("identity", "issuer", "name"))
        return cls(identity, issuer, name, members["added"].time())


def _shown(text: str) -> str:
    """A stranger's text, in which no letter looks like another."""
    return text if text.isascii() and text.isprintable() else ascii(text)


def load_identities(home: Path) -> tuple[Identity, ...]:
    """Those kept in ``home``, none where there is no file.

    Raises TrustError for a file that is none or that others may write, StorageError where it cannot be read.
    """
    return read_listed(_file(home), SCHEMA, "identities", Identity.from_json)


def accepted_identities() -> tuple[Identity, ...]:
    """Those kept in this user's key home, none where there is no home. Raises what ``load_identities`` raises."""
    try:
        home = default_home()
    except KeyFileError:
        return ()
    return load_identities(home)


def add_identity(home: Path, identity: str, issuer: str, name: str) -> Identity:
    """Accept the signatures of an identity. Raises UsageError where it is accepted already, or has no form of one."""
    for what, text in (("identity", identity), ("issuer", issuer), ("name", name)):
        if not text.strip() or not text.isprintable():
            raise UsageError(f"{what} {text!r}: expected a text of printable letters", "name it as verify shows it")
    if not issuer.startswith(("https://", "http://")):
        raise UsageError(f"issuer {issuer!r}: expected a URL", "e.g. --issuer https://accounts.google.com")
    added = Identity(identity, issuer, name, timestamp())
    with _locked(home) as known:
        twin = next((each for each in known if (each.identity, each.issuer) == (identity, issuer)), None)
        if twin is not None:
            raise UsageError(f"{twin}: accepted already, as {twin.name}")
        if any(each.name == name for each in known):
            raise UsageError(f"{name!r}: another identity has this name", "give another one: --name NAME")
        _write(home, (*known, added))
    return added


def remove_identity(home: Path, name: str) -> Identity:
    """No longer accept the identity of that name, or that identity. Raises NotFoundError."""
    with _locked(home) as known:
        found = next((each for each in known if name in (each.name, each.identity)), None)
        if found is None:
            names = ", ".join(repr(each.name) for each in known) or "none"
            raise NotFoundError(f"{name!r}: no identity that was added (added: {names})", "name one of those")
        _write(home, tuple(each for each in known if each != found))
    return found


@contextmanager
def _locked(home: Path) -> Iterator[tuple[Identity, ...]]:
    """What is kept now, which nobody else changes meanwhile."""
    make_folder(home, 0o700)
    path = _file(home)
    with locked(path.with_name(path.name + ".lock")):
        yield load_identities(home)


def _write(home: Path, identities: tuple[Identity, ...]) -> None:
    document = {"schema": SCHEMA, "identities": [asdict(each) for each in identities]}
    write_atomically(_file(home), (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode("utf-8"))


def _file(home: Path) -> Path:
    return home / "identities.json"
