"""A study on a Slurm cluster: an array for each resource class, whose elements each do a run, or a few small ones side
by side on one GPU.

The launcher has the interface of the local one (``launchers.Launcher``). The jobs that it is given become arrays
through submitit, within what the site allows (``limits``); they report through files in the folder of runs, which every
node must see; the state of a task that reports nothing is asked of Slurm (``queue``). No process has to keep running: a
launcher that does not ``follow`` only submits, and ``submissions.tasks`` reads the queue from any login node. Where it
is wished, a last job waits for the arrays, however they end, and writes the study's status.

Under a lock of the study's, what is in the queue already is not submitted again; and every task looks again when it
starts (``task``).
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ndrepro.execution.runs import data_check
from ndrepro.execution.runs.run import RunOptions
from ndrepro.execution.slurm.filesystem_locks import check_locks
from ndrepro.execution.slurm.limits import Limits, ask_limits
from ndrepro.execution.slurm.queue import TaskState, ask, cancel_array, element_of, live_jobs, task_states
from ndrepro.execution.slurm.request import Cluster, Estimated, Shape, by_shape, packs, parameters, shares
from ndrepro.execution.slurm.submissions import ArrayTask, Submission, queued_runs, study_folder, with_array
from ndrepro.execution.slurm.task import Line, Task, read_events
from ndrepro.execution.slurm.task_end import explain, log_tail
from ndrepro.execution.studies.estimates import Estimate
from ndrepro.execution.studies.launchers import NOT_STARTED, Ended, Ending, Event, Job, read_event
from ndrepro.protocol import extras
from ndrepro.protocol.errors import EngineError, TrainingFailed, UsageError
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.project_folders import CODE
from provenance.formats.atomic_io import locked, make_folder
from provenance.git.helper_programs import find_program

# what an estimate may be wrong by before a task is stopped, put back and resumed; and before it is killed
_MARGIN = 1.5
_MEMORY_MARGIN = 1.3
_ASK_SECONDS = 3.0
# options of sbatch that the report job cannot have from the tasks' own
_TASKS_ONLY = ("gres", "gpus", "exclusive", "mem", "constraint", "requeue", "mail", "nodelist", "licenses")


@dataclass(frozen=True)
class Spelled:
    """A study's name, and what a command takes to find it: the name, or its file; with further options."""

    name: str
    word: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Submitted:
    """What was submitted: Slurm's numbers of the arrays, and how many tasks and runs they have.

    ``left`` runs are not submitted, for the reason in ``note``; "" where there is none.
    """

    arrays: tuple[str, ...] = ()
    tasks: int = 0
    runs: int = 0
    left: int = 0
    note: str = ""


class SlurmLauncher:
    """Takes every job first, then submits them as arrays; ``follow`` waits for their ends and reports them."""

    here = False

    def __init__(
        self,
        cluster: Cluster,
        options: RunOptions,
        study: Spelled,
        estimates: Mapping[str, Estimate],
        *,
        follow: bool = False,
        report: bool = True,
    ) -> None:
        extras.require("submitit")
        self._study = study
        self._cluster = cluster
        self._options = options
        self._estimates = estimates
        self._follow = follow
        self._report = report
        self._waiting: list[Estimated] = []
        self._live: dict[str, tuple[Job, str]] = {}
        self._reported: dict[str, int] = {}
        self._states: dict[str, TaskState] = {}
        self._asked = 0.0
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        self.folder = study_folder(options.runs, study.name).absolute() / stamp
        self.submitted: Submitted | None = None

    @property
    def free(self) -> bool:
        """Always, until the arrays are submitted."""
        return self.submitted is None

    @property
    def busy(self) -> bool:
        """Whether jobs wait to be submitted, or are to be followed."""
        return bool(self._waiting or self._live)

    def start(self, job: Job) -> None:
        """Take a job into the arrays."""
        needs, estimate = job.run.resources, self._estimates.get(job.run.identity)
        minutes, memory = needs.minutes, needs.memory_gib
        if estimate is not None and minutes is None:
            minutes = _MARGIN * estimate.seconds / 60
        if estimate is not None and memory is None:
            memory = _MEMORY_MARGIN * estimate.memory_bytes / 2**30 * Estimated(job, 0.0).share
        self._waiting.append(Estimated(job, minutes or 0.0, memory or 0.0))

    def queued(self) -> Mapping[str, str]:
        """The runs in Slurm's queue, by identity, with the task that has each."""
        return queued_runs(self._options.runs, self._study.name)

    def events(self, seconds: float) -> Iterable[Event]:
        """Submit what waits; then yield what the runs reported, and the ends of tasks that reported nothing."""
        if self._waiting:
            self._submit()
            return
        time.sleep(seconds)
        if time.monotonic() - self._asked > _ASK_SECONDS and self.submitted is not None:
            self._states = task_states(self.submitted.arrays)
            self._asked = time.monotonic()
        for path, (job, element) in list(self._live.items()):
            yield from self._news(path, job, element)

    def stop(self) -> None:
        """Cancel the arrays: tasks under way are asked to stop, which they do signed and resumable; again: at once."""
        for array in self.submitted.arrays if self.submitted is not None else ():
            cancel_array(array)

    def close(self) -> None:
        """Nothing: what was submitted is the cluster's."""

    def _news(self, path: str, job: Job, element: str) -> Iterator[Event]:
        reported = [event for event in read_events(Path(path))]
        ending = None
        for document in reported[self._reported.get(path, 0) :]:
            event = read_event(job, json.dumps(document))
            if not isinstance(event, Ended):
                yield event
        self._reported[path] = len(reported)
        if reported and reported[-1]["event"] == "ended":
            ending = read_event(job, json.dumps(reported[-1]))
        state = self._states.get(element, TaskState())
        # an interrupted run is resumed when its task is put back; what completed or failed stays so
        if isinstance(ending, Ended) and (state.over or ending.ending.outcome in ("completed", "failed")):
            del self._live[path]
            yield ending
        elif state.over:
            del self._live[path]
            yield Ended(job, self._death(state, reported, element))

    def _death(self, state: TaskState, reported: list[dict[str, Any]], element: str) -> Ending:
        """The ending of a run whose task is over and that reported none."""
        folders = [event["folder"] for event in reported if event["event"] == "began"]
        began = RunFolder(Path(folders[-1])) if folders else None
        end = explain(state, log_tail(self.folder, element))
        message = f"Slurm's task {element} ended as {state.state} before the run reported its own end: {end.reason}"
        return Ending("killed" if began else NOT_STARTED, began, error=TrainingFailed(message, end.cure))

    def _submit(self) -> None:
        """Submit all that waits and is not in the queue, as far as the site's limits allow."""
        runs, submitted = self._options.runs, self.folder.parent
        # who may write where a link leads could exchange the tasks, which are pickled
        runs.expect_no_links(f"{runs.submissions.name}/{submitted.name}")
        if find_program("sbatch") is None:
            raise EngineError("sbatch is not there: this is no Slurm cluster's login node", "use --on local")
        check_locks(runs.root)
        make_folder(submitted)
        with locked(submitted / "lock"):
            waiting, self._waiting = self._waiting, []
            queued = self.queued()
            waiting = [each for each in waiting if not {each.job.run.identity, each.label} & queued.keys()]
            self.submitted = Submitted()
            if not waiting:
                return
            limits = ask_limits(self._cluster.partition, self._cluster.account, self._cluster.sbatch.get("qos"))
            _check_minutes(self._cluster, limits)
            groups = packs(waiting, self._cluster)
            room = min(len(groups), self._room(limits))
            self._submit_arrays(groups[:room], limits)
            if left := sum(len(group) for group in groups[room:]):
                note = f"{limits.submit_source} allows {limits.submit} jobs in the queue"
                self.submitted = replace(self.submitted, left=left, note=note)
            if self._report:
                self._submit_report()

    def _room(self, limits: Limits) -> int:
        """How many more tasks the queue takes. Raises EngineError where it takes none."""
        if limits.submit is None:
            return sys.maxsize
        room = limits.submit - live_jobs() - self._report
        if room < 1:
            raise EngineError(
                f"the queue takes no more jobs: {limits.submit_source} allows {limits.submit}",
                "submit again when some of them are over; see `squeue --me`",
            )
        return room

    def _submit_arrays(self, groups: list[list[Estimated]], limits: Limits) -> None:
        """An array for each resource class, in pieces below the size that the site allows."""
        pieces = [
            (shape, same[first : first + limits.array_size])
            for shape, same in by_shape(groups, self._cluster, limits.minutes).items()
            for first in range(0, len(same), limits.array_size)
        ]
        self.folder.mkdir(parents=True)
        submission = Submission(self.folder, ())
        at_once = shares(self._cluster.jobs, [len(piece) for _, piece in pieces])
        for order, ((shape, piece), some) in enumerate(zip(pieces, at_once, strict=True)):
            tasks = [self._task(group, f"{order}-{number}", shape) for number, group in enumerate(piece)]
            array = self._sbatch(tasks, parameters(self._cluster, shape, some))
            submission = with_array(submission, array, map(_array_task, piece))
            submission.write()  # after each: what is in the queue is known, even if a later submission fails
            for number, (task, group) in enumerate(zip(tasks, piece, strict=True)):
                for line, each in zip(task.lines, group, strict=True):
                    if self._follow:
                        self._live[line.events] = (each.job, element_of(array, number, len(tasks)))
            before = self.submitted or Submitted()
            runs = before.runs + sum(len(group) for group in piece)
            self.submitted = Submitted((*before.arrays, array), before.tasks + len(tasks), runs)

    def _task(self, group: list[Estimated], name: str, shape: Shape) -> Task:
        lines = []
        for place, each in enumerate(group):
            data = each.job.data
            if data is None and self._cluster.scratch:
                data = data_check.locate(each.job.run.experiment, None)
            job = Job(each.job.study, each.job.run, data and data.absolute())
            words = job.words(self._absolute, "--sparse", "--recheck")
            lines.append(Line(tuple(words), str(self.folder / f"{name}-{place}.events"), str(job.data or "")))
        # the processes of several nodes read one path
        scratch = self._cluster.scratch if shape.nodes == 1 else ""
        return Task(tuple(lines), tuple(_variables(self._options.home).items()), shape.stop_seconds, scratch)

    @property
    def _absolute(self) -> RunOptions:
        """The options as a node finds them, whatever folder its task starts in."""
        options = self._options
        data = options.data and options.data.absolute()
        return RunOptions(RunsFolder(options.runs.root.absolute()), options.home, data)

    def _sbatch(self, tasks: list[Task], request: dict[str, Any]) -> str:
        """Submit; the array's number. Raises EngineError with sbatch's own words."""
        from submitit import AutoExecutor
        from submitit.core.utils import FailedJobError

        # a task starts in the folder from which it was submitted, of which no module is imported
        python = f"{shlex.quote(sys.executable)} -P"
        executor = AutoExecutor(self.folder / "log", cluster="slurm", slurm_max_num_timeout=1000, slurm_python=python)
        executor.update_parameters(**request)
        try:
            with executor.batch():
                jobs = [executor.submit(task) for task in tasks]
            return str(jobs[0].job_id).partition("_")[0]
        except (FailedJobError, subprocess.CalledProcessError) as error:
            lines = str(getattr(error, "output", "") or error).strip().splitlines()
            printed = [line for line in lines if not line.startswith("Try ")]
            before = self.submitted.arrays if self.submitted else ()
            rest = f" (submitted before: array {', '.join(before)})" if before else ""
            raise EngineError(
                f"Slurm refuses the array: {printed[-1] if printed else error}{rest}",
                "see `sinfo` for partitions, `sacctmgr show assoc user=$USER` for accounts",
            ) from None

    def _submit_report(self) -> None:
        """The job that waits for all others and writes the study's status; where Slurm refuses it, a note says so."""
        assert self.submitted is not None
        words = [sys.executable, "-P", "-m", "ndrepro", "study", "status", self._study.word, "--json"]
        words += ["--runs", str(self._options.runs.root.absolute()), *self._study.options]
        script = self.folder / "report.sh"
        target = self.folder / "status.json"
        script.write_text(
            "#!/bin/bash\n"
            + "".join(f"{line}\n" for line in self._cluster.prologue)
            + f"cd {shlex.quote(os.getcwd())} || exit 3\n"
            + "".join(f"export {name}={shlex.quote(value)}\n" for name, value in _variables(self._options.home).items())
            + f"{' '.join(map(shlex.quote, words))} > {shlex.quote(str(target))}.partial\n"
            + f"mv {shlex.quote(str(target))}.partial {shlex.quote(str(target))}\n",
            encoding="utf-8",
        )
        options = ["--parsable", f"--dependency=afterany:{':'.join(self.submitted.arrays)}"]
        options += ["--job-name=ndrepro-report", "--time=30", f"--output={self.folder / 'log' / 'report.out'}"]
        options += [f"--{name}={value}" for name in ("partition", "account") if (value := getattr(self._cluster, name))]
        more = self._cluster.sbatch.items()
        options += [f"--{key}={value}" for key, value in more if not key.startswith(_TASKS_ONLY)]
        try:
            ask("sbatch", *options, str(script))
        except EngineError as error:
            note = "; ".join(filter(None, [self.submitted.note, f"no report job: {error.message}"]))
            self.submitted = replace(self.submitted, note=note)


def _check_minutes(cluster: Cluster, limits: Limits) -> None:
    if cluster.minutes and limits.minutes and cluster.minutes > limits.minutes:
        raise UsageError(
            f"--minutes {cluster.minutes}: {limits.minutes_source} allows {limits.minutes}",
            f"--minutes {limits.minutes}: a task that meets its limit is put back and resumed",
        )


def _array_task(group: list[Estimated]) -> ArrayTask:
    return ArrayTask(tuple(each.label for each in group), tuple(each.job.run.identity for each in group))


def _variables(home: Path) -> dict[str, str]:
    """What a task needs of this process's variables, wherever it runs."""
    secret = os.environ.get("NDREPRO_PASSPHRASE_FILE")
    passphrases = {"NDREPRO_PASSPHRASE_FILE": os.path.abspath(secret)} if secret else {}
    return {"PYTHONPATH": str(CODE), "NDREPRO_HOME": str(home.absolute()), **passphrases}
