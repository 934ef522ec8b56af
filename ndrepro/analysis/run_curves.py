"""What a run records over its course, as curves: results by epoch, a script's or program's metrics, losses of a trail.

Files are read as they are: nothing is verified here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Scores
from provenance.formats.metrics_log import Row, read_scalars
from provenance.formats.trail import Trail

# what rows of metrics are counted by, the first that they have
_COUNTERS = ("step", "global_step", "iteration", "epoch", "row")
# a program chooses the names of its metrics, and their values
_NAME_LETTERS, _LARGEST = 80, 1e150


@dataclass(frozen=True)
class RunCurve:
    """One quantity over a run: its values, finite or not, at places that ascend."""

    name: str
    places: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class CurvePanel:
    """Curves of one unit, to be drawn together; ``counted`` is what the places count."""

    title: str
    counted: str
    curves: tuple[RunCurve, ...]


def run_curves(folder: RunFolder) -> tuple[CurvePanel, ...]:
    """Everything of a run that can be drawn; none where nothing was recorded yet.

    Raises StorageError or TrailError for files that are not what they should be.
    """
    rows = list(read_scalars(folder.metrics, tolerate_torn=True)) if folder.metrics.exists() else []
    if folder.request.exists():
        return _of_training([Scores.from_row(row) for row in rows])
    return tuple(each for each in (*_of_metrics(rows), *_of_trails(folder.trails)) if each.curves)


def _of_training(scores: list[Scores]) -> tuple[CurvePanel, ...]:
    if not scores:
        return ()
    epochs = tuple(float(row.epoch) for row in scores)
    accuracies = tuple(
        RunCurve(name, epochs, tuple(100 * value for value in values))
        for name, values in (
            ("train", [row.train_accuracy for row in scores]),
            ("test", [row.test_accuracy for row in scores]),
        )
    )
    losses = (
        RunCurve("train", epochs, tuple(row.train_loss for row in scores)),
        RunCurve("test", epochs, tuple(row.test_loss for row in scores)),
    )
    return CurvePanel("accuracy in percent", "epoch", accuracies), CurvePanel("loss", "epoch", losses)


def _of_metrics(rows: list[Row]) -> Iterator[CurvePanel]:
    """One panel for each number that rows log, by the counter that they have."""
    names = list(dict.fromkeys(name for row in rows for name, value in row.items() if _is_number(value)))
    counter = next((name for name in _COUNTERS if name in names), "row")
    for name in (each for each in names if each not in _COUNTERS):
        pairs = [(place if counter == "row" else row.get(counter), row.get(name)) for place, row in enumerate(rows, 1)]
        found = [(_float(at), _float(value)) for at, value in pairs if _is_number(at) and _is_number(value)]
        found = [pair for pair in found if math.isfinite(pair[0])]
        yield _panel(name, counter, found)


def _of_trails(folder: Path) -> Iterator[CurvePanel]:
    """The losses that the trails of a program's processes hold."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    for number, path in enumerate(paths, 1):
        name = "loss by optimizer step" + (f", trail {number} of {len(paths)}" if len(paths) > 1 else "")
        yield _panel(name, "step", [pair for pair in Trail(path).losses() if math.isfinite(pair[1])])


def _panel(name: str, counter: str, found: Iterable[tuple[float, float]]) -> CurvePanel:
    pairs = sorted(found, key=lambda pair: pair[0])
    name = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name[:_NAME_LETTERS])
    curve = RunCurve(name, tuple(place for place, _ in pairs), tuple(value for _, value in pairs))
    return CurvePanel(name, counter, (curve,) if pairs else ())


def _float(value: int | float) -> float:
    """The value; infinite where no axis can have it."""
    try:
        number = float(value)
    except OverflowError:
        number = math.inf if value > 0 else -math.inf
    return number if abs(number) < _LARGEST or not math.isfinite(number) else math.copysign(math.inf, number)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
