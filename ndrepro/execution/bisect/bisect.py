"""Which package, and which release of it, changed a result: delta debugging between two environments.

    A and B run ── equal? ── nothing to find
         │ A again: repeats its own bits, else no difference could be attributed
         ├─ changes of the locks, in groups that a resolver keeps together
         ├─ a smallest set of groups that moves A's result           (``delta.minimal``)
         ├─ everything but that set: is there a second cause?
         ├─ its leading package alone, and the rest without it, put together by force
         └─ the releases of it at which the result turns              (``delta.turns``)

Every trial is an ordinary recorded run in a cell of its own; what has been run is not run again, so that an
interrupted bisection resumes. "Result" is the numerical trail (every step's bits) or the scores. A set that no
resolver takes, that cannot be installed or whose run fails is unresolved: neither yes nor no, and named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ndrepro.execution.bisect.delta_debugging import CHANGED, SAME, UNRESOLVED, Turn, minimal, turns
from ndrepro.execution.bisect.lock_diff import (
    PYTHON,
    Group,
    VersionChange,
    changes,
    groups,
    is_consistent,
    lead,
    mixture,
)
from ndrepro.execution.bisect.releases import releases_between
from ndrepro.execution.environments import add_cell, matrix
from ndrepro.execution.environments.matrix import Cell
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.run import RunOptions, run
from ndrepro.execution.studies.run_status import DONE, Survey
from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.study.study import StudyRun
from provenance.errors import ProvenanceError
from provenance.formats.digest import file_digest
from provenance.formats.trail import Trail, compare

BITS = "bits"
SCORES = "scores"


@dataclass(frozen=True)
class PackageTrial:
    """One set of packages: the changes, the cell, the run, and its outcome.

    ``divergence`` is the first step whose bits differ from A's and the tensors that do, None where none differs;
    ``result`` the digest of what is compared, by which trials are distinguished.
    """

    title: str
    cell: str
    outcome: str
    run: RunFolder | None = None
    divergence: tuple[int, tuple[str, ...]] | None = None
    reason: str = ""
    result: str = ""

    def to_json(self) -> dict[str, Any]:
        """Title, cell, outcome, run, and the first step and tensors that differ."""
        return {
            "title": self.title,
            "cell": self.cell,
            "outcome": self.outcome,
            "run": self.run and self.run.root,
            "step": self.divergence[0] if self.divergence else None,
            "tensors": self.divergence[1] if self.divergence else [],
            "result": self.result or None,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class BisectResult:
    """The result of a bisection.

    Attributes:
        trials: all of them, in order; the first three are A, A again and B. groups: the locks' differences, those
        together that move together. cause: the groups of the smallest set found; empty where A and B agree. others: the
        effect of all the rest without the cause: changed, if there is a second cause; None where there is none. alone:
        the effect of the cause's leading package alone, and of the rest without it; None where not tested. turns:
        releases of that package, each with the next one that could be tried, whose results differ, in their
            order. None if not asked.
        row: all of its releases between A's and B's, these included; ``untried`` are those that were, and could not be.
        everywhere: whether each of them was tried. If not, results may turn and turn back between two that agree.
        made: cells that were made for this.
    """

    experiment: Experiment
    on: str
    first: str
    second: str
    trials: tuple[PackageTrial, ...] = ()
    groups: tuple[Group, ...] = ()
    cause: tuple[Group, ...] = ()
    others: PackageTrial | None = None
    alone: tuple[PackageTrial, PackageTrial] | None = None
    turns: tuple[Turn[str], ...] | None = None
    row: tuple[str, ...] = ()
    untried: tuple[str, ...] = ()
    everywhere: bool = False
    made: tuple[str, ...] = ()

    @property
    def package(self) -> str | None:
        """The package that the cause is called after, None where there is no cause or more than one group in it."""
        return lead(self.cause[0]).name if len(self.cause) == 1 else None

    @property
    def release(self) -> tuple[str, str] | None:
        """The last release that leaves the result as it was, and the next that does not; None where none is known."""
        return (self.turns[0].last, self.turns[0].next) if self.turns else None

    def to_json(self) -> dict[str, Any]:
        """The answer of `ndrepro bisect --json`."""
        return {
            "experiment": self.experiment,
            "on": self.on,
            "first": self.first,
            "second": self.second,
            "identical": not self.cause,
            "package": self.package,
            "release": self.release,
            "turns": self.turns,
            "releases": self.row,
            "unresolved_releases": self.untried,
            "every_release_tried": self.everywhere,
            "cause": [[str(change) for change in group] for group in self.cause],
            "groups": [[str(change) for change in group] for group in self.groups],
            "others": self.others,
            "alone": self.alone,
            "trials": self.trials,
            "cells_made": self.made,
        }


@dataclass
class Bisection:
    """One search. ``tell`` is called with every trial as it ends, ``say`` with progress messages.

    ``train`` makes the run of a cell, or answers with one that is there unless it is to be fresh; it raises
    ProvenanceError where there is none. Left out, it is a recorded run.
    """

    experiment: Experiment
    first: Cell
    second: Cell
    options: RunOptions
    on: str = BITS
    tell: Callable[[PackageTrial], None] = lambda trial: None
    say: Callable[[str], None] = lambda text: None
    train: Callable[[Cell, bool], RunFolder] | None = None
    _trials: list[PackageTrial] = field(default_factory=list)
    _known: dict[str, PackageTrial] = field(default_factory=dict)
    _made: list[str] = field(default_factory=list)
    _reference: RunFolder | None = None

    def find(self, *, releases: bool = True, everywhere: bool = False) -> BisectResult:
        """Search. ``everywhere``: try every release of the package that is found.

        Raises NdreproError where A does not run, does not repeat itself, or B does not run.
        """
        blank = BisectResult(self.experiment, self.on, self.first.name, self.second.name)
        self._ends()
        if self._trials[-1].outcome == SAME:
            return replace(blank, trials=tuple(self._trials))
        self.say("asking the resolver which packages move together")
        found = groups(self.first, self.second, lambda chosen: is_consistent(self._mixture(chosen)))
        cause = minimal(found, lambda chosen: self._test(_flat(chosen)).outcome)
        rest = [group for group in found if group not in cause]
        blank = replace(blank, groups=found, cause=cause, others=self._test(_flat(rest)) if rest else None)
        if len(cause) == 1:
            blank = replace(blank, alone=self._by_force(cause[0]))
        if len(cause) == 1 and releases:
            blank = self._with_turns(blank, cause[0], everywhere)
        return replace(blank, trials=tuple(self._trials), made=tuple(self._made))

    def _ends(self) -> None:
        """A, A again, B."""
        reference = self._run(self.first, f"A: {self.first.name}")
        if reference.run is None:
            raise NdreproError(f"{self.first.name}: {reference.reason}", "a bisection begins with two runs that work")
        self._reference = reference.run
        self._keep(self._judged(reference))
        again = self._keep(self._judged(self._run(self.first, f"A again: {self.first.name}", fresh=True)))
        if again.outcome != SAME:
            raise NdreproError(
                f"{self.first.name} does not repeat its own {self.on}, so no difference can be attributed",
                "use determinism=deterministic, and a fixed number of threads",
            )
        other = self._keep(self._judged(self._run(self.second, f"B: {self.second.name}")))
        if other.run is None:
            raise NdreproError(f"{self.second.name}: {other.reason}", "a bisection begins with two runs that work")

    def _test(self, chosen: tuple[VersionChange, ...], forced: bool = False) -> PackageTrial:
        """A's cell with some changes made. ``forced``: also where no resolver would."""
        lock = self._mixture(chosen)
        if lock in self._known:
            return self._known[lock]
        title = _title(chosen)
        if set(chosen) == set(changes(self.first, self.second)):
            trial = replace(next(trial for trial in self._trials if trial.cell == self.second.name), title=title)
        elif not forced and not is_consistent(lock):
            trial = self._resolved(chosen, title)
        else:
            trial = self._keep(self._judged(self._run(self._cell(lock, title), title)))
        self._known[lock] = trial
        return trial

    def _by_force(self, group: Group) -> tuple[PackageTrial, PackageTrial] | None:
        """The leading package without what it moves with, and the rest without it; whether a resolver would or not."""
        leading = lead(group)
        rest = tuple(change for change in group if change is not leading)
        if not rest:
            return None
        self.say(f"taking {leading.name} apart from what it moves with")
        return self._test((leading,), forced=True), self._test(rest, forced=True)

    def _with_turns(self, finding: BisectResult, group: Group, everywhere: bool) -> BisectResult:
        leading = lead(group)
        if leading.before is None or leading.after is None:
            return finding
        self.say(f"asking the index for releases of {leading.name}")
        row = releases_between(leading.name, leading.before, leading.after, self.first.python)
        known: dict[str, str] = {}

        def answer(release: str) -> str:
            known[release] = self._release(leading, release)
            return known[release]

        found = turns(row, answer, everywhere=everywhere)
        untried = tuple(release for release in row if known.get(release) == UNRESOLVED)
        return replace(finding, turns=found, row=row, untried=untried, everywhere=everywhere)

    def _release(self, leading: VersionChange, release: str) -> str:
        """A with another release of the leading package; of the rest only what that needs changes."""
        if release == leading.before:
            return self._trials[0].result
        return self._as_needed({leading.name: release}, f"{leading.name} {release}").result or UNRESOLVED

    def _resolved(self, chosen: tuple[VersionChange, ...], title: str) -> PackageTrial:
        """Changes that cannot be made as the locks have them, tried with whatever else they need as it fits A."""
        wanted = {change.name: change.after for change in chosen if change.name in _named(self.first) and change.after}
        python = next((change.after for change in chosen if change.name == PYTHON), None)
        leading = lead(chosen)
        if leading.name not in wanted and python is None:
            return self._keep(PackageTrial(title, "-", UNRESOLVED, reason="no resolver takes these together"))
        moved = {leading.name: wanted[leading.name]} if leading.name in wanted else {}
        return self._as_needed(moved, f"{leading}, the rest as it needs", chosen, python)

    def _as_needed(
        self, moved: dict[str, str], title: str, chosen: tuple[VersionChange, ...] = (), python: str | None = None
    ) -> PackageTrial:
        """A with the packages of ``moved`` at other versions, on a Python that may be another.

        Of the packages that A's requirements name, those of ``chosen`` may move with them (with none given, all may),
        and all keep A's version where they can; the others stay as they are.
        """
        free = {change.name for change in chosen} if chosen else set(_named(self.first))
        wanted = [f"{name}=={version}" for name, version in moved.items()]
        for name in _named(self.first):
            if name not in moved:
                wanted.append(name if name in free else f"{name}=={self.first.version(name)}")
        before = self.first.lock.read_text(encoding="utf-8")
        try:
            lock = add_cell.resolve(wanted, python or self.first.python, preferring=before)
        except ProvenanceError as error:
            return self._keep(PackageTrial(title, "-", UNRESOLVED, reason=error.message))
        return self._keep(self._judged(self._run(self._cell(lock, title), title)))

    def _mixture(self, chosen: Iterable[VersionChange]) -> str:
        return mixture(self.first, self.second, chosen)

    def _cell(self, lock: str, title: str) -> Cell:
        """The cell of a lock, named after its content."""
        name = f"bisect-{hashlib.sha256(lock.encode()).hexdigest()[:10]}"
        known = {cell.name: cell for cell in matrix.added_cells()}
        if name in known:
            return known[name]
        self._made.append(name)
        return add_cell.keep(name, [f"# {self.first.name}, but for: {title}"], lock)

    def _run(self, cell: Cell, title: str, fresh: bool = False) -> PackageTrial:
        """The trial of a cell, UNRESOLVED until it has been judged; without a run where there is none to be had."""
        try:
            matrix.create(cell)
            return PackageTrial(title, cell.name, UNRESOLVED, (self.train or self._recorded)(cell, fresh))
        except ProvenanceError as error:
            return PackageTrial(title, cell.name, UNRESOLVED, reason=error.message)

    def _recorded(self, cell: Cell, fresh: bool) -> RunFolder:
        """The recorded run of a cell, made unless there is one that counts."""
        options = replace(self.options, environment=cell.name, container=None)
        status = Survey(options.runs, options.home).status(StudyRun("", self.experiment, cell.name))
        if status.folder is not None and status.state == DONE and not fresh:
            return status.folder
        finished = run(self.experiment, options, Observer())
        if finished.outcome != "completed":
            raise finished.error or NdreproError(f"{finished.outcome} before the run was complete")
        return finished.folder

    def _judged(self, trial: PackageTrial) -> PackageTrial:
        """The trial with its outcome, by what its run left and what A's did."""
        if trial.run is None or self._reference is None:
            return trial
        ours, theirs = (file_digest(self._judged_by(run)).sha256 for run in (trial.run, self._reference))
        outcome = SAME if ours == theirs else CHANGED
        return replace(trial, outcome=outcome, divergence=_divergence(self._reference, trial.run), result=ours)

    def _judged_by(self, folder: RunFolder) -> Path:
        return folder.trail if self.on == BITS else folder.metrics

    def _keep(self, trial: PackageTrial) -> PackageTrial:
        self._trials.append(trial)
        self.tell(trial)
        return trial


def _divergence(first: RunFolder, second: RunFolder) -> tuple[int, tuple[str, ...]] | None:
    """The first step whose bits differ, and the tensors; None where none does."""
    found = compare(Trail(first.trail), Trail(second.trail)).divergence
    return None if found is None else (found.step, found.tensors)


def _flat(chosen: Iterable[Group]) -> tuple[VersionChange, ...]:
    return tuple(change for group in chosen for change in group)


def _title(chosen: tuple[VersionChange, ...]) -> str:
    shown = sorted(chosen, key=lambda change: (change.name != "torch", change.name.startswith("nvidia-"), change.name))
    more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
    return ", ".join(map(str, shown[:3])) + more


def _named(cell: Cell) -> list[str]:
    """What the cell's requirements name; all that is pinned where they are not known."""
    source = cell.lock.with_suffix(".in")
    lines = source.read_text(encoding="utf-8").splitlines() if source.is_file() else []
    names = [add_cell.name_of(line) for line in lines if line and not line.startswith("#")]
    return names or [pin.name for pin in cell.pins]
