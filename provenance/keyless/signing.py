"""Sign a run's manifest by an identity, through Sigstore's services, and keep the bundle beside the manifest.

What leaves the machine is public for good: the identity, and in the log the digest of the manifest's payload and the
signature. The payload itself, with everything that the manifest records, is sent to the log's server.
"""

from __future__ import annotations

import sys
from pathlib import Path

from provenance.attestation.dsse import read_envelope
from provenance.attestation.run_files import BUNDLES, MANIFEST, MOST_BUNDLES, read_bundles
from provenance.errors import NotFoundError, ProvenanceError, SigstoreError, StorageError, TrustError, UsageError
from provenance.formats.atomic_io import write_atomically
from provenance.formats.bounded_read import read_bounded, read_small
from provenance.formats.digest import bytes_digest
from provenance.keyless.bundle import VerifiedBundle, verified_bundle

_NOBODY = "run it at a terminal, in a CI job that has an identity, or name a file that has one, with --identity-token"


def sign_keyless(
    folder: Path, payload_digest: str, *, identity: Path | None = None, config: Path | None = None
) -> VerifiedBundle:
    """Add an identity's signature to a run's manifest that was verified; what was signed, and by whom.

    Args:
        folder: the run's.
        payload_digest: that of the bytes that were verified.
        identity: a file with an OIDC identity; left out, the one of the CI job, else the person is asked in a browser.
        config: the file of another Sigstore instance's configuration (client trust config) than the public one's.

    Raises UsageError where there is no identity, or the manifest was replaced; NotFoundError for a file that is not
    there; SigstoreError where the services do not sign; StorageError where the bundle cannot be written.
    """
    path = folder / BUNDLES
    try:
        payload = read_envelope(read_bounded(folder / MANIFEST))[1]
    except OSError as error:
        raise StorageError(f"{folder / MANIFEST}: cannot be read ({error.strerror})") from error
    if bytes_digest(payload) != payload_digest:
        raise UsageError(f"{folder / MANIFEST}: it was replaced after it was verified", "verify it again")
    before = read_bundles(path) if path.exists() else ()
    if len(before) >= MOST_BUNDLES:
        raise UsageError(f"{path}: {len(before)} signatures, and no more are read")
    bundle, verified = _signed(payload, identity, config)
    write_atomically(path, b"".join(line + b"\n" for line in (*before, bundle)))
    return verified


def _signed(payload: bytes, identity_file: Path | None, config: Path | None) -> tuple[bytes, VerifiedBundle]:
    """A new bundle, in one line, and what it is by the very root that readers use."""
    from sigstore.dsse import Statement
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import IdentityToken, Issuer, detect_credential
    from sigstore.sign import SigningContext

    given = _read(identity_file).decode("utf-8", "replace").strip() if identity_file else None
    described = _read(config).decode("utf-8", "replace") if config else None
    try:
        given = given or detect_credential()
        if given is None and not sys.stdin.isatty():
            raise UsageError("no identity to sign with: no terminal to ask at, and no CI job's", _NOBODY)
        where = ClientTrustConfig.from_json(described) if described else ClientTrustConfig.production()
        identity = IdentityToken(given) if given else Issuer(where.signing_config.get_oidc_url()).identity_token()
        with SigningContext.from_trust_config(where).signer(identity) as signer:
            bundle = signer.sign_dsse(Statement(payload)).to_json().encode("utf-8")
        verified = verified_bundle(bundle, where.trusted_root)
        if verified.payload != payload:
            raise TrustError("the bundle is of other content")
        return bundle, verified
    except ProvenanceError:
        raise
    except Exception as error:  # of the library, of its parts, and of the network below them: there is no common root
        reason = " ".join(f"{error} {error.__cause__ or ''}".split()) or type(error).__name__
        raise SigstoreError(f"not signed by Sigstore: {reason}", "nothing was written: try again") from error


def _read(path: Path) -> bytes:
    try:
        return read_small(path, pipes=True, limit=1 << 20)
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such file", "check the path") from None
