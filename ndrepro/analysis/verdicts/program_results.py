"""What a recorded program or script left, as its verdict compares it: exit code, outputs, metrics and notes."""

from __future__ import annotations

import json
import os.path
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ndrepro.analysis.verdicts.unexpected_files import unexpected_claim
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.program_record import (
    DECLARED,
    PLACES,
    TEMPORARY,
    ProgramFile,
    ProgramRecord,
    files_in,
    is_below,
)
from ndrepro.protocol.verdicts import ClaimCheck
from provenance.attestation.manifest import Manifest
from provenance.capture.unavailable import at, text
from provenance.formats.bounded_read import LOG_BYTES, read_bounded
from provenance.formats.metrics_log import read_scalars
from provenance.recording.script_record import ScriptRecord


@dataclass(frozen=True)
class ProgramResults:
    """What one of the two runs left: its folder, exit code, outputs by path, and rows of metrics.

    ``outputs`` have the SHA-256, or ``None`` where it is not known; ``unwritten`` are likewise those that were declared
    and are said not to have been written; ``temporary`` names others, which no repetition writes there. Copies of
    outputs are below the folder ``copies``, by their paths. ``python`` is the version that ran, "" for none; ``notes``
    are the facts that a script noted; ``others`` names files of no recorder; ``sizes`` are those of the outputs, bytes.
    """

    folder: RunFolder
    exit_code: Any
    outputs: Mapping[str, str | None]
    rows: tuple[Mapping[str, Any], ...]
    python: str = ""
    unwritten: Mapping[str, str | None] = field(default_factory=dict)
    copies: Path = Path()
    temporary: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    others: tuple[ClaimCheck, ...] = ()
    sizes: Mapping[str, int | None] = field(default_factory=dict)

    @classmethod
    def of_program(cls, folder: RunFolder, manifest: Manifest) -> ProgramResults:
        """A run of ``ndrepro record``."""
        record, listed = ProgramRecord.of(manifest), _outputs(folder.outputs)
        temporary = _temporary(listed, record, manifest.variables)
        return cls(
            folder,
            manifest.exit_code,
            {file.path: file.sha256 for file in listed if file.written and file.path not in temporary},
            _rows(folder.metrics),
            python=record.interpreters[0].version if record.interpreters else "",
            unwritten={file.path: file.sha256 for file in listed if not file.written},
            copies=folder.output_copies,
            temporary=tuple(file.path for file in listed if file.written and file.path in temporary),
            others=unexpected_claim(manifest),
            sizes={file.path: file.size for file in listed},
        )

    def within(self, working_folder: Path, top: Path) -> ProgramResults:
        """The same with the absolute paths of outputs below ``top`` relative to the working folder, as in any place."""
        names = {path: os.path.relpath(path, working_folder) for path in self.outputs if is_below(path, top)}
        return replace(
            self,
            outputs={names.get(path, path): item for path, item in self.outputs.items()},
            sizes={names.get(path, path): size for path, size in self.sizes.items()},
        )

    @classmethod
    def of_script(cls, folder: RunFolder, manifest: Manifest) -> ProgramResults:
        """A run of ``ndrepro.record``, whose outputs are its artifacts."""
        kept = {item.path: item.sha256 for item in manifest.artifacts if item.path.startswith("artifacts/")}
        notes = ScriptRecord.of(manifest).notes
        others = unexpected_claim(manifest)
        rows = _rows(folder.metrics)
        return cls(folder, manifest.exit_code, kept, rows, copies=folder.root, notes=notes, others=others)


def _rows(path: Path) -> tuple[Mapping[str, Any], ...]:
    """The logged rows; none where nothing was logged."""
    return tuple(read_scalars(path, tolerate_torn=True)) if path.is_file() else ()


def _outputs(path: Path) -> tuple[ProgramFile, ...]:
    """The files in outputs.json: what a program wrote, and what was declared and is said not to have been written."""
    return files_in(json.loads(read_bounded(path, LOG_BYTES))) if path.is_file() else ()


def _temporary(listed: Iterable[ProgramFile], record: ProgramRecord, variables: Mapping[str, Any]) -> frozenset[str]:
    """The undeclared outputs in a folder for temporary files, or in a hidden one of the user's: caches and settings."""
    if record.reproduced is not None:  # all that a repetition is known to have written is in its private folder
        return frozenset()
    top = text(at(record.source.annotations, "root")) or record.working_folder
    home, own = (variables.get(name) for name in PLACES)
    folders = [*TEMPORARY, *([own] if isinstance(own, str) and own.startswith("/") else [])]
    hidden = f"{home}/." if isinstance(home, str) and home.startswith("/") else None
    return frozenset(
        file.path
        for file in listed
        if file.how != DECLARED
        and not is_below(file.path, top)
        and (
            any(is_below(file.path, folder) for folder in folders)
            or (hidden and os.path.normpath(file.path).startswith(hidden))
        )
    )
