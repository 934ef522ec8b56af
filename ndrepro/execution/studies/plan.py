"""Plans a study (what is complete, and the estimated cost of the rest) and carries it out.

    make_plan ── Survey (status of runs) + Estimator (cost of the rest) ──> Plan
    carry_out ── Plan ──> Launcher, run by run ──> Outcome

The runs are a study's only state: signed manifests and the ledger show which are complete, their folders where to
resume. So a study can be started again after any crash, on any day, by anyone with the folder of runs: what is
complete is skipped, what was interrupted is resumed, what failed is tried once more.

A run that fails does not stop the others. What concerns them all does: a disk that is full, a key that cannot sign, a
broken ledger. Data that two runs in a row could not read are not tried again by all the others. Ctrl-C stops the runs
under way at their next step, signed as interrupted, and starts no more.
"""

from __future__ import annotations

import os
import shutil
import types
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from ndrepro.execution.containers import engines
from ndrepro.execution.runs import data_check
from ndrepro.execution.runs.observer import DataObserver
from ndrepro.execution.runs.run import RunOptions
from ndrepro.execution.runs.run_lookup import read_results
from ndrepro.execution.studies.estimates import RECORDED, Estimate, Estimator
from ndrepro.execution.studies.launchers import NOT_STARTED, Ended, Ending, Event, Job, Launcher
from ndrepro.execution.studies.run_locks import Claims
from ndrepro.execution.studies.run_status import (
    CUT_OFF,
    DONE,
    FAILED,
    MISSING,
    QUEUED,
    RUNNING,
    WAITING,
    RunStatus,
    Survey,
    code_and_data,
)
from ndrepro.protocol import extras
from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.image_reference import MAIN, PinnedImage, is_image, location_words
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, read_json
from ndrepro.protocol.study.study import Study, StudyRun
from ndrepro.protocol.training_record import CODE
from provenance.attestation.key_home import KeyRing
from provenance.attestation.manifest import DATASET
from provenance.errors import BusyError, KeyFileError, LedgerError, ProvenanceError, StorageError
from provenance.recording.stop_requests import stops_taken

_LOOK_SECONDS = 0.2
# what no other run of the study would escape
_COMMON_TROUBLE = (StorageError, KeyFileError, LedgerError)
_SETTLED = (DONE, RUNNING, QUEUED, WAITING)


@dataclass(frozen=True)
class Item:
    """One run of a study: its status, and the estimated cost of the rest."""

    run: StudyRun
    status: RunStatus
    epochs_done: int
    left: Estimate


@dataclass(frozen=True)
class StudyPlan:
    """The size and estimated cost of a study or of some of its grids. ``notes`` are warnings for its author.

    ``elsewhere`` counts runs of the same experiments, by environment, that were started in a container image that the
    study does not ask for, or outside of all where it asks for one: they do not count.
    """

    study: Study
    items: tuple[Item, ...]
    free_bytes: int
    notes: tuple[str, ...] = ()
    elsewhere: Mapping[str, int] = field(default_factory=dict)

    @property
    def environments(self) -> tuple[str, ...]:
        """Every environment that a run is for, in the study's order."""
        return tuple(dict.fromkeys(item.run.environment for item in self.items))

    @property
    def todo(self) -> tuple[Item, ...]:
        """Runs to start: those neither complete nor under way, nor queued, nor waiting for a search."""
        return tuple(item for item in self.items if item.status.state not in _SETTLED)

    @property
    def states(self) -> Counter[str]:
        """How many runs have each status."""
        return Counter(item.status.state for item in self.items)

    @property
    def seconds(self) -> float:
        """Device-seconds that are left."""
        return sum(item.left.seconds for item in self.todo)

    @property
    def disk_bytes(self) -> int:
        """Bytes that are still to be written."""
        return sum(item.left.disk_bytes for item in self.todo)

    @property
    def recorded(self) -> int:
        """How many of the runs to do are estimated from recorded timings, and not by the model."""
        return sum(item.left.source == RECORDED for item in self.todo)

    def of_grid(self, name: str) -> StudyPlan:
        """The plan of one grid."""
        return StudyPlan(self.study, tuple(item for item in self.items if item.run.grid == name), self.free_bytes)

    def grids(self) -> tuple[str, ...]:
        """The grids that have runs here, in the study's order."""
        return tuple(dict.fromkeys(item.run.grid for item in self.items))


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


class StudyObserver(DataObserver, Protocol):
    """Receives the events of a study, in the study's process."""

    def started(self, plan: StudyPlan) -> None:
        """Before the first run."""

    def event(self, event: Event) -> None:
        """A run started, made progress or ended."""

    def passed(self, run: StudyRun, status: RunStatus) -> None:
        """A run is skipped: it is complete, or under way elsewhere."""

    def stopping(self, times: int) -> None:
        """Ctrl-C was received for the ``times``-th time: runs stop at their next step, from the second on at once."""


def make_plan(
    study: Study, grids: Sequence[str], options: RunOptions, queued: Mapping[str, str] | None = None
) -> StudyPlan:
    """Survey and estimate. ``queued`` are the runs in a cluster's queue (``launchers.Launcher.queued``).

    Raises UsageError for an unknown grid, LedgerError for a broken ledger.
    """
    runs = study.runs(grids)
    survey = Survey(options.runs, options.home)
    estimator = Estimator(options.runs, runs)
    items = tuple(_item(run, _with_queue(survey.status(run), run, queued or {}), estimator) for run in runs)
    elsewhere = _elsewhere(items, survey)
    return StudyPlan(study, items, _free_bytes(options.runs.root), tuple(_notes(items, elsewhere)), elsewhere)


def only_started(plan: StudyPlan) -> StudyPlan:
    """The grids of which any run has been started, which can be resumed."""
    started = {item.run.grid for item in plan.items if item.status.state not in (MISSING, WAITING)}
    items = tuple(item for item in plan.items if item.run.grid in started)
    return replace(plan, items=items)


def image_of_started_runs(plan: StudyPlan) -> PinnedImage | None:
    """The one image in which all that was started of a study of the main environment has been started."""
    started = any(item.status.state not in (MISSING, WAITING) for item in plan.items)
    if started or len(plan.elsewhere) != 1 or plan.environments != (MAIN,):
        return None
    return PinnedImage.from_text(next(iter(plan.elsewhere)))


def data_of_started_runs(plan: StudyPlan) -> dict[str, Path]:
    """Data paths of the started runs, by data set: a study is resumed with the same."""
    found: dict[str, Path] = {}
    for item in plan.items:
        if item.status.folder is not None and item.run.experiment.dataset not in found:
            request = Request.from_json(read_json(item.status.folder.request))
            if Path(request.data).exists():
                found[item.run.experiment.dataset] = Path(request.data)
    return found


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
    if any(item.run.environment == MAIN for item in plan.todo):
        extras.require("torch")
    for item in plan.todo:
        if item.status.state not in (CUT_OFF, FAILED):
            experiment = item.run.experiment
            where = data_check.locate(experiment, data.get(experiment.dataset))
            if launcher.here:
                _check_data(plan, experiment, where, options, observer)
    asked = dict.fromkeys(item.run.environment for item in plan.todo)
    engines.check(PinnedImage.from_text(environment) for environment in asked if is_image(environment))
    observer.started(plan)
    signals = _Signals()
    with stops_taken(signals.came), Claims(options.runs) as claims:
        work = _Work(plan, options, launcher, observer, data, signals, claims)
        try:
            work.do()
        finally:
            launcher.close()
    after = make_plan(plan.study, plan.grids(), options, launcher.queued())
    return Outcome(after, tuple(work.failures), bool(signals.count), work.trouble)


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


class _Work:
    """One execution of a study's plan."""

    def __init__(
        self,
        plan: StudyPlan,
        options: RunOptions,
        launcher: Launcher,
        observer: StudyObserver,
        data: Mapping[str, Path],
        signals: _Signals,
        claims: Claims,
    ) -> None:
        self._claims = claims
        self.failures: list[Failure] = []
        self.trouble: ProvenanceError | None = None
        self._study = plan.study.name
        self._waiting = deque(plan.todo)
        self._options = options
        self._launcher = launcher
        self._observer = observer
        self._data = data
        self._signals = signals
        self._stops = 0
        self._unread: dict[str, list[DataError]] = {}  # by data set, what its runs failed with, one after another

    def do(self) -> None:
        """Keep the launcher busy until no run waits, or no more may start."""
        while True:
            while self._waiting and self._launcher.free and not self._over:
                self._start(self._waiting.popleft())
            if not self._launcher.busy and (self._over or not self._waiting):
                return
            for event in self._launcher.events(_LOOK_SECONDS):
                self._observer.event(event)
                if isinstance(event, Ended):
                    self._ended(event)
            while self._stops < self._signals.count:
                self._stops += 1
                self._observer.stopping(self._stops)
                self._launcher.stop()

    @property
    def _over(self) -> bool:
        """Whether nothing more may start."""
        return bool(self._signals.count or self.trouble)

    def _start(self, item: Item) -> None:
        """Start a run, unless another process has started it since the plan was made.

        What a cluster starts later claims its run then, and looks again (``job``).
        """
        if self._launcher.here and not self._claims.take(item.run.identity):
            self._observer.passed(item.run, RunStatus(RUNNING))
        elif not self._started(item):
            self._claims.give_back(item.run.identity)

    def _started(self, item: Item) -> bool:
        """Start the run, which this process has claimed, if that is still needed; whether it was started."""
        try:
            status = Survey(self._options.runs, self._options.home).status(item.run)
        except ProvenanceError as error:
            self.trouble = error
            return False
        if status.state in _SETTLED:
            self._observer.passed(item.run, status)
            return False
        unread = self._unread.get(item.run.experiment.dataset, [])
        if len(unread) > 1 and unread[-1].message == unread[-2].message:
            self.failures.append(Failure(item.run, Ending(NOT_STARTED, error=unread[-1])))
            return False
        if self._over:
            return False  # asked to stop meanwhile
        resume = status.folder if status.resumable else None
        data = self._data.get(item.run.experiment.dataset)
        self._launcher.start(Job(self._study, item.run, data, resume))
        return True

    def _ended(self, event: Ended) -> None:
        self._claims.give_back(event.job.run.identity)
        ending, dataset = event.ending, event.job.run.experiment.dataset
        if isinstance(ending.error, DataError):
            self._unread.setdefault(dataset, []).append(ending.error)
        else:
            self._unread.pop(dataset, None)
        if ending.outcome == "completed" and ending.signed:
            return
        if self._stops and ending.outcome != "failed":
            return  # as it was asked to
        if isinstance(ending.error, BusyError):
            self._observer.passed(event.job.run, RunStatus(RUNNING, ending.folder))
            return
        self.failures.append(Failure(event.job.run, ending))
        if isinstance(ending.error, _COMMON_TROUBLE) and not ending.signed:
            self.trouble = ending.error


class _Signals:
    """Counts SIGINT and SIGTERM in place of their default actions."""

    def __init__(self) -> None:
        self.count = 0

    def came(self, number: int, frame: types.FrameType | None) -> None:
        """A signal's handler."""
        self.count += 1


def _with_queue(status: RunStatus, run: StudyRun, queued: Mapping[str, str]) -> RunStatus:
    """The status of a run that is in a queue; its own where it is done, or seen to be running."""
    task = queued.get(run.identity) or queued.get(run.label)
    if task is None or status.state in (DONE, RUNNING, WAITING):
        return status
    return replace(status, state=QUEUED, reason=task)


def _item(run: StudyRun, status: RunStatus, estimator: Estimator) -> Item:
    if status.state == DONE:
        return Item(run, status, run.experiment.epochs, Estimate(0.0, 0, RECORDED))
    epochs = _epochs_done(status) if status.state in (CUT_OFF, FAILED, RUNNING, QUEUED) else 0
    return Item(run, status, epochs, estimator.estimate(run, epochs))


def _epochs_done(status: RunStatus) -> int:
    if status.folder is None:
        return 0
    try:
        return len(read_results(status.folder))
    except (ProvenanceError, OSError, TypeError):
        return 0  # a damaged file: the estimate is the longer, and the run itself will say


def _elsewhere(items: Sequence[Item], survey: Survey) -> dict[str, int]:
    """Runs of these experiments by environment, in images that none of these runs is for, or outside of all images."""
    asked = {item.status.folder for item in items}
    found: dict[str, set[RunFolder]] = {}
    for run in (item.run for item in items if item.run.environment == MAIN or is_image(item.run.environment)):
        outside = [] if run.environment == MAIN else [MAIN]
        for environment in (*outside, *map(str, survey.images(run))):
            folder = survey.status(replace(run, environment=environment)).folder
            if folder is not None and folder not in asked:
                found.setdefault(environment, set()).add(folder)
    return {environment: len(folders) for environment, folders in found.items()}


def _notes(items: Iterable[Item], elsewhere: Mapping[str, int]) -> Iterable[str]:
    """Warnings: results that were not all made of the same code or data, and runs elsewhere."""
    for environment, count in elsewhere.items():
        where = location_words(environment)
        yield f"{count} of the same experiments were run {where}, and do not count in this environment"
    for name, digests in code_and_data(item.status for item in items).items():
        if len(digests) > 1:
            what = "states of the code" if name == CODE else f"different versions of {name.removeprefix(DATASET)}"
            yield f"the runs that are done were made with {len(digests)} {what}"


def _free_bytes(folder: Path) -> int:
    """Free space where the runs go; the folder may not be there yet."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    return shutil.disk_usage(there).free
