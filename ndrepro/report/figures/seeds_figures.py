"""Figures 1, 2 and 3 of "Unreproducible Research is Reproducible" (Bouthillier, Laurent and Vincent, ICML 2019).

    1  every seed's ranking of the networks, a row of coloured cells a seed, one panel a data set
    2  the test errors of every network over its seeds, as histograms on one axis
    3  how often each network has each rank, in 1000 samples of one seed of each over all data sets

Two scenarios are distinguished, as there: *biased*, in which all networks have the same hyper-parameters, and
*unbiased*, in which each has its own. Each needs three networks and two seeds that all of them have; of figure 3 all
data sets have all networks, or it is not drawn, and the report says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndrepro.analysis.results.results import ResultRow
from ndrepro.analysis.statistics.rankings import SAMPLES, Rankings, rank_distribution
from ndrepro.analysis.statistics.samples import TooLittle
from ndrepro.report.elements import style
from ndrepro.report.elements.figure import Figure
from ndrepro.report.sections.settings import HYPERPARAMETERS, design, hyperparameters
from ndrepro.text.plurals import plural, span

BIASED, UNBIASED = "biased", "unbiased"
_LEAST_MODELS, _LEAST_SEEDS = 3, 2
_MEANINGS = {
    BIASED: "all networks with the same hyper-parameters",
    UNBIASED: "each network with its own hyper-parameters",
}


@dataclass(frozen=True)
class Scenario:
    """Test accuracies in percent by data set, model and seed; only seeds that every model of the data set has."""

    name: str
    accuracies: Mapping[str, Mapping[str, Mapping[int, float]]]
    notes: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """Every model, in a fixed order."""
        return tuple(sorted({model for models in self.accuracies.values() for model in models}))


def scenarios_of(runs: Sequence[ResultRow]) -> tuple[Scenario, ...]:
    """The scenarios that these distinct runs hold, biased first. Runs with NaN are left out with a note."""
    grouped: dict[Any, dict[Any, dict[str, dict[int, float]]]] = defaultdict(lambda: defaultdict(dict))
    wild: dict[str, int] = defaultdict(int)
    for run in runs:
        if run.finite:
            model = f"{run.arch} {run.method}"
            models = grouped[(run.dataset, *design(run, HYPERPARAMETERS))][hyperparameters(run)]
            models.setdefault(model, {})[run.seed] = run.test_accuracy_percent
        else:
            wild[run.dataset] += 1
    tables: dict[str, dict[str, list[Any]]] = {BIASED: {}, UNBIASED: {}}
    notes = [
        f"{plural(count, 'run')} on {dataset} without a finite result: in no ranking."
        for dataset, count in wild.items()
    ]
    for key, by_hyper in grouped.items():
        for name, models in _split(by_hyper).items():
            whole = _whole(models)
            if whole:
                tables[name].setdefault(key[0], []).append((_epochs(key), whole))
    return tuple(_scenario(name, found, notes) for name, found in tables.items() if found)


def _scenario(name: str, tables: Mapping[str, list[Any]], notes: Sequence[str]) -> Scenario:
    """Of each data set the comparison of the most networks; among equals the longest training, then the first."""
    chosen = {dataset: max(found, key=lambda each: (len(each[1]), each[0])) for dataset, found in tables.items()}
    lengths = {epochs for epochs, _ in chosen.values()}
    said = [f"{name}: {', '.join(f'{epochs} epochs on {dataset}' for dataset, (epochs, _) in chosen.items())}"]
    choices = said if len(lengths) > 1 or any(len(found) > 1 for found in tables.values()) else []
    words = [f"Of several comparisons on a data set the figures of seeds show one, {line}." for line in choices]
    return Scenario(name, {dataset: whole for dataset, (_, whole) in chosen.items()}, (*notes, *words))


def _epochs(key: Sequence[Any]) -> int:
    return next(int(part.removeprefix("epochs=")) for part in key if str(part).startswith("epochs="))


def _split(by_hyper: Mapping[Any, dict[str, dict[int, float]]]) -> dict[str, dict[str, dict[int, float]]]:
    """The models that share hyper-parameters with others, and those that have some of their own."""
    shared = max(by_hyper.values(), key=len)
    own: dict[str, dict[int, float]] = {}
    for models in by_hyper.values():
        if models is not shared:
            own.update(models)
    return {BIASED: shared if len(shared) >= _LEAST_MODELS else {}, UNBIASED: own}


def _whole(models: Mapping[str, dict[int, float]]) -> dict[str, dict[int, float]]:
    if len(models) < _LEAST_MODELS:
        return {}
    seeds = sorted(set.intersection(*(set(found) for found in models.values())))
    if len(seeds) < _LEAST_SEEDS:
        return {}
    return {model: {seed: models[model][seed] for seed in seeds} for model in sorted(models)}


def seeds_figures(runs: Sequence[ResultRow]) -> tuple[tuple[Figure, ...], tuple[str, ...]]:
    """Every figure for which there are runs, and what could not be drawn."""
    drawn: list[Figure] = []
    notes: list[str] = []
    for scenario in scenarios_of(runs):
        drawn += [_ranks_figure(scenario), _errors_figure(scenario)]
        notes += scenario.notes
        try:
            drawn.append(_stacked_figure(scenario))
        except TooLittle as error:
            notes.append(f"Figure 3 ({scenario.name}) is not drawn: {error.message}.")
    return tuple(drawn), tuple(dict.fromkeys(notes))


def _counted(scenario: Scenario) -> str:
    seeds = span(len(next(iter(models.values()))) for models in scenario.accuracies.values())
    return f"{len(scenario.models)} models, {', '.join(scenario.accuracies)}, {seeds} seeds; {_MEANINGS[scenario.name]}"


def _ranks_figure(scenario: Scenario) -> Figure:
    return Figure(
        f"seeds1_{scenario.name}",
        f"Figure 1 of Bouthillier et al.: rankings, seed by seed ({scenario.name})",
        f"Each row is one seed: the networks from best (left) to worst by test accuracy. {_counted(scenario)}. If one "
        "run could tell the order, all rows of a panel would be alike.",
        "Ranking of the networks under every seed, a row each, one panel for each data set",
        lambda path: _draw_ranks(path, scenario),
        {dataset: _orders(models) for dataset, models in scenario.accuracies.items()},
    )


def _orders(models: Mapping[str, Mapping[int, float]]) -> dict[int, list[str]]:
    seeds = next(iter(models.values()))
    return {seed: sorted(models, key=lambda model: (-models[model][seed], model)) for seed in seeds}


def _draw_ranks(path: Path, scenario: Scenario) -> None:
    from matplotlib.patches import Patch, Rectangle

    models = scenario.models
    handles = [Patch(label=model, **style.bar(number)) for number, model in enumerate(models)]
    heights = [0.2 * len(next(iter(found.values()))) + 0.8 for found in scenario.accuracies.values()]
    heights[-1] += style.legend_height(models)
    with style.column(*heights) as (figure, parts):
        for part, (dataset, found) in zip(parts, scenario.accuracies.items(), strict=True):
            axes = part.subplots()
            orders = _orders(found)
            for row, order in enumerate(orders.values()):
                for place, model in enumerate(order):
                    number = models.index(model)
                    axes.add_patch(Rectangle((place, row), 0.96, 0.9, **style.bar(number)))
            axes.set_xlim(0, len(found))
            axes.set_ylim(len(orders), 0)
            axes.set_xticks(
                [place + 0.5 for place in range(len(found))], [str(place + 1) for place in range(len(found))]
            )
            axes.set_yticks([row + 0.5 for row in range(len(orders))], [str(seed) for seed in orders])
            axes.grid(False)
            style.finish(axes, dataset, "rank", "seed")
        style.legend(parts[-1], handles, models)
        style.save_svg(figure, path)


def _errors_figure(scenario: Scenario) -> Figure:
    errors = {
        dataset: {model: [100 - value for value in seeds.values()] for model, seeds in models.items()}
        for dataset, models in scenario.accuracies.items()
    }
    return Figure(
        f"seeds2_{scenario.name}",
        f"Figure 2 of Bouthillier et al.: test errors over seeds ({scenario.name})",
        f"Histograms of the test error of every network over its seeds, and a tick for each run. {_counted(scenario)}. "
        "Where histograms overlap, which network is better depends on the seed.",
        "Histograms of test error by network, one panel for each data set",
        lambda path: _draw_errors(path, scenario.models, errors),
        errors,
    )


def _draw_errors(path: Path, models: Sequence[str], errors: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    import numpy as np

    heights = [0.36 * len(by_model) + 0.75 for by_model in errors.values()]
    with style.column(*heights) as (figure, parts):
        for part, (dataset, by_model) in zip(parts, errors.items(), strict=True):
            axes = part.subplots()
            everything = [value for values in by_model.values() for value in values]
            low, high = min(everything), max(everything)
            bins = np.linspace(low, high if high > low else low + 1, 31)
            counted = {model: np.histogram(values, bins)[0] for model, values in by_model.items()}
            tallest = max(int(counts.max()) for counts in counted.values())
            for row, (model, values) in enumerate(by_model.items()):
                look = style.bar(models.index(model))
                full = counted[model] > 0  # empty bins are not drawn
                tops = 0.72 * counted[model][full] / tallest
                axes.bar(bins[:-1][full], tops, np.diff(bins)[full], bottom=row, align="edge", **look)
                axes.plot(values, [row - 0.1] * len(values), linestyle="none", marker="|", color=look["facecolor"])
            axes.set_yticks(range(len(by_model)), list(by_model))
            axes.set_ylim(len(by_model) - 0.1, -0.3)
            axes.invert_yaxis()
            axes.xaxis.get_major_locator().set_params(nbins=6)
            style.finish(axes, dataset, "test error, %", "")
        style.save_svg(figure, path)


def _stacked_figure(scenario: Scenario) -> Figure:
    accuracies = {
        dataset: {model: list(seeds.values()) for model, seeds in models.items()}
        for dataset, models in scenario.accuracies.items()
    }
    rankings = rank_distribution(accuracies)
    best = max(rankings.first, key=rankings.first.__getitem__)
    return Figure(
        f"seeds3_{scenario.name}",
        f"Figure 3 of Bouthillier et al.: how often each rank ({scenario.name})",
        f"Of every network and data set one seed is drawn, {SAMPLES} times: the share of samples in which it has each "
        f"rank. {_counted(scenario)}. {best} is first in {100 * rankings.first[best]:.0f} % of them.",
        "Stacked bars: the share of each rank for every network, over all data sets",
        lambda path: _draw_stacked(path, rankings),
        rankings,
    )


def _draw_stacked(path: Path, rankings: Rankings) -> None:
    names = sorted(rankings.models, key=lambda model: rankings.mean_rank[model])
    total = rankings.overall
    ranks = [str(rank + 1) for rank in range(total.shape[1])]
    with style.column(0.3 * len(names) + 0.9 + style.legend_height(ranks)) as (figure, parts):
        axes = parts[0].subplots()
        left = [0.0] * len(names)
        for rank in range(total.shape[1]):
            rows = [total[rankings.models.index(name)] for name in names]
            share = [100 * float(row[rank]) / float(row.sum()) for row in rows]
            axes.barh(names, share, left=left, height=0.78, label=str(rank + 1), **style.rank_bar(rank, total.shape[1]))
            left = [start + width for start, width in zip(left, share, strict=True)]
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.grid(False)
        style.legend(parts[0], title="rank")
        style.finish(axes, "", "share of samples, %", "")
        style.save_svg(figure, path)
