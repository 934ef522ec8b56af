"""How far a number can be trusted: confidence intervals from the spread over seeds.

    t            mean ± t(1 - alpha/2, n - 1) s / sqrt(n): exact for normal values, and the one to take below ten seeds
    percentile   the bootstrap distribution's own quantiles (Efron and Tibshirani 1993, chapter 13)
    bca          those quantiles moved for bias and skewness (chapter 14)

A confidence interval is about the mean; somebody who repeats a run gets one run, which a prediction interval is about:
it does not shrink to nothing as runs are added.

The bootstrap is scipy's. Of means it is too narrow at small n: at ten seeds and 95 % it covers about 90 % of the time,
at three about 75 % (percentile; see the tests). Of several data sets the seeds of each are drawn among themselves
(stratified), since the data sets were chosen and the seeds were not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ndrepro.analysis.statistics.samples import check_level, sample, samples
from ndrepro.protocol.errors import UsageError

if TYPE_CHECKING:
    from ndrepro.analysis.statistics.samples import Floats

# the least runs of which a report gives an interval: of two, Student's is 12.7 standard errors wide to each side
FEWEST_RUNS = 3
METHODS = ("t", "percentile", "bca")
RESAMPLES = 9999
_SCIPY_NAMES = {"percentile": "percentile", "bca": "BCa"}


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

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def mean_interval(
    values: Iterable[float],
    *,
    confidence: float = 0.95,
    method: str = "t",
    resamples: int = RESAMPLES,
    seed: int = 0,
    what: str = "the sample",
) -> Interval:
    """The mean with its interval. Raises TooLittle for fewer than two values or one that is not finite."""
    import numpy as np

    found = sample(values, what)
    if method != "t":
        return bootstrap_interval(found, np.mean, confidence=confidence, method=method, resamples=resamples, seed=seed)
    check_level(confidence)
    from scipy.stats import t

    mean, spread = float(found.mean()), float(found.std(ddof=1))
    half = float(t.ppf(0.5 + confidence / 2, len(found) - 1)) * spread / math.sqrt(len(found))
    return Interval(mean, mean - half, mean + half, len(found), spread, confidence, "t")


def prediction_interval(values: Iterable[float], *, confidence: float = 0.95, what: str = "the sample") -> Interval:
    """Where one more value from the same normal distribution falls: mean ± t(1 - alpha/2, n - 1) s sqrt(1 + 1/n).

    Raises TooLittle for fewer than two values or one that is not finite. Source: Hahn and Meeker, Statistical
    Intervals (1991), section 4.7. Without assuming anything of the distribution, one more value falls between the
    least and the largest of n with probability (n - 1)/(n + 1): 39 runs are needed for 95 %.
    """
    check_level(confidence)
    found = sample(values, what)
    from scipy.stats import t

    mean, spread = float(found.mean()), float(found.std(ddof=1))
    half = float(t.ppf(0.5 + confidence / 2, len(found) - 1)) * spread * math.sqrt(1 + 1 / len(found))
    return Interval(mean, mean - half, mean + half, len(found), spread, confidence, "prediction")


def bootstrap_interval(
    values: Iterable[float],
    statistic: Callable[..., Any],
    *,
    confidence: float = 0.95,
    method: str = "bca",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The interval of any ``statistic(values, axis=-1)``. Raises TooLittle as ``mean_interval`` does."""
    found = sample(values)
    estimate = float(statistic(found, axis=-1))
    low, high = _bootstrap((found,), statistic, confidence, method, resamples, seed)
    return Interval(estimate, low, high, len(found), float(found.std(ddof=1)), confidence, method)


def stratified_interval(
    groups: Mapping[str, Iterable[float]],
    *,
    confidence: float = 0.95,
    method: str = "bca",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean over groups (data sets) of their means, each group's values drawn among themselves.

    ``spread`` is the standard deviation of the groups' means (0 of one group). Raises TooLittle naming the group.
    """
    import numpy as np

    found = list(samples(groups).values())

    def mean_of_means(*drawn: Floats, axis: int = -1) -> Any:
        return sum(np.mean(each, axis=axis) for each in drawn) / len(drawn)

    low, high = _bootstrap(tuple(found), mean_of_means, confidence, method, resamples, seed)
    means = [float(each.mean()) for each in found]
    spread = float(np.std(means, ddof=1)) if len(means) > 1 else 0.0
    count = sum(map(len, found))
    return Interval(math.fsum(means) / len(means), low, high, count, spread, confidence, method)


def _bootstrap(
    data: tuple[Floats, ...], statistic: Callable[..., Any], confidence: float, method: str, resamples: int, seed: int
) -> tuple[float, float]:
    import numpy as np
    from scipy.stats import bootstrap

    check_level(confidence)
    if method not in _SCIPY_NAMES:
        raise UsageError(f"method={method!r} is not known", f"it is one of {', '.join(METHODS)}")
    if all(np.ptp(each) == 0 for each in data):
        only = float(statistic(*data, axis=-1))  # nothing varies, and scipy would divide by that
        return only, only
    found = bootstrap(
        data,
        statistic,
        n_resamples=resamples,
        confidence_level=confidence,
        method=_SCIPY_NAMES[method],
        vectorized=True,
        axis=-1,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        # the correction has no value, for instance where every jackknife sample gives the same
        return _bootstrap(data, statistic, confidence, "percentile", resamples, seed)
    return float(found.low), float(found.high)
