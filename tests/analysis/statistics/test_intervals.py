"""Intervals against textbooks, their own definitions, and how often they hold what they should."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_ind

from ndrepro.analysis.statistics.intervals import (
    mean_interval,
    prediction_interval,
    stratified_interval,
)
from ndrepro.analysis.statistics.samples import TooLittle
from ndrepro.protocol.errors import UsageError

# Student's sleep data (1908): hours gained with the second drug over the first, ten patients
SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]


def test_the_t_interval_is_the_textbook_s() -> None:
    found = mean_interval(SLEEP)
    half = 2.262157 * np.std(SLEEP, ddof=1) / np.sqrt(10)  # the t table: 0.975, 9 degrees of freedom
    assert (found.low, found.high) == (pytest.approx(1.58 - half, abs=1e-6), pytest.approx(1.58 + half, abs=1e-6))
    assert found.n == 10 and round(found.spread, 3) == 1.230


def covered(n: int) -> float:
    """How often a 95 % interval of n normal values holds their mean."""
    drawn = np.random.default_rng(n).normal(size=(400, n))
    return float(np.mean([mean_interval(row).holds(0.0) for row in drawn]))


def test_the_t_interval_covers_what_it_says() -> None:
    assert covered(3) == pytest.approx(0.95, abs=0.03) and covered(10) == pytest.approx(0.95, abs=0.03)


def test_the_mean_over_two_data_sets_has_the_interval_of_welch() -> None:
    rng = np.random.default_rng(0)
    easy, hard = 90 + rng.normal(size=5), 10 + 3 * rng.normal(size=8)
    found = stratified_interval({"easy": easy, "hard": hard})
    ends = ttest_ind(easy, -hard, equal_var=False).confidence_interval(0.95)  # of the sum, twice the mean
    assert (found.low, found.high) == pytest.approx((ends.low / 2, ends.high / 2))
    assert found.estimate == pytest.approx((easy.mean() + hard.mean()) / 2) and found.n == 13


def test_the_mean_over_data_sets_is_covered_at_three_seeds_each() -> None:
    drawn = np.random.default_rng(4).normal(size=(400, 3, 3)) * np.array([1, 2, 4])[:, None]
    inside = [stratified_interval(dict(zip("abc", rows, strict=True))).holds(0.0) for rows in drawn]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)


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


def test_equal_values_have_an_interval_of_no_width() -> None:
    for found in (mean_interval([3.0, 3.0, 3.0]), stratified_interval({"a": [3.0, 3.0], "b": [3.0, 3.0]})):
        assert (found.low, found.high, found.spread) == (3.0, 3.0, 0.0)


def test_no_interval_is_invented() -> None:
    with pytest.raises(TooLittle, match="1 value,"):
        mean_interval([3.0])
    with pytest.raises(TooLittle, match=r"1 of 3 values are not finite \(at 1\)"):
        mean_interval([3.0, float("nan"), 4.0])
    with pytest.raises(TooLittle, match="hard"):
        stratified_interval({"easy": [1.0, 2.0], "hard": [1.0]})
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
