"""Keys and DSSE envelopes: who signed which bytes.

The envelope is DSSE 1.0.2 with an in-toto payload; the signature is over the payload's type and its very bytes, and
the bytes that come back from ``verify_envelope`` are those that were verified. A key identifier in an envelope is a
hint that nobody signed: every signature is tried against every key given, whatever it claims. Spelling (white space,
standard or URL-safe base64) and further signatures, a countersigner's or a stranger's, change nothing of what was
signed: ``Verified`` lists the signatures that hold and counts the others.

The private key (Ed25519) is made on first use in the key home, mode 600 in a folder of mode 700, outside any git work
tree, and is refused when others can read it. It never leaves this module's ``KeyRing``; training processes are never
told where it is.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provenance.errors import CanonicalError, EnvelopeError, KeyFileError, ProvenanceError, TrustError, UsageError
from provenance.formats.canonical_json import canonical_bytes, parse
from provenance.formats.strict_json import Field

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
    from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined, unused-ignore]

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_CURE_HOME = "set NDREPRO_HOME to a folder of your own, outside any repository"


def default_home(environ: Mapping[str, str] | None = None) -> Path:
    """The key home: $NDREPRO_HOME, else $XDG_CONFIG_HOME/ndrepro, else .config/ndrepro in the home folder.

    The home folder is $HOME, else what the password database says. Raises KeyFileError where there is none.
    """
    environ = os.environ if environ is None else environ
    if environ.get("NDREPRO_HOME"):
        return Path(environ["NDREPRO_HOME"]).absolute()
    # the XDG specification tells to ignore a relative path
    if environ.get("XDG_CONFIG_HOME", "").startswith("/"):
        return Path(environ["XDG_CONFIG_HOME"]) / "ndrepro"
    home = environ.get("HOME", "")
    if home and not Path(home).is_absolute():
        raise KeyFileError(f"no folder for the signing key: HOME={home!r} is no absolute path", _CURE_HOME)
    return (Path(home) if home else _account_home()) / ".config" / "ndrepro"


def _account_home() -> Path:
    """The home folder of this user's account, where no variable names one."""
    try:
        import pwd
    except ImportError:  # Windows, which has other variables for it
        return Path.home()
    try:
        home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        home = Path()
    if home.is_absolute():
        return home
    unset = f"HOME is not set and user {os.getuid()} has no home folder"
    raise KeyFileError(f"no folder for the signing key: {unset}", _CURE_HOME)


@dataclass(frozen=True)
class PublicKey:
    """A public key: its PEM text (SubjectPublicKeyInfo) and the identifier computed from it."""

    pem: str
    keyid: str

    @classmethod
    def from_pem(cls, pem: str | bytes) -> PublicKey:
        """The key in PEM text. Raises KeyFileError for anything else, a private key among it."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        try:
            return cls._of(load_pem_public_key(pem.encode() if isinstance(pem, str) else pem))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyFileError(
                f"not a public key in PEM ({error})", "give the file that `ndrepro keys export --out FILE` wrote"
            ) from None

    @classmethod
    def _of(cls, public: PublicKeyTypes) -> PublicKey:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")
        return PublicKey(pem, _scheme(public).keyid)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether this key made ``signature`` over ``message``."""
        from securesystemslib.exceptions import UnverifiedSignatureError
        from securesystemslib.signer import Signature  # type: ignore[attr-defined, unused-ignore]

        try:
            self._key.verify_signature(Signature(self.keyid, signature.hex()), message)
        except UnverifiedSignatureError:
            return False
        return True

    @cached_property
    def _key(self) -> SSlibKey:
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        return _scheme(load_pem_public_key(self.pem.encode()))


@dataclass(frozen=True)
class KeyRing:
    """The key home's own signing key."""

    home: Path

    @property
    def path(self) -> Path:
        """The private key's file."""
        return self.home / "signing-key.pem"

    @property
    def exists(self) -> bool:
        """Whether the key has been made. Raises KeyFileError where the home is no folder: none can be made there."""
        if self.home.exists() and not self.home.is_dir():
            raise self._no_folder()
        return os.path.lexists(self.path)

    def signer(self) -> CryptoSigner:
        """The signer, its key made on first use. Raises KeyFileError saying what is wrong with the key or its home."""
        from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined, unused-ignore]

        return CryptoSigner(self._private_key())

    def public_key(self) -> PublicKey:
        """The public key; the pair is made on first use."""
        return PublicKey._of(self._private_key().public_key())

    def public_key_pem(self) -> str:
        """The public key in PEM, to give to those who verify."""
        return self.public_key().pem

    @property
    def keyid(self) -> str:
        """The key's identifier."""
        return self.public_key().keyid

    def _private_key(self) -> PrivateKeyTypes:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        self._refuse_work_tree()
        if not self.exists:
            self._make()
        try:
            return load_pem_private_key(self._read(), None)
        except (ValueError, TypeError) as error:
            raise KeyFileError(
                f"{self.path}: not an unencrypted private key in PEM ({error})",
                "put the right file back, or move it away and let a new one be made",
            ) from None

    def _refuse_work_tree(self) -> None:
        home = self.home.resolve()
        for folder in (home, *home.parents):
            if os.path.lexists(folder / ".git"):
                raise KeyFileError(f"{self.home}: the key home lies in the git work tree {folder}", _CURE_HOME)

    def _make(self) -> None:
        """Make the key. Of two processes at once one wins, and both then read the winner's."""
        from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined, unused-ignore]

        temporary = self.home / f".signing-key.{secrets.token_hex(6)}.tmp"
        try:
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with open(descriptor, "wb") as stream:
                    stream.write(CryptoSigner.generate_ed25519().private_bytes)
                    stream.flush()
                    os.fsync(stream.fileno())
                # a link, unlike a rename, never replaces a key that another process has just put there
                os.link(temporary, self.path)
            finally:
                temporary.unlink()
        except FileExistsError:
            if not self.path.is_file():
                raise self._no_folder() from None
        except OSError as error:
            raise KeyFileError(f"{self.home}: no key can be made there ({error.strerror})", _CURE_HOME) from error

    def _no_folder(self) -> KeyFileError:
        return KeyFileError(f"{self.home}: not a folder that can hold a key", _CURE_HOME)

    def _read(self) -> bytes:
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
            with open(descriptor, "rb") as stream:
                self._refuse_open_modes(os.fstat(descriptor).st_mode)
                return stream.read()
        except OSError as error:
            raise KeyFileError(f"{self.path}: cannot be read ({error.strerror})", _CURE_HOME) from error

    def _refuse_open_modes(self, mode: int) -> None:
        if os.name == "nt":
            return  # a file's mode says nothing there; a profile's folders are its user's alone
        if mode & 0o077:
            raise KeyFileError(
                f"{self.path}: mode {stat.S_IMODE(mode):o}, others may read the private key (expected 600)",
                f"chmod 600 {self.path}; if others may have read it, move it away and let a new one be made",
            )
        folder = self.home.stat().st_mode
        if folder & 0o022:
            raise KeyFileError(
                f"{self.home}: mode {stat.S_IMODE(folder):o}, others may put their own key there (expected 700)",
                f"chmod 700 {self.home}",
            )


@dataclass(frozen=True)
class Verified:
    """The bytes that were verified.

    Attributes:
        payload: the very bytes that are signed.
        signatures: (identifier of the key, signature) of every key given whose signature over them holds, in order.
        others: how many further signatures no key given has made.
    """

    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]
    others: int

    @property
    def signers(self) -> tuple[str, ...]:
        """The identifiers of the keys whose signatures hold."""
        return tuple(keyid for keyid, _ in self.signatures)


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: the message that is signed."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_envelope(payload: bytes, signer: CryptoSigner) -> dict[str, Any]:
    """A DSSE envelope of in-toto bytes, signed."""
    from securesystemslib.dsse import Envelope

    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(signer)
    document: dict[str, Any] = envelope.to_dict()
    return document


def verify_envelope(envelope: Mapping[str, Any] | bytes, keys: Iterable[PublicKey], *, threshold: int = 1) -> Verified:
    """The payload of an envelope that at least ``threshold`` of ``keys`` signed.

    Members that DSSE does not know are ignored, as it asks. Raises EnvelopeError for what is no envelope or whose
    signature does not hold, TrustError if fewer than ``threshold`` of the keys signed it, UsageError for a threshold
    below one.
    """
    return verify_parts(*read_envelope(envelope), keys, threshold=threshold)


def verify_parts(
    payload_type: str,
    payload: bytes,
    signatures: Sequence[tuple[str, bytes]],
    keys: Iterable[PublicKey],
    *,
    threshold: int = 1,
) -> Verified:
    """``verify_envelope`` of what ``read_envelope`` gave, for whoever has read it already."""
    if threshold < 1:
        raise UsageError(f"threshold {threshold}, expected at least 1")
    message = pae(payload_type, payload)
    known = {key.keyid: key for key in keys}
    valid: dict[str, bytes] = {}
    others = []
    for claimed, signature in signatures:
        made_by = next((keyid for keyid, key in known.items() if key.verifies(signature, message)), None)
        if made_by is None:
            others.append(claimed)
        else:
            valid.setdefault(made_by, signature)
    false = next((claimed for claimed in others if claimed in known), None)
    if not valid and false is not None:
        raise EnvelopeError(
            f"the signature that names the key {false} is not that key's: the payload, its type, the signature or the "
            "name was changed"
        )
    if len(valid) < threshold:
        raise _too_few(list(valid), threshold, [claimed or "(no name)" for claimed, _ in signatures])
    if payload_type != PAYLOAD_TYPE:
        raise EnvelopeError(f"payloadType {payload_type!r}, expected {PAYLOAD_TYPE!r}")
    return Verified(payload, tuple(valid.items()), len(others))


def read_envelope(envelope: Mapping[str, Any] | bytes) -> tuple[str, bytes, list[tuple[str, bytes]]]:
    """Type, payload and (claimed key identifier, signature) pairs of an envelope; nothing is verified.

    Raises EnvelopeError naming the JSON path of what is wrong.
    """
    if isinstance(envelope, bytes):
        try:
            envelope = parse(envelope)
        except CanonicalError as error:
            raise EnvelopeError(f"the envelope is {error.message}", error.cure) from None
    document = Field(dict(envelope) if isinstance(envelope, Mapping) else envelope, "$", EnvelopeError)
    members = _known(document, ("payload", "payloadType", "signatures"))
    signatures = []
    for item in members["signatures"].items():
        signature = _known(item, ("sig",), ("keyid",))
        keyid = signature["keyid"].value if "keyid" in signature else ""
        if not isinstance(keyid, str):
            signature["keyid"].refuse("a string")
        signatures.append((keyid, _base64(signature["sig"])))
    if not signatures:
        members["signatures"].refuse("at least one signature")
    return members["payloadType"].text(), _base64(members["payload"]), signatures


def write_envelope(payload_type: str, payload: bytes, signatures: Iterable[tuple[str, bytes]]) -> bytes:
    """The file of an envelope, in the one spelling that the recorder writes: canonical JSON and a newline."""
    return (
        canonical_bytes(
            {
                "payload": base64.standard_b64encode(payload).decode("ascii"),
                "payloadType": payload_type,
                "signatures": [
                    {"keyid": keyid, "sig": base64.standard_b64encode(signature).decode("ascii")}
                    for keyid, signature in signatures
                ],
            }
        )
        + b"\n"
    )


def _known(field: Field, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Field]:
    value = {name: item for name, item in field.mapping().items() if name in required or name in optional}
    return Field(value, field.path, field.error).members(required, optional)


def _base64(field: Field) -> bytes:
    """Standard or URL-safe base64, and only its one canonical spelling: no other text may stand for the same bytes."""
    text = field.text()
    try:
        data = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        field.refuse("base64")
    if text.encode() not in (base64.standard_b64encode(data), base64.urlsafe_b64encode(data)):
        field.refuse("base64 as it is written for these bytes")
    return data


def _too_few(signers: list[str], threshold: int, claimed: list[str]) -> ProvenanceError:
    if threshold == 1:
        return TrustError(
            f"signed by {', '.join(claimed)}, which is no trusted key",
            "ask the author for the public key over another channel, then: ndrepro keys trust FILE --name WHOSE",
        )
    return TrustError(f"{len(signers)} of the trusted keys signed, expected {threshold}", "ask the others to sign")


def _scheme(public: PublicKeyTypes) -> SSlibKey:
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined, unused-ignore]

    return SSlibKey.from_crypto(public)
