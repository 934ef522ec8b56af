"""What is asked of Slurm for processes on several nodes; on a cluster: tests/engines/test_slurm.py."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from ndrepro.execution.runs import slurm_allocation
from ndrepro.execution.runs.slurm_allocation import Allocation, Step
from ndrepro.protocol.errors import EngineError, UsageError

TWO = Allocation("7", ("n2", "n1"))


def started(script: str) -> Step:
    return Step(subprocess.Popen(["sh", "-c", script]))


def test_one_node_or_none_is_no_allocation() -> None:
    assert slurm_allocation.find({}) is None
    assert slurm_allocation.find({"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1"}) is None
    assert slurm_allocation.find({"SLURM_JOB_NUM_NODES": "2"}) is None


def test_without_slurms_commands_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="scontrol is not there"):
        slurm_allocation.find({"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "n[1-2]"})


def test_every_node_has_as_many_processes() -> None:
    assert TWO.share(4) == 2
    with pytest.raises(UsageError, match="processes=3 on the 2 nodes of Slurm's job 7"):
        TWO.share(3)


def test_the_step_is_on_the_other_nodes_alone() -> None:
    words = TWO.words(4, 3, ("python", "-m", "x"))
    assert {"--nodes=1", "--nodelist=n1", "--ntasks=2", "--ntasks-per-node=2", "--cpus-per-task=3"} < set(words)
    assert words[-5:] == ["sh", "2", "python", "-m", "x"], "the first rank there, and what each process runs"


def test_a_task_knows_its_rank_and_does_not_hear_slurms_warning() -> None:
    places = {"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "PATH": os.environ["PATH"]}
    script = "echo $RANK $LOCAL_RANK $GROUP_RANK; kill -USR2 $$; echo alive"
    words = TWO.words(4, 1, ("sh", "-c", script))
    task = words[words.index("sh") :]
    done = subprocess.run(task, env=places, capture_output=True, text=True)
    assert done.stdout.split() == ["5", "1", "2", "alive"]
    deaf = subprocess.run(["sh", "-c", script], env=places, capture_output=True, text=True)
    assert deaf.returncode == -signal.SIGUSR2, "without it, the warning kills"


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 75", 75), ("exit 137", -9), ("exit 1", 1)])
def test_a_step_ends_as_its_tasks_do(script: str, code: int) -> None:
    step = started(script)
    assert step.wait() == code
    assert step.poll() == code


def test_a_step_is_ended_by_a_kill_and_not_asked_to_stop() -> None:
    step = started("exec sleep 3000")
    step.send_signal(signal.SIGTERM)
    assert step.poll() is None
    step.send_signal(signal.SIGKILL)
    assert step.wait() == -signal.SIGTERM
