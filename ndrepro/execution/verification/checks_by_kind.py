"""Which checks follow checks 1 to 8 of ``provenance.attestation.verify``: one table, by the kind of run.

training   9 request  10 trail  11 weights  12 metrics  13 states  14 predicate   (``runs.run_checks``)
script     9 request  10 environment  11 source  12 metrics  13 outcome  14 times (``script_checks``)
other      9 kind, which is skipped: signature, files and ledger are all that can be checked
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ndrepro.execution.runs.run_checks import CHECKS as OF_TRAINING
from ndrepro.execution.verification.program_checks import CHECKS as OF_PROGRAMS
from ndrepro.execution.verification.script_checks import CHECKS as OF_SCRIPTS
from ndrepro.protocol.run_kind import OTHER, PROGRAM, SCRIPT, TRAINING, run_kind
from provenance.attestation.manifest import Manifest
from provenance.attestation.verdict import CheckResult, ExtraCheck


def kind(root: Path, manifest: Manifest) -> CheckResult:
    """9, of a run whose build type is unknown: its contents are not checked."""
    return CheckResult("kind", "skip", f"unknown build type {manifest.build_type!r}: its contents are not checked")


_BY_KIND: Mapping[str, tuple[ExtraCheck, ...]] = {
    TRAINING: OF_TRAINING,
    SCRIPT: OF_SCRIPTS,
    PROGRAM: OF_PROGRAMS,
    OTHER: (kind,),
}


def checks_of(manifest: Manifest | None) -> tuple[ExtraCheck, ...]:
    """The checks for a run of this kind; none where no manifest says which kind it is."""
    return () if manifest is None else _BY_KIND[run_kind(manifest)]
