"""The reference of the studies that come with ndrepro, from their files."""

from __future__ import annotations

from docs_site.commands import table_cell
from ndrepro.execution.studies.study_file import load_study, study_files


def studies_table() -> str:
    """Markdown: a row for each grid of each study, with the number of its runs and what it is for."""
    rows = []
    for study in map(load_study, study_files()):
        rows.append(f"| **`{study.name}`** | {len(study.runs()):,} | {table_cell(study.title)} |")
        rows += [
            f"| `--grid {grid.name}` | {len(study.runs([grid.name])):,} | {table_cell(grid.title)} |"
            for grid in study.grids
            if len(study.grids) > 1
        ]
    return "\n".join(["| study | runs | what it is for |", "| --- | ---: | --- |", *rows])
