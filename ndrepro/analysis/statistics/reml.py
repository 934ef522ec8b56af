"""Variance components of an unequal design: a mixed model, fitted by restricted maximum likelihood (REML).

    y = mean + sum over sources k of Z_k u_k + e        u_k ~ N(0, s_k I),  e ~ N(0, s_0 I)

A source is a set of axes, Z_k says which run belongs to which of its combinations of levels, and s_k is its component;
interactions are in it as in ``ndrepro.analysis.statistics.anova``, so that a design from which runs are missing is
divided as the whole one would have been, and every run counts. Of a balanced design REML and the analysis of variance
give the same components, wherever none of the latter is below zero.

The criterion is that of n - 1 error contrasts (Patterson and Thompson 1971), -(log|V| + y' V^-1 y) / 2 with
V = sum s_k Z_k Z_k', maximised over s >= 0 with its gradient by scipy. statsmodels' MixedLM has the same criterion, and
the tests hold this against it; its own search works on the roots of s, stops where a component is zero (which here is
the usual case), and takes seconds at a hundred runs.

Intervals are those of the profile likelihood: all shares that a likelihood ratio test does not reject. With
five and seven levels and six of 35 runs missing they held the truth in 94 to 96 % of 200 simulated designs; at the
edge, where a component is zero, they are a little too wide. What did not converge is said in ``notes``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ndrepro.analysis.statistics.anova import Component, Components, codes_of, name_of, nothing, sources_of
from ndrepro.analysis.statistics.samples import TooLittle, check_level, sample

if TYPE_CHECKING:
    import numpy
    import numpy.typing

    from ndrepro.analysis.statistics.anova import Integers
    from ndrepro.analysis.statistics.samples import Floats

    Bools = numpy.typing.NDArray[numpy.bool_]

REML = "reml"
MOST_RUNS = 600  # a step of the search takes a time that grows with their cube
_FLOOR = 1e-6  # of the variance: where the residual is nothing, the likelihood has no top
_SAME = 1e-3  # deviances that differ by less are one
_LEAST, _STARTS = 1e-6, 6
_FLAT = 1e-2  # of the deviance, by a root of a share
_FAR = 50.0  # a deviance of no interest, however exact
_ALIKE = 1e-9  # two sources whose parts of V are so alike cannot be distinguished


def mixed_components(
    levels: Mapping[str, Sequence[Hashable]], values: Sequence[float], *, confidence: float = 0.95
) -> Components:
    """The components of ``values`` (n,) whose ``levels`` are given for each axis, (n,) each, n not the same everywhere.

    Raises TooLittle for an axis with one level, values that are not finite, and runs of which two sources cannot be
    distinguished, as where one thing at a time was varied.
    """
    with _one_thread():
        return _components(levels, values, confidence)


def _components(levels: Mapping[str, Sequence[Hashable]], values: Sequence[float], confidence: float) -> Components:
    import numpy as np

    check_level(confidence)
    found = sample(values, "the results")
    codes = {axis: codes_of(each) for axis, each in levels.items()}
    counts = {axis: int(each.max()) + 1 for axis, each in codes.items()}
    sources, replicates = _sources(codes, counts)
    if np.ptp(found) == 0:
        return nothing(sources, counts, len(found), replicates, confidence)
    model = _model(codes, sources, found)
    best = model.fit()
    notes = [] if best.converged else ["the search for the likeliest components did not converge: take none for sure"]
    if best.shares[-1] < 2 * _FLOOR:
        notes.append("nothing is left for the residual: the other components explain every value")
    limits = _Limits(model, best, confidence)
    scale = best.total * float(found.var())
    components = []
    for place, source in enumerate(sources):
        last, share = place == len(sources) - 1, float(best.shares[place])
        share_low, share_high = limits.of_share([place])
        inside = [at for at, other in enumerate(sources) if set(source) <= set(other)] if len(source) == 1 else []
        components.append(
            Component(
                source=name_of(source, last),
                estimate=share * scale,
                variance=share * scale,
                low=None,
                high=None,
                share=share,
                share_low=share_low,
                share_high=share_high,
                degrees=None,
                p_value=None if last else limits.p_value(place),
                total_share=float(best.shares[inside].sum()) if inside else None,
                total_interval=limits.of_share(inside) if inside else None,
            )
        )
    notes += limits.notes
    return Components(
        tuple(components), counts, len(found), replicates, confidence, method=REML, notes=tuple(dict.fromkeys(notes))
    )


def mixed_shares(levels: Mapping[str, Sequence[Hashable]], values: Sequence[float]) -> dict[str, float] | None:
    """The share of every source in the variance, as ``mixed_components`` estimates it, without intervals.

    None where the search does not converge.
    """
    found = sample(values, "the results")
    codes = {axis: codes_of(each) for axis, each in levels.items()}
    sources, _ = _sources(codes, {axis: int(each.max()) + 1 for axis, each in codes.items()})
    with _one_thread():
        best = _model(codes, sources, found).fit()
    if not best.converged:
        return None
    names = [name_of(source, place == len(sources) - 1) for place, source in enumerate(sources)]
    return {name: float(share) for name, share in zip(names, best.shares, strict=True)}


@dataclass(frozen=True)
class _Fit:
    """Shares of the variance (k,), residual last, and all of it; the criterion there; whether the search ended."""

    shares: Floats
    total: float
    value: float
    converged: bool


@dataclass(frozen=True)
class _Model:
    """Error contrasts of the values (m,) and of each source's Z Z', (k, m, m), the identity last."""

    contrasts: Floats
    parts: Floats

    def criterion(self, shares: Floats) -> tuple[float, Floats, float]:
        """Minus twice the restricted log likelihood, but for a constant, its gradient (k,), and the likeliest total.

        The total variance, which multiplies all shares, has its best value in closed form, y' V^-1 y / m.
        """
        import numpy as np
        from scipy.linalg import cho_factor, cho_solve

        count = len(self.contrasts)
        factor = cho_factor(np.tensordot(shares, self.parts, axes=1), lower=True)
        inverse = cho_solve(factor, np.eye(count))
        solved = inverse @ self.contrasts
        total = float(self.contrasts @ solved) / count
        value = count * math.log(total) + 2 * float(np.log(np.diag(factor[0])).sum())
        slope = self.parts.reshape(len(self.parts), -1) @ (inverse - np.outer(solved, solved) / total).ravel()
        return value, slope, total

    def fit(self) -> _Fit:
        """The likeliest components, from two starts."""
        import numpy as np

        count = len(self.parts)
        everything, noise = np.ones(count, dtype=bool), np.full(count, 0.1)
        noise[-1] = 0.9
        found = [self.held(everything, 1.0, start) for start in (np.ones(count), noise)]
        best = min(found, key=lambda each: each.value)
        # the criterion may have two tops; that both starts come to the same one says that it has not here
        agree = abs(found[0].value - found[1].value) < _SAME
        return _Fit(best.shares, best.total, best.value, best.converged and agree)

    def held(self, inside: Bools, share: float, start: Floats) -> _Fit:
        """The likeliest components of which those ``inside`` have ``share`` of the whole.

        Searched for are the roots of weights (k,), which are divided by their sum inside and outside: no constraint
        is left, and shares of a ten-thousandth are found as well as large ones.
        """
        import numpy as np
        from scipy.optimize import minimize

        def factors(weights: Floats) -> Floats:
            sums = np.where(inside, weights[inside].sum(), weights[~inside].sum())
            found: Floats = np.where(inside, share, 1 - share) / sums
            return found

        def function(roots: Floats) -> tuple[float, Floats]:
            weights = roots**2
            scales = factors(weights)
            value, slope, _ = self.criterion(np.maximum(scales * weights, floor))
            means = np.where(inside, _mean(slope, weights, inside), _mean(slope, weights, ~inside))
            return value, 2 * roots * scales * (slope - means)

        floor = np.zeros(len(self.parts))
        floor[-1] = _FLOOR
        roots = np.sqrt(np.maximum(start, 1e-3))
        for _ in range(_STARTS):
            found = minimize(
                function,
                roots,
                jac=True,
                bounds=[(_LEAST, 1e2)] * len(self.parts),
                method="L-BFGS-B",
                options={"maxiter": 500, "ftol": 1e-11, "gtol": 1e-4},
            )
            roots, size = found.x, float(np.linalg.norm(found.x))
            shares = factors(roots**2) * roots**2
            # a search that is at the top already may fail to take another step, and says so as if it had failed
            uphill = np.where((roots <= _LEAST) & (found.jac > 0), 0.0, found.jac)
            ended = bool(found.success) or float(np.abs(uphill).max()) < _FLAT
            # a root at zero has no slope, whatever is beside it: by its square it may still be uphill
            stuck = (roots < 10 * _LEAST) & (found.jac < -_FLAT * roots)
            # and below the floor the criterion does not change: a search that fails there starts again from above
            stuck |= (shares < floor) & (not ended)
            if ended and not stuck.any():
                break
            roots = np.where(stuck, 0.2, roots / size)  # only ratios count; within the bounds again
        shares = np.maximum(shares, floor)
        value, _, total = self.criterion(shares)
        return _Fit(shares, total, value, ended and not stuck.any())


@dataclass
class _Limits:
    """Profile likelihood: how far a share can be from its estimate before a likelihood ratio test rejects it."""

    model: _Model
    best: _Fit
    confidence: float
    notes: list[str] = field(default_factory=list)

    def of_share(self, places: Sequence[int]) -> tuple[float, float]:
        """Both ends of what some components have of the whole, together."""
        import numpy as np
        from scipy.stats import chi2

        best, most = self.best.shares, math.sqrt(float(chi2.ppf(self.confidence, 1)))
        inside = np.isin(np.arange(len(best)), places)
        if inside.all():
            return 1.0, 1.0
        at = float(best[inside].sum())
        known = {at: 0.0}

        def root(share: float) -> float:
            """Of the deviance, which is nearly straight, less what is allowed."""
            if share not in known:
                known[share] = math.sqrt(max(self._deviance(inside, share), 0.0))
            return known[share] - most

        edges = (_FLOOR if inside[-1] else 0.0), (1.0 if inside[-1] else 1 - _FLOOR)
        low, high = (_crossing(root, at, edge) for edge in edges)
        return (0.0 if low <= _FLOOR else low), (1.0 if high >= 1 - _FLOOR else high)

    def p_value(self, place: int) -> float:
        """That a component is zero: half a chi-square, since it cannot be less (Self and Liang 1987)."""
        import numpy as np
        from scipy.stats import chi2

        ratio = self._deviance(np.arange(len(self.best.shares)) == place, 0.0)
        return 1.0 if ratio < _SAME else float(chi2.sf(ratio, 1)) / 2

    def _deviance(self, inside: Bools, share: float) -> float:
        found = self.model.held(inside, share, self.best.shares)
        more = found.value - self.best.value
        if more < -_SAME or (not found.converged and more < _FAR):
            self.notes.append("a search for the end of an interval did not converge: take intervals as approximate")
        return more


def _one_thread() -> AbstractContextManager[object]:
    """Of the linear algebra: thousands of small matrices, at which several threads mostly wait for each other."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    limits: AbstractContextManager[object] = threadpool_limits(1)
    return limits


def _mean(slope: Floats, weights: Floats, chosen: Bools) -> float:
    total = float(weights[chosen].sum())
    return float(slope[chosen] @ weights[chosen]) / total if total else 0.0


def _crossing(function: Callable[[float], float], inside: float, edge: float) -> float:
    """Where ``function`` is zero between the two; ``edge`` where it is not."""
    from scipy.optimize import brentq

    if inside == edge or function(edge) <= 0:
        return edge
    return float(brentq(function, inside, edge, xtol=1e-3, rtol=1e-3))


def _sources(codes: Mapping[str, Integers], counts: Mapping[str, int]) -> tuple[list[tuple[str, ...]], int]:
    """Every set of axes that the runs tell from each other, the residual last; most runs in one combination."""
    import numpy as np

    if not codes:
        raise TooLittle("no axis varies", "vary an environment, a seed, threads ...")
    single = [axis for axis, count in counts.items() if count < 2]
    if single:
        raise TooLittle(f"{single[0]} has one level: it accounts for nothing that could be seen", "leave it out")
    _, times = np.unique(np.stack(list(codes.values())), axis=1, return_counts=True)
    most = int(times.max())
    for replicates in dict.fromkeys((most, 1)):  # with few runs repeated the last interaction is still the residual
        sources = sources_of(list(codes), replicates)
        alike = _alike(_parts(codes, sources), sources)
        if alike is None:
            return sources, most
    raise TooLittle(
        f"unequal design: too few runs to tell {alike} from the rest",
        "run what is missing; `ndrepro study status` lists it",
    )


def _alike(parts: Floats, sources: Sequence[tuple[str, ...]]) -> str | None:
    """A source whose part of the covariance the others' make up; None where there is none."""
    import numpy as np

    flat = parts.reshape(len(parts), -1)
    sizes = np.linalg.norm(flat, axis=1)
    for place in range(len(flat) - 2, -1, -1):
        others = np.delete(flat, place, axis=0).T
        if sizes[place] == 0:
            return name_of(sources[place], False)
        rest = flat[place] - others @ np.linalg.lstsq(others, flat[place], rcond=None)[0]
        if np.linalg.norm(rest) < _ALIKE**0.5 * sizes[place]:
            return name_of(sources[place], False)
    return None


def _model(codes: Mapping[str, Integers], sources: Sequence[tuple[str, ...]], values: Floats) -> _Model:
    """The values without their mean, in units of their spread, as n - 1 numbers of equal variance."""
    from scipy.linalg import helmert

    return _Model(helmert(len(values)) @ (values / values.std()), _parts(codes, sources))


def _parts(codes: Mapping[str, Integers], sources: Sequence[tuple[str, ...]]) -> Floats:
    """Z Z' of every source in the contrasts, (sources, n - 1, n - 1), the identity for the last."""
    import numpy as np
    from scipy.linalg import helmert

    count = len(next(iter(codes.values())))
    contrasts = helmert(count)
    found = []
    for source in sources[:-1]:
        _, code = np.unique(np.stack([codes[axis] for axis in source]), axis=1, return_inverse=True)
        inside = contrasts @ np.eye(int(code.max()) + 1)[code.ravel()]
        found.append(inside @ inside.T)
    return np.stack([*found, np.eye(count - 1)])
