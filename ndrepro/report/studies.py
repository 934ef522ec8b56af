"""The studies' own tables and figures, chosen by the runs that are there."""

from __future__ import annotations

from collections.abc import Sequence

from ndrepro.analysis.scores import Score
from ndrepro.report.cells import Cell
from ndrepro.report.contents import Drawn
from ndrepro.report.table import Table


def study_tables(cells: Sequence[Cell]) -> tuple[Table, ...]:
    """Every table of the studies in which at least one cell has own runs."""
    return ()


def study_figures(runs: Sequence[Score], cells: Sequence[Cell]) -> tuple[tuple[Drawn, ...], tuple[str, ...]]:
    """Every figure of the studies whose runs are there, and what could not be drawn."""
    return (), ()
