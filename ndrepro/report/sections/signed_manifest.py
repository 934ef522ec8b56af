"""What else a verified manifest says, read again from the very file that was verified."""

from __future__ import annotations

from ndrepro.analysis.results.results import Score
from ndrepro.protocol.layout import RunFolder
from provenance.attestation.dsse import read_envelope
from provenance.attestation.manifest import Manifest
from provenance.attestation.statement import Statement
from provenance.errors import ProvenanceError
from provenance.formats.digest import bytes_digest


def manifest_of(run: Score) -> Manifest | None:
    """The manifest of a verified run; None where the file is gone, or is another than the one that was verified."""
    try:
        envelope = RunFolder(run.folder).manifest.read_bytes()
        if bytes_digest(envelope) != run.manifest_digest:
            return None
        return Statement.from_bytes(read_envelope(envelope)[1]).manifest
    except (OSError, ProvenanceError):
        return None
