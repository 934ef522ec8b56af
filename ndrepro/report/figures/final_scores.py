"""Final test accuracies and training times of the user's own runs, one row for every experiment in one environment."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ndrepro.analysis.statistics.intervals import FEWEST_RUNS
from ndrepro.report.elements import style
from ndrepro.report.elements.figure import Figure
from ndrepro.report.figures.method_colours import method_colour
from ndrepro.report.sections.group_labels import labels_of
from ndrepro.report.sections.seed_groups import SeedGroup, Spread
from ndrepro.text.plurals import plural

_MOST_ROWS = 40
_LETTERS = 50  # in a line of a name


def final_scores(groups: Sequence[SeedGroup]) -> tuple[Figure, ...]:
    """Two dot plots, of accuracy and of time; empty without runs."""
    groups = [group for group in groups if group.test.mean is not None]
    omitted = len(groups) - _MOST_ROWS
    shown = groups[:_MOST_ROWS]
    if not shown:
        return ()
    more = f" {plural(omitted, 'experiment')} more are in the table only." if omitted > 0 else ""
    names = _names(shown)
    accuracy = Figure(
        "final_scores",
        "Final test accuracy",
        "Diamond: mean over seeds; bar: 95 % interval of the mean; dots: single runs. "
        f"Fewer than {FEWEST_RUNS} seeds have no interval.{more}",
        "Test accuracy after the last epoch by experiment, every run, mean and interval",
        lambda path: _draw(path, "final_scores", names, shown, lambda group: group.test, "test accuracy, %", " %"),
        _data(names, shown, "test", lambda group: group.test),
        inline=True,
    )
    timed = [group for group in shown if group.seconds.mean is not None]
    if not timed:
        return (accuracy,)
    time_names = _names(timed)
    time = Figure(
        "training_time",
        "Training time",
        "Time in training steps: mean (diamond) and single runs (dots). "
        "Evaluation and recording are not included. Other work on the machine changes these times, so that they have "
        f"no interval; compare only runs on one device.{more}",
        "Seconds of training by experiment, every run and the mean",
        lambda path: _draw(path, "training_time", time_names, timed, lambda group: group.seconds, "seconds", " s"),
        _data(time_names, timed, "seconds", lambda group: group.seconds),
        inline=True,
    )
    return accuracy, time


def _names(groups: Sequence[SeedGroup]) -> list[str]:
    labels = labels_of(groups)
    several = len({group.first.dataset for group in groups}) > 1
    lengths = len({group.first.epochs for group in groups}) > 1
    names = []
    for group in groups:
        one = group.first
        subject = f"{one.arch}{f' on {one.dataset}' if several else ''}"
        epochs = f", {plural(one.epochs, 'epoch')}" if lengths else ""
        names.append(f"{subject}, {labels[group.key]}{epochs}")
    return names


def _data(
    names: Sequence[str], groups: Sequence[SeedGroup], what: str, value: Callable[[SeedGroup], Spread]
) -> list[dict[str, Any]]:
    return [{"key": group.key, "name": name, what: value(group)} for name, group in zip(names, groups, strict=True)]


def _draw(
    path: Path,
    key: str,
    names: Sequence[str],
    groups: Sequence[SeedGroup],
    value: Callable[[SeedGroup], Spread],
    label: str,
    unit: str,
) -> None:
    hover: dict[str, str] = {}
    shown = [textwrap.fill(name, _LETTERS, max_lines=2, placeholder=" …") for name in names]
    # a row is its name, of one line or two, and the marks below it
    heights = [0.52 + 0.17 * text.count("\n") for text in shown]
    with style.column(sum(heights) + 0.5) as (figure, parts):
        axes = parts[0].subplots()
        top = 0.0
        for row, (name, group) in enumerate(zip(names, groups, strict=True)):
            _draw_row(axes, top + heights[row] - 0.2, f"{key}-{row}", name, group, value(group), unit, hover)
            text = style.literal(shown[row])
            axes.text(0.0, top + 0.07, text, transform=axes.get_yaxis_transform(), ha="left", va="top")
            top += heights[row]
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_ylim(top + 0.04, 0)
        axes.margins(x=0.06)
        axes.xaxis.get_major_locator().set_params(nbins=6)
        axes.grid(axis="x")
        style.finish(axes, "", label, "")
        style.save_svg(figure, path, hover)


def _draw_row(
    axes: Any, height: float, gid: str, name: str, group: SeedGroup, spread: Spread, unit: str, hover: dict[str, str]
) -> None:
    colour = method_colour(group)
    pairs = list(zip(group.runs, spread.values, strict=False))
    for place, (run, each) in enumerate(pairs):
        if math.isfinite(each):
            dot = f"{gid}-{place}"
            axes.plot([each], [height + 0.11], "o", color=colour, alpha=0.6, markersize=3.6, markeredgewidth=0, gid=dot)
            hover[dot] = f"{name}, seed {run.seed}: {each:.2f}{unit}"
    if spread.low is not None and spread.high is not None:
        axes.plot([spread.low, spread.high], [height] * 2, color=colour, linewidth=1.6)
    axes.plot([spread.mean], [height], "D", color=colour, markersize=5, gid=gid)
    hover[gid] = f"{name}: mean {spread.text}{unit} (n = {spread.n})"
