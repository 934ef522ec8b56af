"""What was submitted of a study, and its outcome: the files of its submissions, and Slurm's account of them.

runs/.slurm/STUDY/lock                     held while a submission is made: two at once submit nothing twice
                  STAMP/submission.json    the arrays, and which runs are in which element
                        RUN.events         what a run reported, line by line
                        log/               submitit's own files, and what Slurm's tasks printed
                        status.json        the study's status when the arrays were over
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ndrepro.execution.slurm.queue import TaskState, cancel_array, element_of, task_states
from ndrepro.execution.slurm.task_end import TaskEnd, explain, log_tail
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.messages import read_json, write_json

_SCHEMA = "urn:ndrepro:slurm-submission:v2"


@dataclass(frozen=True)
class ArrayTask:
    """The runs of one element of an array: labels for people, and the runs' identities."""

    labels: tuple[str, ...]
    identities: tuple[str, ...] = ()


@dataclass(frozen=True)
class SubmittedArray:
    """An array by Slurm's number, with its elements in their order."""

    number: str
    tasks: tuple[ArrayTask, ...]

    def elements(self) -> Iterator[tuple[str, ArrayTask]]:
        """Slurm's number of each element, and the element."""
        for number, task in enumerate(self.tasks):
            yield element_of(self.number, number, len(self.tasks)), task


@dataclass(frozen=True)
class Submission:
    """One ``study run``: its folder, and the arrays that it submitted."""

    folder: Path
    arrays: tuple[SubmittedArray, ...]

    def write(self) -> None:
        """Write ``submission.json``."""
        arrays = [
            {
                "array": array.number,
                "tasks": [{"runs": list(task.labels), "identities": list(task.identities)} for task in array.tasks],
            }
            for array in self.arrays
        ]
        write_json(self.folder / "submission.json", {"schema": _SCHEMA, "arrays": arrays})

    @classmethod
    def read(cls, folder: Path) -> Submission:
        """Read it; the first version had one array, and no identities.

        It may have come with somebody's folder of runs. Raises UsageError for anything else.
        """
        file = folder / "submission.json"
        document: dict[str, Any] = read_json(file)
        try:
            if "arrays" in document:
                arrays = [
                    (each["array"], [(task["runs"], task["identities"]) for task in each["tasks"]])
                    for each in document["arrays"]
                ]
            else:
                arrays = [(document["array"], [(labels, ()) for labels in document["tasks"]])]
            return cls(
                folder, tuple(SubmittedArray(_number(number), tuple(map(_task, tasks))) for number, tasks in arrays)
            )
        except (KeyError, TypeError, ValueError) as error:
            problem = f"{file}: no list of what was submitted ({type(error).__name__}: {error})"
            raise UsageError(problem, "put the right file back, or remove the folder") from None


def _number(value: Any) -> str:
    """Slurm's number of a job, which becomes a word of its commands. Raises ValueError for anything else."""
    number = str(value)
    if not (number.isascii() and number.isdigit()):
        raise ValueError(f"{number[:40]!r} is no number of a job")
    return number


def _task(recorded: tuple[Any, Any]) -> ArrayTask:
    labels, identities = (tuple(map(str, each)) for each in recorded)
    return ArrayTask(labels, identities)


@dataclass(frozen=True)
class QueuedTask:
    """An element of a submitted array: Slurm's number and account of it, the runs in it, where its log is."""

    number: str
    account: TaskState
    runs: ArrayTask
    submission: Path

    @property
    def state(self) -> str:
        """Slurm's word for its state."""
        return self.account.state

    def end(self) -> TaskEnd | None:
        """Why it ended, where it ended badly."""
        if not self.account.over or self.state == "COMPLETED":
            return None
        return explain(self.account, log_tail(self.submission, self.number))


def study_folder(runs: RunsFolder, study: str) -> Path:
    """Where a study's submissions are."""
    return runs.submissions / study


def submissions(runs: RunsFolder, study: str) -> list[Submission]:
    """A study's submissions, oldest first: by Slurm's own numbers, as login nodes' clocks may differ."""
    found = [Submission.read(path.parent) for path in study_folder(runs, study).glob("*/submission.json")]
    made = [each for each in found if each.arrays]
    return sorted(made, key=lambda each: (int(each.arrays[0].number), each.folder.name))


def tasks(runs: RunsFolder, study: str) -> list[QueuedTask]:
    """Every task that waits or runs, and of those that are over the last of each run, in the order of submission."""
    made = submissions(runs, study)
    states = task_states(array.number for each in made for array in each.arrays)
    every = [
        QueuedTask(number, states.get(number, TaskState()), task, each.folder)
        for each in made
        for array in each.arrays
        for number, task in array.elements()
    ]
    last = {label: task.number for task in every for label in task.runs.labels}
    return [task for task in every if task.account.queued or task.number in {last[name] for name in task.runs.labels}]


def queued_runs(runs: RunsFolder, study: str) -> dict[str, str]:
    """The runs in Slurm's queue, waiting or running: by identity (of old submissions by label) which task has them."""
    return {
        name: f"Slurm's task {task.number} {task.state}" + (f" ({task.account.reason})" if task.account.reason else "")
        for task in tasks(runs, study)
        if task.account.queued
        for name in task.runs.identities or task.runs.labels
    }


@dataclass(frozen=True)
class Cancelled:
    """The arrays that were asked to end, and those that Slurm no longer knew."""

    arrays: tuple[str, ...]
    forgotten: tuple[str, ...]


def cancel(runs: RunsFolder, study: str) -> Cancelled:
    """Cancel what is not over of a study's arrays. Runs under way end signed, as interrupted."""
    live = [task.number for task in tasks(runs, study) if not task.account.over]
    known = {array: cancel_array(array) for array in dict.fromkeys(number.partition("_")[0] for number in live)}
    return Cancelled(
        tuple(array for array, was in known.items() if was), tuple(array for array, was in known.items() if not was)
    )


def with_array(submission: Submission, number: str, tasks: Iterable[ArrayTask]) -> Submission:
    """The submission with one more array."""
    return replace(submission, arrays=(*submission.arrays, SubmittedArray(number, tuple(tasks))))
