"""Runs small programs under the start-up hook, by any interpreter, and collects what it wrote."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from provenance.observation.collection import collect
from provenance.observation.preparation import prepare
from provenance.observation.process_record import ProcessRecord


@dataclass(frozen=True)
class Observed:
    """A program that ended: how, what it printed, what was seen of its processes, and where their files lie."""

    returncode: int
    stdout: str
    stderr: str
    processes: tuple[ProcessRecord, ...]
    output: Path

    @property
    def process(self) -> ProcessRecord:
        (only,) = self.processes
        return only


def clean_environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "NDREPRO", "COV"))}
    return {**kept, "OMP_NUM_THREADS": "1", **(variables or {})}


def observe(
    folder: Path,
    source: str,
    *arguments: str,
    python: str | Path = sys.executable,
    trail: str = "auto",
    options: tuple[str, ...] = (),
    variables: Mapping[str, str] | None = None,
) -> Observed:
    """Run ``source`` as the file program.py of ``folder`` under the hook."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "program.py"
    program.write_text(source, encoding="utf-8")
    environment = clean_environment(variables)
    shutil.rmtree(folder / "hook", ignore_errors=True)
    hook = prepare(folder / "hook", trail, environment)
    done = subprocess.run(
        [str(python), *options, str(program), *arguments],
        cwd=folder,
        env={**environment, **hook.variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return Observed(done.returncode, done.stdout, done.stderr, collect(hook.output), hook.output)


def interpreter(version: str) -> str | None:
    """An installed Python of that version, such as "3.8"; None where there is none."""
    found = shutil.which(f"python{version}")
    if found and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:
        return found
    folders = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    return str(folders[-1]) if folders else None
