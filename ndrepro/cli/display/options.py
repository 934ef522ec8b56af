"""Arguments and options that several commands take, described once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ndrepro.cli import completion
from ndrepro.cli.display import terminal
from ndrepro.protocol.layout import DEFAULT_RUNS as DEFAULT_RUNS
from ndrepro.protocol.layout import RUNS_VARIABLE

if TYPE_CHECKING:
    from ndrepro.execution.containers.engines import ContainerChoice
    from ndrepro.protocol.layout import RunFolder

Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        show_default=False,
        autocompletion=completion.runs,
        help="A run folder, a manifest file, a run's identifier or the start of it, an experiment (its latest "
        "completed run that is no repetition), or the word latest.",
    ),
]
LATEST_RUN = "latest"  # as ndrepro.execution.runs.run_resolver.LATEST
Runs = Annotated[
    Path, typer.Option("--runs", metavar="DIR", envvar=RUNS_VARIABLE, help="The folder of runs and their ledger.")
]
Engine = Annotated[
    str | None,
    typer.Option("--in", metavar="ENGINE", help="Train in a container: docker, podman, apptainer or enroot."),
]
Image = Annotated[
    str | None,
    typer.Option(
        "--image", metavar="IMAGE", help="NAME[:TAG][@sha256:…], or a file of Apptainer or Enroot; by default ndrepro."
    ),
]
Grids = Annotated[
    list[str] | None, typer.Option("--grid", metavar="G", help="Only this grid; may be given many times.")
]
StudyData = Annotated[
    list[str] | None,
    typer.Option("--data", metavar="PATH", help="Path of the data; DATASET=PATH for one data set of several."),
]
DataHere = Annotated[Path | None, typer.Option("--data", metavar="PATH", help="Path of the data set on this machine.")]
Sandbox = Annotated[
    str,
    typer.Option(
        "--sandbox",
        metavar="KIND",
        help="What confines the recorded code: auto (the best that is here), container, bubblewrap, namespaces, none.",
    ),
]
TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="Where there is no sandbox, run the recorded code with all your rights.")
]
TrustImage = Annotated[
    bool, typer.Option("--trust-code", help="Start images in Enroot that the study names: they may use your files.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]


def run_folder(runs: Path, text: str, *, completed: bool = True, trained: bool = False) -> RunFolder:
    """The run that RUN means; what was passed over for it is reported on standard error.

    ``completed`` and ``trained`` are those of ``resolve_run``. Raises RunNotFound.
    """
    from ndrepro.execution.runs.run_resolver import resolve_run
    from ndrepro.protocol.layout import RunsFolder

    resolved = resolve_run(RunsFolder(runs), text, completed=completed, trained=trained)
    if resolved.note:
        terminal.write_line(f"note: {resolved.note}", sys.stderr)
    return resolved.folder


def run_or_manifest(runs: Path, text: str) -> Path:
    """The folder of the run that RUN means; a manifest under a name of its own is a run by itself."""
    from ndrepro.protocol.layout import RunFolder

    file = Path(text)
    if file.is_file() and file.name != RunFolder(file.parent).manifest.name:
        return file
    return run_folder(runs, text).root


def each_run_or_manifest(runs: Path, texts: Sequence[str]) -> list[Path]:
    """``run_or_manifest`` of each; a word that is given twice is looked up, and reported on, once."""
    found = {text: run_or_manifest(runs, text) for text in dict.fromkeys(texts)}
    return [found[text] for text in texts]


def container(engine: str | None, image: str | None) -> ContainerChoice | None:
    """What ``--in`` and ``--image`` ask for. Raises UsageError where they make no sense together."""
    from ndrepro.execution.containers.engines import ContainerChoice

    return ContainerChoice.from_options(engine, image)


Markdown = Annotated[bool, typer.Option("--markdown", help="Print a Markdown document instead.")]
Keys = Annotated[
    list[Path] | None,
    typer.Option("--key", metavar="FILE", help="Trust this public key, and not those of the key home."),
]
Witness = Annotated[
    Path | None,
    typer.Option("--witness", metavar="FILE", help="Heads of the ledger that were kept elsewhere: it must have them."),
]
Cache = Annotated[bool, typer.Option("--cache", help="Skip manifests that were verified before and have not changed.")]


def cache_path(wanted: bool) -> Path | None:
    """The cache of verified manifests in the key home, where ``--cache`` asks for it."""
    from ndrepro.analysis.results.manifest_cache import cache_file
    from provenance.attestation.key_home import default_home

    return cache_file(default_home()) if wanted else None
