"""Does the conclusion hold in every cell? "A beats B" with P(A > B), and where the order of the subjects changes.

A contrast is two methods on the same network, data and epochs. In each cell the pairs are the replicates that both
methods have there; the cell is one more factor of the difference, and its share of the variance is the
interaction of axis and method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ndrepro.analysis.sensitivity.experimental_design import Condition, ExperimentalDesign, Replicate
from ndrepro.analysis.sensitivity.numbers import Breakdown, breakdowns_of
from ndrepro.analysis.statistics.paired import BETTER, Paired, compare_pairs
from ndrepro.analysis.statistics.power import Power, detectable_difference
from ndrepro.analysis.statistics.rankings import Agreement, rank_agreement
from ndrepro.analysis.statistics.samples import TooLittle


@dataclass(frozen=True)
class InCell:
    """The contrast in one cell; ``found`` is None where there is none, for the reason in ``why``.

    ``not_finite`` counts runs of both sides whose result is no number: they are in no pair.
    """

    cell: str
    found: Paired | None
    why: str = ""
    detectable: Power | None = None
    not_finite: int = 0


@dataclass(frozen=True)
class Contrast:
    """Two subjects, first against second, in every cell; what accounts for the spread of their difference."""

    first: str
    second: str
    cells: tuple[InCell, ...]
    breakdowns: tuple[Breakdown, ...] = ()

    @property
    def judged(self) -> tuple[InCell, ...]:
        """Cells in which there is an answer."""
        return tuple(item for item in self.cells if item.found is not None)

    @property
    def holds(self) -> tuple[InCell, ...]:
        """Cells in which the first is better, by both conditions of ``ndrepro.analysis.statistics.paired``."""
        return tuple(item for item in self.judged if item.found and item.found.superiority.verdict == BETTER)

    @property
    def signs(self) -> frozenset[int]:
        """Signs of the mean difference over the cells: one, where no cell turns the order round."""
        means = [item.found.difference.estimate for item in self.judged if item.found]
        return frozenset((mean > 0) - (mean < 0) for mean in means)

    def to_json(self) -> dict[str, Any]:
        """Both methods, the cells, those in which the first is better, and the components of their difference."""
        return {
            "first": self.first,
            "second": self.second,
            "cells": self.cells,
            "better_in": [item.cell for item in self.holds],
            "judged": len(self.judged),
            "components_of_the_difference": self.breakdowns,
        }


def contrasts(
    design: ExperimentalDesign, metric: str, methods: tuple[str, str], confidence: float = 0.95
) -> tuple[Contrast, ...]:
    """Every network, data set and number of epochs that both methods have been run on. Larger is better."""
    subjects = {_parts(design, subject): subject for subject in design.subjects}
    others = list(dict.fromkeys(rest for _, rest in subjects))
    return tuple(
        _contrast(design, subjects[methods[0], rest], subjects[methods[1], rest], metric, confidence)
        for rest in others
        if all((method, rest) in subjects for method in methods)
    )


def methods_of(design: ExperimentalDesign) -> tuple[str, ...]:
    """Methods among the runs, by name."""
    return tuple(sorted({run.method for runs in design.runs.values() for run in runs.values()}))


def orders(design: ExperimentalDesign, metric: str) -> dict[str, Agreement]:
    """Rank agreement of each cell with the reference; only cells with two subjects in common."""
    found: dict[str, Agreement] = {}
    first = _results(design, design.reference, metric)
    for cell in design.cells:
        second = _results(design, cell, metric)
        if cell != design.reference and len(set(first) & set(second)) > 1:
            found[cell.label] = rank_agreement(first, second)
    return found


def _contrast(design: ExperimentalDesign, first: str, second: str, metric: str, confidence: float) -> Contrast:
    lines, differences = [], {}
    for cell in design.cells:
        a, b = (_finite(design, subject, cell, metric) for subject in (first, second))
        runs = len(design.of(first, cell)) + len(design.of(second, cell))
        if not runs:
            continue
        lost = runs - len(a) - len(b)
        differences[cell] = {replicate: a[replicate] - b[replicate] for replicate in a if replicate in b}
        try:
            found = compare_pairs(a, b, confidence=confidence, what=cell.label)
        except TooLittle as error:
            lines.append(InCell(cell.label, None, error.message, not_finite=lost))
            continue
        spread = found.difference
        seen = detectable_difference(spread.spread, spread.n) if spread.spread else None
        lines.append(InCell(cell.label, found, "", seen, lost))
    breakdowns, _ = breakdowns_of(design, differences, confidence)
    return Contrast(first, second, tuple(lines), breakdowns)


def _parts(design: ExperimentalDesign, subject: str) -> tuple[str, tuple[Any, ...]]:
    run = next(run for (name, _), runs in design.runs.items() if name == subject for run in runs.values())
    return run.method, (run.arch, run.epochs, run.dataset)


def _finite(design: ExperimentalDesign, subject: str, cell: Condition, metric: str) -> dict[Replicate, float]:
    found = {replicate: float(getattr(run, metric)) for replicate, run in design.of(subject, cell).items()}
    return {replicate: value for replicate, value in found.items() if math.isfinite(value)}


def _results(design: ExperimentalDesign, cell: Condition, metric: str) -> Mapping[str, list[float]]:
    found = {subject: list(_finite(design, subject, cell, metric).values()) for subject in design.subjects}
    return {subject: values for subject, values in found.items() if len(values) > 1}
