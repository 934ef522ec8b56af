"""What an authority's time stamp (RFC 3161) says of a run's manifest, verified offline.

The time in a manifest is its signer's own statement. A time stamp of an authority is over the manifest file's SHA-256
and carries the authority's time: the manifest, with the signatures that were in it, was there by then. Whoever trusts
the authority can so tell a signature from before a key's revocation from one that a thief dated back, or added later.

A stamp is asked for with openssl and kept beside the run, in the authority's answer. It is checked here against the
authority's own certificate, which the reader names: nothing is fetched, and no authority is trusted by default.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from provenance.attestation.dsse import read_envelope, verify_parts, write_envelope
from provenance.attestation.manifest import Manifest
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verdict import Check, Verdict
from provenance.errors import NotFoundError, ProvenanceError, TrustError
from provenance.formats.bounded_read import read_bounded, read_small
from provenance.formats.digest import bytes_digest
from provenance.formats.strict_json import timestamp
from provenance.timestamps.answer_certificates import with_sorted_certificates

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_NAME = "time stamp"
_SHA256 = "2.16.840.1.101.3.4.2.1"
_EARLIER = "name a stamp from before the key ended, or have another key sign: ndrepro keys sign"
# clocks of the signer's machine and of the authority
_CLOCKS = timedelta(minutes=5)


def with_timestamp(verdict: Verdict, manifest: Path, response: Path, authority: Path, trust: TrustPolicy) -> Verdict:
    """The verdict with one more check, which can only make it worse: an authority stamped this manifest, and when.

    Of a key that has ended only signatures that were in it before that count for the verdict; one has to count.

    Args:
        verdict: what was found of the run, by ``trust``. manifest: its manifest's file.
        response: the authority's answer, DER, as ``openssl ts -reply`` or a server gives it.
        authority: the authority's root certificate, or several, PEM.

    Raises NotFoundError or StorageError for a file that cannot be read, TrustError for certificates that are none.
    """
    stamp, roots = _read(response), _certificates(authority)
    number = len(verdict.checks) + 1
    if verdict.manifest is None:
        found = Check(number, _NAME, "skip", "the manifest does not verify")
        return replace(verdict, checks=(*verdict.checks, found))
    counted = dict(zip(verdict.keyids, verdict.signers, strict=True))
    try:
        stamped = _stamped(stamp, roots, _contents(read_bounded(manifest), counted, trust))
        expect_after_end(stamped.when, verdict.manifest)
    except ProvenanceError as error:
        check = Check(number, _NAME, "fail", f"{response}: {error.message}", error.cure)
        return replace(verdict, checks=(*verdict.checks, check), ok=False)
    when = timestamp(stamped.when)
    late = [keyid for keyid in counted if trust.ended(keyid, when if keyid in stamped.keyids else None)]
    signers = ", ".join(name for keyid, name in counted.items() if keyid in stamped.keyids)
    words = f"this manifest, signed by {signers}, was there on {when}, by {stamped.authority}"
    for keyid in late:
        words += f"; not counted: {counted.pop(keyid)} ({keyid}), whose key had ended before its signature is shown"
    checks = (*verdict.checks, Check(number, _NAME, "pass" if counted else "fail", words, "" if counted else _EARLIER))
    ok = verdict.ok and bool(counted)
    return replace(verdict, checks=checks, ok=ok, keyids=tuple(counted), signers=tuple(counted.values()))


@dataclass(frozen=True)
class _Stamped:
    """When an authority stamped the manifest with the signatures of which keys, and the authority's name."""

    when: datetime
    keyids: frozenset[str]
    authority: str


def _contents(data: bytes, counted: Collection[str], trust: TrustPolicy) -> dict[str, frozenset[str]]:
    """What may have been stamped, by SHA-256, and the keys that had signed it then, of those that count.

    A countersignature is added at the end of the file; whoever adds one before keeps the recorder's with one signature.
    """
    kind, payload, signatures = read_envelope(data)
    valid = verify_parts(kind, payload, signatures, trust.keys()).signatures
    signer = {signature: keyid for keyid, signature in valid if keyid in counted}
    written = [*([each] for each in valid), *(signatures[:number] for number in range(1, len(signatures) + 1))]
    made = {bytes_digest(write_envelope(kind, payload, each)): each for each in written} | {
        bytes_digest(data): signatures
    }
    by = {digest: frozenset(signer[one] for _, one in each if one in signer) for digest, each in made.items()}
    return {digest: keyids for digest, keyids in by.items() if keyids}


def expect_after_end(when: datetime, manifest: Manifest) -> None:
    """Raise TrustError for a time, by somebody else's clock, before the run ended by its own account."""
    if when + _CLOCKS < datetime.fromisoformat(manifest.finished_on):
        raise TrustError(
            f"it is of {timestamp(when)}, before the run ended by its own account ({manifest.finished_on})",
            "the signer's clock was wrong, or the manifest is not what was stamped: ask its author",
        )


def _stamped(response: bytes, roots: list[Certificate], contents: Mapping[str, frozenset[str]]) -> _Stamped:
    """What the authority stamped of that which has these digests. Raises TrustError."""
    from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response

    cure = "name the whole answer that the authority gave for this run's manifest.dsse.json, and its root certificate"
    try:
        answer = decode_timestamp_response(with_sorted_certificates(response))
        imprint = answer.tst_info.message_imprint
        if imprint.hash_algorithm.dotted_string != _SHA256:
            raise TrustError("it is of no SHA-256", "ask for another with: openssl ts -query -sha256")
        if imprint.message.hex() not in contents:
            raise TrustError("it is of other content than this manifest", cure)

        def verify(roots: Iterable[Certificate]) -> None:
            builder = VerifierBuilder()
            for root in roots:
                builder = builder.add_root_certificate(root)
            builder.build().verify(answer, imprint.message)

        verify(roots)
        said = []
        for root in roots:
            with suppress(VerificationError):
                verify([root])
                said.append(root)
        names = ", ".join(root.subject.rfc4514_string() for root in said or roots)
        return _Stamped(answer.tst_info.gen_time, contents[imprint.message.hex()], names)
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
