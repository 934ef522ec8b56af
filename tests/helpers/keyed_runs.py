"""Signed manifests of any finishing time by any key, for tests of what a key's signature is worth when."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

from signed_runs import SAMPLE

from provenance.attestation.dsse import read_envelope, sign_envelope
from provenance.attestation.key_home import KeyRing
from provenance.attestation.manifest import Manifest
from provenance.attestation.statement import Statement
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verdict import Check
from provenance.attestation.verify import verify


@functools.cache
def sample() -> Manifest:
    """A real run's manifest, which finished on 2026-11-21."""
    return Statement.from_bytes(read_envelope(SAMPLE.read_bytes())[1]).manifest


def signed_at(path: Path, ring: KeyRing, finished_on: str, **changes: Any) -> Path:
    """A manifest that states that it finished then, signed with the ring's key, revoked or not; ``path``."""
    payload = Statement.about(replace(sample(), finished_on=finished_on, **changes)).to_bytes()
    path.write_bytes(sign_envelope(payload, ring.ended_signer()))
    return path


def signature_check(manifest: Path, home: Path) -> Check:
    """Check 2 of a manifest, with the trust of a key home."""
    return verify(manifest, trust=TrustPolicy.load(home), manifest_only=True).checks[1]
