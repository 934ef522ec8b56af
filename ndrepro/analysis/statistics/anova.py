"""How much of the spread each thing that was varied accounts for: variance components of a crossed design.

Every combination of the axes' levels (environment, seed, threads ...) holds the same number of runs. Sums of squares
are those of the analysis of variance, taken from means over the axes, as a balanced design allows (the tests compare
them with statsmodels, whose regression takes minutes where axes have dozens of levels). Every axis is taken as random,
so that the expected mean square of a set S of axes is the sum over all sets T that contain it of c_T sigma_T^2, c_T
being the runs that share one combination of T (e.g. Searle, Casella and McCulloch, Variance Components, 1992, section
4.6), and solving these gives the components. With one run in each combination, as where equal seeds give equal bits,
the interaction of all axes cannot be separated from the residual and is used as such.

Intervals are generalised confidence intervals (Tsui and Weerahandi 1989): each mean square divided by a chi-square
draw over its degrees of freedom, solved again, ten thousand times. A bootstrap over the levels of an axis is too
narrow, there being few of them (see the tests). An axis with two levels has one degree of freedom, and an interval
that says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ndrepro.analysis.statistics.samples import TooLittle, check_level, sample

if TYPE_CHECKING:
    import numpy
    import numpy.typing

    from ndrepro.analysis.statistics.samples import Floats

    Integers = numpy.typing.NDArray[numpy.int64]

RESIDUAL = "residual"
ANOVA = "anova"
_DRAWS = 10_000
_TIMES = " x "


class Unequal(TooLittle):
    """Not every combination of levels has as many runs as the others."""


@dataclass(frozen=True)
class Component:
    """One source of variance, in squared units, with its interval, and its share of the total.

    ``estimate`` is what the equations give and may be below zero, which says that nothing is there; ``variance`` is
    that or zero. ``p_value`` is of the F-test against the residual, None for the residual itself. ``total_share`` is
    what an axis accounts for by itself and in every interaction (its total effect, Homma and Saltelli 1996): the share
    of the variance that is seen when this axis alone changes. None for what is no single axis. Of a mixed model
    only shares have intervals, and ``degrees`` is None.
    """

    source: str
    estimate: float
    variance: float
    low: float | None
    high: float | None
    share: float
    share_low: float
    share_high: float
    degrees: int | None
    p_value: float | None
    total_share: float | None = None
    total_interval: tuple[float, float] | None = None

    @property
    def deviation(self) -> float:
        """The square root of the variance, in the units of the values."""
        return float(self.variance**0.5)


@dataclass(frozen=True)
class Components:
    """The components, axes first, then interactions, then the residual; ``levels`` counts those of each axis.

    ``method`` is ANOVA, or "reml" of a mixed model; ``notes`` say what about them is not sure.
    """

    components: tuple[Component, ...]
    levels: Mapping[str, int]
    n: int
    replicates: int
    confidence: float
    method: str = ANOVA
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> float:
        """The sum of the variances."""
        return sum(item.variance for item in self.components)

    def of(self, source: str) -> Component:
        """The component of that name. Raises KeyError."""
        return next(item for item in self.components if item.source == source)


@dataclass(frozen=True)
class Block:
    """A complete part of a design: places of the values in it, and the levels that were taken out to get it."""

    places: tuple[int, ...]
    dropped: tuple[tuple[str, Hashable], ...]


def variance_components(
    levels: Mapping[str, Sequence[Hashable]], values: Sequence[float], *, confidence: float = 0.95
) -> Components:
    """The components of ``values`` (n,) whose ``levels`` are given for each axis, (n,) each.

    Raises TooLittle for an axis with one level and values that are not finite, Unequal for combinations with unequal
    numbers of runs (``ndrepro.analysis.statistics.reml`` takes these).
    """
    import numpy as np

    check_level(confidence)
    found = sample(values, "the results")
    codes = {axis: codes_of(each) for axis, each in levels.items()}
    counts = {axis: int(each.max()) + 1 for axis, each in codes.items()}
    replicates = _replicates(codes, counts)
    sources = sources_of(list(levels), replicates)
    if np.ptp(found) == 0:
        return nothing(sources, counts, len(found), replicates, confidence)
    squares, degrees, p_values = _analysis_of_variance(codes, found, sources, replicates)
    expected = _expectations(sources, counts, replicates)
    means = squares / degrees
    estimates = np.linalg.solve(expected, means)
    rng = np.random.default_rng(0)
    drawn = means * degrees / rng.chisquare(degrees, size=(_DRAWS, len(degrees)))
    simulated = np.maximum(np.linalg.solve(expected, drawn.T).T, 0.0)
    shares = simulated / simulated.sum(axis=1, keepdims=True)
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    (low, high), (share_low, share_high) = np.quantile(simulated, ends, axis=0), np.quantile(shares, ends, axis=0)
    variances = np.maximum(estimates, 0.0)
    total = float(variances.sum())
    totals = [_total(source, sources, variances, shares, ends) for source in sources]
    return Components(
        tuple(
            Component(
                source=name_of(source, place == len(sources) - 1),
                estimate=float(estimates[place]),
                variance=float(variances[place]),
                low=float(low[place]),
                high=float(high[place]),
                share=float(variances[place]) / total if total else 0.0,
                share_low=float(share_low[place]),
                share_high=float(share_high[place]),
                degrees=int(degrees[place]),
                p_value=p_values[place],
                total_share=totals[place][0],
                total_interval=totals[place][1],
            )
            for place, source in enumerate(sources)
        ),
        counts,
        len(found),
        replicates,
        confidence,
    )


def _total(
    source: tuple[str, ...], sources: Sequence[tuple[str, ...]], variances: Floats, shares: Floats, ends: list[float]
) -> tuple[float | None, tuple[float, float] | None]:
    """The share of an axis with all its interactions, and its interval; nothing for what is no single axis."""
    import numpy as np

    if len(source) != 1 or not variances.sum():
        return None, None
    inside = [place for place, other in enumerate(sources) if set(source) <= set(other)]
    low, high = np.quantile(shares[:, inside].sum(axis=1), ends)
    return float(variances[inside].sum() / variances.sum()), (float(low), float(high))


def complete_block(levels: Mapping[str, Sequence[Hashable]]) -> Block:
    """The part of an unequal design in which every combination is there, and once more often than none.

    The level that lacks the largest share of its combinations is taken out, again and again; of equals the one whose
    axis has most levels. Of a combination with more runs than another has, the first ones are kept. Raises TooLittle
    where nothing with two levels on every axis is left.
    """
    import numpy as np

    codes = {axis: codes_of(each) for axis, each in levels.items()}
    names = {axis: list(dict.fromkeys(each)) for axis, each in levels.items()}
    shape = tuple(len(each) for each in names.values())
    count = np.zeros(shape, dtype=np.int64)
    np.add.at(count, tuple(codes.values()), 1)
    kept = [np.arange(size) for size in shape]
    dropped: list[tuple[str, Hashable]] = []
    while True:
        part = count[np.ix_(*kept)]
        if (part > 0).all():
            break
        lacking = [
            (float(share), len(kept[place]), place, index)
            for place in range(len(shape))
            for index, share in enumerate(
                (part == 0).mean(axis=tuple(other for other in range(len(shape)) if other != place))
            )
        ]
        _, _, place, index = max(lacking)
        axis = list(names)[place]
        dropped.append((axis, names[axis][kept[place][index]]))
        kept[place] = np.delete(kept[place], index)
        if not len(kept[place]):
            break
    if any(len(each) < 2 for each in kept):
        raise TooLittle(
            "no part of the design has every combination of at least two levels of every axis",
            "run what is missing; `ndrepro study status` lists it",
        )
    return Block(_first_runs(codes, kept, int(count[np.ix_(*kept)].min())), tuple(dropped))


def _first_runs(codes: Mapping[str, Integers], kept: Sequence[Integers], each: int) -> tuple[int, ...]:
    """Places of the first ``each`` values of every combination that is kept."""
    seen: dict[tuple[int, ...], int] = {}
    inside = [frozenset(part.tolist()) for part in kept]
    places = []
    for place, combination in enumerate(zip(*(code.tolist() for code in codes.values()), strict=True)):
        if all(code in part for code, part in zip(combination, inside, strict=True)):
            seen[combination] = seen.get(combination, 0) + 1
            if seen[combination] <= each:
                places.append(place)
    return tuple(places)


def codes_of(values: Sequence[Hashable]) -> Integers:
    """Levels as numbers from 0, in the order in which they come."""
    import numpy as np

    order = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return np.array([order[value] for value in values], dtype=np.int64)


def _replicates(codes: Mapping[str, Integers], counts: Mapping[str, int]) -> int:
    """Runs in each combination of levels."""
    import numpy as np

    if not codes:
        raise TooLittle("no axis varies", "vary an environment, a seed, threads ...")
    single = [axis for axis, count in counts.items() if count < 2]
    if single:
        raise TooLittle(f"{single[0]} has one level: it accounts for nothing that could be seen", "leave it out")
    each = np.zeros(tuple(counts.values()), dtype=np.int64)
    np.add.at(each, tuple(codes.values()), 1)
    if each.min() != each.max():
        missing = int((each == 0).sum())
        raise Unequal(
            f"unequal design: {missing} of {each.size} combinations have no run"
            if missing
            else f"unequal design: from {each.min()} to {each.max()} runs in a combination",
            "run what is missing, or take the part that is complete",
        )
    return int(each.min())


def sources_of(axes: Sequence[str], replicates: int) -> list[tuple[str, ...]]:
    """Every set of axes, the residual last: that of all axes where there are no replicates, else the empty name."""
    sets = [each for size in range(1, len(axes) + 1) for each in itertools.combinations(axes, size)]
    return sets if replicates == 1 else [*sets, ()]


def name_of(source: tuple[str, ...], last: bool) -> str:
    """What a source is called; the last one is the residual."""
    return RESIDUAL if last else _TIMES.join(source)


def _analysis_of_variance(
    codes: Mapping[str, Integers], values: Floats, sources: Sequence[tuple[str, ...]], replicates: int
) -> tuple[Floats, Floats, list[float | None]]:
    """Sums of squares, degrees of freedom and p-values of every source, in their order."""
    import numpy as np
    from scipy.stats import f

    axes = tuple(codes)
    order = np.lexsort(list(codes.values())[::-1])
    sizes = [int(code.max()) + 1 for code in codes.values()]
    # (levels of each axis..., replicates), centred, since squares of nearly equal percents would lose digits
    table = (values - values.mean())[order].reshape(*sizes, replicates)
    effects: dict[tuple[str, ...], Floats] = {}
    for source in (each for each in sources if each):
        others = tuple(place for place, axis in enumerate((*axes, "")) if axis not in source)
        effect = table.mean(axis=others, keepdims=True)
        for inside, known in effects.items():
            effect = effect - known if set(inside) < set(source) else effect
        effects[source] = effect
    squares = [float((effect**2).sum() * (table.size / effect.size)) for effect in effects.values()]
    degrees = [float(np.prod([sizes[axes.index(axis)] - 1 for axis in source])) for source in effects]
    if replicates > 1:
        squares.append(float(((table - table.mean(axis=-1, keepdims=True)) ** 2).sum()))
        degrees.append(float(table.size - table.size // replicates))
    means = np.array(squares) / np.array(degrees)
    p_values: list[float | None] = [
        float(f.sf(mean / means[-1], count, degrees[-1])) if means[-1] > 0 else 0.0
        for mean, count in zip(means[:-1], degrees[:-1], strict=True)
    ]
    return np.array(squares), np.array(degrees), [*p_values, None]


def _expectations(sources: Sequence[tuple[str, ...]], counts: Mapping[str, int], replicates: int) -> Floats:
    """The matrix of expected mean squares, (sources, sources): row S has c_T at every T that holds S."""
    import numpy as np

    everything = tuple(counts)
    sets = [source or (*everything, RESIDUAL) for source in sources]
    total = replicates * int(np.prod(list(counts.values())))
    runs = [1 if RESIDUAL in each else total // int(np.prod([counts[axis] for axis in each])) for each in sets]
    found: Floats = np.array(
        [[runs[place] if set(row) <= set(each) else 0.0 for place, each in enumerate(sets)] for row in sets]
    )
    return found


def nothing(
    sources: Sequence[tuple[str, ...]], counts: Mapping[str, int], n: int, replicates: int, confidence: float
) -> Components:
    """Every value is the same: all components are zero, and no share of nothing is given."""
    names = [name_of(source, place == len(sources) - 1) for place, source in enumerate(sources)]
    empty = tuple(Component(name, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, None) for name in names)
    return Components(empty, counts, n, replicates, confidence)
