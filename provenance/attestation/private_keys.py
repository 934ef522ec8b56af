"""Private keys and what signs with them: PEM and OpenSSH files, protected or not, and securesystemslib's signer URIs.

A source is the path of a private key's file, or a URI such as ``gcpkms:…``, ``awskms:…``, ``hsm:…`` or
``file2:PATH``, whose scheme securesystemslib knows. What a scheme needs beyond that, an HSM's library or a cloud's
client, is installed by whoever uses it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from provenance.errors import KeyFileError, ProvenanceError
from provenance.formats.bounded_read import read_small
from provenance.signatures.public_key import PublicKey
from provenance.signatures.signer import Ed25519Signer

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from provenance.signatures.signer import MessageSigner

_URI = re.compile(r"[a-z][a-z0-9+.-]+:")
_OPENSSH = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_TRIAL = b"ndrepro: does this signer hold the key?"

Ask = Callable[[str], bytes]


def is_uri(source: str) -> bool:
    """Whether a source is a URI and no path."""
    return _URI.match(source) is not None


def open_signer(source: str, public: PublicKey | None, ask: Ask) -> tuple[MessageSigner, PublicKey]:
    """The signer of a source, and its public key. ``ask`` is called with the name of a secret where one is needed.

    Raises KeyFileError for a source that does not open, or does not hold the private half of ``public``.
    """
    signer, key = _by_uri(source, public, ask) if is_uri(source) else _by_file(Path(source), ask)
    other = KeyFileError(f"{source}: holds another key than {public and public.keyid}", "name that key's file or URI")
    if public is not None and key.keyid != public.keyid:
        raise other
    try:
        made = bytes.fromhex(signer.sign(_TRIAL).signature)
    except Exception as error:  # every scheme raises its own
        raise KeyFileError(f"{source}: it does not sign ({error})", "see whether device or service answers") from None
    if not key.verifies(made, _TRIAL):
        raise other
    return signer, key


def is_protected(path: Path) -> bool:
    """Whether the private key in a file needs a passphrase. Raises KeyFileError where it is no private key."""
    asked = []

    def ask(what: str) -> bytes:
        asked.append(what)
        raise KeyFileError(what)

    try:
        _by_file(path, ask)
    except KeyFileError:
        if not asked:
            raise
    return bool(asked)


def public_of(key: PrivateKeyTypes) -> PublicKey:
    """The public half."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return PublicKey.from_pem(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def signer_of(key: PrivateKeyTypes) -> MessageSigner:
    """What signs with a key in memory. Raises ValueError for a kind of key that does not sign."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if isinstance(key, Ed25519PrivateKey):
        return Ed25519Signer(key)
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined, unused-ignore]

    return CryptoSigner(key)


def private_pem(key: PrivateKeyTypes, passphrase: bytes | None) -> bytes:
    """The key in PEM (PKCS#8), encrypted where there is a passphrase."""
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def check_private(path: Path) -> None:
    """Raise KeyFileError if others can read the private key at ``path``, or replace it."""
    if os.name == "nt":
        return  # a file's mode says nothing there; a profile's folders are its user's alone
    try:
        mode, home = path.stat().st_mode, path.parent.stat().st_mode
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read ({error.strerror})", "put the key's file back") from None
    if mode & 0o077:
        raise KeyFileError(
            f"{path}: mode {stat.S_IMODE(mode):o}, others may read the private key (expected 600)",
            f"chmod 600 {path}; if others may have read it, move it away and let a new one be made",
        )
    if home & 0o022:
        raise KeyFileError(
            f"{path.parent}: mode {stat.S_IMODE(home):o}, others may put their own key there (expected 700)",
            f"chmod 700 {path.parent}",
        )


def _by_file(path: Path, ask: Ask) -> tuple[MessageSigner, PublicKey]:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        data = read_small(path)
        check_private(path)
        key = _load(path, data, ask)
        return signer_of(key), public_of(key)
    except FileNotFoundError:
        raise KeyFileError(f"{path}: no such file", "name the file of a private key") from None
    except UnsupportedAlgorithm as error:
        cure = "pip install bcrypt" if "bcrypt" in str(error) else "use an Ed25519 key"
        raise KeyFileError(f"{path}: cannot be read ({error})", cure) from None
    except (ValueError, TypeError) as error:
        raise KeyFileError(
            f"{path}: not a private key in PEM or OpenSSH's format ({error})",
            "put the right file back, or move it away and let a new one be made",
        ) from None


def _load(path: Path, data: bytes, ask: Ask) -> PrivateKeyTypes:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    load = load_ssh_private_key if data.startswith(_OPENSSH) else load_pem_private_key
    try:
        return load(data, None)
    except TypeError:  # protected: only that is said so
        passphrase = ask(str(path))
    try:
        return load(data, passphrase)
    except ValueError as error:
        raise KeyFileError(f"{path}: not opened by this passphrase ({error})", "give the right passphrase") from None


def _by_uri(source: str, public: PublicKey | None, ask: Ask) -> tuple[MessageSigner, PublicKey]:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, SSlibKey  # type: ignore[attr-defined, unused-ignore]
    from securesystemslib.signer import Signer as AnySigner  # type: ignore[attr-defined, unused-ignore]

    scheme = source.partition(":")[0]
    if scheme not in SIGNER_FOR_URI_SCHEME:
        known = ", ".join(sorted(SIGNER_FOR_URI_SCHEME))
        raise KeyFileError(f"{source}: unknown scheme {scheme!r}", f"it is one of {known}, or the path of a file")
    if public is None:
        raise KeyFileError(f"{source}: needs its public key", "give the public key's file, too")
    if scheme == "file2":
        check_private(Path(source.partition(":")[2]))
    try:
        key = SSlibKey.from_crypto(load_pem_public_key(public.pem.encode()))
        return AnySigner.from_priv_key_uri(source, key, lambda name: ask(f"{name} of {source}").decode()), public
    except ProvenanceError:
        raise
    except Exception as error:  # every scheme raises its own
        raise KeyFileError(
            f"{source}: cannot be opened ({error})", "see securesystemslib's page of that signer"
        ) from None
