"""Programs that are really run and recorded, in this process or by the command line, and what was signed of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndrepro.execution.programs.command import resolve_command
from ndrepro.execution.programs.program_run import FinishedProgram, ProgramRequest, record_program
from ndrepro.execution.runs.run_lookup import read_recorded
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.program_record import ProgramFile, ProgramRecord
from provenance.attestation.manifest import Manifest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class RecordedProgram:
    """A run as it was signed: its folder, manifest and facts."""

    folder: RunFolder
    manifest: Manifest
    record: ProgramRecord

    @classmethod
    def of(cls, folder: RunFolder) -> RecordedProgram:
        manifest = read_recorded(folder).manifest
        return cls(folder, manifest, ProgramRecord.of(manifest))

    @property
    def log(self) -> bytes:
        return self.folder.log.read_bytes()

    def output(self, path: str) -> ProgramFile:
        return next(file for file in self.record.outputs if file.path == path)

    def listed(self, kind: str) -> dict[str, Any]:
        """The files of inputs.json or outputs.json, by path."""
        path = self.folder.inputs if kind == "inputs" else self.folder.outputs
        return {file["path"]: file for file in json.loads(path.read_text())["files"]}


class Programs:
    """A folder to work in, with a key home and a folder of runs of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.home = place / "home"
        self.work = place / "work"
        self.work.mkdir(parents=True)
        self.runs = RunsFolder(place / "runs")

    def finish(self, *words: str, **options: Any) -> FinishedProgram:
        """Run a command in this process's own current folder."""
        request = ProgramRequest(resolve_command(words, options.pop("name", None)), **options)
        return record_program(request, self.runs, self.home)

    def record(self, *words: str, **options: Any) -> RecordedProgram:
        """The same, read back."""
        return RecordedProgram.of(self.finish(*words, **options).folder)

    def command(self, *words: str, options: Sequence[str] = ("-q",)) -> list[str]:
        """The words of ``ndrepro record`` for a command."""
        return [sys.executable, "-m", "ndrepro", "record", "--runs", str(self.runs.root), *options, "--", *words]

    @property
    def variables(self) -> dict[str, str]:
        return {**os.environ, "NDREPRO_HOME": str(self.home), "PYTHONPATH": str(ROOT)}

    def start(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        """``ndrepro record`` as a process of its own, in the folder to work in."""
        return subprocess.Popen(self.command(*words), cwd=self.work, env=self.variables, **options)

    def only(self) -> RecordedProgram:
        """The one run that there is."""
        (folder,) = self.runs.runs()
        return RecordedProgram.of(folder)


def wait_for(path: Path, process: subprocess.Popen[bytes] | None = None) -> str:
    """The content of a file that another process writes, once it is there and not empty."""
    import time

    while not path.exists() or not path.read_text():
        assert process is None or process.poll() is None, "the process ended before it wrote the file"
        time.sleep(0.01)
    return path.read_text()
