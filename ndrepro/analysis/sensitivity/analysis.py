"""Sensitivity of a study's results to what was varied: bits, numbers and conclusion, from its verified runs.

    read_results ──> design_of ──> compare_bits          which cells agree, where the others diverge
                              ├─> compare_numbers       means, paired differences, equivalence, components, power
                              └─> contrasts, orders     does "ND beats BN" hold everywhere

``ndrepro bisect`` finds the package that changed a bit, by running trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ndrepro.analysis.results.results import Results
from ndrepro.analysis.sensitivity.bits import BitComparison, compare_bits
from ndrepro.analysis.sensitivity.conclusion import Contrast, contrasts, methods_of, orders
from ndrepro.analysis.sensitivity.experimental_design import ExperimentalDesign, design_of
from ndrepro.analysis.sensitivity.numbers import Numbers, compare_numbers
from ndrepro.analysis.statistics.rankings import Agreement
from ndrepro.analysis.statistics.samples import TooLittle
from ndrepro.protocol.errors import UsageError, suggestion
from ndrepro.text.plain_json import plain

# by name: the field of ``ResultRow``, and the unit
METRICS = {
    "test_accuracy": ("test_accuracy_percent", "points"),
    "train_accuracy": ("train_accuracy_percent", "points"),
    "test_loss": ("test_loss", "nats"),
    "train_loss": ("train_loss", "nats"),
}


@dataclass(frozen=True)
class AnalysisOptions:
    """Options of the analysis: metric, equivalence margin, methods to compare."""

    metric: str = "test_accuracy"
    margin: float = 1.0
    methods: tuple[str, str] | None = None
    reference: Mapping[str, str] | None = None
    confidence: float = 0.95

    @property
    def field(self) -> str:
        """The field of ``ResultRow`` that holds the metric."""
        return METRICS[self.metric][0]

    @property
    def unit(self) -> str:
        """The metric's unit."""
        return METRICS[self.metric][1]


@dataclass(frozen=True)
class Sensitivity:
    """The whole result; ``scores`` are the runs it is based on, with those refused."""

    options: AnalysisOptions
    scores: Results
    design: ExperimentalDesign
    bits: tuple[BitComparison, ...]
    numbers: tuple[Numbers, ...]
    contrasts: tuple[Contrast, ...]
    orders: Mapping[str, Agreement]

    def to_json(self) -> dict[str, Any]:
        """The answer of `ndrepro sensitivity --json`, NaN and infinities as words."""
        design = self.design
        members = {
            "metric": self.options.metric,
            "unit": self.options.unit,
            "margin": self.options.margin,
            "confidence": self.options.confidence,
            "runs": self.scores.account(),
            "repeats": [row.run_id for row in design.repeats],
            "subjects": design.subjects,
            "axes": {axis: [str(value) for value in values] for axis, values in design.axes.items()},
            "reference": design.reference.label,
            "cells": {cell.label: {axis: str(value) for axis, value in cell.values} for cell in design.cells},
            "missing": [[subject, cell.label, replicate] for subject, cell, replicate in design.missing],
            "bits": self.bits,
            "numbers": self.numbers,
            "conclusion": self.contrasts,
            "order": self.orders,
        }
        document: dict[str, Any] = plain(members)
        return document


def sensitivity_of(scores: Results, options: AnalysisOptions) -> Sensitivity:
    """Compare every cell of the runs. Raises TooLittle where there are none, UsageError for what no run has."""
    if options.metric not in METRICS:
        raise UsageError(f"metric {options.metric!r} is not known", suggestion(options.metric, METRICS))
    if not scores.rows and scores.refused:
        first = scores.refused[0]
        raise TooLittle(
            f"none of {len(scores.refused)} manifests counts; {first.path}: {first.reason}",
            "trust whoever signed them: --key FILE, or ndrepro keys trust FILE --name WHOSE",
        )
    design = design_of(scores.rows, reference=options.reference)
    methods = options.methods or _usual(methods_of(design))
    unknown = [method for method in options.methods or () if method not in methods_of(design)]
    if unknown:
        raise UsageError(f"no run has the method {unknown[0]!r}", suggestion(unknown[0], methods_of(design)))
    larger_is_better = not options.metric.endswith("loss")
    pair = methods if larger_is_better or methods is None else (methods[1], methods[0])
    return Sensitivity(
        options,
        scores,
        design,
        tuple(compare_bits(design, subject) for subject in design.subjects),
        tuple(
            compare_numbers(design, subject, options.field, options.margin, confidence=options.confidence)
            for subject in design.subjects
        ),
        contrasts(design, options.field, pair, options.confidence) if pair else (),
        orders(design, options.field),
    )


def _usual(methods: tuple[str, ...]) -> tuple[str, str] | None:
    """Deconvolution against batch norm, else the first two methods."""
    if {"nd", "bn"} <= set(methods):
        return "nd", "bn"
    return (methods[0], methods[1]) if len(methods) > 1 else None
