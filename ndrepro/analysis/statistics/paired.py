"""Is A better than B? Answered over pairs that share their seed, data and execution environment.

The same seed draws the same first weights, order and augmentation for both, so that much of what a seed does cancels
in the difference of a pair. A run without its partner is named and counted, and enters no difference.

The mean difference has Student's t interval and its p-value is that of the paired t-test, so that the interval excludes
zero exactly where the p-value is below 5 %.

P(A > B) is the share of pairs in which A wins, ties counted half. Bouthillier et al. (Accounting for Variance in
Machine Learning Benchmarks, MLSys 2021, section 5) call A better when the lower end of its interval is above one half
(it was no luck) and the share is at least 0.75 (it matters). Their interval is a bootstrap's, which has no width where
few pairs all agree: four wins of four would do. Here it is the exact one (Clopper and Pearson 1934); six of six pass.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ndrepro.analysis.statistics.intervals import FEWEST_RUNS, Interval, mean_interval
from ndrepro.analysis.statistics.samples import TooLittle, check_level, sample

THRESHOLD = 0.75
# Pairs that show P(A > B) = THRESHOLD at 5 % (one-sided) with power 95 %, as Bouthillier et al. ask for.
# Source: Noether (1987), Wilcoxon-Mann-Whitney, (z(1 - alpha) - z(beta))^2 / (6 (THRESHOLD - 1/2)^2)
RECOMMENDED_PAIRS = 29
BETTER, SMALL, UNSHOWN = "better", "better, by too little to matter", "not shown"


@dataclass(frozen=True)
class Pairs:
    """Values that belong together, by key, and the keys that only one side has."""

    keys: tuple[Hashable, ...]
    first: tuple[float, ...]
    second: tuple[float, ...]
    only_first: tuple[Hashable, ...] = ()
    only_second: tuple[Hashable, ...] = ()

    @property
    def differences(self) -> tuple[float, ...]:
        """First less second, of every pair."""
        return tuple(a - b for a, b in zip(self.first, self.second, strict=True))


@dataclass(frozen=True)
class Superiority:
    """P(A > B) with its exact interval, and the verdict: BETTER, SMALL or UNSHOWN."""

    share: float
    low: float
    high: float
    n: int
    ties: int
    verdict: str
    threshold: float = THRESHOLD


@dataclass(frozen=True)
class Paired:
    """A paired comparison: mean difference with its t interval, paired t-test, P(A > B), and who has no partner.

    ``p_value`` is None where every pair differs by the same amount that is not zero: there is no spread to test with.
    """

    difference: Interval
    p_value: float | None
    superiority: Superiority
    only_first: tuple[Hashable, ...] = ()
    only_second: tuple[Hashable, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Every field, keys as text."""
        return {**vars(self), "only_first": [*map(str, self.only_first)], "only_second": [*map(str, self.only_second)]}


def pair(first: Mapping[Any, float], second: Mapping[Any, float]) -> Pairs:
    """Values of two sides put together by their keys (seeds, say), in the first side's order."""
    keys = tuple(key for key in first if key in second)
    return Pairs(
        keys,
        tuple(float(first[key]) for key in keys),
        tuple(float(second[key]) for key in keys),
        tuple(key for key in first if key not in second),
        tuple(key for key in second if key not in first),
    )


def compare_pairs(
    first: Mapping[Any, float], second: Mapping[Any, float], *, confidence: float = 0.95, what: str = "the pairs"
) -> Paired:
    """Everything that is said of two sides with the same keys.

    Raises TooLittle for fewer pairs than an interval takes (``FEWEST_RUNS``), or for NaN.
    """
    pairs = pair(first, second)
    if not pairs.keys:
        raise TooLittle(f"{what}: no run of one side has a partner on the other", "run both with the same seeds")
    differences = sample(pairs.differences, what)
    if len(differences) < FEWEST_RUNS:
        raise TooLittle(f"{what}: n = {len(differences)} pairs: no interval", f"run {FEWEST_RUNS} seeds of each")
    return Paired(
        mean_interval(differences, confidence=confidence),
        paired_t_test(differences),
        superiority(pairs.first, pairs.second, confidence=confidence),
        pairs.only_first,
        pairs.only_second,
    )


def paired_t_test(differences: Iterable[float]) -> float | None:
    """Two-sided p-value that the mean difference of pairs is zero; None where all are one number other than zero."""
    from scipy.stats import ttest_1samp

    found = sample(differences, "the differences")
    if not found.std():
        return None if found[0] else 1.0
    return float(ttest_1samp(found, 0.0).pvalue)


def superiority(first: Iterable[float], second: Iterable[float], *, confidence: float = 0.95) -> Superiority:
    """P(A > B) over pairs with its exact interval.

    Raises TooLittle for fewer than two pairs, NaN, or unequal numbers.
    """
    import numpy as np

    check_level(confidence)
    a, b = sample(first, "the first sample"), sample(second, "the second sample")
    if len(a) != len(b):
        raise TooLittle(f"{len(a)} values against {len(b)}: these are no pairs", "pair them by their seeds first")
    wins = (np.sign(a - b) + 1) / 2
    share = float(wins.mean())
    low, high = _exact(share, len(wins), confidence)
    verdict = UNSHOWN if low <= 0.5 else BETTER if share >= THRESHOLD else SMALL
    return Superiority(share, low, high, len(wins), int((wins == 0.5).sum()), verdict)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """P-values corrected for being several (Holm 1979), in their order. Raises TooLittle for none, or for NaN."""
    from statsmodels.stats.multitest import multipletests

    found = sample(p_values, "the p-values", least=1)
    return tuple(float(value) for value in multipletests(found, method="holm")[1])


def _exact(share: float, count: int, confidence: float) -> tuple[float, float]:
    """The interval of Clopper and Pearson."""
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(share * count, count, alpha=1 - confidence, method="beta")
    return max(float(low), 0.0), min(float(high), 1.0)
