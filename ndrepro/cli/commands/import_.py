"""``ndrepro import``: import runs that were made elsewhere, verified, to compare them like one's own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from ndrepro.cli.display import options, output, terminal
from ndrepro.execution.imports import run_import
from ndrepro.execution.imports.run_import import Imported
from ndrepro.text.plurals import plural
from provenance.attestation.trust import TrustPolicy

_SUFFIXES = {".tar", ".gz", ".tgz", ".xz", ".txz", ".bz2", ".zip"}
_SHOWN = 20


def import_runs(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", show_default=False, help="An archive (tar, zip) or a folder of runs.")
    ],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Their name here; by default the source's.")
    ] = None,
    into: Annotated[Path, typer.Option("--into", metavar="DIR", help="Folder of imported runs.")] = Path("imported"),
    keys: options.Keys = None,
    as_json: options.Json = False,
) -> int:
    """Verify runs from elsewhere and import those that pass. Exit 1 where one does not; it is named and left out.

    Example: ndrepro import runs.tar.gz
    """
    found = run_import.import_runs(
        source, into, _name_of(source) if name is None else name, TrustPolicy.from_files(keys or [])
    )
    refused = [run for run in found.runs if not run.taken]
    if as_json:
        folder = str(found.folder.absolute()) if found.folder else None
        output.print_json(
            {"folder": folder, "runs": [run.to_json() for run in found.runs], "unlisted": list(found.unlisted)}
        )
    else:
        _print(found)
    return output.NO if refused else output.DONE


def _name_of(source: Path) -> str:
    name = Path(source.name or source.resolve().name)
    while name.suffix in _SUFFIXES:
        name = name.with_suffix("")
    return name.name


def _print(found: Imported) -> None:
    taken = [run for run in found.runs if run.taken]
    refused = [run for run in found.runs if not run.taken]
    whole = sum(run.whole for run in taken)
    lines = [f"left out: {run.path}: {run.problem}" for run in refused]
    terminal.write_some(lines, _SHOWN, "and {} more left out (--json has them)")
    lines = [f"left out: {path}: no manifest lists it" for path in found.unlisted]
    terminal.write_some(lines, _SHOWN, "and {} more files that no manifest lists (--json has them)")
    counts = Counter((run.signer or "-", run.place or "unknown hardware") for run in taken)
    for (signer, place), count in sorted(counts.items()):
        terminal.write_line(f"{plural(count, 'run')} signed by {signer}, on {place}")
    if found.folder is None:
        terminal.write_line(f"nothing was imported: none of {plural(len(found.runs), 'run')} verifies")
        if any(run.problem.startswith("signature") for run in refused):
            cure = "keys trust FILE --name N, with a key from whoever ran them"
            terminal.write_line(f"  hint: {terminal.program()} {cure}")
        return
    files = "with every file" if whole == len(taken) else f"{whole} of them with every file that was signed"
    terminal.write_line(f"imported   {plural(len(taken), 'run')}, {files}: {terminal.here(found.folder)}")
    terminal.write_line(f"next       {terminal.program()} list --runs {terminal.here(found.folder)}")
