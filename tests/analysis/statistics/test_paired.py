"""Paired comparisons against published examples and closed forms, and how often they are wrong."""

from __future__ import annotations

import numpy as np
import pytest

from ndrepro.analysis.statistics.paired import (
    BETTER,
    SMALL,
    UNSHOWN,
    compare_pairs,
    holm,
    pair,
    paired_t_test,
    superiority,
)
from ndrepro.analysis.statistics.samples import TooLittle

SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]  # Student (1908)


def test_the_p_value_is_that_of_the_paired_t_test() -> None:
    # Student (1908): t = 4.06 with 9 degrees of freedom, p = 0.0028
    assert paired_t_test(SLEEP) == pytest.approx(0.00283, abs=5e-6)
    assert paired_t_test([0.0, 0.0, 0.0]) == 1.0 and paired_t_test([1.0, 1.0, 1.0]) is None


def test_the_interval_excludes_zero_exactly_where_the_p_value_is_below_five_percent() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.normal(1.0, 1, size=(200, 4))
    found = [compare_pairs(dict(enumerate(row)), dict.fromkeys(range(4), 0.0)) for row in drawn]
    shown = [each.p_value is not None and each.p_value < 0.05 for each in found]
    assert shown == [not each.difference.holds(0.0) for each in found] and 20 < sum(shown) < 180


def test_p_values_are_corrected_as_holm_did() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    with pytest.raises(TooLittle):
        holm([0.1, float("nan")])


def test_the_share_of_wins_counts_ties_half() -> None:
    found = superiority([1, 2, 3, 4], [0, 2, 2, 5])
    assert found.share == 0.625 and found.ties == 1 and found.n == 4


def test_the_rule_asks_for_luck_and_for_size() -> None:
    a = np.arange(40.0)
    assert superiority(a + 1, a).verdict == BETTER
    few = a + np.where(np.arange(40) % 20 < 14, 1, -1)
    assert superiority(few, a).share == 0.7 and superiority(few, a).verdict == SMALL
    assert superiority(a + np.where(np.arange(40) % 2, 1, -1), a).verdict == UNSHOWN


def test_four_of_four_is_luck_and_six_of_six_is_not() -> None:
    found = superiority(np.arange(4.0) + 1, np.arange(4.0))
    # Clopper and Pearson where all are won: the lower end is (alpha / 2)^(1 / n)
    assert (found.low, found.high) == pytest.approx((0.025 ** (1 / 4), 1.0)) and found.verdict == UNSHOWN
    assert superiority(np.arange(5.0) + 1, np.arange(5.0)).verdict == UNSHOWN
    assert superiority(np.arange(6.0) + 1, np.arange(6.0)).verdict == BETTER


def test_the_interval_of_a_share_covers_it() -> None:
    rng = np.random.default_rng(2)
    drawn = rng.normal(size=(150, 2, 30))
    drawn[:, 0] += 0.9539  # P(A > B) of two normal values that far apart is 0.75
    found = [superiority(a, b) for a, b in drawn]
    assert np.mean([item.low <= 0.75 <= item.high for item in found]) >= 0.94, "exact intervals cover at least 95 %"


def test_a_run_without_its_partner_is_named() -> None:
    pairs = pair({0: 1.0, 1: 2.0, 2: 3.0}, {1: 1.5, 2: 2.0, 3: 9.0})
    assert pairs.keys == (1, 2) and pairs.differences == (0.5, 1.0)
    assert (pairs.only_first, pairs.only_second) == ((0,), (3,))
    found = compare_pairs({0: 1.0, 1: 2.0, 2: 3.0, 4: 1.0}, {1: 1.5, 2: 2.0, 3: 9.0, 4: 1.0})
    assert found.difference.estimate == 0.5 and found.only_first == (0,) and found.only_second == (3,)


def test_fewer_than_three_pairs_and_unequal_lists_are_refused() -> None:
    with pytest.raises(TooLittle, match="no run of one side has a partner"):
        compare_pairs({0: 1.0}, {1: 1.0})
    with pytest.raises(TooLittle, match="1 value,"):
        compare_pairs({0: 1.0}, {0: 2.0})
    with pytest.raises(TooLittle, match="n = 2 pairs: no interval"):
        compare_pairs({0: 1.0, 1: 2.0}, {0: 2.0, 1: 2.5})
    with pytest.raises(TooLittle, match="no pairs"):
        superiority([1, 2, 3], [1, 2])
