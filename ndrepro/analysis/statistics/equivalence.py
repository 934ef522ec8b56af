"""That two things are the same within a margin, as a finding: two one-sided tests (Schuirmann 1987).

A test that finds no difference has found nothing; this one can find that there is none larger than a margin that was
stated before. Both "the difference is below -margin" and "above +margin" are tested, at the same level; equivalent
means that both are rejected, which is the same as the (1 - 2 alpha) interval lying inside the margin. A difference
can be shown and be within the margin, both at once: real, and too small to matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ndrepro.analysis.statistics.samples import TooLittle, sample
from ndrepro.protocol.errors import UsageError

EQUIVALENT, DIFFERENT, UNDECIDED = "equivalent", "different", "undecided"
NEGLIGIBLE = "different, within the margin"
_ALPHA = 0.05


@dataclass(frozen=True)
class Equivalence:
    """The larger p-value of the two tests, the (1 - 2 alpha) interval of the difference, and the verdict.

    ``verdict`` is EQUIVALENT, DIFFERENT (the two-sided test at ``alpha`` rejects zero), NEGLIGIBLE (both) or UNDECIDED.
    ``smallest_margin`` is that at which the same data would have been equivalent.
    """

    difference: float
    low: float
    high: float
    p_value: float
    p_of_zero: float
    margin: float
    alpha: float
    n: int
    verdict: str

    @property
    def smallest_margin(self) -> float:
        """The end of the interval that is further from zero."""
        return max(abs(self.low), abs(self.high))

    def corrected(self, p_holm: float | None) -> str:
        """The verdict where several are tested: what only the uncorrected test calls different is not called so."""
        if p_holm is not None and p_holm < self.alpha:
            return self.verdict
        return EQUIVALENT if self.verdict in (EQUIVALENT, NEGLIGIBLE) else UNDECIDED

    def to_json(self) -> dict[str, Any]:
        """Every field, and the smallest margin."""
        return {**asdict(self), "smallest_margin": self.smallest_margin}


def paired_equivalence(differences: Iterable[float], margin: float) -> Equivalence:
    """Of the differences of pairs (t-tests). Raises TooLittle for fewer than two pairs or NaN, UsageError for a margin
    that is no positive number.
    """
    from statsmodels.stats.weightstats import DescrStatsW

    _check(margin)
    found = sample(differences, "the differences")
    if found.std() == 0:
        return _constant(float(found[0]), margin, len(found))
    stats = DescrStatsW(found)
    p_value = stats.ttost_mean(-margin, margin)[0]
    low, high = stats.tconfint_mean(alpha=2 * _ALPHA)
    return _judge(found.mean(), low, high, p_value, stats.ttest_mean(0)[1], margin, len(found))


def independent_equivalence(first: Iterable[float], second: Iterable[float], margin: float) -> Equivalence:
    """Of two samples without pairs (Welch's t-tests); ``n`` is the smaller one's. Raises as ``paired_equivalence``."""
    from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

    _check(margin)
    a, b = sample(first, "the first sample"), sample(second, "the second sample")
    count = min(len(a), len(b))
    if a.std() == 0 and b.std() == 0:
        return _constant(float(a[0] - b[0]), margin, count)
    means = CompareMeans(DescrStatsW(a), DescrStatsW(b))
    p_value = means.ttost_ind(-margin, margin, usevar="unequal")[0]
    low, high = means.tconfint_diff(alpha=2 * _ALPHA, usevar="unequal")
    p_of_zero = means.ttest_ind(usevar="unequal")[1]
    return _judge(a.mean() - b.mean(), low, high, p_value, p_of_zero, margin, count)


def _check(margin: float) -> None:
    if not (math.isfinite(margin) and margin > 0):
        raise UsageError(f"margin={margin!r}, expected a positive number", "state what difference would not matter")


def _judge(
    difference: float, low: float, high: float, p_value: float, p_of_zero: float, margin: float, n: int
) -> Equivalence:
    same, other = p_value < _ALPHA, p_of_zero < _ALPHA
    verdict = NEGLIGIBLE if same and other else EQUIVALENT if same else DIFFERENT if other else UNDECIDED
    numbers = (float(difference), float(low), float(high), float(p_value), float(p_of_zero))
    return Equivalence(*numbers, margin, _ALPHA, n, verdict)


def _constant(difference: float, margin: float, n: int) -> Equivalence:
    """Every difference is the same number: no t-test is defined. Equal bits everywhere are equivalence itself."""
    if difference == 0:
        return Equivalence(0.0, 0.0, 0.0, 0.0, 1.0, margin, _ALPHA, n, EQUIVALENT)
    raise TooLittle(f"all {n} differences are exactly {difference:g}: there is no spread to test against")
