"""Several training processes of one run, with the face of one: started, watched and stopped together.

Each gets the variables that ``torchrun`` would set (``VARIABLES``), and nothing else shows it that it is one of
several: the same child may be started by ``torchrun -m ndrepro.training RUN_DIR``. All are children of this process,
on this machine; under Slurm they share the GPUs and cores of its one task, and in an allocation of several nodes those
of the others are a job step (``ndrepro.execution.runs.slurm_allocation``). Where one ends before its time the others
wait for it in vain, so they are killed.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from ndrepro.execution.containers.container_spec import Process
from ndrepro.protocol.messages import EXIT_COMPLETED, EXIT_FAILED, EXIT_INTERRUPTED

# how torchrun informs a process of its rank; inherited ones are of another job, and go
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
_LOCALHOST = "127.0.0.1"
_POLL_SECONDS = 0.05
# how long a process may take to notice that another has ended, and to write its results; a busy machine is slow
_PATIENCE_SECONDS = 600.0


def places(processes: int, here: int) -> list[dict[str, str]]:
    """The variables of each of the first ``here`` of so many processes: those on this machine, where all meet."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = str(free.getsockname()[1])
    alone = here == processes
    common = {
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(here),
        "GROUP_RANK": "0",
        "MASTER_ADDR": _LOCALHOST if alone else socket.gethostname(),
        "MASTER_PORT": port,
        # the machine's name need not resolve
        **({"GLOO_SOCKET_IFNAME": "lo"} if alone else {}),
    }
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(here)]


def start(
    processes: int,
    one: Callable[[Mapping[str, str]], Process],
    here: int | None = None,
    others: Callable[[Mapping[str, str]], Process] | None = None,
) -> Process:
    """Start that many processes, each by ``one``, given its variables; one alone gets none.

    Where only ``here`` of them are to be on this machine, ``others`` starts the rest, given the first one's variables.
    """
    if processes == 1:
        return one({})
    started: list[Process] = []
    try:
        own = places(processes, here or processes)
        for variables in own:
            started.append(one(variables))
        if others is not None:
            started.append(others(own[0]))
    except BaseException:
        for process in started:
            process.kill()
            process.wait()
        raise
    return Ranks(started)


class Ranks:
    """Processes by rank, as one: it is over when all are over.

    The exit code is that of all where they agree; else that of the signal which ended one of them, else 1.
    """

    def __init__(self, processes: Sequence[Process]) -> None:
        self._processes = tuple(processes)
        self._code: int | None = None
        self._first_end: float | None = None

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, -n for signal n. Raises subprocess.TimeoutExpired."""
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() >= end:
                raise subprocess.TimeoutExpired("the training processes", timeout or 0.0)
            time.sleep(_POLL_SECONDS)
        return code

    def poll(self) -> int | None:
        """The exit code once all are over; those that wait for one that failed are killed."""
        if self._code is not None:
            return self._code
        codes = [process.poll() for process in self._processes]
        ended = [code for code in codes if code is not None]
        if len(ended) == len(codes) or self._must_end(ended):
            self._code = _together(ended)
            for process in self._processes:
                process.kill()
                process.wait()
        return self._code

    def send_signal(self, sig: int) -> None:
        """Send every process a signal."""
        for process in self._processes:
            process.send_signal(sig)

    def kill(self) -> None:
        """Send every process SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _must_end(self, ended: list[int]) -> bool:
        """Whether the others wait in vain: one failed, or has been over for long."""
        if not ended:
            return False
        self._first_end = self._first_end or time.monotonic()
        failed = any(code not in (EXIT_COMPLETED, EXIT_INTERRUPTED) for code in ended)
        return failed or time.monotonic() - self._first_end > _PATIENCE_SECONDS


def _together(codes: Sequence[int]) -> int:
    """One exit code out of several."""
    if len(set(codes)) == 1:
        return codes[0]
    return next((code for code in codes if code < 0), EXIT_FAILED)
