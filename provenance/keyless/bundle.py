"""One Sigstore bundle, verified offline by a trusted root: what was signed, by which certificate, and by when.

Sigstore's library reads and verifies it. By the trusted root: the authority certified the key, and the log of
certificates has it; at a time that the log or an authority of time stamps signed, the certificate was valid; the log
includes the entry, and the entry is of this signature. The library takes every key of the root for this, so it is asked
again with those alone that the root calls valid at that time: a key that was retired may have been stolen. Whose
identity counts is for the caller.

The trusted root is the one that comes with Sigstore's library, or a file that somebody names. Nothing is fetched.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from provenance.attestation.dsse import PAYLOAD_TYPE
from provenance.errors import NotFoundError, TrustError
from provenance.keyless.identities import Identity

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from sigstore.models import Bundle, TrustedRoot

_PUBLIC = "https://tuf-repo-cdn.sigstore.dev"  # below which name the library keeps the public instance's root
_ISSUER = "1.3.6.1.4.1.57264.1.1"
_SHOWN = 300


@dataclass(frozen=True)
class VerifiedBundle:
    """What a bundle holds that verifies, whoever signed it.

    Attributes:
        payload: the very bytes that were signed, an in-toto statement by their type.
        certificate: the signer's.
        signed_on: the log's time of its entry; where it states none, the end of the certificate's validity.
        place: what this time is, for people.
    """

    payload: bytes
    certificate: Certificate
    signed_on: datetime
    place: str

    def accepted(self, identities: Iterable[Identity]) -> Identity | None:
        """The first of the identities, each with its issuer, that the certificate is for."""
        from sigstore.errors import VerificationError
        from sigstore.verify.policy import Identity as IdentityPolicy

        for each in identities:
            try:
                IdentityPolicy(identity=each.identity, issuer=each.issuer).verify(self.certificate)
            except VerificationError:
                continue
            return each
        return None

    def identities(self) -> tuple[Identity, ...]:
        """The identities (it is one) that the certificate names, with the issuer that it names."""
        from cryptography import x509

        extensions = self.certificate.extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        issuer = extensions.get_extension_for_oid(x509.ObjectIdentifier(_ISSUER)).value.public_bytes()
        kinds = (x509.RFC822Name, x509.UniformResourceIdentifier)
        texts = [name for kind in kinds for name in names.get_values_for_type(kind)]
        by = issuer.decode("utf-8", "backslashreplace")
        return tuple(Identity(text, by, text) for text in texts)


def verified_bundle(data: bytes, root: TrustedRoot) -> VerifiedBundle:
    """Verify a bundle by a trusted root. Raises TrustError for whatever does not hold."""
    from sigstore.errors import CertValidationError
    from sigstore.models import Bundle
    from sigstore.verify import Verifier

    try:
        bundle = Bundle.from_json(data)
        kind, payload = Verifier(trusted_root=root).verify_dsse(bundle, _Anybody())
        if kind != PAYLOAD_TYPE:
            raise TrustError(f"its payload is of the type {_printable(kind)}, expected {PAYLOAD_TYPE}")
        when, place = _signed_on(bundle)
        _expect_valid(bundle, root, when)
        found = VerifiedBundle(payload, bundle.signing_certificate, when, place)
        if not found.identities():
            raise TrustError("its certificate names no identity")
    except TrustError:
        raise
    except CertValidationError as error:
        raise TrustError(
            f"its certificate is of no authority of the trusted root, or was not valid then ({_said(error)})"
        ) from None
    except Exception as error:  # whatever hostile bytes make a library raise, it is a refusal
        raise TrustError(f"it does not verify ({_said(error)})") from None
    return found


def public_root() -> TrustedRoot:
    """The trusted root of Sigstore's public instance, as it comes with the installed library."""
    kept = resources.files("sigstore") / "_store" / quote(_PUBLIC, safe="") / "trusted_root.json"
    with resources.as_file(kept) as path:
        return trusted_root(path)


def trusted_root(path: Path) -> TrustedRoot:
    """The trusted root in a file, of its own or in a client's configuration. Raises NotFoundError or TrustError."""
    from sigstore.errors import Error
    from sigstore.models import ClientTrustConfig, TrustedRoot
    from sigstore.verify import Verifier

    if not path.is_file():
        raise NotFoundError(f"{path}: no such file", "name the trusted root of a Sigstore instance, JSON")
    try:
        text = path.read_text(encoding="utf-8")
        client = "clienttrustconfig" in str(json.loads(text)["mediaType"])
        root = ClientTrustConfig.from_json(text).trusted_root if client else TrustedRoot.from_file(str(path))
        Verifier(trusted_root=root)  # that has logs and authorities
        return root
    except (ValueError, LookupError, TypeError, RecursionError, Error) as error:
        raise TrustError(f"{path}: no trusted root of a Sigstore instance ({_said(error)})", "name another") from None


class _Anybody:
    """A policy of Sigstore's library that leaves the identity to ``VerifiedBundle.accepted``."""

    def verify(self, cert: Certificate) -> None:
        """Accept the certificate of any identity."""


def _expect_valid(bundle: Bundle, root: TrustedRoot, when: datetime) -> None:
    """Raises TrustError unless the bundle verifies by what the trusted root calls valid at that time."""
    from sigstore.errors import Error
    from sigstore.models import TrustedRoot
    from sigstore.verify import Verifier

    known = copy.deepcopy(root._inner)
    known.tlogs = [log for log in known.tlogs if _covers(log.public_key.valid_for, when)]
    known.ctlogs = [log for log in known.ctlogs if _covers(log.public_key.valid_for, when)]
    known.certificate_authorities = [each for each in known.certificate_authorities if _covers(each.valid_for, when)]
    try:
        Verifier(trusted_root=TrustedRoot(known)).verify_dsse(bundle, _Anybody())
    except Error:
        day = f"{when:%Y-%m-%d %H:%M:%S} UTC"
        raise TrustError(f"an authority or log that it needs was not valid on {day}, by the trusted root") from None


def _covers(validity: Any, when: datetime) -> bool:
    """Whether a range of times of the trusted root includes a moment; one without an end has none."""
    if validity is None:
        return True
    start, end = validity.start, validity.end
    return bool((start is None or start <= when) and (end is None or when <= end))


def _signed_on(bundle: Bundle) -> tuple[datetime, str]:
    """The log's time, which its promise covers, and what it is; else the latest that the verified times can be."""
    entry = json.loads(bundle.to_json())["verificationMaterial"]["tlogEntries"][0]
    seconds = int(entry.get("integratedTime") or 0)
    if seconds and entry.get("inclusionPromise"):
        return datetime.fromtimestamp(seconds, UTC), f"as entry {entry['logIndex']} of the log says"
    return bundle.signing_certificate.not_valid_after_utc, "at the latest, when its certificate ended"


def _said(error: Exception) -> str:
    return _printable(" ".join(str(error).split()) or type(error).__name__)


def _printable(text: str) -> str:
    """Text of a stranger's, for people."""
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return text if text.isprintable() else ascii(text)
