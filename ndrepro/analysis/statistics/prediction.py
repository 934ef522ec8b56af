"""Where one more run will fall: prediction intervals, which do not shrink to nothing as runs are added.

A confidence interval is about the mean; somebody who repeats a run gets one run. For normal values the interval of one
more is mean ± t(0.975, n - 1) s sqrt(1 + 1/n) (Hahn and Meeker, Statistical Intervals, 1991, section 4.7). Without
assuming anything of the distribution, one more of n + 1 values falls between the least and the largest of n with
probability (n - 1)/(n + 1): 39 runs are needed for 95 %.
"""

from __future__ import annotations

from collections.abc import Iterable

from ndrepro.analysis.results.reproduction_verdict import prediction_interval as _of_one
from ndrepro.analysis.statistics.intervals import Interval
from ndrepro.analysis.statistics.samples import check_level, sample


def next_run(values: Iterable[float], *, confidence: float = 0.95, what: str = "the sample") -> Interval:
    """Where one more run from the same normal distribution falls. Raises TooLittle for fewer than two, or NaN."""
    check_level(confidence)
    found = sample(values, what)
    ends = _of_one([float(value) for value in found], confidence)
    assert ends is not None  # there are two values
    return Interval(float(found.mean()), *ends, len(found), float(found.std(ddof=1)), confidence, "prediction")
