"""``ndrepro record`` as the command line's library sees it: its options and their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ndrepro.cli.commands.record_options import RecordOptions
from ndrepro.cli.display import options


def record(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- COMMAND…", show_default=False, help="The command and its own arguments."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="N", help="What its runs are called; by default the script's name.")
    ] = None,
    out: Annotated[
        list[str] | None,
        typer.Option(
            "--out", metavar="GLOB", help="A file or folder that it writes, e.g. 'checkpoints/*.pt'; - is its output."
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="PATH", help="A file or folder that it reads; every file is digested."),
    ] = None,
    seed: Annotated[
        list[str] | None, typer.Option("--seed", metavar="NAME=V", help="A seed that the command uses, to be recorded.")
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metrics", metavar="GLOB", help="A CSV, JSON lines or TensorBoard log whose rows are read."),
    ] = None,
    trail: Annotated[
        str,
        typer.Option("--trail", metavar="auto|off|every=K", help="The numerical trail of PyTorch's optimizer steps."),
    ] = "auto",
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on standard error instead of lines.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing beside the command's own output.")
    ] = False,
) -> int:
    """Run any command, record it and sign the record.

    Example: ndrepro record --data data --out 'runs/*.pt' -- python train.py --epochs 3

    The command's output and exit code stay its own. Where the run is recorded is printed on standard error.
    """
    from ndrepro.cli.commands.recording import record_command

    return record_command(
        RecordOptions(
            tuple(command or ()),
            name,
            tuple(out or ()),
            tuple(map(str, data or ())),
            tuple(seed or ()),
            tuple(metrics or ()),
            trail,
            runs,
            as_json,
            quiet,
        )
    )
