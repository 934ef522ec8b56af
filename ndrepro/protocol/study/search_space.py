"""A search for hyper-parameters, as a study describes it: one search for every network and data set of one grid.

    [search]
    grid = "unbiased"              the grid whose runs take what is found
    rungs = [15, 30, 60, 120]      epochs after which a trial is judged; the last are those of the grid's runs
    reduction = 4                  one trial in so many goes on from each rung to the next
    budget_epochs = 10800          epochs that the search of one network on one data set may train
    validation = 0.1               the fraction of the training images that trials are scored on
    seed = 1000                    draws the trials' values; the trial n has this seed plus n
    space.learning_rate = { low = 1e-3, high = 1.0, log = true }

Rungs and reduction are two things: budgets double from rung to rung while three trials of four end at each. So it is
in Bouthillier et al. (2019), who count about 30,000 trainings of 15 epochs, 7,000 of 30 and 1,000 of 60.

What a search found is a table of rows (``SearchOutcome``), in a file beside the study's
(``ndrepro.execution.studies.search_results``). A run of the grid takes the row of its network, method and data set; one
without a row waits for the search. The rows of another search than the study describes count for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.experiment.sections import Seeds

Target = tuple[str, str, str]  # architecture, method, data set

SEARCHABLE = ("learning_rate", "momentum", "weight_decay")


@dataclass(frozen=True)
class Range:
    """From ``low`` to ``high``, both included, drawn evenly or, with ``log``, evenly in the logarithm."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Search:
    """How hyper-parameters are searched; see the module. Raises UsageError where it makes no search."""

    grid: str
    space: Mapping[str, Range]
    budget_epochs: int
    rungs: tuple[int, ...] = (15, 30, 60, 120)
    reduction: int = 4
    validation: float = 0.1
    seed: int = 1000

    def __post_init__(self) -> None:
        """Refuse what makes no search, with the key and what was expected."""
        if not self.space:
            raise UsageError("space: it is empty", f"give a range of {', '.join(SEARCHABLE)}, or of some of them")
        for key, span in self.space.items():
            _check_range(f"space.{key}", key, span)
        if not self.rungs or list(self.rungs) != sorted(set(self.rungs)) or self.rungs[0] < 1:
            raise UsageError(f"rungs={list(self.rungs)}, expected epochs, ascending", "e.g. rungs = [15, 30, 60, 120]")
        if self.reduction < 2:
            raise UsageError(f"reduction={self.reduction}, expected at least 2")
        if self.budget_epochs < self.rungs[-1]:
            raise UsageError(
                f"budget_epochs={self.budget_epochs}, which no whole training of {self.rungs[-1]} epochs fits into",
                "give a larger budget",
            )
        if not 0 < self.validation < 1:
            raise UsageError(f"validation={self.validation!r}, expected a fraction of the training images, below 1")
        if not 0 <= self.seed < 2**62:
            raise UsageError(f"seed={self.seed!r}, expected a whole number, not negative")

    def to_document(self) -> dict[str, Any]:
        """The search as a study file's table has it, defaults written out."""
        spans = {key: asdict(span) for key, span in self.space.items()}
        return {**asdict(self), "rungs": list(self.rungs), "space": spans}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Search:
        """The search in a study file's table. Raises UsageError for an unknown, missing or mistyped key.

        Law: ``Search.from_document(search.to_document()) == search``.
        """
        known = tuple(item.name for item in fields(cls))
        _check_keys(document, known, ("grid", "space", "budget_epochs"))
        space = document["space"]
        if not isinstance(space, Mapping):
            raise UsageError(f"space={space!r}, expected a table of ranges")
        rungs = document.get("rungs", [15, 30, 60, 120])
        if not isinstance(rungs, (list, tuple)) or not all(_is(int, rung) for rung in rungs):
            raise UsageError(f"rungs={rungs!r}, expected a list of whole numbers")
        for key, kind in (("grid", str), ("budget_epochs", int), ("reduction", int), ("seed", int)):
            if key in document and not _is(kind, document[key]):
                raise UsageError(f"{key}={document[key]!r}, expected {'a word' if kind is str else 'a whole number'}")
        if "validation" in document and not _is(float, document["validation"]):
            raise UsageError(f"validation={document['validation']!r}, expected a number")
        given = {**document, "rungs": tuple(rungs), "space": {key: _range(key, span) for key, span in space.items()}}
        return cls(**given)

    def experiment(self, base: Experiment, trial: int, values: Mapping[str, float]) -> Experiment:
        """The experiment of a trial: the grid's, with these values, scored on validation images.

        All trials share the validation images, and each has a seed of its own for everything else. A checkpoint is
        kept wherever a rung may end.
        """
        scored = replace(base, validation=self.validation, test_images=None)
        seeded = replace(scored, seed=self.seed + trial, seeds=Seeds(split=self.seed))
        return with_values(replace(seeded, checkpoint_epochs=math.gcd(*self.rungs)), values)


@dataclass(frozen=True)
class SearchOutcome:
    """What the search of one network on one data set came to.

    ``values`` are those of the trial ``trial``, which had ``epochs`` epochs and ``validation_error`` (a fraction);
    ``reached`` counts the trials that had each rung's epochs, ``failed`` those that broke; ``spent_epochs`` is what
    all of them were trained. ``runs`` are the winner's signed runs, one a rung: the digest of each manifest by run.
    """

    arch: str
    method: str
    dataset: str
    values: Mapping[str, float]
    trial: int
    epochs: int
    validation_error: float
    spent_epochs: int
    reached: tuple[int, ...]
    failed: int = 0
    runs: Mapping[str, str] = field(default_factory=dict)

    @property
    def target(self) -> Target:
        """What was searched."""
        return self.arch, self.method, self.dataset

    def to_json(self) -> dict[str, Any]:
        """Every field, ``reached`` as a list."""
        return {**asdict(self), "reached": list(self.reached)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> SearchOutcome:
        """What ``to_json`` wrote. Raises UsageError for missing, unknown or impossible values."""
        names = tuple(item.name for item in fields(cls))
        _check_keys(document, names, names)
        values = document["values"]
        if not isinstance(values, Mapping) or not all(_is(float, value) for value in values.values()):
            raise UsageError(f"values={values!r}, expected a table of numbers")
        return cls(**{**document, "reached": tuple(document["reached"])})


def target_of(experiment: Experiment) -> Target:
    """What of an experiment a search is made for."""
    return experiment.arch, experiment.method, experiment.dataset


def with_values(experiment: Experiment, values: Mapping[str, float]) -> Experiment:
    """The experiment with found values in place of its own."""
    settings: dict[str, Any] = dict(values)
    return replace(experiment, **settings)


def values_by_target(search: Search, rows: Iterable[SearchOutcome]) -> dict[Target, Mapping[str, float]]:
    """The values of every target that has them for every key of the space."""
    return {row.target: row.values for row in rows if set(row.values) == set(search.space)}


def _check_range(place: str, key: str, span: Range) -> None:
    if key not in SEARCHABLE:
        raise UsageError(f"{place}: it is not searched", f"a range may be of {', '.join(SEARCHABLE)}")
    if not (math.isfinite(span.low) and math.isfinite(span.high) and 0 <= span.low < span.high):
        raise UsageError(f"{place}: low={span.low!r}, high={span.high!r}, expected 0 <= low < high")
    if span.log and not span.low:
        raise UsageError(f"{place}: low=0 with log=true: there is no logarithm of 0", "give a low above 0")


def _range(key: str, document: Any) -> Range:
    if not isinstance(document, Mapping):
        raise UsageError(f"space.{key}={document!r}, expected {{ low = …, high = … }}")
    try:
        _check_keys(document, ("low", "high", "log"), ("low", "high"))
    except UsageError as error:
        raise UsageError(f"space.{key}: {error.message}", error.cure) from None
    low, high, log = document["low"], document["high"], document.get("log", False)
    if not (_is(float, low) and _is(float, high) and isinstance(log, bool)):
        raise UsageError(f"space.{key}={dict(document)!r}, expected numbers, and log true or false")
    return Range(float(low), float(high), log)


def _check_keys(document: Mapping[str, Any], known: tuple[str, ...], needed: tuple[str, ...]) -> None:
    for key in document:
        if key not in known:
            raise UsageError(f"unknown key '{key}'", f"it is one of {', '.join(known)}")
    missing = [key for key in needed if key not in document]
    if missing:
        raise UsageError(f"{', '.join(missing)}: not given")


def _is(kind: type, value: Any) -> bool:
    """Whether a value is of that kind; true and false are no numbers, a whole number will do for any."""
    return isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
