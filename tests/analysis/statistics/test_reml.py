"""The mixed model against components that lme4 prints, against statsmodels, and against the truth."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest

from ndrepro.analysis.sensitivity.numbers import divided
from ndrepro.analysis.statistics.anova import Components, variance_components
from ndrepro.analysis.statistics.reml import mixed_components, mixed_shares
from ndrepro.analysis.statistics.samples import TooLittle

# Diameters (mm) of 24 plates by 6 samples of penicillin: Davies and Goldsmith, Statistical Methods in Research and
# Production (4th ed. 1972), section 6.6; the data set Penicillin of the R package lme4
PENICILLIN = """
27 23 26 23 23 21 27 23 26 23 23 21 25 21 25 24 24 20 26 23 25 23 23 20 25 22 26 22 23 20 24 22 25 23 22 19
24 20 23 21 22 19 26 22 26 24 24 21 24 21 24 22 22 20 24 21 24 23 22 19 26 23 26 24 24 21 25 22 26 24 24 20
26 24 26 24 25 22 26 23 26 23 23 20 26 23 25 24 24 22 25 22 25 23 23 20 25 21 24 23 23 20 25 22 24 23 23 19
24 21 23 21 21 19 26 23 26 24 24 21 25 21 24 22 22 18 25 22 25 22 22 20 24 21 24 22 24 19 24 21 24 22 21 18
"""
DIAMETERS = [float(text) for text in PENICILLIN.split()]
PLATES = {"plate": [place // 6 for place in range(144)], "sample": [place % 6 for place in range(144)]}
LACKING = {3, 17, 40, 41, 77, 100, 120, 121, 143}

Levels = dict[str, list[int]]


def without(gone: set[int]) -> tuple[Levels, list[float]]:
    kept = [place for place in range(144) if place not in gone]
    return {axis: [each[place] for place in kept] for axis, each in PLATES.items()}, [DIAMETERS[at] for at in kept]


def crossed(rng: np.random.Generator, *deviations: float, sizes: tuple[int, ...]) -> tuple[Levels, np.ndarray]:
    """A full design with the main effects of its axes and, last, a residual."""
    points = np.array([*itertools.product(*map(range, sizes))])
    effects = (rng.normal(size=size)[points[:, at]] * deviations[at] for at, size in enumerate(sizes))
    levels = {"abc"[at]: points[:, at].tolist() for at in range(len(sizes))}
    return levels, sum(effects) + rng.normal(size=len(points)) * deviations[-1]


def part(levels: Levels, values: np.ndarray, kept: np.ndarray) -> tuple[Levels, list[float]]:
    return {axis: [each[at] for at in kept] for axis, each in levels.items()}, [float(values[at]) for at in kept]


def shares(found: Components) -> list[float]:
    return [item.share for item in found.components]


def test_a_published_example_has_the_components_that_lme4_prints() -> None:
    """lmer(diameter ~ 1 + (1 | plate) + (1 | sample)): 0.8467, 1.9316 and 0.5499 (e.g. Bates, lme4, section 2.1)."""
    found = mixed_components(PLATES, DIAMETERS)
    assert [item.deviation for item in found.components] == pytest.approx([0.8467, 1.9316, 0.5499], abs=2e-4)
    assert found.method == "reml" and found.notes == ()
    assert shares(found) == pytest.approx(shares(variance_components(PLATES, DIAMETERS)), abs=1e-4)
    other = mixed_shares(PLATES, [*DIAMETERS[:-1], DIAMETERS[-1] + 3])
    assert other is not None and [*other.values()] != pytest.approx(shares(found), abs=1e-3)


def test_of_an_unequal_design_they_are_those_of_statsmodels() -> None:
    from statsmodels.regression.mixed_linear_model import MixedLM

    levels, values = without(LACKING)
    found = mixed_components(levels, values)
    table = pd.DataFrame({"value": values, **levels, "one": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MixedLM.from_formula(
            "value ~ 1",
            groups="one",
            re_formula="0",
            vc_formula={"plate": "0 + C(plate)", "sample": "0 + C(sample)"},
            data=table,
        ).fit(reml=True)
    theirs = [*model.vcomp, model.scale]
    assert [item.variance for item in found.components] == pytest.approx(theirs, rel=3e-3)
    assert found.n == 135 and all(item.share_low < item.share < item.share_high for item in found.components)
    assert found.of("plate").p_value is not None and found.of("plate").p_value < 1e-9


def test_an_unequal_design_is_divided_whole_and_said_to_be_unequal() -> None:
    levels, values = without(LACKING)
    found = divided(levels, values)
    assert found.components.method == "reml" and found.components.n == 135 and found.dropped == ()
    assert found.unequal == "unequal design: 9 of 144 combinations have no run"
    whole = divided(PLATES, DIAMETERS)
    assert whole.components.method == "anova" and whole.unequal == ""
    assert whole.check == pytest.approx({item.source: item.share for item in whole.components.components}, abs=1e-4)
    # a run made twice makes a design unequal too, and is no reason to leave one out
    twice = {axis: [*each, each[0]] for axis, each in PLATES.items()}
    assert divided(twice, [*DIAMETERS, DIAMETERS[0]]).components.n == 145


def test_a_component_of_nothing_is_at_the_edge_and_nothing_is_shown() -> None:
    levels, values = crossed(np.random.default_rng(2), 0.0, 2.0, 1.0, sizes=(4, 8))
    found = mixed_components(*part(levels, values, np.arange(3, 32)))
    assert found.of("a").share_low == 0 and found.of("a").p_value is not None and found.of("a").p_value > 0.05
    assert found.of("b").p_value is not None and found.of("b").p_value < 0.01


@pytest.mark.numerics
def test_components_of_very_different_sizes_are_found() -> None:
    """A residual of a hundredth of a percent, as where bits hardly matter: the same as of the analysis of variance."""
    levels, values = crossed(np.random.default_rng(8), 3.0, 5.0, 0.05, sizes=(6, 12))
    found = mixed_shares(levels, [float(value) for value in values])
    assert found is not None and found["residual"] < 2e-4
    assert [*found.values()] == pytest.approx(shares(variance_components(levels, values)), rel=2e-2)


def test_interactions_and_totals_of_three_axes() -> None:
    levels, values = crossed(np.random.default_rng(4), 0.0, 1.0, 2.0, 0.5, sizes=(2, 5, 5))
    kept = np.arange(2, 50)
    found = mixed_components(*part(levels, values, kept))
    assert [item.source for item in found.components] == ["a", "b", "c", "a x b", "a x c", "b x c", "residual"]
    assert sum(shares(found)) == pytest.approx(1)
    total = sum(item.share for item in found.components if item.source in ("c", "a x c", "b x c", "residual"))
    assert found.of("c").total_share == pytest.approx(total)
    interval = found.of("c").total_interval
    assert interval is not None and interval[0] < total < interval[1]
    assert found.of("b x c").total_share is None
    estimates = mixed_shares(*part(levels, values, kept))
    assert estimates == pytest.approx({item.source: item.share for item in found.components})


def test_intervals_hold_the_truth_where_levels_are_few() -> None:
    """Five levels and seven, six of 35 runs missing. Of 200 such designs 94, 94 and 96.5 % hold the three shares."""
    rng, deviations = np.random.default_rng(11), (1.0, 1.5, 1.0)
    truth = np.square(deviations) / np.sum(np.square(deviations))
    inside = []
    for _ in range(8):
        levels, values = crossed(rng, *deviations, sizes=(5, 7))
        found = mixed_components(*part(levels, values, np.sort(rng.permutation(35)[6:])))
        inside += [item.share_low <= at <= item.share_high for item, at in zip(found.components, truth, strict=True)]
    assert np.mean(inside) >= 0.75  # of 24


def test_what_cannot_be_told_apart_is_refused() -> None:
    # one thing at a time: b was varied at the first level of a only, and both at one seed
    with pytest.raises(TooLittle, match="too few runs to tell"):
        mixed_components({"a": [0, 0, 1, 2], "b": [0, 1, 0, 0], "c": [0, 1, 0, 1]}, [1.0, 2.0, 4.0, 3.0])
    with pytest.raises(TooLittle, match="one level"):
        mixed_components({"a": [0, 0, 0], "b": [0, 1, 2]}, [1.0, 2.0, 3.0])
    with pytest.raises(TooLittle, match="not finite"):
        mixed_components(PLATES, [float("nan"), *DIAMETERS[1:]])
    with pytest.raises(TooLittle, match="no part"):
        divided({"a": ["0", "1"], "b": ["0", "1"]}, [1.0, 2.0])


def test_where_nothing_is_left_over_it_is_said() -> None:
    points = [(a, b) for a in range(3) for b in range(4)][:-1]
    found = mixed_components(
        {"a": [a for a, _ in points], "b": [b for _, b in points]}, [a + 2.0 * b for a, b in points]
    )
    assert any("nothing is left for the residual" in note for note in found.notes)
    same = mixed_components({"a": [a for a, _ in points], "b": [b for _, b in points]}, [5.0] * 11)
    assert same.total == 0
