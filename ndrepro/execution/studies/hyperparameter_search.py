"""Searches hyper-parameters for every network and data set of a study's grid, by asynchronous successive halving.

    trial n ── values drawn ── piece of 15 epochs ── judged ── resumed from its checkpoint: 15 more, 30 more, 60 more

The values are drawn and trials are judged by Optuna (``RandomSampler``, ``SuccessiveHalvingPruner``; Li et al. 2020): a
trial that reaches a rung is continued if it is among the best 1/reduction that reached it so far. Optuna's pruner takes
the ratio of one rung's budget to the next for the ratio of those that are kept; here they differ (``spec.search``), so
a rung is reported to it as step reduction^k, whatever its epochs.

Every piece is a run of its own: recorded, signed, in the ledger. It trains the trial's whole experiment from one rung
to the next, with the learning rate that the whole training has there; its manifest names the piece before it, whose
signed checkpoint it began with. Scores are errors on validation images that are held out of the training images
(``training.data.validation``); no test image is used.

The runs are the only state. Whenever the search is started it replays its trials from the first: what has been trained
is read from the signed manifests, so it reaches the same decisions, and resumes where it was interrupted. One network
on one data set is searched trial after trial, which keeps it repeatable; several are searched at the same time by as
many processes. Each may train ``budget_epochs`` epochs in all, and equally many for every network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndrepro.execution.runs import run as execution
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.run import RunOptions, Segment
from ndrepro.execution.runs.run_checks import signed_checkpoint
from ndrepro.execution.studies.run_status import RunStatus, Survey
from ndrepro.execution.studies.search_results import found_file, read_found, write_found
from ndrepro.protocol import extras
from ndrepro.protocol.errors import NdreproError, TrainingFailed, UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.study.search_space import Search, SearchOutcome, Target, target_of
from ndrepro.protocol.study.study import Study, StudyRun, identity
from ndrepro.protocol.training_record import CONTINUED_RUN, TrainingRecord
from provenance.attestation.manifest import Manifest, Resource
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify
from provenance.formats.digest import file_digest

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Piece:
    """A trial between two rungs: its signed manifest, the digest of that, its last step, its error at the end."""

    folder: RunFolder
    manifest: Manifest
    digest: str
    step: int
    error: float

    @property
    def run(self) -> str:
        """The piece's identifier."""
        return self.manifest.invocation_id


@dataclass(frozen=True)
class Trial:
    """One trial: its number, its values, and the pieces that it was trained in so far."""

    number: int
    values: Mapping[str, float]
    experiment: Experiment
    pieces: tuple[Piece, ...] = ()

    @property
    def error(self) -> float:
        """The validation error at the last rung that it reached."""
        return self.pieces[-1].error


class SearchObserver:
    """Receives the events of a search. Says nothing where a method is not its own."""

    def begins(self, target: Target, spent: int, budget: int) -> None:
        """A network and data set are started or resumed: ``spent`` of ``budget`` epochs are recorded."""

    def reached(self, target: Target, trial: Trial, epochs: int, goes_on: bool, recorded: bool) -> None:
        """A trial has reached a rung of ``epochs``; ``recorded``: it had been trained before."""

    def failed(self, target: Target, trial: Trial, error: NdreproError) -> None:
        """A trial failed; the search continues without it."""

    def found(self, found: SearchOutcome) -> None:
        """A network and data set are complete."""


def targets_of(study: Study) -> dict[Target, StudyRun]:
    """Every network and data set of the searched grid, each with one of its runs.

    Raises UsageError where the study has no search.
    """
    if study.search is None:
        grids = ", ".join(grid.name for grid in study.grids)
        raise UsageError(f"{study.name} has no search: its grids ({grids}) say their hyper-parameters themselves")
    found: dict[Target, StudyRun] = {}
    for run in study.runs([study.search.grid]):
        found.setdefault(target_of(run.experiment), run)
    return found


def search_study(
    study: Study,
    file: Path,
    chosen: Sequence[Target],
    options: RunOptions,
    observer: SearchObserver,
    data: Mapping[str, Path],
) -> tuple[SearchOutcome, ...]:
    """Search every one of ``chosen`` without a result yet, and write each result into the study's file.

    Returns the rows of all of ``chosen``. A trial whose training process dies is reported and left out. Raises what no
    trial would escape: a full disk, a broken ledger, missing data, an interruption.
    """
    extras.require("optuna", "torch")
    runs, search = targets_of(study), study.search
    assert search is not None
    for target in chosen:
        known = {found.target for found in read_found(found_file(file), search)}
        if target not in known:
            here = replace(options, data=data.get(target[2])).inside(runs[target].environment)
            found = TargetSearch(search, runs[target], here, observer).run()
            write_found(found_file(file), search, {target: found})
            observer.found(found)
    return tuple(row for row in read_found(found_file(file), search) if row.target in chosen)


class TargetSearch:
    """The search of one network on one data set; ``base`` is any run of it in the grid. Raises LedgerError."""

    def __init__(self, search: Search, base: StudyRun, options: RunOptions, observer: SearchObserver) -> None:
        self._search = search
        self._base = base
        self._options = options
        self._observer = observer
        self._target = target_of(base.experiment)
        self._survey = Survey(options.runs, options.home)
        self._recorded = self._survey.pieces(base.experiment.name)
        self._spent = 0
        self._failed = 0

    def run(self) -> SearchOutcome:
        """Run trials until the budget allows no further one. Raises NdreproError where none reached its first rung."""
        self._observer.begins(self._target, self._recorded_epochs(), self._search.budget_epochs)
        study, trials = _optuna_study(self._search), []
        while self._spent + self._search.rungs[0] <= self._search.budget_epochs:
            trials.append(self._trial(study))
        return self._outcome([trial for trial in trials if trial.pieces])

    def _trial(self, study: optuna.Study) -> Trial:
        """One trial, rung by rung, until it is stopped, fails, completes, or the budget is used up."""
        import optuna

        asked = study.ask(_distributions(self._search))
        # six digits: what is run is what a person would copy
        values = {key: float(f"{value:.6g}") for key, value in asked.params.items()}
        trial = Trial(asked.number, values, self._search.experiment(self._base.experiment, asked.number, values))
        state = optuna.trial.TrialState.PRUNED
        for rung, epochs in enumerate(self._search.rungs):
            before = self._search.rungs[rung - 1] if rung else 0
            if self._spent + epochs - before > self._search.budget_epochs:
                break
            self._spent += epochs - before
            try:
                piece, recorded = self._piece(trial, epochs - before)
            except TrainingFailed as error:
                self._failed += 1
                self._observer.failed(self._target, trial, error)
                state = optuna.trial.TrialState.FAIL
                break
            trial = replace(trial, pieces=(*trial.pieces, piece))
            asked.report(piece.error, step=self._search.reduction**rung)
            whole = epochs == self._search.rungs[-1]
            goes_on = not whole and not asked.should_prune()
            self._observer.reached(self._target, trial, epochs, goes_on, recorded)
            if not goes_on:
                state = optuna.trial.TrialState.COMPLETE if whole else state
                break
        complete = state == optuna.trial.TrialState.COMPLETE
        study.tell(asked, trial.error if complete else None, state)
        return trial

    def _piece(self, trial: Trial, epochs: int) -> tuple[Piece, bool]:
        """The trial's next piece, taken from its record or trained now. Raises TrainingFailed."""
        last = trial.pieces[-1] if trial.pieces else None
        key = identity(trial.experiment, self._base.environment), last.step if last else 0, epochs
        status = self._recorded.get(key)
        if status is not None:
            piece = _read_piece(status)
            if TrainingRecord.of(piece.manifest).continued_digest == (last.digest if last else None):
                return piece, True
        return self._train(trial, last, epochs), False

    def _train(self, trial: Trial, last: Piece | None, epochs: int) -> Piece:
        segment, origin = Segment(0, epochs, None), None
        if last is not None:
            cure = "remove this run, and search again"
            segment = Segment(last.step, epochs, signed_checkpoint(last.folder, last.manifest, last.step, cure))
            origin = Resource(CONTINUED_RUN, digest={"sha256": last.digest}, annotations={"run": last.run})
        finished = execution.run(trial.experiment, self._options, Observer(), origin=origin, segment=segment)
        if finished.outcome in ("interrupted", "killed"):
            raise NdreproError(
                f"the search of {' '.join(self._target)} was {finished.outcome} in trial {trial.number}",
                "the same command resumes it",
            )
        if finished.error is not None:
            raise finished.error
        # loaded now: the first run of all makes the key
        verdict = verify(finished.folder.root, trust=TrustPolicy.load(self._options.home), manifest_only=True)
        if verdict.manifest is None or not verdict.ok:
            raise NdreproError(f"{finished.folder.root}: its manifest does not verify", "see `ndrepro verify`")
        return _read_piece(RunStatus("done", finished.folder, manifest=verdict.manifest))

    def _outcome(self, trials: Sequence[Trial]) -> SearchOutcome:
        """The best of those that reached the highest rung; of equals the first."""
        if not trials:
            raise NdreproError(
                f"{' '.join(self._target)}: all {self._failed} trials broke", "see their logs with `ndrepro list`"
            )
        farthest = max(len(trial.pieces) for trial in trials)
        best = min((trial for trial in trials if len(trial.pieces) == farthest), key=lambda trial: trial.error)
        rungs = self._search.rungs
        return SearchOutcome(
            *self._target,
            values=best.values,
            trial=best.number,
            epochs=rungs[farthest - 1],
            validation_error=best.error,
            spent_epochs=self._spent,
            reached=tuple(sum(len(trial.pieces) > rung for trial in trials) for rung in range(len(rungs))),
            failed=self._failed,
            runs={piece.run: piece.digest for piece in best.pieces},
        )

    def _recorded_epochs(self) -> int:
        """Epochs of pieces that some trial of this search may be found to have been trained in."""
        return min(sum(epochs for _, _, epochs in self._recorded), self._search.budget_epochs)


def _optuna_study(search: Search) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        direction="minimize",
        sampler=optuna.samplers.RandomSampler(seed=search.seed % 2**32),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=search.reduction),
    )


def _distributions(search: Search) -> dict[str, Any]:
    from optuna.distributions import FloatDistribution

    return {key: FloatDistribution(span.low, span.high, log=span.log) for key, span in sorted(search.space.items())}


def _read_piece(status: RunStatus) -> Piece:
    """What a verified manifest of a piece says."""
    folder, manifest = status.folder, status.manifest
    assert folder is not None and manifest is not None
    last = TrainingRecord.of(manifest).last_scores
    if last is None:
        raise NdreproError(f"{folder.root}: it completed without a whole epoch", "remove it, and search again")
    digest = file_digest(folder.manifest).sha256
    return Piece(folder, manifest, digest, last.step, 1.0 - last.test_accuracy)
