"""Figures 1a to 1c, 2a and 2b of "Understanding Deep Learning Requires Rethinking Generalization" (Zhang et al. 2017).

    1a  training loss by step: true labels, random labels, shuffled, random and Gaussian pixels
    1b  epochs until the training set is fitted, against the share of labels drawn at random, as a multiple of none
    1c  test error at the end against that share; hollow where the training set was not fitted
    2a  test accuracy by epoch: no regulariser, weight decay, weight decay with augmentation and dropout
    2b  test accuracy by epoch: batch norm everywhere, in the downsampling modules, nowhere

"Fitted" is 98 % train accuracy, as in the EPFL reproduction; their threshold, not zero loss. Curves come from logs that
are the signed ones. Runs are compared that differ in nothing else, and a figure is drawn where two of its curves are
there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ndrepro.analysis.scores import Score
from ndrepro.report import style
from ndrepro.report.contents import Drawn
from ndrepro.report.curves import Curve, curve_of
from ndrepro.report.designs import design, whole_settings

FITTED_PERCENT = 98.0
_CORRUPTION = ("corrupt.labels", "corrupt.pixels", "corrupt.test_pixels")
_REGULARISERS = ("weight_decay", "augment", "jitter", "dropout")

Curves = Mapping[str, Mapping[str, Curve]]  # panel -> series -> curve


def generalization_figures(runs: Sequence[Score]) -> tuple[tuple[Drawn, ...], tuple[str, ...]]:
    """Every figure for which there are runs, and what could not be drawn."""
    corrupted = [run for run in runs if any(key in run.settings for key in _CORRUPTION)]
    inception = [run for run in runs if run.arch == "small_inception"]
    if not corrupted and len(inception) < 2:
        return (), ()
    reader = _Reader()
    made: list[Drawn | None] = []
    if corrupted:
        groups = _groups(runs, corrupted)
        made += [_figure1a(groups, reader), *_figures1bc(groups, reader)]
    made += [_figure2a(inception, reader), _figure2b(inception, reader)]
    return tuple(drawn for drawn in made if drawn is not None), reader.notes


class _Reader:
    """Reads curves, and counts those that cannot be believed."""

    def __init__(self) -> None:
        self._missing: list[str] = []

    def curve(self, run: Score) -> Curve | None:
        found = curve_of(run)
        if found is None and run.run_id not in self._missing:
            self._missing.append(run.run_id)
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        if not self._missing:
            return ()
        return (f"Curves of {len(self._missing)} runs are not drawn: metrics.jsonl is gone, or is not the signed one.",)


def _groups(runs: Sequence[Score], corrupted: Sequence[Score]) -> dict[str, list[Score]]:
    """Runs that differ in corruption (and seed) alone, by network; true labels and pixels among them."""
    wanted = {(run.arch, run.method, design(run, _CORRUPTION)) for run in corrupted}
    grouped: dict[Any, list[Score]] = defaultdict(list)
    for run in runs:
        key = (run.arch, run.method, design(run, _CORRUPTION))
        if key in wanted:
            grouped[key].append(run)
    largest: dict[str, list[Score]] = {}
    for (arch, method, _), found in grouped.items():
        name = f"{arch} {method}"
        if len(found) > len(largest.get(name, ())):
            largest[name] = found
    return dict(sorted(largest.items()))


def condition(run: Score) -> str:
    """What was done to the data, in the words of figure 1a; "" for what is not in it."""
    labels, pixels = run.settings.get("corrupt.labels", 0), run.settings.get("corrupt.pixels", "none")
    names = {"none": "true labels", "shuffled": "shuffled pixels", "random": "random pixels", "gaussian": "Gaussian"}
    if pixels != "none":
        return names[pixels] if not labels else ""
    return {0: "true labels", 1: "random labels"}.get(labels, "")


def _figure1a(groups: Mapping[str, Sequence[Score]], reader: _Reader) -> Drawn | None:
    curves: dict[str, dict[str, Curve]] = {}
    for name, runs in groups.items():
        for run in sorted(runs, key=lambda run: run.seed):
            words = condition(run)
            found = reader.curve(run) if words else None
            if found is not None:
                curves.setdefault(name, {}).setdefault(words, found)
    curves = {name: series for name, series in curves.items() if len(series) > 1}
    if not curves:
        return None
    return Drawn(
        "generalization1a",
        "Figure 1a of Zhang et al.: training loss",
        "Mean training loss of every epoch against optimizer steps, one run each (the lowest seed).",
        "Training loss by step under true labels, random labels and changed pixels, one panel for each network",
        lambda path: _draw_curves(path, curves, "train_loss", "training loss, nats"),
        _data(curves, "train_loss"),
    )


def _figures1bc(groups: Mapping[str, Sequence[Score]], reader: _Reader) -> list[Drawn | None]:
    points = {name: _points(runs, reader) for name, runs in groups.items()}
    points = {name: found for name, found in points.items() if len({point["labels"] for point in found}) > 1}
    if not points:
        return [None]
    figure_b = Drawn(
        "generalization1b",
        "Figure 1b of Zhang et al.: how much longer corrupted labels take to fit",
        f"Epochs until the train accuracy first reaches {FITTED_PERCENT:g} %, as a multiple of those for true labels. "
        "Hollow with an arrow: not reached in the epochs that were run, so at least so much. One mark a run.",
        "Relative epochs until fitted against the share of random labels",
        lambda path: _draw_points(path, points, "slowdown", "epochs to fit, relative"),
        points,
    )
    figure_c = Drawn(
        "generalization1c",
        "Figure 1c of Zhang et al.: test error against random labels",
        f"Test error after the last epoch. Hollow: the train accuracy ended below {FITTED_PERCENT:g} %, so the network "
        "had not fitted its training labels. One mark a run.",
        "Test error against the share of random labels",
        lambda path: _draw_points(path, points, "test_error", "test error, %"),
        points,
    )
    return [figure_b if any(point["slowdown"] for found in points.values() for point in found) else None, figure_c]


def _points(runs: Sequence[Score], reader: _Reader) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for run in runs:
        curve = reader.curve(run) if run.settings.get("corrupt.pixels", "none") == "none" else None
        if curve is not None and run.finite:
            labels = float(run.settings.get("corrupt.labels", 0))
            epochs = curve.fitted_at(FITTED_PERCENT)
            point: dict[str, Any] = {"run": run.run_id, "seed": run.seed, "labels": labels, "fitted_at": epochs}
            found.append({**point, "epochs": run.epochs, "test_error": 100 - run.test_accuracy})
    clean = {point["seed"]: point["fitted_at"] for point in found if not point["labels"]}
    for point in found:
        reference = clean.get(point["seed"])
        point["fitted"] = point["fitted_at"] is not None
        point["slowdown"] = (point["fitted_at"] or point["epochs"]) / reference if reference else None
    return sorted(found, key=lambda point: (point["labels"], point["seed"]))


def _figure2a(runs: Sequence[Score], reader: _Reader) -> Drawn | None:
    groups: dict[Any, dict[str, Score]] = defaultdict(dict)
    for run in sorted(runs, key=lambda run: run.seed):
        words = _regularisers(run)
        if run.method == "bn" and words:
            groups[design(run, _REGULARISERS)].setdefault(words, run)
    series = _largest(groups, reader)
    if not series:
        return None
    curves = {"small_inception, batch norm": series}
    return Drawn(
        "generalization2a",
        "Figure 2a of Zhang et al.: regularisers",
        "Test accuracy (lines) and train accuracy (thin) by epoch, one run each (the lowest seed).",
        "Test accuracy by epoch with and without regularisers",
        lambda path: _draw_curves(path, curves, "test_accuracy", "accuracy, %", beside="train_accuracy"),
        _data(curves, "test_accuracy"),
    )


def _regularisers(run: Score) -> str:
    """What holds the network back, in the words of figure 2a; "" for what is not in it."""
    settings = whole_settings(run)
    if any(key in run.settings for key in _CORRUPTION):
        return ""
    decay, augment, dropout = settings["weight_decay"], settings["augment"], settings["dropout"] or 0
    if augment and dropout and decay:
        return "weight decay, augmentation, dropout"
    return "" if augment or dropout else "weight decay" if decay else "no regulariser"


def _figure2b(runs: Sequence[Score], reader: _Reader) -> Drawn | None:
    names = {"bn": "batch norm", "bn_downsample": "only where the image is halved", "none": "no batch norm"}
    groups: dict[Any, dict[str, Score]] = defaultdict(dict)
    for run in sorted(runs, key=lambda run: run.seed):
        if run.method in names and not any(key in run.settings for key in _CORRUPTION):
            groups[design(run)].setdefault(names[run.method], run)
    series = _largest(groups, reader)
    if not series:
        return None
    curves = {"small_inception": series}
    return Drawn(
        "generalization2b",
        "Figure 2b of Zhang et al.: batch norm",
        "Test accuracy (lines) and train accuracy (thin) by epoch, one run each (the lowest seed).",
        "Test accuracy by epoch with batch norm everywhere, in the downsampling modules, and nowhere",
        lambda path: _draw_curves(path, curves, "test_accuracy", "accuracy, %", beside="train_accuracy"),
        _data(curves, "test_accuracy"),
    )


def _largest(groups: Mapping[Any, Mapping[str, Score]], reader: _Reader) -> dict[str, Curve]:
    """The curves of the group with the most of them, if they are two at least."""
    best = max(groups.values(), key=len, default={})
    found = (
        {name: curve for name, run in best.items() if (curve := reader.curve(run)) is not None} if len(best) > 1 else {}
    )
    return found if len(found) > 1 else {}


def _data(curves: Curves, what: str) -> dict[str, Any]:
    return {
        panel: {
            name: {"run": curve.run.run_id, "steps": list(curve.steps), what: list(getattr(curve, what))}
            for name, curve in series.items()
        }
        for panel, series in curves.items()
    }


def _draw_curves(path: Path, curves: Curves, what: str, label: str, beside: str = "") -> None:
    count = len(curves)
    with style.figure(3.4 * min(count, 3) + 0.4, 3.1, columns=count) as (figure, all_axes):
        panels = [all_axes] if count == 1 else list(all_axes[0])
        for axes, (panel, series) in zip(panels, curves.items(), strict=True):
            for number, (name, curve) in enumerate(series.items()):
                look = {**style.line(number), "markevery": max(1, len(curve.steps) // 8)}
                axes.plot(curve.steps, getattr(curve, what), label=name, **look)
                if beside:
                    axes.plot(curve.steps, getattr(curve, beside), **{**look, "linewidth": 0.5, "marker": ""})
            style.finish(axes, panel, "steps", label)
        panels[-1].legend()
        style.save_svg(figure, path)


def _draw_points(path: Path, points: Mapping[str, Sequence[Mapping[str, Any]]], what: str, label: str) -> None:
    with style.figure(5.2, 3.1) as (figure, axes):
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
        axes.legend()
        style.save_svg(figure, path)
