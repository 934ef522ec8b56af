"""``ndrepro report``: one HTML folder about a study or a folder of runs, from verified manifests only."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import ndrepro
from ndrepro.analysis.results.results import Results, read_results
from ndrepro.analysis.results.reviewer_verdicts import read_attestations
from ndrepro.cli.display import options, output, terminal, words
from ndrepro.cli.display.counting import counted
from ndrepro.execution.studies.study_file import find_study, load_study, study_files
from ndrepro.protocol import extras
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.image_reference import is_image
from ndrepro.protocol.study.study import Study
from provenance.attestation.trust import TrustPolicy
from provenance.errors import NotFoundError

if TYPE_CHECKING:
    from ndrepro.report.page.contents import About, Report

_LABEL = 11


def report(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STUDY|EXP|RUNS",
            help="A study's name or TOML file, experiments of --runs, or folders of runs. Left out: --runs.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="The folder to write.")] = Path("report"),
    keys: options.Keys = None,
    cache: options.Cache = False,
    manifests: Annotated[
        bool,
        typer.Option("--manifests", help="Copy every manifest into the report, so that it can be handed on alone."),
    ] = False,
    code: Annotated[
        Path | None,
        typer.Option(
            "--code",
            metavar="DIR",
            help="A folder of code: the forms of journals and conferences are filled in from it too.",
        ),
    ] = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """Write a report that opens from disk. Exit 0 where it has results and every manifest verified, else 1.

    Example: ndrepro report runs -o report
    """
    extras.require("statsmodels", "matplotlib")
    from ndrepro.report.page.write import write_report

    study, folders = _sources(what or [], runs)
    policy = TrustPolicy.from_files(keys or [])
    with counted(as_json) as watch:
        scores = read_results(folders, cache=options.cache_path(cache), policy=policy, watch=watch)
    about = replace(_about(study, folders, what or [], out, keys or []), code=_code(code))
    if study is not None:
        scores, about = _only(study, scores, about)
    about = replace(about, verdicts=read_attestations(scores, policy))
    made = write_report(scores, about, out, manifests=manifests)
    if as_json:
        output.print_json(
            {"folder": str(out.absolute()), "page": str((out / "index.html").absolute()), **_counts(made)}
        )
    else:
        _print(made, out)
    return output.DONE if made.distinct and not scores.refused else output.NO


def _sources(what: list[str], runs: Path) -> tuple[Study | None, list[Path]]:
    """The study that is meant, if one is, and the folders to read."""
    studies = {path.stem for path in study_files()}
    folders, names = [], []
    for text in what:
        if Path(text).is_dir():
            folders.append(Path(text))
        elif text not in studies and (runs / text).is_dir():
            folders.append(runs / text)
        else:
            names.append(text)
    if not names:
        return None, folders or [runs]
    if len(names) > 1:
        raise UsageError(f"{len(names)} studies: {', '.join(names)}", "name one study, or folders of runs")
    return load_study(find_study(names[0])), folders or [runs]


def _code(folder: Path | None) -> Path | None:
    if folder is not None and not folder.is_dir():
        raise NotFoundError(f"--code {folder}: no such folder", "name the folder that holds the code, such as --code .")
    return folder


def _about(study: Study | None, folders: list[Path], what: list[str], out: Path, keys: list[Path]) -> About:
    from ndrepro.report.page.contents import About

    program = terminal.program()
    trusted = "".join(f" --key {shlex.quote(os.fspath(key))}" for key in keys)
    again = f"{program} report {' '.join(map(shlex.quote, what or [os.fspath(folders[0])]))}"
    again += f" --runs {shlex.quote(os.fspath(folders[0]))}" if study and len(what) == 1 else ""
    commands = [("Write this report again", f"{again} -o {shlex.quote(os.fspath(out))}{trusted}")]
    if study is not None:
        commands.append(("Run the whole study", f"{program} study run {shlex.quote(what[0])}"))
    commands += [
        ("Verify one run: signature, files, ledger, trail, weights", f"{program} verify RUN{trusted}"),
        ("Train one run again and compare it bit by bit", f"{program} reproduce RUN"),
        ("Find where two runs diverge, and why", f"{program} diff RUN OTHER"),
    ]
    title = f"{study.name}: {study.title}" if study else f"Runs in {', '.join(f'{folder}/' for folder in folders)}"
    return About(title, ndrepro.__version__, program, again=tuple(commands))


def _only(study: Study, scores: Results, about: About) -> tuple[Results, About]:
    """The scores that are the study's, and which of its runs are not there.

    What did not complete has no settings to be compared: it is the study's where its name is.
    """
    from ndrepro.report.sections.planned_runs import asked, of_run

    planned = {asked(run.experiment, run.environment): run for run in study.runs()}
    images = any(is_image(run.environment) for run in planned.values())
    rows = tuple(row for row in scores.rows if any(key in planned for key in of_run(row, images)))
    found = {key for row in rows for key in of_run(row, images)}
    missing = tuple(run.label for key, run in planned.items() if key not in found)
    others = len(scores.rows) - len(rows)
    names = {run.experiment.name for run in planned.values()}
    unfinished = tuple(item for item in scores.unfinished if item.name in names)
    segments = tuple(item for item in scores.segments if item.name in names)
    lost = tuple(item for item in scores.lost if item.name in names)
    apart = others + len(scores.unfinished) - len(unfinished) + len(scores.segments) - len(segments)
    apart += len(scores.lost) - len(lost) + len(scores.others)
    started = None if scores.started is None else scores.started - apart
    kept = replace(scores, rows=rows, unfinished=unfinished, segments=segments, lost=lost, started=started, others=())
    return kept, replace(about, planned=len(planned), missing=missing, others=others)


def _counts(made: Report) -> dict[str, object]:
    return {
        "runs": len(made.scores.rows),
        "experiments": len(made.table_of_cells),
        "verdicts": made.about.verdicts,
        "forms": {form.name: {"answered": form.answered, "questions": len(form.answers)} for form in made.forms},
        "figures": [drawn.key for drawn in made.figures],
        "tables": [table.key for table in made.tables],
        "account": made.scores.account(),
        "findings": made.findings,
        "notes": list(made.notes),
    }


def _print(made: Report, out: Path) -> None:

    def line(label: str, text: str) -> None:
        terminal.write_text(f"{label:<{_LABEL}}{terminal.hanging(text, _LABEL)}")

    terminal.write_line(made.about.title)
    experiments = words.plural(len(made.table_of_cells), "experiment")
    line("runs", f"{words.plural(len(made.scores.rows), 'run')} of {experiments}, verified{made.manifest_alone}")
    left = {fact.label: fact.text for fact in made.counts if fact.warn and fact.text != "0"}
    if left:
        line("excluded", ", ".join(f"{text} {label}" for label, text in left.items()))
    for number, sentence in enumerate(made.summary):
        line("" if number else "results", sentence)
    for finding in made.findings:
        line(finding.verdict.split()[0], f"{finding.claim} {finding.reason}")
    line("again", _reviewed(made))
    line("figures", str(len(made.figures)))
    line("page", terminal.here(out / "index.html"))
    for item in made.scores.refused[:3]:
        line("refused", f"{terminal.here(item.path)}: {item.reason}")
    if len(made.scores.refused) > 3:
        line("", f"and {len(made.scores.refused) - 3} more, in the report")


def _reviewed(made: Report) -> str:
    """How many runs somebody trained again and signed a verdict on."""
    verdicts = made.about.verdicts
    refused = f"; {words.plural(len(verdicts.refused), 'verdict')} refused" if verdicts.refused else ""
    count = len(verdicts.of_run())
    summary = f"{words.plural(count, 'run')} trained again, with a signed verdict" if count else "no signed verdict"
    others = len({item.run.run_id for item in verdicts.on_others})
    programs = f"; of programs and scripts {words.plural(others, 'run')}" if others else ""
    return f"{summary}{programs}{refused}"
