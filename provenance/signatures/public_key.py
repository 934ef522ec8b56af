"""A public key, its identifier, and whether it signed a message. Weak keys are none (``key_strength``)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from provenance.errors import KeyFileError
from provenance.signatures.key_strength import refuse_weak_key
from provenance.signatures.signer import Ed25519Signer, ed25519_keyid

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from provenance.signatures.signer import MessageSigner


@dataclass(frozen=True)
class PublicKey:
    """A public key: its PEM text (SubjectPublicKeyInfo) and the identifier computed from it."""

    pem: str
    keyid: str

    @classmethod
    def from_pem(cls, pem: str | bytes) -> PublicKey:
        """The key in PEM text. Raises KeyFileError for anything else, a private key among it, and for a weak key."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        try:
            return cls._of(load_pem_public_key(pem.encode() if isinstance(pem, str) else pem))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyFileError(
                f"not a public key in PEM ({error})", "give the file that `ndrepro keys export --out FILE` wrote"
            ) from None

    @classmethod
    def from_base64(cls, text: str) -> PublicKey:
        """The key that ``base64`` wrote. Raises KeyFileError as ``from_pem``."""
        return cls.from_pem(f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")

    @property
    def base64(self) -> str:
        """The key's SubjectPublicKeyInfo in base64, on one line."""
        return "".join(self.pem.split("\n")[1:-2])

    @classmethod
    def of_signer(cls, signer: MessageSigner) -> PublicKey:
        """The key with which a signer's signatures are verified. Raises KeyFileError for a weak one."""
        if isinstance(signer, Ed25519Signer):
            return cls._of(signer.verifying_key)
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        text = signer.public_key.keyval["public"]
        if signer.public_key.keytype != "ed25519":
            return cls.from_pem(text)
        return cls._of(Ed25519PublicKey.from_public_bytes(bytes.fromhex(text)))

    @classmethod
    def _of(cls, public: PublicKeyTypes) -> PublicKey:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")
        return PublicKey(pem, _keyid(public))

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether this key made ``signature`` over ``message``."""
        from cryptography.exceptions import InvalidSignature

        key = self._ed25519
        if key is None:
            return self._verifies_as_securesystemslib(signature, message)
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    @property
    def holder(self) -> str:
        """One identifier for all keys of the same holder; of a key of which no more is known, its own."""
        return self.keyid

    def refusal(self, when: str | None) -> str | None:
        """Why a signature made at ``when`` does not count; of a key of which no more is known, every one does."""
        return None

    @cached_property
    def _public(self) -> PublicKeyTypes:
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        public = load_pem_public_key(self.pem.encode())
        refuse_weak_key(public)
        return public

    @property
    def _ed25519(self) -> Ed25519PublicKey | None:
        """The key where it is an Ed25519 key."""
        from cryptography.hazmat.primitives.asymmetric import ed25519

        return self._public if isinstance(self._public, ed25519.Ed25519PublicKey) else None

    def _verifies_as_securesystemslib(self, signature: bytes, message: bytes) -> bool:
        from securesystemslib.exceptions import UnverifiedSignatureError
        from securesystemslib.signer import Signature, SSlibKey  # type: ignore[attr-defined, unused-ignore]

        try:
            SSlibKey.from_crypto(self._public).verify_signature(Signature(self.keyid, signature.hex()), message)
        except UnverifiedSignatureError:
            return False
        return True


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: the message that is signed."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _keyid(public: PublicKeyTypes) -> str:
    from cryptography.hazmat.primitives.asymmetric import ed25519

    refuse_weak_key(public)
    if isinstance(public, ed25519.Ed25519PublicKey):
        return ed25519_keyid(public)
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined, unused-ignore]

    return str(SSlibKey.from_crypto(public).keyid)
