"""The prediction interval is the textbook's, and covers what it says it covers."""

import numpy as np
import pytest

from ndrepro.analysis.results.reproduction_verdict import prediction_interval


def test_the_interval_is_the_closed_form() -> None:
    # t(0.975, 4) = 2.776; mean 3, s = sqrt 2.5
    low, high = prediction_interval([1.0, 2.0, 3.0, 4.0, 5.0]) or (0.0, 0.0)
    half = 2.7764451 * 2.5**0.5 * (1 + 1 / 5) ** 0.5
    assert (low, high) == (pytest.approx(3 - half, abs=1e-6), pytest.approx(3 + half, abs=1e-6))


def test_fewer_than_two_values_give_none() -> None:
    assert prediction_interval([]) is None
    assert prediction_interval([0.9]) is None


def test_it_covers_one_more_value_as_often_as_it_says() -> None:
    generator = np.random.RandomState(0)
    covered = 0
    for _ in range(2000):
        *values, one_more = generator.standard_normal(6).tolist()
        low, high = prediction_interval(values) or (0.0, 0.0)
        covered += low <= one_more <= high
    # 95 % of 2,000, three standard errors either way
    assert 0.95 - 0.0146 < covered / 2000 < 0.95 + 0.0146
