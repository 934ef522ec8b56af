"""Differences of results between cells: means and spreads, paired differences, equivalence, power, components.

Every cell is compared with the reference over the replicates that both have (t interval, paired t-test, two one-sided
t-tests within a stated margin); p-values are corrected over all comparisons of a subject (Holm). Values that are not
finite are excluded and named, and so are replicates without a partner.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ndrepro.analysis.sensitivity.experimental_design import DRAWN, Condition, ExperimentalDesign, Replicate
from ndrepro.analysis.statistics.anova import Components, Unequal, complete_block, variance_components
from ndrepro.analysis.statistics.equivalence import Equivalence, paired_equivalence
from ndrepro.analysis.statistics.intervals import FEWEST_RUNS, Interval, mean_interval, prediction_interval
from ndrepro.analysis.statistics.paired import Paired, compare_pairs, holm
from ndrepro.analysis.statistics.power import Power, detectable_difference, seeds_needed
from ndrepro.analysis.statistics.reml import MOST_RUNS, mixed_components, mixed_shares
from ndrepro.analysis.statistics.samples import TooLittle


@dataclass(frozen=True)
class CellNumbers:
    """One cell of one subject. Unavailable values are None, with the reason in ``why``.

    ``mean`` has the interval of the mean, ``one_more`` that of one more run; ``against`` is the paired comparison with
    the reference (this cell less the reference), ``p_holm`` its corrected p-value, ``detectable`` the smallest true
    difference that so many pairs show, ``needed`` the pairs that show one as large as the margin.
    """

    cell: str
    values: Mapping[Replicate, float]
    not_finite: tuple[Replicate, ...] = ()
    mean: Interval | None = None
    one_more: Interval | None = None
    against: Paired | None = None
    p_holm: float | None = None
    equivalence: Equivalence | None = None
    detectable: Power | None = None
    needed: Power | None = None
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Every field, and the number of values."""
        return {**vars(self), "n": len(self.values)}


@dataclass(frozen=True)
class Breakdown:
    """Variance components along some axes and the seed, or streams; ``unequal`` says how the design is, where it is.

    ``dropped`` are levels that were left out, ``check`` the shares of a mixed model beside an analysis of
    variance, None where none was made, for the reason in ``unchecked``.
    """

    title: str
    components: Components
    unequal: str = ""
    dropped: tuple[str, ...] = ()
    check: Mapping[str, float] | None = None
    unchecked: str = ""

    def to_json(self) -> dict[str, Any]:
        """The components, how the design is unequal, and the shares of the mixed model."""
        return {
            "title": self.title,
            "unequal": self.unequal,
            "dropped": self.dropped,
            "shares_by_mixed_model": self.check,
            **vars(self.components),
        }


@dataclass(frozen=True)
class Numbers:
    """One subject: a row per cell, and the components of variance; ``why_not`` has reasons for missing values."""

    subject: str
    cells: tuple[CellNumbers, ...]
    components: tuple[Breakdown, ...]
    why_not: tuple[str, ...] = ()


def compare_numbers(
    design: ExperimentalDesign, subject: str, metric: str, margin: float, *, confidence: float = 0.95
) -> Numbers:
    """All comparisons of one subject's ``metric``, a field of ``ResultRow``."""
    values = {cell: _finite(design, subject, cell, metric) for cell in design.cells if design.of(subject, cell)}
    reference = values.get(design.reference, ({}, ()))[0]
    lines = [
        _line(cell, *found, {} if cell == design.reference else reference, margin, confidence)
        for cell, found in values.items()
    ]
    tested = {line.cell: line.against.p_value for line in lines if line.against and line.against.p_value is not None}
    by_cell = dict(zip(tested, holm([*tested.values()]) if tested else (), strict=True))
    lines = [replace(line, p_holm=by_cell.get(line.cell)) for line in lines]
    known = {cell: found for cell, (found, _) in values.items()}
    breakdowns, why_not = breakdowns_of(design, known, confidence)
    return Numbers(subject, tuple(lines), breakdowns, why_not)


def breakdowns_of(
    design: ExperimentalDesign, values: Mapping[Condition, Mapping[Replicate, float]], confidence: float = 0.95
) -> tuple[tuple[Breakdown, ...], tuple[str, ...]]:
    """Components over all axes at once where they are crossed, else along each axis alone; and why one is lacking."""
    axes = [axis for axis in design.axes if axis != DRAWN]
    found, why_not = [], []
    if DRAWN in design.axes:
        why_not.append(f"{DRAWN}: other random numbers are drawn there, so that its values are no levels of one axis")
    if len(axes) > 1 and DRAWN not in design.axes:
        try:
            return (_breakdown(design, axes, list(values), values, confidence),), ()
        except TooLittle:
            pass  # one thing at a time was changed, as most studies do
    for axis in axes or ([""] if _crossed(values.get(design.reference, {})) else []):
        along = design.along(axis) if axis else (design.reference,)
        try:
            names = [axis] if axis else []
            found.append(_breakdown(design, names, [cell for cell in along if cell in values], values, confidence))
        except TooLittle as error:
            why_not.append(f"{axis or 'the streams'}: {error.message}")
    return tuple(found), tuple(why_not)


def _crossed(replicates: Iterable[Replicate]) -> bool:
    """Whether several streams are drawn, each against the others: there is something to divide in a single cell."""
    return any(isinstance(replicate, str) for replicate in replicates)


def _breakdown(
    design: ExperimentalDesign,
    axes: list[str],
    cells: list[Condition],
    values: Mapping[Condition, Mapping[Replicate, float]],
    confidence: float,
) -> Breakdown:
    points = [(cell, replicate, value) for cell in cells for replicate, value in values[cell].items()]
    levels = {axis: [str(cell[axis]) for cell, _, _ in points] for axis in axes}
    seeds = [design.seeds_of(replicate) for _, replicate, _ in points]
    drawn = list(dict.fromkeys(key for each in seeds for key in each))
    if any(set(each) != set(drawn) for each in seeds):
        raise TooLittle("not all runs draw the same random streams anew")
    levels |= {key: [str(each[key]) for each in seeds] for key in drawn}
    return divided(levels, [value for _, _, value in points], confidence)


def divided(levels: Mapping[str, Sequence[str]], results: Sequence[float], confidence: float = 0.95) -> Breakdown:
    """Analysis of variance where every combination has as many runs, else a mixed model of all that there are.

    Where there are too many for that, its complete part. Raises TooLittle where nothing is crossed.
    """
    title, few = " x ".join(levels), len(results) <= MOST_RUNS
    try:
        components = variance_components(levels, results, confidence=confidence)
        check = mixed_shares(levels, results) if few and components.total else None
        why = "" if check or not components.total else "it did not converge" if few else f"more than {MOST_RUNS} runs"
        return Breakdown(title, components, check=check, unchecked=why)
    except Unequal as error:
        unequal = error.message
    block = complete_block(levels)
    if few:
        return Breakdown(title, mixed_components(levels, results, confidence=confidence), unequal)
    kept = {axis: [each[place] for place in block.places] for axis, each in levels.items()}
    components = variance_components(kept, [results[place] for place in block.places], confidence=confidence)
    return Breakdown(title, components, unequal, tuple(f"{axis} {level}" for axis, level in block.dropped))


def _finite(
    design: ExperimentalDesign, subject: str, cell: Condition, metric: str
) -> tuple[dict[Replicate, float], tuple[Replicate, ...]]:
    found = {replicate: float(getattr(run, metric)) for replicate, run in design.of(subject, cell).items()}
    finite = {replicate: value for replicate, value in found.items() if math.isfinite(value)}
    return finite, tuple(replicate for replicate in found if replicate not in finite)


def _line(
    cell: Condition,
    values: dict[Replicate, float],
    not_finite: tuple[Replicate, ...],
    reference: Mapping[Replicate, float],
    margin: float,
    confidence: float,
) -> CellNumbers:
    line = CellNumbers(cell.label, values, not_finite)
    if 1 < len(values) < FEWEST_RUNS:
        return replace(line, why=f"{cell.label}: n = {len(values)}: no interval; it takes {FEWEST_RUNS} runs")
    try:
        line = replace(
            line,
            mean=mean_interval(values.values(), confidence=confidence, what=cell.label),
            one_more=prediction_interval(values.values(), confidence=confidence, what=cell.label),
        )
        if not reference:
            return line
        against = compare_pairs(values, reference, confidence=confidence, what=cell.label)
        differences = [values[key] - reference[key] for key in values if key in reference]
        line = replace(line, against=against)
        line = replace(line, equivalence=paired_equivalence(differences, margin))
        spread, pairs = against.difference.spread, against.difference.n
        if not spread:
            return line  # all differences are one number: nothing can be said of the size that would be seen
        return replace(line, detectable=detectable_difference(spread, pairs), needed=seeds_needed(spread, margin))
    except TooLittle as error:
        return replace(line, why=error.message)
