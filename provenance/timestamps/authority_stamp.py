"""What an authority's time stamp (RFC 3161) says of a run's manifest, verified offline.

The time in a manifest is its signer's own statement. A time stamp of an authority is over the manifest file's SHA-256
and carries the authority's time: the manifest, with its signature, was there by then. Whoever trusts the authority can
so tell a signature from before a key's revocation from one that a thief dated back.

A stamp is asked for with openssl and kept beside the run, in the authority's answer. It is checked here against the
authority's own certificate, which the reader names: nothing is fetched, and no authority is trusted by default.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from provenance.attestation.manifest import Manifest
from provenance.attestation.verdict import Check, Verdict
from provenance.errors import NotFoundError, ProvenanceError, TrustError
from provenance.formats.bounded_read import read_bounded, read_small
from provenance.formats.digest import bytes_digest
from provenance.formats.strict_json import timestamp

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_NAME = "time stamp"
_SHA256 = "2.16.840.1.101.3.4.2.1"
# clocks of the signer's machine and of the authority
_CLOCKS = timedelta(minutes=5)


def with_timestamp(verdict: Verdict, manifest: Path, response: Path, authority: Path) -> Verdict:
    """The verdict with one more check, which can only make it worse: an authority stamped this manifest, and when.

    Args:
        verdict: what was found of the run. manifest: its manifest's file.
        response: the authority's answer, DER, as ``openssl ts -reply`` or a server gives it.
        authority: the authority's root certificate, or several, PEM.

    Raises NotFoundError or StorageError for a file that cannot be read, TrustError for certificates that are none.
    """
    stamp, roots = _read(response), _certificates(authority)
    number = len(verdict.checks) + 1
    if verdict.manifest is None:
        found = Check(number, _NAME, "skip", "the manifest does not verify")
        return replace(verdict, checks=(*verdict.checks, found))
    # a countersignature that was added after the stamp changes the file, and not what the recorder wrote
    digests = {bytes_digest(read_bounded(manifest)), *verdict.digests}
    try:
        when = _stamped_on(stamp, roots, digests)
        expect_after_end(when, verdict.manifest)
    except ProvenanceError as error:
        check = Check(number, _NAME, "fail", f"{response}: {error.message}", error.cure)
    else:
        names = ", ".join(root.subject.rfc4514_string() for root in roots)
        check = Check(number, _NAME, "pass", f"this manifest was there on {timestamp(when)}, by {names}")
    ok = verdict.ok and check.status == "pass"
    return replace(verdict, checks=(*verdict.checks, check), ok=ok)


def expect_after_end(when: datetime, manifest: Manifest) -> None:
    """Raise TrustError for a time, by somebody else's clock, before the run ended by its own account."""
    if when + _CLOCKS < datetime.fromisoformat(manifest.finished_on):
        raise TrustError(
            f"it is of {timestamp(when)}, before the run ended by its own account ({manifest.finished_on})",
            "the signer's clock was wrong, or the manifest is not what was stamped: ask its author",
        )


def _stamped_on(response: bytes, roots: list[Certificate], digests: set[str]) -> datetime:
    """When the authority stamped what has one of these digests. Raises TrustError."""
    from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response

    cure = "name the answer that the authority gave for this run's manifest.dsse.json, and its root certificate"
    try:
        answer = decode_timestamp_response(response)
        imprint = answer.tst_info.message_imprint
        if imprint.hash_algorithm.dotted_string != _SHA256:
            raise TrustError("it is of no SHA-256", "ask for another with: openssl ts -query -sha256")
        if imprint.message.hex() not in digests:
            raise TrustError("it is of other content than this manifest", cure)
        builder = VerifierBuilder()
        for root in roots:
            builder = builder.add_root_certificate(root)
        builder.build().verify(answer, imprint.message)
        return answer.tst_info.gen_time
    except (ValueError, VerificationError) as error:
        raise TrustError(f"it does not hold ({error})", cure) from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of the library's Rust, for a certificate with damaged fields
            raise
        raise TrustError(f"it does not hold, or a certificate is damaged ({error})", cure) from None


def _certificates(path: Path) -> list[Certificate]:
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return list(dict.fromkeys(load_pem_x509_certificates(_read(path))))
    except ValueError as error:
        raise TrustError(f"{path}: no certificates in PEM ({error})", "name the authority's root certificate") from None


def _read(path: Path) -> bytes:
    try:
        return read_small(path)
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such file", "name the authority's answer, or its certificate") from None
