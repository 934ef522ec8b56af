"""The runs that a script recorded itself while it was run again, in its private folder, with a key of its own.

Their signatures mean nothing to the reviewer, whose recorder watched the process that made them.
"""

from __future__ import annotations

from pathlib import Path

from ndrepro.execution.runs.run_lookup import read_recorded
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.run_kind import SCRIPT, run_kind
from provenance.attestation.manifest import Manifest
from provenance.errors import ProvenanceError

_LIMIT = 1000


def runs_of_script(place: Path, original: Manifest) -> tuple[RunFolder, ...]:
    """The runs below ``place`` that have the name and parameters of ``original``."""
    found = []
    for path in sorted(place.rglob("manifest.dsse.json"))[:_LIMIT]:
        folder = RunFolder(path.parent)
        try:
            manifest = read_recorded(folder).manifest
        except (ProvenanceError, OSError):
            continue
        if run_kind(manifest) == SCRIPT and _asked(manifest) == _asked(original):
            found.append(folder)
    return tuple(found)


def _asked(manifest: Manifest) -> tuple[object, ...]:
    return tuple(manifest.external_parameters.get(name) for name in ("name", "parameters", "seeds"))
