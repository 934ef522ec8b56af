"""Is A better than B? Answered over pairs that share their seed, data and execution environment.

The same seed draws the same first weights, order and augmentation for both, so that much of what a seed does cancels
in the difference of a pair. A run without its partner is named and counted, and enters no difference.

P(A > B) is the share of pairs in which A wins, ties counted half. Bouthillier et al. (Accounting for Variance in
Machine Learning Benchmarks, MLSys 2021, section 5) call A better when the lower end of its bootstrap interval is above
one half (it was no luck) and the share is at least 0.75 (it matters). With few pairs that all go one way the bootstrap
knows nothing but this one way and gives an interval of no width: four wins of four would do. Of pairs the exact
interval (Clopper and Pearson 1934) is therefore given beside it, and has to lie above one half too; six of six do.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ndrepro.analysis.statistics.intervals import RESAMPLES, Interval, mean_interval
from ndrepro.analysis.statistics.samples import TooLittle, check_level, sample

if TYPE_CHECKING:
    from ndrepro.analysis.statistics.samples import Floats

THRESHOLD = 0.75
# numbers in memory at once: resamples of thousands of pairs, all together, would be gigabytes
_AT_ONCE = 1_000_000
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
    """P(A > B) with intervals, and the verdict: BETTER, SMALL or UNSHOWN. ``exact`` and ``wilson`` are of pairs."""

    share: float
    low: float
    high: float
    wilson: tuple[float, float] | None
    n: int
    ties: int
    verdict: str
    threshold: float = THRESHOLD
    exact: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Paired:
    """A paired comparison: mean difference with its interval, permutation test, P(A > B), and who has no partner."""

    difference: Interval
    p_value: float
    superiority: Superiority
    only_first: tuple[Hashable, ...] = ()
    only_second: tuple[Hashable, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; keys as text."""
        return {
            "difference": self.difference.to_json(),
            "p_value": self.p_value,
            "superiority": self.superiority.to_json(),
            "only_first": [str(key) for key in self.only_first],
            "only_second": [str(key) for key in self.only_second],
        }


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
    first: Mapping[Any, float],
    second: Mapping[Any, float],
    *,
    confidence: float = 0.95,
    method: str = "t",
    seed: int = 0,
    what: str = "the pairs",
) -> Paired:
    """Everything that is said of two sides with the same keys. Raises TooLittle for fewer than two pairs, or NaN."""
    pairs = pair(first, second)
    if not pairs.keys:
        raise TooLittle(f"{what}: no run of one side has a partner on the other", "run both with the same seeds")
    differences = sample(pairs.differences, what)
    return Paired(
        mean_interval(differences, confidence=confidence, method=method, seed=seed),
        sign_flip_test(differences, seed=seed),
        superiority(pairs.first, pairs.second, confidence=confidence, seed=seed),
        pairs.only_first,
        pairs.only_second,
    )


def superiority(
    first: Iterable[float],
    second: Iterable[float],
    *,
    paired: bool = True,
    confidence: float = 0.95,
    threshold: float = THRESHOLD,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Superiority:
    """P(A > B) with its percentile bootstrap interval: over pairs, or of two samples that are drawn independently.

    Unpaired it is the Mann-Whitney statistic U / (n m), and ``n`` is the smaller sample's. Raises TooLittle for fewer
    than two values, NaN, or pairs of unequal number.
    """
    import numpy as np

    check_level(confidence)
    check_level(threshold, "threshold")
    a, b = sample(first, "the first sample"), sample(second, "the second sample")
    wins: Floats
    if paired:
        if len(a) != len(b):
            raise TooLittle(f"{len(a)} values against {len(b)}: these are no pairs", "pair them by their seeds first")
        wins = (np.sign(a - b) + 1) / 2
        shares = np.concatenate([wins[drawn].mean(axis=1) for drawn in _draws(len(wins), resamples, seed)])
    else:
        wins = (np.sign(a[:, None] - b[None, :]) + 1) / 2
        rows, columns = _draw(len(a), resamples, seed), _draw(len(b), resamples, seed + 1)
        # how often each value of a sample was drawn, so that no (resamples, n, m) array is made
        weights = _counts(rows, len(a)) / len(a), _counts(columns, len(b)) / len(b)
        shares = np.einsum("ra,ab,rb->r", weights[0], wins, weights[1], optimize=True)
    share = float(wins.mean())
    low, high = (float(end) for end in np.quantile(shares, [(1 - confidence) / 2, (1 + confidence) / 2]))
    count = min(len(a), len(b))
    exact = _interval(share, count, confidence, "beta") if paired else None
    wilson = _interval(share, count, confidence, "wilson") if paired else None
    luck = low <= 0.5 or (exact is not None and exact[0] <= 0.5)
    verdict = UNSHOWN if luck else BETTER if share >= threshold else SMALL
    return Superiority(share, low, high, wilson, count, int((wins == 0.5).sum()), verdict, threshold, exact)


def sign_flip_test(differences: Iterable[float], *, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p-value that the mean difference of pairs is zero, by exchanging A and B within pairs.

    All 2^n exchanges where they are no more than ``resamples`` (up to 13 pairs), else that many at random.
    """
    import numpy as np
    from scipy.stats import permutation_test

    found = sample(differences, "the differences")
    result = permutation_test(
        (found,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _AT_ONCE // len(found)),
        axis=-1,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """P-values corrected for being several (Holm 1979), in their order. Raises TooLittle for none, or for NaN."""
    from statsmodels.stats.multitest import multipletests

    found = sample(p_values, "the p-values", least=1)
    return tuple(float(value) for value in multipletests(found, method="holm")[1])


def _draws(count: int, resamples: int, seed: int) -> Iterator[Any]:
    """Places that are drawn with replacement, a row a resample, so many rows at a time as memory is given to."""
    import numpy as np

    rng, rows = np.random.default_rng(seed), max(1, _AT_ONCE // count)
    for first in range(0, resamples, rows):
        yield rng.integers(0, count, size=(min(rows, resamples - first), count))


def _draw(count: int, resamples: int, seed: int) -> Any:
    import numpy as np

    return np.concatenate([*_draws(count, resamples, seed)])


def _counts(drawn: Any, count: int) -> Any:
    """How often each of ``count`` places stands in every row."""
    import numpy as np

    flat = (drawn + count * np.arange(len(drawn))[:, None]).ravel()
    return np.bincount(flat, minlength=len(drawn) * count).reshape(len(drawn), count)


def _interval(share: float, count: int, confidence: float, method: str) -> tuple[float, float]:
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(share * count, count, alpha=1 - confidence, method=method)
    return max(float(low), 0.0), min(float(high), 1.0)
