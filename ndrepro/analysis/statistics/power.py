"""What a design can see: the difference that so many seeds show, and the seeds that a difference takes.

Powers are those of the two-sided t-test (noncentral t, from statsmodels): ``paired`` over the differences of pairs
whose standard deviation is ``spread``, else between two samples of ``n`` each with that standard deviation. All in the
units of the spread (points of accuracy, say).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ndrepro.analysis.statistics.samples import check_level
from ndrepro.protocol.errors import UsageError

_MOST = 1_000_000


@dataclass(frozen=True)
class Power:
    """With ``n`` seeds (pairs, or runs of each side) a true ``difference`` is found with this ``power``."""

    n: int
    difference: float
    spread: float
    power: float
    alpha: float
    paired: bool


def detectable_difference(
    spread: float, n: int, *, power: float = 0.8, alpha: float = 0.05, paired: bool = True
) -> Power:
    """The smallest true difference that ``n`` seeds find with ``power``; 0 where nothing varies."""
    _check(spread, power, alpha)
    if n < 2:
        raise UsageError(f"n={n}, expected at least 2", "one seed shows no difference, whatever its size")
    if spread == 0:
        return Power(n, 0.0, 0.0, power, alpha, paired)
    effect = float(_solver(paired).solve_power(**{_size(paired): n}, power=power, alpha=alpha))
    return Power(n, effect * spread, spread, power, alpha, paired)


def seeds_needed(
    spread: float, difference: float, *, power: float = 0.8, alpha: float = 0.05, paired: bool = True
) -> Power:
    """The fewest seeds (of each side, where they are not paired) that find a true ``difference`` with ``power``."""
    _check(spread, power, alpha)
    if not (math.isfinite(difference) and difference != 0):
        raise UsageError(f"difference={difference!r}, expected a number other than 0", "say what would matter")
    n = 2
    while n < _MOST and achieved_power(spread, difference, n, alpha=alpha, paired=paired) < power:
        n *= 2
    low, high = max(n // 2, 2), n
    while low < high:
        middle = (low + high) // 2
        enough = achieved_power(spread, difference, middle, alpha=alpha, paired=paired) >= power
        low, high = (low, middle) if enough else (middle + 1, high)
    return Power(low, abs(difference), spread, power, alpha, paired)


def achieved_power(spread: float, difference: float, n: int, *, alpha: float = 0.05, paired: bool = True) -> float:
    """How probably ``n`` seeds find a true ``difference``."""
    _check(spread, 0.5, alpha)
    if spread == 0:
        return float(difference != 0)
    effect = abs(difference) / spread
    if effect * math.sqrt(n) > 30:
        return 1.0  # beyond what the noncentral t is computed for, and certain
    return float(_solver(paired).power(effect, n, alpha))


def runs_for_superiority(share: float = 0.75, *, alpha: float = 0.05, beta: float = 0.05) -> int:
    """Runs of each side that show P(A > B) = ``share`` (one-sided ``alpha``, power 1 - ``beta``).

    Noether's (1987) sample size of the Wilcoxon-Mann-Whitney test with equal sides, (z(1 - alpha) - z(beta))^2 /
    (6 (share - 1/2)^2); it gives the 29 that Bouthillier et al. (2021) ask for at 0.75 and 5 % each.
    """
    for level, what in ((share, "share"), (alpha, "alpha"), (beta, "beta")):
        check_level(level, what)
    if share == 0.5:
        raise UsageError("share=0.5: no number of runs shows what is not there", "say which share would matter")
    from scipy.stats import norm

    quantiles = float(norm.ppf(1 - alpha) - norm.ppf(beta))
    return math.ceil((quantiles / (math.sqrt(6) * (0.5 - share))) ** 2)


def _solver(paired: bool) -> Any:
    from statsmodels.stats.power import TTestIndPower, TTestPower

    return TTestPower() if paired else TTestIndPower()


def _size(paired: bool) -> str:
    return "nobs" if paired else "nobs1"


def _check(spread: float, power: float, alpha: float) -> None:
    check_level(power, "power")
    check_level(alpha, "alpha")
    if not (math.isfinite(spread) and spread >= 0):
        raise UsageError(f"spread={spread!r}, expected a standard deviation")
