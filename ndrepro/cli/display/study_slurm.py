"""``ndrepro study run --on slurm``, and what the queue says of a study: words and tables for ``execution.slurm``."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Annotated, Any

import typer

from ndrepro.cli.display import terminal
from ndrepro.execution.slurm.launcher import Submitted
from ndrepro.execution.slurm.profile import Profile, find_profile
from ndrepro.execution.slurm.request import Cluster
from ndrepro.execution.slurm.submissions import QueuedTask, queued_runs
from ndrepro.protocol.errors import EngineError, UsageError
from ndrepro.protocol.layout import RunsFolder
from ndrepro.text.plurals import plural
from provenance.attestation.key_home import default_home

LOCAL, SLURM = "local", "slurm"
_LABEL = 10
_GROUPED = 4  # tasks that wait for one reason are listed one by one up to this number
# options of sbatch on which the arrays depend, each with what to use instead
_LEFT = "leave it out"
_OWN_OPTIONS = {
    "array": "choose runs with --grid, and how many at once with --jobs",
    "a": "choose runs with --grid, and how many at once with --jobs",
    "time": "use --minutes",
    "t": "use --minutes",
    "partition": "use --partition",
    "p": "use --partition",
    "account": "use --account",
    "A": "use --account",
    "nodes": "use `nodes` in the study file's [[resources]]",
    "N": "use `nodes` in the study file's [[resources]]",
    "cpus-per-task": "use the setting threads",
    "c": "use the setting threads",
    "gpus-per-node": "use --gpus",
    **dict.fromkeys(("ntasks", "n", "ntasks-per-node", "signal", "requeue", "no-requeue", "open-mode"), _LEFT),
    **dict.fromkeys(("output", "o", "error", "e", "wrap", "wait", "W", "parsable", "test-only", "chdir", "D"), _LEFT),
}

On = Annotated[str, typer.Option("--on", metavar="WHERE", help="local (default), or slurm: as one array of a cluster.")]
Partition = Annotated[str | None, typer.Option("--partition", metavar="P", help="slurm: the partition.")]
Account = Annotated[str | None, typer.Option("--account", metavar="A", help="slurm: the account that pays.")]
Gpus = Annotated[
    int | None, typer.Option("--gpus", metavar="N", min=0, help="slurm: GPUs for each task, on each of its nodes.")
]
Pack = Annotated[
    int | None, typer.Option("--pack", metavar="N", min=1, help="slurm: up to N small runs share one task and its GPU.")
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
Memory = Annotated[
    float | None,
    typer.Option("--memory", metavar="GIB", min=0, help="slurm: memory of a task; by default estimated; 0: not asked."),
]
ProfileName = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="slurm: a cluster profile: clusters/NAME.toml in the key home, or a TOML file (runbooks/cluster.md).",
    ),
]
NoReport = Annotated[
    bool, typer.Option("--no-report", help="slurm: no last job that writes the study's status when all is over.")
]
Follow = Annotated[bool, typer.Option("--follow", help="slurm: stay and show progress until all runs are over.")]


def profile_of(name: str | None) -> Profile:
    """The profile asked for; one that says nothing, where none is. Raises UsageError."""
    return find_profile(name, default_home()) if name else Profile()


def cluster_of(profile: Profile, sbatch: Sequence[str], asked: Profile) -> Cluster:
    """What is asked of the cluster: what the options ``asked`` for, and of the rest what the profile says.

    Raises UsageError for ``--sbatch`` that is no pair, or that breaks the arrays.
    """
    pairs = [f"{key}={value}" for key, value in profile.sbatch.items()]
    more: dict[str, str] = {}
    for pair in [*pairs, *sbatch]:
        key, equals, value = pair.lstrip("-").partition("=")
        if not equals or not key:
            raise UsageError(f"--sbatch {pair}: expected KEY=VALUE", "e.g. --sbatch constraint=a100")
        if key in _OWN_OPTIONS:
            raise UsageError(f"--sbatch {key}: this command sets it itself", _OWN_OPTIONS[key])
        more[key] = value
    given = {name: value for name, value in vars(asked).items() if value or value == 0}
    wanted = {**vars(profile), **given, "sbatch": more, "engine": None, "image": None}
    return Cluster(**{name: value for name, value in wanted.items() if value is not None})


def queued(runs: RunsFolder, study: str) -> dict[str, str]:
    """The study's runs in Slurm's queue, as ``make_plan`` takes them; none where Slurm is not to be asked here."""
    try:
        return queued_runs(runs, study)
    except EngineError:
        return {}  # `print_tasks` says why


def print_submitted(submitted: Submitted, *commands: str) -> None:
    """The arrays' numbers, and the ``commands`` to see and to cancel them."""
    if not submitted.arrays:
        terminal.write_line("nothing to submit: every run is done, under way or in the queue")
        return
    arrays = ("array " if len(submitted.arrays) == 1 else "arrays ") + ", ".join(submitted.arrays)
    counts = f"{plural(submitted.tasks, 'task')}, {plural(submitted.runs, 'run')}"
    terminal.write_line(f"{'submitted':<{_LABEL}} {arrays}: {counts}")
    if submitted.left:
        left = f"{plural(submitted.left, 'run')} not submitted: submit again when some tasks are over"
        terminal.write_line(f"{'left':<{_LABEL}} {left}")
    if submitted.note:
        terminal.write_line(f"{'note':<{_LABEL}} {submitted.note}")
    for place, command in enumerate(commands):
        terminal.write_line(f"{'' if place else 'next':<{_LABEL}} {command}")


def submitted_document(submitted: Submitted) -> dict[str, Any]:
    """The same as JSON; ``array`` is the first of the arrays."""
    return {
        "array": submitted.arrays[0] if submitted.arrays else None,
        "arrays": list(submitted.arrays),
        "tasks": submitted.tasks,
        "not_submitted": submitted.left,
        "note": submitted.note,
    }


def print_tasks(runs: RunsFolder, study: str, done: Container[str] = ()) -> None:
    """Each task that is not over, with the reason why it waits, and each that ended badly, with the cause.

    Tasks whose runs are all ``done`` are left out, whatever their outcome.
    """
    found, trouble = _tasks(runs, study)
    if trouble:
        terminal.write_line(f"{'slurm':<{_LABEL}} {trouble}")
    waiting: dict[str, list[QueuedTask]] = {}
    for task in found:
        labels, account = ", ".join(task.runs.labels), task.account
        if task.state == "COMPLETED" or all(label in done for label in task.runs.labels):
            continue
        if account.queued and account.reason:
            waiting.setdefault(f"{task.state} ({account.reason})", []).append(task)
            continue
        end = task.end()
        terminal.write_line(
            f"{'slurm':<{_LABEL}} {task.number} {task.state}: {labels}" + (f": {end.reason}" if end else "")
        )
        if end and end.cure:
            terminal.write_line(f"{'':<{_LABEL}} hint: {end.cure}")
    for state, tasks in waiting.items():
        if len(tasks) > _GROUPED:
            which = f"{tasks[0].number} to {tasks[-1].number}"
            terminal.write_line(f"{'slurm':<{_LABEL}} {len(tasks)} tasks {state}: {which}")
            continue
        for task in tasks:
            terminal.write_line(f"{'slurm':<{_LABEL}} {task.number} {state}: {', '.join(task.runs.labels)}")


def document(runs: RunsFolder, study: str) -> list[dict[str, Any]]:
    """The same as JSON, every task of them."""
    return [_task_document(task) for task in _tasks(runs, study)[0]]


def _task_document(task: QueuedTask) -> dict[str, Any]:
    end = task.end()
    return {
        "task": task.number,
        "state": task.state,
        "runs": list(task.runs.labels),
        "reason": end.reason if end else task.account.reason,
        "hint": end.cure if end else "",
    }


def _tasks(runs: RunsFolder, study: str) -> tuple[list[QueuedTask], str]:
    """The tasks, or why they are not known here."""
    from ndrepro.execution.slurm.submissions import tasks

    try:
        return tasks(runs, study), ""
    except EngineError as error:
        return [], error.message
