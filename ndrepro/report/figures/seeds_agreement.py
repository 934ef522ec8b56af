"""Whether networks that were tuned each on its own come in the same order as with one set of hyper-parameters for all.

Bouthillier et al. (ICML 2019) rank their networks in both scenarios: *biased*, the hyper-parameters of He et al. for
all, and *unbiased*, those that a search found for each. Here the two orders are compared with each other, data set by
data set and over all of them: Kendall's tau (1: the same order, -1: the reverse), with a bootstrap interval, since
an order of means over ten seeds is itself uncertain. Runs of one scenario alone say nothing of this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ndrepro.analysis.results.results import ResultRow
from ndrepro.analysis.statistics.rankings import SAMPLES, Agreement, OverallAgreement, rank_agreement_overall
from ndrepro.analysis.statistics.samples import TooLittle
from ndrepro.report.elements import style
from ndrepro.report.elements.figure import Figure
from ndrepro.report.elements.table import Column, Table, Value, count, decimal, interval, numeric, word
from ndrepro.report.figures.seeds_figures import BIASED, UNBIASED, Scenario, scenarios_of

FIGURE, TABLE = "seeds_agreement", "rank_agreement"
_TITLE = "Do both scenarios rank alike?"


def agreement_tables(runs: Sequence[ResultRow]) -> tuple[Table, ...]:
    """The table of agreement, where these distinct runs hold both scenarios."""
    found = _both(runs)
    return (_table(*found),) if found else ()


def agreement_figures(runs: Sequence[ResultRow]) -> tuple[Figure, ...]:
    """Every network's place in both scenarios, where these distinct runs hold both."""
    found = _both(runs)
    if not found:
        return ()
    biased, unbiased, agreement = found
    places = {
        dataset: {side.name: _places(side, dataset, each.models) for side in (biased, unbiased)}
        for dataset, each in agreement.datasets.items()
    }
    drawn = Figure(
        FIGURE,
        f"{_TITLE} Places of the networks, biased and unbiased",
        f"Every network's place by its mean test accuracy over seeds, left with one set of hyper-parameters for all, "
        f"right with its own. Lines that cross are pairs whose order another tuning turns round. "
        f"Kendall's tau {_told(agreement.tau, agreement.interval)}.",
        "Lines from each network's place in the biased scenario to its place in the unbiased one, a panel a data set",
        lambda path: _draw(path, places, biased.models),
        {"places": places, **vars(agreement)},
    )
    return (drawn,)


def _both(runs: Sequence[ResultRow]) -> tuple[Scenario, Scenario, OverallAgreement] | None:
    by_name = {scenario.name: scenario for scenario in scenarios_of(runs)}
    if set(by_name) != {BIASED, UNBIASED}:
        return None
    biased, unbiased = by_name[BIASED], by_name[UNBIASED]
    try:
        return biased, unbiased, rank_agreement_overall(_values(biased), _values(unbiased))
    except TooLittle:
        return None  # no data set, or too few networks, in both


def _values(scenario: Scenario) -> dict[str, dict[str, list[float]]]:
    return {
        dataset: {model: list(seeds.values()) for model, seeds in models.items()}
        for dataset, models in scenario.accuracies.items()
    }


def _table(biased: Scenario, unbiased: Scenario, agreement: OverallAgreement) -> Table:
    columns = (
        Column("Data set"),
        Column("Networks", numeric=True),
        Column("Seeds"),
        *numeric("Tau", "95 % interval", "Rho"),
        *map(Column, ("Pairs turned round", "First, biased", "First, unbiased")),
    )
    rows = [_row(dataset, each, biased, unbiased) for dataset, each in agreement.datasets.items()]
    if len(rows) > 1:
        blank = word("")
        overall = (decimal(agreement.tau), interval(*agreement.interval))
        rows.append((word("mean of all"), blank, blank, *overall, blank, blank, blank, blank))
    drawn = "seeds and data sets are drawn" if agreement.datasets_drawn else "seeds are drawn (too few data sets)"
    caption = (
        "Networks ordered by mean test accuracy, once with the same hyper-parameters for all (biased) and once each "
        "with its own (unbiased). Kendall's tau, and Spearman's rho beside it: 1 is the same order, 0 no order in "
        "common, -1 the reverse. Intervals of tau: percentile "
        f"bootstrap, {SAMPLES} samples in which {drawn}; drawing adds noise of its own, so that they lean towards 0. "
        "Where an interval reaches far below 1, these runs do not show that the orders agree."
    )
    return Table(TABLE, _TITLE, caption, columns, tuple(rows))


def _row(dataset: str, each: Agreement, biased: Scenario, unbiased: Scenario) -> tuple[Value, ...]:
    pairs = len(each.models) * (len(each.models) - 1) // 2
    named = ", ".join(f"{one} and {other}" for one, other in each.swapped[:3])
    more = f", {len(each.swapped) - 3} more" if len(each.swapped) > 3 else ""
    seeds = [len(side.accuracies[dataset][each.models[0]]) for side in (biased, unbiased)]
    first = [
        min(places, key=places.__getitem__)
        for places in (_places(side, dataset, each.models) for side in (biased, unbiased))
    ]
    return (
        word(dataset),
        count(len(each.models)),
        word(seeds[0] if seeds[0] == seeds[1] else f"{seeds[0]} and {seeds[1]}"),
        decimal(each.tau),
        interval(*each.interval),
        decimal(each.rho),
        Value(f"{len(each.swapped)} of {pairs}{': ' if named else ''}{named}{more}", float(len(each.swapped))),
        *map(word, first),
    )


def _told(value: float, ends: tuple[float, float]) -> str:
    return f"{decimal(value).text} [{decimal(ends[0]).text}, {decimal(ends[1]).text}]"


def _places(scenario: Scenario, dataset: str, models: Sequence[str]) -> dict[str, int]:
    """Place 1 to n of these models by mean test accuracy; equal means by name."""
    found = scenario.accuracies[dataset]
    means = {model: sum(found[model].values()) / len(found[model]) for model in models}
    order = sorted(models, key=lambda model: (-means[model], model))
    return {model: place for place, model in enumerate(order, 1)}


def _draw(path: Path, places: Mapping[str, Mapping[str, Mapping[str, int]]], models: Sequence[str]) -> None:
    with style.column(*(0.27 * len(sides[BIASED]) + 0.7 for sides in places.values())) as (figure, parts):
        for part, (dataset, sides) in zip(parts, places.items(), strict=True):
            axes = part.subplots()
            left, right = sides[BIASED], sides[UNBIASED]
            for model in left:
                axes.plot([0, 1], [left[model], right[model]], **style.line(models.index(model)))
                axes.annotate(model, (0, left[model]), (-6, 0), textcoords="offset points", ha="right", va="center")
                axes.annotate(model, (1, right[model]), (6, 0), textcoords="offset points", ha="left", va="center")
            axes.set_xlim(-1.6, 2.6)
            axes.set_ylim(len(left) + 0.5, 0.5)
            axes.set_xticks([0, 1], ["biased", "unbiased"])
            axes.set_yticks([])
            axes.grid(False)
            axes.spines["left"].set_visible(False)
            style.finish(axes, dataset)
        style.save_svg(figure, path)
