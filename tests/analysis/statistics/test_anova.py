"""Variance components against a mixed model and against the truth; power against published tables."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from ndrepro.analysis.statistics.anova import complete_block, variance_components
from ndrepro.analysis.statistics.paired import RECOMMENDED_PAIRS, THRESHOLD
from ndrepro.analysis.statistics.power import achieved_power, detectable_difference, seeds_needed
from ndrepro.analysis.statistics.samples import TooLittle
from ndrepro.protocol.errors import UsageError


def design(*sizes: int, replicates: int = 1) -> dict[str, list[int]]:
    """Levels of a full design, axis by axis."""
    points = [*itertools.product(*map(range, sizes), range(replicates))]
    return {"abc"[place]: [point[place] for point in points] for place in range(len(sizes))}


def drawn(rng: np.random.Generator, sizes: tuple[int, int], deviations: tuple[float, float, float]) -> np.ndarray:
    a, b = (rng.normal(size=size) * deviation for size, deviation in zip(sizes, deviations, strict=False))
    return (a[:, None] + b[None, :] + rng.normal(size=sizes) * deviations[2]).ravel()


def test_two_axes_by_hand() -> None:
    # 2 x 3, values a + b: 1 2 3 / 3 4 5; MS_a = 6, MS_b = 2, MS_residual = 0, so 6/3, 2/2, 0
    found = variance_components(design(2, 3), [1, 2, 3, 3, 4, 5])
    assert [item.source for item in found.components] == ["a", "b", "residual"]
    assert [item.variance for item in found.components] == pytest.approx([2, 1, 0], abs=1e-12)
    assert [item.share for item in found.components] == pytest.approx([2 / 3, 1 / 3, 0])
    assert [item.degrees for item in found.components] == [1, 2, 2]


def test_they_are_those_of_a_mixed_model() -> None:
    # in a balanced design REML and the analysis of variance agree where nothing is negative
    from statsmodels.regression.mixed_linear_model import MixedLM

    values = drawn(np.random.default_rng(5), (6, 8), (2.0, 1.0, 0.5))
    levels = design(6, 8)
    found = variance_components(levels, values)
    table = pd.DataFrame({"value": values, **levels, "one": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MixedLM.from_formula(
            "value ~ 1", groups="one", re_formula="0", vc_formula={"a": "0 + C(a)", "b": "0 + C(b)"}, data=table
        ).fit(reml=True)
    assert [found.of("a").variance, found.of("b").variance] == pytest.approx(list(model.vcomp), rel=2e-3)
    assert found.of("residual").variance == pytest.approx(model.scale, rel=1e-3)


def test_sums_of_squares_are_those_of_statsmodels() -> None:
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    levels = design(3, 4, 2, replicates=2)
    table = pd.DataFrame({"value": np.random.default_rng(1).normal(size=48) + 90, **levels})
    shuffled = table.sample(frac=1, random_state=1)
    theirs = anova_lm(ols("value ~ C(a) * C(b) * C(c)", table).fit(), typ=2)
    found = variance_components({axis: list(shuffled[axis]) for axis in "abc"}, list(shuffled["value"]))
    assert [item.degrees for item in found.components] == theirs["df"].tolist()
    p_values = [item.p_value for item in found.components[:-1]]
    assert p_values == pytest.approx(theirs["PR(>F)"].tolist()[:-1], rel=1e-9)
    assert found.of("residual").estimate == pytest.approx(theirs["sum_sq"].iloc[-1] / 24, rel=1e-12)


def test_three_axes_and_replicates_find_the_truth() -> None:
    rng = np.random.default_rng(3)
    effect = {
        "a": rng.normal(size=(40, 1, 1, 1)) * 2,
        "b": rng.normal(size=(1, 40, 1, 1)),
        "a x b": rng.normal(size=(40, 40, 1, 1)) * 1.5,
    }
    values = (sum(effect.values()) + rng.normal(size=(40, 40, 1, 2)) * 0.5).ravel()
    levels = design(40, 40, replicates=2)
    found = variance_components(levels, values)
    assert [item.source for item in found.components] == ["a", "b", "a x b", "residual"]
    truth = [np.var(each, ddof=1) for each in effect.values()]
    assert [item.variance for item in found.components] == pytest.approx([*truth, 0.25], rel=0.15)
    assert found.of("a x b").p_value is not None and found.of("a x b").p_value < 1e-6
    assert found.replicates == 2 and sum(item.share for item in found.components) == pytest.approx(1)
    three = variance_components(design(3, 4, 2), np.arange(24.0))
    assert [item.source for item in three.components] == ["a", "b", "c", "a x b", "a x c", "b x c", "residual"]


def test_intervals_cover_and_the_bootstrap_over_levels_would_not() -> None:
    rng = np.random.default_rng(7)
    sizes, deviations = (8, 10), (1.0, 2.0, 0.7)
    levels, inside, naive = design(*sizes), [], []
    for _ in range(60):
        values = drawn(rng, sizes, deviations)
        one = variance_components(levels, values).of("a")
        inside.append(one.low <= 1 <= one.high)
        means = values.reshape(sizes).mean(axis=1)
        resampled = means[rng.integers(0, 8, size=(499, 8))].var(axis=1, ddof=1) - 0.49 / 10
        ends = np.quantile(resampled, [0.025, 0.975])
        naive.append(ends[0] <= 1 <= ends[1])
    assert np.mean(inside) >= 0.88 and np.mean(naive) < np.mean(inside)


def test_a_component_of_nothing_is_zero_and_its_estimate_says_how() -> None:
    # rows whose means are more alike than their values allow
    found = variance_components(design(2, 2, replicates=1), [0, 1, 1, 0])
    assert found.of("a").estimate < 0 and found.of("a").variance == 0
    same = variance_components(design(2, 3), [5.0] * 6)
    assert same.total == 0 and [item.share for item in same.components] == [0, 0, 0]


def test_unequal_designs_are_refused_and_their_complete_part_is_found() -> None:
    levels = design(3, 4)
    short = {axis: values[:-1] for axis, values in levels.items()}
    with pytest.raises(TooLittle, match="1 of 12 combinations have no run"):
        variance_components(short, np.arange(11.0))
    block = complete_block(short)
    assert block.dropped == (("b", 3),) and len(block.places) == 9
    part = {axis: [values[place] for place in block.places] for axis, values in short.items()}
    assert variance_components(part, [float(place) for place in block.places]).n == 9
    whole = complete_block(levels)
    assert whole.dropped == () and len(whole.places) == 12
    with pytest.raises(TooLittle, match="one level"):
        variance_components({"a": [0, 0, 0]}, [1.0, 2.0, 3.0])
    with pytest.raises(TooLittle, match="no part"):
        complete_block({"a": [0, 1], "b": [0, 1]})


def test_more_runs_in_one_combination_are_left_out_in_sight() -> None:
    levels = {"a": [0, 0, 1, 1, 1], "b": [0, 1, 0, 1, 1]}
    with pytest.raises(TooLittle, match="from 1 to 2 runs"):
        variance_components(levels, [1.0, 2, 3, 4, 5])
    assert complete_block(levels).places == (0, 1, 2, 3)


def test_power_is_that_of_the_tables() -> None:
    # Cohen (1988), and G*Power: effect 0.5, two-sided 5 %, power 80 %
    assert seeds_needed(1.0, 0.5).n == 34
    assert seeds_needed(1.0, 0.5, paired=False).n == 64
    assert seeds_needed(1.0, 0.8, paired=False).n == 26
    assert seeds_needed(2.0, -1.0).n == 34, "in the spread's own units, either way"
    found = detectable_difference(0.85, 10)
    assert achieved_power(0.85, found.difference, 10) == pytest.approx(0.8, abs=1e-6)
    assert found.difference == pytest.approx(0.85 * 0.9999, rel=0.01)  # G*Power: d = 0.9995 for ten pairs
    assert seeds_needed(0.85, found.difference).n == 10
    assert achieved_power(1.0, 1000.0, 10) == 1.0 and achieved_power(0.0, 0.1, 2) == 1.0


def test_power_is_met_by_simulation() -> None:
    from scipy.stats import ttest_1samp

    rng = np.random.default_rng(0)
    found = detectable_difference(1.0, 6)
    p_values = ttest_1samp(rng.normal(size=(4000, 6)) + found.difference, 0, axis=1).pvalue
    assert np.mean(p_values < 0.05) == pytest.approx(0.8, abs=0.025)


def test_twenty_nine_runs_show_three_quarters() -> None:
    low, high = norm.ppf([0.05, 0.95])
    assert math.ceil(((high - low) / (math.sqrt(6) * (0.5 - THRESHOLD))) ** 2) == RECOMMENDED_PAIRS


def test_power_refuses_what_it_cannot_mean() -> None:
    for call in (
        lambda: detectable_difference(1.0, 1),
        lambda: detectable_difference(float("nan"), 5),
        lambda: seeds_needed(1.0, 0.0),
    ):
        with pytest.raises(UsageError):
            call()
