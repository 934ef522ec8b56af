"""Slurm's account of jobs: what waits and runs (squeue), what ended and how (sacct); and cancelling.

squeue is asked first: it answers for the controller, at once, and has the reason why a job waits. Accounting follows
seconds later and keeps what has ended. A job that neither knows is ``UNKNOWN``: Slurm has forgotten it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ndrepro.protocol.errors import EngineError
from provenance.git.helper_programs import find_program, helper_variables

FINAL = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
)
UNKNOWN = "UNKNOWN"
_FIELDS = ("JobID", "State", "ExitCode", "NodeList", "ReqMem", "MaxRSS", "Timelimit")
_FORGOTTEN = re.compile(r"invalid job id|already completing or completed", re.IGNORECASE)


@dataclass(frozen=True)
class TaskState:
    """A job or an element of an array, as Slurm reports it.

    ``queued``: the controller has it, waiting or running; ``reason`` says why it waits. ``exit_signal`` is 0 where no
    signal ended it; ``requested_memory`` and ``peak_memory`` are in Slurm's own words, "1500M"; ``time_limit`` is
    D-HH:MM:SS.
    """

    state: str = UNKNOWN
    queued: bool = False
    reason: str = ""
    exit_code: int = 0
    exit_signal: int = 0
    nodes: str = ""
    requested_memory: str = ""
    peak_memory: str = ""
    time_limit: str = ""

    @property
    def over(self) -> bool:
        """Whether it has ended for good."""
        return not self.queued and self.state in FINAL


def task_states(arrays: Iterable[str]) -> dict[str, TaskState]:
    """The state of every job and element of these arrays that Slurm knows, by number as 12 or 12_3."""
    wanted = list(arrays)
    if not wanted:
        return {}
    live = _live(wanted)
    return _accounts(wanted) | live


def live_jobs() -> int:
    """How many jobs and elements of arrays this user has in the queue."""
    return len(ask("squeue", "--me", "--noheader", "--array", "--format=%i").split())


def cancel_array(array: str) -> bool:
    """Ask Slurm to end an array; whether it still knew it. Every process gets SIGTERM, and seconds later SIGKILL.

    The elements that wait go first, so that none starts meanwhile.
    """
    try:
        ask("scancel", "--state=PENDING", array)
        ask("scancel", array)
    except EngineError as error:
        if _FORGOTTEN.search(error.message):
            return False
        raise
    return True


def element_of(array: str, number: int, count: int) -> str:
    """Slurm's number of an element; submitit submits a single task as a plain job."""
    return array if count == 1 else f"{array}_{number}"


def ask(*words: str) -> str:
    """The output of one of Slurm's commands. Raises EngineError with its own words."""
    if (program := find_program(words[0])) is None:
        raise EngineError(f"{words[0]} is not there: this is no Slurm cluster's login node", "use --on local")
    done = subprocess.run([program, *words[1:]], capture_output=True, text=True, env=helper_variables(os.environ))
    if done.returncode:
        printed = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise EngineError(f"{words[0]}: {printed[-1]}", "see whether `sinfo` answers")
    return done.stdout


def elements(number: str) -> Iterator[str]:
    """12_3 itself; of 12_[0,4-6%2], which wait together, each."""
    array, bracket, rest = number.partition("_[")
    if not bracket:
        yield number
        return
    for part in rest.rstrip("]").partition("%")[0].split(","):
        first, _, last = part.partition("-")
        if first.isdecimal():
            yield from (f"{array}_{each}" for each in range(int(first), int(last or first) + 1))


def _live(arrays: list[str]) -> dict[str, TaskState]:
    words = ("squeue", "--noheader", "--array", "--format=%i|%T|%r", f"--jobs={','.join(arrays)}")
    try:
        listed = ask(*words)
    except EngineError as error:
        if _FORGOTTEN.search(error.message):  # of a single job that is over
            return {}
        raise
    found = {}
    for line in listed.splitlines():
        number, state, reason = line.split("|", 2)
        for each in elements(number):
            found[each] = TaskState(state, queued=True, reason="" if reason == "None" else reason)
    return found


def _accounts(arrays: list[str]) -> dict[str, TaskState]:
    """A job's own row comes first, then those of its steps, which have the memory used and may be the ones killed."""
    listed = ask("sacct", "--jobs", ",".join(arrays), "--parsable2", "--noheader", f"--format={','.join(_FIELDS)}")
    found: dict[str, TaskState] = {}
    for line in listed.splitlines():
        row = dict(zip(_FIELDS, line.split("|"), strict=True))
        number, _, step = row["JobID"].partition(".")
        if step:
            if number in found:
                found[number] = _with_step(found[number], row)
            continue
        code, _, signal = row["ExitCode"].partition(":")
        state = row["State"].split()[0] if row["State"] else UNKNOWN
        for each in elements(number):
            found[each] = TaskState(
                state,
                exit_code=int(code or 0),
                exit_signal=int(signal or 0),
                nodes=row["NodeList"],
                requested_memory=row["ReqMem"],
                time_limit=row["Timelimit"],
            )
    return found


def _with_step(task: TaskState, row: dict[str, str]) -> TaskState:
    signal = int(row["ExitCode"].partition(":")[2] or 0)
    killed = row["State"] == "OUT_OF_MEMORY" and task.state in FINAL
    return replace(
        task,
        state="OUT_OF_MEMORY" if killed else task.state,
        exit_signal=task.exit_signal or signal,
        peak_memory=max(task.peak_memory, row["MaxRSS"], key=_kibibytes),
    )


def _kibibytes(amount: str) -> float:
    """Slurm's 153600K, 1.5G or nothing as a number."""
    match = re.fullmatch(r"([0-9.]+)([KMGT]?)", amount)
    return float(match[1]) * 1024 ** "KMGT".index(match[2] or "K") if match else 0.0
