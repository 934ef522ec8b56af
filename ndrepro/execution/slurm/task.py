"""One element of a Slurm array, in the allocation: the processes of its runs, and how they stop on a signal.

submitit calls a ``Task`` in the job. It starts one process for each run (``ndrepro.execution.studies.job``), side by
side where several small runs share one GPU, and waits. A run's events go to its own file on the shared file system.

* Before the time limit submitit calls ``checkpoint``: every run is asked to stop, which leaves a checkpoint and a
  signed manifest that says so; then the job is put back into the queue.
* Put back for that reason, or because its node was lost or taken away, the task starts anew. Its runs always look
  first (``--recheck``): one that has started is resumed from its last checkpoint, one that is complete, or that another
  process has taken up meanwhile, is left alone.
* A run that did not complete makes the task a failed one, by its exit code.

The pickle that submitit writes holds only command lines and paths.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndrepro.execution.slurm.staging import staged
from provenance.recording.stop_requests import stops_wait

_POLL_SECONDS = 0.2
# the processes of the task that runs in this interpreter; not part of the task, which is pickled
_under_way: list[subprocess.Popen[bytes]] = []
# Slurm sends the warning to every process of the job, and only submitit knows what to do with it
_DEAF = ("sh", "-c", 'trap "" USR1 USR2 CONT; exec "$@"', "sh")


@dataclass(frozen=True)
class Line:
    """One run of a task: its command, the file of its events, and the data that its command names, "" for none."""

    command: tuple[str, ...]
    events: str
    data: str = ""

    def words(self, scratch: str) -> list[str]:
        """The command; with ``scratch``, on the node's copy of the data."""
        if not scratch or not self.data:
            return list(self.command)
        copy = str(staged(Path(self.data), scratch))
        return [copy if word == self.data else word for word in self.command]


@dataclass(frozen=True)
class Task:
    """What one element of the array does: ``lines``, at the same time, with these variables added.

    On a warning it is put back once its runs have stopped, or after ``stop_seconds``. Data are copied to ``scratch``
    first, where that is given.
    """

    lines: tuple[Line, ...]
    variables: tuple[tuple[str, str], ...] = ()
    stop_seconds: float = 60.0
    scratch: str = ""

    def __call__(self) -> None:
        """Run to the end. Raises SystemExit with the exit code of the first run that did not complete."""
        environment = {**os.environ, **dict(self.variables)}
        for line in self.lines:
            words = line.words(self.scratch)
            with open(line.events, "ab") as events:
                events.write(b"\n")  # whatever a killed process left torn ends here
                events.flush()
                with stops_wait():
                    process = subprocess.Popen(
                        [*_DEAF, *words], stdin=subprocess.DEVNULL, stdout=events, env=environment
                    )
            _under_way.append(process)
        codes = [process.wait() for process in _under_way]
        _under_way.clear()
        if bad := [code for code in codes if code]:
            # as a shell words a signal; no traceback, and nothing that submitit would put into a result
            raise SystemExit(bad[0] if bad[0] > 0 else 128 - bad[0])

    def checkpoint(self) -> Any:
        """Stop what runs, at its next step, and ask to be put back into the queue."""
        from submitit.helpers import DelayedSubmission

        for process in filter(_lives, _under_way):
            os.kill(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + self.stop_seconds
        while time.monotonic() < deadline and any(map(_lives, _under_way)):
            time.sleep(_POLL_SECONDS)
        return DelayedSubmission(self)


def _lives(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has not ended. A signal's handler cannot use ``poll``: it may interrupt the ``wait`` whose lock
    ``poll`` needs."""
    if process.returncode is not None:
        return False
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False  # it was reaped just now


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a run's events; a line that a killed process left torn is passed over."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    for line in text.split("\n"):
        try:
            document = json.loads(line)
        except ValueError:
            continue
        if isinstance(document, dict) and "event" in document:
            yield document
