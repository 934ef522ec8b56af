"""What Sigstore's signatures say of a run: one more check for each, and who signed by when.

They are beside the manifest, one bundle a line, in a file that nobody signed. A line counts where it holds
(``provenance.keyless.bundle``), is to the byte of this manifest's payload, by an identity that the reader accepts
together with its issuer, and no older than the run's end by the manifest's own account. One that does not count is
named, as a surplus signature of a key is: whom a reader knows, and whether the library is installed, decides what
counts, not whether the run verifies. Where a signature is required, one has to count.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from provenance.attestation.run_files import BUNDLES, read_bundles
from provenance.attestation.verdict import Check, Verdict
from provenance.errors import ProvenanceError, TrustError, UsageError
from provenance.formats.digest import bytes_digest
from provenance.formats.strict_json import timestamp
from provenance.keyless.bundle import public_root, trusted_root, verified_bundle
from provenance.keyless.identities import Identity
from provenance.timestamps.authority_stamp import expect_after_end

if TYPE_CHECKING:
    from sigstore.models import TrustedRoot

_NAME = "sigstore"


@dataclass(frozen=True)
class KeylessSignature:
    """Whose signature on the manifest holds, and by when it was made: by the log's account, not the signer's."""

    identity: str
    issuer: str
    signed_on: datetime


def with_bundles(
    verdict: Verdict, folder: Path, identities: Iterable[Identity], root: Path | None = None, *, required: bool = False
) -> tuple[Verdict, tuple[KeylessSignature, ...]]:
    """The verdict with one more check for each of Sigstore's signatures, and those that count. It can only get worse.

    Args:
        verdict: what was found of the run.
        folder: the run's.
        identities: whose signatures are accepted.
        root: the trusted root of another Sigstore instance than the public one.
        required: whether one of them has to count.

    Raises NotFoundError, TrustError or UsageError for a trusted root that is none, or that came with the run.
    """
    path = folder / BUNDLES
    if root is not None and root.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{root}: came with the run", "get the trusted root from whoever operates the instance")
    if not required and not os.path.lexists(path):
        return verdict, ()
    first = len(verdict.checks) + 1
    if verdict.manifest is None:
        return _with(verdict, [Check(first, _NAME, "skip", "the manifest does not verify")]), ()
    if find_spec("sigstore") is None:
        missing = f"{BUNDLES} was not checked: pip install 'ndrepro[sigstore]'"
        return _with(verdict, [Check(first, _NAME, "skip", missing)]), ()
    trusted = public_root() if root is None else trusted_root(root)
    listed, checks, kept = tuple(identities), [], []
    try:
        lines = read_bundles(path)
    except ProvenanceError as error:
        return _with(verdict, [Check(first, _NAME, "fail", error.message, error.cure)]), ()
    for number, line in enumerate(lines, first):
        try:
            signature, message = _judged(line, verdict, listed, trusted)
        except ProvenanceError as error:
            where = f"{path}, line {number - first + 1}"
            checks.append(Check(number, _NAME, "skip", f"{where}: not counted: {error.message}", error.cure))
        else:
            checks.append(Check(number, _NAME, "pass", message))
            kept.append(signature)
    if required and not kept:
        checks = [replace(check, status="fail") for check in checks]
    return _with(verdict, checks), tuple(kept)


def _judged(
    line: bytes, verdict: Verdict, listed: tuple[Identity, ...], root: TrustedRoot
) -> tuple[KeylessSignature, str]:
    """Whose signature on this manifest a bundle is, and what to say of it. Raises TrustError."""
    assert verdict.manifest is not None
    bundle = verified_bundle(line, root)
    if bytes_digest(bundle.payload) != verdict.payload_digest:
        raise TrustError("it is of other content than this manifest")
    signer = bundle.accepted(listed)
    if signer is None:
        named = " and ".join(map(str, bundle.identities()))
        cure = "if it is the right one: ndrepro keys trust --identity ID --issuer URL --name WHOSE"
        raise TrustError(f"it is by {named}, which is no trusted identity", cure)
    when = timestamp(bundle.signed_on)
    expect_after_end(bundle.signed_on, verdict.manifest)
    known = f", known as {signer.name}" if signer.name != signer.identity else ""
    message = f"by {signer}{known}, on {when}, {bundle.place}"
    return KeylessSignature(signer.identity, signer.issuer, bundle.signed_on), message


def _with(verdict: Verdict, checks: list[Check]) -> Verdict:
    ok = verdict.ok and all(check.status != "fail" for check in checks)
    return replace(verdict, checks=(*verdict.checks, *checks), ok=ok)
