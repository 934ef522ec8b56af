"""A further signature on a run's manifest: of a co-author or a reviewer, over the very bytes that the author signed.

It changes neither what was signed nor the digest by which ledger and verdicts know the manifest
(``provenance.attestation.verify``).
"""

from __future__ import annotations

from pathlib import Path

from provenance.attestation.dsse import read_envelope, sign_envelope, verify_parts, write_envelope
from provenance.attestation.key_home import KeyRing
from provenance.errors import StorageError, TrustError, UsageError
from provenance.formats.atomic_io import write_atomically
from provenance.formats.digest import bytes_digest


def countersign(manifest: Path, payload_digest: str, ring: KeyRing) -> str:
    """Add this key home's signature to a manifest that was verified; the key's identifier.

    ``payload_digest`` is that of the bytes that were verified. Raises UsageError where the key signed before or other
    bytes are there now, StorageError where the file cannot be written, and what ``KeyRing.signer`` raises.
    """
    try:
        kind, payload, signatures = read_envelope(manifest.read_bytes())
    except OSError as error:
        raise StorageError(f"{manifest}: cannot be read ({error.strerror})") from error
    if bytes_digest(payload) != payload_digest:
        raise UsageError(f"{manifest}: it was replaced after it was verified", "verify it again")
    key = ring.public_key()
    try:
        verify_parts(kind, payload, signatures, [key])
    except TrustError:
        added = read_envelope(sign_envelope(payload, ring.signer()))[2]
        write_atomically(manifest, write_envelope(kind, payload, [*signatures, *added]))
        return key.keyid
    raise UsageError(f"{manifest}: your key {key.keyid} signed it already")
