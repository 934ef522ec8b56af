"""How far a result moves from cell to cell: means and spreads, paired differences, equivalence, power, components.

Every cell is compared with the reference over the replicates that both have (t interval, sign-flip test, two one-sided
tests within a stated margin); p-values are corrected over all comparisons of a subject (Holm). Values that are not
finite enter nothing and are named, and so are replicates without a partner.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ndrepro.analysis.cells import Cell, Design, Replicate
from ndrepro.analysis.components import Components, complete_block, variance_components
from ndrepro.analysis.equivalence import Equivalence, paired_equivalence
from ndrepro.analysis.intervals import Interval, mean_interval
from ndrepro.analysis.paired import Paired, compare_pairs, holm
from ndrepro.analysis.power import Power, detectable_difference
from ndrepro.analysis.prediction import next_run
from ndrepro.analysis.samples import TooLittle

SEED = "seed"


@dataclass(frozen=True)
class CellNumbers:
    """One cell of one subject. What could not be given is None, and ``why`` says so in words.

    ``mean`` has the interval of the mean, ``one_more`` that of one more run; ``against`` is the paired comparison with
    the reference (this cell less the reference), ``p_holm`` its corrected p-value, ``detectable`` the smallest true
    difference that so many pairs show.
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
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        parts = {name: getattr(self, name) for name in ("mean", "one_more", "against", "equivalence", "detectable")}
        return {
            "cell": self.cell,
            "n": len(self.values),
            "values": {str(replicate): value for replicate, value in self.values.items()},
            "not_finite": list(self.not_finite),
            "p_holm": self.p_holm,
            **{name: None if part is None else part.to_json() for name, part in parts.items()},
            "why": self.why,
        }


@dataclass(frozen=True)
class Breakdown:
    """Variance components along some axes and the seed; ``dropped`` are levels that an unequal design cost."""

    title: str
    components: Components
    dropped: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"title": self.title, "dropped": list(self.dropped), **self.components.to_json()}


@dataclass(frozen=True)
class Numbers:
    """One subject: a line for every cell, and what accounts for the spread; ``why_not`` what could not be said."""

    subject: str
    cells: tuple[CellNumbers, ...]
    breakdowns: tuple[Breakdown, ...]
    why_not: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "subject": self.subject,
            "cells": [item.to_json() for item in self.cells],
            "components": [item.to_json() for item in self.breakdowns],
            "why_not": list(self.why_not),
        }


def compare_numbers(design: Design, subject: str, metric: str, margin: float, *, confidence: float = 0.95) -> Numbers:
    """Everything that is said of one subject's ``metric``, a field of ``Score``."""
    values = {cell: _finite(design, subject, cell, metric) for cell in design.cells if design.of(subject, cell)}
    reference = values.get(design.reference, ({}, ()))[0]
    lines = [
        _line(cell, *found, {} if cell == design.reference else reference, margin, confidence)
        for cell, found in values.items()
    ]
    tested = [line for line in lines if line.against is not None]
    corrected = holm([line.against.p_value for line in tested if line.against]) if tested else ()
    by_cell = {line.cell: p_value for line, p_value in zip(tested, corrected, strict=True)}
    lines = [replace(line, p_holm=by_cell.get(line.cell)) for line in lines]
    known = {cell: found for cell, (found, _) in values.items()}
    breakdowns, why_not = breakdowns_of(design, known, confidence)
    return Numbers(subject, tuple(lines), breakdowns, why_not)


def breakdowns_of(
    design: Design, values: Mapping[Cell, Mapping[Replicate, float]], confidence: float = 0.95
) -> tuple[tuple[Breakdown, ...], tuple[str, ...]]:
    """Components over all axes at once where they are crossed, else along each axis alone; and why one is lacking."""
    axes = list(design.axes)
    found, why_not = [], []
    if len(axes) > 1:
        try:
            whole = _breakdown(axes, list(values), values, confidence)
            return (whole,), ()
        except TooLittle:
            pass  # one thing at a time was changed, as most studies do
    for axis in axes:
        try:
            found.append(
                _breakdown([axis], [cell for cell in design.along(axis) if cell in values], values, confidence)
            )
        except TooLittle as error:
            why_not.append(f"{axis}: {error.message}")
    return tuple(found), tuple(why_not)


def _breakdown(
    axes: list[str], cells: list[Cell], values: Mapping[Cell, Mapping[Replicate, float]], confidence: float
) -> Breakdown:
    points = [(cell, replicate, value) for cell in cells for replicate, value in values[cell].items()]
    levels = {axis: [str(cell[axis]) for cell, _, _ in points] for axis in axes}
    levels[SEED] = [str(replicate) for _, replicate, _ in points]
    block = complete_block(levels)
    kept = {axis: [each[place] for place in block.places] for axis, each in levels.items()}
    components = variance_components(kept, [points[place][2] for place in block.places], confidence=confidence)
    return Breakdown(" x ".join([*axes, SEED]), components, tuple(f"{axis} {level}" for axis, level in block.dropped))


def _finite(
    design: Design, subject: str, cell: Cell, metric: str
) -> tuple[dict[Replicate, float], tuple[Replicate, ...]]:
    found = {replicate: float(getattr(run, metric)) for replicate, run in design.of(subject, cell).items()}
    finite = {replicate: value for replicate, value in found.items() if math.isfinite(value)}
    return finite, tuple(replicate for replicate in found if replicate not in finite)


def _line(
    cell: Cell,
    values: dict[Replicate, float],
    not_finite: tuple[Replicate, ...],
    reference: Mapping[Replicate, float],
    margin: float,
    confidence: float,
) -> CellNumbers:
    line = CellNumbers(cell.label, values, not_finite)
    try:
        line = replace(
            line,
            mean=mean_interval(values.values(), confidence=confidence, what=cell.label),
            one_more=next_run(values.values(), confidence=confidence, what=cell.label),
        )
        if not reference:
            return line
        against = compare_pairs(values, reference, confidence=confidence, what=cell.label)
        line = replace(line, against=against)
        spread, pairs = against.difference.spread, against.difference.n
        line = replace(line, detectable=detectable_difference(spread, pairs))
        differences = [values[key] - reference[key] for key in values if key in reference]
        return replace(line, equivalence=paired_equivalence(differences, margin))
    except TooLittle as error:
        return replace(line, why=error.message)
