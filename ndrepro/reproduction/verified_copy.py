"""The private copy of a run, verified, from which it is reproduced."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ndrepro.reproduction.reproduction import NotReproduced

if TYPE_CHECKING:
    from ndrepro.execution.reproduce.reexecute import Original
    from ndrepro.execution.runs.run import RunOptions
    from ndrepro.protocol.layout import RunFolder


def verified_copy(folder: RunFolder, options: RunOptions, private: Path) -> Original:
    """A copy of the run in the folder ``private``, if it verifies.

    Raises NotReproduced naming the check that fails, StorageError where it cannot be copied.
    """
    from ndrepro.execution.reproduce.reexecute import Original
    from ndrepro.execution.reproduce.signed_copy import SignedCopy
    from ndrepro.execution.verification.checks_by_kind import checks_of
    from provenance.attestation.countersignature import recorded_here
    from provenance.attestation.ledger import Ledger
    from provenance.attestation.trust import TrustPolicy
    from provenance.attestation.verify import verify as verify_run
    from provenance.errors import ProvenanceError, StorageError

    trust = TrustPolicy.load(options.home)
    ledger = None if folder.ledger is None else Ledger(folder.ledger)
    verdict = verify_run(folder.root, trust=trust, ledger=ledger, extra_checks=checks_of)
    if not verdict.ok or verdict.manifest is None:
        first = verdict.failure
        raise NotReproduced(
            f"{folder.root}: it does not verify, so there is nothing to reproduce"
            + (f": {first.name}: {first.message}" if first else ""),
            f"see every check, and what to do, with `ndrepro verify {folder.root}`",
        )
    try:
        copied = SignedCopy.make(folder, verdict.manifest, verdict.payload_digest, private)
        # the files may have been others while these were checked than when they were hashed
        for check in checks_of(copied.manifest):
            check(copied.folder.root, copied.manifest)
    except StorageError:
        raise
    except Exception as error:  # whatever was signed: it did not pass these checks, only what lay there meanwhile did
        why = error.message if isinstance(error, ProvenanceError) else f"{type(error).__name__}: {error}"
        raise NotReproduced(
            f"{folder.root}: its files changed while they were verified: {why}",
            "wait until nothing writes to the folder any more; its author may still do so",
        ) from None
    own = recorded_here(verdict, folder.ledger, trust)
    return Original(copied.folder, copied.manifest, copied, own=own)
