"""The studies' own tables and figures, chosen by the runs that are there."""

from __future__ import annotations

from collections.abc import Sequence

from ndrepro.analysis.results.results import ResultRow
from ndrepro.report.elements.figure import Figure
from ndrepro.report.elements.table import Table
from ndrepro.report.figures.divergence import divergence_figures
from ndrepro.report.figures.final_scores import final_scores
from ndrepro.report.figures.generalization_figures import generalization_figures
from ndrepro.report.figures.generalization_numbers import generalization_numbers
from ndrepro.report.figures.learning_curves import learning_curves
from ndrepro.report.figures.replication_figures import replication_figures
from ndrepro.report.figures.seeds_agreement import agreement_figures, agreement_tables
from ndrepro.report.figures.seeds_figures import seeds_figures
from ndrepro.report.sections.divergences import Divergences, divergence_tables
from ndrepro.report.sections.seed_groups import SeedGroup


def study_figures(
    runs: Sequence[ResultRow], cells: Sequence[SeedGroup], divergences: Sequence[Divergences]
) -> tuple[tuple[Figure, ...], tuple[str, ...]]:
    """The figures of the user's own runs, then those of studies whose runs are there, and what could not be drawn."""
    seeds, seeds_notes = seeds_figures(runs)
    general, general_notes = generalization_figures(runs)
    agreement = agreement_figures(runs)
    own = (*learning_curves(cells), *divergence_figures(divergences), *final_scores(cells))
    return (*own, *replication_figures(cells), *seeds, *agreement, *general), (*seeds_notes, *general_notes)


def study_numbers(runs: Sequence[ResultRow], divergences: Sequence[Divergences]) -> tuple[Table, ...]:
    """What the figures show, in numbers, where their runs are there."""
    return (*divergence_tables(divergences), *agreement_tables(runs), *generalization_numbers(runs))
