"""What the manifest of a run of ``ndrepro.record`` says, under one name and one type for each fact.

As ``TrainingRecord`` does for a training run: the manifest may be anybody's, and a fact that is missing or has another
form is empty or ``None``; nothing raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from provenance.attestation.manifest import Manifest
from provenance.capture.unavailable import mapping

# what ``provenance.recording.script_run`` writes
PARAMETERS = ("name", "parameters", "seeds", "command")
LATER_PARAMETERS = ("workingFolder",)  # not of earlier releases
INTERNAL = ("variables", "usage", "notes")
BUILD_TYPE = "urn:ndrepro:script:v1"
BUILDER = "urn:ndrepro:builder:in-process"


@dataclass(frozen=True)
class ScriptRecord:
    """The facts of one manifest, which need not be verified.

    ``command`` is the interpreter's own command line, secrets redacted; ``working_folder`` an absolute path, "" where
    it was not recorded; ``notes`` what the script noted.
    """

    manifest: Manifest
    name: str
    parameters: Mapping[str, Any]
    seeds: Mapping[str, Any]
    command: tuple[str, ...]
    working_folder: str
    notes: Mapping[str, Any]

    @classmethod
    def of(cls, manifest: Manifest) -> ScriptRecord:
        """Read a manifest."""
        asked, words = manifest.external_parameters, manifest.external_parameters.get("command")
        return cls(
            manifest,
            name=str(asked.get("name") or ""),
            parameters=mapping(asked.get("parameters")),
            seeds=mapping(asked.get("seeds")),
            command=tuple(map(str, words)) if isinstance(words, list) else (),
            working_folder=str(asked.get("workingFolder") or ""),
            notes=mapping(manifest.internal_parameters.get("notes")),
        )
