"""A further signature on a run's manifest: of a co-author or a reviewer, over the very bytes that the author signed.

It changes neither what was signed nor the digest by which ledger and verdicts know the manifest
(``provenance.attestation.verify``). So the own key's signature does not say that a run was recorded here: the ledger
does, in which the recorder signs the entry that ends an attempt, with the digest of its manifest.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from provenance.attestation.dsse import read_envelope, signature_of, verify_parts, write_envelope
from provenance.attestation.key_home import KeyRing
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import REPRODUCED_RUN
from provenance.attestation.statement import Statement
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verdict import Verdict
from provenance.errors import StorageError, TrustError, UsageError
from provenance.formats.atomic_io import write_atomically
from provenance.formats.digest import bytes_digest
from provenance.ledger_entries.entry import Entry

# member of the entry that begins an attempt at a repetition: a digest of what is recorded of the run that it repeats
ORIGIN = "origin"


def countersign(manifest: Path, payload_digest: str, ring: KeyRing) -> str:
    """Add this key home's signature to a manifest that was verified; the key's identifier.

    ``payload_digest`` is that of the bytes that were verified. Raises UsageError where the key signed before, other
    bytes are there now, or these name the key as the recorder's, ManifestError for no manifest, StorageError where the
    file cannot be written, and what ``KeyRing.signer`` raises.
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
        if Statement.from_bytes(payload).manifest.ledger.key == key.keyid:
            raise UsageError(
                f"{manifest}: it names your key {key.keyid} as its recorder's, which did not sign it", "ask its author"
            ) from None
        added = signature_of(payload, ring.signer())
        write_atomically(manifest, write_envelope(kind, payload, [*signatures, added]))
        return key.keyid
    raise UsageError(f"{manifest}: your key {key.keyid} signed it already")


def recorded_here(verdict: Verdict, ledger: Path | None, trust: TrustPolicy) -> bool:
    """Whether this machine's recorder made a verified run itself, and the run repeats no other.

    What a repetition records of paths, interpreters and images is the word of whoever made the first run.

    Args:
        verdict: on the run, by ``trust``.
        ledger: the list of runs beside it; ``None`` where there is none.
        trust: the keys that are trusted, the own one among them.
    """
    manifest = verdict.manifest
    if manifest is None or ledger is None or manifest.dependency(REPRODUCED_RUN) is not None:
        return False
    own = Ledger(ledger).entries_of(manifest.invocation_id, trust.own_keys())
    return ended_here(verdict, own) and not any(ORIGIN in each.fields for each in own)


def ended_here(verdict: Verdict, own: Iterable[Entry]) -> bool:
    """Whether the own key ended a run with the very manifest that was verified, by entries that the own key signed.

    An entry that begins a run says nothing of its manifest, and may be copied to any list, beside a run of that name.
    """
    ended = {each.fields.get("manifest") for each in own if each.key and each.event == "ended"}
    return not ended.isdisjoint(verdict.digests)
