"""The nodes of a Slurm allocation, and how the processes of a run are started on those that are not this one.

Where a run of several processes is started on the first node of an allocation of M nodes, each node has an M-th of
them, in the order of their ranks. Those of this node are children of this process, as ever; those of the others are
the tasks of one job step, started by ``srun``, whose end is theirs. All meet at this node's host name. Each node must
see the run's folder, the data and the Python that trains under the same paths.

Nobody sends a step's tasks a signal to stop: the processes of a run stop together, and those here are signalled. They
end when the recorder's lock on the run's folder is gone, as in a container.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from ndrepro.protocol.errors import EngineError, UsageError
from provenance.git.helper_programs import find_program

# how long the tasks of a step may outlive the first of them, and a step its own end
_PATIENCE_SECONDS = 60
_END_SECONDS = 20.0
# A task learns its rank from its place in the step. Slurm's warning before a time limit reaches every step, and is
# none of its business.
_TASK = (
    'trap "" USR1 USR2 CONT; first=$1; shift; '
    "export RANK=$((first + SLURM_PROCID)) LOCAL_RANK=$SLURM_LOCALID GROUP_RANK=$((1 + SLURM_NODEID)); "
    'exec "$@"'
)


@dataclass(frozen=True)
class Allocation:
    """Several nodes by Slurm's names, the one that this process is on first."""

    job: str
    nodes: tuple[str, ...]

    def share(self, processes: int) -> int:
        """How many of a run's processes each node has. Raises UsageError where that is no whole number."""
        share, rest = divmod(processes, len(self.nodes))
        if rest:
            raise UsageError(
                f"processes={processes} on the {len(self.nodes)} nodes of Slurm's job {self.job}: not the same on each",
                "choose a multiple of the nodes, or ask for other nodes",
            )
        return share

    def words(self, processes: int, threads: int, command: tuple[str, ...]) -> list[str]:
        """The step that starts ``command`` as every process that is not on this node. Raises EngineError."""
        if (srun := find_program("srun")) is None:
            raise EngineError("srun is not there: the other nodes' processes cannot be started", "add it to PATH")
        share, others = self.share(processes), self.nodes[1:]
        words = [srun, "--overlap", f"--nodes={len(others)}", f"--nodelist={','.join(others)}"]
        words += [f"--ntasks={share * len(others)}", f"--ntasks-per-node={share}", f"--cpus-per-task={threads}"]
        words += ["--distribution=block", "--mpi=none", "--mem=0", "--export=ALL", "--unbuffered"]
        words += ["--input=none", "--kill-on-bad-exit=0", f"--wait={_PATIENCE_SECONDS}"]
        return [*words, "sh", "-c", _TASK, "sh", str(share), *command]


def find(variables: Mapping[str, str]) -> Allocation | None:
    """The allocation that these variables describe; None outside of one, and where it is this node alone.

    Raises EngineError where this process is on none of its nodes, or Slurm does not tell which they are.
    """
    job, count = variables.get("SLURM_JOB_ID", ""), variables.get("SLURM_JOB_NUM_NODES", "1")
    if not job or count == "1":
        return None
    nodes = _names(variables.get("SLURM_JOB_NODELIST", ""))
    here = variables.get("SLURMD_NODENAME", "")
    if here not in nodes:
        raise EngineError(
            f"Slurm's job {job} has {count} nodes, and this process is on none of them",
            "start it there: srun --nodes=1 --ntasks=1 --overlap ndrepro run …",
        )
    return Allocation(job, (here, *(name for name in nodes if name != here)))


class Step:
    """A job step of ``srun`` as a process: its exit code is the greatest of its tasks', -n for signal n."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def wait(self, timeout: float | None = None) -> int:
        """See ``Process``."""
        return _exit_code(self._process.wait(timeout))

    def poll(self) -> int | None:
        """See ``Process``."""
        code = self._process.poll()
        return None if code is None else _exit_code(code)

    def send_signal(self, sig: int) -> None:
        """SIGKILL ends the step; a signal to stop is for the processes of the first node, which pass it on."""
        if sig == signal.SIGKILL:
            self.kill()

    def kill(self) -> None:
        """End the step: asked with SIGTERM, srun has Slurm kill its tasks."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        self._process.kill()


def _names(nodes: str) -> tuple[str, ...]:
    """n[1-2] as n1, n2. Raises EngineError."""
    if (program := find_program("scontrol")) is None:
        raise EngineError("scontrol is not there: the names of the job's nodes are not known", "add it to PATH")
    done = subprocess.run([program, "show", "hostnames", nodes], capture_output=True, text=True)
    if done.returncode:
        raise EngineError(f"scontrol show hostnames {nodes}: {done.stderr.strip()}", "see whether `sinfo` answers")
    return tuple(done.stdout.split())


def _exit_code(code: int) -> int:
    return 128 - code if code > 128 else code
