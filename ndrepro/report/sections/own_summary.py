"""The summary of one's own runs: what was measured, in plain sentences, before any published claim."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from ndrepro.analysis.results.results import ResultRow
from ndrepro.analysis.run_cost import TotalCost
from ndrepro.analysis.statistics.differences import FEW, Difference
from ndrepro.report.sections.claims_held import pairs_of
from ndrepro.report.sections.comparisons import differences_of
from ndrepro.report.sections.seed_groups import SeedGroup
from ndrepro.text.plurals import plural

_MOST = 4
_LEVEL = 0.05


def summary_of(runs: Sequence[ResultRow], groups: Sequence[SeedGroup]) -> tuple[str, ...]:
    """Some sentences: final accuracies, differences with their uncertainty, cost. Empty without results."""
    if not groups:
        return ()
    differences = differences_of(runs)
    compared = _each(differences) if len(differences) <= _MOST else _counted(differences)
    return (*_accuracies(groups), *compared, *_cost(runs))


def _accuracies(groups: Sequence[SeedGroup]) -> list[str]:
    if len(groups) <= _MOST:
        return [_accuracy(group) for group in groups]
    finite = [group for group in groups if group.test.mean is not None]
    if not finite:
        return ["No experiment has a finite mean test accuracy."]
    best = max(finite, key=lambda group: group.test.mean or 0.0)
    low = min(finite, key=lambda group: group.test.mean or 0.0)
    return [
        f"{plural(len(groups), 'experiment')}: mean test accuracy from {_named(low)} to {_named(best)}.",
    ]


def _named(group: SeedGroup) -> str:
    return f"{group.test.text} % ({_title(group)}, n = {group.n})"


def _title(group: SeedGroup) -> str:
    one = group.first
    return f"{one.arch} {one.method} on {one.dataset}, {plural(one.epochs, 'epoch')}"


def _accuracy(group: SeedGroup) -> str:
    test = group.test
    if test.mean is None:
        return f"{_title(group)}: a run ended with a number that is not finite, so there is no mean."
    if test.low is None:
        return f"{_title(group)}: test accuracy {test.text} % (one seed: no interval)."
    return f"{_title(group)}: test accuracy {test.text} % (mean, 95 % interval, n = {group.n})."


def _each(differences: Mapping[tuple[object, ...], Difference]) -> list[str]:
    return [
        f"Deconvolution against batch norm, {place[0]} on {place[2]}: {_difference(each)}"
        for place, each in differences.items()
    ]


def _difference(each: Difference) -> str:
    if each.interval is None:
        return "one seed each, so no difference can be resolved." if each.why == FEW else "a run was not finite."
    ends = f"{each.interval.estimate:+.2f} points [{each.interval.low:+.2f}, {each.interval.high:+.2f}]"
    n = f"n = {min(each.sizes)} {'pairs of seeds' if each.paired else 'seeds'}"
    if each.p_holm is not None and each.p_holm < _LEVEL:
        return f"{ends}, significant (p = {each.p_holm:.3f} after Holm's correction, {n})."
    least = 2 / 2 ** min(each.sizes)
    if each.paired and least > _LEVEL:
        return f"{ends}; {n} are too few for any difference to be significant (the least p is {least:.2g})."
    return f"{ends}, not significant (p = {_number(each.p_holm)} after Holm's correction, {n})."


def _counted(differences: Mapping[tuple[object, ...], Difference]) -> list[str]:
    known = [each for each in differences.values() if each.interval is not None]
    if not known:
        return [f"{plural(len(differences), 'comparison')} of deconvolution with batch norm, of one seed each."]
    higher = sum(each.interval is not None and each.interval.estimate > 0 for each in known)
    shown = [each for each in known if each.p_holm is not None and each.p_holm < _LEVEL]
    up = sum(each.interval is not None and each.interval.estimate > 0 for each in shown)
    return [
        f"Mean test accuracy is higher with deconvolution in {higher} of {plural(len(known), 'comparison')} with batch "
        f"norm; {len(shown)} differ significantly after Holm's correction ({up} higher, {len(shown) - up} lower)."
    ]


def _cost(runs: Sequence[ResultRow]) -> list[str]:
    sides = pairs_of(runs, lambda run: run.train_seconds or None)
    ratios = [seconds / sides["bn"][key] for key, seconds in sides["nd"].items() if key in sides["bn"]]
    if not ratios:
        return []
    spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    return [
        f"Training with deconvolution took {statistics.median(ratios):.2f} times as long as with batch norm{spread}, "
        f"median of {plural(len(ratios), 'pair')}."
    ]


def cost_sentence(cost: TotalCost) -> str:
    """What all runs cost together, those that no number comes from included."""
    energy = f"the machines' counters had {cost.kilowatt_hours:.3f} kWh meanwhile"
    if cost.without_energy == cost.runs:
        energy = "no machine had a counter of energy that could be read"
    elif cost.without_energy:
        energy += f" (none in {plural(cost.without_energy, 'run')})"
    cpu = f"{cost.cpu_hours:.2f} CPU hours" + (f" (unknown of {cost.without_cpu})" if cost.without_cpu else "")
    return (
        f"{plural(cost.runs, 'training run')}, repeated, failed and interrupted ones and segments included, took "
        f"{cost.wall_hours:.2f} hours on their machines, {cpu} and {cost.gpu_hours:.2f} GPU hours; {energy}."
    )


def _number(value: float | None) -> str:
    return "unavailable" if value is None else f"{value:.3f}"
