"""Attack: a clone has a ``git``, a ``bwrap``, a ``uv`` or a module ``torch`` of its own, and PATH a relative entry.

Before, ``record`` and ``reproduce`` started it with all of the user's rights, before any question and any sandbox.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ndrepro.execution.containers import apptainer, docker_engine
from ndrepro.execution.environments import gpu_fit
from ndrepro.execution.environments.gpu_fit import ask_torch
from ndrepro.execution.environments.interpreters import uv_variables
from ndrepro.execution.programs.interpreters import python_of
from ndrepro.execution.runs.run import RunOptions
from ndrepro.execution.sandbox.sandbox import BUBBLEWRAP, why_not
from ndrepro.execution.slurm.queue import ask
from ndrepro.execution.studies.launchers import Job, _variables
from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.study.study import StudyRun
from provenance.errors import ProvenanceError
from provenance.git.repository import Repository
from provenance.system_programs import find_program, system_variables

NAMES = ("git", "bwrap", "podman", "apptainer", "singularity", "uv", "sbatch", "scontrol", "python3.99")


@pytest.fixture(params=(".", "", "bin", "./node_modules/../."))
def clone(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of a stranger's that the user is in, whose programs are found by a relative entry of PATH alone."""
    place = tmp_path / ("bin" if request.param == "bin" else ".")
    for name in (place, tmp_path / "node_modules"):
        name.mkdir(exist_ok=True)
    for name in NAMES:
        (place / name).write_text('#!/bin/sh\necho "$0" >> "$ESCAPED"\n')
        (place / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ESCAPED", str(tmp_path / "escaped"))
    monkeypatch.setenv("PATH", request.param)
    why_not.cache_clear()
    yield tmp_path
    why_not.cache_clear()


def test_no_program_of_a_relative_entry_is_started(clone: Path) -> None:
    assert not any(map(find_program, NAMES))
    for attempt in (
        lambda: Repository(clone).facts(),
        lambda: ask("scontrol", "ping"),
        lambda: apptainer.find("apptainer", __file__),
        docker_engine._serve,
    ):
        with pytest.raises((ProvenanceError, NdreproError), match=r"not installed|is not there"):
            attempt()
    assert "not installed" in str(why_not(BUBBLEWRAP))
    (clone / "script").write_text("#!/usr/bin/env python3.99\n")
    assert python_of(clone / "script") is None
    assert uv_variables()["PATH"] == "", "nor does a helper look there"
    assert not (clone / "escaped").exists()


def test_a_module_torch_in_the_current_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "json.py").write_text(f"open({str(tmp_path / 'escaped')!r}, 'w').close()\nraise SystemExit(1)\n")
    monkeypatch.setattr(gpu_fit, "_PROBE", "import json; print(json.dumps(['2', '', [], [], '', '']))")
    assert not ask_torch().error
    assert not (tmp_path / "escaped").exists()


def test_a_study_s_job_imports_no_module_of_the_current_folder(tmp_path: Path) -> None:
    """It records and signs; a fork of this project, or a ``random.py``, was its code where it was started there."""
    for name in ("random.py", "ndrepro/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"open({str(tmp_path / 'escaped')!r}, 'w').close()\nraise SystemExit(1)\n")
    run = StudyRun("main", Experiment.from_name("lenet_nd_1_digits", {}))
    words = Job("smoke", run).words(RunOptions(RunsFolder(tmp_path / "runs"), tmp_path / "home"))
    start = words[: words.index("ndrepro.execution.studies.job") + 1]
    done = subprocess.run([*start, "--help"], cwd=tmp_path, env=_variables(os.environ, tmp_path), capture_output=True)
    assert not done.returncode and b"--resume" in done.stdout
    assert not (tmp_path / "escaped").exists()


def test_absolute_entries_are_used_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    for folder in (first, second):
        folder.mkdir()
        (folder / "tool").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", os.pathsep.join([".", "", str(second), "bin", str(first)]))
    assert find_program("tool") == str(second / "tool")
    assert system_variables(os.environ)["PATH"] == f"{second}{os.pathsep}{first}"
    assert find_program("./tool") is None and system_variables({"A": "b"}) == {"A": "b"}
