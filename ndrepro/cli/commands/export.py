"""``ndrepro export`` and ``ndrepro archive``: recorded runs for other tools, and for a repository."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from ndrepro import api
from ndrepro.cli.display import options, output, terminal
from ndrepro.exports.archive import ArchiveText, archive_members
from ndrepro.exports.formats import DOCUMENTS, FORMATS, ExportOptions, export_run
from ndrepro.exports.members import SUFFIXES, write_archive
from ndrepro.exports.run_facts import NotExported, RunFacts
from ndrepro.protocol.errors import UsageError
from ndrepro.text.plurals import plural
from provenance.attestation.run_files import MANIFEST
from provenance.attestation.trust import TrustPolicy

# ndrepro.exports.formats.FORMATS, which the help does not import
FORMATS_SHOWN = "ro-crate, prov, slsa, cyclonedx, croissant, model-signing, mlflow, tensorboard"


def export(
    run: options.Run = options.LATEST_RUN,
    form: Annotated[
        str, typer.Option("--format", metavar="F", help=f"One of {FORMATS_SHOWN}.", show_default=False)
    ] = "",
    out: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--out",
            metavar="OUT",
            help="File to write; ro-crate: a new folder; tensorboard: a folder; mlflow: a folder or URI.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="PATH", help="The model's path in the run, where it has several.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="NAME", help="The data set's name, where the run has several.")
    ] = None,
    signing_key: Annotated[
        Path | None,
        typer.Option("--signing-key", metavar="FILE", help="model-signing: sign with this P-256 private key (PEM)."),
    ] = None,
    keys: options.Keys = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """Write a run that verifies in the format of another tool; without -o a document is printed.

    Example: ndrepro export latest --format cyclonedx -o model.cdx.json
    """
    if form not in FORMATS:
        raise UsageError(f"--format {form!r}: expected one of {FORMATS_SHOWN}", "e.g. --format ro-crate -o crate")
    if out is None and (form not in DOCUMENTS or as_json):
        raise UsageError(f"--format {form}: nothing says where to write it", "name the place: -o OUT")
    facts = _facts(options.run_folder(runs, run).root, keys or [])
    chosen = ExportOptions(model, data, signing_key)
    if out is None:
        terminal.write_text(DOCUMENTS[form](facts, chosen).decode("utf-8").rstrip("\n"))
        return output.DONE
    place = export_run(facts, form, out, chosen)
    document = {"run": facts.run, "format": form, "out": place}
    return output.answer(document, (f"{facts.title} as {form}: {place}",), as_json)


def archive(
    what: Annotated[
        list[str], typer.Argument(metavar="RUNS", show_default=False, help="Runs, experiments or folders of runs.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="A new .tar, .tar.gz or .zip.")],
    title: Annotated[str | None, typer.Option("--title", metavar="TEXT", help="The archive's title.")] = None,
    authors: Annotated[
        list[str] | None, typer.Option("--author", metavar="NAME", help='An author, "Family, Given"; several times.')
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--license", metavar="SPDX", help="Licence of the archive, such as CC-BY-4.0.")
    ] = None,
    citation: Annotated[
        Path | None, typer.Option("--citation", metavar="FILE", help="A CITATION.cff to take instead of making one.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", metavar="FILE", help="Put this policy into the archive.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="DIR", help="Put this folder of `ndrepro report` into it.")
    ] = None,
    keys: options.Keys = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """Pack runs with ledger, keys, citation and crate into one file for Zenodo or OSF. Exit 1 if one does not verify.

    Example: ndrepro archive runs -o runs.zip --author "Author, Ada" --license CC-BY-4.0
    """
    taken: list[RunFacts] = []
    refused: list[str] = []
    for folder in _folders(what, runs):
        try:
            taken.append(_facts(folder, keys or []))
        except NotExported as error:
            refused.append(error.message)
    for problem in refused:
        terminal.write_line(f"left out: {problem}", sys.stderr)
    text = ArchiveText(title, tuple(authors or ()), licence, citation, policy, report)
    members = archive_members(taken, text, TrustPolicy.from_files(keys or []))
    moment = datetime.fromisoformat(max(facts.manifest.finished_on for facts in taken))
    write_archive(members, out, _stem(out), moment)
    lines = [f"{terminal.here(out)}: {plural(len(taken), 'run')}, {plural(len(members), 'file')}"]
    if not (authors or citation):
        lines.append("note: its citation names the key's holder; --author or --citation names people")
    document = {"file": str(out.absolute()), "runs": [each.run for each in taken], "refused": refused}
    return output.answer(document, lines, as_json, holds=not refused)


def _facts(folder: Path, keys: list[Path]) -> RunFacts:
    return RunFacts.of(folder, api.verify(folder, keys=keys))


def _folders(what: list[str], runs: Path) -> list[Path]:
    """The run folders that are meant: all signed ones below a folder of runs, else the one that a name means."""
    found: dict[Path, None] = {}
    for text in what:
        path = Path(text)
        if path.is_dir() and not (path / MANIFEST).exists():
            inside = sorted(each.parent for depth in ("*", "*/*") for each in path.glob(f"{depth}/{MANIFEST}"))
            found.update(dict.fromkeys(each.absolute() for each in inside))
        else:
            found[options.run_folder(runs, text).root.absolute()] = None
    return list(found)


def _stem(file: Path) -> str:
    suffix = next((each for each in sorted(SUFFIXES, key=len, reverse=True) if file.name.endswith(each)), "")
    return file.name.removesuffix(suffix)
