"""``ndrepro record``: run any command, record it, sign what it was."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ndrepro.cli.display import options, output, terminal
from ndrepro.protocol.errors import UsageError

if TYPE_CHECKING:
    from ndrepro.execution.programs.program_run import FinishedProgram

_SEED_NAME = re.compile(r"[\w.-]{1,100}", re.ASCII)


def record(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- COMMAND…", show_default=False, help="The command and its own arguments."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="N", help="What its runs are called; by default the script's name."),
    ] = None,
    out: Annotated[
        list[str] | None,
        typer.Option("--out", metavar="GLOB", help="A file or folder that it writes, e.g. 'checkpoints/*.pt'."),
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
    from ndrepro.execution.programs.command import CommandError, resolve_command
    from ndrepro.execution.programs.program_run import ProgramRequest, record_program
    from ndrepro.protocol.layout import RunsFolder
    from provenance.attestation.key_home import default_home

    try:
        resolved = resolve_command(command or (), name)
    except CommandError as error:
        output.print_error(output.record_of(error))
        return error.exit_code
    request = ProgramRequest(
        resolved,
        outputs=tuple(out or ()),
        data=tuple(data or ()),
        metrics=tuple(metrics or ()),
        seeds=declared_seeds(seed or ()),
        trail=trail,
    )
    finished = record_program(request, RunsFolder(runs), default_home())
    problem = None if finished.error is None else output.record_of(finished.error)
    if as_json:
        terminal.write_line(output.document_text(_document(finished, problem)), sys.stderr)
    elif not quiet:
        _print_end(finished, runs)
    if problem is not None and not as_json:
        output.print_error(problem)
    if finished.exit_code is None:
        return output.COULD_NOT
    return _end_as(finished.exit_code)


def declared_seeds(pairs: list[str] | tuple[()]) -> dict[str, int]:
    """The seeds of ``--seed NAME=V``. Raises UsageError for another form, or a name that is given twice."""
    found: dict[str, int] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        try:
            value = int(text)
        except ValueError:
            equals = ""
            value = 0
        if not equals or not _SEED_NAME.fullmatch(name):
            raise UsageError(f"--seed {pair!r}: expected NAME=V with a whole number", "e.g. --seed torch=3")
        if name in found:
            raise UsageError(f"--seed: {name!r} is given twice", "give it once")
        found[name] = value
    return found


def _document(finished: FinishedProgram, error: dict[str, Any] | None) -> dict[str, Any]:
    """The JSON of a recorded program: what became of it, and where it is."""
    return {
        "name": finished.folder.root.parent.name,
        "run": finished.folder.root.name,
        "folder": str(finished.folder.root.absolute()),
        "outcome": finished.outcome,
        "exit_code": finished.exit_code,
        "signer": finished.signer,
        "manifest": str(finished.manifest.absolute()) if finished.manifest else None,
        "notes": list(finished.notes),
        "error": error,
    }


def _print_end(finished: FinishedProgram, runs: Path) -> None:
    rows: list[tuple[str, Any]] = [("outcome", finished.outcome), ("run", terminal.here(finished.folder.root))]
    rows.append(("signed by", finished.signer if finished.manifest else "nobody: there is no manifest"))
    rows += [("note", note) for note in finished.notes]
    if finished.manifest:
        word = terminal.run_word(finished.folder.root, runs, options.DEFAULT_RUNS)
        rows.append(("next", f"{terminal.program()} verify {word}"))
    for name, text in rows:
        terminal.write_line(f"ndrepro: {name:<10} {text}", sys.stderr)


def _end_as(exit_code: int) -> int:
    """End as the program did: by its signal, so that whoever waits for this process sees the same.

    Where the signal does not end this process, the exit code that a shell gives to such an end.
    """
    import resource  # not on every system that has the other commands

    if exit_code >= 0:
        return exit_code
    terminal.flush()
    number = -exit_code
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # it is not our core
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number
