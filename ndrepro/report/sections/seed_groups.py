"""Runs that differ by nothing but their seeds, gathered: a cell has n, a mean and a spread, or says that it cannot.

Runs of unlike environments (versions, threads, device, determinism) are never averaged into one another. Where a run
diverged its accuracies may still be finite; a number that is not finite keeps its cell from having a mean, and is said.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ndrepro.analysis.results.results import ResultRow
from ndrepro.analysis.statistics.intervals import FEWEST_RUNS, Interval, mean_interval, prediction_interval
from ndrepro.protocol.experiment.settings import shown_value
from ndrepro.report.elements.table import MISSING

PERCENT = (0.0, 100.0)


@dataclass(frozen=True)
class Spread:
    """Some replicates of one quantity. ``low`` and ``high`` are the interval of the mean: ``None`` below three values.

    The interval is Student's, of 95 % (``ndrepro.analysis.statistics.intervals``), without what lies outside the range
    that the quantity can have: a mean accuracy cannot are there, so that nothing is lost. ``next`` is the interval of
    one more run, which does not shrink to nothing as runs are added.
    """

    n: int
    mean: float | None
    deviation: float | None
    low: float | None
    high: float | None
    values: tuple[float, ...]
    next: tuple[float, float] | None = None

    @classmethod
    def of(cls, values: Iterable[float], within: tuple[float, float] | None = None) -> Spread:
        """The spread of some values, which can only lie ``within`` two bounds; without those there is no interval.

        There is no mean where a value is not finite, or where there is none.
        """
        found = tuple(values)
        if not found or not all(map(math.isfinite, found)):
            return cls(len(found), None, None, None, None, found)
        if len(found) == 1:
            return cls(1, found[0], None, None, None, found)
        interval = mean_interval(found)
        mean, deviation = interval.estimate, interval.spread
        if within is None or len(found) < FEWEST_RUNS:
            return cls(len(found), mean, deviation, None, None, found)
        low, high = _inside(interval, within)
        return cls(len(found), mean, deviation, low, high, found, _inside(prediction_interval(found), within))

    @property
    def text(self) -> str:
        """``91.94 [91.49, 92.39]``: the mean and its interval; the mean alone where there is none."""
        if self.mean is None:
            return "NaN" if self.values else MISSING
        if self.low is None or self.high is None:
            return f"{self.mean:.2f}"
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"

    def to_json(self) -> dict[str, Any]:
        """The numbers, each interval as its two ends."""
        return {
            "n": self.n,
            "mean": self.mean,
            "standard_deviation": self.deviation,
            "interval_95": None if self.low is None else [self.low, self.high],
            "one_more_run_95": self.next,
            "values": self.values,
        }


@dataclass(frozen=True)
class SeedGroup:
    """Runs of one experiment in one execution environment, a seed each. ``key`` is short, and its own for ever."""

    key: str
    runs: tuple[ResultRow, ...]
    test: Spread
    train: Spread
    seconds: Spread

    @property
    def first(self) -> ResultRow:
        """Any of its runs, for what they share."""
        return self.runs[0]

    @property
    def settings(self) -> str:
        """What else of the experiment is not its name's default, and data that are not the published files."""
        return settings_text(self.first)

    @property
    def n(self) -> int:
        """How many runs."""
        return len(self.runs)

    def to_json(self) -> dict[str, Any]:
        """What the runs have in common, their scores, and their identifiers."""
        one = self.first
        return {
            "key": self.key,
            "name": one.name,
            "settings": one.settings,
            "data": one.data,
            "cell": one.cell,
            "environment": one.environment,
            "determinism": one.determinism,
            "threads": one.threads,
            "device": one.device,
            "instructions": one.instructions,
            "test_accuracy_percent": self.test,
            "train_accuracy_percent": self.train,
            "train_seconds": self.seconds,
            "runs": [run.run_id for run in self.runs],
        }


def _inside(interval: Interval, within: tuple[float, float]) -> tuple[float, float]:
    return max(interval.low, within[0]), min(interval.high, within[1])


def cells_of(runs: Iterable[ResultRow]) -> tuple[SeedGroup, ...]:
    """Every cell of some distinct runs, in the order of data set, architecture, epochs, method."""
    grouped: dict[tuple[Any, ...], list[ResultRow]] = {}
    for run in runs:
        grouped.setdefault((*run.experiment, *run.execution_environment), []).append(run)
    cells = [_cell(key, tuple(found)) for key, found in grouped.items()]
    return tuple(sorted(cells, key=_order))


def settings_text(run: ResultRow) -> str:
    """``train_images=32 deconv.block=16``, with digests shortened; data that are not the published files too."""
    return " ".join(f"{key}={_plain(shown_value(key, value))}" for key, value in sorted(run.distinctions.items()))


def _cell(key: Sequence[Any], runs: tuple[ResultRow, ...]) -> SeedGroup:
    digest = hashlib.sha256("\0".join(map(str, key)).encode()).hexdigest()[:10]
    ordered = tuple(sorted(runs, key=lambda run: (run.seed, run.started)))
    seconds = [run.train_seconds for run in ordered if run.train_seconds is not None]
    return SeedGroup(
        f"cell-{digest}",
        ordered,
        Spread.of((run.test_accuracy_percent for run in ordered), PERCENT),
        Spread.of((run.train_accuracy_percent for run in ordered), PERCENT),
        Spread.of(seconds),
    )


def _order(cell: SeedGroup) -> tuple[Any, ...]:
    one = cell.first
    return (one.dataset, one.arch, one.epochs, one.method, cell.settings, one.environment, one.threads, cell.key)


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
