"""Two sides are compared by their pairs where they have them, and as samples where not; too few values say so."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import t

from ndrepro.analysis.statistics.differences import (
    FEW,
    WILD,
    Difference,
    corrected,
    difference_of,
    over_strata,
    welch_interval,
)
from ndrepro.analysis.statistics.equivalence import EQUIVALENT, UNDECIDED
from ndrepro.protocol.errors import UsageError

# extra hours of sleep under two drugs (Student 1908, Cushny and Peebles' data): the pairs differ by 1.58 +- 0.88 hours
FIRST = dict(enumerate([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]))
SECOND = dict(enumerate([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]))


def moved(side: dict[int, float], by: int) -> dict[int, float]:
    """The same values under other seeds."""
    return {seed + by: value for seed, value in side.items()}


def test_student_s_sleep_is_compared_by_its_pairs() -> None:
    found = difference_of(FIRST, SECOND)
    assert found.interval and found.paired and found.sizes == (10, 10) and found.alone == 0
    assert (found.interval.estimate, found.interval.low, found.interval.high) == pytest.approx(
        (1.58, 0.7001, 2.4599), abs=1e-4
    )
    assert found.p_value == pytest.approx(0.00283, abs=1e-5), "t = 4.0621 at 9 degrees of freedom"
    assert found.needed and found.needed_for_margin
    assert found.needed.n == 7 and found.needed_for_margin.n == 14, "statsmodels' noncentral t at sd 1.23"
    assert found.equivalence and found.equivalence.verdict != EQUIVALENT


def test_other_seeds_are_no_pairs_and_the_difference_is_then_less_certain() -> None:
    found, pairs = difference_of(FIRST, moved(SECOND, 10)), difference_of(FIRST, SECOND)
    assert found.interval and pairs.interval and found.p_value and pairs.p_value
    assert not found.paired and found.values == () and found.interval.estimate == pytest.approx(1.58)
    # Welch's t of these is -1.8608 at 17.776 degrees of freedom, p = 0.0794
    half = t.ppf(0.975, 17.776) * 1.58 / 1.8608
    assert (found.interval.low, found.interval.high) == pytest.approx((1.58 - half, 1.58 + half), abs=1e-3)
    assert found.p_value == pytest.approx(0.079, abs=0.01) and found.p_value > 5 * pairs.p_value
    assert found.equivalence and found.equivalence.verdict == UNDECIDED
    assert found.needed and pairs.needed and found.needed.n > pairs.needed.n


def test_runs_without_a_partner_are_counted_and_one_pair_among_samples_makes_no_pairs() -> None:
    found = difference_of({**FIRST, 77: 100.0}, SECOND)
    assert found.alone == 1 and found.interval and found.interval.estimate == pytest.approx(1.58)
    single = difference_of({0: 1.0, 1: 2.0, 2: 3.0}, {2: 4.0, 3: 5.0, 4: 6.0})
    assert not single.paired and single.p_value == pytest.approx(0.0213, abs=1e-4), "t = 3.674 at 4 degrees of freedom"


def test_the_interval_excludes_zero_exactly_where_the_test_is_significant() -> None:
    rng = np.random.default_rng(5)
    verdicts = set()
    for count, shift in product((3, 4, 10), (0.0, 1.0, 2.0)):
        first, second = dict(enumerate(rng.normal(shift, 1, count))), dict(enumerate(rng.normal(0, 1, count)))
        for found in (difference_of(first, second), difference_of(first, moved(second, 10))):
            assert found.interval and found.p_value is not None
            assert found.interval.holds(0) == (found.p_value > 0.05)
            verdicts.add(found.interval.holds(0))
    assert verdicts == {True, False}


def test_too_little_is_an_answer_of_its_own() -> None:
    assert difference_of({0: 1.0}, {0: 2.0}) == Difference((1, 1), False, why=FEW)
    assert difference_of({0: 1.0, 1: 2.0}, {5: 2.0}).why == FEW
    two = difference_of({0: 1.0, 1: 2.5}, {0: 2.0, 1: 2.0})
    assert (two.why, two.interval) == (FEW, None), "two pairs: t at one degree of freedom tells nothing"
    wild = difference_of({0: 1.0, 1: math.nan, 2: 1.0}, {0: 2.0, 1: 1.0, 2: 0.0})
    assert wild.why == WILD and wild.interval is None and wild.p_value is None
    with pytest.raises(UsageError, match="margin"):
        difference_of(FIRST, SECOND, margin=0)


def test_what_never_varies_needs_no_seeds_and_has_no_test() -> None:
    same = difference_of({0: 1.0, 1: 2.0, 2: 5.0}, {0: 1.0, 1: 2.0, 2: 5.0})
    assert same.interval and (same.interval.low, same.interval.high, same.needed) == (0, 0, None)
    assert same.equivalence and same.equivalence.verdict == EQUIVALENT
    for second in ({0: 0.0, 1: 1.0, 2: 2.0}, {5: 0.0, 6: 0.0, 7: 0.0}):
        first = {0: 3.0, 1: 4.0, 2: 5.0} if 0 in second else {0: 3.0, 1: 3.0, 2: 3.0}
        constant = difference_of(first, second)
        assert constant.interval and constant.interval.estimate == 3 == constant.interval.low
        assert constant.equivalence is constant.needed is constant.p_value is None


def test_p_values_are_corrected_over_those_that_there_are() -> None:
    one, other = difference_of(FIRST, SECOND), difference_of(FIRST, moved(SECOND, 10))
    found = corrected([one, difference_of({0: 1.0}, {0: 1.0}), other])
    assert one.p_value is not None
    assert [each.p_holm for each in found] == [pytest.approx(2 * one.p_value), None, other.p_value]
    assert corrected([]) == ()


def test_over_data_sets_each_counts_alike_however_many_seeds_it_has() -> None:
    much = difference_of(dict(enumerate([11.0, 11.5, 10.5] * 5)), dict(enumerate([1.0] * 15)))
    little = difference_of({0: 2.0, 1: 3.0, 2: 4.0}, {0: 2.0, 1: 3.0, 2: 4.0})
    found = over_strata({"digits": much, "cifar10": little, "svhn": difference_of({0: 1.0}, {0: 9.0})})
    assert found and found.estimate == pytest.approx(5.0) and found.low < 5 < found.high
    pooled = np.mean([*much.values, *little.values])
    assert pooled > 8, "a control: all pairs in one heap would say otherwise"
    # the spread between data sets (10 and 0) is none of the interval's, which is that of seeds
    assert found.high - found.low < 0.5
    assert over_strata({"digits": much}) is None


def test_an_interval_of_two_samples_covers_their_difference_and_a_pooled_one_would_not() -> None:
    rng = np.random.default_rng(3)
    small, large = rng.normal(0, 4, (1500, 4)), rng.normal(0, 1, (1500, 20))
    found = [welch_interval(a, b) for a, b in zip(small, large, strict=True)]
    assert np.mean([each.holds(0) for each in found]) == pytest.approx(0.95, abs=0.025)
    variances = (3 * small.var(axis=1, ddof=1) + 19 * large.var(axis=1, ddof=1)) / 22
    pooled = np.sqrt(variances * (1 / 4 + 1 / 20))
    held = [abs(each.estimate) < t.ppf(0.975, 22) * width for each, width in zip(found, pooled, strict=True)]
    assert np.mean(held) < 0.85
