"""Figures 1a to 1c, 2a and 2b of "Understanding Deep Learning Requires Rethinking Generalization" (Zhang et al. 2017).

    1a  training loss by step: true labels, random labels, shuffled, random and Gaussian pixels
    1b  epochs until the training set is fitted, against the share of labels drawn at random, as a multiple of none
    1c  test error at the end against that share; hollow where the training set was not fitted
    2a  test accuracy by epoch: no regulariser, weight decay, weight decay with augmentation and dropout
    2b  test accuracy by epoch: batch norm everywhere, in the downsampling modules, nowhere

"Fitted" is 98 % train accuracy, as in the EPFL reproduction; their threshold, not zero loss. Which runs make which line
is chosen by ``generalization_series``; a figure is drawn where two of its lines are there. Lines are means over
seeds, in a band from the lowest to the highest.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from ndrepro.analysis.results.results import ResultRow
from ndrepro.report.elements import style
from ndrepro.report.elements.figure import Figure
from ndrepro.report.figures.curves import Curve
from ndrepro.report.figures.generalization_series import Lines, Reader, corrupted, groups_of, normalised, regularised
from ndrepro.text.plurals import span

FITTED_PERCENT = 98.0

Values = Callable[[Curve], Sequence[float]]
_train_loss: Values = attrgetter("train_loss")
_train_accuracy: Values = attrgetter("train_accuracy_percent")
_test_accuracy: Values = attrgetter("test_accuracy_percent")
Panels = Mapping[str, Lines]


def generalization_figures(runs: Sequence[ResultRow]) -> tuple[tuple[Figure, ...], tuple[str, ...]]:
    """Every figure for which there are runs, and what could not be drawn."""
    reader = Reader()
    groups = groups_of(runs)
    made: list[Figure | None] = []
    if groups:
        made += [_figure1a(corrupted(groups, reader)), *_figures1bc(groups, reader)]
    made.append(
        _accuracy_figure(
            "generalization2a",
            "Figure 2a of Zhang et al.: regularisers",
            "Test accuracy by epoch with and without regularisers",
            {"small_inception, batch norm": regularised(runs, reader)},
        )
    )
    made.append(
        _accuracy_figure(
            "generalization2b",
            "Figure 2b of Zhang et al.: batch norm",
            "Test accuracy by epoch with batch norm everywhere, in the downsampling modules, and nowhere",
            {"small_inception": normalised(runs, reader)},
        )
    )
    return tuple(drawn for drawn in made if drawn is not None), reader.notes


def _figure1a(panels: Panels) -> Figure | None:
    if not panels:
        return None
    return Figure(
        "generalization1a",
        "Figure 1a of Zhang et al.: training loss",
        f"Mean training loss of every epoch against optimizer steps. {_seeds(panels)}",
        "Training loss by step under true labels, random labels and changed pixels, one panel for each network",
        lambda path: _draw_curves(path, panels, _train_loss, "training loss, nats"),
        _data(panels, train_loss=_train_loss),
    )


def _figures1bc(groups: Mapping[str, Sequence[ResultRow]], reader: Reader) -> list[Figure | None]:
    points = {name: _points(runs, reader) for name, runs in groups.items()}
    points = {name: found for name, found in points.items() if len({point["labels"] for point in found}) > 1}
    if not points:
        return [None]
    figure_b = Figure(
        "generalization1b",
        "Figure 1b of Zhang et al.: how much longer corrupted labels take to fit",
        f"Epochs until the train accuracy first reaches {FITTED_PERCENT:g} %, as a multiple of those for true labels. "
        "Hollow with an arrow: not reached in the epochs that were run, so at least so much. One mark a run.",
        "Relative epochs until fitted against the share of random labels",
        lambda path: _draw_points(path, points, "slowdown", "epochs to fit, relative"),
        points,
    )
    figure_c = Figure(
        "generalization1c",
        "Figure 1c of Zhang et al.: test error against random labels",
        f"Test error after the last epoch. Hollow: the train accuracy ended below {FITTED_PERCENT:g} %, so the network "
        "had not fitted its training labels. One mark a run.",
        "Test error against the share of random labels",
        lambda path: _draw_points(path, points, "test_error", "test error, %"),
        points,
    )
    return [figure_b if any(point["slowdown"] for found in points.values() for point in found) else None, figure_c]


def _points(runs: Sequence[ResultRow], reader: Reader) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for run in runs:
        curve = reader.curve(run) if run.settings.get("corrupt.pixels", "none") == "none" else None
        if curve is not None and run.finite:
            labels = float(run.settings.get("corrupt.labels", 0))
            epochs = curve.fitted_at(FITTED_PERCENT)
            point: dict[str, Any] = {"run": run.run_id, "seed": run.seed, "labels": labels, "fitted_at": epochs}
            found.append({**point, "epochs": run.epochs, "test_error": 100 - run.test_accuracy_percent})
    clean = {point["seed"]: point["fitted_at"] for point in found if not point["labels"]}
    for point in found:
        reference = clean.get(point["seed"])
        point["fitted"] = point["fitted_at"] is not None
        point["slowdown"] = (point["fitted_at"] or point["epochs"]) / reference if reference else None
    return sorted(found, key=lambda point: (point["labels"], point["seed"]))


def _accuracy_figure(key: str, title: str, alternative: str, panels: Panels) -> Figure | None:
    if not any(panels.values()):
        return None
    return Figure(
        key,
        title,
        f"Test accuracy (lines with marks) and train accuracy (thin) by epoch. {_seeds(panels)}",
        alternative,
        lambda path: _draw_curves(path, panels, _test_accuracy, "accuracy, %", beside=_train_accuracy),
        _data(panels, test_accuracy=_test_accuracy, train_accuracy=_train_accuracy),
    )


def _seeds(panels: Panels) -> str:
    """How many runs a line stands for, in words."""
    number = span(len(curves) for lines in panels.values() for curves in lines.values())
    if number == "1":
        return "One run each: nothing is said of other seeds."
    return f"Means over {number} seeds; the bands reach from the lowest to the highest."


def _data(panels: Panels, **values: Values) -> dict[str, Any]:
    return {
        panel: {
            name: [
                {"run": curve.run.run_id, "seed": curve.run.seed, "steps": list(curve.steps)}
                | {what: list(of(curve)) for what, of in values.items()}
                for curve in curves
            ]
            for name, curves in lines.items()
        }
        for panel, lines in panels.items()
    }


def _draw_curves(path: Path, panels: Panels, values: Values, label: str, beside: Values | None = None) -> None:
    with style.column(*(2.15 + style.legend_height(list(lines)) for lines in panels.values())) as (figure, parts):
        for part, (panel, lines) in zip(parts, panels.items(), strict=True):
            axes = part.subplots()
            for number, (name, curves) in enumerate(lines.items()):
                _draw_line(axes, curves, values, beside, {**style.line(number), "label": name})
            axes.locator_params(axis="x", nbins=4)
            style.finish(axes, panel, "steps", label)
            style.legend(part)
        style.save_svg(figure, path)


def _draw_line(axes: Any, curves: Sequence[Curve], values: Values, beside: Values | None, look: dict[str, Any]) -> None:
    """The mean over seeds, its band, and thin beside it what else there is."""
    steps = curves[0].steps
    every = list(zip(*(values(curve) for curve in curves), strict=True))
    axes.plot(steps, [statistics.fmean(each) for each in every], **look, markevery=max(1, len(steps) // 8))
    if len(curves) > 1:
        low, high = [min(each) for each in every], [max(each) for each in every]
        axes.fill_between(steps, low, high, color=look["color"], alpha=0.15, linewidth=0)
    if beside is not None:
        means = [statistics.fmean(each) for each in zip(*(beside(curve) for curve in curves), strict=True)]
        axes.plot(steps, means, color=look["color"], linestyle=look["linestyle"], linewidth=0.5)


def _draw_points(path: Path, points: Mapping[str, Sequence[Mapping[str, Any]]], what: str, label: str) -> None:
    with style.column(2.25 + style.legend_height(list(points))) as (figure, parts):
        axes = parts[0].subplots()
        for number, (name, found) in enumerate(points.items()):
            look = style.line(number)
            shown = [point for point in found if point[what] is not None]
            where, values = [point["labels"] for point in shown], [point[what] for point in shown]
            axes.plot(where, values, label=name, color=look["color"], linestyle=look["linestyle"], linewidth=0.8)
            for fitted in (True, False):
                chosen = [point for point in shown if point["fitted"] == fitted]
                axes.plot(
                    [point["labels"] for point in chosen],
                    [point[what] for point in chosen],
                    **{**look, "linestyle": "none", "markersize": 5},
                    markerfacecolor=look["color"] if fitted else "white",
                )
                if what == "slowdown" and not fitted:
                    for point in chosen:
                        axes.annotate(
                            "↑", (point["labels"], point[what]), (0, 4), textcoords="offset points", ha="center"
                        )
        style.finish(axes, "", "share of labels drawn at random", label)
        style.legend(parts[0])
        style.save_svg(figure, path)
