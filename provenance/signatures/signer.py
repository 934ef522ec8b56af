"""What signs: the part of securesystemslib's ``Signer`` that is used here, and a signer with an Ed25519 key.

Keys are Ed25519 unless somebody chose another one, and cryptography alone signs and verifies with those; importing
securesystemslib's signers costs more than all signatures of a run. Every other key, device and service has its signer.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


class MadeSignature(Protocol):
    """A signature in hexadecimal, and the identifier of the key that made it."""

    @property
    def keyid(self) -> str:
        """The key's identifier."""

    @property
    def signature(self) -> str:
        """The signature in hexadecimal."""


class MessageSigner(Protocol):
    """Signs messages with one key."""

    @property
    def public_key(self) -> Any:
        """The public half: keyid, keytype, scheme, keyval, as securesystemslib's ``Key`` has them."""

    def sign(self, payload: bytes) -> MadeSignature:
        """The signature of these bytes."""


class _Signature(NamedTuple):
    keyid: str
    signature: str


class Ed25519Signer:
    """Signs with an Ed25519 key in memory, as securesystemslib's ``CryptoSigner`` does."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.verifying_key = private.public_key()
        self.keyid = ed25519_keyid(self.verifying_key)

    @cached_property
    def public_key(self) -> Any:
        """The public half as securesystemslib describes it."""
        from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined, unused-ignore]

        return SSlibKey.from_crypto(self.verifying_key)

    def sign(self, payload: bytes) -> MadeSignature:
        """The signature of these bytes."""
        return _Signature(self.keyid, self._private.sign(payload).hex())


def ed25519_keyid(public: Ed25519PublicKey) -> str:
    """The identifier that securesystemslib computes: SHA-256 of the key's description in canonical JSON."""
    point = public.public_bytes_raw().hex()
    described = f'{{"keytype":"ed25519","keyval":{{"public":"{point}"}},"scheme":"ed25519"}}'
    return hashlib.sha256(described.encode("ascii")).hexdigest()
