"""A program that was recorded by a relative path of an interpreter runs again by it, where it was recorded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from compared_runs import manifest

from ndrepro.execution.program_reproduction.program_environment import find_environment
from ndrepro.execution.program_reproduction.recorded_command import RecordedCommand
from ndrepro.protocol.run_kind import PROGRAM
from provenance.attestation.manifest import Resource


def test_an_interpreter_named_by_a_relative_path_is_found_again(tmp_path: Path) -> None:
    """As `ndrepro record -- .venv/bin/python train.py` names it: no commit has it, and PATH has another."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "work" / ".venv"], check=True)
    (tmp_path / "private").mkdir()
    typed = ".venv/bin/python"
    place = tmp_path / "work"
    executable = Resource("executable", uri=typed)
    command = RecordedCommand(
        PROGRAM, "train", (typed, "train.py"), executable, place, place, (), (), (), (), {}, "off", ""
    )
    found = find_environment(command, manifest(), tmp_path / "private", (), (), own=True, maps=False)
    assert found.executable.parent == place / ".venv" / "bin"
    other = find_environment(command, manifest(), tmp_path / "private", (), (), own=False, maps=False)
    assert other.executable.parent != place / ".venv" / "bin", "the control: of another's run PATH decides"
