"""``ndrepro study run --on slurm``, and what the queue says of a study: words and tables for ``execution.slurm``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ndrepro.cli.display import terminal
from ndrepro.protocol.errors import EngineError, UsageError
from ndrepro.text.plurals import plural

if TYPE_CHECKING:
    from ndrepro.execution.runs.run import RunOptions
    from ndrepro.execution.slurm.launcher import QueuedTask, Spelled
    from ndrepro.execution.slurm.request import Cluster
    from ndrepro.execution.studies.launchers import Event
    from ndrepro.execution.studies.plan import Outcome, StudyObserver, StudyPlan
    from ndrepro.execution.studies.run_status import RunStatus
    from ndrepro.protocol.layout import RunsFolder
    from ndrepro.protocol.study.study import StudyRun

LOCAL, SLURM = "local", "slurm"
_LABEL = 10

On = Annotated[str, typer.Option("--on", metavar="WHERE", help="local (default), or slurm: as one array of a cluster.")]
Partition = Annotated[str | None, typer.Option("--partition", metavar="P", help="slurm: the partition.")]
Account = Annotated[str | None, typer.Option("--account", metavar="A", help="slurm: the account that pays.")]
Gpus = Annotated[
    int, typer.Option("--gpus", metavar="N", min=0, help="slurm: GPUs for each task, on each of its nodes.")
]
Pack = Annotated[
    int, typer.Option("--pack", metavar="N", min=1, help="slurm: up to N small runs share one task and its GPU.")
]
GpuMemory = Annotated[
    float | None, typer.Option("--gpu-memory", metavar="GIB", help="slurm: memory of one GPU, for --pack.")
]
Minutes = Annotated[
    int | None, typer.Option("--minutes", metavar="N", min=1, help="slurm: time limit of a task; by default estimated.")
]
Sbatch = Annotated[
    list[str] | None,
    typer.Option("--sbatch", metavar="KEY=VALUE", help="slurm: another option of sbatch, e.g. mem=16G; many times."),
]
Follow = Annotated[bool, typer.Option("--follow", help="slurm: stay and show progress until all runs are over.")]


class SilentStudy:
    """An observer of a study that says nothing."""

    def reading(self, dataset: str, data: Path) -> None:
        """Nothing."""

    def left_out(self, dataset: str, summary: str) -> None:
        """Nothing."""

    def started(self, plan: StudyPlan) -> None:
        """Nothing."""

    def event(self, event: Event) -> None:
        """Nothing."""

    def passed(self, run: StudyRun, status: RunStatus) -> None:
        """Nothing."""

    def stopping(self, times: int) -> None:
        """Nothing."""


def cluster_of(
    jobs: int | None,
    partition: str | None,
    account: str | None,
    gpus: int,
    pack: int,
    gpu_memory: float | None,
    minutes: int | None,
    sbatch: Sequence[str],
) -> Cluster:
    """What is asked of the cluster. Raises UsageError for ``--sbatch`` that is no pair."""
    from ndrepro.execution.slurm.request import Cluster

    more: dict[str, str] = {}
    for pair in sbatch:
        key, equals, value = pair.lstrip("-").partition("=")
        if not equals or not key:
            raise UsageError(f"--sbatch {pair}: expected KEY=VALUE", "e.g. --sbatch mem=16G")
        more[key] = value
    at_once = {} if jobs is None else {"at_once": jobs}
    return Cluster(
        partition, account, pack=pack, gpus=gpus, gpu_memory_gib=gpu_memory, minutes=minutes, more=more, **at_once
    )


def spelled(plan: StudyPlan, word: str, options: tuple[str, ...]) -> Spelled:
    """What a command takes to find the plan's study: ``word``, and ``options``."""
    from ndrepro.execution.slurm.launcher import Spelled

    return Spelled(plan.study.name, word, options)


def submit(
    plan: StudyPlan,
    how: RunOptions,
    cluster: Cluster,
    data: Mapping[str, Path],
    study: Spelled,
    observer: StudyObserver,
    follow: bool,
) -> tuple[Outcome, str | None]:
    """Submit what is to do as one array; how the study stands after, and the array's number."""
    from ndrepro.execution.slurm.launcher import SlurmLauncher
    from ndrepro.execution.studies.plan import carry_out

    seconds = {item.run.identity: item.left.seconds for item in plan.todo}
    launcher = SlurmLauncher(cluster, how, study, seconds, follow)
    return carry_out(plan, how, launcher, observer, data), launcher.array


def print_submitted(runs: RunsFolder, plan: StudyPlan, array: str | None, command: str) -> None:
    """The array's number, and how to see and to cancel it."""
    if array is None:
        terminal.write_line("nothing to submit: every run is done or under way")
        return
    mine = [task for task in _tasks(runs, plan.study.name)[0] if task.number.partition("_")[0] == array]
    runs_count = plural(sum(len(task.labels) for task in mine), "run")
    terminal.write_line(f"{'submitted':<{_LABEL}} array {array}: {plural(len(mine), 'task')}, {runs_count}")
    terminal.write_line(f"{'next':<{_LABEL}} {command.replace(' resume ', ' status ')}")
    terminal.write_line(f"{'':<{_LABEL}} {command.replace(' resume ', ' cancel ')}")


def print_tasks(runs: RunsFolder, study: str) -> None:
    """What the queue says of each task that is not over, or did not end well."""
    found, trouble = _tasks(runs, study)
    if trouble:
        terminal.write_line(f"{'slurm':<{_LABEL}} {trouble}")
    for task in found:
        if task.state != "COMPLETED":
            terminal.write_line(f"{'slurm':<{_LABEL}} {task.number} {task.state}: {', '.join(task.labels)}")


def document(runs: RunsFolder, study: str) -> list[dict[str, Any]]:
    """The same as JSON."""
    return [{"task": task.number, "state": task.state, "runs": list(task.labels)} for task in _tasks(runs, study)[0]]


def _tasks(runs: RunsFolder, study: str) -> tuple[list[QueuedTask], str]:
    """The tasks, or why they are not known here."""
    from ndrepro.execution.slurm.launcher import tasks

    try:
        return tasks(runs, study), ""
    except EngineError as error:
        return [], error.message
