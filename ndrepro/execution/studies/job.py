"""One run of a study, in a process of its own: ``python -m ndrepro.execution.studies.job`` and then

    --study NAME --grid GRID --runs DIR [--data PATH] [--leashed] [--sparse] [--recheck]
    and   EXP [--set KEY=VALUE ...] [--env CELL-OR-IMAGE]      to make a run
    or    --resume FOLDER                                      to resume one

It trains, records and signs as ``ndrepro run`` does. Its standard output is read by the process that started it: one
JSON object a line (``launchers.event_line``) for the start with its folder, for progress, and for the end. The command
line is recorded in the manifest, so that a run names the study that it was made for.

SIGTERM or SIGINT, at any time: the run stops at the next step, signed as interrupted; a second one kills the training,
which is signed as killed. With ``--sparse`` it reports progress every ten seconds instead of several times a second,
for readers of a file. With ``--leashed`` the end of standard input, which the parent holds, does the same as
SIGTERM.

With ``--recheck``, for jobs that waited in a queue, it looks at the folder of runs before it starts, and claims the run
as ``run_locks`` has it: a run that is done meanwhile is left alone, and so is one that another process has taken up;
one that was interrupted is resumed.

Exit code 0 where the run is complete, or another process has it; 3 where it failed or was stopped.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from ndrepro.execution.runs import run as execution
from ndrepro.execution.runs.observer import Observer, Progress
from ndrepro.execution.studies.launchers import NOT_STARTED, Began, Ending, Job, Moved, event_line
from ndrepro.execution.studies.run_locks import Claims
from ndrepro.execution.studies.run_status import DONE, RUNNING, Survey
from ndrepro.protocol.errors import NotOwnRun, UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.image_reference import MAIN
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.messages import Request, read_json
from ndrepro.protocol.study.study import StudyRun
from provenance.attestation.key_home import default_home
from provenance.errors import BusyError, ProvenanceError, StorageError
from provenance.recording.stop_requests import STOPS, stops_wait_no_longer

_DONE, _NOT_DONE = 0, 3
_SPARSE_SECONDS = 10.0
# how long a job that waited in a queue waits for whoever has its run
_CLAIM_SECONDS = 60.0
_LOOK_SECONDS = 1.0


def main(arguments: list[str]) -> int:
    """Run the job that the command line names."""
    stop, voice = Stop(), Voice()
    stops_wait_no_longer()
    job, options, given = parse(arguments)
    if given.leashed:
        threading.Thread(target=_stop_with_parent, daemon=True).start()
    every = _SPARSE_SECONDS if given.sparse else 0.0
    with Claims(options.runs) as claims:
        now = _recheck(job, options, claims, stop) if given.recheck else job
        ending = now if isinstance(now, Ending) else perform(now, options, Reporter(now, stop, voice, every), stop)
    voice.say(ending)
    left_alone = isinstance(ending.error, BusyError)
    return _DONE if ending.outcome == "completed" or left_alone else _NOT_DONE


def _recheck(job: Job, options: execution.RunOptions, claims: Claims, stop: Stop) -> Job | Ending:
    """The job as it is to be done now; or its ending, where the run is done or another process has it."""
    deadline = time.monotonic() + _CLAIM_SECONDS  # an earlier attempt may still be ending
    try:
        while True:
            if claims.take(job.run.identity):
                status = Survey(options.runs, options.home).status(job.run)
                if status.state == DONE:
                    return Ending("completed", status.folder, signed=True)
                if status.state != RUNNING:
                    return replace(job, resume=status.folder if status.resumable else None)
            if stop.asked or time.monotonic() > deadline:
                return Ending(NOT_STARTED, error=BusyError("another process has taken up this run"))
            time.sleep(_LOOK_SECONDS)
    except ProvenanceError as error:
        return Ending(NOT_STARTED, error=error)


def perform(job: Job, options: execution.RunOptions, observer: Reporter, stop: Stop) -> Ending:
    """Start or resume the run; every outcome is returned as an ending."""
    if stop.asked:
        return Ending(NOT_STARTED)
    try:
        finished = _resumed(job, options, observer) or execution.run(
            job.run.experiment, options.inside(job.run.environment) if job.resume else options, observer
        )
    except ProvenanceError as error:
        return Ending("failed" if observer.folder else NOT_STARTED, observer.folder, error=error)
    except OSError as error:
        where = error.filename or "the run folder"
        return Ending("failed", observer.folder, error=StorageError(f"{where}: {error.strerror}"))
    signed = finished.manifest is not None
    return Ending(finished.outcome, finished.folder, finished.scores, finished.error, signed)


def _resumed(job: Job, options: execution.RunOptions, observer: Observer) -> execution.Finished | None:
    """The run, resumed; None where there is none to resume, or another key began it: then it is left as it is."""
    try:
        return None if job.resume is None else execution.resume(job.resume, options, observer)
    except NotOwnRun:
        return None


def parse(arguments: list[str]) -> tuple[Job, execution.RunOptions, argparse.Namespace]:
    """The job, its options, and all that was given. Raises UsageError for settings that make no experiment."""
    parser = argparse.ArgumentParser(prog="python -m ndrepro.execution.studies.job", allow_abbrev=False)
    parser.add_argument("name", nargs="?")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--env", default=MAIN)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--study", required=True)
    parser.add_argument("--grid", required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--leashed", action="store_true")
    parser.add_argument("--sparse", action="store_true")
    parser.add_argument("--recheck", action="store_true")
    given = parser.parse_args(arguments)
    folder = RunFolder(given.resume) if given.resume else None
    if folder is not None:
        request = Request.from_json(read_json(folder.request))
        run = StudyRun(given.grid, request.experiment, request.environments[0])
    elif given.name:
        settings = dict(pair.split("=", 1) for pair in given.settings)
        run = StudyRun(given.grid, Experiment.from_name(given.name, settings), given.env)
    else:
        raise UsageError("neither an experiment nor --resume", "see python -m ndrepro.execution.studies.job --help")
    # a run that is resumed has its own environment and data
    options = execution.RunOptions(RunsFolder(given.runs), default_home(), given.data)
    here = options if folder else options.inside(run.environment)
    return Job(given.study, run, given.data, folder), here, given


class Stop:
    """True in ``asked`` once SIGTERM or SIGINT has come while no child was there to take it."""

    def __init__(self) -> None:
        self.asked = False
        for number in STOPS:
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: object) -> None:
        self.asked = True


class Voice:
    """Writes events for the parent process; if that is gone, the run is signed all the same."""

    def __init__(self) -> None:
        self._heard = True

    def say(self, event: Began | Moved | Ending) -> None:
        """Write one line."""
        if self._heard:
            try:
                sys.stdout.write(event_line(event) + "\n")
                sys.stdout.flush()
            except OSError:
                self._heard = False
                sys.stdout = None  # nothing to flush at the end of the process


class Reporter(Observer):
    """An observer that writes a run's events, and passes to the child a stop that arrived before it started."""

    def __init__(self, job: Job, stop: Stop, voice: Voice, every_seconds: float = 0.0) -> None:
        self._job = job
        self._stop = stop
        self._voice = voice
        self._every_seconds = every_seconds
        self._told = float("-inf")
        self.folder: RunFolder | None = None

    def began(self, folder: RunFolder, request: Request) -> None:
        """Report the run's folder."""
        self.folder = folder
        self._voice.say(Began(self._job, folder))

    def progress(self, progress: Progress) -> None:
        """Report progress."""
        if self._stop.asked and progress.phase != "signing":
            # the child is there now, and signals to this process reach it
            self._stop.asked = False
            os.kill(os.getpid(), signal.SIGTERM)
        if time.monotonic() - self._told >= self._every_seconds:
            self._told = time.monotonic()
            self._voice.say(Moved(self._job, progress))


def _stop_with_parent() -> None:
    """Wait for the end of standard input, then stop as on a signal."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
