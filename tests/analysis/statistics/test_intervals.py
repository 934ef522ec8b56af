"""Intervals against textbooks, their own definitions, and how often they hold what they should."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from ndrepro.analysis.statistics.intervals import (
    bootstrap_interval,
    mean_interval,
    prediction_interval,
    stratified_interval,
)
from ndrepro.analysis.statistics.samples import TooLittle
from ndrepro.protocol.errors import UsageError

# Student's sleep data (1908): hours gained with the second drug over the first, ten patients
SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
# 26 scores far from normal: their variance (divisor n) is 171.5, and its distribution is skewed
SCORES = [48, 36, 20, 29, 42, 42, 20, 42, 22, 41, 45, 14, 6, 0, 33, 28, 34, 4, 32, 24, 47, 41, 24, 26, 30, 41]


def test_the_t_interval_is_the_textbook_s() -> None:
    found = mean_interval(SLEEP)
    half = 2.262157 * np.std(SLEEP, ddof=1) / np.sqrt(10)  # the t table: 0.975, 9 degrees of freedom
    assert (found.low, found.high) == (pytest.approx(1.58 - half, abs=1e-6), pytest.approx(1.58 + half, abs=1e-6))
    assert found.n == 10 and round(found.spread, 3) == 1.230


def test_bootstrap_intervals_are_those_of_their_definitions() -> None:
    """Percentile and BCa (Efron 1987, equation 2.3) written out anew, with samples of their own."""
    values, rng = np.array(SCORES, dtype=float), np.random.default_rng(99)
    drawn = np.sort(values[rng.integers(0, 26, size=(40_000, 26))].var(axis=1))
    left_out = np.array([np.delete(values, place).var() for place in range(26)])
    apart = left_out.mean() - left_out
    acceleration = np.sum(apart**3) / (6 * np.sum(apart**2) ** 1.5)
    bias = norm.ppf(np.mean(drawn < values.var()))
    shifted = bias + norm.ppf([0.05, 0.95])
    ends = np.quantile(drawn, norm.cdf(bias + shifted / (1 - acceleration * shifted)))
    found = bootstrap_interval(SCORES, np.var, confidence=0.9)
    assert round(found.estimate, 1) == 171.5
    assert found.low == pytest.approx(ends[0], abs=3) and found.high == pytest.approx(ends[1], abs=6)
    plain = bootstrap_interval(SCORES, np.var, confidence=0.9, method="percentile")
    middle = np.quantile(drawn, [0.05, 0.95])
    assert plain.low == pytest.approx(middle[0], abs=4) and plain.high == pytest.approx(middle[1], abs=4)
    assert ends[1] - middle[1] > 10, "a control: the two are told apart"


def covered(method: str, n: int, simulations: int = 400) -> float:
    """How often a 95 % interval of n normal values holds their mean."""
    rng = np.random.default_rng(n)
    drawn = rng.normal(size=(simulations, n))
    return float(np.mean([mean_interval(row, method=method, resamples=499).holds(0.0) for row in drawn]))


def test_the_t_interval_covers_what_it_says() -> None:
    assert covered("t", 3) == pytest.approx(0.95, abs=0.03) and covered("t", 10) == pytest.approx(0.95, abs=0.03)


def test_bootstrap_intervals_of_few_values_are_too_narrow_as_the_module_says() -> None:
    assert covered("percentile", 10, 200) == pytest.approx(0.90, abs=0.045)
    assert covered("percentile", 3, 200) == pytest.approx(0.75, abs=0.08)


def test_seeds_are_drawn_within_their_data_set() -> None:
    rng = np.random.default_rng(0)
    easy, hard = 90 + rng.normal(size=200), 10 + rng.normal(size=200)
    found = stratified_interval({"easy": easy, "hard": hard})
    # the variance of the mean of two means of 200; drawn over both at once it would be forty times as wide
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(2 / 200) / 2, rel=0.15)
    pooled = bootstrap_interval([*easy, *hard], np.mean)
    assert pooled.high - pooled.low > 20 * (found.high - found.low)


def test_one_more_run_falls_where_a_textbook_says() -> None:
    # Montgomery and Runger, Applied Statistics and Probability for Engineers (3rd edition), example 8-8: 22 specimens
    # of mean 13.71 and standard deviation 3.55, 95 %: 6.16 to 21.26
    values = np.random.default_rng(0).normal(size=22)
    values = 13.71 + 3.55 * (values - values.mean()) / values.std(ddof=1)
    found = prediction_interval(values)
    assert (found.low, found.high) == (pytest.approx(6.16, abs=0.006), pytest.approx(21.26, abs=0.006))


def test_prediction_covers_one_more_and_a_confidence_interval_does_not() -> None:
    rng = np.random.default_rng(1)
    drawn = rng.normal(size=(1000, 6))
    inside = [prediction_interval(row[:5]).holds(row[5]) for row in drawn]
    mean_only = [mean_interval(row[:5]).holds(row[5]) for row in drawn]
    between = [row[:5].min() <= row[5] <= row[:5].max() for row in drawn]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.025) and np.mean(mean_only) < 0.75
    assert np.mean(between) == pytest.approx(4 / 6, abs=0.05), "(n - 1)/(n + 1), as the report says"


@pytest.mark.parametrize("method", ["t", "percentile", "bca"])
def test_equal_values_have_an_interval_of_no_width(method: str) -> None:
    found = mean_interval([3.0, 3.0, 3.0], method=method)
    assert (found.low, found.high, found.spread) == (3.0, 3.0, 0.0)


def test_no_interval_is_invented() -> None:
    with pytest.raises(TooLittle, match="1 value,"):
        mean_interval([3.0])
    with pytest.raises(TooLittle, match=r"1 of 3 values are not finite \(at 1\)"):
        mean_interval([3.0, float("nan"), 4.0])
    with pytest.raises(TooLittle, match="hard"):
        stratified_interval({"easy": [1.0, 2.0], "hard": [1.0]})
    with pytest.raises(UsageError, match="method"):
        mean_interval([1.0, 2.0], method="jackknife")
    with pytest.raises(UsageError, match="confidence"):
        mean_interval([1.0, 2.0], confidence=95)


def test_the_prediction_interval_is_the_closed_form() -> None:
    found = prediction_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.7764451 * 2.5**0.5 * (1 + 1 / 5) ** 0.5  # t(0.975, 4) = 2.776; mean 3, s = sqrt 2.5
    assert (found.low, found.high) == (pytest.approx(3 - half, abs=1e-6), pytest.approx(3 + half, abs=1e-6))


@pytest.mark.parametrize("values", [[], [0.9], [0.9, float("nan")]])
def test_a_prediction_needs_two_finite_values(values: list[float]) -> None:
    with pytest.raises(TooLittle):
        prediction_interval(values)
