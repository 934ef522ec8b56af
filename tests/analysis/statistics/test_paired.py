"""Paired comparisons against published examples and closed forms, and how often they are wrong."""

from __future__ import annotations

import numpy as np
import pytest

from ndrepro.analysis.statistics import paired
from ndrepro.analysis.statistics.paired import (
    BETTER,
    SMALL,
    UNSHOWN,
    compare_pairs,
    holm,
    pair,
    sign_flip_test,
    superiority,
)
from ndrepro.analysis.statistics.samples import TooLittle

SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]  # Student (1908)


def test_all_exchanges_are_counted() -> None:
    # nine differences are positive and one is zero: of 2^10 exchanges four are as extreme as what was seen
    assert sign_flip_test(SLEEP) == 4 / 2**10


@pytest.mark.parametrize("count", [5, 40])
def test_what_is_drawn_piece_by_piece_is_what_is_drawn_at_once(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    first, second = rng.normal(0.3, 1, count), rng.normal(0, 1, count)
    found = []
    for at_once in (10**9, 1000, 1):
        monkeypatch.setattr(paired, "_AT_ONCE", at_once)
        test = sign_flip_test(first - second, resamples=499)
        shares = [superiority(first, second, resamples=499, paired=pairs) for pairs in (True, False)]
        found.append((test, *((share.low, share.high) for share in shares)))
    assert found[0] == found[1] == found[2]


def test_the_sign_flip_test_is_wrong_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    p_values = np.array([sign_flip_test(row) for row in rng.normal(size=(400, 7))])
    assert np.mean(p_values <= 0.05) == pytest.approx(0.05, abs=0.025)
    assert np.mean([sign_flip_test(row + 2) <= 0.05 for row in rng.normal(size=(50, 7))]) > 0.9


def test_p_values_are_corrected_as_holm_did() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    with pytest.raises(TooLittle):
        holm([0.1, float("nan")])


def test_the_share_of_wins_counts_ties_half() -> None:
    found = superiority([1, 2, 3, 4], [0, 2, 2, 5])
    assert found.share == 0.625 and found.ties == 1 and found.n == 4
    unpaired = superiority([1, 2, 3], [0, 1.5], paired=False)
    assert unpaired.share == pytest.approx(5 / 6) and unpaired.exact is None


def test_the_rule_asks_for_luck_and_for_size() -> None:
    a = np.arange(40.0)
    assert superiority(a + 1, a).verdict == BETTER
    few = a + np.where(np.arange(40) % 20 < 14, 1, -1)
    assert superiority(few, a).share == 0.7 and superiority(few, a).verdict == SMALL
    assert superiority(a + np.where(np.arange(40) % 2, 1, -1), a).verdict == UNSHOWN


def test_four_of_four_is_luck_and_six_of_six_is_not() -> None:
    found = superiority(np.arange(4.0) + 1, np.arange(4.0))
    assert (found.low, found.high) == (1.0, 1.0), "the bootstrap cannot see it"
    # Clopper and Pearson where all are won: the lower end is (alpha / 2)^(1 / n)
    assert found.exact == pytest.approx((0.025 ** (1 / 4), 1.0)) and found.verdict == UNSHOWN
    # Wilson (1927) there: n / (n + z^2)
    assert found.wilson == pytest.approx((4 / (4 + 1.959964**2), 1.0), abs=1e-6)
    assert superiority(np.arange(5.0) + 1, np.arange(5.0)).verdict == UNSHOWN
    assert superiority(np.arange(6.0) + 1, np.arange(6.0)).verdict == BETTER


def test_the_interval_of_a_share_covers_it() -> None:
    rng = np.random.default_rng(2)
    drawn = rng.normal(size=(150, 2, 30))
    drawn[:, 0] += 0.9539  # P(A > B) of two normal values that far apart is 0.75
    found = [superiority(a, b, resamples=499) for a, b in drawn]
    assert np.mean([item.low <= 0.75 <= item.high for item in found]) == pytest.approx(0.93, abs=0.05)
    unpaired = [superiority(a, b, paired=False, resamples=499) for a, b in drawn]
    assert np.mean([item.low <= 0.75 <= item.high for item in unpaired]) == pytest.approx(0.93, abs=0.05)


def test_a_run_without_its_partner_is_named() -> None:
    pairs = pair({0: 1.0, 1: 2.0, 2: 3.0}, {1: 1.5, 2: 2.0, 3: 9.0})
    assert pairs.keys == (1, 2) and pairs.differences == (0.5, 1.0)
    assert (pairs.only_first, pairs.only_second) == ((0,), (3,))
    found = compare_pairs({0: 1.0, 1: 2.0, 2: 3.0}, {1: 1.5, 2: 2.0, 3: 9.0})
    assert found.difference.estimate == 0.75 and found.only_first == (0,) and found.only_second == (3,)


def test_no_pairs_one_pair_and_unequal_lists_are_refused() -> None:
    with pytest.raises(TooLittle, match="no run of one side has a partner"):
        compare_pairs({0: 1.0}, {1: 1.0})
    with pytest.raises(TooLittle, match="1 value,"):
        compare_pairs({0: 1.0}, {0: 2.0})
    with pytest.raises(TooLittle, match="no pairs"):
        superiority([1, 2, 3], [1, 2])
