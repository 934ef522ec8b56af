"""A second signature on imported runs, of whoever verified them: ``ndrepro study collect --sign``.

What a node signed with a key that is there is what the node reported. The second signature says that its holder had the
whole run in hand, that every check passed by the keys that this holder trusts, and that the manifest has not changed
since; not where or how it was trained. Both signatures stay apart in the manifest's envelope, each with its key.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ndrepro.execution.verification.checks_by_kind import checks_of
from ndrepro.protocol.layout import RunsFolder
from provenance.attestation.countersignature import countersign
from provenance.attestation.key_home import KeyRing
from provenance.attestation.ledger import Ledger
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify
from provenance.errors import UsageError
from provenance.git.tracked_paths import expect_no_tracked_link


def countersign_runs(folder: Path, trust: TrustPolicy, home: Path) -> tuple[Path, ...]:
    """Sign every run of an imported folder that verifies whole and that ``home`` has not signed; their paths.

    Raises what ``KeyRing.signer`` raises, StorageError where a manifest cannot be written.
    """
    expect_no_tracked_link(folder, "name another one: --into DIR")
    runs, ring, signed = RunsFolder(folder), KeyRing(home), []
    ledger = Ledger(runs.ledger).summary(trust.keys()) if runs.ledger.is_file() else None
    for run in runs.runs():
        verdict = verify(run.root, trust=trust, ledger=ledger, extra_checks=checks_of)
        if verdict.ok and verdict.payload_digest is not None:
            with suppress(UsageError):  # this key signed it before
                countersign(run.manifest, verdict.payload_digest, ring)
                signed.append(run.root)
    return tuple(signed)
