"""Where one more run will fall: prediction intervals, which do not shrink to nothing as runs are added.

A confidence interval is about the mean; somebody who repeats a run gets one run. For normal values the interval of one
more is mean ± t(0.975, n - 1) s sqrt(1 + 1/n) (Hahn and Meeker, Statistical Intervals, 1991, section 4.7), of the mean
of m more, sqrt(1/m + 1/n). Without assuming anything of the distribution, one more of n + 1 values falls between the
least and the largest of n with probability (n - 1)/(n + 1): 39 runs are needed for 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from ndrepro.analysis.intervals import Interval
from ndrepro.analysis.samples import check_level, sample
from ndrepro.analysis.verdict import prediction_interval as _of_one
from ndrepro.spec.errors import UsageError


def next_run(values: Iterable[float], *, confidence: float = 0.95, what: str = "the sample") -> Interval:
    """Where one more run from the same normal distribution falls. Raises TooLittle for fewer than two, or NaN."""
    check_level(confidence)
    found = sample(values, what)
    ends = _of_one([float(value) for value in found], confidence)
    assert ends is not None  # there are two values
    return Interval(float(found.mean()), *ends, len(found), float(found.std(ddof=1)), confidence, "prediction")


def next_mean(values: Iterable[float], runs: int, *, confidence: float = 0.95, what: str = "the sample") -> Interval:
    """Where the mean of so many more runs falls. Raises as ``next_run`` does, UsageError for fewer than one."""
    from scipy.stats import t

    check_level(confidence)
    if runs < 1:
        raise UsageError(f"runs={runs}, expected at least 1")
    found = sample(values, what)
    mean, spread, n = float(found.mean()), float(found.std(ddof=1)), len(found)
    half = float(t.ppf(0.5 + confidence / 2, n - 1)) * spread * math.sqrt(1 / runs + 1 / n)
    return Interval(mean, mean - half, mean + half, n, spread, confidence, f"prediction of the mean of {runs}")


def range_of_next(values: Iterable[float], what: str = "the sample") -> Interval:
    """The least and the largest, with the probability (n - 1)/(n + 1) that one more falls between them."""
    found = sample(values, what)
    n = len(found)
    ends = float(found.min()), float(found.max())
    return Interval(float(found.mean()), *ends, n, float(found.std(ddof=1)), (n - 1) / (n + 1), "range")
