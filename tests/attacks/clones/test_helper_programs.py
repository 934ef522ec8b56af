"""Attack: a clone has a ``git``, a ``bwrap``, a ``uv`` or a module ``torch`` of its own, and PATH a relative entry.

Before, ``record`` and ``reproduce`` started it with all of the user's rights, before any question and any sandbox.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ndrepro.execution.containers import apptainer, docker_engine
from ndrepro.execution.environments import gpu_fit
from ndrepro.execution.environments.gpu_fit import ask_torch
from ndrepro.execution.environments.interpreters import uv_executable, uv_variables
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
from provenance.git.helper_programs import find_program
from provenance.git.repository import Repository
from provenance.system_programs import find_git, programs_on_path, system_variables

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


@pytest.mark.parametrize("how", ["a program", "a link to one", "a folder that is a link"])
def test_no_program_that_git_tracks_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """An environment that was made in the clone is active, and has what a commit put there. Before: started while
    planning."""
    programs = tmp_path / "clone" / ".venv" / "bin"
    programs.mkdir(parents=True)
    folder = programs if how == "a program" else tmp_path / "bin"
    folder.symlink_to(programs) if how == "a folder that is a link" else folder.mkdir(exist_ok=True)
    for name in NAMES:
        (programs / name).write_text('#!/bin/sh\necho "$0" >> "$ESCAPED"\n')
        (programs / name).chmod(0o755)
        if how == "a link to one":
            (folder / name).symlink_to(programs / name)
    monkeypatch.setenv("ESCAPED", str(tmp_path / "escaped"))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    assert find_git("git") == str(folder / "git"), "the control: it is no repository yet"
    git = next(path for path in programs_on_path("git") if Path(path).parent != folder)
    subprocess.run([git, "init", "-q", tmp_path / "clone"], check=True)
    assert find_program("uv") == str(folder / "uv"), "the control: nothing is tracked"
    assert find_git("git") == git, "of one in a work tree nobody can ask"
    subprocess.run([git, "-C", tmp_path / "clone", "add", "-f", "."], check=True)
    assert not any((path or "").startswith(str(tmp_path)) for path in map(find_program, NAMES))
    if how != "a link to one":
        assert str(folder) not in uv_variables()["PATH"].split(os.pathsep)
    monkeypatch.setenv("HOME", str(tmp_path / "clone"))
    assert find_git("git") == str(folder / "git"), "a repository of one's own settings"
    assert not (tmp_path / "escaped").exists()


def test_a_uv_that_git_tracks_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``python -m venv`` keeps what is there, and this project may be installed in an environment in the clone."""
    beside = tmp_path / "clone/.venv/bin/uv"
    beside.parent.mkdir(parents=True)
    beside.write_text("#!/bin/sh\n")
    beside.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(beside.with_name("python")))
    subprocess.run(["git", "init", "-q", tmp_path / "clone"], check=True)
    assert uv_executable() == beside, "the control"
    subprocess.run(["git", "-C", tmp_path / "clone", "add", "-f", "."], check=True)
    with suppress(NdreproError):  # there may be another one on the PATH
        assert uv_executable() != beside


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
