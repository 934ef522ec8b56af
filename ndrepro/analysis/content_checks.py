"""Checks of a run's contents, 9 and on: every reader of runs has them, and none can leave them out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ndrepro.execution.verification.checks_by_kind import checks_of
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.run_kind import TRAINING, run_kind
from provenance.attestation.manifest import Manifest
from provenance.attestation.verdict import ExtraCheck


def content_checks(manifest: Manifest | None) -> Iterable[ExtraCheck]:
    """Those of a manifest; none where its signed files are too few: those of a training need three."""
    if manifest is None:
        return ()
    folder = RunFolder(Path())
    needed = (folder.request, folder.environment, folder.result) if run_kind(manifest) == TRAINING else ()
    return checks_of(manifest) if all(manifest.artifact(path.name) for path in needed) else ()
