"""The runs that a script recorded itself while it was run again, in its private folder, with a key of its own.

Their signatures mean nothing to the reviewer, whose recorder watched the process that made them.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from ndrepro.execution.runs.run_lookup import read_recorded
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.run_kind import SCRIPT, run_kind
from provenance.attestation.manifest import Manifest
from provenance.attestation.run_files import MANIFEST, inside
from provenance.errors import ProvenanceError
from provenance.formats.canonical_json import canonical_bytes
from provenance.formats.digest import file_digest
from provenance.formats.folder_tree import files_below


def manifests_below(place: Path) -> frozenset[Path]:
    """Every manifest in a folder; no link is followed. Raises StorageError for folders nested too deeply."""
    return frozenset(files_below(place, MANIFEST))


def runs_of_script(place: Path, original: Manifest, before: Collection[Path]) -> tuple[RunFolder, ...]:
    """The runs below ``place`` that have the name and parameters of ``original``, and whose files are those that they
    list. ``before`` are the manifests that were there before the script started: what was committed is no repetition.
    """
    found = []
    for path in sorted(manifests_below(place) - frozenset(before)):
        folder = RunFolder(path.parent)
        try:
            manifest = read_recorded(folder).manifest
            if run_kind(manifest) == SCRIPT and same_request(manifest, original) and _is_whole(folder, manifest):
                found.append(folder)
        except (ProvenanceError, OSError):
            continue
    return tuple(found)


def _is_whole(folder: RunFolder, manifest: Manifest) -> bool:
    """Whether every file that counts is the one that the manifest lists, and none is behind a link.

    Raises ProvenanceError where one cannot be read.
    """
    files = {item.path: item.sha256 for item in manifest.artifacts}
    if not all(map(inside, files)) or (os.path.lexists(folder.metrics) and folder.metrics.name not in files):
        return False
    return all(
        file_digest(folder.root / name, follow_symlinks=False, beneath=folder.root).sha256 == digest
        for name, digest in files.items()
    )


def same_request(first: Manifest, second: Manifest) -> bool:
    """Whether two scripts' runs have the same name, parameters and seeds, as JSON: true is not 1."""
    asked = [
        [each.external_parameters.get(name) for name in ("name", "parameters", "seeds")] for each in (first, second)
    ]
    return canonical_bytes(asked[0]) == canonical_bytes(asked[1])
