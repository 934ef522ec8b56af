"""Learning curves of the user's own runs: train and test accuracy by epoch, means and ranges over seeds.

One panel for every data set, network and number of epochs; one series for every experiment and environment in it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ndrepro.report.elements import style
from ndrepro.report.elements.figure import Figure
from ndrepro.report.figures.curves import curve_of
from ndrepro.report.figures.method_colours import method_colours
from ndrepro.report.sections.group_labels import by_subject, labels_of
from ndrepro.report.sections.seed_groups import SeedGroup
from ndrepro.text.plurals import plural

KEY = "learning_curves"
_MOST_PANELS, _MOST_SERIES, _MOST_SEEDS = 8, 5, 20


@dataclass(frozen=True)
class EpochRange:
    """One epoch of a series in percent: means over ``n`` runs, and the lowest and highest test accuracy."""

    epoch: int
    train: float
    test: float
    lowest: float
    highest: float
    n: int


@dataclass(frozen=True)
class Series:
    """The learning curve of one seed group."""

    label: str
    colour: str
    epochs: tuple[EpochRange, ...]


@dataclass(frozen=True)
class Panel:
    """The series of one data set, network and number of epochs."""

    title: str
    series: tuple[Series, ...]


def learning_curves(groups: Sequence[SeedGroup]) -> tuple[Figure, ...]:
    """The figure of learning curves; empty where no run of several epochs has its signed log."""
    subjects = {subject: found for subject, found in by_subject(groups).items() if subject[2] > 1}
    drawn = {subject: _alternating(found)[:_MOST_SERIES] for subject, found in list(subjects.items())[:_MOST_PANELS]}
    omitted = sum(map(len, subjects.values())) - sum(map(len, drawn.values()))
    panels = [panel for subject, found in drawn.items() if (panel := _panel(subject, found)).series]
    if not panels:
        return ()
    more = f" Not drawn for want of space: {plural(omitted, 'experiment')} more." if omitted else ""
    return (
        Figure(
            KEY,
            "Learning curves",
            "Test (solid, with markers) and train accuracy (dashed) by epoch, means over seeds. "
            f"The band spans the lowest and the highest test accuracy of any seed.{more}",
            "Train and test accuracy by epoch, one panel for each data set, network and number of epochs",
            lambda path: _draw(path, panels),
            [asdict(panel) for panel in panels],
            inline=True,
        ),
    )


def _alternating(groups: Sequence[SeedGroup]) -> list[SeedGroup]:
    """The first of every method, then the second of every method: what is not drawn is never a whole method."""
    methods = [group.first.method for group in groups]
    return [
        group for _, group in sorted(enumerate(groups), key=lambda each: methods[: each[0]].count(methods[each[0]]))
    ]


def _panel(subject: tuple[str, str, int], groups: Sequence[SeedGroup]) -> Panel:
    dataset, network, epochs = subject
    labels, colours = labels_of(groups), method_colours(groups)
    found = [_series(group, labels[group.key], colour) for group, colour in zip(groups, colours, strict=True)]
    return Panel(f"{network} on {dataset}, {plural(epochs, 'epoch')}", tuple(one for one in found if one is not None))


def _series(group: SeedGroup, label: str, colour: str) -> Series | None:
    curves = [curve for run in group.runs[:_MOST_SEEDS] if (curve := curve_of(run)) is not None]
    length = min((len(curve.test_accuracy_percent) for curve in curves), default=0)
    epochs = []
    for at in range(length):
        tests = [curve.test_accuracy_percent[at] for curve in curves]
        trains = [curve.train_accuracy_percent[at] for curve in curves]
        if all(map(math.isfinite, (*tests, *trains))):
            numbers = statistics.fmean(trains), statistics.fmean(tests), min(tests), max(tests)
            epochs.append(EpochRange(at + 1, *numbers, len(tests)))
    return Series(label, colour, tuple(epochs)) if epochs else None


def _draw(path: Path, panels: Sequence[Panel]) -> None:
    hover: dict[str, str] = {}
    heights = [2.3 + style.legend_height([series.label for series in panel.series]) for panel in panels]
    with style.column(*heights) as (figure, parts):
        for number, (part, panel) in enumerate(zip(parts, panels, strict=True)):
            axes = part.subplots()
            for series_number, series in enumerate(panel.series):
                _draw_series(axes, series, series_number, f"{KEY}-{number}-{series_number}", hover)
            style.finish(axes, panel.title, "epoch", "accuracy, %")
            axes.xaxis.get_major_locator().set_params(integer=True)
            style.legend(part)
        style.save_svg(figure, path, hover)


def _draw_series(axes: Any, series: Series, number: int, name: str, hover: dict[str, str]) -> None:
    epochs = [each.epoch for each in series.epochs]
    look = {"color": series.colour, "marker": style.MARKERS[number % len(style.MARKERS)]}
    axes.plot(epochs, [each.train for each in series.epochs], color=series.colour, linestyle="--", linewidth=0.8)
    axes.plot(epochs, [each.test for each in series.epochs], label=style.literal(series.label), **look)
    lows, highs = [each.lowest for each in series.epochs], [each.highest for each in series.epochs]
    if max(each.n for each in series.epochs) > 1:
        axes.fill_between(epochs, lows, highs, color=series.colour, alpha=0.15, linewidth=0)
    for each in series.epochs[:: max(1, len(epochs) // 50)]:
        gid = f"{name}-{each.epoch}"
        axes.plot([each.epoch], [each.test], linestyle="none", gid=gid, **look)
        spread = f" ({each.lowest:.2f} to {each.highest:.2f}, n = {each.n})" if each.n > 1 else " (n = 1)"
        hover[gid] = f"{series.label}, epoch {each.epoch}: test {each.test:.2f} %{spread}, train {each.train:.2f} %"
