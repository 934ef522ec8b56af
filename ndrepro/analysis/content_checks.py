"""Checks of a run's contents, 9 and on, which every reader of runs is given (``ndrepro.execution.verification``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.run_kind import TRAINING, run_kind
from provenance.attestation.manifest import Manifest
from provenance.attestation.verdict import ExtraCheck

# chooses them for a manifest
KindChecks = Callable[[Manifest | None], Iterable[ExtraCheck]]


def content_checks(checks: KindChecks, manifest: Manifest | None) -> Iterable[ExtraCheck]:
    """Those of a manifest; none where its signed files are too few: those of a training need three."""
    if manifest is None:
        return ()
    folder = RunFolder(Path())
    needed = (folder.request, folder.environment, folder.result) if run_kind(manifest) == TRAINING else ()
    return checks(manifest) if all(manifest.artifact(path.name) for path in needed) else ()
