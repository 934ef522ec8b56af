"""The reviewer's own word on somebody's run: a signed statement beside it, never inside the author's folder.

An in-toto statement whose subjects are the author's manifest and the manifests of the runs that repeated it, by
digest; its predicate is the verdict with its evidence. Signed with the reviewer's key, it is in the reviewer's
folder of runs under ``verdicts/``, named after the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.verdicts import PREDICATE, STATEMENT
from provenance.attestation.dsse import PAYLOAD_TYPE, sign_envelope, verify_envelope, write_envelope
from provenance.attestation.key_home import KeyRing
from provenance.attestation.trust import TrustPolicy
from provenance.formats.atomic_io import make_folder, write_atomically
from provenance.formats.bounded_read import read_bounded
from provenance.formats.canonical_json import canonical_bytes
from provenance.formats.digest import bytes_digest
from provenance.formats.strict_json import timestamp
from provenance.signatures.public_key import PublicKey


def attest(
    original: RunFolder, repeated: Sequence[RunFolder], predicate: dict[str, Any], runs: RunsFolder, home: Path
) -> Path:
    """Sign ``predicate`` about these runs and write the envelope; returns its path.

    Raises TrustError for a run that no key trusted in ``home`` signed.
    """
    keys = KeyRing(home)
    trusted = TrustPolicy.load(home).keys()
    statement = {
        "_type": STATEMENT,
        "subject": [_subject(folder, trusted) for folder in (original, *repeated)],
        "predicateType": PREDICATE,
        "predicate": {**predicate, "signedOn": timestamp()},
    }
    envelope = sign_envelope(canonical_bytes(statement), keys.signer())
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = runs.verdicts / f"{original.root.name}.{stamp}-{keys.keyid[:8]}.dsse.json"
    make_folder(path.parent)
    write_atomically(path, envelope)
    return path


def _subject(folder: RunFolder, trusted: Sequence[PublicKey]) -> dict[str, Any]:
    name = f"{folder.root.parent.name}/{folder.root.name}/{folder.manifest.name}"
    verified = verify_envelope(read_bounded(folder.manifest), trusted)
    # as its recorder wrote it: a signature that was added since, in whatever place, is not part of the run
    recorded = write_envelope(PAYLOAD_TYPE, verified.payload, verified.signatures[:1])
    return {"name": name, "digest": {"sha256": bytes_digest(recorded)}}
