"""A folder of runs that came with a repository has links in it: nothing is written through them.

Before, the ledger's entries went to the end of whatever file its link named, such as a shell's start-up file, verdicts
into any folder, and new runs as well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from real_runs import Bench

from ndrepro.execution.runs.run import Finished, RunOptions
from ndrepro.execution.slurm.launcher import SlurmLauncher, Spelled
from ndrepro.execution.slurm.request import Cluster
from ndrepro.execution.studies.launchers import Job
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.study.study import StudyRun
from provenance.attestation.key_home import KeyRing
from provenance.attestation.ledger import Ledger
from provenance.attestation.trust import TrustPolicy
from provenance.errors import StorageError, UsageError
from provenance.formats.atomic_io import locked

WRITTEN = ("ledger.jsonl", "ledger.jsonl.lock", "verdicts", ".data", "images", ".slurm", "lenet_nd_1_digits")


@pytest.fixture
def handed_over(honest: Finished, author: Bench, tmp_path: Path) -> Path:
    """The author's folder of runs in a clone of the reviewer's, without its ledger; the reviewer trusts the author."""
    runs = tmp_path / "clone" / "runs"
    shutil.copytree(honest.folder.root, runs / honest.folder.root.parent.name / honest.folder.root.name)
    TrustPolicy.load(tmp_path / "keys").add(KeyRing(author.options.home).public_key().pem, "author")
    return runs


def reviewer(runs: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "ndrepro", *words],
        cwd=runs.parent,
        env={**os.environ, "NDREPRO_HOME": str(runs.parents[1] / "keys")},
        capture_output=True,
        text=True,
    )


def refused(done: subprocess.CompletedProcess[str], name: str) -> None:
    assert done.returncode == 2 and f"{name}: a symbolic link" in done.stderr, done.stderr
    assert "hint: " in done.stderr


@pytest.mark.parametrize("name", ["ledger.jsonl", "verdicts"])
def test_a_repetition_writes_through_no_link(handed_over: Path, tmp_path: Path, name: str) -> None:
    (handed_over / name).symlink_to(tmp_path / "outside")
    refused(reviewer(handed_over, "reproduce", "latest"), name)
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("name", WRITTEN)
def test_nothing_that_is_written_to_may_be_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to(tmp_path / "outside")
    with pytest.raises(UsageError, match=f"{name}: a symbolic link"):
        RunsFolder(tmp_path).make_run("lenet_nd_1_digits", datetime.now(UTC))


def test_nor_does_a_run_of_the_readers_own(handed_over: Path, tmp_path: Path) -> None:
    profile = tmp_path / "profile"
    profile.write_text("# mine\n")
    (handed_over / "ledger.jsonl").symlink_to(profile)
    refused(reviewer(handed_over, "run", "lenet_nd_1_digits"), "ledger.jsonl")
    refused(reviewer(handed_over, "record", "--", "true"), "ledger.jsonl")
    assert profile.read_text() == "# mine\n"


@pytest.mark.parametrize("name", [".slurm", ".slurm/smoke"])
def test_no_task_of_slurm_is_written_where_a_link_leads(tmp_path: Path, name: str) -> None:
    """Tasks are pickled: whoever may write there could have another one executed."""
    runs = tmp_path / "runs"
    (runs / name).parent.mkdir(parents=True)
    (runs / name).symlink_to(tmp_path / "outside")
    options = RunOptions(RunsFolder(runs), tmp_path / "keys")
    launcher = SlurmLauncher(Cluster(), options, Spelled("smoke", "smoke"), {})
    launcher.start(Job("smoke", StudyRun("main", Experiment.from_name("lenet_bn_1_digits"))))
    with pytest.raises(UsageError, match=f"{name}: a symbolic link"):
        list(launcher.events(0))
    assert not (tmp_path / "outside").exists()


def test_a_link_that_is_put_there_later_is_not_followed_either(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "ledger.jsonl").symlink_to(tmp_path / "outside")
    KeyRing(tmp_path / "keys").make(None)
    with pytest.raises(StorageError, match=r"ledger\.jsonl"):
        Ledger(tmp_path / "runs" / "ledger.jsonl").append("begun", "run", KeyRing(tmp_path / "keys").signer())
    (tmp_path / "lock").symlink_to(tmp_path / "outside")
    with pytest.raises(StorageError, match="lock"), locked(tmp_path / "lock"):
        pass
    assert not (tmp_path / "outside").exists()


def test_a_folder_of_runs_that_is_itself_a_link_is_the_readers_choice(handed_over: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "disk"
    handed_over.rename(elsewhere)
    handed_over.symlink_to(elsewhere)
    done = reviewer(handed_over, "record", "--", "true")
    assert done.returncode == 0, done.stderr
    assert (elsewhere / "ledger.jsonl").is_file()
