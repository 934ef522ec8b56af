"""Carries out the plan of a study: starts its runs, resumes them, and says how each ended.

    carry_out ── StudyPlan ──> Launcher, run by run ──> Outcome

A run that fails does not stop the others. What concerns them all does: a disk that is full, a key that cannot sign, a
broken ledger. Data that two runs in a row could not read are not tried again by all the others. Ctrl-C stops the runs
under way at their next step, signed as interrupted, and starts no more.
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ndrepro.execution.containers import engines
from ndrepro.execution.runs import data_check
from ndrepro.execution.runs.observer import DataObserver
from ndrepro.execution.runs.run import RunOptions
from ndrepro.execution.studies.launchers import NOT_STARTED, Ended, Ending, Event, Job, Launcher
from ndrepro.execution.studies.plan import SETTLED, Item, StudyPlan, plan_of_runs
from ndrepro.execution.studies.run_locks import Claims
from ndrepro.execution.studies.run_status import DONE, FAILED, INTERRUPTED, RUNNING, RunStatus, Survey
from ndrepro.protocol import extras
from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.image_reference import MAIN, PinnedImage, is_image
from ndrepro.protocol.study.study import StudyRun
from provenance.attestation.key_home import KeyRing
from provenance.errors import BusyError, KeyFileError, LedgerError, ProvenanceError, StorageError
from provenance.git.tracked_paths import expect_no_tracked_link
from provenance.recording.stop_requests import stops_taken

_LOOK_SECONDS = 0.2
# what no other run of the study would escape
_COMMON_TROUBLE = (StorageError, KeyFileError, LedgerError)


@dataclass(frozen=True)
class Failure:
    """A run that did not complete, and how it ended."""

    run: StudyRun
    ending: Ending


@dataclass(frozen=True)
class Outcome:
    """The study's status afterwards: ``plan`` is made anew from signed manifests.

    ``failures`` are this time's; ``interrupted`` by Ctrl-C; ``trouble`` is what stopped the whole of it.
    """

    plan: StudyPlan
    failures: tuple[Failure, ...]
    interrupted: bool
    trouble: ProvenanceError | None

    @property
    def complete(self) -> bool:
        """Whether every run is done."""
        return self.plan.states[DONE] == len(self.plan.items)


class StudyObserver(DataObserver):
    """Receives the events of a study, in the study's process."""

    def started(self, plan: StudyPlan) -> None:
        """Before the first run."""

    def event(self, event: Event) -> None:
        """A run started, made progress or ended."""

    def passed(self, run: StudyRun, status: RunStatus) -> None:
        """A run is skipped: it is complete, or under way elsewhere."""

    def stopping(self, times: int) -> None:
        """Ctrl-C was received for the ``times``-th time: runs stop at their next step, from the second on at once."""


def carry_out(
    plan: StudyPlan, options: RunOptions, launcher: Launcher, observer: StudyObserver, data: Mapping[str, Path]
) -> Outcome:
    """Run all that is to do. ``data`` has the paths of data sets, by name; others are searched for.

    Raises, before anything starts, MissingExtra where there is no torch for runs of the main environment; DataError for
    a path that is not there and, where the runs are to run here, for data that cannot be read; EngineError for an image
    that is not there, or is another one than the study asks for; KeyFileError for a signing key that jobs, which have
    no terminal, cannot use.
    """
    KeyRing(options.home).check_unattended()
    expect_no_tracked_link(options.runs.root, "name another folder of runs: --runs DIR")
    if any(item.run.environment == MAIN for item in plan.todo):
        extras.require("torch")
    for item in plan.todo:
        if item.status.state not in (INTERRUPTED, FAILED):
            experiment = item.run.experiment
            where = data_check.locate(experiment, data.get(experiment.dataset))
            if launcher.here:
                _check_data(plan, experiment, where, options, observer)
    asked = dict.fromkeys(item.run.environment for item in plan.todo)
    engines.check(PinnedImage.from_text(environment) for environment in asked if is_image(environment))
    observer.started(plan)
    work = _Work(plan.study.name, deque(plan.todo), options, launcher, observer, data, Claims(options.runs))
    with stops_taken(work.stop), work.claims:
        try:
            work.do()
        finally:
            launcher.close()
    after = plan_of_runs(plan.study, [item.run for item in plan.items], options, launcher.queued())
    return Outcome(after, tuple(work.failures), bool(work.stops_asked), work.trouble)


def _check_data(
    plan: StudyPlan, experiment: Experiment, data: Path, options: RunOptions, observer: StudyObserver
) -> None:
    """Raises DataError where ``data`` cannot be read, saying which grids do without them."""
    try:
        data_check.check(experiment, data, options.runs, observer)
    except DataError as error:
        needing = {item.run.grid for item in plan.todo if item.run.experiment.dataset == experiment.dataset}
        others = [grid for grid in plan.grids() if grid not in needing]
        instead = f"; or run what does without {experiment.dataset}: {', '.join(others)}" if others else ""
        raise DataError(error.message, f"{error.cure}{instead}") from None


@dataclass
class _Work:
    """One execution of a study's plan; ``waiting`` are the runs to do."""

    study: str
    waiting: deque[Item]
    options: RunOptions
    launcher: Launcher
    observer: StudyObserver
    data: Mapping[str, Path]
    claims: Claims
    failures: list[Failure] = field(default_factory=list)
    trouble: ProvenanceError | None = None
    stops_asked: int = 0
    stops_sent: int = 0
    # by data set, what its runs failed with, one after another
    unread: dict[str, list[DataError]] = field(default_factory=dict)

    def stop(self, number: int, frame: types.FrameType | None) -> None:
        """The handler of SIGINT and SIGTERM."""
        self.stops_asked += 1

    def do(self) -> None:
        """Keep the launcher busy until no run waits, or no more may start."""
        while True:
            while self.waiting and self.launcher.free and not self._over:
                self._start(self.waiting.popleft())
            if not self.launcher.busy and (self._over or not self.waiting):
                return
            for event in self.launcher.events(_LOOK_SECONDS):
                self.observer.event(event)
                if isinstance(event, Ended):
                    self._ended(event)
            while self.stops_sent < self.stops_asked:
                self.stops_sent += 1
                self.observer.stopping(self.stops_sent)
                self.launcher.stop()

    @property
    def _over(self) -> bool:
        """Whether nothing more may start."""
        return bool(self.stops_asked or self.trouble)

    def _start(self, item: Item) -> None:
        """Start a run, unless another process has started it since the plan was made.

        What a cluster starts later claims its run then, and looks again (``job``).
        """
        if self.launcher.here and not self.claims.take(item.run.identity):
            self.observer.passed(item.run, RunStatus(RUNNING))
        elif not self._started(item):
            self.claims.give_back(item.run.identity)

    def _started(self, item: Item) -> bool:
        """Start the run, which this process has claimed, if that is still needed; whether it was started."""
        status = item.status
        if self.launcher.here:  # what starts later looks again then
            try:
                status = Survey(self.options.runs, self.options.home).status(item.run)
            except ProvenanceError as error:
                self.trouble = error
                return False
        if status.state in SETTLED:
            self.observer.passed(item.run, status)
            return False
        unread = self.unread.get(item.run.experiment.dataset, [])
        if len(unread) > 1 and unread[-1].message == unread[-2].message:
            self.failures.append(Failure(item.run, Ending(NOT_STARTED, error=unread[-1])))
            return False
        if self._over:
            return False  # asked to stop meanwhile
        resume = status.folder if status.resumable else None
        data = self.data.get(item.run.experiment.dataset)
        self.launcher.start(Job(self.study, item.run, data, resume))
        return True

    def _ended(self, event: Ended) -> None:
        self.claims.give_back(event.job.run.identity)
        ending, dataset = event.ending, event.job.run.experiment.dataset
        if isinstance(ending.error, DataError):
            self.unread.setdefault(dataset, []).append(ending.error)
        else:
            self.unread.pop(dataset, None)
        if ending.outcome == "completed" and ending.signed:
            return
        if self.stops_sent and ending.outcome != "failed":
            return  # as it was asked to
        if isinstance(ending.error, BusyError):
            self.observer.passed(event.job.run, RunStatus(RUNNING, ending.folder))
            return
        self.failures.append(Failure(event.job.run, ending))
        if isinstance(ending.error, _COMMON_TROUBLE) and not ending.signed:
            self.trouble = ending.error
