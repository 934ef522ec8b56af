"""Starts the runs of a study, one process each, and reports their events: on this machine or on a cluster.

A study (``ndrepro.execution.studies.plan``) hands out ``Job``s and reads ``Event``s; it knows nothing of processes. A
launcher has these methods: ``free`` says whether it takes another job now, ``start`` takes it, ``events`` waits a
little and returns what happened, ``queued`` has the runs that a cluster's queue has, ``stop`` asks every job under way
to end, signed and resumable, and a second time without delay. ``LocalLauncher`` has N processes on this machine; a
cluster's launcher has the same interface, and starts the same command (``Job.words``, which is
``python -m ndrepro.execution.studies.job``) in its own way.

Events cross from the job's process as one JSON object a line on its standard output. A process that dies without a
report has its death reported by whoever started it.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from ndrepro.execution.runs.observer import Progress
from ndrepro.execution.runs.run import RunOptions
from ndrepro.protocol.errors import TrainingFailed, from_record, to_record
from ndrepro.protocol.image_reference import MAIN, located
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Scores
from ndrepro.protocol.project_folders import CODE
from ndrepro.protocol.study.study import StudyRun, settings_words
from ndrepro.text.signal_names import signal_name
from provenance.errors import ProvenanceError
from provenance.recording.stop_requests import stops_wait

NOT_STARTED = "not started"


@dataclass(frozen=True)
class Job:
    """One run of a study to be made, or to be resumed in the folder ``resume``."""

    study: str
    run: StudyRun
    data: Path | None = None
    resume: RunFolder | None = None

    def words(self, options: RunOptions, *how: str) -> list[str]:
        """The job's command line; ``how`` are further options, of ``ndrepro.execution.studies.job``."""
        # of the current folder, which may be a stranger's clone, no module is imported
        words = [sys.executable, "-P", "-m", "ndrepro.execution.studies.job"]
        words += ["--study", self.study, "--grid", self.run.grid, "--runs", str(options.runs.root)]
        words += ["--data", str(self.data)] if self.data else []
        words += how
        if self.resume is not None:
            return [*words, "--resume", str(self.resume.root)]
        words += ["--env", located(self.run.environment)] if self.run.environment != MAIN else []
        return [*words, *settings_words(self.run.experiment)]


@dataclass(frozen=True)
class Ending:
    """How a job ended: the run's outcome, or NOT_STARTED; its folder if it has one, last scores, what went wrong.

    ``signed`` says whether there is a manifest that says so.
    """

    outcome: str
    folder: RunFolder | None = None
    scores: Scores | None = None
    error: ProvenanceError | None = None
    signed: bool = False


@dataclass(frozen=True)
class Began:
    """The run has a folder and a ledger entry."""

    job: Job
    folder: RunFolder


@dataclass(frozen=True)
class Moved:
    """The run made progress."""

    job: Job
    progress: Progress


@dataclass(frozen=True)
class Ended:
    """The job is over."""

    job: Job
    ending: Ending


Event = Began | Moved | Ended


class Launcher(Protocol):
    """Interface of what starts a study's runs; ``here``: on this machine, which then must have the data."""

    here: bool

    @property
    def free(self) -> bool:
        """Whether ``start`` may be called now."""

    @property
    def busy(self) -> bool:
        """Whether any job is under way."""

    def start(self, job: Job) -> None:
        """Start a job."""

    def events(self, seconds: float) -> Iterable[Event]:
        """Events of at most the next ``seconds``; every job ends with one ``Ended``."""

    def queued(self) -> Mapping[str, str]:
        """Runs that wait in a queue or run from one, by identity, with what is known of each."""

    def stop(self) -> None:
        """Ask the jobs under way to stop at their next step; called again: at once."""

    def close(self) -> None:
        """Kill whatever is still under way."""


def event_line(event: Began | Moved | Ending) -> str:
    """An event as the job's process writes it; the job itself is known to the reader."""
    if isinstance(event, Began):
        document: dict[str, Any] = {"event": "began", "folder": str(event.folder.root)}
    elif isinstance(event, Moved):
        document = {"event": "moved", **asdict(event.progress)}
    else:
        document = {
            "event": "ended",
            "outcome": event.outcome,
            "folder": None if event.folder is None else str(event.folder.root),
            "scores": None if event.scores is None else asdict(event.scores),
            "error": None if event.error is None else to_record(event.error),
            "signed": event.signed,
        }
    return json.dumps(document)


def read_event(job: Job, line: str) -> Event:
    """The event that ``event_line`` wrote, about ``job``."""
    document = json.loads(line)
    kind = document.pop("event")
    if kind == "began":
        return Began(job, RunFolder(Path(document["folder"])))
    if kind == "moved":
        return Moved(job, Progress(**document))
    folder, scores, error = document["folder"], document["scores"], document["error"]
    ending = Ending(
        outcome=document["outcome"],
        folder=RunFolder(Path(folder)) if folder else None,
        scores=Scores(**scores) if scores else None,
        error=from_record(error) if error else None,
        signed=document["signed"],
    )
    return Ended(job, ending)


class LocalLauncher:
    """Up to ``jobs`` processes on this machine, each in a session of its own, so that Ctrl-C reaches only the study.

    Each holds the other end of its standard input: should this process die, they see it close, and stop.
    """

    here = True

    def __init__(self, jobs: int, options: RunOptions) -> None:
        self._jobs = jobs
        self._options = options
        self._selector = selectors.DefaultSelector()
        self._processes: list[_Process] = []

    @property
    def free(self) -> bool:
        """Whether fewer than ``jobs`` are under way."""
        return len(self._processes) < self._jobs

    @property
    def busy(self) -> bool:
        """Whether any is under way."""
        return bool(self._processes)

    def start(self, job: Job) -> None:
        """Start its process."""
        process = _Process(job, self._options)
        self._processes.append(process)
        self._selector.register(process.output, selectors.EVENT_READ, process)

    def events(self, seconds: float) -> Iterable[Event]:
        """What the processes have written, and their ends."""
        for key, _ in self._selector.select(seconds):
            process: _Process = key.data
            yield from process.read()
            if process.over:
                self._selector.unregister(process.output)
                self._processes.remove(process)
                yield process.finish()

    def queued(self) -> Mapping[str, str]:
        """None: this machine has no queue."""
        return {}

    def stop(self) -> None:
        """SIGTERM to each: the first has it stop at the next step, a second one kills the training."""
        for process in self._processes:
            process.send(signal.SIGTERM)

    def close(self) -> None:
        """Kill whatever still runs; its runs stay as a power cut would leave them."""
        for process in self._processes:
            self._selector.unregister(process.output)
            process.send(signal.SIGKILL)
            process.finish()
        self._processes.clear()
        self._selector.close()


class _Process:
    """One job's process and its output so far."""

    def __init__(self, job: Job, options: RunOptions) -> None:
        self.job = job
        self.over = False
        self._ending: Ended | None = None
        self._folder: RunFolder | None = None
        self._rest = b""
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by finish)
        with stops_wait():
            self._process = subprocess.Popen(
                job.words(options, "--leashed"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=_variables(os.environ, options.home),
                start_new_session=True,
            )

    @property
    def output(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def read(self) -> Iterable[Event]:
        """Whole lines written since the last call; ``over`` once there can be no more."""
        content = os.read(self.output.fileno(), 1 << 16)
        self.over = not content
        *lines, self._rest = (self._rest + content).split(b"\n")
        for line in lines:
            event = read_event(self.job, line.decode())
            if isinstance(event, Ended):
                self._ending = event  # reported when the process is gone
            else:
                self._folder = event.folder if isinstance(event, Began) else self._folder
                yield event

    def finish(self) -> Ended:
        """Wait for its end; the ending that it reported, or that its death implies."""
        with self._process as process, self._errors as errors:
            code = process.wait()
            errors.seek(0)
            printed = errors.read().decode("utf-8", "replace")
        return self._ending or Ended(self.job, _death(code, printed, self._folder))


def _death(code: int, printed: str, folder: RunFolder | None) -> Ending:
    """The ending of a process that reported none."""
    if code < 0:
        message = f"the process that recorded this run was killed by {signal_name(-code)}"
        cure = "`ndrepro study resume` resumes from the last checkpoint" if folder else ""
        return Ending("killed", folder, error=TrainingFailed(message, cure))
    last = next((line.strip() for line in reversed(printed.splitlines()) if line.strip()), "it printed nothing")
    return Ending("failed", folder, error=TrainingFailed(f"its process ended with exit code {code}: {last[:300]}"))


def _variables(inherited: Mapping[str, str], home: Path) -> dict[str, str]:
    """Variables by which the job uses this very code and the study's key home."""
    path = [str(CODE), *filter(None, [inherited.get("PYTHONPATH")])]
    return {**inherited, "PYTHONPATH": os.pathsep.join(path), "NDREPRO_HOME": str(home)}
