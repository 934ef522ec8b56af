"""Why a task ended badly, and what to do: from Slurm's state, the exit code and signal, and the end of its log."""

from __future__ import annotations

import re
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ndrepro.execution.slurm.queue import TaskState
from ndrepro.text.signal_names import signal_name
from provenance.formats.bounded_read import read_tail

_MOST_CHARACTERS = 200
# lines of a log that only repeat that the task failed, or that a wrapper printed
_NOISE = re.compile(r"submitit |srun: (error|Terminating|launch)|.*slurmstepd: error: \*\*\* (STEP|JOB) .*CANCELLED AT")
# how Slurm's daemons word it in the log, whatever state accounting has in the end
_LOGGED = (
    ("OUT_OF_MEMORY", re.compile(r"oom[-_ ]?kill|exceeded (job )?memory limit|out[- ]of[- ]memory", re.IGNORECASE)),
    ("TIMEOUT", re.compile(r"DUE TO TIME LIMIT")),
    ("NODE_FAIL", re.compile(r"DUE TO NODE FAILURE")),
    ("PREEMPTED", re.compile(r"DUE TO PREEMPTION")),
)
_SUBMIT_AGAIN = "the same `ndrepro study run --on slurm` resumes it"


@dataclass(frozen=True)
class TaskEnd:
    """The reason in words, and the hint."""

    reason: str
    cure: str


def explain(task: TaskState, log: str) -> TaskEnd:
    """The reason of a task that is over and did not complete. ``log`` is the end of what it printed."""
    if task.state in ("FAILED", "CANCELLED"):
        kind = next((kind for kind, pattern in _LOGGED if pattern.search(log)), task.state)
    else:
        kind = task.state
    known = {
        "OUT_OF_MEMORY": _out_of_memory,
        "TIMEOUT": _time_limit,
        "NODE_FAIL": lambda task: TaskEnd(f"its node {task.nodes or '?'} failed", _SUBMIT_AGAIN),
        "BOOT_FAIL": lambda task: TaskEnd(f"its node {task.nodes or '?'} did not start", _SUBMIT_AGAIN),
        "PREEMPTED": lambda task: TaskEnd("a job with a higher priority took its node", _SUBMIT_AGAIN),
        "CANCELLED": lambda task: TaskEnd("it was cancelled", _SUBMIT_AGAIN),
        "DEADLINE": lambda task: TaskEnd("its deadline passed before it could end", "ask for less time, or none"),
    }
    return known[kind](task) if kind in known else _exit(task, log)


def log_tail(folder: Path, element: str) -> str:
    """The end of a task's log; "" where it printed none. ``folder`` is that of the submission."""
    text = ""
    for kind in ("out", "err"):
        with suppress(OSError):
            text += read_tail(folder / "log" / f"{element}_0_log.{kind}").decode("utf-8", "replace") + "\n"
    return text


def last_line(log: str) -> str:
    """The last line that says something of its own."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    meant = [line for line in lines if not _NOISE.match(line)]
    return meant[-1][:_MOST_CHARACTERS] if meant else ""


def _out_of_memory(task: TaskState) -> TaskEnd:
    used = f", it used {task.peak_memory}" if task.peak_memory else ""
    had = f": it had {task.requested_memory}{used}" if task.requested_memory else ""
    return TaskEnd(
        f"it was killed for its memory{had}",
        "ask for more: `memory_gib` in [[resources]] of the study file, or --memory GIB",
    )


def _time_limit(task: TaskState) -> TaskEnd:
    limit = f" of {task.time_limit}" if task.time_limit else ""
    return TaskEnd(f"it met its time limit{limit}", f"{_SUBMIT_AGAIN}; or ask for more time: --minutes N")


def _exit(task: TaskState, log: str) -> TaskEnd:
    number = task.exit_signal or (task.exit_code - 128 if 128 < task.exit_code < 128 + signal.NSIG else 0)
    cure = "see its log; `ndrepro study status` has the run's own reason where it was signed"
    if number:
        if number == signal.SIGKILL:
            cure = "nobody reported why; where it was for its memory, ask for more: --memory GIB"
        return TaskEnd(f"it was killed by {signal_name(number)}", cure)
    line = last_line(log)
    return TaskEnd(f"exit code {task.exit_code}" + (f": {line}" if line else ""), cure)
