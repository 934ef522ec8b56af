"""What a design can see: the difference that so many seeds show, and the seeds that a difference takes.

Powers are those of the two-sided t-test (noncentral t, from statsmodels): ``paired`` over the differences of pairs
whose standard deviation is ``spread``, else between two samples of ``n`` each with that standard deviation. All in the
units of the spread (points of accuracy, say). Differences are found four times in five, at a level of 5 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ndrepro.protocol.errors import UsageError

_MOST = 1_000_000
_POWER, _ALPHA = 0.8, 0.05


@dataclass(frozen=True)
class Power:
    """With ``n`` seeds (pairs, or runs of each side) a true ``difference`` is found with this ``power``."""

    n: int
    difference: float
    spread: float
    power: float
    alpha: float
    paired: bool


def detectable_difference(spread: float, n: int) -> Power:
    """The smallest true difference that ``n`` pairs find; 0 where nothing varies."""
    _check(spread)
    if n < 2:
        raise UsageError(f"n={n}, expected at least 2", "one seed shows no difference, whatever its size")
    if spread == 0:
        return Power(n, 0.0, 0.0, _POWER, _ALPHA, True)
    effect = float(_solver(True).solve_power(nobs=n, power=_POWER, alpha=_ALPHA))
    return Power(n, effect * spread, spread, _POWER, _ALPHA, True)


def seeds_needed(spread: float, difference: float, *, paired: bool = True) -> Power:
    """The fewest seeds (of each side, where they are not paired) that find a true ``difference``."""
    _check(spread)
    if not (math.isfinite(difference) and difference != 0):
        raise UsageError(f"difference={difference!r}, expected a number other than 0", "say what would matter")
    n = 2
    while n < _MOST and achieved_power(spread, difference, n, paired=paired) < _POWER:
        n *= 2
    low, high = max(n // 2, 2), n
    while low < high:
        middle = (low + high) // 2
        enough = achieved_power(spread, difference, middle, paired=paired) >= _POWER
        low, high = (low, middle) if enough else (middle + 1, high)
    return Power(low, abs(difference), spread, _POWER, _ALPHA, paired)


def achieved_power(spread: float, difference: float, n: int, *, paired: bool = True) -> float:
    """How probably ``n`` seeds find a true ``difference``."""
    _check(spread)
    if spread == 0:
        return float(difference != 0)
    effect = abs(difference) / spread
    if effect * math.sqrt(n) > 30:
        return 1.0  # beyond what the noncentral t is computed for, and certain
    return float(_solver(paired).power(effect, n, _ALPHA))


def _solver(paired: bool) -> Any:
    from statsmodels.stats.power import TTestIndPower, TTestPower

    return TTestPower() if paired else TTestIndPower()


def _check(spread: float) -> None:
    if not (math.isfinite(spread) and spread >= 0):
        raise UsageError(f"spread={spread!r}, expected a standard deviation")
