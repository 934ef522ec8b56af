"""Rankings of models over seeds and data sets, and equivalence."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from ndrepro.analysis.statistics.equivalence import (
    DIFFERENT,
    EQUIVALENT,
    NEGLIGIBLE,
    UNDECIDED,
    independent_equivalence,
    paired_equivalence,
)
from ndrepro.analysis.statistics.rankings import rank_agreement, rank_agreement_overall, rank_distribution
from ndrepro.analysis.statistics.samples import TooLittle
from ndrepro.protocol.errors import UsageError


def test_models_that_never_overlap_have_one_rank_each() -> None:
    results = {"digits": {"good": [9, 8, 9], "bad": [1, 2, 1], "middle": [5, 5, 6]}}
    found = rank_distribution(results)
    assert found.counts["digits"].tolist() == [[1000, 0, 0], [0, 0, 1000], [0, 1000, 0]]
    assert found.mean_rank == {"good": 1, "bad": 3, "middle": 2} and found.first["good"] == 1


def test_a_single_draw_ranks_as_two_normal_values_do() -> None:
    rng = np.random.default_rng(0)
    results = {name: {"a": rng.normal(size=300) + 0.9539, "b": rng.normal(size=300)} for name in ("x", "y")}
    one = rank_distribution(results)
    assert one.first["a"] == pytest.approx(0.75, abs=0.04)
    assert one.overall.sum() == 2 * 1000 * 2


def test_equal_values_share_the_better_rank() -> None:
    found = rank_distribution({"x": {"a": [1.0, 1.0], "b": [1.0, 1.0]}})
    assert found.overall.tolist() == [[1000, 0], [1000, 0]]


def test_a_model_that_has_not_run_everywhere_is_named() -> None:
    with pytest.raises(TooLittle, match="y has no runs of b"):
        rank_distribution({"x": {"a": [1, 2], "b": [1, 2]}, "y": {"a": [1, 2]}})
    with pytest.raises(TooLittle, match="b: 1 value,"):
        rank_distribution({"x": {"a": [1, 2], "b": [1]}})


def test_scenarios_that_agree_and_that_do_not() -> None:
    tuned = {"a": [1.0, 1.1], "b": [2.0, 2.1], "c": [3.0, 3.1], "only tuned": [0, 1]}
    same = rank_agreement(tuned, {"a": [10, 11], "b": [20, 21], "c": [30, 31]})
    assert (same.tau, same.rho, same.interval, same.swapped) == (1.0, pytest.approx(1.0), (1.0, 1.0), ())
    assert same.only_first == ("only tuned",)
    # of three pairs one changes its order: tau = (2 - 1) / 3
    other = rank_agreement(tuned, {"a": [2.0, 2.1], "b": [1.0, 1.1], "c": [3.0, 3.1]})
    assert other.tau == pytest.approx(1 / 3) and other.swapped == (("a", "b"),)
    with pytest.raises(TooLittle, match="share 1"):
        rank_agreement({"a": [1, 2]}, {"a": [1, 2]})


def test_agreement_over_data_sets_is_the_mean_of_each_and_its_interval_covers_it() -> None:
    orders = {"a": [1.0, 1.1], "b": [2.0, 2.1], "c": [3.0, 3.1]}
    turned = {"a": [2.0, 2.1], "b": [1.0, 1.1], "c": [3.0, 3.1]}
    two = rank_agreement_overall({"x": orders, "y": orders}, {"x": orders, "y": turned, "only here": orders})
    assert two.tau == pytest.approx((1 + 1 / 3) / 2) and set(two.datasets) == {"x", "y"}
    assert two.interval == (pytest.approx(two.tau), pytest.approx(two.tau)), "no seed changes these orders"
    assert not two.datasets_drawn
    names = "vwxyz"
    many = rank_agreement_overall(dict.fromkeys(names, orders), {n: turned if n in "vw" else orders for n in names})
    assert many.datasets_drawn and many.interval[0] < many.tau < many.interval[1], "other data sets may be otherwise"
    with pytest.raises(TooLittle, match="no data set"):
        rank_agreement_overall({"x": orders}, {"y": orders})


def test_the_interval_of_agreement_holds_the_true_order_s_as_often_as_it_should() -> None:
    rng = np.random.default_rng(6)
    true = {"a": 0.0, "b": 3.0, "c": 6.0}  # far apart for ten seeds: the true tau of two scenarios is 1

    def drawn(spread: float) -> dict[str, dict[str, list[float]]]:
        return {"x": {name: list(mean + spread * rng.normal(size=10)) for name, mean in true.items()}}

    sure = [rank_agreement_overall(drawn(1.0), drawn(1.0)) for _ in range(20)]
    assert all(found.interval == (1.0, 1.0) for found in sure)
    unsure = [rank_agreement_overall(drawn(9.0), drawn(9.0)) for _ in range(40)]
    assert np.mean([found.interval[1] == 1.0 for found in unsure]) > 0.8
    assert np.mean([found.interval[0] < 1.0 for found in unsure]) > 0.9, "a control: one order is not shown"


def test_equivalence_is_the_ninety_percent_interval_inside_the_margin() -> None:
    sleep = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]  # its 90 % interval is 0.867 to 2.293
    found = paired_equivalence(sleep, 2.0)
    assert (round(found.low, 3), round(found.high, 3), found.verdict) == (0.867, 2.293, DIFFERENT)
    assert found.p_of_zero == pytest.approx(ttest_1samp(sleep, 0).pvalue)  # Student (1908), by scipy's own test
    edge = found.smallest_margin
    assert paired_equivalence(sleep, edge * 1.0001).p_value < 0.05 < paired_equivalence(sleep, edge * 0.9999).p_value
    assert paired_equivalence(sleep, 2.5).verdict == NEGLIGIBLE
    centred = [value - 1.58 for value in sleep]
    assert paired_equivalence(centred, 1.0).verdict == EQUIVALENT
    assert paired_equivalence(centred, 0.5).verdict == UNDECIDED


def test_a_difference_at_the_margin_is_called_equivalent_one_time_in_twenty() -> None:
    rng = np.random.default_rng(4)
    drawn = rng.normal(size=(600, 12))
    at_margin = [paired_equivalence(row + 1.5, 1.5).p_value < 0.05 for row in drawn]
    assert np.mean(at_margin) == pytest.approx(0.05, abs=0.025)
    assert np.mean([paired_equivalence(row, 1.5).p_value < 0.05 for row in drawn[:100]]) > 0.9


def test_samples_without_pairs_can_be_equivalent_too() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=60), rng.normal(size=40) * 2
    assert independent_equivalence(a, b, 2.0).verdict == EQUIVALENT
    assert independent_equivalence(a + 5, b, 2.0).verdict == DIFFERENT
    assert independent_equivalence([1.0, 1.0], [1.0, 1.0], 0.1).verdict == EQUIVALENT


def test_equal_bits_are_equivalence_itself_and_a_constant_shift_is_refused() -> None:
    assert paired_equivalence([0.0, 0.0, 0.0], 0.1).verdict == EQUIVALENT
    with pytest.raises(TooLittle, match="no spread"):
        paired_equivalence([0.5, 0.5], 0.1)
    for margin in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="margin"):
            paired_equivalence([1.0, 2.0], margin)
