"""Which public keys are fit to identify a signer: whoever chose a weak one, many can sign for it, or anyone.

    Ed25519   a point of the curve in its one canonical encoding, and of large order: with one of the eight points of
              small order a signature can be made that holds for most messages, without any private key
    RSA       3072 to 16384 bits, odd public exponent from 65537 to 2^64 (NIST SP 800-57: 128 bits of security)
    ECDSA     NIST's curves P-256, P-384 and P-521
    ML-DSA    every parameter set

Source: RFC 8032, section 5.1 (the curve, decoding of points).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from provenance.errors import KeyFileError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

_RSA_BITS = range(3072, 16384 + 1)
_RSA_EXPONENTS = range(65537, 1 << 64, 2)
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_CURE = "make another key; with the key home's own key, `ndrepro keys` shows how"
# the field and the curve -x^2 + y^2 = 1 + d x^2 y^2
_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P


def refuse_weak_key(public: PublicKeyTypes) -> None:
    """Raise KeyFileError, which names the weakness, for a key with which others could sign."""
    weakness = _weakness(public)
    if weakness:
        raise KeyFileError(f"not a key that may sign: {weakness}", _CURE)


def _weakness(public: PublicKeyTypes) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(public, ed25519.Ed25519PublicKey):
        return _ed25519_weakness(public.public_bytes_raw())
    if isinstance(public, rsa.RSAPublicKey):
        exponent = public.public_numbers().e
        if public.key_size not in _RSA_BITS:
            return f"RSA of {public.key_size} bits, expected {_RSA_BITS[0]} to {_RSA_BITS[-1]}"
        return "" if exponent in _RSA_EXPONENTS else f"RSA with public exponent {exponent}, expected 65537"
    if isinstance(public, ec.EllipticCurvePublicKey):
        name = public.curve.name
        return "" if name in _CURVES else f"ECDSA on the curve {name}, expected {', '.join(_CURVES)}"
    return "" if "MLDSA" in type(public).__name__ else f"{type(public).__name__}, expected Ed25519, ECDSA or RSA"


@lru_cache(maxsize=256)
def _ed25519_weakness(encoded: bytes) -> str:
    """What is wrong with an encoded point (32 bytes, little-endian y, sign of x in the last bit)."""
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number & (1 << 255) - 1
    if y >= _P:
        return "an Ed25519 point that is not in canonical form"
    x_squared = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(x_squared, (_P + 3) // 8, _P)
    if x * x % _P != x_squared:
        x = x * pow(2, (_P - 1) // 4, _P) % _P
    if x * x % _P != x_squared:
        return "32 bytes that are no point of the curve of Ed25519"
    if x == 0 and sign:
        return "an Ed25519 point that is not in canonical form"
    # whether x or -x is meant changes no order: 8 (x, y) is the neutral element for the points of small order alone
    for _ in range(3):
        x, y = _double(x, y)
    return "an Ed25519 point of small order" if (x, y) == (0, 1) else ""


def _double(x: int, y: int) -> tuple[int, int]:
    """Twice a point of the curve."""
    difference = (y * y - x * x) % _P
    doubled = 2 * x * y * pow(difference, -1, _P) % _P
    return doubled, (y * y + x * x) * pow(2 - difference, -1, _P) % _P
