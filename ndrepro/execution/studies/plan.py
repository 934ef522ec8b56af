"""Plans a study: what is complete, and the estimated cost of the rest.

    make_plan ── Survey (status of runs) + Estimator (cost of the rest) ──> StudyPlan

The runs are a study's only state: signed manifests and the ledger show which are complete, their folders where to
resume. So a study can be started again after any crash, on any day, by anyone with the folder of runs: what is
complete is skipped, what was interrupted is resumed (what another key began is trained anew), what failed is tried once
more (``carry_out``).
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ndrepro.execution.runs.run import RunOptions
from ndrepro.execution.runs.run_lookup import read_results
from ndrepro.execution.studies.estimates import RECORDED, Estimate, Estimator, device_here
from ndrepro.execution.studies.run_status import (
    DONE,
    FAILED,
    INTERRUPTED,
    MISSING,
    QUEUED,
    RUNNING,
    WAITING,
    RunStatus,
    Survey,
    code_and_data,
)
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.image_reference import MAIN, PinnedImage, is_image, location_words
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, read_json
from ndrepro.protocol.study.study import Study, StudyRun
from ndrepro.protocol.training_record import CODE
from provenance.attestation.manifest import DATASET
from provenance.errors import ProvenanceError

SETTLED = (DONE, RUNNING, QUEUED, WAITING)


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
    def images(self) -> tuple[PinnedImage, ...]:
        """Those of the environments that are images."""
        return tuple(PinnedImage.from_text(each) for each in self.environments if is_image(each))

    @property
    def todo(self) -> tuple[Item, ...]:
        """Runs to start: those neither complete nor under way, nor queued, nor waiting for a search."""
        return tuple(item for item in self.items if item.status.state not in SETTLED)

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


def make_plan(
    study: Study,
    grids: Sequence[str],
    options: RunOptions,
    queued: Mapping[str, str] | None = None,
    numbers: Collection[int] | None = None,
) -> StudyPlan:
    """Survey and estimate the runs of ``grids``, of all where there are none; with ``numbers`` only these.

    Raises UsageError for an unknown grid or number, LedgerError for a broken ledger.
    """
    runs = study.runs(grids)
    if numbers is not None:
        chosen = {run.identity for run in _with_numbers(study, grids, runs, numbers)}
        runs = tuple(run for run in runs if run.identity in chosen)
    return plan_of_runs(study, runs, options, queued or {})


def plan_of_runs(study: Study, runs: Sequence[StudyRun], options: RunOptions, queued: Mapping[str, str]) -> StudyPlan:
    """Survey and estimate these runs of a study. ``queued`` are those in a cluster's queue (``launchers.Launcher``).

    Raises LedgerError for a broken ledger.
    """
    survey = Survey(options.runs, options.home)
    estimator = Estimator(options.runs, runs)
    items = tuple(_item(run, _with_queue(survey.status(run), run, queued), estimator) for run in runs)
    elsewhere = _elsewhere(items, survey)
    return StudyPlan(study, items, _free_bytes(options.runs.root), tuple(_notes(items, elsewhere)), elsewhere)


def numbered(study: Study) -> dict[int, StudyRun]:
    """Every run by its number: counted from 1, in the study's own order."""
    return dict(enumerate(study.runs(), 1))


def _with_numbers(
    study: Study, grids: Sequence[str], runs: Sequence[StudyRun], numbers: Collection[int]
) -> Iterator[StudyRun]:
    """The runs with these numbers. Raises UsageError where one is none of the study, or none of ``grids``."""
    known = numbered(study)
    here = {run.identity for run in runs}
    having = [number for number, run in known.items() if run.identity in here]
    for number in sorted(numbers):
        if number not in known:
            message = f"--only {number}: {study.name} has the runs 1 to {len(known)}"
            raise UsageError(message, "`ndrepro study plan --json` lists them in their order")
        if number not in having:
            message = f"--only {number}: no run of --grid {' --grid '.join(dict.fromkeys(grids))}"
            cure = f"runs have the numbers that they have in the whole study: here {_spans(having)}"
            raise UsageError(message, cure)
        yield known[number]


def _spans(numbers: Sequence[int]) -> str:
    """Rising numbers in short: 1-3,7."""
    starts = [number for number in numbers if number - 1 not in numbers]
    ends = [number for number in numbers if number + 1 not in numbers]
    return ",".join(f"{a}-{b}" if a != b else str(a) for a, b in zip(starts, ends, strict=True))


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


def _with_queue(status: RunStatus, run: StudyRun, queued: Mapping[str, str]) -> RunStatus:
    """The status of a run that is in a queue; its own where it is done, or seen to be running."""
    task = queued.get(run.identity) or queued.get(run.label)
    if task is None or status.state in (DONE, RUNNING, WAITING):
        return status
    return replace(status, state=QUEUED, reason=task)


def _item(run: StudyRun, status: RunStatus, estimator: Estimator) -> Item:
    if status.state == DONE:
        return Item(run, status, run.experiment.epochs, Estimate(0.0, 0, RECORDED))
    epochs = _epochs_done(status) if status.state in (INTERRUPTED, FAILED, RUNNING, QUEUED) else 0
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


def with_runs_at_a_time(plan: StudyPlan, jobs: int, processors: int | None = None) -> StudyPlan:
    """The plan with a note where ``jobs`` runs at a time on a CPU have more threads than there are ``processors``.

    ``processors`` are those that this process may use where it is ``None``. Threads change bits, so the study's stay.
    """
    processors = processors or len(os.sched_getaffinity(0))
    experiments = [item.run.experiment for item in plan.todo]
    on_cpu = [
        each for each in experiments if each.device == "cpu" or (each.device == "auto" and device_here() == "cpu")
    ]
    threads = max((each.processes * each.threads for each in on_cpu), default=0)
    at_a_time = min(jobs, len(on_cpu))
    if at_a_time < 2 or at_a_time * threads <= processors:
        return plan
    have = f"{at_a_time} runs at a time have {at_a_time * threads} threads, more than processors ({processors})"
    fitting = f"-j {max(1, processors // threads)} fits, or threads = 1 in the study's settings"
    return replace(plan, notes=(*plan.notes, f"{have}, and slow each other down: {fitting}"))


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
