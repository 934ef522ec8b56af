"""One side less the other in one place, with all that is said of it, and over several data sets at once.

Where both sides have three runs or more with the same seeds the pairs are compared (the spread that a seed brings
cancels in part), else the two samples as they are. Either way one method gives every number: Student's t, of the
differences of the pairs or of two samples with unequal variances (Welch). The interval excludes zero exactly where the
p-value is below 5 %, and the equivalence test and the number of seeds needed rest on the same distribution, so that no
two numbers of one comparison contradict each other. Below three runs of each side there is no interval: of two it would
reach 12.7 standard errors to each side.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ndrepro.analysis.statistics.equivalence import Equivalence, independent_equivalence, paired_equivalence
from ndrepro.analysis.statistics.intervals import FEWEST_RUNS, Interval, mean_interval, stratified_interval
from ndrepro.analysis.statistics.paired import holm, pair
from ndrepro.analysis.statistics.power import Power, seeds_needed
from ndrepro.analysis.statistics.samples import TooLittle, sample

if TYPE_CHECKING:
    from ndrepro.analysis.statistics.samples import Floats

FEW, WILD = "n too small", "NaN"


@dataclass(frozen=True)
class Difference:
    """First less second. ``why`` is FEW or WILD where nothing can be said; then all else is ``None``.

    ``sizes`` are the pairs twice, or the runs of each side where ``paired`` is false; ``alone`` counts the runs that a
    comparison of pairs leaves out. ``needed`` are the seeds that find the observed difference four times in five,
    ``needed_for_margin`` those that find one as large as the margin; ``None`` where there is no difference, or where
    nothing varies. ``p_value`` is that of the t-test, ``None`` where every pair differs by the same amount;
    ``p_holm`` is corrected over all that are reported together.
    """

    sizes: tuple[int, int]
    paired: bool
    alone: int = 0
    values: tuple[float, ...] = ()
    interval: Interval | None = None
    p_value: float | None = None
    p_holm: float | None = None
    equivalence: Equivalence | None = None
    needed: Power | None = None
    needed_for_margin: Power | None = None
    why: str = ""


def difference_of(
    first: Mapping[Hashable, float], second: Mapping[Hashable, float], *, margin: float = 1.0
) -> Difference:
    """Of two sides by their keys (seeds, say), in their own units. Raises UsageError for a margin that is not positive.

    Every run has to be finite: one that is not is not left out in silence, and gives WILD.
    """
    pairs = pair(first, second)
    paired = len(pairs.keys) >= FEWEST_RUNS
    sizes = (len(pairs.keys),) * 2 if paired else (len(first), len(second))
    alone = len(pairs.only_first) + len(pairs.only_second) if paired else 0
    if not all(map(math.isfinite, (*first.values(), *second.values()))):
        return Difference(sizes, paired, alone, why=WILD)
    if min(sizes) < FEWEST_RUNS:
        return Difference(sizes, paired, alone, why=FEW)
    if paired:
        differences = pairs.differences
        interval = mean_interval(differences)
    else:
        differences = ()
        a, b = sample(first.values()), sample(second.values())
        interval = welch_interval(a, b)
    equivalence = _equivalence(differences, first, second, margin)
    return Difference(
        sizes,
        paired,
        alone,
        differences,
        interval,
        equivalence.p_of_zero if equivalence else None,
        equivalence=equivalence,
        needed=_needed(interval, interval.estimate, paired),
        needed_for_margin=_needed(interval, margin, paired),
    )


def corrected(found: Sequence[Difference]) -> tuple[Difference, ...]:
    """The same with ``p_holm``, over all that have a p-value."""
    values = [each.p_value for each in found if each.p_value is not None]
    left = iter(holm(values) if values else ())
    return tuple(each if each.p_value is None else replace(each, p_holm=next(left)) for each in found)


def over_strata(found: Mapping[str, Difference]) -> Interval | None:
    """The mean over strata (data sets) of their mean paired differences; None where fewer than two have pairs."""
    strata = {name: each.values for name, each in found.items() if each.values}
    return stratified_interval(strata) if len(strata) > 1 else None


def welch_interval(first: Floats, second: Floats) -> Interval:
    """Mean of the first less that of the second with Welch's 95 % interval (1947): sides may differ in n and in spread.

    ``n`` is the smaller side's, ``spread`` the root of the mean of both variances. ``first`` (n,), ``second`` (m,).
    """
    from scipy.stats import ttest_ind

    estimate = float(first.mean() - second.mean())
    spread = math.sqrt((float(first.var(ddof=1)) + float(second.var(ddof=1))) / 2)
    count = min(len(first), len(second))
    if spread == 0:
        return Interval(estimate, estimate, estimate, count, 0.0, method="Welch")
    ends = ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    return Interval(estimate, float(ends.low), float(ends.high), count, spread, method="Welch")


def _equivalence(
    differences: tuple[float, ...], first: Mapping[Hashable, float], second: Mapping[Hashable, float], margin: float
) -> Equivalence | None:
    try:
        if differences:
            return paired_equivalence(differences, margin)
        return independent_equivalence(first.values(), second.values(), margin)
    except TooLittle:  # every difference is the same, and not zero: there is no spread to test against
        return None


def _needed(interval: Interval, difference: float, paired: bool) -> Power | None:
    if not (interval.spread and difference):
        return None
    return seeds_needed(interval.spread, difference, paired=paired)
