"""Arguments and options that several commands take, described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_RUNS = Path("runs")

Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        show_default=False,
        help="A run folder, a manifest file, a run's identifier or the start of it, an experiment (its latest run), "
        "or the word latest.",
    ),
]
LATEST_RUN = "latest"  # as ndrepro.execution.runs.LATEST
Runs = Annotated[
    Path,
    typer.Option("--runs", metavar="DIR", envvar="NDREPRO_RUNS", help="The folder of runs and their ledger."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
