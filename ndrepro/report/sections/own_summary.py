"""The summary of the user's own runs: what was measured, in plain sentences, before any published claim."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from ndrepro.analysis.results.results import ResultRow
from ndrepro.analysis.run_cost import TotalCost
from ndrepro.analysis.statistics.differences import WILD, Difference
from ndrepro.analysis.statistics.intervals import FEWEST_RUNS
from ndrepro.report.elements.table import MINUS
from ndrepro.report.sections.claims_held import pairs_of
from ndrepro.report.sections.comparisons import Place, differences_of, p_value, samples_of
from ndrepro.report.sections.group_labels import distinguished, labels_of
from ndrepro.report.sections.seed_groups import SeedGroup
from ndrepro.text.plurals import plural

_MOST = 4
_LEVEL = 0.05


def summary_of(runs: Sequence[ResultRow], groups: Sequence[SeedGroup]) -> tuple[str, ...]:
    """Some sentences: final accuracies, differences with their uncertainty, cost. Empty without results."""
    if not groups:
        return ()
    differences = differences_of(runs)
    compared = _each(differences, samples_of(runs)) if len(differences) <= _MOST else _counted(differences)
    return (*_accuracies(groups), *compared, *_cost(runs))


def _accuracies(groups: Sequence[SeedGroup]) -> list[str]:
    labels = labels_of(groups)
    if len(groups) <= _MOST:
        return [_accuracy(group, title_of(group, labels)) for group in groups]
    finite = [group for group in groups if group.test.mean is not None]
    if not finite:
        return ["No experiment has a finite mean test accuracy."]
    best = max(finite, key=lambda group: group.test.mean or 0.0)
    low = min(finite, key=lambda group: group.test.mean or 0.0)
    ends = f"{_named(low, labels)} to {_named(best, labels)}"
    return [f"Mean test accuracies of {plural(len(groups), 'experiment')} range from {ends}."]


def _named(group: SeedGroup, labels: Mapping[str, str]) -> str:
    return f"{group.test.mean:.2f} % ({title_of(group, labels)}, {plural(group.n, 'seed')})"


def title_of(group: SeedGroup, labels: Mapping[str, str]) -> str:
    """An experiment in words; ``labels`` are those of all groups."""
    one = group.first
    method, _, more = labels[group.key].partition(", ")
    return f"{one.arch} with {method} on {one.dataset}, {plural(one.epochs, 'epoch')}{', ' if more else ''}{more}"


def _accuracy(group: SeedGroup, title: str) -> str:
    """One experiment's accuracy with its interval."""
    test = group.test
    if test.mean is None:
        return f"{title}: no mean, because a run ended with a number that is not finite."
    if group.n == 1:
        return f"{title}: {test.mean:.2f} % test accuracy in one run, so without an interval."
    seeds = f"mean of {group.n} seeds"
    if test.low is None or test.high is None:
        return f"{title}: {test.mean:.2f} % test accuracy ({seeds}; n = {group.n}: no interval)."
    return f"{title}: {test.mean:.2f} % test accuracy ({seeds}; 95 % interval {test.low:.2f} to {test.high:.2f} %)."


def _each(differences: Mapping[Place, Difference], samples: Mapping[Place, ResultRow]) -> list[str]:
    tested = sum(each.p_holm is not None for each in differences.values())
    subjects = {place: place[:3] for place in differences}
    said = []
    for place, each in differences.items():
        alike = {other: samples[other] for other in differences if subjects[other] == subjects[place]}
        more = distinguished(alike)[place]
        where = f"{place[0]} on {place[2]}, {plural(place[1], 'epoch')}{', ' if more else ''}{more}"
        said.append(f"{where}: {_difference(each, tested)}")
    return said


def _difference(each: Difference, tested: int) -> str:
    if each.why == WILD:
        return "deconvolution and batch norm are not compared, because a run ended with a number that is not finite."
    n = min(each.sizes)
    pairs = plural(n, "pair" if each.paired else "seed")
    if each.interval is None:
        few = f"n = {n}, and an interval takes {FEWEST_RUNS} seeds of each"
        return f"deconvolution and batch norm are not compared: {few}."
    points, low, high = each.interval.estimate, each.interval.low, each.interval.high
    side = "higher" if points > 0 else "lower" if points < 0 else "equal"
    by = f"{abs(points):.2f} points {side}" if points else "equal on average"
    ends = f"95 % interval of the difference {signed(low)} to {signed(high)}, {pairs}"
    head = f"with deconvolution test accuracy is {by} than with batch norm" if points else f"both methods are {by}"
    if each.p_holm is None:
        return f"{head} in each of {plural(n, 'pair')}: without a spread, no test is possible."
    return f"{head} ({ends}). {_significance(each, each.p_holm, tested)}"


def _significance(each: Difference, p_holm: float, tested: int) -> str:
    """Whether the difference is significant, and why not in words."""
    p = f"p {text}" if (text := p_value(p_holm).text).startswith("<") else f"p = {text}"
    if p_holm < _LEVEL:
        return f"The difference is statistically significant ({p})."
    if each.p_value is not None and each.p_value < _LEVEL:
        return (
            f"Alone it would be significant; corrected for {plural(tested, 'comparison')} it is not ({p}): that many "
            "comparisons find such a difference by chance too often."
        )
    needed = each.needed.n if each.needed else 0
    more = f"; {plural(needed, 'seed')} would be needed to detect a difference of this size" if needed else ""
    return f"The interval includes zero, so {plural(min(each.sizes), 'seed')} do not show a difference ({p}{more})."


def signed(value: float) -> str:
    """A difference with two digits and its sign."""
    return f"{value:+.2f}".replace("-", MINUS)


def _counted(differences: Mapping[Place, Difference]) -> list[str]:
    known = [each for each in differences.values() if each.interval is not None]
    if not known:
        return [
            f"{plural(len(differences), 'comparison')} of deconvolution with batch norm have fewer than {FEWEST_RUNS} "
            "seeds each, too few for an interval."
        ]
    higher = sum(each.interval is not None and each.interval.estimate > 0 for each in known)
    shown = [each for each in known if each.p_holm is not None and each.p_holm < _LEVEL]
    up = sum(each.interval is not None and each.interval.estimate > 0 for each in shown)
    return [
        f"Mean test accuracy is higher with deconvolution in {higher} of {plural(len(known), 'comparison')} with batch "
        f"norm. {len(shown)} differ significantly after Holm's correction ({up} higher, {len(shown) - up} lower)."
    ]


def _cost(runs: Sequence[ResultRow]) -> list[str]:
    sides = pairs_of(runs, lambda run: run.train_seconds or None)
    ratios = [seconds / sides["bn"][key] for key, seconds in sides["nd"].items() if key in sides["bn"]]
    if not ratios:
        return []
    spread = f", range {min(ratios):.2f} to {max(ratios):.2f}" if len(ratios) > 1 else ""
    return [
        f"Training with deconvolution took {statistics.median(ratios):.2f} times as long as with batch norm (median of "
        f"{plural(len(ratios), 'pair')}{spread})."
    ]


def cost_sentence(cost: TotalCost) -> str:
    """What all runs cost together, those that no number comes from included."""
    energy = f"the machines' counters recorded {cost.kilowatt_hours:.3f} kWh"
    if cost.without_energy == cost.runs:
        energy = "energy was not measured, because no machine had a readable counter"
    elif cost.without_energy:
        energy += f" (none available in {plural(cost.without_energy, 'run')})"
    cpu = f"{_hours(cost.cpu_hours)} of CPU time" + (f" (unknown of {cost.without_cpu})" if cost.without_cpu else "")
    gpu = f" and {_hours(cost.gpu_hours)} of GPU time" if cost.gpu_hours else ""
    runs = (
        "The training run" if cost.runs == 1 else f"All {cost.runs} training runs, also repeated and unfinished ones,"
    )
    return f"{runs} took {_hours(cost.wall_hours)} of wall time, {cpu}{gpu}; {energy}."


def _hours(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.2f} hours"
    return f"{60 * hours:.1f} minutes" if hours >= 1 / 60 else f"{3600 * hours:.0f} s"
