"""Confidence intervals from the spread over seeds, all of Student's t distribution.

    mean         mean ± t(1 - alpha/2, n - 1) s / sqrt(n): exact for normal values at every n
    stratified   the mean over data sets of their means, degrees of freedom by Welch and Satterthwaite
    prediction   one more value: mean ± t(1 - alpha/2, n - 1) s sqrt(1 + 1/n)

A confidence interval is about the mean; somebody who repeats a run gets one run, which a prediction interval is about:
it does not shrink to nothing as runs are added. Bootstrap intervals of means are too narrow below ten seeds and are
given nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ndrepro.analysis.statistics.samples import check_level, sample, samples

# the fewest runs of which an interval is given: of two, Student's is 12.7 standard errors wide to each side
FEWEST_RUNS = 3


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval: ``n`` values behind it, ``spread`` their standard deviation (n - 1), how."""

    estimate: float
    low: float
    high: float
    n: int
    spread: float
    confidence: float = 0.95
    method: str = "t"

    def holds(self, value: float) -> bool:
        """Whether ``value`` lies inside, ends included."""
        return self.low <= value <= self.high


def mean_interval(values: Iterable[float], *, confidence: float = 0.95, what: str = "the sample") -> Interval:
    """The mean with its interval. Raises TooLittle for fewer than two values or one that is not finite."""
    check_level(confidence)
    found = sample(values, what)
    mean, spread = float(found.mean()), float(found.std(ddof=1))
    half = _quantile(confidence, len(found) - 1) * spread / math.sqrt(len(found))
    return Interval(mean, mean - half, mean + half, len(found), spread, confidence, "t")


def prediction_interval(values: Iterable[float], *, confidence: float = 0.95, what: str = "the sample") -> Interval:
    """Where one more value from the same normal distribution falls: mean ± t(1 - alpha/2, n - 1) s sqrt(1 + 1/n).

    Raises TooLittle for fewer than two values or one that is not finite. Source: Hahn and Meeker, Statistical
    Intervals (1991), section 4.7. Without assuming anything of the distribution, one more value falls between the
    least and the largest of n with probability (n - 1)/(n + 1): 39 runs are needed for 95 %.
    """
    check_level(confidence)
    found = sample(values, what)
    mean, spread = float(found.mean()), float(found.std(ddof=1))
    half = _quantile(confidence, len(found) - 1) * spread * math.sqrt(1 + 1 / len(found))
    return Interval(mean, mean - half, mean + half, len(found), spread, confidence, "prediction")


def stratified_interval(groups: Mapping[str, Iterable[float]]) -> Interval:
    """The mean over groups (data sets) of their means, equal weights, each with its own variance; 95 %.

    The groups are fixed: the interval is about their mean and about no other group. ``spread`` is the standard
    deviation of the groups' means (0 of one group). Raises TooLittle naming a group of fewer than two values.
    Source: Satterthwaite, Biometrics Bulletin 2 (1946); of two groups it is Welch's interval.
    """
    found = list(samples(groups).values())
    means = [float(each.mean()) for each in found]
    estimate = math.fsum(means) / len(means)
    # the variance of each group's part of the estimate
    parts = [float(each.var(ddof=1)) / len(each) / len(found) ** 2 for each in found]
    total = math.fsum(parts)
    half = 0.0
    if total:
        degrees = total**2 / math.fsum(part**2 / (len(each) - 1) for part, each in zip(parts, found, strict=True))
        half = _quantile(0.95, degrees) * math.sqrt(total)
    spread = math.sqrt(math.fsum((mean - estimate) ** 2 for mean in means) / max(1, len(means) - 1))
    return Interval(estimate, estimate - half, estimate + half, sum(map(len, found)), spread)


def _quantile(confidence: float, degrees: float) -> float:
    from scipy.stats import t

    return float(t.ppf(0.5 + confidence / 2, degrees))
