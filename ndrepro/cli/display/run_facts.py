"""The rows of ``ndrepro show`` for every kind of run; those of a training run are in ``facts``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ndrepro.cli.display.facts import (
    Row,
    artifacts,
    experiment_rows,
    gpu_row,
    machine_row,
    manifest_rows,
    source,
    time_row,
    told,
    word,
)
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.program_record import ProgramFile, ProgramRecord
from ndrepro.protocol.run_kind import PROGRAM, SCRIPT, TRAINING, run_kind
from ndrepro.protocol.training_record import TrainingRecord
from ndrepro.text.plurals import plural
from provenance.attestation.manifest import Manifest
from provenance.attestation.packages import warnings
from provenance.capture.unavailable import at
from provenance.formats.metrics_log import read_scalars
from provenance.recording.script_record import ScriptRecord

_SHOWN = 5
_LIBRARIES = ("torch", "lightning", "transformers", "numpy", "tensorflow", "jax")


def rows_of(manifest: Manifest, folder: Path) -> list[Row]:
    """Everything that a manifest says; ``folder`` holds the files that it names."""
    return _ROWS.get(run_kind(manifest), _common)(manifest, folder)


def _of_training(manifest: Manifest, folder: Path) -> list[Row]:
    return [*experiment_rows(TrainingRecord.of(manifest).experiment), *manifest_rows(manifest)]


def _of_script(manifest: Manifest, folder: Path) -> list[Row]:
    record = ScriptRecord.of(manifest)
    return [
        ("command", told(shlex.join, record.command)),
        ("parameters", told(_pairs, record.parameters)),
        ("seeds", ", ".join(f"{name} {seed}" for name, seed in record.seeds.items()) or "none"),
        ("metrics", _metrics(RunFolder(folder).metrics)),
        ("notes", told(_pairs, record.notes)),
        *_common(manifest, folder),
    ]


def _of_program(manifest: Manifest, folder: Path) -> list[Row]:
    record = ProgramRecord.of(manifest)
    unseen = [("observed", f"no Python code: {record.unobserved}")] if record.unobserved else []
    return [
        ("command", told(shlex.join, record.command)),
        ("ran in", record.working_folder),
        ("seeds", ", ".join(f"{name} {seed}" for name, seed in record.seeds.items()) or "none declared"),
        ("read", _files(record.inputs, record.input_count, [item.name for item in record.datasets])),
        ("wrote", _files(record.outputs, record.output_count)),
        (
            "metrics",
            _metrics(RunFolder(folder).metrics, "none: `ndrepro record --metrics GLOB` reads a program's logs"),
        ),
        *unseen,
        *_common(manifest, folder),
    ]


def _files(listed: Sequence[ProgramFile], count: int, more: Sequence[str] = ()) -> str:
    """How many files, and the first of them; those that were declared and not written are marked."""
    names = [*more, *(file.path + ("" if file.written else " (not written)") for file in listed[:_SHOWN])]
    rest = f" and {count - _SHOWN} more" if count > _SHOWN else ""
    return f"{plural(count, 'file')}: {', '.join(names)}{rest}" if names else "no file that is known"


def _common(manifest: Manifest, folder: Path) -> list[Row]:
    """What every kind of run records in the same form."""
    record = TrainingRecord.of(manifest)
    flagged = warnings(manifest)
    return [
        ("source", told(source, record.source, [artifact.path for artifact in manifest.artifacts])),
        ("python", told(_python, record)),
        *([("packages", "; ".join(flagged))] if flagged else []),
        ("machine", told(machine_row, manifest.machine)),
        ("gpu", told(gpu_row, manifest.machine, record.libraries)),
        ("time", told(time_row, record)),
        ("artifacts", told(artifacts, manifest.artifacts)),
    ]


_ROWS: Mapping[str, Callable[[Manifest, Path], list[Row]]] = {
    TRAINING: _of_training,
    SCRIPT: _of_script,
    PROGRAM: _of_program,
}


def _pairs(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {json.dumps(value, ensure_ascii=False)}" for key, value in found.items()) or "none"


def _metrics(path: Path, absent: str = "none were logged") -> str:
    """How many rows there are, and the last; ``absent`` where there is no file."""
    if not path.exists():
        return absent
    rows = read_scalars(path, tolerate_torn=True)
    last = ", ".join(f"{key} {value}" for key, value in rows[-1].items()) if rows else ""
    return plural(len(rows), "row") + (f"; the last: {last}" if last else "")


def _python(record: TrainingRecord) -> str:
    had = record.distributions
    versions = [f"{name} {had[name].version or 'of no known version'}" for name in _LIBRARIES if name in had]
    interpreter = at(record.manifest.machine, "interpreter", "version")
    return ", ".join([f"Python {word(interpreter)}", *versions, plural(len(had), "distribution")])
