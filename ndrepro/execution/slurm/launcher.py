"""A study on a Slurm cluster: one array, whose elements each do a run, or a few small ones side by side on one GPU.

The launcher has the interface of the local one (``launchers.Launcher``). The jobs that it is given become one array
through submitit; they report through files in the folder of runs, which every node must see; the state of a
task that reports nothing is asked of sacct. No process has to keep running: a launcher that does not ``follow`` only
submits, and ``tasks`` reads the queue from any login node. A last job waits for the array, however it ends, and
writes the study's status.

    runs/.slurm/STUDY/STAMP/submission.json    the array's number, and which runs are in which element
                            RUN.events         what a run reported, line by line
                            log/               submitit's own files, and what Slurm's tasks printed
                            status.json        the study's status when the array was over
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ndrepro.execution.runs.run import RunOptions
from ndrepro.execution.slurm.filesystem_locks import check_locks
from ndrepro.execution.slurm.request import Cluster, Estimated, Shape, packs, parameters, shape_of
from ndrepro.execution.slurm.task import Line, Task, read_events
from ndrepro.execution.studies.launchers import NOT_STARTED, Ended, Ending, Event, Job, read_event
from ndrepro.protocol import extras
from ndrepro.protocol.errors import EngineError, TrainingFailed
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.messages import read_json, write_json
from ndrepro.protocol.project_folders import CODE

_FINAL = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")
# what an estimate may be wrong by before a task is stopped, put back and resumed
_MARGIN = 1.5
_SACCT_SECONDS = 3.0


@dataclass(frozen=True)
class Spelled:
    """A study's name, and what a command takes to find it: the name, or its file; with further options."""

    name: str
    word: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class QueuedTask:
    """An element of a submitted array: Slurm's number and state for it, and the runs in it."""

    number: str
    state: str
    labels: tuple[str, ...]

    @property
    def over(self) -> bool:
        """Whether the task is over."""
        return self.state in _FINAL


class SlurmLauncher:
    """Takes every job first, then submits them as one array; ``follow`` waits for their ends and reports them."""

    here = False

    def __init__(
        self, cluster: Cluster, options: RunOptions, study: Spelled, seconds: Mapping[str, float], follow: bool
    ) -> None:
        extras.require("submitit")
        self._study = study
        self._cluster = cluster
        self._options = options
        self._seconds = seconds
        self._follow = follow
        self._waiting: list[Estimated] = []
        self._live: dict[str, tuple[Job, str]] = {}
        self._reported: dict[str, int] = {}
        self._states: dict[str, str] = {}
        self._asked = 0.0
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        self.folder = options.runs.root.absolute() / ".slurm" / study.name / stamp
        self.array: str | None = None

    @property
    def free(self) -> bool:
        """Always, until the array is submitted."""
        return self.array is None

    @property
    def busy(self) -> bool:
        """Whether jobs wait to be submitted, or are to be followed."""
        return bool(self._waiting or self._live)

    def start(self, job: Job) -> None:
        """Take a job into the array."""
        minutes = job.run.resources.minutes
        seconds = self._seconds.get(job.run.identity, 0.0)
        self._waiting.append(Estimated(job, minutes if minutes is not None else _MARGIN * seconds / 60))

    def events(self, seconds: float) -> Iterable[Event]:
        """Submit what waits; then yield what the runs reported, and the ends of tasks that reported nothing."""
        if self._waiting:
            self._submit()
            return
        time.sleep(seconds)
        if time.monotonic() - self._asked > _SACCT_SECONDS and self.array is not None:
            self._states = states(self.array)
            self._asked = time.monotonic()
        for path, (job, element) in list(self._live.items()):
            yield from self._news(path, job, element)

    def stop(self) -> None:
        """Cancel the array: tasks under way are asked to stop, which they do signed and resumable; again: at once."""
        if self.array is not None:
            cancel_array(self.array)

    def close(self) -> None:
        """Nothing: what was submitted is the cluster's."""

    def _news(self, path: str, job: Job, element: str) -> Iterator[Event]:
        reported = [event for event in read_events(Path(path))]
        ending = None
        for document in reported[self._reported.get(path, 0) :]:
            event = read_event(job, _line(document))
            if not isinstance(event, Ended):
                yield event
        self._reported[path] = len(reported)
        if reported and reported[-1]["event"] == "ended":
            ending = read_event(job, _line(reported[-1]))
        over = self._states.get(element, "") in _FINAL
        # an interrupted run goes on when its task is put back; what completed or failed stays so
        if isinstance(ending, Ended) and (over or ending.ending.outcome in ("completed", "failed")):
            del self._live[path]
            yield ending
        elif over:
            del self._live[path]
            yield Ended(job, _death(self._states[element], reported, self.folder, element))

    def _submit(self) -> None:
        check_locks(self._options.runs.root)
        waiting, self._waiting = self._waiting, []
        groups = packs(waiting, self._cluster)
        shape = shape_of(groups, self._cluster)
        self.folder.mkdir(parents=True)
        tasks = [self._task(group, number, shape) for number, group in enumerate(groups)]
        self.array = self._sbatch(tasks, shape)
        elements = [[each.job for each in group] for group in groups]
        write_json(self.folder / "submission.json", _document(self.array, elements, waiting))
        self._report()
        if self._follow:
            for number, task in enumerate(tasks):
                for line, job in zip(task.lines, elements[number], strict=True):
                    self._live[line.events] = (job, element_of(self.array, number, len(tasks)))

    def _task(self, group: list[Estimated], number: int, shape: Shape) -> Task:
        lines = []
        for place, each in enumerate(group):
            job = each.job
            bare = Job(job.study, job.run, job.data)
            begin = bare.words(self._absolute, sparse=True) if job.resume is None else []
            resume = [*bare.words(self._absolute, sparse=True)[:3], "--study", job.study, "--grid", job.run.grid]
            resume += ["--runs", str(self._absolute.runs.root), *(["--data", str(job.data)] if job.data else [])]
            resume += ["--sparse"]
            if job.resume is not None:
                begin = [*resume, "--resume", str(job.resume.root.absolute())]
            events = self.folder / f"{number}-{place}.events"
            lines.append(Line(tuple(begin), tuple(resume), str(events)))
        return Task(tuple(lines), tuple(_variables(self._options.home).items()), shape.stop_seconds)

    @property
    def _absolute(self) -> RunOptions:
        """The options as a node finds them, whatever folder its task starts in."""
        options = self._options
        data = options.data and options.data.absolute()
        return RunOptions(RunsFolder(options.runs.root.absolute()), options.home, data)

    def _sbatch(self, tasks: list[Task], shape: Shape) -> str:
        """Submit; the array's number. Raises EngineError with sbatch's own words."""
        from submitit import AutoExecutor
        from submitit.core.utils import FailedJobError

        if shutil.which("sbatch") is None:
            raise EngineError("sbatch is not there: this is no Slurm cluster's login node", "use --on local")
        executor = AutoExecutor(self.folder / "log", cluster="slurm", slurm_max_num_timeout=1000)
        executor.update_parameters(**parameters(self._cluster, shape))
        try:
            with executor.batch():
                jobs = [executor.submit(task) for task in tasks]
            return str(jobs[0].job_id).partition("_")[0]
        except (FailedJobError, subprocess.CalledProcessError) as error:
            said = str(getattr(error, "output", "") or error).strip().splitlines()
            raise EngineError(
                f"Slurm refuses the array: {said[-1] if said else error}",
                "see `sinfo` for partitions, `sacctmgr show assoc user=$USER` for accounts",
            ) from None

    def _report(self) -> None:
        """The job that waits for all others and writes the study's status."""
        words = [sys.executable, "-m", "ndrepro", "study", "status", self._study.word, "--json"]
        words += ["--runs", str(self._options.runs.root.absolute()), *self._study.options]
        script = self.folder / "report.sh"
        target = self.folder / "status.json"
        script.write_text(
            f"#!/bin/sh\ncd {shlex.quote(os.getcwd())} || exit 3\n"
            + "".join(f"export {name}={shlex.quote(value)}\n" for name, value in _variables(self._options.home).items())
            + f"{' '.join(map(shlex.quote, words))} > {shlex.quote(str(target))}.partial\n"
            + f"mv {shlex.quote(str(target))}.partial {shlex.quote(str(target))}\n",
            encoding="utf-8",
        )
        options = ["--parsable", f"--dependency=afterany:{self.array}", "--job-name=ndrepro-report", "--time=30"]
        options += [f"--output={self.folder / 'log' / 'report.out'}"]
        options += [f"--{name}={value}" for name in ("partition", "account") if (value := getattr(self._cluster, name))]
        _ask("sbatch", *options, str(script))


def submissions(runs: RunsFolder, study: str) -> list[Path]:
    """The folders of a study's submissions, oldest first: by Slurm's own numbers, as login nodes' clocks may differ."""
    found = [path.parent for path in (runs.root / ".slurm" / study).glob("*/submission.json")]
    return sorted(found, key=lambda folder: (int(read_json(folder / "submission.json")["array"]), folder.name))


def tasks(runs: RunsFolder, study: str) -> list[QueuedTask]:
    """Every element of every array of a study that is not over, and all of the last one, as Slurm reports them."""
    found: list[QueuedTask] = []
    for folder in submissions(runs, study):
        document = read_json(folder / "submission.json")
        reported = states(document["array"])
        count = len(document["tasks"])
        labels = {element_of(document["array"], n, count): tuple(each) for n, each in enumerate(document["tasks"])}
        these = [QueuedTask(number, reported.get(number, "UNKNOWN"), names) for number, names in labels.items()]
        found = [task for task in found if not task.over] + these
    return found


def cancel(runs: RunsFolder, study: str) -> list[str]:
    """Cancel what is not over of a study's arrays; their numbers. Runs under way end signed, as interrupted."""
    live = dict.fromkeys(task.number.partition("_")[0] for task in tasks(runs, study) if not task.over)
    for array in live:
        cancel_array(array)
    return list(live)


def cancel_array(array: str) -> None:
    """Ask Slurm to end an array: every process gets SIGTERM, and some seconds later SIGKILL.

    The elements that wait go first, so that none starts meanwhile.
    """
    _ask("scancel", "--state=PENDING", array)
    _ask("scancel", array)


def states(array: str) -> dict[str, str]:
    """Slurm's state of every element of an array that it knows, by number as 12_3; waiting elements included."""
    said = _ask("sacct", "--jobs", array, "--allocations", "--parsable2", "--noheader", "--format=JobID,State")
    found: dict[str, str] = {}
    for line in said.splitlines():
        number, _, state = line.partition("|")
        for each in _elements(number):
            found[each] = state.split()[0] if state else "UNKNOWN"
    return found


def element_of(array: str, number: int, count: int) -> str:
    """Slurm's number of an element; submitit submits a single task as a plain job."""
    return array if count == 1 else f"{array}_{number}"


def _elements(number: str) -> Iterator[str]:
    """12_3 itself; of 12_[0,4-6%2], which wait together, each."""
    array, bracket, rest = number.partition("_[")
    if not bracket:
        yield number
        return
    for part in rest.rstrip("]").partition("%")[0].split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            yield from (f"{array}_{each}" for each in range(int(first), int(last or first) + 1))


def _document(array: str, elements: list[list[Job]], waiting: list[Estimated]) -> dict[str, Any]:
    return {
        "schema": "urn:ndrepro:slurm-submission:v1",
        "array": array,
        "tasks": [[job.run.label or job.run.experiment.name for job in group] for group in elements],
        "minutes": {each.job.run.label or each.job.run.experiment.name: each.minutes for each in waiting},
    }


def _death(state: str, reported: list[dict[str, Any]], folder: Path, element: str) -> Ending:
    """The ending of a run whose task is over and that reported none."""
    began = next((RunFolder(Path(event["folder"])) for event in reversed(reported) if event["event"] == "began"), None)
    cure = {
        "OUT_OF_MEMORY": "ask for more memory: --sbatch mem=16G",
        "TIMEOUT": "ask for more time: --minutes N",
    }.get(state, f"see {folder / 'log'}")
    message = f"Slurm's task {element} ended as {state} before the run reported its own end"
    return Ending("killed" if began else NOT_STARTED, began, error=TrainingFailed(message, cure))


def _line(document: Mapping[str, Any]) -> str:
    return json.dumps(document)


def _variables(home: Path) -> dict[str, str]:
    """What a task needs of this process's variables, wherever it runs."""
    secret = os.environ.get("NDREPRO_PASSPHRASE_FILE")
    passphrases = {"NDREPRO_PASSPHRASE_FILE": os.path.abspath(secret)} if secret else {}
    return {"PYTHONPATH": str(CODE), "NDREPRO_HOME": str(home.absolute()), **passphrases}


def _ask(*words: str) -> str:
    """Run one of Slurm's commands. Raises EngineError with what it said."""
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except FileNotFoundError:
        raise EngineError(f"{words[0]} is not there: this is no Slurm cluster's login node", "use --on local") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise EngineError(f"{words[0]}: {said[-1]}", "see whether `sinfo` answers")
    return done.stdout
